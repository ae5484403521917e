"""How likely a segment in a slice is to be corrected, estimated from the facts of `facts`; data that a model has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dinsegment.quality.facts import Probabilities, facts_of, known_facts
from dinsegment.tasks import Task

BAD = 0.7
"""A segment with less Dice in a slice is to be corrected."""


@dataclass(frozen=True)
class Curve:
    """What one fact adds: straight pieces that meet at knots.

    Attributes:
        limits: Values beyond these count as these.
        knots: Where the slope changes.
        slopes: Of each segment of the task: the first piece's, and by how much the slope changes at each knot.
    """

    limits: tuple[float, float]
    knots: tuple[float, ...]
    slopes: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        """Raises ValueError unless there is one slope more than knots."""
        if any(len(of_segment) != 1 + len(self.knots) for of_segment in self.slopes) or len(self.limits) != 2:
            raise ValueError("a curve has two limits and one slope more than knots")

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Curve:
        """From JSON."""
        low, high = map(float, entry["limits"])
        slopes = tuple(tuple(map(float, of_segment)) for of_segment in entry["slopes"])
        return cls((low, high), tuple(map(float, entry["knots"])), slopes)

    def pieces(self, values: np.ndarray) -> np.ndarray:
        """Values (...) as (..., slopes): themselves, and by how much they exceed each knot."""
        clipped = np.clip(values, *self.limits)
        return np.stack((clipped, *(np.maximum(0.0, clipped - knot) for knot in self.knots)), -1)

    def adds(self, values: np.ndarray) -> np.ndarray:
        """What it adds for values (slices, segments), in the same shape."""
        return (self.pieces(values) * np.array(self.slopes)).sum(-1)


@dataclass(frozen=True)
class Estimator:
    """Logistic regression on curves of facts; the numbers are fitted by Testing/Benchmarks/doubt.py.

    Attributes:
        curves: Of each fact that counts, by its name.
        constants: One for each segment of the task.
        told: From this probability in one slice on the user is told of a segment.
        whole: And from this mean over its area on.
        named: Slices from this probability on are named then.
        area_cm2: Of segments with less area in a slice nothing is said.
        made: Where it comes from: `fitted` on which data, `command`, and what it tells of which patients.
    """

    curves: Mapping[str, Curve]
    constants: tuple[float, ...]
    told: float
    whole: float = 1.0
    named: float = 0.5
    area_cm2: float = 1.0
    made: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any], task: Task) -> Estimator:
        """From JSON. Raises TypeError, KeyError or ValueError if it is none for that task."""
        curves = {name: Curve.from_dict(curve) for name, curve in entry["curves"].items()}
        if unknown := curves.keys() - known_facts(task):
            raise ValueError(f"there is no fact '{min(unknown)}'")
        others = {key: value for key, value in entry.items() if key not in ("curves", "constants")}
        return cls(curves, tuple(map(float, entry["constants"])), **others)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        curves = {
            name: {"limits": list(c.limits), "knots": list(c.knots), "slopes": [list(row) for row in c.slopes]}
            for name, c in self.curves.items()
        }
        limits = {name: getattr(self, name) for name in ("told", "whole", "named", "area_cm2")}
        return {**limits, "made": dict(self.made), "constants": list(self.constants), "curves": curves}

    def probabilities(self, facts: Mapping[str, np.ndarray]) -> np.ndarray:
        """That Dice is below `BAD`, (slices, segments) as the facts; 0 where a segment is not drawn."""
        total = np.array(self.constants) + sum(curve.adds(facts[name]) for name, curve in self.curves.items())
        return np.where(np.isnan(total), 0.0, 1 / (1 + np.exp(-np.nan_to_num(total))))

    def told_in(self, bad: np.ndarray, area_cm2: np.ndarray) -> np.ndarray:
        """Of which probabilities (slices, segments) the user is told, bool.

        A segment is told of where one slice or its mean over `area_cm2`, as `bad`, says so: in its worst slice, and in
        those that are more likely to be corrected than not.
        """
        mean = (bad * area_cm2).sum(0) / np.maximum(area_cm2.sum(0), 1e-9)
        segments = (bad >= self.told).any(0) | (mean >= self.whole)
        return segments & (bad > 0) & ((bad >= self.named) | (bad == bad.max(0)))

    def look(
        self,
        labels: np.ndarray,
        expected: np.ndarray,
        totals: np.ndarray,
        kept: Probabilities,
        task: Task,
        pixel_cm2: float,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities that segments are to be corrected, and of which the user is told, each (slices, segments).

        Args:
            labels: And what follows as `facts_of` takes it.
            expected: As there.
            totals: As there.
            kept: As there.
            task: As there.
            pixel_cm2: Area of a pixel in cm2.
        """
        area = (labels[:, None] == np.arange(1, task.classes)[:, None, None]).sum((2, 3)) * pixel_cm2
        area[area < self.area_cm2] = 0
        bad = np.where(area > 0, self.probabilities(facts_of(labels, expected, totals, kept, task)), 0.0)
        return bad, self.told_in(bad, area)
