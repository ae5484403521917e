"""Where to correct first: the slices in which most volume is to be expected to be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dinsegment.images.segmentation import Finding, ToCorrect
from dinsegment.images.volume import Volume, slice_number
from dinsegment.quality.unsure import Confidence

MOST = 20
"""Places that are named at most."""

Place = tuple[float, float, float]
"""In mm in RAS."""


def _wrong(
    confidence: Confidence | None, volume: Volume, axis: int
) -> dict[tuple[int, int], list[tuple[float, Place]]]:
    """Volumes to be expected to be wrong, and where, by slice of the image, from 0, and segment."""
    gathered: dict[tuple[int, int], list[tuple[float, Place]]] = {}
    if confidence is None or confidence.wrong_ml is None:
        return gathered
    for n, index in zip(*np.nonzero(confidence.wrong_ml > 0), strict=True):
        place: Place = tuple(float(x) for x in confidence.place[n, index])
        key = slice_number(volume, place, axis) - 1, int(index) + 1
        gathered.setdefault(key, []).append((float(confidence.wrong_ml[n, index]), place))
    return gathered


def correct_first(confidence: Confidence | None, volume: Volume, axis: int, most: int = MOST) -> tuple[ToCorrect, ...]:
    """Segments in slices by the volume that is to be expected to be wrong there, the largest first.

    What lies outside of a label is wrong with the probability that the network gives it, what lies inside with the rest
    to 1. Slices of the network's grid that lie in one slice of the image are taken together.

    Args:
        confidence: How sure the network is; None where nothing is known, so that there is nothing to name.
        volume: The image.
        axis: Of its array, across which the slices lie.
        most: Places that are wanted at most.
    """
    found = [
        ToCorrect(number, segment, sum(ml for ml, _ in parts), max(parts)[1])
        for (number, segment), parts in _wrong(confidence, volume, axis).items()
    ]
    return tuple(sorted(found, key=lambda one: (-one.ml, one.slice, one.segment))[:most])


def with_volumes(
    findings: Sequence[Finding], confidence: Confidence | None, volume: Volume, axis: int
) -> list[Finding]:
    """Findings, each with the volume that is to be expected to be wrong in the segment and the slices it is about.

    Of one that names no slices all count; of one about the whole image nothing is known.
    """
    wrong = _wrong(confidence, volume, axis)
    return [
        replace(
            finding,
            ml=sum(
                ml
                for (number, segment), parts in wrong.items()
                if segment == finding.segment and (not finding.slices or number + 1 in finding.slices)
                for ml, _ in parts
            ),
        )
        for finding in findings
    ]
