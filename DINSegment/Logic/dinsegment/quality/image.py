"""What looks wrong with an image before anything is known of its segments: its modality and its grey values."""

from __future__ import annotations

import numpy as np

from dinsegment.images.segmentation import OTHER_IMAGE, Finding
from dinsegment.images.volume import Volume
from dinsegment.tasks import Task

FAT = -100.0
"""In Hounsfield units. The magnitude images of MR have nothing that dark."""

DARK_SHARE = 0.01
"""At least so much of an image without a modality is darker than fat where it is CT."""

BELOW_WATER = -20.0
"""Fat, lung, bowel gas and the air around a patient are below, in Hounsfield units."""

BELOW_WATER_SHARE = 0.005
"""At least so much of any abdominal CT is below water, also where it is cropped to one organ, by fat and by noise."""

SOFT_TISSUE = (-200.0, 300.0)
"""Fat, muscle and organs, in Hounsfield units. Images that are clipped to a window have their air in here, too."""

SOFT_TISSUE_SHARE = 0.05
"""At least so much of an abdominal CT is soft tissue, however large the field of view around the patient."""

SAMPLES = 64
"""Voxels along each axis, spread evenly, whose grey values are looked at."""


def sampled(array: np.ndarray) -> np.ndarray:
    """Voxels of an array (k, j, i) spread evenly, at most about twice SAMPLES along each axis; a view."""
    return array[tuple(slice(None, None, max(1, n // SAMPLES)) for n in array.shape)]


def looks_like_ct(array: np.ndarray) -> bool:
    """Whether an image (k, j, i) of unknown modality has as much darker than fat as only CT has."""
    return float((sampled(array) < FAT).mean()) > DARK_SHARE


def image_findings(volume: Volume, task: Task) -> list[Finding]:
    """An image of another modality than the task's, and a CT whose grey values are no Hounsfield units."""
    grey = sampled(volume.array)
    modality = volume.modality
    if modality is None and task.modality != "CT" and looks_like_ct(volume.array):
        modality = "CT"
    if modality and modality != task.modality:
        return [
            Finding(
                f"'{volume.name}' looks like {modality}, but the network is made for {task.images}: do not rely on "
                "the result.",
                short=f"Looks like {modality}, not {task.modality}",
                kind=OTHER_IMAGE,
                topic=f"The image looks like {modality}, but the network is made for {task.images}",
                advice="do not rely on the result",
            )
        ]
    reason = no_hounsfield_units(grey) if task.modality == "CT" else None
    if reason is None:
        return []
    return [
        Finding(
            f"The grey values of '{volume.name}' are no Hounsfield units ({reason}): do not rely on the result, "
            "load the original CT and segment that.",
            short="Grey values are no Hounsfield units",
            kind="grey values",
        )
    ]


def no_hounsfield_units(grey: np.ndarray) -> str | None:
    """Why grey values of an abdomen are none in Hounsfield units, in words; None if they may be."""
    low, high = float(grey.min()), float(grey.max())
    if float((grey < BELOW_WATER).mean()) < BELOW_WATER_SHARE:
        if low >= 0 and 1 < high <= 255:
            return "they go from 0 to 255 at most, as in a copy made for display"
        tissue = grey[grey > 0.5 * (low + high)] if high < 500 else grey[grey > 500]
        if low >= 0 and tissue.size and 900 < float(np.median(tissue)) < 1300:
            return "they look shifted by 1024, so the rescale intercept was not applied"
        return f"almost none is below {BELOW_WATER:g}, as fat and air are; it may be MR, or rescaled"
    within = float(((grey > SOFT_TISSUE[0]) & (grey < SOFT_TISSUE[1])).mean())
    if within < SOFT_TISSUE_SHARE:
        return f"only {100 * within:.0f} % are those of soft tissue; they may be shifted or rescaled"
    return None
