"""What tells whether somebody has changed a segment: a short text that depends on its voxels and on where they lie.

It does not depend on how they are stored: the margin of the labelmap around the segment, the value that marks it, and
which segments share the labelmap all change when 3D Slicer saves and loads a segmentation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from scipy import ndimage

FINGERPRINT_TAG = "DINSegment.Fingerprint"
"""Tag of a segment, in files and in nodes: its fingerprint when it was made."""

VERSION_TAG = "DINSegment.Version"
"""Tag of a segment: the version that made it."""

EMPTY = "empty"
"""Fingerprint of a segment without voxels."""

SAME_PLACE_MM = 0.01
"""Files hold positions with a few digits less than memory does."""


def fingerprints(labels: np.ndarray, values: Iterable[int], ijk_to_mm: np.ndarray) -> dict[int, str]:
    """The fingerprint of each value of a labelmap.

    Args:
        labels: Labelmap (k, j, i) of whole numbers from 0.
        values: Those to look for.
        ijk_to_mm: 4x4, from (i, j, k, 1) to millimetres.
    """
    values = list(values)
    boxes = ndimage.find_objects(labels, max(values, default=0)) if values else []
    return {value: fingerprint(labels, value, boxes[value - 1], ijk_to_mm) for value in values}


def fingerprint(labels: np.ndarray, value: int, box: tuple[slice, ...] | None, ijk_to_mm: np.ndarray) -> str:
    """The fingerprint of one value of a labelmap.

    Args:
        labels: As in `fingerprints`.
        value: The one to look at.
        box: The smallest part (k, j, i) of the labelmap that holds all of it; None where there is none.
        ijk_to_mm: As in `fingerprints`.
    """
    if box is None:
        return EMPTY
    mask = labels[box] == value
    digest = hashlib.sha256(str(mask.shape).encode() + np.packbits(mask).tobytes()).hexdigest()[:32]
    k, j, i = (axis.start for axis in box)
    place = (ijk_to_mm @ (i, j, k, 1))[:3]
    # Neither colon nor bar, with which Slicer's files separate what they say of a segment.
    return ",".join((digest, *(f"{x:.3f}" for x in place)))


def same_voxels(first: str, second: str) -> bool:
    """Whether two fingerprints are of the same voxels in the same place."""
    if EMPTY in (first, second):
        return first == second
    try:
        (digest, *place), (other_digest, *other_place) = first.split(","), second.split(",")
        distance = np.subtract([float(x) for x in place], [float(x) for x in other_place])
    except ValueError:  # It was not made here.
        return False
    return digest == other_digest and bool(np.abs(distance).max(initial=0.0) <= SAME_PLACE_MM)
