"""A Volume seen as parallel slices: those it was acquired in, or axial ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations
from typing import Literal

import numpy as np

from dinsegment.geometry import RAS_FROM_LPS
from dinsegment.images.volume import Volume

Plane = Literal["acquired", "axial"]
"""The slices that an image is looked at in: as it was acquired, or axial ones of the patient."""


_THICKER = ((1.2, 1.1), (2.5, 1.5))
"""So many times as far apart as the larger side of a pixel are slices whose pixels are at most so oblong."""


def plain_slice_axis(spacing: np.ndarray) -> int | None:
    """The axis across which slices plainly lie, as they are farther apart than pixels; None if no axis is such.

    Args:
        spacing: In mm, along (k, j, i).
    """
    axis = int(np.argmax(spacing))
    pixel = np.delete(spacing, axis)
    ratio, oblong = spacing[axis] / pixel.max(), pixel.max() / pixel.min()
    return axis if any(ratio >= thicker and oblong <= most for thicker, most in _THICKER) else None


@dataclass(frozen=True, eq=False)
class SliceStack:
    """A Volume seen as parallel slices.

    Attributes:
        array: (slices, y, x), a view of the Volume's voxels.
        spacing: In-plane spacing (y, x) in mm.
        axis: Axis of the Volume's array, 0 (k) to 2 (i), that became the first.
        slice_spacing: Distance of the slices in mm.
        transposed: Whether the other two axes changed places.
        flipped: Which of the stack's axes (slices, y, x) run against the Volume's.
        told: Whether its source or its voxels tell that axis; if not, k was taken.
    """

    array: np.ndarray
    spacing: tuple[float, float]
    axis: int
    slice_spacing: float = 1.0
    transposed: bool = False
    flipped: tuple[bool, bool, bool] = (False, False, False)
    told: bool = True

    @classmethod
    def in_plane(cls, volume: Volume, plane: Plane) -> SliceStack:
        """The stack of a Volume in those slices."""
        return cls.axial(volume) if plane == "axial" else cls.of(volume)

    @classmethod
    def of(cls, volume: Volume) -> SliceStack:
        """The stack of a Volume as it was acquired: across the axis that its source tells, else as `across`."""
        return cls.across(volume.array, volume.spacing, volume.slice_axis)

    @classmethod
    def across(cls, array: np.ndarray, spacing: np.ndarray, axis: int | None = None) -> SliceStack:
        """The stack of an array (k, j, i) as it was acquired, without copying it.

        Slices lie across the axis that is given; else across the one that `plain_slice_axis` finds, k if there is none.
        A single slice lies across its axis.

        Args:
            array: Voxels of any type.
            spacing: In mm, along (k, j, i).
            axis: Across which the slices lie, 0 (k) to 2 (i), where that is known.
        """
        axis = plain_slice_axis(spacing) if axis is None else axis
        told = axis is not None or 1 in array.shape
        axis = axis or 0
        if array.shape[axis] > 1 and 1 in array.shape:
            axis = array.shape.index(1)
        y, x = np.delete(spacing, axis).tolist()
        return cls(np.moveaxis(array, axis, 0), (y, x), axis, float(spacing[axis]), told=told)

    @classmethod
    def axial(cls, volume: Volume) -> SliceStack:
        """The axial slices of a Volume of any orientation, without copying it.

        Slices run from inferior to superior, y from anterior to posterior and x from right to left, which are the axes
        of LPS and of DICOM; each is the voxel axis closest to it, so no voxel is moved.
        """
        directions = (RAS_FROM_LPS @ volume.ijk_to_ras)[:3, 2::-1] / volume.spacing  # columns are (k, j, i) in LPS
        wanted = directions[::-1]  # rows S, P, L: those of (slices, y, x)
        axes = max(permutations(range(3)), key=lambda p: sum(abs(wanted[row, axis]) for row, axis in enumerate(p)))
        seen = cls(
            volume.array,
            (float(volume.spacing[axes[1]]), float(volume.spacing[axes[2]])),
            axes[0],
            float(volume.spacing[axes[0]]),
            axes[1] > axes[2],
            tuple(bool(wanted[row, axis] < 0) for row, axis in enumerate(axes)),
        )
        return seen.like(volume.array)

    def like(self, array: np.ndarray) -> SliceStack:
        """Another array (k, j, i) of the same Volume's grid, seen in the same way."""
        seen = np.moveaxis(array, self.axis, 0)
        seen = seen.swapaxes(1, 2) if self.transposed else seen
        return replace(self, array=np.flip(seen, [n for n, f in enumerate(self.flipped) if f]))

    def to_volume_axes(self, array: np.ndarray) -> np.ndarray:
        """(slices, y, x) -> the axes of the Volume's array: the inverse of `of` and `axial`."""
        back = np.flip(array, [n for n, f in enumerate(self.flipped) if f])
        back = back.swapaxes(1, 2) if self.transposed else back
        return np.ascontiguousarray(np.moveaxis(back, 0, self.axis))

    def volume_index(self, index: tuple[float, float, float]) -> np.ndarray:
        """A place on the stack (slice, y, x) in the axes (k, j, i) of the Volume's array."""
        on_axes = [n - 1 - i if f else i for i, n, f in zip(index, self.array.shape, self.flipped, strict=True)]
        if self.transposed:
            on_axes[1], on_axes[2] = on_axes[2], on_axes[1]
        across = on_axes.pop(0)
        on_axes.insert(self.axis, across)
        return np.array(on_axes)

    def number(self, k: int) -> int:
        """What the user calls slice k of the stack: its number in the order in which the image has them, from 1."""
        return len(self.array) - k if self.flipped[0] else k + 1

    @property
    def extent_mm(self) -> np.ndarray:
        """Field of view (y, x) in mm."""
        return np.array(self.array.shape[1:]) * self.spacing

    @property
    def middle_mm(self) -> tuple[float, float]:
        """Middle (y, x) of the field of view in mm from the first pixel's centre."""
        y, x = (self.extent_mm - self.spacing) / 2
        return float(y), float(x)


def slice_axis(volume: Volume, plane: Plane) -> int:
    """The axis of a Volume's array, 0 (k) to 2 (i), across which the slices of that plane lie."""
    return SliceStack.in_plane(volume, plane).axis
