"""What the nodes of a result will hold, made bit by bit before they are in the scene, so that the window answers.

Each function is a generator: it yields after each bit, and returns what it made. `made` runs one to its end.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import slicer
import vtk
from scipy import ndimage
from vtk.util.numpy_support import vtk_to_numpy

from dinsegment.images.fingerprint import fingerprints
from dinsegment.tasks import Segment

VOXELS_AT_ONCE = 2**22
"""About 10 ms of copying, or of looking for labels."""

Made = TypeVar("Made")
Steps = Generator[None, None, Made]


@dataclass(frozen=True, eq=False)
class LabelContent:
    """Labels as segments share them.

    Attributes:
        image: The part of the grid that holds all labels, by its extent; without voxels where there is no label.
        present: The labels that have voxels.
        fingerprints: Of each label, as `dinsegment.images.fingerprint` says.
    """

    image: slicer.vtkOrientedImageData
    present: frozenset[int]
    fingerprints: dict[int, str]


def made(steps: Steps[Made]) -> Made:
    """What the steps make, all of them at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def grey_image(array: np.ndarray) -> Steps[vtk.vtkImageData]:
    """Voxels (k, j, i) as a node holds them, float32."""
    image = vtk.vtkImageData()
    image.SetDimensions(*array.shape[::-1])
    image.AllocateScalars(vtk.VTK_FLOAT, 1)
    voxels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(array.shape)
    for part in _parts(array):
        voxels[part] = array[part]
        yield
    return image


def label_content(labels: np.ndarray, segments: Sequence[Segment], ijk_to_ras: np.ndarray) -> Steps[LabelContent]:
    """A labelmap (k, j, i), uint8, cut to what is labelled: of a CT mostly the smaller part.

    Args:
        labels: The labelmap.
        segments: What its labels mean.
        ijk_to_ras: 4x4, of the grid, parent transforms not included.
    """
    values = [segment.label for segment in segments]
    corners: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for part in _parts(labels):
        for label, box in enumerate(ndimage.find_objects(labels[part], max(values)), start=1):
            if box is not None:
                first, stop = (np.array([getattr(axis, end) for axis in box]) for end in ("start", "stop"))
                offset = (part.start, 0, 0)
                corners.setdefault(label, []).append((first + offset, stop + offset))
        yield
    image = slicer.vtkOrientedImageData()
    image.SetGeometryFromImageToWorldMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras))
    if not corners:
        return LabelContent(image, frozenset(), fingerprints(labels[:1, :1, :1], values, ijk_to_ras))
    found = [corner for pairs in corners.values() for corner in pairs]
    first, stop = np.min([f for f, _stop in found], axis=0), np.max([s for _first, s in found], axis=0)
    extent = [int(x) for pair in zip(first[::-1], stop[::-1] - 1, strict=True) for x in pair]
    image.SetExtent(*extent)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    kept = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(stop - first)
    kept[...] = labels[tuple(slice(a, b) for a, b in zip(first, stop, strict=True))]
    yield
    shifted = np.array(ijk_to_ras, dtype=float)
    shifted[:3, 3] = (shifted @ (*first[::-1], 1.0))[:3]
    return LabelContent(image, frozenset(corners), fingerprints(kept, values, shifted))


def _parts(array: np.ndarray) -> list[slice]:
    """Slabs of slices along the first axis."""
    slices = max(1, VOXELS_AT_ONCE // max(1, array[0].size))
    return [slice(k, min(k + slices, len(array))) for k in range(0, len(array), slices)]
