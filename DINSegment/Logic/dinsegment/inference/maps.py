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
from dinsegment.inference.devices import autocast_dtype, choose_device
from dinsegment.inference.model import Model, load_model
from dinsegment.inference.runner import MAX_BATCH, Runner
from dinsegment.memory import enough_memory
from dinsegment.progress import Progress


def with_unexpected(
    segmentation: Segmentation,
    model: str | Model,
    device: str = "auto",
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    load: Callable[..., Model] | None = None,
) -> Segmentation:
    """A segmentation with the map of what a network did not expect, in the box around what was segmented.

    Args:
        segmentation: What `segment` gives, of the same model or of another one of its task.
        model: Its name or the folder of its run: a masked autoencoder, or a network that asks some.
        device: As in `segment`.
        progress: Called with the fraction done and what is being done.
        cancelled: Asked several times a second; True stops the run.
        load: As in `segment`.

    Returns:
        The same with `unexpected`; where nothing was segmented, without it and with a warning.

    Raises:
        ModelError: As in `segment`, or it gives no such map.
        Cancelled: `cancelled` said so.
    """
    volume, task = segmentation.volume, segmentation.task
    with enough_memory(volume.name):
        chosen = model if isinstance(model, Model) else (load or load_model)(model, task, cancelled=cancelled)
        if chosen.task != task.name or not getattr(chosen.network, "has_maps", False):
            raise ModelError(
                f"The model '{chosen.name}' does not tell what it did not expect in images of the task '{task.name}': "
                "give an autoencoder that was trained on such images, or a network that asks one."
            )
        stack = SliceStack.in_plane(volume, chosen.preprocessing.plane)
        _, rows, columns = np.nonzero(stack.like(segmentation.labels).array)
        if not len(rows):
            text = f"Nothing was segmented in '{volume.name}', so that nobody looked for what was not expected."
            return replace(segmentation, warnings=(*segmentation.warnings, text))
        runner = Runner(chosen.network, choose_device(device), progress, cancelled)
        center = (float(rows.mean()) * stack.spacing[0], float(columns.mean()) * stack.spacing[1])
        view = chosen.preprocessing.box_around(center)
        slices = chosen.preprocessing.slices(stack, view, chosen.network.config.in_channels)
        seen, step = [], MAX_BATCH[runner.device.type]
        for first in range(0, len(slices), step):
            runner.report(first / len(slices), "Looking for what was not expected")
            seen.append(_asked(runner, *slices.inputs(slice(first, first + step))))
        found = np.stack([one[0].numpy() for one in view.values_back(torch.cat(seen), stack)])
        runner.report(1.0, "Done")
    return replace(segmentation, unexpected=stack.to_volume_axes(found))


def _asked(runner: Runner, image: Tensor, enhanced: Tensor) -> Tensor:
    """The map of a batch, (B, 1, rows, columns) float32 on the CPU."""
    dtype = autocast_dtype(runner.device)
    with torch.inference_mode(), torch.autocast(runner.device.type, dtype, enabled=dtype is not None):
        return runner.network.maps(image.to(runner.device), enhanced.to(runner.device)).float().cpu()
