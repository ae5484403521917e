"""A segment's slices on the grid of an image: read as they are, and as the change that makes others of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from dinsegment_slicer.effect.drawing import slice_shape
from dinsegment_slicer.effect.target import Target
from dinsegment_slicer.scene.nodes import parent_to_world
from dinsegment_slicer.scene.segments import LABELMAP

SAME_GRID = 0.1
"""How far in voxels the labelmap's grid may lie off the image's."""


def slices_of(target: Target, wanted: Iterable[int]) -> dict[int, np.ndarray]:
    """What the segment covers in slices of the image, bool; those that the image does not have are left out.

    Args:
        target: The segment, and the image.
        wanted: Indices along the image's slice axis.
    """
    grid, axis = target.grid, 2 - target.grid.axis
    wanted = [n for n in wanted if 0 <= n < grid.count]
    found = {n: np.zeros(slice_shape(grid), bool) for n in wanted}
    segment = target.segmentationNode.GetSegmentation().GetSegment(target.segmentID)
    image = segment.GetRepresentation(LABELMAP) if segment is not None else None
    if image is None or image.IsEmpty() or image.GetPointData().GetScalars() is None:
        return found
    offset = _offset(target, image)
    if offset is None:  # Another grid: Slicer resamples all of it, which takes a while of a large CT.
        nodes = target.segmentationNode, target.segmentID, target.volumeNode
        whole = slicer.util.arrayFromSegmentBinaryLabelmap(*nodes) > 0
        return {n: np.array(np.take(whole, n, axis)) for n in wanted}
    labels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    whole_shape = grid.dimensions[::-1]
    inside = [
        (max(0, first), min(length, first + n))
        for first, length, n in zip(offset, whole_shape, labels.shape, strict=True)
    ]
    for n in wanted:
        if not inside[axis][0] <= n < inside[axis][1]:
            continue
        there = [slice(start, stop) for start, stop in inside]
        here = [slice(start - first, stop - first) for (start, stop), first in zip(inside, offset, strict=True)]
        there.pop(axis)
        here[axis] = n - offset[axis]
        found[n][tuple(there)] = labels[tuple(here)] == segment.GetLabelValue()
    return found


def change_image(
    target: Target, changed: Mapping[int, np.ndarray], geometry: slicer.vtkOrientedImageData
) -> slicer.vtkOrientedImageData:
    """A labelmap that is 1 where slices are to be changed, 0 elsewhere.

    Args:
        target: The segment, and the image.
        changed: Pixels, bool, by slice.
        geometry: Has the grid that is wanted, such as the Segment Editor's; in the space of the segmentation.
    """
    axis = 2 - target.grid.axis
    on_image = slicer.vtkOrientedImageData()
    first, last = min(changed), max(changed)
    extent = [0, 0, 0, 0, 0, 0]
    for n, length in enumerate(target.grid.dimensions):
        extent[2 * n : 2 * n + 2] = [first, last] if n == target.grid.axis else [0, length - 1]
    on_image.SetExtent(extent)
    on_image.SetGeometryFromImageToWorldMatrix(_image_to_segmentation(target))
    on_image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    voxels = vtk_to_numpy(on_image.GetPointData().GetScalars()).reshape(on_image.GetDimensions()[::-1])
    voxels[:] = 0
    for n, mask in changed.items():
        np.moveaxis(voxels, axis, 0)[n - first][mask] = 1
    resampled = slicer.vtkOrientedImageData()
    resample = slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage
    resample(on_image, geometry, resampled, False, False)
    return resampled


def _image_to_segmentation(target: Target) -> vtk.vtkMatrix4x4:
    """From the indices (i, j, k, 1) of the image to the space of the segmentation."""
    to_node = np.linalg.inv(parent_to_world(target.segmentationNode))
    return slicer.util.vtkMatrixFromArray(to_node @ target.grid.ijk_to_world)


def _offset(target: Target, image: slicer.vtkOrientedImageData) -> tuple[int, int, int] | None:
    """Where the first voxel (k, j, i) of a segment's labelmap lies in the image; None if it has another grid."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    first = np.append(np.array(image.GetExtent()[::2], float), 1.0)
    to_image = np.linalg.inv(slicer.util.arrayFromVTKMatrix(_image_to_segmentation(target)))
    to_image = to_image @ slicer.util.arrayFromVTKMatrix(matrix)
    place = (to_image @ first)[:3]
    lengths = np.array(image.GetDimensions())
    if np.abs((to_image[:3, :3] - np.eye(3)) * lengths).max() > SAME_GRID:
        return None
    if np.abs(place - np.rint(place)).max() > SAME_GRID:
        return None
    i, j, k = np.rint(place).astype(int).tolist()
    return k, j, i
