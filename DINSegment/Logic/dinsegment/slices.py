"""A Volume seen as the parallel slices it was acquired in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dinsegment.volume import Volume


@dataclass(frozen=True, eq=False)
class SliceStack:
    """A Volume seen as parallel slices.

    Attributes:
        array: (slices, y, x), a view of the Volume's voxels.
        spacing: In-plane spacing (y, x) in mm.
        axis: Axis of the Volume's array, 0 (k) to 2 (i), that became the first.
    """

    array: np.ndarray
    spacing: tuple[float, float]
    axis: int

    @classmethod
    def of(cls, volume: Volume) -> SliceStack:
        """The stack of a Volume as it was acquired."""
        return cls.across(volume.array, volume.spacing)

    @classmethod
    def across(cls, array: np.ndarray, spacing: np.ndarray) -> SliceStack:
        """The stack of an array (k, j, i) as it was acquired, without copying it.

        Slices lie across the axis of the largest spacing, k if there is none; a single slice lies across its axis.

        Args:
            array: Voxels of any type.
            spacing: In mm, along (k, j, i).
        """
        axis = int(np.argmax(spacing)) if np.max(spacing) > 1.01 * np.median(spacing) else 0
        if array.shape[axis] > 1 and 1 in array.shape:
            axis = array.shape.index(1)
        in_plane = np.delete(spacing, axis)
        return cls(np.moveaxis(array, axis, 0), (float(in_plane[0]), float(in_plane[1])), axis)

    def to_volume_axes(self, array: np.ndarray) -> np.ndarray:
        """(slices, y, x) -> the axis order of the Volume's array: the inverse of `of`."""
        return np.ascontiguousarray(np.moveaxis(array, 0, self.axis))

    @property
    def extent_mm(self) -> np.ndarray:
        """Field of view (y, x) in mm."""
        return np.array(self.array.shape[1:]) * self.spacing
