"""The voxels of segments on the grid of an image, whichever part of which grid their own labelmaps cover."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from dinsegment_slicer.scene.segments import LABELMAP

SAME_GRID = 0.1
"""How far in voxels a labelmap's grid may lie off the image's."""


def segment_voxels(
    segmentationNode: slicer.vtkMRMLSegmentationNode,
    segmentID: str,
    image_to_node: np.ndarray,
    part: tuple[slice, slice, slice],
) -> np.ndarray:
    """What a segment covers in a part of an image, bool (k, j, i).

    Args:
        segmentationNode: The segmentation; need not be in a scene.
        segmentID: Of the segment.
        image_to_node: 4x4, from the image's (i, j, k, 1) to the node's own coordinates, in mm.
        part: Of the image's array (k, j, i), each with a start and a stop.
    """
    return label_voxels(segmentationNode, {segmentID: 1}, image_to_node, part).astype(bool)


def label_voxels(
    segmentationNode: slicer.vtkMRMLSegmentationNode,
    labels: Mapping[str, int],
    image_to_node: np.ndarray,
    part: tuple[slice, slice, slice],
) -> np.ndarray:
    """What segments cover in a part of an image, as a labelmap (k, j, i), uint8.

    Args:
        segmentationNode: The segmentation; need not be in a scene.
        labels: Of the segments, by their IDs; the others are left out. Where segments overlap, the later one counts.
        image_to_node: As in `segment_voxels`.
        part: As in `segment_voxels`.
    """
    voxels = np.zeros(tuple(axis.stop - axis.start for axis in part), np.uint8)
    segmentation = segmentationNode.GetSegmentation()
    shared: dict[slicer.vtkOrientedImageData, dict[int, int]] = {}  # Many segments share a labelmap.
    for segment_id, label in labels.items():
        segment = segmentation.GetSegment(segment_id)
        image = segment.GetRepresentation(LABELMAP) if segment is not None else None
        if image is not None and not image.IsEmpty() and image.GetPointData().GetScalars() is not None:
            shared.setdefault(image, {})[segment.GetLabelValue()] = label
    for image, values in shared.items():
        first = first_voxel(image, image_to_node)
        if first is None:
            image, first = _resampled(image, image_to_node, part), [axis.start for axis in part]
        stored = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
        there, here = [], []
        for axis, start, length in zip(part, first, stored.shape, strict=True):
            low, high = max(axis.start, start), min(axis.stop, start + length)
            there.append(slice(low - axis.start, max(low, high) - axis.start))
            here.append(slice(low - start, max(low, high) - start))
        stored, onto = stored[tuple(here)], voxels[tuple(there)]
        for value, label in values.items():
            onto[stored == value] = label
    return voxels


def first_voxel(image: slicer.vtkOrientedImageData, image_to_node: np.ndarray) -> tuple[int, int, int] | None:
    """Where the first voxel (k, j, i) of a labelmap lies in the image; None if it has another grid."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    to_image = np.linalg.inv(image_to_node) @ slicer.util.arrayFromVTKMatrix(matrix)
    place = (to_image @ (*map(float, image.GetExtent()[::2]), 1.0))[:3]
    turned = np.abs((to_image[:3, :3] - np.eye(3)) * image.GetDimensions())
    if max(turned.max(), np.abs(place - np.rint(place)).max()) > SAME_GRID:
        return None
    i, j, k = np.rint(place).astype(int).tolist()
    return k, j, i


def _resampled(
    image: slicer.vtkOrientedImageData, image_to_node: np.ndarray, part: tuple[slice, slice, slice]
) -> slicer.vtkOrientedImageData:
    """A labelmap on a part of the image's grid, each voxel with the label that lies nearest."""
    geometry = slicer.vtkOrientedImageData()
    geometry.SetExtent(*(n for axis in part[::-1] for n in (axis.start, axis.stop - 1)))
    geometry.SetGeometryFromImageToWorldMatrix(slicer.util.vtkMatrixFromArray(image_to_node))
    resampled = slicer.vtkOrientedImageData()
    resample = slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage
    resample(image, geometry, resampled, False, False)
    return resampled
