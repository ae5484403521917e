"""Which pictures of the slices of a stack belong to which phase, by their times over the beat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

import numpy as np

from dinsegment.dicom.read.picture import Picture
from dinsegment.dicom.read.pieces import Take

SAME_STEP = 0.1
"""Share by which the time from phase to phase differs between slices that were acquired alike."""

NEAR_IN_BEAT = 0.08
"""Share of the beat within which a picture shows about the same as a phase."""


def usual_count(takes: Sequence[Take]) -> int:
    """How many phases most slices have."""
    counts = Counter(len(take.pictures) for take in takes)
    return max(counts, key=lambda one: (counts[one], one))


def is_cut(take: Take, others: Sequence[Take]) -> bool:
    """Whether a slice has fewer phases than others that are as far apart, so that a part of the beat is missing."""
    complete = [one for one in others if len(one.pictures) == usual_count(others)]
    steps = [step for one in complete if (step := _step_ms(one)) is not None]
    mine = _step_ms(take)
    if len(take.pictures) >= usual_count(others) or mine is None or not steps:
        return False
    return abs(mine - median(steps)) <= SAME_STEP * median(steps)


def match_phases(takes: Sequence[Take]) -> tuple[int, list[list[Picture]], tuple[float | None, ...], list[int]]:
    """How many phases, the pictures of each slice for them, the time of each phase, and for how many a slice has none.

    The last counts, of each slice, the phases to which no picture of it is near.
    """
    count = usual_count(takes)
    complete = [take for take in takes if len(take.pictures) == count]
    parts = np.median([_part_of_beat(take) for take in complete], axis=0)
    beats = [beat for take in complete if (beat := _beat_ms(take)) is not None]
    matched, without = [], []
    for take in takes:
        if len(take.pictures) == count:
            matched.append(list(take.pictures))
            without.append(0)
        else:
            own = _part_of_beat(take, median(beats) if beats and is_cut(take, complete) else None)
            away = np.abs(parts[:, None] - own[None, :])
            away = np.minimum(away, 1 - away)
            matched.append([take.pictures[n] for n in away.argmin(axis=1)])
            without.append(int((away.min(axis=1) > NEAR_IN_BEAT).sum()))
    times = []
    for phase in range(count):
        known = [t for take in complete if (t := take.pictures[phase].heart_time_ms) is not None]
        times.append(median(known) if known else None)
    return count, matched, rising(times), without


def rising(times_ms: Sequence[float | None]) -> tuple[float | None, ...]:
    """Times of phases; nothing where one does not follow on another, as where all are zero."""
    told = [time for time in times_ms if time is not None]
    is_rising = all(before < after for before, after in pairwise(told))
    return tuple(times_ms) if is_rising else (None,) * len(times_ms)


def _times_ms(take: Take) -> np.ndarray | None:
    times = [one.heart_time_ms for one in take.pictures]
    return None if None in times or len(set(times)) == 1 else np.array(times, float)


def _step_ms(take: Take) -> float | None:
    """From phase to phase."""
    times = _times_ms(take)
    return None if times is None else float(np.median(np.diff(times)))


def _beat_ms(take: Take) -> float | None:
    """How long the beat is, by the headers, or from the first phase to the one after the last."""
    times = _times_ms(take)
    if times is None:
        return None
    beats = [one.interval_ms for one in take.pictures if one.interval_ms is not None]
    beat = median(beats) if beats else 0.0
    return beat if beat > times[-1] else float(times[-1] + np.median(np.diff(times)))


def _part_of_beat(take: Take, beat_ms: float | None = None) -> np.ndarray:
    """When in the beat, from 0 to 1, each picture was taken; evenly where no time says it."""
    times, own = _times_ms(take), _beat_ms(take)
    if times is None or own is None:
        return np.arange(len(take.pictures)) / len(take.pictures)
    return times / max(own, beat_ms or 0.0)
