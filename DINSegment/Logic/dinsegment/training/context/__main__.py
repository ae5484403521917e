"""Trains a network of volumes, and puts a trained one among the models that ship.

python -m dinsegment.training.context train --data BTCV --train SPLIT --output RUN [--validation SPLIT] [--minutes 178]
python -m dinsegment.training.context train --recipe organs --start obeliskhybrid_tcia_fold1.pth --data BTCV ...
python -m dinsegment.training.context publish [--recipe organs] --weights FILE --description TEXT --data data.json
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from dinsegment.errors import DINSegmentError, InputError
from dinsegment.inference.devices import choose_device
from dinsegment.models.entries import models_folder
from dinsegment.training import publish as publishing
from dinsegment.training.cases import find_cases, read_split
from dinsegment.training.context.data import TrunkLesson
from dinsegment.training.context.loop import Lesson, train_context
from dinsegment.training.context.organ_data import OrganLesson
from dinsegment.training.context.published import published_weights
from dinsegment.training.context.recipe import ContextRecipe, OrganRecipe

app = typer.Typer(add_completion=False)

RecipeName = Literal["trunk", "organs"]
RECIPES = {"trunk": ContextRecipe, "organs": OrganRecipe}


@app.command()
def train(
    data: Annotated[Path, typer.Option(help="Folder with labelled CTs.")],
    train: Annotated[Path, typer.Option(help="Patients to learn from: a text file, one a line.")],
    output: Annotated[Path, typer.Option(help="Folder of the run; resumed if it has a checkpoint.")],
    validation: Annotated[Path | None, typer.Option(help="Patients whose Dice the log tells.")] = None,
    recipe: Annotated[RecipeName, typer.Option(help="What is seen: the trunk, or the box of its organs.")] = "trunk",
    start: Annotated[Path | None, typer.Option(help="Published weights that a network of organs begins with.")] = None,
    minutes: Annotated[float | None, typer.Option(help="How long to train in all; the recipe says.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
) -> None:
    """Train a network that tells what may be where in a trunk."""
    try:
        lesson = _lesson(recipe, minutes, start)
        cases, held = (
            find_cases(data, read_split(split), lesson.recipe.task) if split else [] for split in (train, validation)
        )
        train_context(lesson, cases, held, output, choose_device(device))
    except DINSegmentError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


def _lesson(name: RecipeName, minutes: float | None, start: Path | None) -> Lesson:
    recipe = RECIPES[name]()
    recipe = recipe if minutes is None else replace(recipe, minutes=minutes)
    if isinstance(recipe, OrganRecipe):
        return OrganLesson(recipe, published_weights(start, recipe.network, recipe.seed) if start else None)
    if start is not None:
        raise InputError("Published weights are for a network of organs: give --recipe organs, or leave out --start.")
    return TrunkLesson(recipe)


@app.command()
def publish(
    weights: Annotated[Path, typer.Option(help="best.safetensors of a run.")],
    description: Annotated[str, typer.Option(help="A sentence for the user.")],
    data: Annotated[Path, typer.Option(help="JSON: name, license, citation and split of what it learned from.")],
    recipe: Annotated[RecipeName, typer.Option(help="As for train.")] = "trunk",
) -> None:
    """Put a trained network among the models that ship."""
    about = json.loads(data.read_text(encoding="utf-8"))
    publishing.publish(RECIPES[recipe](), weights, description, about, models_folder())


if __name__ == "__main__":
    app()
