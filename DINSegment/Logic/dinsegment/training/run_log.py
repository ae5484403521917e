"""What a run tells on its way: log.csv, curves.png, TensorBoard, and lines and bars on the console."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dinsegment.files import atomic_path
from dinsegment.training.curves import write_curves
from dinsegment.training.recipe import Recipe


class RunLog:
    """The log of a run, which its first process writes and the others do not.

    Attributes:
        bars: The time left of the epoch and of the run, on a terminal only.

    Args:
        output: Folder of the run.
        recipe: What is trained.
        packed: Whether validation is computed on the packed grid, not on the images' own.
        writes: Whether this is the first process.
    """

    def __init__(self, output: Path, recipe: Recipe, packed: bool, writes: bool) -> None:
        self._output, self._recipe, self._writes = output, recipe, writes
        self.grid = "on the packed grid" if packed else "on the images' own grids"
        self._console = Console()
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self._console,
            transient=True,
            disable=not (self._console.is_terminal and writes),
        )

    @contextmanager
    def open(self, epoch: int) -> Iterator[None]:
        """Shows the bars and opens TensorBoard's log; `epoch`: how many are done."""
        with self.bars:
            if not self._writes:
                yield
                return
            from torch.utils.tensorboard import SummaryWriter

            # purge_step leaves out what a stopped run wrote after its checkpoint.
            with SummaryWriter(str(self._output / "tensorboard"), purge_step=epoch + 1) as self._board:
                yield

    def write(self, row: dict[str, float], history: Sequence[dict[str, float]], learning_rate: float) -> None:
        """An epoch: log.csv, TensorBoard, a line on the console and, after a validation, curves.png.

        Args:
            row: Of the epoch, the last one of the history.
            history: Of all epochs.
            learning_rate: At the end of the epoch.
        """
        if not self._writes:
            return
        epoch = len(history)
        columns = list(dict.fromkeys(key for row in history for key in row))
        with atomic_path(self._output / "log.csv") as path, path.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(history)
        for name, value in row.items():
            if name != "epoch":
                tag = f"validation {self.grid}/{name}" if name.startswith("dice") else name
                self._board.add_scalar(tag, value, epoch)
        self._board.add_scalar("learning rate", learning_rate, epoch)
        self._board.flush()
        if "dice" in row:
            write_curves(history, self._output / "curves.png", self._recipe.name, self.grid)
        left = row["seconds"] * (self._recipe.epochs - epoch) / 60
        text = "  ".join(f"{k} {v:.4g}" for k, v in row.items())
        where = f"  (Dice {self.grid})" if "dice" in row else ""
        self.say(f"{text}{where}  about {left:.0f} min left")

    def say(self, text: str) -> None:
        """A line on the console."""
        if self._writes:
            self._console.print(text, highlight=False, soft_wrap=True)
