"""From samples to how far a number can be trusted: intervals that hold nine in ten experts' values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dinsegment.images.samples import Samples
from dinsegment.images.segmentation import OTHER_IMAGE, Segmentation
from dinsegment.measurements.function import Beat, Ventricle
from dinsegment.measurements.heart import heart_measurements
from dinsegment.measurements.infarct import Damage
from dinsegment.measurements.measurement import Measurement
from dinsegment.tasks import Task

if TYPE_CHECKING:  # They take pydicom, which results of other images do without.
    from dinsegment.dicom.read.patient import Patient
    from dinsegment.measurements.study import StudyMeasurements

NORMAL_90 = 1.645
"""Standard deviations to either side that hold 90 % of a normal distribution: what is taken until patients say more."""

CORRECTED = "Samples are of the model: numbers of what a person has corrected have no interval."

OTHER = "the image does not look like what the network is made for"


@dataclass(frozen=True)
class Interval:
    """A number and where nine in ten experts' values lie, as far as the samples tell.

    Attributes:
        measurement: The number.
        low: In its unit; not below 0 where the number is not.
        high: In its unit; not above what the number can be.
    """

    measurement: Measurement
    low: float
    high: float

    @property
    def text(self) -> str:
        """As it is read beside the number, such as `131 to 155`."""
        return f"{self.measurement.written(self.low)} to {self.measurement.written(self.high)}"

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
        patients: How many patients there were; 0 where that is not known.
        corrected: Whether a number has none because a person has corrected what it is measured of.
        why_not: Why none has one, in words that follow a colon; empty where they may.
    """

    intervals: tuple[Interval, ...]
    draws: int
    model: str
    calibrated: bool
    looked_at: int = 0
    patients: int = 0
    corrected: bool = False
    why_not: str = ""

    @property
    def remark(self) -> str:
        """What is to be known of them, a sentence or two."""
        if self.why_not:
            return f"Numbers have no interval: {self.why_not}."
        on = f"on {self.patients} validation patients" if self.patients else "on validation patients"
        if self.calibrated:
            text = f"90 % intervals from {self.draws} samples, calibrated {on}: they held nine in ten experts' values."
        elif self.looked_at:
            text = (
                f"90 % intervals from {self.draws} samples; from {self.looked_at}, such intervals held nine in ten "
                f"experts' values {on}, and for fewer nobody has looked."
            )
        else:
            text = (
                f"90 % intervals from {self.draws} samples; no patients have been looked at for how often such "
                "intervals are right."
            )
        return f"{text} {CORRECTED}" if self.corrected else text

    def of(self, key: str) -> Interval | None:
        """That of a measurement's key; None if there is none."""
        return next((one for one in self.intervals if one.measurement.key == key), None)

    def beside(self, key: str) -> str:
        """What stands behind a number, such as ` (131 to 155)`; empty for nothing."""
        found = self.of(key)
        return "" if found is None else f" ({found.text})"

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return {
            "draws": self.draws,
            "model": self.model,
            "calibrated": self.calibrated,
            "patients": self.patients,
            "probability": 0.9,
            "remark": self.remark,
            "intervals": [one.to_dict() for one in self.intervals],
        }


def intervals_of(phases: Sequence[Segmentation], measured: StudyMeasurements) -> Intervals | None:
    """The intervals of what a study measures; None where nobody has drawn samples, or they tell nothing of it.

    Of a beating heart they are those of the left ventricle's end diastole and end systole, at which each draw is
    measured as the result is. Samples are of the model: a number of what a person has corrected has no interval, and of
    an image that is not like those of the patients that were looked at no number has one.

    Args:
        phases: As `measure_study` takes them.
        measured: What it gives.
    """
    sampled = next((phase.samples for phase in phases if phase.samples is not None), None)
    if sampled is None:
        return None
    if measured.function is not None:
        ends = [phases[n].samples for n in (measured.function.end_diastole, measured.function.end_systole)]
        if None in ends:
            return None
        right = measured.right is not None
        drawn = draws_of_beat(phases[0].task, *ends, right, measured.patient)
    else:
        drawn = draws_of_image(phases[0].task, phases[0].samples) if phases[0].samples is not None else {}

    def is_models_own(measurement: Measurement) -> bool:
        of = measurement.phases or (0,)
        return not any(phases[n].is_changed(label) for n in of for label in measurement.segments)

    other_image = any(finding.kind == OTHER_IMAGE for phase in phases for finding in phase.findings)
    return intervals_about(
        measured.measurements, drawn, sampled, is_models_own, why_not_like(measured.beat, other_image)
    )


def why_not_like(beat: Beat | None, other_image: bool) -> str:
    """Why an image is not like those of the patients that were looked at, in words that follow a colon; empty if it is.

    Args:
        beat: Of a beating heart; those patients' hearts were shown whole.
        other_image: Whether the image does not look like the task's.
    """
    if other_image:
        return OTHER
    return "" if beat is None else beat.left.why_not_shown() or beat.left.why_cut()


def intervals_about(
    measurements: Iterable[Measurement],
    drawn: Mapping[str, Sequence[float]],
    samples: Samples,
    is_models_own: Callable[[Measurement], bool] = lambda _measurement: True,
    why_not: str = "",
) -> Intervals | None:
    """The intervals of measured numbers; None where the draws tell nothing of any.

    Args:
        measurements: The numbers; one that is indexed has the interval of the number itself, divided likewise.
        drawn: The number of each draw, by its key, as `draws_of_beat` and `draws_of_image` give them.
        samples: The draws, which know how wide intervals have to be.
        is_models_own: Whether a number is measured of what the model has made: one of a correction has no interval.
        why_not: Why no number has one, from `why_not_like`; empty where they may.
    """
    if why_not:
        return Intervals((), samples.draws, samples.model, calibrated=False, why_not=why_not)
    found, corrected = [], False
    half: dict[tuple[str, str], tuple[float, float]] = {}  # With the number: of a subject and kind, without its index.
    for measurement in measurements:
        about = measurement.subject, measurement.kind
        if not measurement.index:
            reach = _reach(measurement, drawn.get(measurement.key, ()), samples)
            if reach is not None and not is_models_own(measurement):
                reach, corrected = None, True
            if reach is not None:
                half[about] = measurement.value, reach
        if measurement.value is None or about not in half:
            continue
        value, reach = half[about]
        if measurement.index:
            reach *= measurement.value / value if value else 0.0
        low, high, most = measurement.value - reach, measurement.value + reach, measurement.definition.most
        low = max(0.0, low) if measurement.value >= 0 else low
        found.append(Interval(measurement, low, high if most is None else min(most, high)))
    if not found and not corrected:
        return None
    looked_at = samples.looked_at if samples.scales else 0
    calibrated = bool(samples.scales) and samples.draws >= looked_at
    patients = samples.patients if samples.scales else 0
    return Intervals(tuple(found), samples.draws, samples.model, calibrated, looked_at, patients, corrected)


def _reach(measurement: Measurement, draws: Sequence[float], samples: Samples) -> float | None:
    """How far to either side; None where it is not measured, or has not been looked at where others have."""
    if measurement.value is None or len(draws) < samples.draws:
        return None
    chosen = samples.scale_and_floor(measurement.key, measurement.definition.unit) if samples.scales else (NORMAL_90, 0)
    if chosen is None:
        return None
    scale, floor = chosen
    return scale * math.hypot(float(np.std(draws, ddof=1)), floor)


def draws_of_beat(
    task: Task, end_diastole: Samples, end_systole: Samples, right: bool, patient: Patient
) -> dict[str, list[float]]:
    """The numbers of each draw, by their keys, from the volumes at end diastole and end systole.

    Args:
        task: What the segments are.
        end_diastole: Samples of the left ventricle's end diastole.
        end_systole: Of its end systole, from draws of the same numbers.
        right: Whether the right ventricle is measured, too.
        patient: As far as it is known.
    """
    drawn: dict[str, list[float]] = {}
    for ml in zip(end_diastole.volumes_ml, end_systole.volumes_ml, strict=True):
        cavity, muscle = ([float(v[label - 1]) for v in ml] for label in (task.chamber, task.muscle))
        other = None
        if right and task.right_chamber is not None:
            other = Ventricle([float(v[task.right_chamber - 1]) for v in ml], name="right ventricle")
        for one in heart_measurements(task, Beat(cavity, muscle), other, patient):
            if one.value is not None:
                drawn.setdefault(one.key, []).append(one.value)
    return drawn


def draws_of_image(task: Task, samples: Samples) -> dict[str, list[float]]:
    """The volumes of each draw and, of a task with a wall, how much of it is damaged in each, by their keys."""
    by_segment = zip(task.segments, samples.volumes_ml.T, strict=True)
    drawn = {Measurement("volume", 0.0, subject=s.name).key: list(map(float, ml)) for s, ml in by_segment}
    wall = task.wall
    for ml in samples.volumes_ml if wall is not None else ():
        damage = Damage(*(float(ml[label - 1]) for label in (wall.muscle, *wall.damaged)))
        for key, percent in damage.percents.items():
            if not math.isnan(percent):
                drawn.setdefault(key, []).append(percent)
    return drawn
