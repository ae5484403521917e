"""Segmentation: what a run gives back."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dinsegment.images.volume import Volume
from dinsegment.quality.words import Finding
from dinsegment.tasks import Task


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels on exactly the grid of the image they were made from.

    Attributes:
        volume: The image that was segmented.
        labels: Labelmap (k, j, i), uint8, the shape of `volume.array`; 0 is background, the rest as in `task`.
        task: What the labels mean.
        model: Name of the model in weights.json.
        enhanced: The fuzzy-enhanced image on the same grid, in the grey range of `volume`.
        device: Where it was computed: `cpu`, `cuda`, `cuda:1`, `mps`.
        seconds: Wall-clock time of the computation, reading and writing files not included.
        warnings: Sentences for the user: those of the findings, then what else there is to say.
        findings: What looks wrong with the image or the labels, the most important first.
    """

    volume: Volume
    labels: np.ndarray
    task: Task
    model: str
    enhanced: Volume
    device: str
    seconds: float
    warnings: tuple[str, ...] = field(default=())
    findings: tuple[Finding, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.labels.shape != self.volume.shape:
            raise ValueError(f"Labels of shape {self.labels.shape} do not fit the grid {self.volume.shape}.")
        if self.labels.dtype != np.uint8:
            raise ValueError(f"Labels are uint8, not {self.labels.dtype}.")
        if int(self.labels.max()) >= self.task.classes:
            raise ValueError(f"The task '{self.task.name}' has no label {int(self.labels.max())}.")
