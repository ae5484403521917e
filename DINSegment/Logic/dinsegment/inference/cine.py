"""The phases of a cine as one heart: where it lies, and probabilities that do not jump from one phase to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from dinsegment.images.volume import Volume
from dinsegment.inference.view import View, decide
from dinsegment.tasks import Task

FEWEST_PHASES = 18
"""Of fewer phases each is segmented by itself: five of them are too much of a beat for one parabola. The phantom's
smallest volume rises by 0.6 ml with 20 phases, by 1.0 and 1.3 ml with 16, by 1.9 ml with 13."""

FIT = (
    (31 / 35, 9 / 35, -3 / 35, -5 / 35, 3 / 35),
    (9 / 35, 13 / 35, 12 / 35, 6 / 35, -5 / 35),
    (-3 / 35, 12 / 35, 17 / 35, 12 / 35, -3 / 35),
    (-5 / 35, 6 / 35, 12 / 35, 13 / 35, 9 / 35),
    (3 / 35, -5 / 35, -3 / 35, 9 / 35, 31 / 35),
)
"""A parabola fitted to five values, at the first to the last of them (A. Savitzky, M. J. E. Golay, Analytical Chemistry
36(8):1627-1639, 1964). Unlike a mean or a median it leaves the largest and the smallest value of a curve in place."""

LEAST = 1e-3
"""Smaller probabilities count as this one: beyond it a network is certain, however certain it says that it is."""

CERTAIN = 0.98
"""Pixels in which one class has at least this probability in all phases stay as they are."""


def is_cine(volumes: Sequence[Volume], task: Task) -> bool:
    """Whether images are the phases of one beating heart, on one grid, and enough of them to be seen as one thing."""
    first = volumes[0]
    return (
        task.chamber is not None
        and len(volumes) >= FEWEST_PHASES
        and all(
            one.shape == first.shape
            and one.slice_axis == first.slice_axis
            and np.allclose(one.ijk_to_ras, first.ijk_to_ras, rtol=0, atol=1e-3)
            for one in volumes
        )
    )


def common_box(boxes: Sequence[View | None]) -> View | None:
    """The box of all phases, around the median of the places where each shows the heart; None if none shows it.

    It is that of the first phase that shows it; `View.on` gives it to another.
    """
    found = [box for box in boxes if box is not None]
    if not found:
        return None
    y, x = np.median([box.center for box in found], axis=0).tolist()
    return replace(found[0], center=(y, x))


def consistent(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities with each pixel's course over the beat smoothed: as log-probabilities, by `FIT`.

    Args:
        probabilities: Of the segments, (phases, slices, segments, rows, columns) float16, of one box.

    Returns:
        The same shape and type. Phases of a whole beat are a circle: given from another one on, they give the same,
        from that one on.
    """
    beside, weights = _neighbours(len(probabilities), _is_whole_beat(probabilities))
    weights = torch.from_numpy(weights)[..., None, None]
    smoothed = probabilities.copy()
    for k in range(probabilities.shape[1]):
        foreground = torch.from_numpy(probabilities[:, k]).float().flatten(2)
        every = torch.cat((1 - foreground.sum(1, keepdim=True), foreground), 1)
        moving = torch.nonzero(~(every >= CERTAIN).all(0).any(0))[:, 0]
        logits = every[:, :, moving].clamp(min=LEAST).log()
        # Always added up in the same order, which is that of time: from whatever phase a beat is given.
        course = sum(weights[:, n] * logits[beside[:, n]] for n in range(len(FIT)))
        foreground[:, :, moving] = course.softmax(1)[:, 1:]
        smoothed[:, k] = foreground.view(smoothed[:, k].shape).numpy()
    return smoothed


def _neighbours(phases: int, whole: bool) -> tuple[np.ndarray, np.ndarray]:
    """For each phase the five that a parabola is fitted to, and their weights, each (phases, 5).

    Of a whole beat that are the two before and the two after it; else at either end the outermost five.
    """
    middle = len(FIT) // 2
    first = np.arange(phases) - middle
    if whole:
        return (first[:, None] + np.arange(len(FIT))) % phases, np.tile(np.float32(FIT[middle]), (phases, 1))
    first = np.clip(first, 0, phases - len(FIT))
    return first[:, None] + np.arange(len(FIT)), np.float32(FIT)[np.arange(phases) - first]


def _is_whole_beat(probabilities: np.ndarray) -> bool:
    """Whether the first phase follows the last as others follow one another: what moves between them is not the most.

    With prospective gating the end of the beat is missing. What moves is counted in pixels whose label changes.
    """
    labels = [decide(torch.from_numpy(phase).float().movedim(1, 0)) for phase in probabilities]
    seam, *steps = (int((labels[n] != labels[n - 1]).sum()) for n in range(len(labels)))
    return seam <= max(steps)
