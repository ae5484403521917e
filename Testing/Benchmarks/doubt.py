"""Fits what tells when a segment in a slice is to be corrected, and chooses from which probability on the user is told.

    python Testing/Benchmarks/doubt.py --data DIR FILE [--data DIR FILE] [--fit DIR FILE] [--estimator MODEL]
        [--model MODEL] [--task heart] [--write weights.json]

FILE names patients, one a line; nothing is fitted or chosen on test patients. Bad is a segment in a slice with Dice
below 0.7 and at least 1 cm2, as drawn or as the experts have it. Three steps:
    - the estimator (`quality.estimator`) is fitted on the patients of --fit, best on those that the model has not
      learned from; six times without a sixth of them, it shows what it is worth on these. Or it is that of another
      model (--estimator), with thresholds of its own, or the one the model has;
    - the thresholds, for a slice and for a segment's mean, are the lowest with which at most one in ten patients of
      --data, validation patients, has a false alarm, and at most one in ten of those of --fit, each held out. A false
      alarm is a finding whose slice to look at is not bad, of a segment whose Dice in the image is 0.7 or more;
    - what is told with it is counted, with the intervals of Clopper and Pearson, 95 %.
With --write the estimator is put into the model's entry there. Run it again when the models change.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.stats import binomtest

from dinsegment.inference.devices import choose_device
from dinsegment.inference.model import Model, load_model
from dinsegment.inference.plausible import checked_image
from dinsegment.inference.prediction import predict_with_confidence
from dinsegment.inference.runner import Runner
from dinsegment.quality.estimator import BAD, Curve, Estimator
from dinsegment.quality.facts import facts_of, known_facts
from dinsegment.tasks import Task, get_task
from dinsegment.training.cases import find_cases, read_split
from dinsegment.training.metrics import dice
from model_entry import PAIR, named, parser_of, write_part

LEAST_CM2 = 1.0
FALSE_ALARMS = 0.1
"""Share of patients that may have one."""

FOLDS = 6
SOFT = 0.05
"""How far from 0.7 a Dice is plainly on one side: slices near it count half as bad and half as good."""

KNOTS = (0.15, 0.5)
"""Quantiles of a fact at which its curve bends."""

PENALTY = 1.0


class Slice(NamedTuple):
    """A segment in a slice of at least 1 cm2.

    `drawn` and `expert` are areas in cm2, `seen` is that on the network's grid, which the estimator looks at; `whole`
    is the segment's Dice in the image; `facts` are those of `quality.facts`, in the order of their names, and None
    where it is not drawn.
    """

    patient: str
    case: str
    segment: int
    dice: float
    whole: float
    drawn: float
    expert: float
    seen: float
    facts: list[float] | None

    @property
    def bad(self) -> bool:
        return self.dice < BAD


@dataclass(frozen=True)
class Recorder(Estimator):
    """Stands where an estimator would, and only keeps the facts."""

    def look(self, labels, expected, totals, kept, task, pixel_cm2) -> tuple[np.ndarray, np.ndarray]:
        self.made["facts"] = facts_of(labels, expected, totals, kept, task)
        self.made["area"] = (labels[:, None] == np.arange(1, task.classes)[:, None, None]).sum((2, 3)) * pixel_cm2
        return np.zeros_like(expected), np.zeros(expected.shape, bool)


def slices_of(data: Path, split: Path, task: Task, model: Model, runner: Runner) -> list[Slice]:
    """Of all labelled images of these patients."""
    found = []
    for case in find_cases(data, read_split(split), task):
        volume, truth = case.read(task)
        recorder = Recorder({}, (0.0,) * (task.classes - 1), 1.0, made={})
        image = checked_image(volume, task)
        labels = predict_with_confidence(runner, model.preprocessing, image, task, recorder).labels
        axis = image.stack.axis
        facts = recorder.made.get("facts")
        if facts and len(next(iter(facts.values()))) != volume.shape[axis]:
            raise SystemExit("Only models that see the image's own slices can be looked at.")
        cm2 = float(np.prod(np.delete(volume.spacing, axis)) / 100)
        drawn, expert = (np.moveaxis(array, axis, 0) for array in (labels, truth))
        for segment in task.segments:
            whole = dice(drawn, expert, segment.label)
            for k in range(len(drawn)):
                areas = [float((array[k] == segment.label).sum() * cm2) for array in (drawn, expert)]
                if max(areas) < LEAST_CM2:
                    continue
                here = [float(facts[name][k, segment.label - 1]) for name in sorted(facts)] if facts else [math.nan]
                known = None if any(map(math.isnan, here)) else here
                seen = float(recorder.made["area"][k, segment.label - 1]) if facts else 0.0
                score = dice(drawn[k], expert[k], segment.label)
                found.append(Slice(case.patient, case.name, segment.label, score, whole, *areas, seen, known))
    return found


# --- fitting


class Design(NamedTuple):
    """What a regression is made on: the facts that count, and where their curves bend."""

    names: list[str]
    curves: list[Curve]
    segments: int

    @classmethod
    def of(cls, slices: Sequence[Slice], task: Task) -> Design:
        names = sorted(known_facts(task))
        values = np.array([one.facts for one in slices])
        none = ((0.0,) * (1 + len(KNOTS)),) * (task.classes - 1)
        limits = np.quantile(values, (0.005, 0.995), axis=0).T
        bends = np.quantile(np.clip(values, *limits.T), KNOTS, axis=0).T
        curves = [
            Curve(tuple(low_high), tuple(at), none)
            for low_high, at in zip(limits.tolist(), bends.tolist(), strict=True)
        ]
        return cls(names, curves, task.classes - 1)

    def matrix(self, slices: Sequence[Slice]) -> np.ndarray:
        """(slices, columns): the pieces of all curves, the same for each segment apart, and which segment it is."""
        values = np.array([one.facts for one in slices])
        pieces = np.concatenate([c.pieces(values[:, n]) for n, c in enumerate(self.curves)], 1)
        which = np.eye(self.segments)[[one.segment - 1 for one in slices]]
        return np.concatenate([pieces, *(pieces * which[:, [s]] for s in range(self.segments)), which], 1)

    def estimator(self, weights: np.ndarray, constant: float, made: dict[str, Any]) -> Estimator:
        """From the weights of the matrix's columns."""
        count, bends = len(self.curves), 1 + len(KNOTS)
        slopes = weights[: -self.segments].reshape(1 + self.segments, count, bends)
        slopes = slopes[0] + slopes[1:]
        curves = {
            name: replace(curve, slopes=tuple(tuple(map(_short, slopes[s, n])) for s in range(self.segments)))
            for n, (name, curve) in enumerate(zip(self.names, self.curves, strict=True))
        }
        constants = tuple(_short(constant + w) for w in weights[-self.segments :])
        return Estimator(curves, constants, 1.0, made=made)


def _short(number: float) -> float:
    return float(f"{number:.5g}")


def fit(slices: Sequence[Slice], task: Task, made: dict[str, Any]) -> Estimator:
    """Ridge logistic regression of whether Dice is below 0.7, with a soft edge there."""
    slices = [one for one in slices if one.facts is not None and one.seen >= Estimator.area_cm2]
    design = Design.of(slices, task)
    matrix = design.matrix(slices)
    mean, deviation = matrix.mean(0), matrix.std(0) + 1e-9
    ones = np.c_[(matrix - mean) / deviation, np.ones(len(matrix))]
    wanted = 1 / (1 + np.exp((np.array([one.dice for one in slices]) - BAD) / SOFT))

    def loss(b: np.ndarray) -> tuple[float, np.ndarray]:
        z = ones @ b
        value = (np.logaddexp(0, z) - wanted * z).sum() + 0.5 * PENALTY * (b[:-1] ** 2).sum()
        return value, ones.T @ (1 / (1 + np.exp(-z)) - wanted) + PENALTY * np.r_[b[:-1], 0.0]

    b = minimize(loss, np.zeros(ones.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 1000}).x
    weights = b[:-1] / deviation
    return design.estimator(weights, float(b[-1] - weights @ mean), made)


def scores_of(slices: Sequence[Slice], estimator: Estimator, task: Task) -> np.ndarray:
    """Probability that each is bad; 0 where nothing is said."""
    names, values = sorted(known_facts(task)), np.zeros(len(slices))
    for n, one in enumerate(slices):
        if one.facts is not None and one.seen >= estimator.area_cm2:
            facts = {name: np.full((1, task.classes - 1), value) for name, value in zip(names, one.facts, strict=True)}
            values[n] = estimator.probabilities(facts)[0, one.segment - 1]
    return values


def cross_validated(slices: Sequence[Slice], task: Task) -> np.ndarray:
    """Each patient's scores from an estimator that was fitted without them."""
    patients = sorted({one.patient for one in slices})
    fold = {patient: n % FOLDS for n, patient in enumerate(patients)}
    scores = np.zeros(len(slices))
    for number in range(FOLDS):
        without = [one for one in slices if fold[one.patient] != number]
        held_out = [n for n, one in enumerate(slices) if fold[one.patient] == number]
        scores[held_out] = scores_of([slices[n] for n in held_out], fit(without, task, {}), task)
    return scores


# --- choosing and counting


class Told(NamedTuple):
    """What the user is told: findings by case and segment with the slice to look at, and all slices that they name."""

    findings: dict[tuple[str, int], int]
    slices: list[int]

    @classmethod
    def by(cls, estimator: Estimator, slices: Sequence[Slice], scores: np.ndarray) -> Told:
        of_segment = defaultdict(list)
        for n, one in enumerate(slices):
            of_segment[one.case, one.segment].append(n)
        findings, named = {}, []
        for key, numbers in of_segment.items():
            area = np.array([slices[n].seen for n in numbers])
            area[area < estimator.area_cm2] = 0
            told = estimator.told_in(scores[numbers][:, None], area[:, None])[:, 0]
            if told.any():
                findings[key] = numbers[int(scores[numbers].argmax())]
                named += [n for n, is_told in zip(numbers, told, strict=True) if is_told]
        return cls(findings, named)


def false_patients(slices: Sequence[Slice], told: Told) -> set[str]:
    return {slices[n].patient for n in told.findings.values() if not slices[n].bad and slices[n].whole >= BAD}


def few_false(estimator: Estimator, groups: Sequence[tuple[Sequence[Slice], np.ndarray]]) -> bool:
    """Whether few enough patients have a false alarm, in each group of slices with their scores."""
    for slices, scores in groups:
        patients = len({one.patient for one in slices})
        if len(false_patients(slices, Told.by(estimator, slices, scores))) > FALSE_ALARMS * patients:
            return False
    return True


def choose(estimator: Estimator, groups: Sequence[tuple[Sequence[Slice], np.ndarray]]) -> Estimator:
    """With the lowest threshold for a slice, and then for a mean, that few patients have a false alarm with."""
    for name in ("told", "whole"):
        low, high = 50, 1000  # thousandths; whoever is told with a threshold is told with a lower one
        while low < high:
            middle = (low + high) // 2
            tried = replace(estimator, **{name: middle / 1000})
            low, high = (low, middle) if few_false(tried, groups) else (middle + 1, high)
        estimator = replace(estimator, **{name: low / 1000})
    return estimator


def share(count: int, of: int) -> str:
    """A count with its interval."""
    if not of:
        return "0 of 0"
    low, high = binomtest(count, of).proportion_ci(method="exact")
    return f"{count} of {of} ({100 * low:.0f} to {100 * high:.0f} %)"


def counts(estimator: Estimator, slices: Sequence[Slice], scores: np.ndarray, task: Task) -> dict[str, str]:
    """What an estimator tells, in words and counts."""
    told = Told.by(estimator, slices, scores)
    beyond = [n for n, o in enumerate(slices) if o.bad and o.segment == task.chamber and o.expert == 0]
    cases = {(o.case, o.segment): o.whole for o in slices}
    poor = [case for case, whole in cases.items() if whole < BAD]
    bad = [n for n, one in enumerate(slices) if one.bad]
    right = [n for n in told.slices if slices[n].bad]
    patients = {one.patient for one in slices}
    strict = {slices[n].patient for n in told.slices if not slices[n].bad}
    return {
        "bad, told": share(len(right), len(bad)),
        "bad and not drawn, so never told": share(sum(slices[n].drawn == 0 for n in bad), len(bad)),
        "chamber drawn where there is none, told": share(sum(n in set(right) for n in beyond), len(beyond)),
        "segments with Dice below 0.7 in the image, told": share(sum(c in told.findings for c in poor), len(poor)),
        "patients with a false alarm": share(len(false_patients(slices, told)), len(patients)),
        "patients with a slice told or named that is not bad": share(len(strict), len(patients)),
        "slices told or named that are bad": share(len(right), len(told.slices)),
    }


def show(title: str, counted: dict[str, str]) -> None:
    print(f"\n{title}")
    for what, count in counted.items():
        print(f"    {what}: {count}")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--fit", action="append", default=[], **PAIR)
    parser.add_argument("--estimator", metavar="MODEL", help="whose estimator is taken rather than fitted")
    options = parser.parse_args()
    task = get_task(options.task)
    model = load_model(options.model, task)
    runner = Runner(model.network, choose_device(options.device), context=model.context)

    def look(pairs: list[list[Path]]) -> list[Slice]:
        return [one for data, split in pairs for one in slices_of(data, split, task, model, runner)]

    command = "python Testing/Benchmarks/doubt.py"
    for name, pairs in (("data", options.data), ("fit", options.fit)):
        command += "".join(f" --{name} {data.name} {split.name}" for data, split in pairs)
    if options.fit:
        learned = look(options.fit)
        where = named(options.fit)
        people = len({one.patient for one in learned})
        estimator = fit(learned, task, {"fitted": f"{where}, {people} patients, with what '{model.name}' draws"})
        held_out = cross_validated(learned, task)
    else:
        source = load_model(options.estimator, task) if options.estimator else model
        if source.estimator is None:
            raise SystemExit(f"'{source.name}' has no estimator: give --fit, or --estimator with a model that has one.")
        estimator = source.estimator
    seen = look(options.data)
    scores = scores_of(seen, estimator, task)
    groups = [(seen, scores), *([(learned, held_out)] if options.fit else [])]
    estimator = choose(replace(estimator, told=2.0, whole=2.0), groups)
    thresholds = f"told from {estimator.told}, or from {estimator.whole} in the mean; named from {estimator.named}"
    print(thresholds)
    counted = counts(estimator, seen, scores, task)
    made = {"fitted": estimator.made["fitted"], "command": command, "validation": counted}
    if options.fit:
        made["held out of the fit"] = counts(estimator, learned, held_out, task)
        show("Fit, each patient held out", made["held out of the fit"])
    show("Validation", counted)
    if options.write:
        write_part(options.write, model.name, "estimator", replace(estimator, made=made).to_dict())


if __name__ == "__main__":
    main()
