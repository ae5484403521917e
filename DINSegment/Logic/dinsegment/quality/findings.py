"""What looks wrong with an input or a result, in words a clinician understands, each with the slice to look at."""

from __future__ import annotations

import numpy as np

from dinsegment.images.segmentation import Finding
from dinsegment.images.slices import slice_axis
from dinsegment.images.volume import Volume
from dinsegment.quality.first import with_volumes
from dinsegment.quality.image import image_findings
from dinsegment.quality.kind import kind_findings
from dinsegment.quality.place import missing_findings, side_findings
from dinsegment.quality.shape import cut_findings, piece_findings, shapes_of, volume_findings
from dinsegment.quality.unsure import UNSURE, Confidence, unsure_findings
from dinsegment.quality.wall import damage_findings, whole_wall
from dinsegment.tasks import Task

HANDFUL = 5
"""Sentences that a user may read; segments that the network is unsure of share one rather than make more."""


def findings(
    volume: Volume, labels: np.ndarray, task: Task, confidence: Confidence | None = None, axis: int | None = None
) -> tuple[Finding, ...]:
    """What looks wrong, the most important first.

    Args:
        volume: The image.
        labels: Its segments (k, j, i).
        task: What they are.
        confidence: How sure the network was; None for labels of another origin.
        axis: Of the array, across which the slices lie, where that is known already.
    """
    axis = slice_axis(volume, task.plane) if axis is None else axis
    shapes = shapes_of(volume, labels, task, axis)
    organs = whole_wall(volume, labels, task, axis) if task.wall else shapes
    cut_found, cut = cut_findings(list(shapes.values()), task)
    whole = [s for label, s in shapes.items() if label not in cut]
    of_shape = [*cut_found, *piece_findings(list(organs.values())), *volume_findings(whole)]
    of_shape += damage_findings(shapes, task, cut)
    sides = side_findings(volume, shapes, task, cut)
    missing = missing_findings(volume, shapes, task, axis, cut)
    found = [*image_findings(volume, task), *missing]
    if any(f.segment is None for f in missing):  # Of an image of something else no more is to be said.
        return tuple(found)
    if not any(f.segment is None for f in found) and (kind := kind_findings(volume, labels, task, axis, confidence)):
        return tuple(kind)
    found += [*sides, *of_shape]
    if confidence is not None:
        own = min(UNSURE, max(1, HANDFUL - 1 - len(found)))
        found += unsure_findings(shapes, task, confidence, own)
        found = with_volumes(found, confidence, volume, axis)
    return tuple(found)
