"""Whether an image of the right modality is of the right kind, too: a short-axis cine MR, and no other MR.

Four things that tell, each with a reason in words: how sure the network is of what it drew, whether it is sure of a
muscle, how bright that is beside blood, and how grainy. `Testing/Benchmarks/other_images.py` prints them for images.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from dinsegment.images.segmentation import OTHER_IMAGE, Finding
from dinsegment.images.volume import Volume
from dinsegment.quality.unsure import Confidence
from dinsegment.tasks import Task

LEAST_CERTAINTY = 0.91
"""Mean probability of what was drawn; 0.913 at least in 131 cines."""

LEAST_MUSCLE_OVERLAP = 0.7
"""Dice that is to be expected of the muscle over all slices."""

MOST_BRIGHTNESS = 0.78
"""Grey value of muscle over that of blood, of their medians."""

MOST_GRAIN = 0.0335
"""Median of what a pixel of muscle differs from the mean of those around it, over the grey value of blood."""

GRAIN_MM = 1.5
"""Pixels in which grain is measured: finer ones are noisier, whatever the image is."""

GRAIN_PIXELS = 30
"""Of fewer pixels nothing is said."""


def kind_findings(
    volume: Volume, labels: np.ndarray, task: Task, axis: int, confidence: Confidence | None
) -> list[Finding]:
    """One finding if an image does not look like what the network is made for; none for a task in which nothing beats.

    Args:
        volume: The image.
        labels: Its segments (k, j, i).
        task: What they are.
        axis: Of the array, across which the slices lie.
        confidence: How sure the network was; None for labels of another origin.
    """
    if task.chamber is None or task.muscle is None or not labels.any():
        return []
    reason = _doubt(task, confidence) if confidence is not None else ""
    reason = reason or _grey_values(volume, labels, task, axis)
    if not reason:
        return []
    what = f"does not look like {task.images} ({reason})"
    return [
        Finding(
            f"'{volume.name}' {what}: do not rely on the result.",
            short=f"Does not look like {task.images}",
            kind=OTHER_IMAGE,
            topic=f"The image does not look like {task.images}",
            advice="do not rely on the result",
        )
    ]


def _doubt(task: Task, confidence: Confidence) -> str:
    if confidence.certainty < LEAST_CERTAINTY:
        return "the network is unsure of most of what it drew"
    if muscle_overlap(task, confidence) < LEAST_MUSCLE_OVERLAP:
        return "there is no heart muscle that the network is sure of"
    return ""


def muscle_overlap(task: Task, confidence: Confidence) -> float:
    """Dice that is to be expected of the muscle, slices weighted by their area; 0 where there is none."""
    overlap, area = (array[:, task.muscle - 1] for array in (confidence.overlap, confidence.area_cm2))
    return float((overlap * area).sum() / area.sum()) if area.any() else 0.0


def _grey_values(volume: Volume, labels: np.ndarray, task: Task, axis: int) -> str:
    measured = brightness_and_grain(volume, labels, task, axis)
    if measured is None:
        return ""
    brightness, grain = measured
    if brightness > MOST_BRIGHTNESS:
        return "the heart muscle is about as bright as blood"
    if grain > MOST_GRAIN:
        return "the heart muscle is grainy, as after contrast agent or in a disturbed image"
    return ""


def brightness_and_grain(volume: Volume, labels: np.ndarray, task: Task, axis: int) -> tuple[float, float] | None:
    """How bright the muscle is beside blood, and how grainy; None where there is too little of either.

    Arguments as `kind_findings`.
    """
    box = ndimage.find_objects((labels == task.muscle).astype(np.uint8))
    if not box:
        return None
    grey, drawn = (np.moveaxis(array[box[0]], axis, 0) for array in (volume.array, labels))
    spacing = np.delete(volume.spacing, axis)
    muscle, blood = grey[drawn == task.muscle], grey[drawn == task.chamber]
    if min(muscle.size, blood.size) < GRAIN_PIXELS:
        return None
    dark, bright = float(np.median(muscle)), float(np.median(blood))
    if bright <= max(dark, 0.0):
        return 1.0, 0.0
    zoom = (1.0, *(spacing / GRAIN_MM))
    even = ndimage.zoom(grey.astype(np.float32), zoom, order=1)
    inside = ndimage.zoom((drawn == task.muscle).astype(np.uint8), zoom, order=0) == 1
    inside = ndimage.binary_erosion(inside, np.ones((1, 3, 3)))
    if inside.sum() < GRAIN_PIXELS:
        return dark / bright, 0.0
    grain = np.abs(even - ndimage.uniform_filter(even, (1, 3, 3)))[inside]
    return dark / bright, float(np.median(grain)) / bright
