"""When the network is unsure: what each threshold of a task's `doubt` tells and how often it is a false alarm.

    python Testing/Benchmarks/doubt.py --data DIR FILE [--data DIR FILE] [--task heart]

FILE names validation patients, one a line; nothing is chosen on test patients. Counted are segments in slices, of at
least 1 cm2: bad are those with Dice below 0.7. A threshold is to tell as many of them as it can with at most one false
alarm in ten patients. Run it again when the models change. Intervals are those of Clopper and Pearson, 95 %.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from dinsegment.images.slices import SliceStack
from dinsegment.inference.devices import choose_device
from dinsegment.inference.model import load_model
from dinsegment.inference.pipeline import predict_with_confidence
from dinsegment.inference.runner import Runner
from dinsegment.tasks import Task, get_task
from dinsegment.training.cases import find_cases, read_split
from dinsegment.training.metrics import dice

BAD = 0.7
LEAST_CM2 = 1.0
OVERLAPS = (0.7, 0.75, 0.8, 0.85, 0.9)
AREAS_CM2 = (1.0, 2.0, 3.0)


class Slice(NamedTuple):
    """A segment in a slice: of which patient, its Dice, and what the network says of it; whether it is drawn at all.

    `beyond` is a chamber that is drawn where the experts have none, as above the valves.
    """

    patient: str
    dice: float
    overlap: float
    area_cm2: float
    drawn: bool
    beyond: bool


def slices_of(data: Path, split: Path, task: Task, model, runner: Runner) -> list[Slice]:
    """Of all labelled images of these patients."""
    found = []
    for case in find_cases(data, read_split(split), task):
        volume, truth = case.read(task)
        prediction = predict_with_confidence(runner, model.preprocessing, volume, task)
        confidence = prediction.confidence
        if confidence is None or len(confidence.overlap) != volume.shape[SliceStack.in_plane(volume, task.plane).axis]:
            raise SystemExit("Only models that see the image's own slices can be looked at.")
        axis = SliceStack.in_plane(volume, task.plane).axis
        cm2 = float(np.prod(np.delete(volume.spacing, axis)) / 100)
        labels, expert = (np.moveaxis(array, axis, 0) for array in (prediction.labels, truth))
        for k, segment in product(range(len(labels)), task.segments):
            drawn, wanted = ((array[k] == segment.label).sum() * cm2 for array in (labels, expert))
            if max(drawn, wanted) >= LEAST_CM2:
                told = float(confidence.overlap[k, segment.label - 1]), float(confidence.area_cm2[k, segment.label - 1])
                beyond = segment.label == task.chamber and wanted == 0
                score = dice(labels[k], expert[k], segment.label)
                found.append(Slice(case.name.split("_")[0].split()[0], score, *told, drawn > 0, beyond))
    return found


def share(count: int, of: int) -> str:
    """A count with its interval."""
    if not of:
        return "0 of 0"
    low, high = binomtest(count, of).proportion_ci(method="exact")
    return f"{count} of {of} ({100 * low:.0f} to {100 * high:.0f} %)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs=2, action="append", required=True, metavar=("DIR", "FILE"), type=Path)
    parser.add_argument("--task", default="heart")
    parser.add_argument("--model")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    task = get_task(options.task)
    model = load_model(options.model, task)
    runner = Runner(model.network, choose_device(options.device))
    seen = [one for data, split in options.data for one in slices_of(data, split, task, model, runner)]
    bad, patients = [one for one in seen if one.dice < BAD], {one.patient for one in seen}
    print(f"{len(seen)} segments in slices of {len(patients)} patients, {len(bad)} bad")
    print(f"{share(sum(not one.drawn for one in bad), len(bad))} of the bad ones are not drawn at all")
    for area, overlap in product(AREAS_CM2, OVERLAPS):
        told = [one for one in seen if one.drawn and one.overlap < overlap and one.area_cm2 >= area]
        false = {one.patient for one in told if one.dice >= BAD}
        right = [one for one in told if one.dice < BAD]
        print(
            f"overlap {overlap:.2f}, {area:.0f} cm2: bad told {share(len(right), len(bad))}, chamber where there is "
            f"none {share(sum(one.beyond for one in right), sum(one.beyond for one in bad))}, patients with a false "
            f"alarm {share(len(false), len(patients))}"
        )


if __name__ == "__main__":
    main()
