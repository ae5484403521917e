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
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dinsegment.correction.features import Features, features_of
from dinsegment.correction.learn import Options
from dinsegment.correction.pipeline import FeaturesKept, correct
from dinsegment.images.fingerprint import image_print
from dinsegment.images.slices import SliceStack
from dinsegment.inference.model import Model, load_model
from dinsegment.inference.runner import Runner
from dinsegment.tasks import Task, get_task
from dinsegment.training.cases import find_cases, read_split

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


def simulate(volume, truth: np.ndarray, task: Task, model: Model, walker: bool, most: int = max(AFTER)) -> list[Round]:
    """What a user would see who corrects the worst slice, and then the worst of the others, and so on."""
    kept = FeaturesKept(1 << 31)
    runner = Runner(model.network, torch.device("cpu"), context=model.context)
    features = features_of(runner, model.preprocessing, volume, task)
    if features is None:
        return []
    kept.get((f"{model.name} {id(model.network)}", image_print(volume)), lambda: features)
    one = (p for p in features.probabilities)
    made, _ = features.labels(one, volume, task, np.zeros(features.stack.array.shape, np.uint8), (), model.estimator)
    made = features.stack.to_volume_axes(made)
    stack = SliceStack.in_plane(volume, task.plane)
    on_stack = stack.like(truth).array
    current, touched, rounds = made, [], []
    for count in range(1, most + 1):
        errors = (stack.like(current).array != on_stack).sum((1, 2))
        errors[touched] = -1
        touched.append(int(errors.argmax()))
        given = stack.like(current).array.copy()
        given[touched] = on_stack[touched]
        seen = [stack.number(k) - 1 for k in touched]
        started = time.process_time()
        result = correct([volume], [stack.to_volume_axes(given)], [seen], task, model, "cpu", features=kept)
        seconds = time.process_time() - started
        current = result.labels[0]
        if count in AFTER:
            others = np.setdiff1d(np.arange(len(on_stack)), touched)
            drawn = walked(features, given, touched, task) if walker else None
            rounds.append(
                Round(
                    tuple(seen),
                    dice(stack.like(made).array[others], on_stack[others], task),
                    dice(stack.like(current).array[others], on_stack[others], task),
                    seconds,
                    result.applied,
                    dice(drawn[others], on_stack[others], task) if drawn is not None else (),
                )
            )
    return rounds


def walked(features: Features, given: np.ndarray, touched: list[int], task: Task) -> np.ndarray:
    """Labels (slices, y, x) that a random walker on the image alone draws on from the corrected slices."""
    from skimage.segmentation import random_walker

    rows, columns = (
        slice(max(0, int(p.min())), min(n, int(p.max()) + 1))
        for p, n in zip(features.box.places[1:], given.shape[1:], strict=True)
    )
    image = features.stack.array[:, rows, columns].astype(np.float32)
    low, high = task.grey_window or np.percentile(image, (0.5, 99.5))
    image = (np.clip(image, low, high) - low) / (high - low)
    seeds = np.zeros(image.shape, np.int32)
    seeds[touched] = given[touched][:, rows, columns].astype(np.int32) + 1
    spacing = (features.stack.slice_spacing, *features.stack.spacing)
    found = random_walker(image, seeds, beta=300, mode="cg_j", spacing=spacing, tol=1e-2)
    labels = np.zeros(given.shape, np.uint8)
    labels[:, rows, columns] = found - 1
    return labels


def mean(values: tuple[float, ...]) -> float:
    """Over the segments that are there."""
    return float(np.nanmean(values))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All cases of a split."""
    task = get_task(options.task)
    model = load_model(options.model, task)
    found: dict[str, list[dict[str, Any]]] = {}
    for case in find_cases(options.data, read_split(options.split), task):
        if options.phase and case.phase != options.phase:
            continue
        volume, truth = case.read(task)
        rounds = simulate(volume, truth, task, model, options.walker)
        if rounds:
            found[case.name] = [vars(one) for one in rounds]
            gains = ", ".join(f"{mean(one.after) - mean(one.before):+.4f}" for one in rounds)
            print(f"{case.name}: {mean(rounds[0].before):.4f}; {gains}", flush=True)
    return {
        "task": task.name,
        "phase": options.phase,
        "split": options.split.name,
        "model": model.name,
        "options": repr(Options.of(task)),
        "segments": [segment.abbreviation for segment in task.segments],
        "cases": found,
    }


def table(result: dict[str, Any]) -> str:
    """Mean Dice over the slices that were not touched, as the documentation has it."""
    cases = list(result["cases"].values())
    what = " ".join(filter(None, (result["task"], result["phase"], result["split"])))
    has_walker = any(one["walker"] for rounds in cases for one in rounds)
    lines = [
        f"{what}, {result['model']}, {len(cases)} cases",
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
        axes.set_title(" ".join(filter(None, (result["task"], result["phase"], f"({len(cases)} cases)"))))
        axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="heart")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--split", type=Path)
    parser.add_argument("--phase", default="", help="ED or ES alone")
    parser.add_argument("--model")
    parser.add_argument("--walker", action="store_true", help="compare with a random walker, which takes long")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--show", type=Path, nargs="+", help="results to show again")
    parser.add_argument("--png", type=Path)
    options = parser.parse_args()
    if options.show:
        results = [json.loads(path.read_text(encoding="utf-8")) for path in options.show]
    elif options.data and options.split:
        results = [run(options)]
        if options.json:
            options.json.write_text(json.dumps(results[0], indent=1), encoding="utf-8")
    else:
        parser.error("give --data and --split, or --show")
    for result in results:
        print(table(result), end="\n\n")
    if options.png:
        picture(results, options.png)


if __name__ == "__main__":
    main()
