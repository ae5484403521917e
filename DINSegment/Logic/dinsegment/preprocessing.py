"""From a Volume to the slices a network sees, and from what it says back to the Volume's grid.

Each step stands beside its inverse; the same `Preprocessing` serves training, evaluation and inference.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dinsegment.display import PERCENTILES
from dinsegment.enhancement import Enhancement, to_unit_interval
from dinsegment.slices import SliceStack

PATCH = 16
"""Sides of overviews are multiples of this many pixels, the stride of the coarsest level of `din-small`."""


def resampling_matrix(n_in: int, spacing_in: float, n_out: int, spacing_out: float, first_out: float) -> np.ndarray:
    """Linear interpolation along one axis, widened to an antialiasing triangle where it coarsens.

    Args:
        n_in: Samples that there are, at 0, spacing_in, 2 spacing_in, ... mm.
        spacing_in: In mm.
        n_out: Samples wanted, at first_out, first_out + spacing_out, ... mm.
        spacing_out: In mm.
        first_out: Place of the first wanted sample in mm.

    Returns:
        (n_out, n_in) float32. Rows sum to 1 inside the field of view, whose edge is half a sample beyond the outermost
        samples, and are zero outside.
    """
    place = first_out + np.arange(n_out) * spacing_out
    inside = (place >= -0.5 * spacing_in - 1e-6) & (place <= (n_in - 0.5) * spacing_in + 1e-6)
    nearest = np.clip(place, 0.0, (n_in - 1) * spacing_in)
    distance = np.abs(nearest[:, None] - np.arange(n_in) * spacing_in)
    weights = np.clip(1.0 - distance / max(spacing_in, spacing_out), 0.0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    return (weights * inside[:, None]).astype(np.float32)


@dataclass(frozen=True)
class View:
    """A rectangle of the slice plane on a grid of its own.

    Attributes:
        center: (y, x) in mm from the first pixel's centre of the stack.
        size: Pixels (rows, columns).
        spacing: In mm, the same along both.
    """

    center: tuple[float, float]
    size: tuple[int, int]
    spacing: float

    @property
    def first(self) -> tuple[float, float]:
        """Place (y, x) of the first pixel in mm."""
        y, x = (c - 0.5 * (n - 1) * self.spacing for c, n in zip(self.center, self.size, strict=True))
        return y, x

    def _matrices(self, stack: SliceStack) -> list[np.ndarray]:
        return [
            resampling_matrix(n_in, s_in, n, self.spacing, first)
            for n_in, s_in, n, first in zip(stack.array.shape[1:], stack.spacing, self.size, self.first, strict=True)
        ]

    def _inverse_matrices(self, stack: SliceStack) -> list[np.ndarray]:
        return [
            resampling_matrix(n, self.spacing, n_out, s_out, -first)
            for n_out, s_out, n, first in zip(stack.array.shape[1:], stack.spacing, self.size, self.first, strict=True)
        ]

    def sample(self, stack: SliceStack) -> tuple[Tensor, Tensor]:
        """The stack on this grid.

        Returns:
            Slices (slices, rows, columns) float32, zero outside the stack's field of view, and the field of view
            (rows, columns), 1 inside and 0 outside.
        """
        y, x = (torch.from_numpy(m) for m in self._matrices(stack))
        slices = torch.from_numpy(np.ascontiguousarray(stack.array))
        return y @ slices @ x.T, y.sum(1)[:, None] * x.sum(1)

    def place_back(self, values: Tensor, stack: SliceStack) -> Tensor:
        """(..., rows, columns) on this grid -> (..., y, x) on the stack's, zero outside: the inverse of `sample`."""
        y, x = (torch.from_numpy(m).to(values.device) for m in self._inverse_matrices(stack))
        return y @ values @ x.T


@dataclass(frozen=True, eq=False)
class Slices:
    """What the network sees of a stack.

    Attributes:
        image: (slices, rows, columns) in [-1, 1].
        enhanced: The same slices, enhanced.
        view: The grid that they lie on.
        shown: (inputs, channels) int64. Each input of the network is a slice in the middle channel with its neighbours
            around it; these are their places in `image`, and -1, black, beyond the ends of the stack.
    """

    image: Tensor
    enhanced: Tensor
    view: View
    shown: Tensor

    def __len__(self) -> int:
        return len(self.shown)

    def inputs(self, part: slice) -> tuple[Tensor, Tensor]:
        """Original and enhanced inputs of a batch, each (B, channels, rows, columns)."""
        shown = self.shown[part]
        return tuple(black_where(shown < 0, images[shown]) for images in (self.image, self.enhanced))


def black_where(missing: Tensor, images: Tensor) -> Tensor:
    """Images (..., rows, columns) with those that are `missing` (...) black, which is -1."""
    return torch.where(missing[..., None, None], -1.0, images) if missing.any() else images


def neighbourhoods(chosen: np.ndarray, count: int, channels: int) -> np.ndarray:
    """Each chosen slice with its neighbours, (chosen, channels) int64, -1 beyond the ends of a stack of `count`."""
    around = np.asarray(chosen)[:, None] + np.arange(channels) - channels // 2
    return np.where((around >= 0) & (around < count), around, -1)


@dataclass(frozen=True)
class Preprocessing:
    """How slices are prepared for one model; stands as JSON in weights.json.

    The anatomy is found first, on an overview of the whole field of view at coarse spacing; the box around it is then
    segmented at fine spacing. Grey values are normalised and enhanced inside what is looked at, so neither padding nor
    cropping of the field of view changes what the network sees of the heart.

    Attributes:
        spacing: In-plane spacing of the box in mm.
        box: Side of the box in pixels.
        overview_spacing: In-plane spacing of the overview in mm.
        percentiles: Grey values at these percentiles become -1 and 1; beyond them they are clipped.
        enhancement: What makes the second image.
        mirror: Whether each slice of the box is also shown mirrored and both answers are averaged, which takes twice
            the time. Only for a model that was trained with mirrored slices.
    """

    spacing: float = 1.5
    box: int = 112
    overview_spacing: float = 3.0
    percentiles: tuple[float, float] = PERCENTILES
    enhancement: Enhancement = field(default_factory=Enhancement)
    mirror: bool = False

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> Preprocessing:
        """From JSON."""
        options = dict(options)
        options["enhancement"] = Enhancement(**options.get("enhancement", {}))
        options["percentiles"] = tuple(options.get("percentiles", cls.percentiles))
        return cls(**options)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {**asdict(self), "percentiles": list(self.percentiles)}

    def overview(self, stack: SliceStack) -> View:
        """The whole field of view at coarse spacing, at least as large as a box."""
        extent = stack.extent_mm
        size = np.maximum(self.box, np.ceil(extent / self.overview_spacing / PATCH) * PATCH).astype(int)
        center = (extent - stack.spacing) / 2
        return View(_pair(center, float), _pair(size, int), self.overview_spacing)

    def box_around(self, center: tuple[float, float]) -> View:
        """The box around a place (y, x) in mm."""
        return View(center, (self.box, self.box), self.spacing)

    def window(self, slices: Tensor, inside: Tensor) -> tuple[float, float]:
        """Grey values (low, high) at the percentiles of all slices' pixels inside the field of view."""
        values = slices[:, inside > 0.5].numpy()
        low, high = np.percentile(values, self.percentiles) if values.size else (0.0, 1.0)
        return float(low), float(max(high, low + 1e-6 * max(abs(low), 1.0)))

    def slices(self, stack: SliceStack, view: View, channels: int = 1, chosen: np.ndarray | None = None) -> Slices:
        """What the network sees of the stack in a view. Outside the field of view it is black.

        Args:
            stack: The slices.
            view: Where to look.
            channels: Of the network: the slice and, for more than one, its neighbours.
            chosen: Slices that are wanted; None for all of them.
        """
        count = len(stack.array)
        around = neighbourhoods(np.arange(count) if chosen is None else chosen, count, channels)
        used = np.unique(around[around >= 0])
        shown = np.where(around >= 0, np.searchsorted(used, around), -1)
        raw, inside = view.sample(stack if len(used) == count else replace(stack, array=stack.array[used]))
        image = to_unit_interval(raw, *self.window(raw, inside))
        image = torch.where(inside > 0.5, image, -1.0)
        return Slices(image, self.enhancement(image), view, torch.from_numpy(shown))


def decide(foreground: Tensor) -> Tensor:
    """Labels (...) uint8 from the probabilities (segments, ...) of all segments; what is left to 1 is background.

    The same as argmax over all classes, but many times as fast along a leading axis on a CPU.
    """
    best = 1.0 - foreground.sum(0)
    labels = torch.zeros_like(best, dtype=torch.uint8)
    for label, probability in enumerate(foreground, start=1):
        labels[probability > best] = label
        best = torch.maximum(best, probability)
    return labels


def _pair(values: np.ndarray, kind: type) -> tuple[Any, Any]:
    return kind(values[0]), kind(values[1])
