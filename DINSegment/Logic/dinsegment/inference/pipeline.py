"""Volume and model to Segmentation: the way of `segment`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from dinsegment.enhancement.displayed import enhanced_volume
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.volume import Volume
from dinsegment.inference.anatomy import find_box
from dinsegment.inference.confidence import Evidence
from dinsegment.inference.devices import choose_device
from dinsegment.inference.model import Model, load_model
from dinsegment.inference.plausible import Image, checked_image
from dinsegment.inference.postprocessing import postprocess
from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.inference.runner import Runner, prepared
from dinsegment.inference.view import View
from dinsegment.memory import check_memory, enough_memory
from dinsegment.progress import Progress
from dinsegment.quality.estimator import Estimator
from dinsegment.quality.findings import findings
from dinsegment.quality.first import correct_first
from dinsegment.quality.gather import with_check
from dinsegment.quality.unsure import Confidence
from dinsegment.tasks import Task, get_task

LOCATED, LOOKED = 0.25, 0.85
"""Parts of a run: where the anatomy is found, and where the network has seen all slices."""


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
    foreground = look(runner, preprocessing, image, box)
    return prediction_of(runner, image, box, foreground, task, estimator, temperature)


def look(runner: Runner, preprocessing: Preprocessing, image: Image, box: View) -> Iterator[Tensor]:
    """What the network says of the segments in the box, (segments, rows, columns), slice after slice.

    Raises:
        InputError: There is too little memory.
    """
    volume, count = image.volume, box.slices(image.stack)
    check_memory(volume.name, _bytes_beside_network(volume, box, prepared(preprocessing, count)))
    batches = runner.look(preprocessing, image.stack, box, "Segmenting", LOCATED, LOOKED, mirror=preprocessing.mirror)
    return (one[1:] for batch in batches for one in batch)


def prediction_of(
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
        foreground: What the network says, as `look` gives it.
        task: What is segmented.
        estimator: The model's.
        temperature: The model's; it changes how sure the network is, and no label.
        shown: Probabilities of the same slices that labels are decided on; those of the network if None.
    """
    stack = image.stack
    evidence = Evidence(box, stack, temperature)
    foreground = evidence.see(foreground)
    if shown is not None:
        foreground = (instead for _, instead in zip(foreground, shown, strict=True))
    labels = np.empty(stack.array.shape, np.uint8)
    for k, decided in enumerate(box.labels_back(foreground, stack)):
        runner.check_cancelled()
        labels[k] = decided
        evidence.labelled(k, decided)
    runner.report(LOOKED, "Correcting the labels by what is known of the anatomy")
    labels = postprocess(labels, task, stack)
    runner.check_cancelled()
    return Prediction(image, stack.to_volume_axes(labels), evidence.confidence(labels, image.volume, task, estimator))


def _bytes_beside_network(volume: Volume, box: View, slices: int) -> int:
    """Memory of what is made of a volume: labels and their correction, the enhanced image, slices for the network."""
    return volume.array.size * (2 + 8) + slices * math.prod(box.size) * 4 * 6


def segment(
    volume: Volume,
    task: Task | str,
    model: str | Model | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    load: Callable[..., Model] | None = None,
) -> Segmentation:
    """Segments a volume.

    Args:
        volume: The image; its array is not changed.
        task: A task or its name.
        model: A model or its name in weights.json; the task's first one if None.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        progress: Called with the fraction done and what is being done.
        cancelled: Asked several times a second; True stops the run.
        load: What loads a model by its name, like `load_model`, which it is by default; one that remembers models
            serves who segments often.

    Returns:
        Labels on exactly the volume's grid, the enhanced volume, and how it went. The same input gives the same
        labels on the same machine.

    Raises:
        InputError: The volume, the task or the device cannot be used.
        ModelError: The model is unknown, missing or damaged, or made for another task.
        Cancelled: `cancelled` said so.
    """
    with enough_memory(volume.name):
        started = time.perf_counter()
        task = get_task(task) if isinstance(task, str) else task
        image = checked_image(volume, task)
        loaded, runner = prepare(task, model, device, progress, cancelled, load)
        sure = loaded.estimator, loaded.temperature
        prediction = predict_with_confidence(runner, loaded.preprocessing, image, task, *sure)
        return finish(runner, loaded, task, prediction, started)


def prepare(
    task: Task,
    model: str | Model | None,
    device: str,
    progress: Progress | None,
    cancelled: Callable[[], bool] | None,
    load: Callable[..., Model] | None,
) -> tuple[Model, Runner]:
    """The model, loaded, and what runs its network; arguments and errors as those of `segment`."""
    chosen_device = choose_device(device)
    if progress:
        progress(0.0, "Loading the model")
    downloading = progress and (lambda fraction, text: progress(0.05 * fraction, text))
    load = load or load_model
    loaded = model if isinstance(model, Model) else load(model, task, progress=downloading, cancelled=cancelled)
    loaded.check_task(task)
    runner = Runner(loaded.network, chosen_device, progress, cancelled, loaded.context)
    runner.check_cancelled()
    return loaded, runner


def finish(runner: Runner, model: Model, task: Task, prediction: Prediction, started: float) -> Segmentation:
    """The Segmentation of an image: its labels with the enhanced image and what looks wrong.

    Args:
        runner: Told how far it is.
        model: What segmented.
        task: What was segmented.
        prediction: The image and its labels.
        started: When the run began, as `time.perf_counter` has it.
    """
    runner.report(0.9, "Enhancing the image")
    volume, stack, how = prediction.image.volume, prediction.image.stack, model.preprocessing
    enhanced = enhanced_volume(volume, how.enhancement, how.percentiles, how.grey_window, stack)
    runner.report(0.98, "Looking for what may be wrong")
    found = findings(volume, prediction.labels, task, prediction.confidence, stack.axis)
    first = correct_first(prediction.confidence, volume, stack.axis)
    runner.report(1.0, "Done")
    return Segmentation(
        volume=volume,
        labels=prediction.labels,
        task=task,
        model=model.name,
        enhanced=enhanced,
        device=str(runner.device),
        seconds=time.perf_counter() - started,
        warnings=(*with_check(found), *volume.warnings, *prediction.image.warnings, *runner.warnings),
        findings=found,
        first=first,
    )
