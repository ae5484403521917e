"""A closer look at organs: a second network sees the box that they lie in, as one that sees the trunk has found them.

The trunk's network tells on 6 mm which organ may be where. The box around those organs, brought to a fixed number of
voxels whatever its size, is what a finer network sees (`dinsegment.network.obelisk`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from dinsegment.images.pieces import largest_component
from dinsegment.images.slices import SliceStack

Done = Callable[[float], None]
"""Called now and then with the share that is done, 0 to 1; it raises Cancelled if the user has asked for it."""

HU_RANGE = 1024.0
"""Grey values are divided by this, and 1 is added: air is then about 0, as the published weights have it."""

SMALLEST_MM = 45.0
"""A box with a shorter side is none: too little of the organs is there."""


@dataclass(frozen=True)
class OrganBox:
    """A box in a stack of axial slices.

    Attributes:
        low: (z, y, x) of its inferior, anterior and right face in mm from the middle of the stack's first voxel.
        high: The same of its superior, posterior and left face.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def spacing(self, side: int) -> tuple[float, float, float]:
        """Of so many voxels along each axis (z, y, x), in mm."""
        z, y, x = ((high - low) / side for low, high in zip(self.low, self.high, strict=True))
        return z, y, x

    def first(self, side: int) -> tuple[float, float, float]:
        """Middle (z, y, x) of the first of them, in mm."""
        z, y, x = (low + step / 2 for low, step in zip(self.low, self.spacing(side), strict=True))
        return z, y, x


@dataclass(frozen=True)
class BoxGrid:
    """How the box is found and prepared; stands as `preprocessing` of a network of organs in weights.json.

    Attributes:
        around: Names of the segments that the box lies around.
        margins: In mm, of the faces to inferior and superior, anterior and posterior, right and left; below 0 where the
            box ends inside of the segments' bounding box, as the boxes did that the published weights were learned in.
        grey_window: Grey values at which an image is clipped; regions below are air.
        air: The grey value that air then gets, whatever it was.
    """

    around: tuple[str, ...] = ("Spleen", "Left kidney", "Gallbladder", "Liver", "Stomach", "Pancreas")
    margins: tuple[float, ...] = (-4.0, 0.0, 10.0, 6.0, -13.0, -7.0)
    grey_window: tuple[float, float] = (-125.0, 275.0)
    air: float = -1000.0

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> BoxGrid:
        """From JSON. Raises TypeError or ValueError if an option is unknown or has no such value."""
        grid = cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()})
        if not (grid.around and len(grid.margins) == 6 and grid.grey_window[0] < grid.grey_window[1]):
            raise ValueError(f"{grid} is no grid of a network of organs")
        return grid

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def box(
        self, labels: np.ndarray, around: Sequence[int], first: Sequence[float], spacing: Sequence[float]
    ) -> OrganBox | None:
        """The box around segments, each by its largest piece; None where none of them is there.

        Args:
            labels: (z, y, x), axial slices from inferior to superior, y to posterior, x to left.
            around: Labels of the segments of `around`.
            first: Middle (z, y, x) of the first voxel in mm from that of the stack.
            spacing: Of the labels along (z, y, x) in mm.
        """
        there = np.zeros(labels.shape, bool)
        for label in around:
            there |= largest_component(labels == label)
        return self.enclosing(there, first, spacing)

    def enclosing(self, there: np.ndarray, first: Sequence[float], spacing: Sequence[float]) -> OrganBox | None:
        """The box around all that is `there`, (z, y, x) bool; the rest as for `box`."""
        if not there.any():
            return None
        low, high = [], []
        for axis in range(3):
            begin, end = extent(there, axis)
            before, after = self.margins[2 * axis : 2 * axis + 2]
            low.append(first[axis] + (begin - 0.5) * spacing[axis] - before)
            high.append(first[axis] + (end + 0.5) * spacing[axis] + after)
        if any(b - a < SMALLEST_MM for a, b in zip(low, high, strict=True)):
            return None
        return OrganBox((low[0], low[1], low[2]), (high[0], high[1], high[2]))

    def is_air(self, plane: np.ndarray) -> np.ndarray:
        """Where a slice (y, x) shows air: regions below the grey window, not the single dark pixels of noisy fat."""
        return ndimage.binary_opening(plane <= self.grey_window[0] + 0.5, np.ones((3, 3)))

    def seen(self, grey: Tensor, air: Tensor) -> Tensor:
        """What the network sees of grey values (...) from 0 to 1 in the grey window, where `air` (...) is True."""
        low, high = self.grey_window
        return torch.where(air, self.air, low + grey * (high - low)) / HU_RANGE + 1

    def channels(self, stack: SliceStack, box: OrganBox, side: int, done: Done = lambda _share: None) -> Tensor:
        """What the network sees of a box, (1, D, H, W) float32: D to the patient's left, H to anterior, W to inferior.

        Args:
            stack: Axial slices.
            box: In it; what lies outside of the image is as at its edge.
            side: Voxels along each axis.
            done: Told after each slice.
        """
        spacings = (stack.slice_spacing, *stack.spacing)
        axes = zip(stack.array.shape, spacings, box.spacing(side), box.first(side), strict=True)
        along, rows, columns = (torch.from_numpy(_inside(n, own, side, step, first)) for n, own, step, first in axes)
        low, high = self.grey_window
        seen = torch.zeros(side, side, side)
        used = torch.nonzero(along.any(0))[:, 0].tolist()
        for n, k in enumerate(used, start=1):
            plane = stack.array[k].astype(np.float32, order="C")
            grey = torch.from_numpy((np.clip(plane, low, high) - low) / (high - low))
            plane = self.seen(grey, torch.from_numpy(self.is_air(plane)))
            into = torch.nonzero(along[:, k])[:, 0]
            seen[into] += along[into, k, None, None] * (rows @ plane @ columns.T)
            done(n / len(used))
        return to_left_anterior_inferior(seen)[None].contiguous()


def extent(there: np.ndarray, axis: int) -> tuple[int, int]:
    """The first and last index along an axis at which anything is there."""
    places = np.flatnonzero(there.any(tuple(n for n in range(there.ndim) if n != axis)))
    return int(places[0]), int(places[-1])


def _inside(count: int, own: float, side: int, step: float, first: float) -> np.ndarray:
    """Linear interpolation along one axis of an image of `count` samples, which goes on as at its edge beyond."""
    place = np.clip(first + np.arange(side) * step, 0.0, (count - 1) * own) / own
    below = np.minimum(place.astype(int), max(0, count - 2))
    matrix = np.zeros((side, count), np.float32)
    matrix[np.arange(side), below] = 1 - (place - below)
    if count > 1:
        matrix[np.arange(side), below + 1] = place - below
    return matrix


def to_left_anterior_inferior(values: Tensor) -> Tensor:
    """(..., z, y, x) to superior, posterior and left as (..., x, y, z) to left, anterior and inferior."""
    return values.flip(-3, -2).transpose(-3, -1)


def to_superior_posterior_left(values: Tensor) -> Tensor:
    """The inverse of `to_left_anterior_inferior`."""
    return values.transpose(-3, -1).flip(-3, -2)
