"""The command for models and their weights: dinsegment models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from dinsegment.cli_console import NOTE, out, progress_bar, updater


def models(
    fetch: Annotated[str | None, typer.Option("--fetch", metavar="NAME", help="Download a model's weights.")] = None,
    file: Annotated[
        Path | None,
        typer.Option("--import", metavar="FILE", help="Take in a weights file that another machine downloaded."),
    ] = None,
) -> None:
    """List the models and where their weights are; download or import weights."""
    if file is not None:
        _import_weights(file)
    if fetch is not None:
        _fetch_weights(fetch)
    if file is None and fetch is None:
        _list_models()


def _list_models() -> None:
    from dinsegment.models.entries import read_entries
    from dinsegment.models.weights import find_weights

    table = Table("Model", "Task", "Test Dice", "Trained on", "Licence", "Weights", title="Models")
    for entry in read_entries():
        score = entry.scores.get("dice", {}).get("mean")
        found = find_weights(entry)
        place = found[0] if found else "to be downloaded" if "repository" in entry.weights else "missing"
        table.add_row(
            entry.name, entry.task, f"{score:.3f}" if score else "", entry.data["name"], entry.license,
            f"{place}, {entry.weights['size'] / 1e6:.1f} MB",
        )  # fmt: skip
    out.print(table)
    out.print(NOTE)


def _fetch_weights(name: str) -> None:
    from dinsegment.models.entries import choose_folder, find_entry, folder_of, told_by
    from dinsegment.models.weights import provide_weights

    chosen, folder = choose_folder(name, None)
    entry = find_entry(chosen, None, folder)
    for one in (entry, *told_by(entry.context, folder)):
        with progress_bar() as bar:
            line = bar.add_task(one.name, total=1.0)
            path = provide_weights(one, folder_of(one.name, folder), updater(bar, line))
        out.print(f"The weights of '{one.name}' are at {path}", soft_wrap=True, markup=False)


def _import_weights(file: Path) -> None:
    from dinsegment.models.weights import import_weights, locate

    with progress_bar() as bar:
        line = bar.add_task(file.name, total=1.0)
        entry = import_weights(file, progress=updater(bar, line))
    out.print(f"Imported the weights of '{entry.name}': they are at {locate(entry)}", soft_wrap=True, markup=False)
