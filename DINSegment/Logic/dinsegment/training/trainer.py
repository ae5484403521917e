"""The training loop: precision and processes by Lightning Fabric, moving average, exact resume, best by validation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors.torch import save
from torch import Tensor, nn

from dinsegment.errors import InputError
from dinsegment.files import atomic_path, ensure_writable_folder
from dinsegment.inference.devices import free_memory
from dinsegment.inference.model import load_context
from dinsegment.inference.runner import Runner
from dinsegment.network import build_network
from dinsegment.network.rewriting import for_inference
from dinsegment.training.cases import Case
from dinsegment.training.dataset import SliceSampler, TrainingStack, prepare
from dinsegment.training.pack import PackedCase
from dinsegment.training.publish import write_run
from dinsegment.training.recipe import Recipe, differences, identity_of
from dinsegment.training.run_log import RunLog
from dinsegment.training.run_options import RunOptions, make_fabric
from dinsegment.training.steps import make_step
from dinsegment.training.validation import VALIDATIONS

SAVE_SECONDS = 5.0
"""Time kept for the last checkpoint before a time limit, at the least."""


@dataclass
class State:
    """What a run needs, beside weights and optimizer, to go on as if it had not stopped.

    Order, augmentation and stochastic depth of a step follow from the seed and the step's number alone, so no state of
    a random generator is kept.

    Attributes:
        epoch: Epochs that are done, with their validation.
        step: Steps that are done.
        best: Best validation score so far: the mean Dice, or what `training.validation` has for the kind of network.
        history: Rows of log.csv.
        losses: Of the steps of the epoch that is under way; their number is the sampler's position.
        seconds: Spent on the epoch that is under way, before this process.
        finished: Whether the last epoch is done.
    """

    epoch: int = 0
    step: int = 0
    best: float = -math.inf
    history: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    finished: bool = False


class _TimeIsUp(Exception):
    """The time limit comes before the next step would be done."""


def train(
    recipe: Recipe,
    train: Sequence[Case | PackedCase],
    validation: Sequence[Case | PackedCase],
    output: Path,
    options: RunOptions | None = None,
    resume: bool = False,
) -> State:
    """Trains a recipe on one device, or on several of them in a process each.

    See `Trainer` for the arguments and for what it writes.

    Raises:
        InputError: Cases, recipe and options do not fit each other or this machine, or the checkpoint is another run's.
        ModelError: Pretrained weights were asked for and cannot be had.
        OutputError: The folder cannot be written to.
    """
    options = options or RunOptions()
    fabric = make_fabric(options)
    # Bound, not handed over: Fabric looks into what it hands over and refuses frozen dataclasses.
    work = partial(
        _run, recipe=recipe, train=train, validation=validation, output=output, options=options, resume=resume
    )
    return work(fabric) if options.devices == 1 else fabric.launch(work)


def _run(
    fabric: Fabric,
    *,
    recipe: Recipe,
    train: Sequence[Case | PackedCase],
    validation: Sequence[Case | PackedCase],
    output: Path,
    options: RunOptions,
    resume: bool,
) -> State:
    return Trainer(recipe, train, validation, output, options=options, fabric=fabric).run(resume)


def _moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential moving average that forgets quickly at first: random weights would linger otherwise."""

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        if not averaged.is_floating_point():  # BatchNorm's count of batches
            return current
        n = int(count)
        return averaged.lerp(current.to(averaged.dtype), 1.0 - min(decay, (1 + n) / (10 + n)))

    return average


class Trainer:
    """Trains one recipe in one process; `train` starts as many as there are devices.

    Files in `output`: `checkpoint.pt` (to resume), `best.safetensors` (averaged weights with the best validation
    score), `weights.json` (which makes the folder a model, as `--model` and `load_model` take it), `last.safetensors`
    (those of the last epoch), `log.csv`, `curves.png` and `tensorboard/`.

    Args:
        recipe: What to train.
        train: Cases that weights are fitted to.
        validation: Cases that the best weights are chosen on; packed ones are validated on the packed grid. Without any
            nothing is chosen: the best weights are the last epoch's.
        output: Folder of the run.
        device: As `dinsegment.inference.devices.choose_device` takes it; used if no `options` are given.
        options: How to run it.
        fabric: Of this process, already launched; made from the options if None.
    """

    def __init__(
        self,
        recipe: Recipe,
        train: Sequence[Case | PackedCase],
        validation: Sequence[Case | PackedCase],
        output: Path,
        device: str = "auto",
        options: RunOptions | None = None,
        fabric: Fabric | None = None,
    ) -> None:
        self.started = time.perf_counter()
        self.recipe, self.train_cases, self.validation_cases, self.output = recipe, train, validation, output
        self.options = options or RunOptions(device=device)
        self.fabric = fabric or make_fabric(self.options)
        self.device = self.fabric.device
        ranks = self.fabric.world_size
        if recipe.batch % ranks:
            raise InputError(
                f"A batch of {recipe.batch} slices cannot be shared evenly by {ranks} devices: change the recipe's "
                "batch or the number of devices."
            )
        packed = any(isinstance(case, PackedCase) for case in validation)
        self.log = RunLog(output, recipe, packed, self.fabric.is_global_zero)
        torch.manual_seed(recipe.seed)
        self.network = build_network(recipe.network).to(self.device, memory_format=torch.channels_last)
        if ranks > 1 and self.device.type == "cuda":  # PyTorch has none for CPUs
            self.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
        self.average = torch.optim.swa_utils.AveragedModel(
            self.network, avg_fn=_moving_average(recipe.ema), use_buffers=True
        )
        self.step = make_step(recipe, self.network)
        self._context = load_context(recipe.context, recipe.task)
        self.state = State()
        self._slowest_step = self._slowest_validation = self._slowest_save = 0.0

    @property
    def checkpoint(self) -> Path:
        """Where the run can be taken up again."""
        return self.output / "checkpoint.pt"

    def run(self, resume: bool = False) -> State:
        """Trains to the last epoch or the time limit, from the checkpoint if `resume` and there is one."""
        recipe = self.recipe
        ensure_writable_folder(self.output)
        stacks = self._stacks()
        sampler = SliceSampler(stacks, recipe.batch, recipe.seed, recipe.balance)
        if not len(sampler):
            raise InputError(
                f"The training cases have {len(sampler.index)} slices, fewer than the batch of {recipe.batch} in "
                f"the recipe '{recipe.name}': give more cases or a smaller batch."
            )
        self.steps = len(sampler) * recipe.epochs
        self.identity = f"{len(sampler.index)} slices, {identity_of(recipe)}"
        if resume and self.checkpoint.exists():
            self._load()
        else:
            self._start()
            self.average.module.load_state_dict(self.network.state_dict())
        if self.state.finished:
            return self.state
        module = torch.compile(self.network) if self.options.compile else self.network
        self.step.set_up(self.fabric, module)
        try:
            with self.log.open(self.state.epoch):
                self._train(stacks, sampler)
        except _TimeIsUp:
            self._save()
            self.log.say(f"Stopped before {self.options.minutes:g} minutes were over, in epoch {self.state.epoch + 1}.")
        return self.state

    def _train(self, stacks: Sequence[TrainingStack], sampler: SliceSampler) -> None:
        recipe, state = self.recipe, self.state
        whole = self.log.bars.add_task("Run", total=self.steps, completed=state.step)
        while not state.finished:
            self._epoch_started = time.perf_counter()
            loss = self._epoch(stacks, sampler)
            row: dict[str, float] = {"epoch": state.epoch + 1, "loss": loss}
            last = state.epoch + 1 == recipe.epochs
            if self.validation_cases and (last or (state.epoch + 1) % recipe.validate_every == 0):
                row.update(self._validate_once())
            row["seconds"] = state.seconds + time.perf_counter() - self._epoch_started
            state.epoch += 1
            state.history.append(row)
            state.losses, state.seconds = [], 0.0
            state.finished = state.epoch == recipe.epochs
            if state.finished:
                self._write_weights(self.average.module, "last.safetensors")
                if not self.validation_cases and self.fabric.is_global_zero:
                    self._write_best(self.average.module)
            self.log.write(row, state.history, self.step.rate)
            self._save()
            self.log.bars.update(whole, completed=state.step)

    def _start(self) -> None:
        """Loads the weights that the run begins with; without any, those that the seed gave stay."""
        from dinsegment.training.pretrained import load_autoencoders, load_pretrained, load_start

        options = self.options
        if options.pretrained and options.start:
            raise InputError("A run starts with ImageNet's weights or with those of a model: give one of them.")
        if options.start:
            load_start(self.network, options.start)
        elif options.pretrained:
            load_pretrained(self.network)
        frozen = self.network.kind.frozen
        if options.autoencoders and not frozen:
            raise InputError(f"The network of the recipe '{self.recipe.name}' asks no autoencoder: leave them out.")
        if frozen and (options.autoencoders or not options.start):
            load_autoencoders(self.network, options.autoencoders)

    def _stacks(self) -> list[TrainingStack]:
        """All training cases, in the device's memory where they take a quarter of it at most."""
        recipe = self.recipe
        stacks = [
            case.stack if isinstance(case, PackedCase) else prepare(case, recipe.task, recipe.preprocessing)
            for case in self.train_cases
        ]
        if self.device.type == "cuda" and sum(s.bytes for s in stacks) < free_memory(self.device) / 4:
            stacks = [s.to(self.device) for s in stacks]
        return stacks

    def _epoch(self, stacks: Sequence[TrainingStack], sampler: SliceSampler) -> float:
        """What is left of the epoch; returns the mean loss of all of it."""
        self.network.train()
        rank, ranks = self.fabric.global_rank, self.fabric.world_size
        share = self.recipe.batch // ranks
        batches = sampler.epoch(self.state.epoch)
        done = len(self.state.losses)
        losses: list[Tensor] = []
        bar = self.log.bars.add_task(f"Epoch {self.state.epoch + 1}", total=len(batches), completed=done)
        self._saved_at = time.perf_counter()
        for number in range(done, len(batches)):
            started = time.perf_counter()
            try:
                self._check_time(self._slowest_step)
            except _TimeIsUp:
                self._keep(losses)
                raise
            mine = slice(rank * share, (rank + 1) * share)
            losses.append(self._step(*self._batch(stacks, batches[number][mine], first=mine.start)))
            self.state.step += 1
            self.log.bars.update(bar, completed=number + 1)
            if self.options.progress and self.fabric.is_global_zero:
                text = f"Epoch {self.state.epoch + 1} of {self.recipe.epochs}"
                self.options.progress(self.state.step / self.steps, text)
            if self.options.minutes is not None:
                losses[-1].item()  # waits for the device, so that the step's time is known
            if self._checkpoint_due():
                self._keep(losses)
                losses = []
                self._save()
            if number > done:  # the first one compiles and warms up
                self._slowest_step = max(self._slowest_step, time.perf_counter() - started)
        self._keep(losses)
        self.log.bars.remove_task(bar)
        return float(np.mean(self.state.losses))

    def _checkpoint_due(self) -> bool:
        """Whether it is time for a checkpoint within the epoch, by the clock of the first process."""
        every = self.options.checkpoint_minutes
        return every is not None and self.fabric.broadcast(time.perf_counter() - self._saved_at >= 60 * every)

    def _keep(self, losses: Sequence[Tensor]) -> None:
        """Takes the losses of steps into the state: the mean over all processes' shares."""
        if losses:
            self.state.losses += self.fabric.all_reduce(torch.stack(list(losses)), reduce_op="mean").tolist()

    def _step(self, image: Tensor, enhanced: Tensor, labels: Tensor) -> Tensor:
        # Stochastic depth draws from the global generator: after a resume it must draw the same.
        torch.manual_seed(_seed(self.recipe.seed, self.state.step, self.fabric.global_rank))
        loss = self.step(image, enhanced, labels, self.state.step, self.steps)
        self.average.update_parameters(self.network)
        return loss

    def _batch(
        self, stacks: Sequence[TrainingStack], batch: Sequence[tuple[int, int]], first: int = 0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Augmented slices, their enhanced ones and labels.

        The seed, the step and a slice's place in the whole batch, of which these begin at `first`, alone decide what is
        drawn: neither the device nor the number of processes does.
        """
        recipe, random = self.recipe, torch.Generator()
        drawn = []
        for place, (n, k) in enumerate(batch, start=first):
            random.manual_seed(_seed(recipe.seed, self.state.step, place))
            channels = recipe.network.in_channels
            drawn.append(recipe.augmentation(stacks[n], k, recipe.preprocessing, random, channels))
        image = torch.stack([i for i, _ in drawn]).to(self.device)
        labels = torch.stack([t for _, t in drawn]).to(self.device)
        enhanced = recipe.preprocessing.enhancement(image)
        image, enhanced = (x.contiguous(memory_format=torch.channels_last) for x in (image, enhanced))
        return image, enhanced, labels

    def _validate_once(self) -> dict[str, float]:
        """Validates in the first process while the others wait."""
        self._check_time(self._slowest_validation)
        started = time.perf_counter()
        row = self._validate() if self.fabric.is_global_zero else {}
        row, self.state.best = self.fabric.broadcast((row, self.state.best))
        self._slowest_validation = max(self._slowest_validation, time.perf_counter() - started)
        return row

    def _validate(self) -> dict[str, float]:
        """Scores of the averaged weights, mean over cases; keeps the best."""
        network = build_network(self.recipe.network)
        network.load_state_dict(self.average.module.state_dict())
        runner = Runner(for_inference(network).to(self.device), self.device, context=self._context)
        validated, scores = VALIDATIONS[network.kind.returns], []
        for case in self.validation_cases:
            if self.fabric.world_size == 1:
                self._check_time(0.0)
            scores.append(validated(runner, self.recipe, case))
        row = {name: float(np.mean([one[name] for one in scores])) for name in scores[0]}
        score = next(iter(row.values()))
        if score > self.state.best:
            self.state.best = score
            self._write_best(network)
        return row

    def _write_best(self, network: nn.Module) -> None:
        """best.safetensors, and the weights.json that makes the folder a model for `--model`."""
        cases = f"{len(self.train_cases)} training and {len(self.validation_cases)} validation cases"
        write_run(self.recipe, save(_tensors(network)), cases, self.output)

    def _write_weights(self, network: nn.Module, name: str) -> None:
        if self.fabric.is_global_zero:
            with atomic_path(self.output / name) as path:
                path.write_bytes(save(_tensors(network)))

    def _check_time(self, needed: float) -> None:
        """Raises _TimeIsUp if the limit comes before so many seconds and a checkpoint are over.

        All processes decide the same, by the clock of the first.
        """
        if self.options.minutes is None:
            return
        left = 60 * self.options.minutes - (time.perf_counter() - self.started)
        up = left < 1.5 * needed + max(SAVE_SECONDS, 2 * self._slowest_save)
        if self.fabric.broadcast(up):
            raise _TimeIsUp

    def _save(self) -> None:
        started = time.perf_counter()
        if self.fabric.is_global_zero:
            if self.state.losses:
                now = {"seconds": self.state.seconds + started - self._epoch_started}
            else:
                now = {"seconds": 0.0}
            state: dict[str, Any] = {
                "identity": self.identity,
                "network": self.network.state_dict(),
                "average": self.average.state_dict(),
                **self.step.state_dict(),
                "scaler": self.fabric.strategy.precision.state_dict(),
                "state": {**vars(self.state), **now},
            }
            with atomic_path(self.checkpoint) as path:
                torch.save(state, path)
        self._saved_at = time.perf_counter()
        self._slowest_save = max(self._slowest_save, self._saved_at - started)

    def _load(self) -> None:
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        if (before := state.get("identity")) != self.identity:
            raise InputError(
                f"'{self.checkpoint}' was made with another recipe or other cases"
                f"{differences(str(before), self.identity)}: resume with the same ones, or give another output folder."
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.step.load_state_dict(state)
        self.fabric.strategy.precision.load_state_dict(state["scaler"])
        self.state = State(**state["state"])


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """Weights for safetensors, which takes no tensors that share memory, as those of a shared encoder do."""
    return {k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items()}


def _seed(*numbers: int) -> int:
    return hash(numbers) % 2**62
