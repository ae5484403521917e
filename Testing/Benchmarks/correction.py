"""A simulated user corrects the worst slices with the experts' labels: how much better become those not touched?

    python Testing/Benchmarks/correction.py --task abdomen --data btcv --split btcv-validation.txt --json OUT/a.json
    python Testing/Benchmarks/correction.py --task heart --data acdc --split acdc/split-val.txt --phase ES
    python Testing/Benchmarks/correction.py --show OUT/a.json OUT/h.json --png OUT/correction.png

The user corrects the slice with the most wrong voxels, looks at what has become of the others, corrects the worst of
these, and so on. After 1, 2, 3 and 5 corrected slices the Dice of each segment is taken over all slices that were not
touched, and its mean over the segments that are there. Beside it stands the Dice of the same slices without learning.
`--walker` compares with a random walker (scikit-image) on the image alone, which draws the labels of the corrected
slices on through the box that the network looks at. Weights were chosen on validation patients, and so was how is
learned: test patients are for one run at the end.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import simulated_user as user
from dinsegment.correction.learn import Options
from dinsegment.tasks import Task, get_task

AFTER = (1, 2, 3, 5)
"""Corrected slices."""


@dataclass(frozen=True)
class Round:
    """After so many corrected slices.

    Attributes:
        touched: Which they are.
        before: Dice of each segment over the others without learning; NaN where neither has it.
        after: The same with learning.
        seconds: That learning and predicting took, without looking at the image.
        applied: Whether other slices were changed.
        walker: Dice with a random walker; empty where it was not run.
    """

    touched: tuple[int, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    seconds: float
    applied: bool
    walker: tuple[float, ...] = ()


def dice(labels: np.ndarray, truth: np.ndarray, task: Task) -> tuple[float, ...]:
    """Of each segment; NaN where neither has it."""
    found = []
    for segment in task.segments:
        a, b = labels == segment.label, truth == segment.label
        total = int(a.sum()) + int(b.sum())
        found.append(2 * int((a & b).sum()) / total if total else float("nan"))
    return tuple(found)


def simulate(patient: user.Patient, walker: bool, options: Options | None = None) -> list[Round]:
    """What a user would see who corrects the worst slice, and then the worst of the others, and so on.

    Args:
        patient: Whose image it is.
        walker: Whether a random walker draws on from the corrected slices, too.
        options: How is learned; the task's if None.
    """
    expert, task = patient.expert, patient.task
    current, touched, rounds = patient.made, [], []
    for count in range(1, max(AFTER) + 1):
        errors = (current != expert).sum((1, 2))
        errors[touched] = -1
        touched.append(int(errors.argmax()))
        given = current.copy()
        given[touched] = expert[touched]
        started = time.process_time()
        result = patient.correct(given, touched, options)
        seconds = time.process_time() - started
        current = patient.on_stack(result)
        if count in AFTER:
            others = np.setdiff1d(np.arange(len(expert)), touched)
            before, after = (dice(labels[others], expert[others], task) for labels in (patient.made, current))
            drawn = dice(patient.walk(given, touched)[others], expert[others], task) if walker else ()
            rounds.append(Round(tuple(patient.numbers(touched)), before, after, seconds, result.applied, drawn))
    return rounds


def mean(values: tuple[float, ...]) -> float:
    """Over the segments that are there."""
    return float(np.nanmean(values))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All cases of a split."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, patient in user.patients(options):
        rounds = simulate(patient, options.walker)
        found[name] = [vars(one) for one in rounds]
        gains = ", ".join(f"{mean(one.after) - mean(one.before):+.4f}" for one in rounds)
        print(f"{name}: {mean(rounds[0].before):.4f}; {gains}", flush=True)
    segments = [segment.abbreviation for segment in get_task(options.task).segments]
    return {**user.what(options), "segments": segments, "cases": found}


def table(result: dict[str, Any]) -> str:
    """Mean Dice over the slices that were not touched, as the documentation has it."""
    cases = list(result["cases"].values())
    has_walker = any(one["walker"] for rounds in cases for one in rounds)
    lines = [
        f"{user.title(result)}, {result['split']}, {result['model']}, {len(cases)} cases",
        "| corrected slices | " + " | ".join(str(n) for n in AFTER) + " |",
        "|---|" + "---|" * len(AFTER),
    ]

    def row(name: str, value) -> None:
        lines.append(f"| {name} | " + " | ".join(value(n) for n in range(len(AFTER))) + " |")

    def of(n: int, key: str) -> np.ndarray:
        return np.array([mean(rounds[n][key]) for rounds in cases])

    row("without learning", lambda n: f"{of(n, 'before').mean():.4f}")
    row("with", lambda n: f"{of(n, 'after').mean():.4f}")
    row("gain", lambda n: f"{(of(n, 'after') - of(n, 'before')).mean():+.4f}")
    row("least, most", lambda n: "{:+.3f}, {:+.3f}".format(*np.quantile(of(n, "after") - of(n, "before"), (0, 1))))
    row("worse by more than 0.01", lambda n: f"{int((of(n, 'after') - of(n, 'before') < -0.01).sum())} of {len(cases)}")
    row("left alone", lambda n: f"{sum(not rounds[n]['applied'] for rounds in cases)}")
    for index, name in enumerate(result["segments"]):
        gains = [
            np.array([rounds[n]["after"][index] - rounds[n]["before"][index] for rounds in cases])
            for n in range(len(AFTER))
        ]
        row(name, lambda n, gains=gains: f"{np.nanmean(gains[n]):+.4f}")
    if has_walker:
        row("random walker", lambda n: f"{of(n, 'walker').mean():.4f}")
    row("CPU seconds, median", lambda n: f"{np.median([rounds[n]['seconds'] for rounds in cases]):.2f}")
    return "\n".join(lines)


def picture(results: list[dict[str, Any]], path: Path) -> None:
    """What each case gains, over the number of corrected slices."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(results), 3.4), layout="constrained")
    for axes, result in zip(figure.subplots(1, len(results), squeeze=False)[0], results, strict=True):
        cases = list(result["cases"].values())
        gains = np.array([[mean(one["after"]) - mean(one["before"]) for one in rounds] for rounds in cases])
        places = (0, *AFTER)
        for one in gains:
            axes.plot(places, (0, *one), color="0.75", linewidth=0.8)
        axes.plot(places, (0, *gains.mean(0)), color="tab:blue", marker="o", label="mean")
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set_xlabel("corrected slices")
        axes.set_ylabel("gain of mean Dice in the others")
        axes.set_title(f"{user.title(result)} ({len(cases)} cases)")
        axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results, options = user.results(parser, run)
    for result in results:
        print(table(result), end="\n\n")
    if options.png:
        picture(results, options.png)


if __name__ == "__main__":
    main()
