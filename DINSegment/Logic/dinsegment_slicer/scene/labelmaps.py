"""Where the segments of segmentation nodes lie in the world."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from dinsegment_slicer.scene.nodes import parent_to_world
from dinsegment_slicer.scene.placement import Grid

SEGMENTATION_LABELMAP = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()


def central_slice(grid: Grid, segmentationNodes: Iterable[slicer.vtkMRMLSegmentationNode]) -> int | None:
    """The slice of `grid` in the middle of all segmented voxels; None without any."""
    slices = grid.dimensions[grid.axis]
    area = np.zeros(slices, np.int64)
    for labels, to_world in _labelmaps(segmentationNodes):
        # Slice index as a linear function of the label map's own (i, j, k, 1).
        a, b, c, d = (np.linalg.inv(grid.ijk_to_world) @ to_world)[grid.axis]
        along = int(np.argmax(np.abs((a, b, c))))
        if np.allclose(np.delete((a, b, c), along), 0.0, atol=1e-6):
            # Its slices are the grid's own: counting is quick.
            ks = np.rint((a, b, c)[along] * np.arange(labels.shape[2 - along]) + d).astype(np.int64)
            for k, plane in zip(ks, np.moveaxis(labels, 2 - along, 0), strict=True):
                if 0 <= k < slices:
                    area[k] += np.count_nonzero(plane)
            continue
        for k, plane in enumerate(labels):  # Plane by plane: a large CT's indices would take gigabytes.
            j, i = np.nonzero(plane)
            nearest = np.rint(a * i + b * j + c * k + d).astype(np.int64)
            inside = nearest[(nearest >= 0) & (nearest < slices)]
            area += np.bincount(inside, minlength=slices)
    # Half of the voxels lie on either side: in a heart a mid-ventricular slice, in an abdomen one through the liver.
    return int(np.searchsorted(np.cumsum(area), area.sum() / 2)) if area.any() else None


def _labelmaps(
    segmentationNodes: Iterable[slicer.vtkMRMLSegmentationNode],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Label maps (k, j, i), each with the 4x4 matrix from (i, j, k, 1) to world, of all that have any."""
    for node in segmentationNodes:
        transformNode = node.GetParentTransformNode()
        if transformNode is not None and not transformNode.IsTransformToWorldLinear():
            continue  # Where to look is not worth resampling them.
        segmentation = node.GetSegmentation()
        if not segmentation.ContainsRepresentation(SEGMENTATION_LABELMAP):
            continue
        for layer in range(segmentation.GetNumberOfLayers(SEGMENTATION_LABELMAP)):
            image = segmentation.GetLayerDataObject(layer, SEGMENTATION_LABELMAP)
            scalars = image.GetPointData().GetScalars()
            if scalars is None or image.IsEmpty():
                continue
            image_to_ras = vtk.vtkMatrix4x4()
            image.GetImageToWorldMatrix(image_to_ras)
            first = np.eye(4)
            first[:3, 3] = image.GetExtent()[::2]
            matrix = parent_to_world(node) @ slicer.util.arrayFromVTKMatrix(image_to_ras) @ first
            yield vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1]), matrix


def segmented_box(segmentationNodes: Iterable[slicer.vtkMRMLSegmentationNode]) -> vtk.vtkBoundingBox:
    """World box (mm) around all segmented voxels, invalid without any; a node's own bounds span its whole label map."""
    box = vtk.vtkBoundingBox()
    for labels, to_world in _labelmaps(segmentationNodes):
        planes = [np.flatnonzero(labels.any(axis=axes)) for axes in ((0, 1), (0, 2), (1, 2))]  # Along i, j, k.
        if planes[0].size:
            add_corners(box, to_world, *np.array([(p[0], p[-1]) for p in planes]).T)
    return box


def add_corners(box: vtk.vtkBoundingBox, to_world: np.ndarray, first: np.ndarray, last: np.ndarray) -> None:
    """Adds the voxels from `first` to `last` (i, j, k) to `box`."""
    edges = np.array([first - 0.5, last + 0.5])
    for corner in np.ndindex(2, 2, 2):
        box.AddPoint((to_world @ np.append(edges[corner, range(3)], 1.0))[:3])
