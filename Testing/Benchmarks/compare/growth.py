"""How DINSegment's time grows with the number of slices, their size, and the slices in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch.utils.benchmark import Timer

from compare.din import OwnTool
from compare.tools import Setting
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume
from dinsegment.inference.runner import MAX_BATCH
from dinsegment.tasks import get_task

SLICES = (10, 20, 40, 80)
SIZES = (128, 192, 256, 384, 512)
BATCHES = (1, 2, 4, 8, 16)


def measure_growth(
    setting: Setting,
    volume: Volume,
    slices: Sequence[int] = SLICES,
    sizes: Sequence[int] = SIZES,
    batches: Sequence[int] = BATCHES,
) -> dict[str, Any]:
    """Warm seconds of DINSegment on variations of a volume.

    Args:
        setting: Device, model and repetitions.
        volume: Is resampled in plane, and its slices are repeated.
        slices: Numbers of slices, at the volume's own size.
        sizes: Rows and columns, over the volume's own field of view and with its own slices.
        batches: Slices in one pass of the network at most, on the volume itself.

    Returns:
        `slices`, `size` and `batch`, each with `values` and `seconds`.
    """
    task = get_task(setting.task)
    axis, device = SliceStack.in_plane(volume, task.plane).axis, torch.device(setting.device).type

    def seconds(image: Volume, batch: int = MAX_BATCH[device]) -> float:
        usual, MAX_BATCH[device] = MAX_BATCH[device], batch
        tool = OwnTool(setting)
        MAX_BATCH[device] = usual
        tool.run(image)
        timer = Timer("tool.run(image)", globals={"tool": tool, "image": image}, num_threads=torch.get_num_threads())
        return median(timer.timeit(1).mean for _ in range(setting.repeat))  # it waits for the device

    rows = {
        "slices": {n: seconds(with_slices(volume, axis, n)) for n in slices},
        "size": {n: seconds(with_size(volume, axis, n)) for n in sizes},
        "batch": {n: seconds(volume, n) for n in batches},
    }
    return {kind: {"values": list(row), "seconds": list(row.values())} for kind, row in rows.items()}


def with_slices(volume: Volume, axis: int, count: int) -> Volume:
    """The volume with its slices, along `axis` of its array, repeated back and forth until there are so many."""
    n = volume.shape[axis]
    there_and_back = np.concatenate([np.arange(n), np.arange(n)[::-1]])
    return Volume(volume.array.take(np.resize(there_and_back, count), axis), volume.ijk_to_ras, volume.name)


def with_size(volume: Volume, axis: int, side: int) -> Volume:
    """The volume with its slices resampled to `side` x `side` pixels over the same field of view."""
    new = np.array([n if k == axis else side for k, n in enumerate(volume.shape)])
    zoom = new / volume.shape
    array = ndimage.zoom(volume.array, zoom, order=1, grid_mode=True, mode="nearest")
    ijk_to_ras = volume.ijk_to_ras.copy()
    ijk_to_ras[:3, :3] /= zoom[::-1]  # columns are (i, j, k)
    return Volume(array, ijk_to_ras, volume.name)
