"""Fits a network to volumes; says at times how it does on validation cases."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from dinsegment.errors import InputError
from dinsegment.files import atomic_path, ensure_writable_folder
from dinsegment.training.cases import Case
from dinsegment.training.context.recipe import VolumeRecipe
from dinsegment.training.publish import write_run

CHECKPOINT = "checkpoint.pt"

PAUSED = 10
"""Times as long as the quickest step so far from which on one was paused: the rest of it is no time of training."""


class Draws(Protocol):
    """Draws what a network sees, and labels; what is drawn follows from the seed alone."""

    def draw(self) -> tuple[Tensor, Tensor]:
        """(channels, z, y, x) float32 and (z, y, x) int64."""
        ...


class Lesson(Protocol):
    """What one kind of network learns from: `TrunkLesson`, `OrganLesson`."""

    recipe: VolumeRecipe

    def network(self) -> nn.Module:
        """With the weights that the training begins with."""
        ...

    def fields(self, cases: Sequence[Case], seed: int) -> Draws:
        """What is drawn of these cases. Raises InputError if one shows nothing."""
        ...

    def dice(self, network: nn.Module, case: Case) -> dict[str, float]:
        """Of the organs that a case shows, by abbreviation, on the network's own grid."""
        ...


def context_loss(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Cross-entropy and, for the organs that are there, 1 - Dice; each level counts half as much as the one before.

    Args:
        logits: (B, classes, z, y, x) of each level, finest first.
        labels: (B, z, y, x) int64 on the finest.
    """
    total, weights = logits[0].new_zeros(()), 0.0
    for level, own in enumerate(logits):
        labels = labels[:, ::2, ::2, ::2] if level else labels
        truth = F.one_hot(labels, own.shape[1]).movedim(-1, 1).float()
        own, weight = own.float(), 0.5**level
        probabilities = own.softmax(1)
        both = (probabilities * truth).sum((0, 2, 3, 4))[1:]
        sizes = (probabilities + truth).sum((0, 2, 3, 4))[1:]
        there = truth.sum((0, 2, 3, 4))[1:] > 0
        overlap = 1 - (2 * both + 1) / (sizes + 1)
        dice = overlap[there].mean() if there.any() else overlap.sum() * 0
        total = total + weight * (F.cross_entropy(own, labels) + dice)
        weights += weight
    return total / weights


@dataclass
class Progress:
    """How far a training is; with the weights and the optimizer, what a checkpoint keeps."""

    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    dice: float | None = None


def train_context(
    lesson: Lesson,
    cases: Sequence[Case],
    validation: Sequence[Case],
    output: Path,
    device: torch.device,
    say: Callable[[str], None] = print,
    every: float = 8.0,
) -> Progress:
    """Trains until the recipe's minutes are over; goes on where a checkpoint in `output` stands.

    It writes `checkpoint.pt`, `best.safetensors` and `weights.json`, which say what was learned so far.

    Args:
        lesson: What to train, and how.
        cases: What weights are fitted to.
        validation: What the log tells of; nothing is chosen on them.
        output: Folder of the run.
        device: Where to compute.
        say: Takes a line of the log.
        every: Minutes between checkpoints.

    Raises:
        InputError: There are no cases, or one shows nothing; or the checkpoint is of another recipe.
        OutputError: The folder cannot be written to.
    """
    if not cases:
        raise InputError("There are no cases to learn from.")
    ensure_writable_folder(output)
    recipe = lesson.recipe
    torch.manual_seed(recipe.seed)
    network = lesson.network().to(device, memory_format=torch.channels_last_3d)
    average = copy.deepcopy(network).eval()
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    done = _resume(output / CHECKPOINT, recipe, network, average, optimizer, device)
    fields = lesson.fields(cases, done.step)
    last = saved = time.perf_counter()
    quickest = math.inf
    while done.seconds < 60 * recipe.minutes:
        for group in optimizer.param_groups:
            group["lr"] = _rate(recipe, done)
        done.losses.append(_step(network, optimizer, fields, recipe, device))
        done.step += 1
        _average(average, network, recipe.ema, done.step)
        now = time.perf_counter()
        quickest = min(quickest, now - last)
        done.seconds, last = done.seconds + min(now - last, PAUSED * quickest), now
        if now - saved >= 60 * every or done.seconds >= 60 * recipe.minutes:
            done.dice = validate(average, lesson, validation) if validation else None
            told = "" if done.dice is None else f", validation Dice {done.dice:.4f} on its own grid"
            say(f"Step {done.step}, {done.seconds / 60:.1f} min: loss {np.mean(done.losses):.3f}{told}")
            done.losses = []
            _save(output, recipe, network, average, optimizer, done, f"{len(cases)} training cases")
            saved = last = time.perf_counter()
    return done


def _rate(recipe: VolumeRecipe, done: Progress) -> float:
    over = min(1.0, done.seconds / (60 * recipe.minutes))
    warm = min(1.0, (done.step + 1) / recipe.warmup_steps)
    return recipe.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * over)))


def _step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    fields: Draws,
    recipe: VolumeRecipe,
    device: torch.device,
) -> float:
    seen, labels = (torch.stack(parts) for parts in zip(*(fields.draw() for _ in range(recipe.batch)), strict=True))
    seen = seen.to(device, memory_format=torch.channels_last_3d)
    loss = context_loss(network(seen)[: recipe.levels], labels.to(device))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    return float(loss.detach())


@torch.no_grad()
def _average(average: nn.Module, network: nn.Module, ema: float, step: int) -> None:
    """Moves the average towards the weights; quickly at first, as random weights would linger otherwise."""
    decay = min(ema, step / (step + 9))
    for kept, new in zip(average.parameters(), network.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)


def validate(network: nn.Module, lesson: Lesson, cases: Sequence[Case]) -> float:
    """Mean Dice of the most probable organs on the network's own grid, over organs and cases."""
    return float(np.mean([list(lesson.dice(network, case).values()) for case in cases]))


def _identity(recipe: VolumeRecipe) -> str:
    return json.dumps([recipe.task.name, recipe.network.to_dict(), recipe.preprocessing.to_dict(), recipe.seed])


def _resume(
    path: Path,
    recipe: VolumeRecipe,
    network: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> Progress:
    if not path.exists():
        return Progress()
    kept = torch.load(path, map_location=device, weights_only=True)
    if kept.get("identity") != _identity(recipe):
        raise InputError(f"'{path}' was made with another recipe: resume with the same one, or give another folder.")
    network.load_state_dict(kept["network"])
    average.load_state_dict(kept["average"])
    optimizer.load_state_dict(kept["optimizer"])
    return Progress(kept["step"], kept["seconds"])


def _save(
    output: Path,
    recipe: VolumeRecipe,
    network: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    done: Progress,
    cases: str,
) -> None:
    state = {
        "identity": _identity(recipe),
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": done.step,
        "seconds": done.seconds,
    }
    with atomic_path(output / CHECKPOINT) as path:
        torch.save(state, path)
    weights = {k: v.detach().cpu().contiguous().clone() for k, v in average.state_dict().items()}
    write_run(recipe, save(weights), cases, output)
