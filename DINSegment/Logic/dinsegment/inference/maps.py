"""What a network did not expect in an image: the map of an autoencoder, or of a network that asks some."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from dinsegment.errors import ModelError
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.slices import SliceStack
from dinsegment.inference.anatomy import box_around
from dinsegment.inference.devices import autocast_dtype, choose_device
from dinsegment.inference.model import Model, load_model
from dinsegment.inference.runner import MAX_BATCH, Runner
from dinsegment.memory import enough_memory
from dinsegment.progress import Progress
from dinsegment.tasks import Task

GREY_RANGE = 2.0
"""From black to white, as a network sees an image: the most that a pixel can differ from what was expected of it."""


def load_maps_model(
    name: str,
    task: Task,
    cancelled: Callable[[], bool] | None = None,
    load: Callable[..., Model] = load_model,
) -> Model:
    """A model that tells what it did not expect: a masked autoencoder, or a network that asks some.

    Args:
        name: Of the model, or the folder of its run.
        task: Of whose images.
        cancelled: As in `load_model`.
        load: Gives the model, such as one that was loaded before.

    Raises:
        ModelError: As in `load_model`, or it gives no such map.
        Cancelled: `cancelled` said so.
    """
    model = load(name, task, cancelled=cancelled)
    if model.task != task.name or not getattr(model.network, "has_maps", False):
        raise ModelError(
            f"The model '{model.name}' does not tell what it did not expect in images of the task '{task.name}': "
            "give an autoencoder that was trained on such images, or a network that asks one."
        )
    return model


def with_unexpected(
    segmentation: Segmentation,
    model: Model,
    device: str = "auto",
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Segmentation:
    """A segmentation with the map of what a network did not expect, in the box around what was segmented.

    Args:
        segmentation: What `segment` gives, of the same model or of another one of its task.
        model: As `load_maps_model` gives it.
        device: As in `segment`.
        progress: Called with the fraction done and what is being done.
        cancelled: Asked several times a second; True stops the run.

    Returns:
        The same with `unexpected`; where nothing was segmented, without it and with a warning.

    Raises:
        InputError: The device cannot be used.
        Cancelled: `cancelled` said so.
    """
    volume = segmentation.volume
    with enough_memory(volume.name):
        stack = SliceStack.in_plane(volume, model.preprocessing.plane)
        _, rows, columns = np.nonzero(stack.like(segmentation.labels).array)
        if not len(rows):
            text = f"Nothing was segmented in '{volume.name}', so that nobody looked for what was not expected."
            return replace(segmentation, warnings=(*segmentation.warnings, text))
        runner = Runner(model.network, choose_device(device), progress, cancelled)
        center = (float(rows.mean()) * stack.spacing[0], float(columns.mean()) * stack.spacing[1])
        view = box_around(model.preprocessing, stack, center)
        slices = model.preprocessing.slices(view, model.network.config.in_channels)
        seen, step = [], MAX_BATCH[runner.device.type]
        for first in range(0, len(slices), step):
            runner.report(first / len(slices), "Looking for what was not expected")
            seen.append(_asked(runner, *slices.inputs(slice(first, first + step))))
        found = np.stack([one[0].numpy() for one in view.values_back(torch.cat(seen))])
        runner.report(1.0, "Done")
    return replace(segmentation, unexpected=stack.to_volume_axes(found))


def _asked(runner: Runner, image: Tensor, enhanced: Tensor) -> Tensor:
    """The map of a batch, (B, 1, rows, columns) float32 on the CPU."""
    dtype = autocast_dtype(runner.device)
    with torch.inference_mode(), torch.autocast(runner.device.type, dtype, enabled=dtype is not None):
        return runner.network.maps(image.to(runner.device), enhanced.to(runner.device)).float().cpu()
