"""A model of one's own from a shipped one and a few corrected cases: training with its weights, gently and shortly."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dinsegment.errors import InputError
from dinsegment.files import sha256_of
from dinsegment.images.slices import SliceStack
from dinsegment.inference.model import Model, load_model
from dinsegment.inference.prediction import predict
from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.inference.runner import Runner
from dinsegment.models.entries import find_entry
from dinsegment.network import network_config
from dinsegment.progress import Progress
from dinsegment.tasks import Task
from dinsegment.training.cases import Case, find_cases
from dinsegment.training.dataset_check import digest_of
from dinsegment.training.half_made import check_free, run_folder
from dinsegment.training.metrics import dice
from dinsegment.training.recipe import Recipe
from dinsegment.version import __version__

HELD_OUT = 0.25
"""Share of the patients that nothing is learned from, and at least one: they tell whether it got better."""

BETTER = 0.002
"""Mean Dice by which the held-out cases have to be better; less is chance."""

CHECKPOINT_MINUTES = 5.0
"""So much is lost at most when the process is killed and started again."""

EPOCHS = 8
STEPS = 60
"""At least so many steps, however few slices there are: an epoch sees each slice once."""


@dataclass(frozen=True)
class Adapted:
    """What became of adapting a model.

    Attributes:
        output: Folder of the run, which is a model, as `--model` takes it.
        before: Mean Dice of the held-out cases with the model as it was.
        after: The same with the adapted model.
        held_out: Names of the held-out cases.
        trained_on: Names of the others.
    """

    output: Path
    before: float
    after: float
    held_out: tuple[str, ...]
    trained_on: tuple[str, ...]

    @property
    def better(self) -> bool:
        """Whether it has become better."""
        return self.after - self.before >= BETTER

    @property
    def text(self) -> str:
        """A sentence for the user."""
        held = f"{len(self.held_out)} held-out case{'' if len(self.held_out) == 1 else 's'}"
        change = f"mean Dice {self.before:.3f} before and {self.after:.3f} after"
        if self.better:
            return f"The adapted model is better on {held}, {change}. So few cases tell little: look at its results."
        return f"The adapted model is no better on {held}, {change}: go on with the one that you have, or add cases."


def adapt(
    model: str | None,
    task: Task,
    cases: Path,
    output: Path,
    device: str = "auto",
    epochs: int | None = None,
    progress: Progress | None = None,
    learning_rate: float = 2e-4,
) -> Adapted:
    """Goes on training a model on cases of one's own; the model itself stays as it is.

    A quarter of the patients is held out, drawn by their names, so that the same folder is always divided alike.

    Args:
        model: Its name in weights.json, or the folder of a run; the task's first one if None.
        task: What it segments.
        cases: Labelled cases in a layout that `find_cases` knows.
        output: Folder of the run; it must not exist, or be empty. Where the same was to be made and was killed, it
            goes on with what is left of that; what is left of anything else that was killed is replaced.
        device: As `segment` takes it.
        epochs: To train; few if None.
        progress: Called with the fraction done and what is being done.
        learning_rate: Of AdamW at its highest.

    Raises:
        InputError: The cases cannot be used, are of fewer than two patients, have an image twice or none of some
            segment, or a package is missing.
        ModelError: There is no such model for the task.
        OutputError: The folder is taken or cannot be written to.

    Whatever stops it, nothing is left in the folder, unless the process is killed.
    """
    check_free(output)
    found = find_cases(cases, None, task)
    learned, held = divide(found)
    entry = find_entry(model, task)
    start = load_model(model, task)
    start.check_task(task)
    slices = _slices(found, learned, task)
    batch = min(8, max(1, slices))
    recipe = Recipe(
        name=entry.name,
        task=task,
        network=network_config(entry.network),
        preprocessing=Preprocessing.from_dict(entry.preprocessing, task),
        learning_rate=learning_rate,
        warmup_steps=10,
        batch=batch,
        epochs=epochs or max(EPOCHS, -(-STEPS * batch // max(1, slices))),
        ema=0.98,
        description=f"'{entry.name}' adapted to cases of one's own.",
        context=entry.context,
    )
    recipe = _validated_at_the_end(recipe)
    before = _score(start, recipe, held, device)
    made_of = {
        "version": __version__,
        "weights": entry.weights["sha256"],
        "context": entry.context,
        "learning rate": recipe.learning_rate,
        "epochs": recipe.epochs,
        "cases": {case.name: [sha256_of(case.image), sha256_of(case.labels)] for case in found},
    }
    after = _train(recipe, learned, held, output, device, model or entry.name, progress, made_of)
    return Adapted(output, before, after, tuple(c.name for c in held), tuple(c.name for c in learned))


def divide(cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
    """The cases to learn from, and those that are held out: all of some patients, drawn by a hash of their names.

    Raises:
        InputError: They are of fewer than two patients.
    """
    patients = sorted({case.patient for case in cases}, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    if len(patients) < 2:
        raise InputError(
            f"There are cases of {len(patients)} patient: at least two are needed, one to learn from and one to see "
            "whether it got better."
        )
    out = set(patients[: max(1, round(HELD_OUT * len(patients)))])
    return [c for c in cases if c.patient not in out], [c for c in cases if c.patient in out]


def _slices(cases: Sequence[Case], learned: Sequence[Case], task: Task) -> int:
    """Slices of the cases that are learned from; what is wrong with any case is said before anything begins."""
    slices, present = 0, np.zeros(task.classes, bool)
    by_voxels: dict[str, Case] = {}
    for case in cases:
        volume, labels = case.read(task)
        if not labels.any():
            raise InputError(f"'{case.labels}' has no label above 0: there is nothing to learn from.")
        # Saved once more after another correction, it has another name and would be another patient's.
        same = by_voxels.setdefault(digest_of(volume), case)
        if same is not case:
            raise InputError(
                f"'{case.image}' is the same image as '{same.image}', which would count twice, or be learned from and "
                "held out: remove the one with the worse labels, both its files."
            )
        present[np.unique(labels)] = True
        if case in learned:
            slices += len(SliceStack.in_plane(volume, task.plane).array)
    if missing := [segment.name for segment in task.segments if not present[segment.label]]:
        raise InputError(
            f"No case in '{cases[0].labels.parent}' has a voxel of {', '.join(missing)}, which the model would "
            "unlearn: add a case that shows it."
        )
    return slices


def _validated_at_the_end(recipe: Recipe) -> Recipe:
    """Weights are not chosen among epochs by the held-out cases, which would then tell too much good of them."""
    from dataclasses import replace

    return replace(recipe, validate_every=recipe.epochs)


def _score(model: Model, recipe: Recipe, cases: Sequence[Case], device: str) -> float:
    """Mean Dice over segments and cases, through the whole of inference."""
    from dinsegment.inference.devices import choose_device

    runner = Runner(model.network, choose_device(device), context=model.context)
    scores = []
    for case in cases:
        volume, truth = case.read(recipe.task)
        labels = predict(runner, recipe.preprocessing, volume, recipe.task)
        scores.append([dice(labels, truth, segment.label) for segment in recipe.task.segments])
    return float(np.mean(scores))


def _train(
    recipe: Recipe,
    learned: Sequence[Case],
    held: Sequence[Case],
    output: Path,
    device: str,
    start: str,
    progress: Progress | None,
    made_of: dict[str, Any],
) -> float:
    try:
        from dinsegment.training.run_options import RunOptions
        from dinsegment.training.trainer import train
    except ImportError as error:
        raise InputError(
            f"Training needs the package '{error.name}', which is not installed: pip install \"dinsegment[train]\"."
        ) from error
    options = RunOptions(device=device, start=start, progress=progress, checkpoint_minutes=CHECKPOINT_MINUTES)
    with run_folder(output, made_of) as goes_on:
        return train(recipe, learned, held, output, options, resume=goes_on).best
