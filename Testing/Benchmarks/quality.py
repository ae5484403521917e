"""How often the findings about a result are right, and how often they are false alarms.

    python Testing/Benchmarks/quality.py --data DIR --split FILE [--task heart] [--json FILE]

Every labelled case is segmented as a user would. A finding is right where the experts' labels bear it out:

    - the segment that it is about has Dice below 0.7 in the whole image, or in the slice to look at; where that slice
      does not go with those beside it, also in one of these, where the mistake may be as well;
    - or the same rules say the same of the experts' labels, such as that they are cut by the image's edge, too;
    - or, of a segment that was not found, the experts have none either.

Thresholds were chosen on validation patients; test patients are for reporting alone.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dinsegment.images.segmentation import Finding
from dinsegment.images.slices import SliceStack, slice_axis
from dinsegment.images.volume import Volume, slice_number
from dinsegment.inference.devices import choose_device
from dinsegment.inference.model import load_model
from dinsegment.inference.plausible import checked_image
from dinsegment.inference.prediction import predict_with_confidence
from dinsegment.inference.runner import Runner
from dinsegment.quality.findings import findings
from dinsegment.tasks import Task, get_task
from dinsegment.training.cases import find_cases, read_split
from dinsegment.training.metrics import dice

BAD = 0.7
"""Dice of a segment that is to be corrected."""


@dataclass
class Table:
    """What was found in how many cases, and how much of it was right."""

    cases: int = 0
    with_finding: int = 0
    with_false_alarm: int = 0
    segments: int = 0
    bad_segments: int = 0
    bad_segments_found: int = 0
    right: Counter[str] = field(default_factory=Counter)
    false: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    details: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        rules = sorted({*self.right, *self.false})
        return {
            "cases": self.cases,
            "cases with a finding": self.with_finding,
            "cases with a false alarm": self.with_false_alarm,
            "findings": {rule: {"right": self.right[rule], "false": self.false[rule]} for rule in rules},
            "segments": self.segments,
            f"segments with Dice below {BAD}": self.bad_segments,
            "of these with a finding": self.bad_segments_found,
            "seconds for the findings of a case": self.seconds / max(1, self.cases),
            "details": self.details,
        }

    def print(self) -> None:
        """For people."""
        print(
            f"\n{self.cases} cases, {self.with_finding} with a finding, {self.with_false_alarm} with a false alarm "
            f"({100 * self.with_false_alarm / max(1, self.cases):.0f} %)\n\nrule               right  false"
        )
        for rule in sorted({*self.right, *self.false}):
            print(f"{rule:17} {self.right[rule]:6} {self.false[rule]:6}")
        print(f"{'all':17} {self.right.total():6} {self.false.total():6}")
        print(
            f"\nSegments with Dice below {BAD}: {self.bad_segments} of {self.segments}, of these with a finding: "
            f"{self.bad_segments_found}\n{1000 * self.seconds / max(1, self.cases):.0f} ms for the findings of a case"
        )


def rule_of(finding: Finding) -> str:
    """The rule that a finding comes from."""
    return finding.kind


def is_right(
    finding: Finding, volume: Volume, labels: np.ndarray, truth: np.ndarray, task: Task, of_truth: set[Any]
) -> bool:
    """Whether the experts' labels (k, j, i) bear a finding out.

    Args:
        finding: About the labels.
        volume: The image.
        labels: The result (k, j, i).
        truth: The experts' labels.
        task: What is labelled.
        of_truth: Rule and segment of what the same rules find in the experts' labels.
    """
    if (rule_of(finding), finding.segment) in of_truth:
        return True
    if finding.segment is None:
        return False
    if dice(labels, truth, finding.segment) < BAD:
        return True
    if finding.place is None or rule_of(finding) == "cut":
        return False
    axis = SliceStack.in_plane(volume, task.plane).axis
    k = slice_number(volume, finding.place, slice_axis(volume, task.plane)) - 1
    reach = 1 if rule_of(finding) in ("gap", "dip") else 0
    looked_at = range(max(0, k - reach), min(volume.shape[axis], k + reach + 1))
    return any(dice(labels.take(n, axis), truth.take(n, axis), finding.segment) < BAD for n in looked_at)


def judge(
    table: Table,
    name: str,
    volume: Volume,
    labels: np.ndarray,
    truth: np.ndarray,
    task: Task,
    found: tuple[Finding, ...],
) -> None:
    """Adds one case."""
    of_truth = {(rule_of(f), f.segment) for f in findings(volume, truth, task)}
    right = [is_right(f, volume, labels, truth, task, of_truth) for f in found]
    table.cases += 1
    table.with_finding += bool(found)
    table.with_false_alarm += not all(right)
    for finding, is_so in zip(found, right, strict=True):
        (table.right if is_so else table.false)[rule_of(finding)] += 1
    told = {f.segment for f in found}
    bad = {s.label for s in task.segments if dice(labels, truth, s.label) < BAD}
    table.segments += len(task.segments)
    table.bad_segments += len(bad)
    table.bad_segments_found += len(bad & told) if None not in told else len(bad)
    table.details.append(
        {
            "case": name,
            "dice": {s.abbreviation: round(dice(labels, truth, s.label), 3) for s in task.segments},
            "findings": [f.to_dict(volume, task.plane) | {"right": r} for f, r in zip(found, right, strict=True)],
        }
    )
    for finding, is_so in zip(found, right, strict=True):
        print(f"{name}  {'right' if is_so else 'FALSE'}  {finding.text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True, help="patients, one a line")
    parser.add_argument("--task", default="heart")
    parser.add_argument("--model")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="of the CPU, for PyTorch")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    task = get_task(options.task)
    model = load_model(options.model, task)
    device = choose_device(options.device)
    table = Table()
    for case in find_cases(options.data, read_split(options.split), task):
        volume, truth = case.read(task)
        runner = Runner(model.network.to(device), device)
        image, sure = checked_image(volume, task), (model.estimator, model.temperature)
        prediction = predict_with_confidence(runner, model.preprocessing, image, task, *sure)
        started = time.perf_counter()
        found = findings(volume, prediction.labels, task, prediction.confidence)
        table.seconds += time.perf_counter() - started
        judge(table, case.name, volume, prediction.labels, truth, task, found)
    table.print()
    if options.json:
        options.json.write_text(json.dumps(table.to_dict(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
