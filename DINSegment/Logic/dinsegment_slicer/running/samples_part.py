"""A result of which the worker draws samples, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dinsegment.images.samples import Samples
from dinsegment.worker_exchange import DISAGREEMENT
from dinsegment_slicer.running.result_part import ResultPart
from dinsegment_slicer.running.segment_part import JobImage, load


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


class SamplesPart(ResultPart):
    """One image of a result, of which it is asked where it could be otherwise.

    Args:
        image: As for a `ResultPart`, and so are labels, task, model and device.
        draws: How many samples.
    """

    def __init__(
        self, image: JobImage, labels: np.ndarray, task: str, model: str | None, device: str, draws: int
    ) -> None:
        super().__init__(image, labels, "samples", task, model, device, draws=draws)

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
