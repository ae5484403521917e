"""A Volume seen as the parallel slices it was acquired in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dinsegment.volume import Volume


@dataclass(frozen=True, eq=False)
class SliceStack:
    """A Volume seen as parallel slices.

    Attributes:
        array: (slices, y, x) float32, a view of the Volume's voxels.
        spacing: In-plane spacing (y, x) in mm.
        axis: Axis of the Volume's array, 0 (k) to 2 (i), that became the first.
    """

    array: np.ndarray
    spacing: tuple[float, float]
    axis: int

    @classmethod
    def of(cls, volume: Volume) -> SliceStack:
        """The stack as it was acquired.

        Slices lie across the axis of the largest spacing, k if there is none; a single slice lies across its axis.
        """
        spacing = volume.spacing
        axis = int(np.argmax(spacing)) if spacing.max() > 1.01 * np.median(spacing) else 0
        if volume.shape[axis] > 1 and 1 in volume.shape:
            axis = volume.shape.index(1)
        in_plane = np.delete(spacing, axis)
        return cls(np.moveaxis(volume.array, axis, 0), (float(in_plane[0]), float(in_plane[1])), axis)

    def to_volume_axes(self, array: np.ndarray) -> np.ndarray:
        """(slices, y, x) -> the axis order of the Volume's array: the inverse of `of`."""
        return np.ascontiguousarray(np.moveaxis(array, 0, self.axis))

    @property
    def extent_mm(self) -> np.ndarray:
        """Field of view (y, x) in mm."""
        return np.array(self.array.shape[1:]) * self.spacing
