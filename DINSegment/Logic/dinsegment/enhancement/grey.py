"""Grey values inside a window, to [-1, 1] and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

PERCENTILES = (0.5, 99.5)
"""Grey values at these percentiles become -1 and 1; beyond them they are clipped."""


MOST_SAMPLES = 4_000_000
"""Percentiles of a larger volume come from evenly spread voxels: a large CT's would take a second."""


def grey_window(array: np.ndarray, percentiles: tuple[float, float] = PERCENTILES) -> tuple[float, float]:
    """Grey values (low, high) at the percentiles of all voxels; high is above low also in a constant or empty image."""
    values = array.reshape(-1)[:: 1 + array.size // MOST_SAMPLES]
    low, high = np.percentile(values, percentiles) if values.size else (0.0, 1.0)
    return float(low), float(max(high, low + 1e-6 * max(abs(low), 1.0)))


def window_inside(
    slices: Tensor,
    inside: Tensor,
    fixed: tuple[float, float] | None = None,
    percentiles: tuple[float, float] = PERCENTILES,
    shift: tuple[float, float] = (0.0, 0.0),
) -> tuple[float, float]:
    """Grey values (low, high) that become -1 and 1: the fixed ones, or those at the percentiles.

    Args:
        slices: (slices, rows, columns).
        inside: (rows, columns), above 0.5 inside the field of view, whose pixels count.
        fixed: The window where grey values mean the same in every image; None where the percentiles make it.
        percentiles: Of the pixels inside.
        shift: How far the ends are moved, in units of the window's width.
    """
    low, high = fixed or grey_window(slices[:, inside > 0.5].numpy(), percentiles)
    below, above = (by * (high - low) for by in shift)
    return low + below, high + above


Array = TypeVar("Array", "np.ndarray", "Tensor")


def to_unit_interval(x: Array, low: float, high: float) -> Array:
    """Grey values to [-1, 1], clipped at the window (low, high)."""
    unit = x - float(low)
    unit *= 2.0 / (high - low)  # in place: memory that is new costs more than computing
    unit -= 1.0
    return unit.clip(-1.0, 1.0)


def from_unit_interval(v: Array, low: float, high: float) -> Array:
    """[-1, 1] back to the grey range (low, high): the inverse of `to_unit_interval` inside the window."""
    grey = v + 1.0
    grey *= 0.5 * (high - low)
    grey += low
    return grey
