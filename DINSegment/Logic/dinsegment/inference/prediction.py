"""An image and a network become labels."""

from __future__ import annotations

import numpy as np

from dinsegment.images.volume import Volume
from dinsegment.inference.anatomy import find_box
from dinsegment.inference.labelling import Prediction, label
from dinsegment.inference.looking import look_at_segments
from dinsegment.inference.plausible import Image, checked_image
from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.inference.runner import Runner
from dinsegment.quality.estimator import Estimator
from dinsegment.tasks import Task


def predict(runner: Runner, preprocessing: Preprocessing, volume: Volume, task: Task) -> np.ndarray:
    """The labels of `predict_with_confidence` alone: (k, j, i) uint8 on the Volume's grid."""
    return predict_with_confidence(runner, preprocessing, checked_image(volume, task), task).labels


def predict_with_confidence(
    runner: Runner,
    preprocessing: Preprocessing,
    image: Image,
    task: Task,
    estimator: Estimator | None = None,
    temperature: float = 1.0,
) -> Prediction:
    """Labels on the Volume's grid, and how sure the network is of them, both from the same probabilities.

    The box around the anatomy is segmented in every slice; the probabilities are brought back to the Volume's grid and
    only there decided, batch after batch, so that those of a whole CT are never held.
    """
    box = find_box(runner, preprocessing, image.stack)
    if box is None:
        return Prediction(image, np.zeros(image.volume.shape, np.uint8))
    foreground = look_at_segments(runner, preprocessing, image.volume, box)
    return label(runner, image, box, foreground, task, estimator, temperature)
