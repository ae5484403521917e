"""Trains a context network, and puts a trained one among the models that ship.

python -m dinsegment.training.context train --data BTCV --train SPLIT --output RUN [--validation SPLIT] [--minutes 178]
python -m dinsegment.training.context publish --weights FILE --description TEXT --data data.json
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from dinsegment.errors import DINSegmentError
from dinsegment.inference.devices import choose_device
from dinsegment.models.entries import models_folder
from dinsegment.training import publish as publishing
from dinsegment.training.cases import find_cases, read_split
from dinsegment.training.context.loop import train_context
from dinsegment.training.context.recipe import ContextRecipe

app = typer.Typer(add_completion=False)


@app.command()
def train(
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


@app.command()
def publish(
    weights: Annotated[Path, typer.Option(help="best.safetensors of a run.")],
    description: Annotated[str, typer.Option(help="A sentence for the user.")],
    data: Annotated[Path, typer.Option(help="JSON: name, license, citation and split of what it learned from.")],
) -> None:
    """Put a trained network among the models that ship."""
    about = json.loads(data.read_text(encoding="utf-8"))
    publishing.publish(ContextRecipe(), weights, description, about, models_folder())


if __name__ == "__main__":
    app()
