"""The published network on this machine: one training step and one volume evaluated, seconds and peak memory.

python Testing/Benchmarks/din_base.py DATA PATIENT [--recipe acdc-din-base] [--batch 1] [--device cpu]

DATA is a data set as `dinsegment train` takes it, PATIENT one of its patients. A step has the recipe's own batch on a
GPU; a CPU's memory may only hold one slice.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from dinsegment.inference.model import Model
from dinsegment.training.cases import find_cases
from dinsegment.training.dataset import SliceSampler
from dinsegment.training.evaluation import evaluate
from dinsegment.training.recipe import load_recipe
from dinsegment.training.run_options import RunOptions
from dinsegment.training.trainer import Trainer


def peak() -> float:
    """Largest resident memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("patient")
    parser.add_argument("--recipe", default="acdc-din-base")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    recipe = replace(load_recipe(options.recipe), batch=options.batch)
    cases = find_cases(options.data, [options.patient], recipe.task)[:1]
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(recipe, cases, cases, Path(folder), options=RunOptions(device=options.device))
        stacks = trainer._stacks()
        sampler = SliceSampler(stacks, recipe.batch, recipe.seed)
        trainer.steps = len(sampler) * recipe.epochs
        trainer.step.set_up(trainer.fabric, trainer.network)
        before = next(trainer.network.parameters()).detach().clone()
        started = time.perf_counter()
        loss = trainer._step(*trainer._batch(stacks, sampler.epoch(0)[0])).item()
        seconds = time.perf_counter() - started
        moved = float((next(trainer.network.parameters()).detach() - before).abs().max())
        print(f"{recipe.name}, batch {recipe.batch}, {trainer.device}: one step {seconds:.1f} s, loss {loss:.3f}, "
              f"weights moved by up to {moved:.1e}, peak {peak():.1f} GB", flush=True)  # fmt: skip
        network = trainer.network.eval()
        del trainer
        model = Model(recipe.name, recipe.task.name, network, recipe.preprocessing)
        result = evaluate(model, recipe.task, cases, options.device)
        case = result.cases[0]
        print(f"evaluation of {cases[0].name}: {case.seconds:.1f} s, Dice {case.dice:.3f} after one step, "
              f"peak {peak():.1f} GB")  # fmt: skip


if __name__ == "__main__":
    main()
