"""Cases of the user's from which the worker trains a model further: what is asked, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Adapted:
    """What came of training.

    Attributes:
        output: The folder of the run, which is a model.
        better: Whether cases that were held out got better by it.
        text: What happened, for the user.
    """

    output: Path
    better: bool
    text: str


class AdaptPart:
    """A folder of training cases.

    Args:
        model: Name of the model to begin with.
        task: Name of its task.
        cases: The folder, as `dinsegment.correction.case` fills it.
        output: The folder of the run, which is not there yet.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
    """

    def __init__(self, model: str, task: str, cases: Path, output: Path, device: str) -> None:
        self._request = {
            "command": "adapt",
            "model": model,
            "task": task,
            "cases": str(cases),
            "output": str(output),
            "device": device,
        }

    def check(self) -> None:
        """What is wrong with the cases the worker tells."""

    def write(self, _folder: Path) -> Iterator[None]:
        """The worker reads the cases itself."""
        yield from ()

    def request(self) -> dict[str, Any]:
        """What the worker is told."""
        return self._request

    def result(self, _folder: Path, event: dict[str, Any]) -> Adapted:
        """What the worker's `done` says.

        Raises:
            KeyError, TypeError: It is not what was agreed.
        """
        return Adapted(Path(event["output"]), bool(event["better"]), str(event["text"]))

    def close(self) -> None:
        """There are no files of its own."""
