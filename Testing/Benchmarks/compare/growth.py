"""How DINSegment's time grows with the number of slices, their size, and the slices in a batch."""

from __future__ import annotations

from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from scipy import ndimage

from compare.measure import run_once
from compare.tools import OwnTool, Setting
from dinsegment.images.slices import slice_axis
from dinsegment.images.volume import Volume
from dinsegment.inference.runner import MAX_BATCH
from dinsegment.tasks import get_task

SLICES = (10, 20, 40, 80)
SIZES = (128, 192, 256, 384, 512)
BATCHES = (1, 2, 4, 8, 16)


def measure_growth(setting: Setting, volume: Volume) -> dict[str, Any]:
    """Warm seconds of DINSegment on variations of a volume.

    Returns:
        `slices`, numbers of slices of the volume's own size; `size`, rows and columns over its own field of view, of
        its own slices; `batch`, slices in one pass of the network at most, of the volume itself. Each has `values` and
        `seconds`.
    """
    device = torch.device(setting.device)
    axis = slice_axis(volume, get_task(setting.task).plane)

    def seconds(image: Volume, batch: int = MAX_BATCH[device.type]) -> float:
        tool = OwnTool()
        with patch.dict(MAX_BATCH, {device.type: batch}):
            tool.load(setting)
        run_once(tool, image, None, device)
        return median(run_once(tool, image, None, device).seconds for _ in range(setting.repeat))

    rows = {
        "slices": {n: seconds(with_slices(volume, axis, n)) for n in SLICES},
        "size": {n: seconds(with_size(volume, axis, n)) for n in SIZES},
        "batch": {n: seconds(volume, n) for n in BATCHES},
    }
    return {kind: {"values": list(row), "seconds": list(row.values())} for kind, row in rows.items()}


def with_slices(volume: Volume, axis: int, count: int) -> Volume:
    """The volume with its slices, along `axis` of its array, repeated back and forth until there are so many."""
    back_and_forth = np.pad(np.arange(volume.shape[axis]), (0, count), "symmetric")[:count]
    return Volume(volume.array.take(back_and_forth, axis), volume.ijk_to_ras, volume.name)


def with_size(volume: Volume, axis: int, side: int) -> Volume:
    """The volume with its slices resampled to `side` x `side` pixels over the same field of view."""
    zoom = [1.0 if k == axis else side / n for k, n in enumerate(volume.shape)]
    array = ndimage.zoom(volume.array, zoom, order=1, grid_mode=True, mode="nearest")
    ijk_to_ras = volume.ijk_to_ras.copy()
    ijk_to_ras[:3, :3] /= zoom[::-1]  # columns are (i, j, k)
    return Volume(array, ijk_to_ras, volume.name)
