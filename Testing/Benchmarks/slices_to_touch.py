"""How many slices a simulated user corrects until every organ has a Dice of 0.9 in the whole image, by three ways.

    python Testing/Benchmarks/slices_to_touch.py --data acdc --split acdc/split-val.txt --phase ES --json OUT/a.json
    python Testing/Benchmarks/slices_to_touch.py --show OUT/a.json OUT/b.json --png OUT/slices-to-touch.png

The user always corrects the slice with the most wrong voxels with the expert's labels. The ways:

    learning         the others follow (`dinsegment.correction`)
    slice by slice   the others stay what the network made of them
    random walker    no network: the first slice is drawn from nothing, and a random walker (scikit-image) on the image
                     alone draws the labels on; with `--walker`, as that takes long

The others follow after 1, 2, 3, 5, 8, ... slices (`FOLLOW`), as nobody presses the button after each. Results of the
same task and phase are shown as one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import simulated_user as user
from dinsegment.tasks import Task

GOAL = 0.9
FOLLOW = (1, 2, 3, 5, 8, 12, 17, 23, 30, 38, 47, 57)
WAYS = ("learning", "slice by slice", "random walker")


def touched_until(
    truth: np.ndarray, start: np.ndarray, task: Task, relabel: Callable[[np.ndarray, list[int]], np.ndarray] | None
) -> int:
    """Slices that are corrected until every segment has the Dice that is wanted.

    Args:
        truth: The expert's labels, slices first.
        start: Labels before anything is corrected.
        task: What they are.
        relabel: Takes labels and corrected slices, and gives what the labels of all slices become; None if they stay.
    """
    labels, touched = start.copy(), []
    own = parts(truth, truth, task)
    now, errors = parts(labels, truth, task), (labels != truth).sum((1, 2))
    while not enough(now):
        k = int(errors.argmax())
        touched.append(k)
        labels[k], now[k], errors[k] = truth[k], own[k], -1
        if relabel is not None and len(touched) in FOLLOW:
            labels = relabel(labels, touched).copy()
            labels[touched] = truth[touched]
            now, errors = parts(labels, truth, task), (labels != truth).sum((1, 2))
            errors[touched] = -1
    return len(touched)


def parts(labels: np.ndarray, truth: np.ndarray, task: Task) -> np.ndarray:
    """Of each slice and segment the two parts of Dice: twice the voxels that both have, and those that each has."""
    found = np.empty((len(truth), len(task.segments), 2), int)
    for n, segment in enumerate(task.segments):
        one, other = labels == segment.label, truth == segment.label
        found[:, n, 0] = 2 * (one & other).sum((1, 2))
        found[:, n, 1] = one.sum((1, 2)) + other.sum((1, 2))
    return found


def enough(found: np.ndarray) -> bool:
    """Whether every segment that is there has the Dice that is wanted."""
    both, total = found.sum(0).T
    return bool((both >= GOAL * total).all())


def of_case(patient: user.Patient, walker: bool) -> dict[str, int]:
    """Slices of the image, and of these to be touched in each way."""
    expert, made, task = patient.expert, patient.made, patient.task

    def learned(labels: np.ndarray, touched: list[int]) -> np.ndarray:
        return patient.on_stack(patient.correct(labels, touched))

    found = {
        "slices": len(expert),
        "learning": touched_until(expert, made, task, learned),
        "slice by slice": touched_until(expert, made, task, None),
    }
    if walker:
        found["random walker"] = touched_until(expert, np.zeros_like(made), task, patient.walk)
    return found


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All cases of a split."""
    found: dict[str, dict[str, int]] = {}
    for name, patient in user.patients(options):
        found[name] = of_case(patient, options.walker)
        print(f"{name}: {found[name]}", flush=True)
    return {**user.what(options), "cases": found}


def merged(results: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, int]]]:
    """Cases by task and phase."""
    by_title: dict[str, dict[str, dict[str, int]]] = {}
    for result in results:
        by_title.setdefault(user.title(result), {}).update(result["cases"])
    return by_title


def table(title: str, cases: dict[str, dict[str, int]]) -> str:
    """As the documentation has it."""
    total = sum(one["slices"] for one in cases.values())
    lines = [
        f"{title}, {len(cases)} cases with {total} slices",
        f"| every organ has {GOAL} | slices touched | median of a case | most | cases without any |",
        "|---|---|---|---|---|",
    ]
    for way in WAYS:
        counts = np.array([one[way] for one in cases.values() if way in one])
        if len(counts):
            share = f"{counts.sum()} of {sum(one['slices'] for one in cases.values() if way in one)}"
            lines.append(f"| {way} | {share} | {np.median(counts):g} | {counts.max()} | {(counts == 0).sum()} |")
    return "\n".join(lines)


def picture(by_title: dict[str, dict[str, dict[str, int]]], path: Path) -> None:
    """The share of cases in which every organ has the Dice, over the slices that were touched."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(by_title), 3.6), layout="constrained")
    for axes, (title, cases) in zip(figure.subplots(1, len(by_title), squeeze=False)[0], by_title.items(), strict=True):
        last = max(one[way] for one in cases.values() for way in WAYS if way in one)
        for way, color in zip(WAYS, ("tab:blue", "tab:orange", "0.5"), strict=True):
            counts = np.array([one[way] for one in cases.values() if way in one])
            if len(counts):
                done = [100 * (counts <= n).mean() for n in range(last + 1)]
                axes.step(range(last + 1), done, where="post", color=color, label=f"{way} ({len(counts)} cases)")
        axes.set_xlabel("slices that the user has corrected")
        axes.set_ylabel(f"cases with Dice {GOAL} in every organ, %")
        axes.set_ylim(0, 105)
        axes.set_title(title)
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.18), fontsize="small")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results, options = user.results(parser, run)
    by_title = merged(results)
    for title, cases in by_title.items():
        print(table(title, cases), end="\n\n")
    if options.png:
        picture(by_title, options.png)


if __name__ == "__main__":
    main()
