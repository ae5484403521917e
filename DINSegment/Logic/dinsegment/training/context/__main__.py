"""Trains a context network.

python -m dinsegment.training.context --data BTCV --train SPLIT --output RUN [--validation SPLIT] [--minutes 88]
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from dinsegment.errors import DINSegmentError
from dinsegment.inference.devices import choose_device
from dinsegment.training.cases import find_cases, read_split
from dinsegment.training.context.loop import train_context
from dinsegment.training.context.recipe import ContextRecipe


def main(
    data: Annotated[Path, typer.Option(help="Folder with labelled CTs.")],
    train: Annotated[Path, typer.Option(help="Patients to learn from: a text file, one a line.")],
    output: Annotated[Path, typer.Option(help="Folder of the run; resumed if it has a checkpoint.")],
    validation: Annotated[Path | None, typer.Option(help="Patients whose Dice the log tells.")] = None,
    minutes: Annotated[float, typer.Option(help="How long to train in all.")] = ContextRecipe.minutes,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
) -> None:
    """Train a network that tells what may be where in a trunk."""
    recipe = replace(ContextRecipe(), minutes=minutes)
    try:
        cases, held = (
            find_cases(data, read_split(split), recipe.task) if split else [] for split in (train, validation)
        )
        train_context(recipe, cases, held, output, choose_device(device))
    except DINSegmentError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(main)
