"""What the commands have in common: the consoles, a bar, and the options that several of them take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from dinsegment.inference.model import Model
    from dinsegment.tasks import Task

NOTE = "Research tool, not a medical device."

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

TaskName = Annotated[str, typer.Option("--task", help="What to segment, such as heart or abdomen.")]
ModelName = Annotated[
    str | None,
    typer.Option("--model", help="A model of `dinsegment models`, or the folder of a training; else the task's first."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
DataFolder = Annotated[Path, typer.Option("--data", help="Labelled cases: as ACDC, BTCV or nnU-Net have them.")]
LabelNames = Annotated[Path | None, typer.Option("--labels", help="JSON that names the data set's labels.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results; created if missing.")]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace results that were changed since they were made, and say which."),
]
CommonGrid = Annotated[
    bool,
    typer.Option(
        "--common-grid",
        help="DICOM SEG of a heart that moved between slices: all frames on one grid, for viewers that need it.",
    ),
]
LeaveOut = Annotated[
    bool, typer.Option("--leave-out-failed", help="Go on without cases that cannot be read or segmented.")
]


def progress_bar() -> Progress:
    """A bar on stderr while that is a terminal; elsewhere nothing, not even the empty line that a bar leaves."""
    return Progress(
        TextColumn("{task.description}", markup=False),  # names of files may have brackets
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        console=err if err.is_terminal else Console(quiet=True),
        transient=True,
    )


def load(name: str | None, task: Task, bar: Progress) -> Model:
    """Loads a model; weights that do not ship are downloaded first, and the bar shows it."""
    from dinsegment.inference.model import load_model

    line = bar.add_task("Loading the model", total=1.0)
    loaded = load_model(name, task, progress=lambda done, text: bar.update(line, completed=done, description=text))
    bar.remove_task(line)
    return loaded
