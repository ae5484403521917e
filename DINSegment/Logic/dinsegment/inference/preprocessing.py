"""From a Volume to the slices a network sees, and from what it says back to the Volume's grid.

Each step stands beside its inverse; the same `Preprocessing` serves training, evaluation and inference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dinsegment.enhancement.displayed import PERCENTILES
from dinsegment.enhancement.fuzzy import Enhancement, to_unit_interval
from dinsegment.images.slices import Plane, SliceStack
from dinsegment.images.volume import Volume
from dinsegment.inference.body import find_body

PATCH = 16
"""Sides of overviews are multiples of this many pixels, the stride of the coarsest level of `din-small`."""

AIR = 0.03
"""Share of a fixed window up to which a grey value is air: -113 HU of one from -125 to 275, where fat is brighter."""

AT_A_TIME = 16
"""Slices of a stack that are resampled at a time."""

ROUNDING = 1e-3
"""More than the probabilities of a pixel differ from 1 in sum."""


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
    """A rectangle of the slice plane, in every slice, on a grid of its own.

    Attributes:
        center: (y, x) in mm from the first pixel's centre of the stack.
        size: Pixels (rows, columns).
        spacing: In mm, the same along both.
        slice_spacing: Distance of the grid's slices in mm, which lie evenly about the middle of the stack; None for the
            stack's own slices.
    """

    center: tuple[float, float]
    size: tuple[int, int]
    spacing: float
    slice_spacing: float | None = None

    @property
    def first(self) -> tuple[float, float]:
        """Place (y, x) of the first pixel in mm."""
        y, x = (c - 0.5 * (n - 1) * self.spacing for c, n in zip(self.center, self.size, strict=True))
        return y, x

    def slices(self, stack: SliceStack) -> int:
        """Number of the grid's slices: as many as cover the stack."""
        count = len(stack.array)
        if self.slice_spacing is None:
            return count
        return max(1, math.ceil(count * stack.slice_spacing / self.slice_spacing - 1e-6))

    def _first_slice(self, stack: SliceStack) -> float:
        """Place of the grid's first slice in mm from the stack's first."""
        return 0.5 * ((len(stack.array) - 1) * stack.slice_spacing - (self.slices(stack) - 1) * self.slice_spacing)

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

    def sample(
        self,
        stack: SliceStack,
        chosen: np.ndarray | None = None,
        clip: tuple[float, float] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The stack on this grid.

        Args:
            stack: The slices.
            chosen: Slices of this grid that are wanted; None for all of them.
            clip: Grey values (low, high) at which the stack's are clipped; None for none.

        Returns:
            Slices (slices, rows, columns) float32, zero outside the stack's field of view, and the field of view
            (rows, columns), 1 inside and 0 outside.
        """
        y, x = (torch.from_numpy(m) for m in self._matrices(stack))
        inside = y.sum(1)[:, None] * x.sum(1)
        chosen = np.arange(self.slices(stack)) if chosen is None else np.asarray(chosen)
        if self.slice_spacing is None:
            return self._in_plane(stack.array, chosen, clip, y, x), inside
        steps = self.slice_spacing, self._first_slice(stack)
        along = resampling_matrix(len(stack.array), stack.slice_spacing, self.slices(stack), *steps)[chosen]
        used = np.flatnonzero(along.any(0))
        slices = self._in_plane(stack.array, used, clip, y, x)
        return torch.tensordot(torch.from_numpy(along[:, used]), slices, 1), inside

    def _in_plane(
        self, array: np.ndarray, chosen: np.ndarray, clip: tuple[float, float] | None, y: Tensor, x: Tensor
    ) -> Tensor:
        """Chosen slices on this grid's rows and columns; a few at a time, so that a large CT is not copied."""
        out = torch.empty(len(chosen), *self.size)
        for start in range(0, len(chosen), AT_A_TIME):
            part = np.array(array[chosen[start : start + AT_A_TIME]], np.float32, order="C")
            part = np.clip(part, *clip, out=part) if clip else part
            out[start : start + AT_A_TIME] = y @ torch.from_numpy(part) @ x.T
        return out

    def slices_back(self, values: Iterable[Tensor], stack: SliceStack) -> Iterator[Tensor]:
        """(..., rows, columns) of one slice of this grid after the other -> (..., y, x) of one of the stack's.

        The inverse of `sample`, zero outside this grid's rectangle. Slices come one by one: the classes of a whole CT
        would not fit into memory.
        """
        y, x = (torch.from_numpy(m) for m in self._inverse_matrices(stack))
        for blended in self._along_back(values, stack):
            yield y.to(blended.device) @ blended @ x.T.to(blended.device)

    def labels_back(self, probabilities: Iterable[Tensor], stack: SliceStack) -> Iterator[np.ndarray]:
        """Labels (y, x) uint8 of one slice of the stack after the other, as `decide` gives them of `slices_back`.

        Only where a segment may win are probabilities brought back and decided on. What wins has at least its share
        of 1 among all classes, and so has a pixel of this grid beside it.

        Args:
            probabilities: Of the segments (segments, rows, columns), of one slice of this grid after the other, on the
                CPU. They are asked for as they are needed, and no more than those that blend into a slice are held.
            stack: What is labelled.
        """
        y, x = (torch.from_numpy(m) for m in self._inverse_matrices(stack))
        for blended in self._along_back(probabilities, stack):
            yield self._labels_of(blended, y, x)

    def _labels_of(self, blended: Tensor, y: Tensor, x: Tensor) -> np.ndarray:
        """Labels of one slice, from probabilities on this grid's pixels and the matrices that bring them back."""
        labels = np.zeros((len(y), len(x)), np.uint8)
        likely = (blended > 1 / (1 + len(blended)) - ROUNDING).any(0)
        rows, columns = _touched(y, likely.any(1)), _touched(x, likely.any(0))
        y, x = y[rows], x[columns]
        from_rows, from_columns = _support(y), _support(x)
        foreground = y[:, from_rows] @ blended[:, from_rows, from_columns] @ x[:, from_columns].T
        labels[rows, columns] = decide(foreground).numpy()
        return labels

    def _along_back(self, values: Iterable[Tensor], stack: SliceStack) -> Iterator[Tensor]:
        """Slices of this grid, one after the other, blended to those of the stack, still on this grid's pixels."""
        if self.slice_spacing is None:
            yield from values
            return
        count, first = self.slices(stack), -self._first_slice(stack)
        along = resampling_matrix(count, self.slice_spacing, len(stack.array), stack.slice_spacing, first)
        coming, held = enumerate(values), {}
        for weights in along:
            used = np.flatnonzero(weights)
            while used[-1] not in held:
                n, value = next(coming)
                held[n] = value
            held = {n: value for n, value in held.items() if n >= used[0]}
            blend = torch.from_numpy(weights[used]).to(value)
            yield torch.tensordot(blend, torch.stack([held[n] for n in used]), 1)


def _support(matrix: Tensor) -> slice:
    """The columns of a matrix from the first to the last that is not zero."""
    return _span(matrix.any(0))


def _touched(matrix: Tensor, columns: Tensor) -> slice:
    """The rows of a matrix from the first to the last that the chosen columns have a share in."""
    return _span(matrix[:, columns].any(1))


def _span(chosen: Tensor) -> slice:
    places = torch.nonzero(chosen)
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


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

    What differs between images of one scanner's making and a standardised one is data here. A heart MR is taken in the
    slices it was acquired in, its anatomy is found by the network on an overview of the whole field of view, and grey
    values are normalised inside what is looked at, so neither padding nor cropping of the field of view changes what
    the network sees. A CT is taken in axial slices at a fixed distance around the patient's trunk, in a fixed window of
    Hounsfield units.

    Attributes:
        spacing: In-plane spacing of the box in mm.
        box: Sides (rows, columns) of the box in pixels, or one number for a square. Around a body that is larger, the
            box is larger.
        overview_spacing: In-plane spacing in mm of the overview that tells where the box lies.
        percentiles: Grey values at these percentiles become -1 and 1; beyond them they are clipped.
        enhancement: What makes the second image.
        mirror: Whether each slice of the box is also shown mirrored and both answers are averaged, which takes twice
            the time. Only for a model that was trained with mirrored slices.
        plane: Whether slices are looked at as they were `acquired`, or `axial` ones of the patient.
        slice_spacing: Distance in mm to which slices are resampled; None for the image's own.
        grey_window: Grey values that become -1 and 1 where they mean the same in every image, as Hounsfield units do;
            None where they do not, for `percentiles`.
        locate: What the box is centred on: the `anatomy`, as the network finds it on the overview, or the `body`.
    """

    spacing: float = 1.5
    box: tuple[int, int] = (112, 112)
    overview_spacing: float = 3.0
    percentiles: tuple[float, float] = PERCENTILES
    enhancement: Enhancement = field(default_factory=Enhancement)
    mirror: bool = False
    plane: Plane = "acquired"
    slice_spacing: float | None = None
    grey_window: tuple[float, float] | None = None
    locate: Literal["anatomy", "body"] = "anatomy"

    def __post_init__(self) -> None:
        """Raises ValueError if an option has no such value."""
        box = tuple(self.box) if isinstance(self.box, (tuple, list)) else (self.box, self.box)
        if len(box) != 2 or not all(isinstance(n, int) and n > 0 for n in box):
            raise ValueError(f"'box' of the preprocessing is {self.box}, not one or two numbers of pixels")
        object.__setattr__(self, "box", box)
        for name in ("spacing", "overview_spacing", "slice_spacing"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"'{name}' of the preprocessing is {value}, not a length above 0 mm")
        if self.grey_window is not None and not self.grey_window[0] < self.grey_window[1]:
            raise ValueError(
                f"'grey_window' of the preprocessing is {self.grey_window}, not a lower and a higher value"
            )
        for name, known in (("plane", ("acquired", "axial")), ("locate", ("anatomy", "body"))):
            if getattr(self, name) not in known:
                raise ValueError(f"'{name}' of the preprocessing is '{getattr(self, name)}', not one of {known}")
        if self.locate == "body" and self.grey_window is None:
            raise ValueError("the preprocessing finds a body by grey values that are known: give 'grey_window'")

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> Preprocessing:
        """From JSON."""
        options = dict(options)
        options["enhancement"] = Enhancement(**options.get("enhancement", {}))
        options["percentiles"] = tuple(options.get("percentiles", cls.percentiles))
        if options.get("grey_window") is not None:
            low, high = options["grey_window"]
            options["grey_window"] = float(low), float(high)
        return cls(**options)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def stack(self, volume: Volume) -> SliceStack:
        """The slices of a volume that are looked at."""
        return SliceStack.in_plane(volume, self.plane)

    def overview(self, stack: SliceStack) -> View:
        """The whole field of view at coarse spacing, at least as large as a box."""
        extent = stack.extent_mm
        size = np.maximum(self.box, np.ceil(extent / self.overview_spacing / PATCH) * PATCH).astype(int)
        center = (extent - stack.spacing) / 2
        return View(_pair(center, float), _pair(size, int), self.overview_spacing, self.slice_spacing)

    def box_around(self, center: tuple[float, float], size: tuple[int, int] | None = None) -> View:
        """The box around a place (y, x) in mm; of the usual size, or of another (rows, columns)."""
        return View(center, size or self.box, self.spacing, self.slice_spacing)

    def box_around_body(self, stack: SliceStack) -> View:
        """The box around the patient's trunk, which is found by the grey values alone; large enough for all of it."""
        if self.grey_window is None:
            raise ValueError("A body is found by grey values that are known: give 'grey_window'.")
        low, high = self.grey_window
        step = self.overview_spacing
        size = _pair(np.maximum(1, np.ceil(stack.extent_mm / step - 1e-6)), int)
        view = View(self.overview(stack).center, size, step, step)
        slices, inside = self.sample(stack, view)
        tissue = (slices > low + AIR * (high - low)) & (inside > 0.5)
        (y, x), extent = find_body(tissue.numpy(), (step, step, step))
        needed = np.ceil(np.array(extent) / self.spacing / PATCH) * PATCH
        return self.box_around((view.first[0] + y, view.first[1] + x), _pair(np.maximum(self.box, needed), int))

    def sample(self, stack: SliceStack, view: View, chosen: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """The stack in a view, as `View.sample` gives it.

        Grey values are clipped at a fixed window first: the air around a patient and metal inside would otherwise
        darken or brighten the pixels next to them, more so in a coarse image than in a fine one.
        """
        return view.sample(stack, chosen, self.grey_window)

    def window(self, slices: Tensor, inside: Tensor) -> tuple[float, float]:
        """Grey values (low, high) that become -1 and 1: the fixed ones, or those at the percentiles.

        Args:
            slices: (slices, rows, columns).
            inside: (rows, columns), above 0.5 inside the field of view, whose pixels count.
        """
        if self.grey_window is not None:
            return self.grey_window
        values = slices[:, inside > 0.5].numpy()
        low, high = np.percentile(values, self.percentiles) if values.size else (0.0, 1.0)
        return float(low), float(max(high, low + 1e-6 * max(abs(low), 1.0)))

    def window_in(self, stack: SliceStack, view: View) -> tuple[float, float]:
        """As `window`, of all slices in a view."""
        return self.grey_window or self.window(*self.sample(stack, view))

    def slices(
        self,
        stack: SliceStack,
        view: View,
        channels: int = 1,
        chosen: np.ndarray | None = None,
        window: tuple[float, float] | None = None,
    ) -> Slices:
        """What the network sees of the stack in a view. Outside the field of view it is black.

        Args:
            stack: The slices.
            view: Where to look.
            channels: Of the network: the slice and, for more than one, its neighbours.
            chosen: Slices of the view that are wanted; None for all of them.
            window: Grey values (low, high) that become -1 and 1; those that `window` finds in the slices if None.
        """
        count = view.slices(stack)
        around = neighbourhoods(np.arange(count) if chosen is None else chosen, count, channels)
        used = np.unique(around[around >= 0])
        shown = np.where(around >= 0, np.searchsorted(used, around), -1)
        raw, inside = self.sample(stack, view, used)
        image = to_unit_interval(raw, *(window or self.window(raw, inside)))
        image = torch.where(inside > 0.5, image, -1.0)
        return Slices(image, self.enhancement(image), view, torch.from_numpy(shown))


def decide(foreground: Tensor) -> Tensor:
    """Labels (...) uint8 from the probabilities (segments, ...) of all segments; what is left to 1 is background.

    The same as argmax over all classes, but many times as fast along a leading axis on a CPU.
    """
    best = 1.0 - foreground.sum(0)
    labels = torch.zeros_like(best, dtype=torch.uint8)
    for label, probability in enumerate(foreground, start=1):
        labels.masked_fill_(probability > best, label)
        best = torch.maximum(best, probability)
    return labels


def _pair(values: np.ndarray, kind: type) -> tuple[Any, Any]:
    return kind(values[0]), kind(values[1])
