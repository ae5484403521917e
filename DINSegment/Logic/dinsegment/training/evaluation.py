"""Evaluation of a model against experts' labels: overlap, distances and volumes per segment, function per heart."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

import dinsegment
from dinsegment.images.segmentation import Segmentation
from dinsegment.inference.devices import choose_device
from dinsegment.inference.model import Model
from dinsegment.inference.pipeline import segment
from dinsegment.measurements.function import MYOCARDIAL_DENSITY, CardiacFunction
from dinsegment.tasks import Task
from dinsegment.training.cases import Case
from dinsegment.training.failed import FailedCase
from dinsegment.training.figures import Picture, picture_of
from dinsegment.training.metrics import dice, surface_distances
from dinsegment.training.statistics import Agreement, PatientBootstrap, known_mean

WORST = 5
"""Cases of the lowest mean Dice that the report shows."""

FUNCTION = {
    "edv_ml": "end_diastolic_volume_ml",
    "esv_ml": "end_systolic_volume_ml",
    "sv_ml": "stroke_volume_ml",
    "ef": "ejection_fraction_percent",
    "mass_g": "myocardial_mass_g",
}
"""What of a heart's function is compared: name in metrics.json and patients.csv -> attribute of CardiacFunction."""


@dataclass(frozen=True)
class SegmentScores:
    """One segment of one case.

    Attributes:
        dice: 0..1; 1 where neither model nor expert has it.
        hd95_mm: 95th percentile Hausdorff distance; NaN where either is empty.
        asd_mm: Average symmetric surface distance; NaN where either is empty.
        model_ml: Volume that the model found.
        expert_ml: Volume that the expert outlined.
    """

    dice: float
    hd95_mm: float
    asd_mm: float
    model_ml: float
    expert_ml: float

    @property
    def difference_ml(self) -> float:
        """Model minus expert."""
        return self.model_ml - self.expert_ml


@dataclass(frozen=True)
class CaseScores:
    """One case; `segments` has the task's segments by their abbreviations, in the order of their labels."""

    case: str
    patient: str
    phase: str
    segments: dict[str, SegmentScores]
    seconds: float
    device: str
    warnings: tuple[str, ...] = ()

    @property
    def dice(self) -> float:
        """Mean over the segments."""
        return float(np.mean([s.dice for s in self.segments.values()]))


@dataclass(frozen=True)
class PatientFunction:
    """One heart's function, between the end diastole and the end systole that the data set names."""

    patient: str
    model: CardiacFunction
    expert: CardiacFunction

    def values(self, name: str) -> tuple[float, float]:
        """Model's and expert's value of an entry of FUNCTION."""
        return getattr(self.model, FUNCTION[name]), getattr(self.expert, FUNCTION[name])


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A model compared with experts on cases.

    Attributes:
        model: Its name.
        task: What was segmented.
        data: Name of the folder that holds all the cases.
        date: When it began, ISO 8601.
        cases: In the order they were given.
        patients: Those with a case at end diastole and one at end systole; none where nothing beats.
        worst: Pictures of the cases of the lowest mean Dice, the worst first.
        failed: Cases that could not be read or segmented; no number counts them.
    """

    model: str
    task: Task
    data: str
    date: str
    cases: tuple[CaseScores, ...]
    patients: tuple[PatientFunction, ...]
    worst: tuple[Picture, ...]
    failed: tuple[FailedCase, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Abbreviations of the segments."""
        return tuple(s.abbreviation for s in self.task.segments)

    def values(self, attribute: str) -> np.ndarray:
        """(cases, segments) of an attribute of SegmentScores."""
        return np.array([[getattr(c.segments[name], attribute) for name in self.names] for c in self.cases])

    def summary(self) -> dict[str, Any]:
        """What metrics.json holds; NaN where a number is not defined.

        `dice` (0..1), `hd95_mm`, `asd_mm` and `volume_mae_ml` (mean absolute difference of the volumes) have a mean
        over cases per segment, and `mean`, the mean of those. `ef_mae` (percentage points) and `mass_mae_g` are means
        over patients; `function` has mean absolute error, bias (model minus expert) and limits of agreement of all
        that FUNCTION lists. `phases` is `dice` per cardiac phase. `intervals` repeats these keys with 95 % intervals
        [low, high]: percentiles of 2000 bootstrap resamples of the patients. `empty` counts the cases in which only
        the model, only the expert, or neither has a segment: those have no distances.
        """
        phases = sorted({c.phase for c in self.cases} - {""})
        every = np.ones(len(self.cases), dtype=bool)
        of_phase = {phase: np.array([c.phase == phase for c in self.cases]) for phase in phases}
        scores = {
            "dice": self._means(self.values("dice"), every),
            "hd95_mm": self._means(self.values("hd95_mm"), every),
            "asd_mm": self._means(self.values("asd_mm"), every),
            "volume_mae_ml": self._means(np.abs(self.values("difference_ml")), every),
        }
        by_phase = {phase: self._means(self.values("dice")[chosen], chosen) for phase, chosen in of_phase.items()}
        function, errors = self._function()
        return {
            **{name: means for name, (means, _) in scores.items()},
            "phases": {phase: means for phase, (means, _) in by_phase.items()},
            "ef_mae": function["ef"]["mae"] if function else None,
            "mass_mae_g": function["mass_g"]["mae"] if function else None,
            "function": function,
            "intervals": {
                **{name: intervals for name, (_, intervals) in scores.items()},
                "phases": {phase: intervals for phase, (_, intervals) in by_phase.items()},
                "ef_mae": errors.get("ef"),
                "mass_mae_g": errors.get("mass_g"),
                "function": errors or None,
            },
            "empty": self._empty(),
            "model": self.model,
            "task": self.task.name,
            "data": self.data,
            "date": self.date,
            "device": ", ".join(sorted({c.device for c in self.cases})),
            "seconds_per_case": float(np.mean([c.seconds for c in self.cases])),
            "versions": _versions(),
            "cases": [self._case(c) for c in self.cases],
            "patients": [self._patient(p) for p in self.patients],
            "failed": [asdict(case) for case in self.failed],
        }

    def _means(self, values: np.ndarray, chosen: np.ndarray) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Means and intervals over the chosen cases, of each segment and of all.

        `mean` is the mean of the segments' means, so that a case without one segment counts with its others.
        """
        bootstrap = PatientBootstrap([c.patient for c, use in zip(self.cases, chosen, strict=True) if use])
        means, resampled = [known_mean(column) for column in values.T], bootstrap.means(values)
        # A resample that lacks a segment has no mean of all: it would be one of easier or harder segments.
        of_all = resampled[:, np.isfinite(means)] if np.isfinite(means).any() else resampled
        return (
            {"mean": known_mean(np.array(means)), **dict(zip(self.names, means, strict=True))},
            {
                "mean": list(bootstrap.interval(of_all.mean(axis=1))),
                **{n: list(bootstrap.interval(column)) for n, column in zip(self.names, resampled.T, strict=True)},
            },
        )

    def _function(self) -> tuple[dict[str, dict[str, float]] | None, dict[str, list[float]]]:
        """Errors of the hearts' function, and intervals of their mean absolute errors."""
        if not self.patients:
            return None, {}
        bootstrap = PatientBootstrap([p.patient for p in self.patients])
        function, intervals = {}, {}
        for name in FUNCTION:
            pairs = np.array([p.values(name) for p in self.patients])
            difference = pairs[:, 0] - pairs[:, 1]
            agreement = Agreement.of(difference)
            function[name] = {
                "mae": known_mean(np.abs(difference)),
                "bias": agreement.bias,
                "lower_limit": agreement.lower_limit,
                "upper_limit": agreement.upper_limit,
                "patients": agreement.count,
                "undefined": agreement.undefined,
            }
            intervals[name] = list(bootstrap.interval(bootstrap.means(np.abs(difference))))
        return function, intervals

    def _empty(self) -> dict[str, dict[str, int]]:
        has = {who: self.values(f"{who}_ml") > 0 for who in ("model", "expert")}
        counts = {
            "only_model": has["model"] & ~has["expert"],
            "only_expert": has["expert"] & ~has["model"],
            "neither": ~has["expert"] & ~has["model"],
        }
        return {
            name: {kind: int(found[:, n].sum()) for kind, found in counts.items()} for n, name in enumerate(self.names)
        }

    def _case(self, case: CaseScores) -> dict[str, Any]:
        def column(attribute: str) -> dict[str, float]:
            return {name: getattr(case.segments[name], attribute) for name in self.names}

        return {
            "case": case.case,
            "patient": case.patient,
            "phase": case.phase,
            "dice": {"mean": case.dice, **column("dice")},
            **{name: column(name) for name in ("hd95_mm", "asd_mm", "model_ml", "expert_ml")},
            "seconds": round(case.seconds, 3),
            "warnings": list(case.warnings),
        }

    def _patient(self, patient: PatientFunction) -> dict[str, Any]:
        return {
            "patient": patient.patient,
            **{n: dict(zip(("model", "expert"), patient.values(n), strict=True)) for n in FUNCTION},
        }


def evaluate(
    model: Model,
    task: Task,
    cases: Sequence[Case],
    device: str = "auto",
    progress: Callable[[int, Case], None] | None = None,
    on_case: Callable[[CaseScores], None] | None = None,
    on_failed: Callable[[FailedCase], None] | None = None,
) -> Evaluation:
    """Segments every case as a user would and compares with the experts at the images' own resolution.

    Images are read one after the other; of the worst cases a few cropped slices are kept.

    Args:
        model: With its weights and preprocessing.
        task: What it was trained for.
        cases: One at least.
        device: As `segment` takes it.
        progress: Called before each case with its number, counted from 0.
        on_case: Called with the scores of each case once they are known.
        on_failed: Called with each case that cannot be read or segmented, which is then left out. Without it, the
            first one ends the evaluation.

    Raises:
        InputError: An image or labelmap cannot be used, or there is no such device.
        ModelError: The model was made for another task.
    """
    if not cases:
        raise ValueError("There is no case to evaluate.")
    model.check_task(task)
    choose_device(device)
    date = datetime.now().astimezone().isoformat(timespec="seconds")
    done: list[CaseScores] = []
    worst: list[tuple[float, int, Picture]] = []
    failed: list[FailedCase] = []
    for number, case in enumerate(cases):
        if progress:
            progress(number, case)
        try:
            volume, truth = case.read(task)
            result = segment(volume, task, model, device)
            scores = score(case, result, truth)
        except Exception as error:
            if on_failed is None:
                raise
            failed.append(FailedCase.of(case, error))
            on_failed(failed[-1])
            continue
        done.append(scores)
        if len(worst) < WORST or scores.dice < worst[-1][0]:
            worst = sorted([*worst, (scores.dice, number, picture_of(case.name, result, truth))], key=lambda w: w[:2])
            del worst[WORST:]
        if on_case:
            on_case(scores)
    return Evaluation(
        model=model.name,
        task=task,
        data=Path(os.path.commonpath([str(c.image.absolute().parent) for c in cases])).name,
        date=date,
        cases=tuple(done),
        patients=tuple(heart_functions(done, task)),
        worst=tuple(picture for _, _, picture in worst),
        failed=tuple(failed),
    )


def score(case: Case, result: Segmentation, truth: np.ndarray) -> CaseScores:
    """One result against the expert's labels (k, j, i)."""
    task, volume = result.task, result.volume
    model, expert = (
        np.bincount(a.ravel(), minlength=task.classes) * volume.voxel_volume_ml for a in (result.labels, truth)
    )
    segments = {}
    for s in task.segments:
        hd95, asd = surface_distances(result.labels, truth, s.label, volume.spacing)
        segments[s.abbreviation] = SegmentScores(
            dice=dice(result.labels, truth, s.label),
            hd95_mm=hd95,
            asd_mm=asd,
            model_ml=float(model[s.label]),
            expert_ml=float(expert[s.label]),
        )
    return CaseScores(case.name, case.patient, case.phase, segments, result.seconds, result.device, result.warnings)


def heart_functions(cases: Sequence[CaseScores], task: Task) -> list[PatientFunction]:
    """Function of every patient with one case at end diastole and one at end systole, in the order of the cases."""
    if task.chamber is None or task.muscle is None:
        return []
    chamber, muscle = (task.segments[label - 1].abbreviation for label in (task.chamber, task.muscle))
    found = []
    for patient in dict.fromkeys(c.patient for c in cases):
        ed, es = ([c for c in cases if c.patient == patient and c.phase == phase] for phase in ("ED", "ES"))
        if len(ed) == len(es) == 1:
            both = (
                _function(
                    getattr(ed[0].segments[chamber], who),
                    getattr(es[0].segments[chamber], who),
                    getattr(ed[0].segments[muscle], who),
                )
                for who in ("model_ml", "expert_ml")
            )
            found.append(PatientFunction(patient, *both))
    return found


def _function(edv: float, esv: float, muscle: float) -> CardiacFunction:
    """Of phases that are known to be end diastole and end systole, even if the cavity is smaller in the former.

    The ejection fraction is NaN without a cavity at end diastole.
    """
    return CardiacFunction(
        end_diastole=0,
        end_systole=1,
        end_diastolic_volume_ml=edv,
        end_systolic_volume_ml=esv,
        stroke_volume_ml=edv - esv,
        ejection_fraction_percent=100 * (edv - esv) / edv if edv else math.nan,
        myocardial_mass_g=muscle * MYOCARDIAL_DENSITY,
    )


def _versions() -> dict[str, str]:
    import platform

    import monai
    import torch

    modules = {"dinsegment": dinsegment, "torch": torch, "monai": monai, "numpy": np}
    return {"python": platform.python_version(), **{name: str(m.__version__) for name, m in modules.items()}}
