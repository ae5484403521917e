"""Phases of a result that a model is asked about again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dinsegment.tasks import Task
from dinsegment_slicer.panel.result import ResultNodes
from dinsegment_slicer.scene.corrections import Phase
from dinsegment_slicer.scene.task_labels import task_labels

if TYPE_CHECKING:  # The application alone has what it is made of.
    from dinsegment_slicer.panel.parameters import DINSegmentParameters


@dataclass(frozen=True, eq=False)
class Asked:
    """One phase that is asked about.

    Attributes:
        number: From 0.
        phase: Its nodes.
        labels: What the user has of the task's segments, (k, j, i) uint8.
    """

    number: int
    phase: Phase
    labels: np.ndarray


def asked_about(parameters: DINSegmentParameters, numbers: Sequence[int], task: Task) -> list[Asked]:
    """The phases of these numbers, from 0, as the user has them.

    Raises:
        InputError: The images are not there any more, or lie under a non-linear transform.
    """
    phases = ResultNodes(parameters).phases()
    asked = []
    for n in numbers:
        found = task_labels(phases[n].segmentationNode, phases[n].volumeNode, task)
        labels = np.zeros(phases[n].image.array.shape, np.uint8)
        part = tuple(slice(a, a + size) for a, size in zip(found.first, found.part.shape, strict=True))
        labels[part] = found.part
        asked.append(Asked(n, phases[n], labels))
    return asked


def phase_shown(parameters: DINSegmentParameters) -> int:
    """The phase in view, from 0: of a cine, or of two images."""
    p = parameters
    return ResultNodes(p).selectedPhase() if p.segmentationSequenceNode is not None else int(p.showSecond)
