"""Space: millimetres in RAS, as 3D Slicer has them, and in LPS, as ITK and DICOM do."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from dinsegment.errors import InputError

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

LEAN_DEGREES = 0.1
"""Axes that are closer than this to a right angle, or to parallel, are: directions are written with few digits."""

_HALFWAY = 1e-3
"""Voxels by which what is said to lie between two voxels may be off it."""


def nearest_voxel(offsets: np.ndarray) -> np.ndarray:
    """The voxel, int, at which each offset in voxels lies; of one halfway between two the higher, despite rounding."""
    return np.floor(np.asarray(offsets, float) + (0.5 + _HALFWAY)).astype(int)


def check_spacing(path: Path, spacing: tuple[float, ...] | list[float]) -> None:
    """Raises InputError unless every spacing (mm) is a number above zero."""
    if any(math.isnan(value) for value in spacing):
        raise InputError(f"'{path}' does not say in its header how large its voxels are: export the image again.")
    if not all(0 < value < math.inf for value in spacing):
        text = " x ".join(f"{value:.4g}" for value in spacing)
        raise InputError(
            f"'{path}' says in its header that its voxels measure {text} mm, but every spacing has to be "
            "above zero: correct the header or export the image again."
        )
