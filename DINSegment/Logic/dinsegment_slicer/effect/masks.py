"""A segment's slices on the grid of an image: read as they are, and as the change that makes others of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from dinsegment_slicer.effect.target import Target
from dinsegment_slicer.scene.nodes import parent_to_world
from dinsegment_slicer.scene.segment_voxels import segment_voxels


def slices_of(target: Target, wanted: Iterable[int]) -> dict[int, np.ndarray]:
    """What the segment covers in slices of the image, bool; those that the image does not have are left out.

    Args:
        target: The segment, and the image.
        wanted: Indices along the image's slice axis.
    """
    grid, axis = target.grid, 2 - target.grid.axis
    wanted = [n for n in wanted if 0 <= n < grid.count]
    part = [slice(0, length) for length in grid.dimensions[::-1]]
    part[axis] = slice(min(wanted), max(wanted) + 1)
    image_to_node = np.linalg.inv(parent_to_world(target.segmentationNode)) @ grid.ijk_to_world
    voxels = segment_voxels(target.segmentationNode, target.segmentID, image_to_node, tuple(part))
    return {n: np.ascontiguousarray(np.take(voxels, n - min(wanted), axis)) for n in wanted}


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
