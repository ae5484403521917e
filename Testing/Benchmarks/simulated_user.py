"""A simulated user of corrections: what the network makes of an image, and which slice is corrected next.

Used by `correction.py` and `slices_to_touch.py`. All labels here are (slices, y, x) on the grid that the network looks
at the image's slices in.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dinsegment.correction.features import Features, features_of
from dinsegment.correction.learn import Options
from dinsegment.correction.pipeline import Correction, FeaturesKept, correct, kept_as
from dinsegment.images.fingerprint import image_print
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume
from dinsegment.inference.model import Model, load_model
from dinsegment.inference.runner import Runner
from dinsegment.tasks import Task, get_task
from dinsegment.training.cases import find_cases, read_split


@dataclass(frozen=True, eq=False)
class Patient:
    """An image, the expert's labels, and what the network makes of it before anything is corrected.

    Attributes:
        volume: The image.
        task: What is segmented.
        model: That segments it.
        features: What its network saw, looked at once for all rounds.
        kept: The same for `correct`.
        expert: The expert's labels.
        made: The network's.
    """

    volume: Volume
    task: Task
    model: Model
    features: Features
    kept: FeaturesKept
    expert: np.ndarray
    made: np.ndarray

    @property
    def stack(self) -> SliceStack:
        """The image in slices."""
        return self.features.stack

    def numbers(self, touched: Sequence[int]) -> list[int]:
        """Slices of the stack as `correct` counts them."""
        return [self.stack.number(k) - 1 for k in touched]

    def correct(self, labels: np.ndarray, touched: Sequence[int], options: Options | None = None) -> Correction:
        """What the others become after these slices were corrected, learned as the task has it or as `options` say."""
        given = self.stack.to_volume_axes(labels)
        how = {"features": self.kept, "options": options}
        return correct([self.volume], [given], [self.numbers(touched)], self.task, self.model, "cpu", **how)

    def on_stack(self, correction: Correction) -> np.ndarray:
        """Its labels."""
        return self.stack.like(correction.labels[0]).array

    def walk(self, labels: np.ndarray, touched: Sequence[int]) -> np.ndarray:
        """Labels that a random walker (scikit-image) on the image alone draws on from the corrected slices.

        It walks through the box that the network looks at; beyond there is nothing.
        """
        from skimage.segmentation import random_walker

        stack = self.stack
        rows, columns = (
            slice(max(0, int(p.min())), min(n, int(p.max()) + 1))
            for p, n in zip(self.features.box.places[1:], labels.shape[1:], strict=True)
        )
        image = stack.array[:, rows, columns].astype(np.float32)
        low, high = self.task.grey_window or np.percentile(image, (0.5, 99.5))
        image = (np.clip(image, low, high) - low) / (high - low)
        seeds = np.zeros(image.shape, np.int32)
        seeds[touched] = labels[touched][:, rows, columns].astype(np.int32) + 1
        spacing = (stack.slice_spacing, *stack.spacing)
        found = random_walker(image, seeds, beta=300, mode="cg_j", spacing=spacing, tol=1e-2)
        drawn = np.zeros(labels.shape, np.uint8)
        drawn[:, rows, columns] = found - 1
        return drawn


def see(volume: Volume, truth: np.ndarray, task: Task, model: Model) -> Patient | None:
    """A patient whose image the network has looked at; None where it finds nothing. `truth` is on the image's axes."""
    runner = Runner(model.network, torch.device("cpu"), context=model.context)
    features = features_of(runner, model.preprocessing, volume, task)
    if features is None:
        return None
    kept = FeaturesKept(1 << 31)
    kept.get(kept_as(model, image_print(volume)), lambda: features)
    none = np.zeros(features.stack.array.shape, np.uint8)
    made, _ = features.labels(iter(features.probabilities), volume, task, none, (), model.estimator)
    return Patient(volume, task, model, features, kept, features.stack.like(truth).array, made)


def patients(options: argparse.Namespace) -> Iterator[tuple[str, Patient]]:
    """Those of a split in which the network finds something, and their names."""
    task = get_task(options.task)
    model = load_model(options.model, task)
    for case in find_cases(options.data, read_split(options.split), task):
        if options.phase and case.phase != options.phase:
            continue
        patient = see(*case.read(task), task, model)
        if patient is not None:
            yield case.name, patient


def what(options: argparse.Namespace) -> dict[str, Any]:
    """What a result is of."""
    task = get_task(options.task)
    model = load_model(options.model, task)
    how = {"model": model.name, "options": repr(Options.of(task))}
    return {"task": task.name, "phase": options.phase, "split": options.split.name, **how}


def title(result: dict[str, Any]) -> str:
    """Task and phase of a result."""
    return " ".join(filter(None, (result["task"], result["phase"])))


def results(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], dict[str, Any]]
) -> tuple[list[dict[str, Any]], argparse.Namespace]:
    """What `run` gives for the command line's options, kept as JSON if asked for, or results that are shown again."""
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
        return [json.loads(path.read_text(encoding="utf-8")) for path in options.show], options
    if not (options.data and options.split):
        parser.error("give --data and --split, or --show")
    result = run(options)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return [result], options
