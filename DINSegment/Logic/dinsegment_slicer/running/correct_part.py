"""A result that the user has corrected, from which the worker learns: what is written, asked and answered."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dinsegment.errors import InputError
from dinsegment.images.segmentation import Finding
from dinsegment.images.volume import check_grid
from dinsegment.tasks import get_task
from dinsegment.worker_exchange import CORRECTED_OF, IMAGE_OF, LABELS_OF
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.running.segment_part import JobImage, finding_of, load, write_blocks


@dataclass(frozen=True, eq=False)
class Corrected:
    """What the worker has made of the corrections.

    Attributes:
        applied: Whether other slices follow; if not, the labels are those that were given.
        text: What happened, or why nothing did, for the user.
        labels: Of each phase, (k, j, i) uint8.
        changed: The slices that are other than before, of each phase.
        seen: The slices that a person corrected, of each phase.
        findings: What looks wrong now, of each phase.
        first: Where to correct first, of each phase: dictionaries with slice, segment, ml and ras.
        warnings: What else there is to say.
        model: Name of the model that learned.
    """

    applied: bool
    text: str
    labels: tuple[np.ndarray, ...]
    changed: tuple[tuple[int, ...], ...]
    seen: tuple[tuple[int, ...], ...]
    findings: tuple[tuple[Finding, ...], ...]
    first: tuple[tuple[dict[str, Any], ...], ...]
    warnings: tuple[str, ...]
    model: str


class CorrectPart:
    """All phases of a result, with the slices that a person corrected.

    Args:
        images: The phases; read while the part is written.
        labels: Of each phase, (k, j, i) uint8, as the user has them now.
        seen: Of each phase, the slices that a person corrected.
        task: Name of the task.
        model: Name of the model that made the result; None for the task's first.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
    """

    def __init__(
        self,
        images: Sequence[JobImage],
        labels: Sequence[np.ndarray],
        seen: Sequence[Collection[int]],
        task: str,
        model: str | None,
        device: str,
    ) -> None:
        self._phases = list(zip(images, labels, strict=True))
        self._shapes = [array.shape for array in labels]
        self._seen = [sorted(slices) for slices in seen]
        volumes = [
            {"name": image.name, "ijk_to_ras": np.asarray(image.ijk_to_ras).tolist(), "modality": image.modality}
            for image in images
        ]
        self._request = {
            "command": "correct",
            "task": task,
            "model": model,
            "device": device,
            "volumes": volumes,
            "seen": self._seen,
        }

    def check(self) -> None:
        """Raises InputError where nothing was corrected, or the task is unknown."""
        get_task(self._request["task"])
        if not any(self._seen):
            raise InputError(_("No slice was corrected yet: correct one in the Segment Editor first."))

    def write(self, folder: Path) -> Iterator[None]:
        """Writes images and labels, one block a step.

        Raises:
            InputError: A grid is none.
        """
        for n, (image, labels) in enumerate(self._phases, start=1):
            check_grid(image)
            yield from write_blocks(folder / IMAGE_OF.format(n), image.array)
            yield from write_blocks(folder / LABELS_OF.format(n), labels, np.uint8)
        self._phases = []

    def request(self) -> dict[str, Any]:
        """What the worker is told."""
        return self._request

    def result(self, folder: Path, event: dict[str, Any]) -> Corrected:
        """What the worker's `done` and its files say.

        Raises:
            KeyError, TypeError, ValueError: They are not what was agreed.
        """
        count = len(self._shapes)
        per_phase = {name: tuple(event[name]) for name in ("changed", "seen", "findings", "first")}
        if any(len(value) != count for value in per_phase.values()):
            raise ValueError(f"{count} phases were asked about, not {[len(value) for value in per_phase.values()]}")
        files = [folder / CORRECTED_OF.format(n) for n in range(1, count + 1)]
        return Corrected(
            applied=bool(event["applied"]),
            text=str(event["text"]),
            labels=tuple(load(path, np.uint8, shape) for path, shape in zip(files, self._shapes, strict=True)),
            changed=tuple(tuple(map(int, slices)) for slices in per_phase["changed"]),
            seen=tuple(tuple(map(int, slices)) for slices in per_phase["seen"]),
            findings=tuple(tuple(finding_of(**f) for f in found) for found in per_phase["findings"]),
            first=tuple(tuple(map(dict, found)) for found in per_phase["first"]),
            warnings=tuple(map(str, event["warnings"])),
            model=str(event["model"]),
        )

    def close(self) -> None:
        """All files are in the job's folder, which the job removes."""
