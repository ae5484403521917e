"""Segments that the network is unsure of, from the probabilities that it gave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dinsegment.images.segmentation import Finding
from dinsegment.quality.shape import Shape
from dinsegment.quality.words import few, listed, slices_short, slices_text
from dinsegment.tasks import Task


@dataclass(frozen=True, eq=False)
class Confidence:
    """How sure the network is, slice by slice of its own grid and segment by segment.

    Attributes:
        overlap: Dice that is to be expected if the calibrated probabilities are true, (slices, segments): twice the
            probability inside of the label over the label's area and the probability in the whole slice. Where passes
            over a slice and its mirror image disagree, the mean of both is low, and so is this.
        area_cm2: Area of the label, or that the probabilities add up to if it is larger, (slices, segments).
        place: Centre of what is doubtful, in mm in RAS, (slices, segments, 3).
        certainty: Mean of the highest probability of a segment, as the network gave it, over all that was labelled
            before any correction.
        bad: Probability that the segment is to be corrected in the slice, by the model's estimator, (slices, segments).
        told: Of which of these the user is told; None, as `bad`, for a model without estimator.
        wrong_ml: Volume in ml that is to be expected to be wrong if calibrated probabilities are true, (slices,
            segments).
        said: The same as `overlap` by the probabilities as the network gave them, which the estimator and the limits
            of `kind` were made on; None where they are the same.
        said_area_cm2: And as `area_cm2`.
    """

    overlap: np.ndarray
    area_cm2: np.ndarray
    place: np.ndarray
    certainty: float = 1.0
    bad: np.ndarray | None = None
    told: np.ndarray | None = None
    wrong_ml: np.ndarray | None = None
    said: np.ndarray | None = None
    said_area_cm2: np.ndarray | None = None

    def doubtful(self, task: Task) -> np.ndarray:
        """How doubtful each segment is in each slice of which the user is told, and 0 elsewhere, (slices, segments).

        By the model's estimator; without one by the Dice that is to be expected, as the task has its limits.
        """
        if self.bad is not None and self.told is not None:
            return np.where(self.told, self.bad, 0.0)
        told = (self.overlap < task.doubt.overlap) & (self.area_cm2 >= task.doubt.area_cm2)
        return np.where(told, self.area_cm2 * (1 - self.overlap), 0.0)


UNSURE = 3
"""And no more of them than this have a sentence of their own."""


def unsure_findings(shapes: dict[int, Shape], task: Task, confidence: Confidence, own: int = UNSURE) -> list[Finding]:
    """Segments of which the network is unsure, the most doubtful first.

    So many as `own` says have a sentence of their own, the others one for all of them.
    """
    doubtful = confidence.doubtful(task)
    unsure = []
    for label, shape in shapes.items():
        places = {}
        for n in np.flatnonzero(doubtful[:, label - 1]):
            # What was removed afterwards, as lying apart, is not to be seen there: nobody could correct it.
            place = tuple(map(float, confidence.place[n, label - 1]))
            if shape.is_in_slice(shape.number_of(place) - 1):
                places[n] = place
        areas = confidence.area_cm2[:, label - 1]
        if places and (confidence.told is not None or areas[list(places)].sum() >= task.doubt.share * areas.sum()):
            worst = max(places, key=lambda n: doubtful[n, label - 1])
            total = float(sum(doubtful[n, label - 1] for n in places))
            unsure.append((total, shape, places[worst], set(places.values())))
    unsure.sort(key=lambda entry: -entry[0])
    found = []
    for _, shape, place, places in unsure[:own]:
        numbers = {shape.number_of(p) for p in places}
        where = slices_text(numbers, shape.number_of(place))
        topic = f"The network is unsure of the {shape.name}"
        short = f"{shape.segment.name}, {slices_short(numbers)}: unsure"
        slices = tuple(sorted(numbers))
        found.append(Finding(f"{topic} in {where}.", place, shape.segment.label, short, "unsure", topic, slices))
    if rest := unsure[own:]:
        names = [f"the {shape.name} (slice {shape.number_of(place)})" for _, shape, place, _ in rest]
        text = f"The network is also unsure of {listed(names)}."
        short = f"{few([shape.segment.name for _, shape, _, _ in rest])}: unsure, too"
        topic = f"The network is also unsure of {listed([f'the {shape.name}' for _, shape, _, _ in rest])}"
        found.append(Finding(text, rest[0][2], rest[0][1].segment.label, short, "unsure", topic))
    return found
