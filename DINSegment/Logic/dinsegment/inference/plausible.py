"""Whether an image can be what the task is made for: its voxels, its size, and along which axis its slices lie."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import numpy as np

from dinsegment.errors import InputError
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume, check_voxels
from dinsegment.tasks import Task

WIDEST_MM = 1000.0
"""No scanner's field of view is wider."""

LONGEST_MM = 2500.0
"""No stack of slices is longer than a patient."""


@dataclass(frozen=True, eq=False)
class Image:
    """A volume that may be an image of the task, in the slices that it is looked at in.

    Attributes:
        volume: The image.
        stack: Its slices.
        warnings: Sentences for the user about what had to be taken for granted.
    """

    volume: Volume
    stack: SliceStack
    warnings: tuple[str, ...] = ()


def checked_image(volume: Volume, task: Task) -> Image:
    """A volume in the slices that the task is done in.

    Raises:
        InputError: Its voxels cannot be an image; or it is larger than any, or smaller than what is looked for, so its
            spacing is wrong.
    """
    check_voxels(volume)
    stack = SliceStack.in_plane(volume, task.plane)
    (height, width), length = stack.extent_mm, len(stack.array) * stack.slice_spacing
    fits = max(height, width) <= WIDEST_MM and length <= LONGEST_MM
    # A single slice of any plane is thin along one axis, and so are few slices seen from another side.
    narrow = np.sort(np.multiply(volume.shape, volume.spacing))[1]
    if not fits or narrow < narrowest_mm(task):
        spacing = " x ".join(f"{value:.4g}" for value in volume.spacing[::-1])
        reason = "which is smaller than what is to be segmented" if fits else "which is larger than any patient"
        raise InputError(
            f"'{volume.name}' has a field of view of {width:.4g} x {height:.4g} mm over {length:.4g} mm, {reason}: "
            f"correct the spacing in its header, {spacing} mm."
        )
    return Image(volume, stack, () if stack.told else (_axis_warning(volume, task),))


def narrowest_mm(task: Task) -> float:
    """Side of a field of view that the task's anatomy needs; 0 where nothing is known.

    It is that of a cube as large as the smallest amount of it that was seen: of one organ all segments, else, since an
    image may be cropped to one of several organs, the segment in the middle.
    """
    seen = [segment.seen_ml[0] for segment in task.segments if segment.seen_ml is not None]
    if not seen:
        return 0.0
    return 10 * (sum(seen) if task.one_organ else statistics.median(seen)) ** (1 / 3)


def _axis_warning(volume: Volume, task: Task) -> str:
    """A sentence for the user where nothing tells across which axis the image's slices lie."""
    spacing = " x ".join(f"{value:.4g}" for value in volume.spacing[::-1])
    plane = " x ".join(f"{value:.4g}" for value in np.flip(volume.spacing[1:]))
    return (
        f"The voxels of '{volume.name}', {spacing} mm, do not tell across which axis its slices lie: the last one was "
        f"taken, so that pixels are {plane} mm. Check that it is {task.images} in these slices."
    )
