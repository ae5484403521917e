"""A result of which the worker draws samples: what is written for it, what it is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dinsegment.images.samples import Samples
from dinsegment.images.volume import check_grid
from dinsegment.tasks import get_task
from dinsegment.worker_exchange import DISAGREEMENT, IMAGE, LABELS
from dinsegment_slicer.running.segment_part import JobImage, load, write_blocks


@dataclass(frozen=True, eq=False)
class Drawn:
    """What the worker has drawn of one image.

    Attributes:
        samples: Without where they differ; None where the model finds no anatomy.
        disagreement: Where they differ, (k, j, i) uint8, STEPS for 1; None where there are none.
        text: Why there are none, a sentence; empty where there are.
    """

    samples: Samples | None
    disagreement: np.ndarray | None
    text: str


class SamplesPart:
    """One image of a result.

    Args:
        image: Read while the part is written.
        labels: (k, j, i) uint8, as the user has them: where they could be otherwise is asked.
        task: Name of the task.
        model: Name of the model that made the result, or the folder of a run; None for the task's first.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        draws: How many samples.
    """

    def __init__(
        self, image: JobImage, labels: np.ndarray, task: str, model: str | None, device: str, draws: int
    ) -> None:
        self._image: JobImage | None = image
        self._labels: np.ndarray | None = labels
        self._shape = labels.shape
        matrix = np.asarray(image.ijk_to_ras).tolist()
        self._request = {
            "command": "samples",
            "task": task,
            "model": model,
            "device": device,
            "draws": draws,
            "volume": {"name": image.name, "ijk_to_ras": matrix, "modality": image.modality},
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

    def result(self, folder: Path, event: dict[str, Any]) -> Drawn:
        """What the worker's `done` and its file say.

        Raises:
            KeyError, TypeError, ValueError: They are not what was agreed.
        """
        described, text = event["samples"], str(event["text"])
        if described is None:
            return Drawn(None, None, text)
        samples = Samples.from_dict(described, np.zeros((0, 0, 0), np.float32))
        return Drawn(samples, load(folder / DISAGREEMENT, np.uint8, self._shape), text)

    def close(self) -> None:
        """All files are in the job's folder, which the job removes."""
        self._image = self._labels = None
