"""A result of which a model is asked what it did not expect, and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dinsegment.worker_exchange import UNEXPECTED
from dinsegment_slicer.running.result_part import ResultPart
from dinsegment_slicer.running.segment_part import JobImage, load


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


class UnexpectedPart(ResultPart):
    """One image of a result, around whose labels a model tells what it did not expect.

    Args:
        image: As for a `ResultPart`, and so are labels, task and device.
        model: Name of a model that tells it, or the folder of a run.
    """

    def __init__(self, image: JobImage, labels: np.ndarray, task: str, model: str, device: str) -> None:
        super().__init__(image, labels, "unexpected", task, model, device)

    def result(self, folder: Path, event: dict[str, Any]) -> Told:
        """What the worker's `done` and its file say.

        Raises:
            KeyError, TypeError, ValueError: They are not what was agreed.
        """
        model, text = str(event["model"]), str(event["text"])
        steps = load(folder / UNEXPECTED, np.uint8, self._shape) if event["found"] else None
        return Told(model, steps, text)
