"""A result of which a model is asked what it did not expect: what is written for it, what it is asked, its answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dinsegment.images.volume import check_grid
from dinsegment.tasks import get_task
from dinsegment.worker_exchange import IMAGE, LABELS, UNEXPECTED
from dinsegment_slicer.running.segment_part import JobImage, load, write_blocks


@dataclass(frozen=True, eq=False)
class Told:
    """What the worker has told of one image.

    Attributes:
        model: Name of the model that was asked.
        steps: What it did not expect, (k, j, i) uint8, STEPS for the whole grey range; None where nothing is segmented.
        text: Why there is nothing, a sentence; empty where there is.
    """

    model: str
    steps: np.ndarray | None
    text: str


class UnexpectedPart:
    """One image of a result.

    Args:
        image: Read while the part is written.
        labels: (k, j, i) uint8, as the user has them: around them is looked.
        task: Name of the task.
        model: Name of a model that tells what it did not expect, or the folder of a run.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
    """

    def __init__(self, image: JobImage, labels: np.ndarray, task: str, model: str, device: str) -> None:
        self._image: JobImage | None = image
        self._labels: np.ndarray | None = labels
        self._shape = labels.shape
        self._request = {
            "command": "unexpected",
            "task": task,
            "model": model,
            "device": device,
            "volume": {
                "name": image.name,
                "ijk_to_ras": np.asarray(image.ijk_to_ras).tolist(),
                "modality": image.modality,
            },
        }

    def check(self) -> None:
        """Raises InputError for an unknown task."""
        get_task(self._request["task"])

    def write(self, folder: Path) -> Iterator[None]:
        """Writes image and labels, one block a step; neither is needed afterwards.

        Raises:
            InputError: The grid is none.
        """
        check_grid(self._image)
        yield from write_blocks(folder / IMAGE, self._image.array)
        yield from write_blocks(folder / LABELS, self._labels, np.uint8)
        self._image = self._labels = None

    def request(self) -> dict[str, Any]:
        """What the worker is told."""
        return self._request

    def result(self, folder: Path, event: dict[str, Any]) -> Told:
        """What the worker's `done` and its file say.

        Raises:
            KeyError, TypeError, ValueError: They are not what was agreed.
        """
        model, text = str(event["model"]), str(event["text"])
        steps = load(folder / UNEXPECTED, np.uint8, self._shape) if event["found"] else None
        return Told(model, steps, text)

    def close(self) -> None:
        """All files are in the job's folder, which the job removes."""
        self._image = self._labels = None
