"""Probabilities become labels on the image's own grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from dinsegment.inference.confidence import Evidence
from dinsegment.inference.looking import LOOKED
from dinsegment.inference.plausible import Image
from dinsegment.inference.postprocessing import postprocess
from dinsegment.inference.runner import Runner
from dinsegment.inference.view import View
from dinsegment.quality.estimator import Estimator
from dinsegment.quality.unsure import Confidence
from dinsegment.tasks import Task


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the network says of an image.

    Attributes:
        image: The image.
        labels: (k, j, i) uint8 on the Volume's grid.
        confidence: How sure the network is; None where it saw no anatomy.
    """

    image: Image
    labels: np.ndarray
    confidence: Confidence | None = None


def label(
    runner: Runner,
    image: Image,
    box: View,
    foreground: Iterator[Tensor],
    task: Task,
    estimator: Estimator | None = None,
    temperature: float = 1.0,
    shown: Iterator[Tensor] | None = None,
) -> Prediction:
    """Labels from the probabilities of the segments, and how sure the network is of them.

    Args:
        runner: Asked whether to go on.
        image: The image.
        box: The grid that the probabilities are on.
        foreground: What the network says, as `look_at_segments` gives it.
        task: What is segmented.
        estimator: The model's.
        temperature: The model's; it changes how sure the network is, and no label.
        shown: Probabilities of the same slices that labels are decided on; those of the network if None.
    """
    stack = image.stack
    evidence = Evidence(box, temperature)
    labels = np.empty(stack.array.shape, np.uint8)
    for k, decided in enumerate(evidence.labels(foreground, shown)):
        runner.check_cancelled()
        labels[k] = decided
    runner.report(LOOKED, "Correcting the labels by what is known of the anatomy")
    labels = postprocess(labels, task, stack)
    runner.check_cancelled()
    return Prediction(image, stack.to_volume_axes(labels), evidence.confidence(labels, image.volume, task, estimator))
