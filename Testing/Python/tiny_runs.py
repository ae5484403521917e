"""Runs of a tiny recipe in processes of their own, which import no more than a run needs."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from lightning_fabric import Fabric

from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.network import DINConfig
from dinsegment.tasks import HEART
from dinsegment.training.augmentation import Augmentation
from dinsegment.training.cases import Case
from dinsegment.training.recipe import Recipe
from dinsegment.training.run_options import RunOptions
from dinsegment.training.trainer import Trainer

TINY = DINConfig(
    dims=(8, 8, 16, 16),
    depths=(1, 1, 1, 1),
    stem_stride=2,
    layer_scale=0.1,
    heads=(1, 1, 1, 1),
    window=4,
    merge_kernel=1,
    expand_kernel=1,
    decoder_dim=8,
    decoder_layers=1,
    drop_path=0.2,  # draws from torch's own random numbers
)
RECIPE = Recipe(
    name="tiny",
    task=HEART,
    network=TINY,
    preprocessing=Preprocessing(spacing=4.0, box=32, overview_spacing=6.0),
    augmentation=Augmentation(overview=0.2),
    learning_rate=5e-3,
    warmup_steps=2,
    batch=4,
    epochs=2,
    ema=0.8,
    validate_every=1,
)
SHARED = replace(
    RECIPE, network=replace(TINY, drop_path=0.0), epochs=1, learning_rate=1e-3, augmentation=Augmentation(blur=(0, 1))
)
CPU = RunOptions(device="cpu")


class Killed(Trainer):
    """Its process is killed before the step with this number, with no chance to tidy up."""

    def _step(self, *batch):
        if self.state.step == 7:  # in the middle of the second epoch
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._step(*batch)


def run_killed(cases: Sequence[Case], runs: Sequence[tuple[Path, float | None]]) -> None:
    """Runs, by their folder and the minutes between checkpoints, each in a fork of this process, which must die."""
    for output, minutes in runs:
        pid = os.fork()
        if pid == 0:
            try:
                Killed(RECIPE, cases, cases[:1], output, options=replace(CPU, checkpoint_minutes=minutes)).run()
            finally:
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status


def run_one_of_two(fabric: Fabric, cases: Sequence[Case], output: Path) -> None:
    """One of two processes that share the batches of a run."""
    torch.set_num_threads(1)
    trainer = Trainer(SHARED, cases, cases[:1], output, options=replace(CPU, devices=2), fabric=fabric)
    trainer.run()
    torch.save(trainer.network.state_dict(), output / f"rank{fabric.global_rank}.pt")
