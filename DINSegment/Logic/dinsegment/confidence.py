"""How sure the network is of its own labels, from the probabilities that it has given anyway."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from dinsegment.finding import ras_of
from dinsegment.preprocessing import View
from dinsegment.slices import SliceStack
from dinsegment.volume import Volume


@dataclass(frozen=True, eq=False)
class Confidence:
    """How sure the network is, slice by slice of its own grid and segment by segment.

    Attributes:
        overlap: Dice that is to be expected if the probabilities are true, (slices, segments): twice the probability
            inside of the label over the label's area and the probability in the whole slice. Where passes over a slice
            and its mirror image disagree, the mean of both is low, and so is this.
        area_cm2: Area of the label, or that the probabilities add up to if it is larger, (slices, segments).
        place: Centre of what is doubtful, in mm in RAS, (slices, segments, 3).
    """

    overlap: np.ndarray
    area_cm2: np.ndarray
    place: np.ndarray


def confidence(probabilities: Tensor, labels: np.ndarray, view: View, stack: SliceStack, volume: Volume) -> Confidence:
    """How sure the network is of labels.

    Args:
        probabilities: (slices, classes, rows, columns) on the view's grid.
        labels: The labels in the end, (slices, y, x) on the stack's grid.
        view: Where the network looked.
        stack: What it looked at.
        volume: The image that the stack is of.
    """
    count, classes, rows, columns = probabilities.shape
    step = view.slice_spacing or stack.slice_spacing
    # The grid's slices lie evenly about the middle of the stack.
    first = 0.5 * ((len(stack.array) - 1) * stack.slice_spacing - (count - 1) * step)
    starts, steps = (first, *view.first), (step, view.spacing, view.spacing)
    spacings = (stack.slice_spacing, *stack.spacing)
    places = [
        (start + np.arange(n) * step) / spacing
        for start, n, step, spacing in zip(starts, (count, rows, columns), steps, spacings, strict=True)
    ]
    nearest = [np.clip(np.round(p).astype(int), 0, n - 1) for p, n in zip(places, stack.array.shape, strict=True)]
    inside = [(p > -0.5) & (p < n - 0.5) for p, n in zip(places[1:], stack.array.shape[1:], strict=True)]
    in_view = inside[0][:, None] & inside[1]

    overlap, area = np.ones((count, classes - 1)), np.zeros((count, classes - 1))
    doubtful = np.zeros((count, classes - 1, 3))
    pixel = view.spacing**2 / 100
    for n in range(count):  # one by one: a whole CT's masks would be as large as its probabilities
        here = labels[nearest[0][n]][np.ix_(nearest[1], nearest[2])] * in_view
        for label in range(1, classes):
            p = probabilities[n, label].numpy()
            mask = here == label
            labelled, expected = int(mask.sum()), float(p.sum())
            area[n, label - 1] = max(labelled, expected) * pixel
            if area[n, label - 1] < MIN_AREA_CM2:
                continue
            overlap[n, label - 1] = 2 * float(p[mask].sum()) / (labelled + expected)
            doubt = np.abs(mask - p)
            y, x = (float(doubt.sum(1 - axis) @ places[axis + 1] / doubt.sum()) for axis in (0, 1))
            doubtful[n, label - 1] = ras_of(volume, _volume_index(stack, (places[0][n], y, x)))
    return Confidence(overlap, area, doubtful)


MIN_AREA_CM2 = 0.5
"""A smaller cross-section tells nothing: Dice of a few pixels is low, however sure the network is."""


def _volume_index(stack: SliceStack, index: tuple[float, float, float]) -> np.ndarray:
    """A place on the stack (slice, y, x) in the axes (k, j, i) of the Volume's array."""
    on_axes = [n - 1 - i if f else i for i, n, f in zip(index, stack.array.shape, stack.flipped, strict=True)]
    if stack.transposed:
        on_axes[1], on_axes[2] = on_axes[2], on_axes[1]
    across = on_axes.pop(0)
    on_axes.insert(stack.axis, across)
    return np.array(on_axes)
