"""What looks wrong, in words a clinician understands."""

from __future__ import annotations

import numpy as np

from dinsegment.tasks import Task
from dinsegment.volume import Volume

HOUNSFIELD_AIR = -500.0
"""MR intensities are not this far below zero; the air around a patient in CT is near -1000 HU."""


def findings(volume: Volume, labels: np.ndarray, task: Task) -> tuple[str, ...]:
    """Sentences about an input that the task is not made for, and about what is missing in its labels (k, j, i)."""
    found = []
    modality = volume.modality or ("CT" if float(volume.array.min()) < HOUNSFIELD_AIR else None)
    if modality and modality != task.modality:
        found.append(
            f"'{volume.name}' looks like {modality}; the task '{task.name}' is made for {task.modality}: "
            "do not rely on the result."
        )
    missing = [s.name.lower() for s in task.segments if not (labels == s.label).any()]
    if len(missing) == len(task.segments):
        found.append(f"Nothing was found in '{volume.name}': check that it shows what the task '{task.name}' is for.")
    elif missing:
        found.append(f"Not found in '{volume.name}': {', '.join(missing)}.")
    return tuple(found)
