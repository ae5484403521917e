"""What the nodes of a result will hold, made bit by bit before they are in the scene, so that the window answers.

Each function is a generator: it yields after each bit, and returns what it made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from scipy import ndimage
from vtk.util.numpy_support import vtk_to_numpy

from dinsegment.images.fingerprint import EMPTY, fingerprint
from dinsegment.tasks import Segment
from dinsegment_slicer.scene.changes import Steps

VOXELS_AT_ONCE = 2**20
"""A few milliseconds of copying, or of looking for labels."""


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


def grey_image(array: np.ndarray, scalars: int = vtk.VTK_FLOAT) -> Steps[vtk.vtkImageData]:
    """Voxels (k, j, i) as a node holds them, of a VTK type that has room for their values."""
    image = vtk.vtkImageData()
    image.SetDimensions(*array.shape[::-1])
    image.AllocateScalars(scalars, 1)
    voxels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(array.shape)
    for part in _parts(array):
        voxels[part] = array[part]
        yield
    return image


def label_content(labels: np.ndarray, segments: Sequence[Segment], ijk_to_ras: np.ndarray) -> Steps[LabelContent]:
    """A labelmap (k, j, i), uint8, cut to what is labelled: of a CT mostly the smaller part.

    Args:
        labels: The labelmap.
        segments: What its labels mean; others are left out.
        ijk_to_ras: 4x4, of the grid, parent transforms not included.
    """
    values = [segment.label for segment in segments]
    corners: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    others = False
    for part in _parts(labels):
        for label, box in enumerate(ndimage.find_objects(labels[part]), start=1):
            if box is not None and label in values:
                first, stop = (np.array([getattr(axis, end) for axis in box]) for end in ("start", "stop"))
                offset = (part.start, 0, 0)
                corners.setdefault(label, []).append((first + offset, stop + offset))
            others = others or (box is not None and label not in values)
        yield
    boxes = {
        label: (np.min([f for f, _stop in found], axis=0), np.max([s for _first, s in found], axis=0))
        for label, found in corners.items()
    }
    image = slicer.vtkOrientedImageData()
    image.SetGeometryFromImageToWorldMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras))
    if not boxes:
        return LabelContent(image, frozenset(), dict.fromkeys(values, EMPTY))
    first, stop = (
        np.min([f for f, _stop in boxes.values()], axis=0),
        np.max([s for _first, s in boxes.values()], axis=0),
    )
    extent = [int(x) for pair in zip(first[::-1], stop[::-1] - 1, strict=True) for x in pair]
    image.SetExtent(*extent)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    kept = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(stop - first)
    cut = labels[tuple(slice(a, b) for a, b in zip(first, stop, strict=True))]
    for part in _parts(kept):
        kept[part] = np.where(np.isin(cut[part], values), cut[part], 0) if others else cut[part]
        yield
    shifted = np.array(ijk_to_ras, dtype=float)
    shifted[:3, 3] = (shifted @ (*first[::-1], 1.0))[:3]
    found = {}
    for value in values:
        box = None
        if value in boxes:
            box = tuple(slice(a, b) for a, b in zip(*(corner - first for corner in boxes[value]), strict=True))
        found[value] = fingerprint(kept, value, box, shifted)
        yield
    return LabelContent(image, frozenset(boxes), found)


def _parts(array: np.ndarray) -> list[slice]:
    """Slabs of slices along the first axis."""
    slices = max(1, VOXELS_AT_ONCE // max(1, array[0].size))
    return [slice(k, min(k + slices, len(array))) for k in range(0, len(array), slices)]
