"""From samples to how far a number can be trusted: intervals that hold nine in ten experts' values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dinsegment.images.samples import Samples
from dinsegment.images.segmentation import Segmentation
from dinsegment.measurements.function import Beat, Ventricle
from dinsegment.measurements.heart import heart_measurements
from dinsegment.measurements.measurement import Measurement

if TYPE_CHECKING:  # It takes pydicom, which results of other images do without.
    from dinsegment.measurements.study import StudyMeasurements

NORMAL_90 = 1.645
"""Standard deviations to either side that hold 90 % of a normal distribution: what is taken until patients say more."""


@dataclass(frozen=True)
class Interval:
    """A number and where nine in ten experts' values lie, as far as the samples tell.

    Attributes:
        measurement: The number.
        low: In its unit; not below 0 where the number is not.
        high: In its unit.
    """

    measurement: Measurement
    low: float
    high: float

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return {"key": self.measurement.key, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Intervals:
    """The intervals of a study.

    Attributes:
        intervals: One for each number that the samples tell something of.
        draws: How many samples there were.
        model: Which model drew them.
        calibrated: Whether patients were looked at for how wide intervals of so many samples have to be.
        looked_at: How many samples there were of each of those patients; 0 where there were no patients.
    """

    intervals: tuple[Interval, ...]
    draws: int
    model: str
    calibrated: bool
    looked_at: int = 0

    @property
    def remark(self) -> str:
        """What is to be known of them, a sentence."""
        if self.calibrated:
            return f"From {self.draws} samples; on validation patients such intervals held 90 % of the experts' values."
        if self.looked_at:
            return (
                f"From {self.draws} samples; of {self.looked_at}, such intervals held 90 % of the experts' values on "
                "validation patients, and of fewer nobody has looked."
            )
        return f"From {self.draws} samples; no patients have been looked at for how often such intervals are right."

    def of(self, key: str) -> Interval | None:
        """That of a measurement's key; None if there is none."""
        return next((one for one in self.intervals if one.measurement.key == key), None)

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return {
            "draws": self.draws,
            "model": self.model,
            "calibrated": self.calibrated,
            "probability": 0.9,
            "remark": self.remark,
            "intervals": [one.to_dict() for one in self.intervals],
        }


def intervals_of(phases: Sequence[Segmentation], measured: StudyMeasurements) -> Intervals | None:
    """The intervals of what a study measures; None where nobody has drawn samples.

    Of a beating heart they are those of the left ventricle's end diastole and end systole, at which each draw is
    measured as the result is.

    Args:
        phases: As `measure_study` takes them.
        measured: What it gives.
    """
    sampled = next((phase.samples for phase in phases if phase.samples is not None), None)
    if sampled is None:
        return None
    if measured.function is not None:
        ends = measured.function.end_diastole, measured.function.end_systole
        drawn = _of_beat(phases, ends, measured)
    else:
        drawn = _of_image(phases[0])
    values = {m.key: m for m in measured.measurements}
    found = (_interval(values.get(key), np.array(draws), sampled) for key, draws in drawn.items())
    looked_at = sampled.looked_at if sampled.scales else 0
    calibrated = bool(sampled.scales) and sampled.draws >= looked_at
    return Intervals(tuple(filter(None, found)), sampled.draws, sampled.model, calibrated, looked_at)


def _interval(measurement: Measurement | None, draws: np.ndarray, samples: Samples) -> Interval | None:
    """About the measured value; None where it is not measured, or its unit has not been looked at where others have."""
    if measurement is None or measurement.value is None or len(draws) < samples.draws:
        return None
    scale = samples.scales.get(measurement.definition.unit) if samples.scales else NORMAL_90
    if scale is None:
        return None
    half = scale * math.hypot(float(draws.std(ddof=1)), samples.floors.get(measurement.definition.unit, 0.0))
    low, high = measurement.value - half, measurement.value + half
    return Interval(measurement, max(0.0, low) if measurement.value >= 0 else low, high)


def _of_beat(
    phases: Sequence[Segmentation], ends: tuple[int, int], measured: StudyMeasurements
) -> dict[str, list[float]]:
    """The values of each draw, by their keys, from the volumes at end diastole and end systole."""
    task = phases[0].task
    samples = [phases[n].samples for n in ends]
    drawn: dict[str, list[float]] = {}
    if None in samples:
        return drawn
    for number in range(samples[0].draws):
        ml = [list(one.volumes_ml[number]) for one in samples]
        cavity, muscle = ([v[label - 1] for v in ml] for label in (task.chamber, task.muscle))
        right = None
        if measured.right is not None and task.right_chamber is not None:
            right = Ventricle([v[task.right_chamber - 1] for v in ml], name=measured.right.name)
        beat = Beat(cavity, muscle)
        found = heart_measurements(task, beat, right, measured.patient, formula=measured.surface_formula)
        for one in found:
            if one.value is not None:
                drawn.setdefault(one.key, []).append(one.value)
    return drawn


def _of_image(phase: Segmentation) -> dict[str, list[float]]:
    """The volumes of each draw, by their keys."""
    if phase.samples is None:
        return {}
    by_segment = zip(phase.task.segments, phase.samples.volumes_ml.T, strict=True)
    return {Measurement("volume", 0.0, subject=s.name).key: list(map(float, ml)) for s, ml in by_segment}
