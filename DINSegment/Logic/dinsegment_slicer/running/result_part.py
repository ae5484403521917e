"""An image and the labels that the user has of it, about which the worker is asked something."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dinsegment.images.volume import check_grid
from dinsegment.tasks import get_task
from dinsegment.worker_exchange import IMAGE, LABELS
from dinsegment_slicer.running.segment_part import JobImage, write_blocks


class ResultPart:
    """One image of a result. What is derived from it says what the worker's answer means.

    Args:
        image: Read while the part is written.
        labels: (k, j, i) uint8, as the user has them.
        command: What the worker is to do.
        task: Name of the task.
        model: Name of the model that is asked, or the folder of a run; None for the task's first.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        options: What else the command takes.
    """

    def __init__(
        self,
        image: JobImage,
        labels: np.ndarray,
        command: str,
        task: str,
        model: str | None,
        device: str,
        **options: Any,
    ) -> None:
        self._image: JobImage | None = image
        self._labels: np.ndarray | None = labels
        self._shape = labels.shape
        matrix = np.asarray(image.ijk_to_ras).tolist()
        volume = {"name": image.name, "ijk_to_ras": matrix, "modality": image.modality}
        self._request = {
            "command": command,
            "task": task,
            "model": model,
            "device": device,
            "volume": volume,
            **options,
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

    def close(self) -> None:
        """All files are in the job's folder, which the job removes."""
        self._image = self._labels = None
