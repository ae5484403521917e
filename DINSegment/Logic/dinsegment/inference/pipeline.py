"""Volume and model to Segmentation: the way of `segment`."""

from __future__ import annotations

import time
from collections.abc import Callable

from dinsegment.enhancement.displayed import enhanced_volume
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.volume import Volume, check_volume
from dinsegment.inference.devices import choose_device
from dinsegment.inference.labelling import Prediction
from dinsegment.inference.model import Model, load_model
from dinsegment.inference.plausible import checked_image
from dinsegment.inference.prediction import predict_with_confidence
from dinsegment.inference.runner import Runner
from dinsegment.memory import enough_memory
from dinsegment.progress import Progress
from dinsegment.quality.findings import findings
from dinsegment.quality.first import correct_first
from dinsegment.quality.gather import with_check
from dinsegment.tasks import Task, get_task


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
    check_volume(volume)
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
