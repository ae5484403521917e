"""What the worker is asked for strokes: to look at slices of an image, and to answer what was drawn in one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dinsegment.correction.serving import ANSWER, BELONGS, MASKS, OTHER
from dinsegment.images.volume import check_grid
from dinsegment.tasks import get_task
from dinsegment.worker_exchange import IMAGE
from dinsegment_slicer.running.segment_part import JobImage, load, write_blocks


class LookPart:
    """Slices of an image that the worker is to look at. Its result says whether the worker knows the image.

    Args:
        key: What names the image.
        slices: Their indices along the volume's slice axis.
        image: The image, where the worker does not know it yet; read while the part is written.
        task: Name of its task.
        model: Name of a model, or None for the task's first.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
    """

    def __init__(
        self,
        key: str,
        slices: Sequence[int],
        image: JobImage | None = None,
        task: str = "",
        model: str | None = None,
        device: str = "auto",
    ) -> None:
        self._image = image
        self._request: dict[str, Any] = {"command": "look", "key": key, "slices": [int(n) for n in slices]}
        if image is not None:
            grid = np.asarray(image.ijk_to_ras).tolist()
            volume = {"name": image.name, "ijk_to_ras": grid, "modality": image.modality}
            self._request |= {"volume": volume, "task": task, "model": model, "device": device}

    def check(self) -> None:
        """Raises InputError for an unknown task."""
        if self._image is not None:
            get_task(self._request["task"])

    def write(self, folder: Path) -> Iterator[None]:
        """Writes the image, one block a step.

        Raises:
            InputError: Its grid is none.
        """
        if self._image is not None:
            check_grid(self._image)
            yield from write_blocks(folder / IMAGE, self._image.array)
            self._image = None

    def request(self) -> dict[str, Any]:
        """What the worker is told."""
        return self._request

    def result(self, _folder: Path, event: dict[str, Any]) -> bool:
        """Whether the worker knows the image."""
        return bool(event["known"])

    def close(self) -> None:
        """All files are in the job's folder, which the job removes."""


class StrokePart:
    """Strokes of one slice. Its result are the new masks by slice, or None where the worker does not know the image.

    Args:
        key: What names the image.
        segment: The label.
        slice: The index of the slice that was drawn in.
        belongs: Pixels of it that belong to the segment, bool.
        other: Pixels that do not.
        masks: What the segment covers now, bool, by slice: consecutive ones, that of the strokes among them.
    """

    def __init__(
        self,
        key: str,
        segment: int,
        slice: int,
        belongs: np.ndarray,
        other: np.ndarray,
        masks: Mapping[int, np.ndarray],
    ) -> None:
        self._first = min(masks)
        self._masks = np.stack([masks[n] for n in range(self._first, self._first + len(masks))])
        self._drawn = belongs, other
        self._request = {"command": "stroke", "key": key, "segment": segment, "slice": slice, "first": self._first}

    def check(self) -> None:
        """Nothing can be wrong that the worker does not tell."""

    def write(self, folder: Path) -> Iterator[None]:
        """Writes masks and strokes at once: they are few."""
        for name, array in zip((MASKS, BELONGS, OTHER), (self._masks, *self._drawn), strict=True):
            np.save(folder / name, array)
        yield

    def request(self) -> dict[str, Any]:
        """What the worker is told."""
        return self._request

    def result(self, folder: Path, event: dict[str, Any]) -> dict[int, np.ndarray] | None:
        """The new masks, or None where the worker does not know the image.

        Raises:
            KeyError, ValueError: They are not what was agreed.
        """
        if not event["known"]:
            return None
        new = load(folder / ANSWER, np.bool_, self._masks.shape)
        return dict(enumerate(np.array(new), self._first))

    def close(self) -> None:
        """All files are in the job's folder, which the job removes."""
