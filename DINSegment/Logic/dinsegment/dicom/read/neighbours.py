"""Slices that lie in line with a stack but are no part of it: what keeps them out is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dinsegment.dicom.read.kinds import LEAST_SLICES, degrees
from dinsegment.dicom.read.lattice import UNEVEN
from dinsegment.dicom.read.pieces import SAME_DIRECTION, same_spacing
from dinsegment.dicom.read.placing import Joined, series_words
from dinsegment.dicom.read.stack import CINE, LONG_AXIS_CINE, SHORT_AXIS_CINE

NEARLY_PARALLEL_DEGREES = 10.0
"""Slices that lean less were meant to be parallel."""

NEXT = 1.6
"""How far beyond the ends of a stack a slice lies in line with it, in distances between slices."""


FAR = 8.0
"""How far beyond the ends of a stack slices may be a part of it, in distances between slices."""


def with_neighbours(joined: Sequence[Joined]) -> list[Joined]:
    """The stacks; each cine that others were meant to belong to says which, and why they do not.

    Where a slice is missing, that is part of the stack's problem, otherwise a warning.
    """
    return [_with_neighbours(one, joined) if _is_cine(one) else one for one in joined]


def _is_cine(one: Joined) -> bool:
    return one.stack.kind == SHORT_AXIS_CINE and not one.stack.is_repeat and len(one.stack.slices) >= LEAST_SLICES


def _with_neighbours(one: Joined, joined: Sequence[Joined]) -> Joined:
    problem, warnings = one.stack.problem, list(one.stack.warnings)
    if beyond := [other for other in joined if _continues(other, one)]:
        series = series_words(name for other in beyond for name in other.stack.series)
        sentence = f"slices of series {series} continue it behind a gap, so that those between them seem to be missing"
        if sum(len(other.stack.slices) for other in beyond) > 1:
            problem = f"{problem}; {sentence}" if problem else sentence
        else:
            warnings.append(f"{sentence[0].upper()}{sentence[1:]}.")
    for other in joined:
        if other is one or other.stack.is_repeat or other.stack.kind not in (SHORT_AXIS_CINE, LONG_AXIS_CINE, CINE):
            continue
        if len(other.stack.slices) >= max(LEAST_SLICES, len(one.stack.slices) / 2) and _overlap(one, other):
            continue  # another stack
        if degrees(one.normal, other.normal) > NEARLY_PARALLEL_DEGREES:
            continue
        reason = _difference(one, other)
        heights = [float(one.normal @ each.position) for each in other.stack.slices]
        step = one.stack.spacing_mm[0]
        series = series_words(other.stack.series)
        if any(abs(height - gap) < step / 2 for height in heights for gap in one.missing):
            problem += f"; series {series} lies there, but {reason}"
        elif any(_is_next(height, one, step) for height in heights):
            warnings.append(f"Series {series} lies in line with the stack, but is left out: it {reason}.")
    return replace(one, stack=replace(one.stack, problem=problem, warnings=tuple(warnings)))


def _continues(other: Joined, one: Joined) -> bool:
    """Whether slices are of the same kind, in the same direction, in steps of a stack, but far beyond its end."""
    if other is one or other.stack.is_repeat or other.stack.kind != one.stack.kind:
        return False
    spacing, its = one.stack.spacing_mm[1:], other.stack.spacing_mm[1:]
    if np.abs(one.axes - other.axes).max() >= SAME_DIRECTION or not same_spacing(np.array(spacing), np.array(its)):
        return False
    if one.stack.phases != other.stack.phases:
        return False
    heights = [float(one.normal @ each.position) for each in other.stack.slices]
    step, low, high = one.stack.spacing_mm[0], min(one.heights), max(one.heights)
    gap = max(min(heights) - high, low - max(heights)) / step
    return NEXT < gap <= FAR and abs(gap - round(gap)) <= 2 * UNEVEN


def _overlap(one: Joined, other: Joined) -> bool:
    heights = [float(one.normal @ each.position) for each in other.stack.slices]
    return min(heights) < max(one.heights) and min(one.heights) < max(heights)


def _is_next(height: float, one: Joined, step: float) -> bool:
    low, high = min(one.heights), max(one.heights)
    return low - NEXT * step < height < high + NEXT * step


def _difference(one: Joined, other: Joined) -> str:
    """What keeps a stack out of another, in words that follow its name."""
    spacing, its = one.stack.spacing_mm[1:], other.stack.spacing_mm[1:]
    if np.abs(one.axes - other.axes).max() >= SAME_DIRECTION:
        return "has slices in another direction"
    if not same_spacing(np.array(spacing), np.array(its)):
        return (
            f"has pixels of {its[0]:.4g} x {its[1]:.4g} mm where the others have {spacing[0]:.4g} x {spacing[1]:.4g} mm"
        )
    if one.stack.phases != other.stack.phases:
        return f"has {other.stack.phases} phases where the others have {one.stack.phases}"
    return "does not lie at an even distance from the others"
