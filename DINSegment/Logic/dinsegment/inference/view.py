"""A rectangle of the slice plane on a grid of its own, and the way there and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from dinsegment.images.slices import SliceStack

AT_A_TIME = 16
"""Slices of a stack that are resampled at a time."""


ROUNDING = 1e-3
"""The sum of a pixel's probabilities differs from 1 by less than this."""


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
    """A rectangle of the slice plane, in every slice of a stack, on a grid of its own.

    Two views are equal if they are the same rectangle on the same grid, whatever stacks they are of.

    Attributes:
        stack: What is looked at.
        center: (y, x) in mm from the first pixel's centre of the stack.
        size: Pixels (rows, columns).
        spacing: In mm, the same along both.
        slice_spacing: Distance of the grid's slices in mm, which lie evenly about the middle of the stack; None for the
            stack's own slices.
    """

    stack: SliceStack = field(compare=False, repr=False)
    center: tuple[float, float]
    size: tuple[int, int]
    spacing: float
    slice_spacing: float | None = None

    def on(self, stack: SliceStack) -> View:
        """The same rectangle of another stack that has its slices and pixels in the same places."""
        return replace(self, stack=stack)

    @property
    def first(self) -> tuple[float, float]:
        """Place (y, x) of the first pixel in mm."""
        y, x = (c - 0.5 * (n - 1) * self.spacing for c, n in zip(self.center, self.size, strict=True))
        return y, x

    @property
    def count(self) -> int:
        """Number of the grid's slices: as many as cover the stack."""
        count = len(self.stack.array)
        if self.slice_spacing is None:
            return count
        return max(1, math.ceil(count * self.stack.slice_spacing / self.slice_spacing - 1e-6))

    @property
    def _along(self) -> tuple[float, float]:
        """Distance of two of the grid's slices, and place of the first in mm from the stack's first one."""
        step, own = self.slice_spacing or self.stack.slice_spacing, self.stack.slice_spacing
        return step, 0.5 * ((len(self.stack.array) - 1) * own - (self.count - 1) * step)

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where this grid's slices, rows and columns lie, each in voxels of the stack from its first one."""
        step, first = self._along
        starts, steps = (first, *self.first), (step, self.spacing, self.spacing)
        spacings = (self.stack.slice_spacing, *self.stack.spacing)
        slices, rows, columns = (
            (start + np.arange(n) * step) / spacing
            for start, n, step, spacing in zip(starts, (self.count, *self.size), steps, spacings, strict=True)
        )
        return slices, rows, columns

    @property
    def _matrices(self) -> tuple[Tensor, Tensor]:
        """What brings the stack's rows and columns to this grid's."""
        axes = zip(self.stack.array.shape[1:], self.stack.spacing, self.size, self.first, strict=True)
        y, x = (resampling_matrix(n_in, s_in, n, self.spacing, first) for n_in, s_in, n, first in axes)
        return torch.from_numpy(y), torch.from_numpy(x)

    @property
    def _inverse_matrices(self) -> tuple[Tensor, Tensor]:
        """What brings this grid's rows and columns to the stack's."""
        axes = zip(self.stack.array.shape[1:], self.stack.spacing, self.size, self.first, strict=True)
        y, x = (resampling_matrix(n, self.spacing, n_out, s_out, -first) for n_out, s_out, n, first in axes)
        return torch.from_numpy(y), torch.from_numpy(x)

    def sample(
        self,
        chosen: np.ndarray | None = None,
        clip: tuple[float, float] | None = None,
        ask: Callable[[], None] = lambda: None,
    ) -> tuple[Tensor, Tensor]:
        """The stack on this grid.

        Args:
            chosen: Slices of this grid that are wanted; None for all of them.
            clip: Grey values (low, high) at which the stack's are clipped; None for none.
            ask: Called every few slices; it may raise Cancelled, which then ends this.

        Returns:
            Slices (slices, rows, columns) float32, zero outside the stack's field of view, and the field of view
            (rows, columns), 1 inside and 0 outside.
        """
        stack, (y, x), (step, first) = self.stack, self._matrices, self._along
        inside = y.sum(1)[:, None] * x.sum(1)
        chosen = np.arange(self.count) if chosen is None else np.asarray(chosen)
        if self.slice_spacing is None:
            return self._in_plane(stack.array, chosen, clip, y, x, ask), inside
        along = resampling_matrix(len(stack.array), stack.slice_spacing, self.count, step, first)[chosen]
        used = np.flatnonzero(along.any(0))
        slices = self._in_plane(stack.array, used, clip, y, x, ask)
        return torch.tensordot(torch.from_numpy(along[:, used]), slices, 1), inside

    def _in_plane(
        self,
        array: np.ndarray,
        chosen: np.ndarray,
        clip: tuple[float, float] | None,
        y: Tensor,
        x: Tensor,
        ask: Callable[[], None],
    ) -> Tensor:
        """Chosen slices on this grid's rows and columns; a few at a time, so that a large CT is not copied."""
        out = torch.empty(len(chosen), *self.size)
        for start in range(0, len(chosen), AT_A_TIME):
            ask()
            part = np.array(array[chosen[start : start + AT_A_TIME]], np.float32, order="C")
            part = np.clip(part, *clip, out=part) if clip else part
            out[start : start + AT_A_TIME] = y @ torch.from_numpy(part) @ x.T
        return out

    def labels_back(self, probabilities: Iterable[Tensor]) -> Iterator[np.ndarray]:
        """Labels (y, x) uint8 of one slice of the stack after the other: where the probabilities become labels.

        The inverse of `sample`, and `decide`, slice by slice: the classes of a whole CT would not fit into memory.

        Only where a segment may win are probabilities brought back and decided on. Of n classes the winner has a
        probability of 1/n at least, and so it has in one of the pixels of this grid that are blended there.

        Args:
            probabilities: Of the segments (segments, rows, columns), of one slice of this grid after the other, on the
                CPU. They are asked for as they are needed, and no more than those that blend into a slice are held.
        """
        y, x = self._inverse_matrices
        for blended in self._along_back(probabilities):
            yield self._labels_of(blended, y, x)

    def values_back(self, values: Iterable[Tensor]) -> Iterator[Tensor]:
        """Values (channels, y, x) float32 of one slice of the stack after the other, 0 outside of this grid.

        Args:
            values: On this grid, (channels, rows, columns), of one slice after the other.
        """
        y, x = self._inverse_matrices
        for blended in self._along_back(values):
            yield y @ blended @ x.T

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

    def _along_back(self, values: Iterable[Tensor]) -> Iterator[Tensor]:
        """Slices of this grid, one after the other, blended to those of the stack, still on this grid's pixels."""
        if self.slice_spacing is None:
            yield from values
            return
        step, first = self._along
        along = resampling_matrix(self.count, step, len(self.stack.array), self.stack.slice_spacing, -first)
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
