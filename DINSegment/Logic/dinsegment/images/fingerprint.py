"""What tells whether somebody has changed a segment: a short text that depends on its voxels and on where they lie.

It does not depend on how they are stored: the margin of the labelmap around the segment, the value that marks it, and
which segments share the labelmap all change when 3D Slicer saves and loads a segmentation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from scipy import ndimage

from dinsegment.images.volume import Volume

FINGERPRINT_TAG = "DINSegment.Fingerprint"
"""Tag of a segment, in files and in nodes: its fingerprint when it was made."""

VERSION_TAG = "DINSegment.Version"
"""Tag of a segment: the version that made it."""

SLICES_TAG = "DINSegment.Slices"
"""Tag of the first segment in files: the axis of the slices, those that a person has corrected, and a print of each."""

IMAGE_TAG = "DINSegment.Image"
"""Tag of the first segment in files: which image it was made of, as `grey_print` tells it."""

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


def image_print(volume: Volume) -> str:
    """A short text that is another one as soon as a voxel of an image, or where it lies, is another."""
    digest = hashlib.blake2b(volume.ijk_to_ras.tobytes() + str((volume.shape, volume.array.dtype)).encode())
    digest.update(volume.array)
    return digest.hexdigest()[:32]


SAME_GREY = 1e-4
"""Share of its standard deviation by which the mean of an image may be another one, as formats round differently."""


def grey_print(volume: Volume) -> str:
    """What tells images apart whatever file they are in and however their axes lie: number, mean and spread of voxels.

    Phases of a cine and images of two patients have other means, the same image as DICOM and as NIfTI has the same.
    """
    count, total, squares = volume.array.size, 0.0, 0.0
    for plane in volume.array:
        grey = plane.astype(np.float64)
        total, squares = total + float(grey.sum()), squares + float(np.square(grey).sum())
    mean = total / count
    # Neither colon nor bar, with which Slicer's files separate what they say of a segment.
    return f"{count},{mean:.9g},{max(0.0, squares / count - mean**2) ** 0.5:.9g}"


def same_grey(first: str, second: str) -> bool | None:
    """Whether two `grey_print` may be of one image; None where they do not tell: one image is a part of the other."""
    try:
        (count, *one), (other_count, *other) = ([float(x) for x in text.split(",")] for text in (first, second))
        (mean, spread), (other_mean, other_spread) = one, other
    except ValueError:  # It was not made here.
        return None
    if count != other_count:
        return None
    return max(abs(mean - other_mean), abs(spread - other_spread)) <= SAME_GREY * max(spread, other_spread)


LETTERS = 12
"""Of a slice's print: two slices have the same one by chance once in 2**48."""


def slice_prints(labels: np.ndarray, axis: int) -> tuple[str, ...]:
    """A short text for each slice of a labelmap that is another one as soon as a voxel of the slice has another label.

    Whoever writes labels that a user may correct keeps it, instead of a copy of the labels.

    Args:
        labels: (k, j, i), whole numbers from 0 to 255.
        axis: Across which the slices lie, 0 (k) to 2 (i), as `slice_axis` tells it.
    """
    slices = np.moveaxis(np.asarray(labels).astype(np.uint8, copy=False), axis, 0)
    shape = str(slices.shape[1:]).encode()
    return tuple(hashlib.sha256(shape + np.ascontiguousarray(one).tobytes()).hexdigest()[:LETTERS] for one in slices)


def changed_slices(made: np.ndarray | Sequence[str], labels: np.ndarray, axis: int) -> tuple[int, ...]:
    """The slices in which a labelmap is not what it was when it was made.

    Args:
        made: The labelmap as it was made, of the same shape, or what `slice_prints` said of it then.
        labels: (k, j, i), as it is now.
        axis: Across which the slices lie, 0 (k) to 2 (i).

    Raises:
        ValueError: They do not have the same slices.
    """
    if isinstance(made, np.ndarray):
        if made.shape != labels.shape:
            raise ValueError(f"Labels of shape {labels.shape} cannot be compared with those of shape {made.shape}.")
        differs = (made != labels).any(axis=tuple(n for n in range(3) if n != axis))
        return tuple(int(n) for n in np.flatnonzero(differs))
    now = slice_prints(labels, axis)
    if len(now) != len(made):
        raise ValueError(f"{len(now)} slices cannot be compared with {len(made)}.")
    return tuple(n for n, (before, after) in enumerate(zip(made, now, strict=True)) if before != after)


def slices_tag(labels: np.ndarray, axis: int, corrected: Collection[int] = ()) -> str:
    """What SLICES_TAG says of a labelmap that is written: axis, corrected slices from 0, and the slices' prints."""
    parts = str(axis), " ".join(map(str, sorted(corrected))), " ".join(slice_prints(labels, axis))
    return ",".join(parts)  # neither colon nor bar, with which Slicer's files separate what they say of a segment


def read_slices_tag(tag: str) -> tuple[int, tuple[int, ...], tuple[str, ...]] | None:
    """Axis, corrected slices and prints of a SLICES_TAG; None if it was not made here."""
    try:
        axis, corrected, prints = tag.split(",")
        return int(axis), tuple(int(n) for n in corrected.split()), tuple(prints.split())
    except ValueError:
        return None
