"""What looks wrong with an input or a result, in words a clinician understands, each with the slice to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dinsegment.images.volume import Volume
from dinsegment.quality.image import image_findings
from dinsegment.quality.place import missing_findings, side_findings
from dinsegment.quality.shape import CORRECT, Shape, cut_findings, piece_findings, shapes_of, volume_findings
from dinsegment.quality.words import Finding, listed, slice_number, slices_text
from dinsegment.tasks import Task

if TYPE_CHECKING:  # torch only where a network is.
    from dinsegment.inference.confidence import Confidence

HANDFUL = 5
"""Sentences that a user may read; segments that the network is unsure of share one rather than make more."""

UNSURE = 3
"""And no more of them than this have a sentence of their own."""


def findings(
    volume: Volume, labels: np.ndarray, task: Task, confidence: Confidence | None = None
) -> tuple[Finding, ...]:
    """What looks wrong, the most important first.

    Args:
        volume: The image.
        labels: Its segments (k, j, i).
        task: What they are.
        confidence: How sure the network was; None for labels of another origin.
    """
    shapes = shapes_of(volume, labels, task)
    cut_found, cut = cut_findings(list(shapes.values()), task)
    missing = missing_findings(volume, shapes, task, cut)
    found = [*image_findings(volume, task), *missing]
    if any(f.segment is None for f in missing):  # Of an image of something else no more is to be said.
        return tuple(found)
    whole = [s for label, s in shapes.items() if label not in cut]
    found += side_findings(volume, shapes, task, cut)
    found += cut_found
    found += piece_findings(list(shapes.values()))
    found += volume_findings(whole)
    if confidence is not None:
        own = min(UNSURE, max(1, HANDFUL - 1 - len(found)))
        found += unsure_findings(volume, shapes, task, confidence, own)
    return tuple(found)


def unsure_findings(
    volume: Volume, shapes: dict[int, Shape], task: Task, confidence: Confidence, own: int = UNSURE
) -> list[Finding]:
    """Segments of which the network is unsure, the one with the largest doubtful area first.

    So many as `own` says have a sentence of their own, the others one for all of them.
    """
    doubtful = (confidence.overlap < task.doubt.overlap) & (confidence.area_cm2 >= task.doubt.area_cm2)
    areas = np.where(doubtful, confidence.area_cm2, 0.0)
    unsure = []
    for label, shape in shapes.items():
        of_segment = areas[:, label - 1]
        total = float(confidence.area_cm2[:, label - 1].sum())
        if not of_segment.any() or of_segment.sum() < task.doubt.share * total:
            continue
        missed = of_segment * (1 - confidence.overlap[:, label - 1])
        places = {n: tuple(map(float, confidence.place[n, label - 1])) for n in np.flatnonzero(of_segment)}
        unsure.append((float(missed.sum()), shape, places[int(missed.argmax())], set(places.values())))
    unsure.sort(key=lambda entry: -entry[0])
    found = []
    for _, shape, place, places in unsure[:own]:
        numbers = {slice_number(volume, p, task.plane) for p in places}
        where = slices_text(numbers, slice_number(volume, place, task.plane))
        text = f"The network is unsure of the {shape.name} in {where}: {CORRECT}."
        found.append(Finding(text, place, shape.segment.label))
    if rest := unsure[own:]:
        names = [f"the {shape.name} (slice {slice_number(volume, place, task.plane)})" for _, shape, place, _ in rest]
        text = f"The network is also unsure of {listed(names)}: {CORRECT}."
        found.append(Finding(text, rest[0][2], rest[0][1].segment.label))
    return found
