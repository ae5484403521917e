"""The training loop: bfloat16, moving average of the weights, exact resume, best weights by validation."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dinsegment.errors import InputError
from dinsegment.files import atomic_path
from dinsegment.inference import Runner, autocast_dtype, choose_device, freeze, predict
from dinsegment.network import DIN
from dinsegment.training.dataset import Case, SliceSampler, TrainingStack, prepare
from dinsegment.training.losses import din_loss
from dinsegment.training.metrics import dice
from dinsegment.training.recipe import Recipe


@dataclass
class State:
    """What a run needs to go on as if it had not stopped."""

    epoch: int = 0
    step: int = 0
    best: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)


def _moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential moving average that forgets quickly at first: random weights would linger otherwise."""

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        if not averaged.is_floating_point():  # BatchNorm's count of batches
            return current
        n = int(count)
        return averaged.lerp(current.to(averaged.dtype), 1.0 - min(decay, (1 + n) / (10 + n)))

    return average


class Trainer:
    """Trains one recipe.

    Files in `output`: `checkpoint.pt` (to resume), `best.safetensors` (averaged weights with the best validation
    Dice), `log.csv`.

    Args:
        recipe: What to train.
        train: Cases that weights are fitted to.
        validation: Cases that the best weights are chosen on.
        output: Folder of the run.
        device: As `dinsegment.inference.choose_device` takes it.
        compile: Whether to compile the network with torch.compile: minutes at the start, a fifth less time afterwards.
    """

    def __init__(
        self,
        recipe: Recipe,
        train: Sequence[Case],
        validation: Sequence[Case],
        output: Path,
        device: str = "auto",
        compile: bool = False,
    ) -> None:
        self.recipe, self.train_cases, self.validation_cases = recipe, train, validation
        self.output, self.device = output, choose_device(device)
        self.console = Console()
        torch.manual_seed(recipe.seed)
        self.network = DIN(recipe.network).to(self.device, memory_format=torch.channels_last)
        self.step_network: nn.Module = torch.compile(self.network) if compile else self.network
        self.average = torch.optim.swa_utils.AveragedModel(
            self.network, avg_fn=_moving_average(recipe.ema), use_buffers=True
        )
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed}, {"params": others, "weight_decay": 0.0}],
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
        )
        self.state = State()

    @property
    def checkpoint(self) -> Path:
        """Where the run can be taken up again."""
        return self.output / "checkpoint.pt"

    def run(self, resume: bool = False) -> State:
        """Trains to the last epoch, from the checkpoint if `resume` and there is one."""
        self.output.mkdir(parents=True, exist_ok=True)
        if resume and self.checkpoint.exists():
            self._load()
        recipe = self.recipe
        stacks = [prepare(case, recipe.task, recipe.preprocessing) for case in self.train_cases]
        sampler = SliceSampler(stacks, recipe.batch, recipe.seed)
        if not len(sampler):
            raise InputError(
                f"The training cases have {len(sampler.index)} slices, fewer than the batch of {recipe.batch} in "
                f"the recipe '{recipe.name}': give more cases or a smaller batch."
            )
        self.steps = len(sampler) * recipe.epochs
        while self.state.epoch < recipe.epochs:
            started = time.perf_counter()
            loss = self._epoch(stacks, sampler)
            self.state.epoch += 1
            row: dict[str, float] = {"epoch": self.state.epoch, "loss": loss}
            if self.state.epoch % recipe.validate_every == 0 or self.state.epoch == recipe.epochs:
                row.update(self._validate())
            row["seconds"] = time.perf_counter() - started
            self.state.history.append(row)
            self._save()
            left = row["seconds"] * (recipe.epochs - self.state.epoch) / 60
            text = "  ".join(f"{k} {v:.4g}" for k, v in row.items())
            self.console.print(f"{text}  about {left:.0f} min left", highlight=False)
        return self.state

    def _epoch(self, stacks: Sequence[TrainingStack], sampler: SliceSampler) -> float:
        self.network.train()
        # Stochastic depth draws from the global generator: after a resume it must draw the same.
        torch.manual_seed(hash((self.recipe.seed, self.state.epoch)) % 2**62)
        losses = []
        for batch in sampler.epoch(self.state.epoch):
            image, enhanced, labels = self._batch(stacks, batch)
            for group in self.optimizer.param_groups:
                group["lr"] = self._learning_rate()
            dtype = autocast_dtype(self.device)
            # The fused attention of CPUs is fast forwards only; backwards the plain one wins.
            backend = SDPBackend.MATH if self.device.type == "cpu" else list(SDPBackend.__members__.values())
            with sdpa_kernel(backend), torch.autocast(self.device.type, dtype, enabled=dtype is not None):
                logits = self.step_network(image, enhanced)
            loss = din_loss(logits, labels, self.recipe.boundary_weight)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimizer.step()
            self.average.update_parameters(self.network)
            self.state.step += 1
            losses.append(float(loss.detach()))
        return float(np.mean(losses))

    def _batch(
        self, stacks: Sequence[TrainingStack], batch: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Augmented slices, their enhanced ones and labels. The seed and the step alone decide what is drawn."""
        random = torch.Generator().manual_seed(hash((self.recipe.seed, self.state.step)) % 2**62)
        recipe = self.recipe
        drawn = [recipe.augmentation(stacks[n], k, recipe.preprocessing, random) for n, k in batch]
        image = torch.stack([i for i, _ in drawn]).to(self.device)
        labels = torch.stack([t for _, t in drawn]).to(self.device)
        enhanced = recipe.preprocessing.enhancement(image)
        image, enhanced = (x.unsqueeze(1).contiguous(memory_format=torch.channels_last) for x in (image, enhanced))
        return image, enhanced, labels

    def _learning_rate(self) -> float:
        """Linear warm-up, then half a cosine to zero."""
        step, warmup = self.state.step, self.recipe.warmup_steps
        if step < warmup:
            return self.recipe.learning_rate * (step + 1) / warmup
        done = (step - warmup) / max(1, self.steps - warmup)
        return self.recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    def _validate(self) -> dict[str, float]:
        """Dice per segment of the averaged weights through the whole inference, mean over cases; keeps the best."""
        network = DIN(self.recipe.network)
        network.load_state_dict(self.average.module.state_dict())
        runner = Runner(freeze(network).to(self.device), self.device)
        scores = []
        for case in self.validation_cases:
            volume, truth = case.read(self.recipe.task)
            labels = predict(runner, self.recipe.preprocessing, volume)
            scores.append([dice(labels, truth, s.label) for s in self.recipe.task.segments])
        means = np.mean(scores, axis=0)
        mean = float(means.mean())
        if mean > self.state.best:
            self.state.best = mean
            # Clones: safetensors takes no tensors that share memory, as those of a shared encoder do.
            weights = {k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items()}
            with atomic_path(self.output / "best.safetensors") as path:
                save_file(weights, path)
        names = [f"dice {s.abbreviation}" for s in self.recipe.task.segments]
        return {"dice": mean, **dict(zip(names, means.tolist(), strict=True))}

    def _save(self) -> None:
        state: dict[str, Any] = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "state": vars(self.state),
        }
        with atomic_path(self.checkpoint) as path:
            torch.save(state, path)
        columns = list(dict.fromkeys(key for row in self.state.history for key in row))
        with atomic_path(self.output / "log.csv") as path, path.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.state.history)

    def _load(self) -> None:
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.state = State(**state["state"])
