"""What the commands print to: two consoles and a bar, which also shows a model being loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from dinsegment.errors import printable

if TYPE_CHECKING:
    from dinsegment.inference.model import Model
    from dinsegment.tasks import Task

NOTE = "Research tool, not a medical device."

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


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
    loaded = load_model(name, task, progress=updater(bar, line))
    bar.remove_task(line)
    return loaded


def warn(text: object) -> None:
    """Tells the user something beside the results, on stderr."""
    err.print(f"Warning: {printable(text)}", soft_wrap=True, markup=False)


def updater(bar: Progress, line: int) -> Callable[[float, str], None]:
    """What takes how far a run is, and shows it in a line of a bar."""
    return lambda fraction, text: bar.update(line, completed=fraction, description=text)
