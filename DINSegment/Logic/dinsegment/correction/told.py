"""Which slices a person has corrected, as far as a `.seg.nrrd` file tells it by what it says that each slice was."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dinsegment.dicom.write.export import read_key, read_tag
from dinsegment.dicom.write.grid import put_on_grid
from dinsegment.errors import InputError
from dinsegment.images.fingerprint import SLICES_TAG, changed_slices, read_slices_tag
from dinsegment.images.volume import Volume

_GEOMETRY = "Segmentation_ConversionParameters", "Reference image geometry"
"""Where a file says on which grid its segments were made, and 3D Slicer edits them."""

SAME = 1e-4
"""Voxels for a step along an axis, or of an origin, by which grids differ that are the same."""


def slices_told(path: Path, labels: np.ndarray, volume: Volume, axis: int) -> tuple[int, ...] | None:
    """The corrected slices; None where the file does not say what they were.

    What a slice was is said of the image that was segmented. One and the same image may come in another file, with its
    axes in another order or direction, or cut: then labels are compared on the grid that the segmentation names.

    Args:
        path: The file.
        labels: (k, j, i) of `volume`, as they are now.
        volume: The image.
        axis: Across which its slices lie.

    Returns:
        Counted from 0 along that axis.
    """
    tag = read_tag(path, SLICES_TAG)
    told = read_slices_tag(tag) if tag else None
    if told is None:
        return None
    own_axis, corrected, prints = told
    shape, ijk_to_ras = _reference_grid(path) or (volume.shape, volume.ijk_to_ras)
    if own_axis not in (0, 1, 2) or len(prints) != shape[own_axis]:
        return None
    # Row r, column c: voxels along the image's axis r for a step along the other grid's axis c, both counted from i.
    to_image = np.linalg.solve(volume.ijk_to_ras, ijk_to_ras)
    step, first = to_image[2 - axis, 2 - own_axis], to_image[2 - axis, 3]
    if round(abs(step)) != 1:
        return None
    if shape != volume.shape or np.abs(to_image - np.eye(4)).max() > SAME:
        grid, there = Volume(np.zeros(shape, np.int16), ijk_to_ras), np.zeros(shape, np.uint8)
        if not put_on_grid(labels, volume.ijk_to_ras, grid, there):
            return None
        labels = there
    slices = (round(first + step * n) for n in {*corrected, *changed_slices(prints, labels, own_axis)})
    return tuple(sorted(n for n in slices if 0 <= n < volume.shape[axis]))


def _reference_grid(path: Path) -> tuple[tuple[int, int, int], np.ndarray] | None:
    """Shape (k, j, i) and IJK-to-RAS of the grid that a file names; None where it names none."""
    parameter, name = _GEOMETRY
    for one in read_key(path, parameter).split("&"):
        key, _, value = one.partition("|")
        if key != name:
            continue
        try:
            numbers = np.array([float(word) for word in value.partition("|")[0].split(";") if word.strip()])
            ijk_to_ras, (first, last) = numbers[:16].reshape(4, 4), numbers[16:].astype(int).reshape(3, 2).T
            ijk_to_ras[:3, 3] += ijk_to_ras[:3, :3] @ first
            shape = tuple(int(n) for n in (last - first + 1)[::-1])
            Volume(np.zeros((1, 1, 1)), ijk_to_ras)  # which refuses what is no grid
        except (ValueError, InputError):
            return None
        return (shape, ijk_to_ras) if min(shape) > 0 else None
    return None
