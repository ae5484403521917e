"""Whether an image of the right modality is of the right kind, too: a short-axis cine MR, and no other MR.

Four things that tell, each with a reason in words: how sure the network is of what it drew, whether it is sure of a
muscle, how bright that is beside blood, and how grainy. `Testing/Benchmarks/other_images.py` prints them for images.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from dinsegment.dicom.read.stack import LATE_ENHANCEMENT
from dinsegment.images.segmentation import OTHER_IMAGE, Finding
from dinsegment.images.volume import Volume
from dinsegment.quality.unsure import Confidence
from dinsegment.tasks import Task, offered_task


class Kind(NamedTuple):
    """What tells of which kind an image is, or a limit of each; NaN where nothing can be said.

    Attributes:
        certainty: Mean probability of what was drawn; less is told.
        muscle: Dice that is to be expected of the muscle over all slices; less is told.
        brightness: Grey value of muscle over that of blood, of their medians; more is told.
        grain: Median of what a pixel of muscle differs from the mean of those around it, over the grey value of blood;
            more is told.
    """

    certainty: float
    muscle: float
    brightness: float
    grain: float

    def beyond(self, limits: Kind) -> str | None:
        """The first number that lies beyond its limit, by its name; None if none does."""
        below = (name for name in ("certainty", "muscle") if getattr(self, name) < getattr(limits, name))
        above = (name for name in ("brightness", "grain") if getattr(self, name) > getattr(limits, name))
        return next(chain(below, above), None)


LIMITS = Kind(certainty=0.91, muscle=0.753, brightness=0.829, grain=0.0355)
"""Chosen on half of 131 patients with cines, as `Testing/Benchmarks/other_images.py` does, and counts in the others."""

_REASONS = {
    "certainty": "the network is unsure of most of what it drew",
    "muscle": "there is no heart muscle that the network is sure of",
    "brightness": "the heart muscle is about as bright as blood",
    "grain": "the heart muscle is grainy, as after contrast agent or in a disturbed image",
}

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
    kind = kind_of(volume, labels, task, axis, confidence)
    beyond = kind.beyond(LIMITS)
    if beyond is None:
        return []
    what = f"does not look like {task.images} ({_REASONS[beyond]})"
    advice = "do not rely on the result"
    other = offered_task(LATE_ENHANCEMENT, task) if kind.grain > LIMITS.grain else None
    if other is not None:
        advice += f", and if it was taken after contrast agent, segment it as '{other.title}'"
    return [
        Finding(
            f"'{volume.name}' {what}: {advice}.",
            short=f"Does not look like {task.images}",
            kind=OTHER_IMAGE,
            topic=f"The image does not look like {task.images}",
            advice=advice,
        )
    ]


def kind_of(volume: Volume, labels: np.ndarray, task: Task, axis: int, confidence: Confidence | None) -> Kind:
    """The numbers of an image; arguments as `kind_findings`."""
    brightness, grain = _brightness_and_grain(volume, labels, task, axis)
    if confidence is None:
        return Kind(math.nan, math.nan, brightness, grain)
    return Kind(confidence.certainty, _muscle_overlap(task, confidence), brightness, grain)


def _muscle_overlap(task: Task, confidence: Confidence) -> float:
    """Dice that is to be expected of the muscle, slices weighted by their area; 0 where there is none."""
    said, area = confidence.said, confidence.said_area_cm2
    if said is None or area is None:
        said, area = confidence.overlap, confidence.area_cm2
    overlap, area = (array[:, task.muscle - 1] for array in (said, area))
    return float((overlap * area).sum() / area.sum()) if area.any() else 0.0


def _brightness_and_grain(volume: Volume, labels: np.ndarray, task: Task, axis: int) -> tuple[float, float]:
    """How bright the muscle is beside blood, and how grainy; NaN where there is too little of either.

    Arguments as `kind_findings`.
    """
    box = ndimage.find_objects((labels == task.muscle).astype(np.uint8))
    if not box:
        return math.nan, math.nan
    grey, drawn = (np.moveaxis(array[box[0]], axis, 0) for array in (volume.array, labels))
    spacing = np.delete(volume.spacing, axis)
    muscle, blood = grey[drawn == task.muscle], grey[drawn == task.chamber]
    if min(muscle.size, blood.size) < GRAIN_PIXELS:
        return math.nan, math.nan
    dark, bright = float(np.median(muscle)), float(np.median(blood))
    if bright <= max(dark, 0.0):
        return 1.0, math.nan
    zoom = (1.0, *(spacing / GRAIN_MM))
    even = ndimage.zoom(grey.astype(np.float32), zoom, order=1)
    inside = ndimage.zoom((drawn == task.muscle).astype(np.uint8), zoom, order=0) == 1
    inside = ndimage.binary_erosion(inside, np.ones((1, 3, 3)))
    if inside.sum() < GRAIN_PIXELS:
        return dark / bright, math.nan
    grain = np.abs(even - ndimage.uniform_filter(even, (1, 3, 3)))[inside]
    return dark / bright, float(np.median(grain)) / bright
