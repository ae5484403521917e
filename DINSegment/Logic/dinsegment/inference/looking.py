"""What the network says of a view: slices prepared, taken through the network, and weighed with the whole image."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from torch import Tensor

from dinsegment.images.volume import Volume
from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.inference.runner import Runner
from dinsegment.inference.view import View
from dinsegment.memory import check_memory
from dinsegment.network.kinds import Draw

LOCATED, LOOKED = 0.25, 0.85
"""Parts of a run: where the anatomy is found, and where the network has seen all slices."""

TOLD = 0.3
"""Part of a look at slices that a look at the whole image takes before it, of a CT on two cores."""

BLOCK = 64
"""Slices that are prepared for the network at a time: a whole number of batches, whatever the device."""


def block_size(preprocessing: Preprocessing, count: int) -> int:
    """How many of so many slices are prepared at a time; all of them where their grey values make the window."""
    return min(count, BLOCK) if preprocessing.grey_window else count


def look(
    runner: Runner,
    preprocessing: Preprocessing,
    view: View,
    text: str,
    start: float,
    stop: float,
    chosen: np.ndarray | None = None,
    mirror: bool = False,
    draw: Draw | None = None,
    hidden: list[Tensor] | None = None,
) -> Iterator[Tensor]:
    """What the network says of the slices of a view, as `Runner.batches` gives it.

    Where the runner has a context, what that expects in the whole image is weighed in.

    Args:
        runner: With the network.
        preprocessing: How slices are prepared for the network.
        view: Where to look.
        text: What is being done.
        start: Progress at the first slice.
        stop: Progress after the last one.
        chosen: Slices of the view that are wanted; None for all of them.
        mirror: Gives the mean of each slice's and its mirror image's.
        draw: Gives this draw's sample instead of the network's answer; None for the answer.
        hidden: Takes what the last layer is given, as in `Runner.batches`.
    """
    chosen = np.arange(view.count) if chosen is None else chosen
    step, channels = block_size(preprocessing, len(chosen)), runner.network.config.in_channels
    blocks = (
        preprocessing.slices(view, channels, chosen[first : first + step]) for first in range(0, len(chosen), step)
    )
    told = start if runner.knows(view.stack) else start + TOLD * (stop - start)
    around = runner.surroundings(view.stack, start, told)
    batches = runner.batches(blocks, len(chosen), text, told, stop, mirror, draw, hidden)
    return batches if around is None else around.weigh(batches, view, chosen)


def look_at_segments(runner: Runner, preprocessing: Preprocessing, volume: Volume, box: View) -> Iterator[Tensor]:
    """What the network says of the segments in the box, (segments, rows, columns), slice after slice.

    Args:
        runner: With the network.
        preprocessing: How slices are prepared for the network.
        volume: The image.
        box: Where to look.

    Raises:
        InputError: There is too little memory.
    """
    needed = _bytes_beside_network(volume, box, block_size(preprocessing, box.count))
    check_memory(volume.name, needed + runner.bytes_around(box.stack))
    batches = look(runner, preprocessing, box, "Segmenting", LOCATED, LOOKED, mirror=preprocessing.mirror)
    return (one[1:] for batch in batches for one in batch)


def _bytes_beside_network(volume: Volume, box: View, slices: int) -> int:
    """Memory of what is made of a volume: labels and their correction, the enhanced image, slices for the network.

    Of a voxel: its label twice, and eight bytes for pieces of labels or the enhanced image. Of a pixel of a slice that
    is prepared: six float32 values, image and enhanced image and what they are made with.
    """
    return volume.array.size * (2 + 8) + slices * math.prod(box.size) * 4 * 6
