"""Places along a line that are evenly spaced: those of the slices of a stack along their normal."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

UNEVEN = 0.1
"""Share of the distance between slices by which they may be off: no slice is missing there."""

PLACE_ROUNDING_MM = 0.1
"""Positions that are written with one decimal are off by less."""

SAME_SLICE_MM = 0.3
"""Slices closer than this along their normal show the same."""

LEAST_STEP_MM = 0.2
"""No slices are closer."""

FAR_STEPS = 4
"""Slices that are further apart, in distances between slices, are of different stacks."""

_ORIGINS, _STEPS = 40, 12
"""So many are tried, which is all of them for a heart and enough for the many of a CT."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """Even places, and who lies on them.

    Attributes:
        origin: Where number 0 lies, mm.
        step: Millimetres from one to the next.
        numbers: Of each place that was given, from 0; None for those that lie on none.
    """

    origin: float
    step: float
    numbers: tuple[int | None, ...]

    @property
    def missing(self) -> list[int]:
        """Numbers between the first and the last on which nobody lies."""
        there = {number for number in self.numbers if number is not None}
        return [number for number in range(max(there) + 1) if number not in there]


def find_lattice(heights: np.ndarray) -> Lattice:
    """The even places that most heights lie on, within a tenth of their distance, with the fewest gaps.

    Args:
        heights: Millimetres along the normal, (n,); some may be there several times.
    """
    heights = np.asarray(heights, float)
    places = _distinct(heights)
    if len(places) == 1:
        return Lattice(float(places[0]), 0.0, (0,) * len(heights))
    best: tuple[float, float, np.ndarray] | None = None
    origins = places[:: max(1, len(places) // _ORIGINS)]
    for step in _steps(places):
        for origin in origins:
            numbers = np.round((places - origin) / step)
            near = np.abs(places - origin - numbers * step) <= UNEVEN * step + PLACE_ROUNDING_MM / 2
            run = _longest_run(numbers[near])
            score = len(run) - 0.5 * (run[-1] - run[0] + 1 - len(run))
            if best is None or score > best[0] + 1e-9:
                taken = near & (numbers >= run[0]) & (numbers <= run[-1])
                best = score, step, np.where(taken, numbers - run[0], np.nan)
    _, step, numbers = best
    on = ~np.isnan(numbers)
    if len(set(numbers[on])) > 1:
        step, origin = np.polyfit(numbers[on], places[on], 1)
    else:
        origin = float(places[on][0])
    of_all = np.round((heights - origin) / step)
    off = np.abs(heights - origin - of_all * step) > UNEVEN * step + PLACE_ROUNDING_MM
    outside = (of_all < 0) | (of_all > np.nanmax(numbers))
    return Lattice(
        float(origin),
        float(step),
        tuple(None if bad else int(n) for n, bad in zip(of_all, off | outside, strict=True)),
    )


def _distinct(heights: np.ndarray) -> np.ndarray:
    """The places of the slices, each once."""
    ordered = np.sort(heights)
    groups = np.split(ordered, np.flatnonzero(np.diff(ordered) > min(SAME_SLICE_MM, _smallest(ordered) / 2)) + 1)
    return np.array([group.mean() for group in groups])


def _smallest(ordered: np.ndarray) -> float:
    """The smallest distance that slices may have, so that thin ones are kept apart."""
    gaps = np.diff(ordered)
    gaps = gaps[gaps > LEAST_STEP_MM]
    return float(np.median(gaps)) if gaps.size else SAME_SLICE_MM


def _steps(places: np.ndarray) -> list[float]:
    """Distances between slices that are likely: the mean, which rounding does not change, then the most common."""
    gaps = np.diff(places)
    both = np.concatenate([gaps, gaps[1:] + gaps[:-1]]) if len(gaps) < _ORIGINS else gaps
    both = both[both >= LEAST_STEP_MM]
    common = Counter(np.round(both, 1).tolist()).most_common(_STEPS)
    return [float(gaps.mean()), *(float(np.median(both[np.abs(both - value) <= 0.06])) for value, _ in common)]


def _longest_run(numbers: np.ndarray) -> np.ndarray:
    """The numbers, each once, from the longest piece without a wide gap."""
    there = np.unique(numbers)
    runs = np.split(there, np.flatnonzero(np.diff(there) >= FAR_STEPS) + 1)
    return max(runs, key=len)
