"""Which stacks there are in a study, whatever series its scanner has stored them in.

`find_stacks(pictures) -> list[Stack]` is the way, of records that `picture_of` makes of a file's header, or of the tags
that a database has (`picture_of(file, lambda keyword: values.get(TAGS.get(keyword), ""))`, where `values` are texts by
"gggg,eeee"). It needs numpy alone, so that 3D Slicer can ask before anything else is installed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dinsegment.dicom.read.join import join, joined_of, movements
from dinsegment.dicom.read.kinds import LEAST_SLICES, is_localizer, view
from dinsegment.dicom.read.neighbours import with_neighbours
from dinsegment.dicom.read.picture import TAGS, Picture, picture_of
from dinsegment.dicom.read.pieces import Piece, name_of, pieces_of, series_of
from dinsegment.dicom.read.placing import Joined
from dinsegment.dicom.read.stack import (
    CINE,
    LOCALIZER,
    MR,
    OTHER,
    SHORT_AXIS,
    SHORT_AXIS_CINE,
    SeriesName,
    Stack,
    StackSlice,
)
from dinsegment.dicom.read.velocity import with_flow

WHOLE_HEART = 6
"""Slices of a cine from which on it is taken for a short-axis one although it lies in another way than most."""

UNUSUAL = "The slices lie in another way than short-axis slices mostly do: look whether they are."

__all__ = ["TAGS", "Picture", "SeriesName", "Stack", "StackSlice", "find_stacks", "picture_of"]


def find_stacks(pictures: Sequence[Picture]) -> list[Stack]:
    """All stacks of the pictures of one patient and study; each picture is in one of them at least.

    Short-axis stacks are put together from whatever series they are in: a series for each slice, for some of them, for
    all or for each phase. Their slices are parallel, with pixels of one size, and evenly spaced within a tenth. Of
    slices that were acquired twice the later one counts that was not broken off; the other is a stack of its own
    (`is_repeat`). Two complete
    stacks, as before and after exercise, stay two. A slice that has fewer or more phases than most takes part with the
    pictures that are nearest in time over the beat. Matrices of several sizes become one. All that is said in
    `Stack.warnings`. Everything else is listed series by series as what it is.

    Args:
        pictures: In any order.

    Returns:
        In the order of the numbers of their series.
    """
    joined: list[Joined] = []
    stacks: list[Stack] = []
    found: list[Piece] = []
    for series in series_of(pictures).values():
        placed = [one for one in series if not one.problem]
        if len(placed) < len(series):
            stacks.append(_unplaced([one for one in series if one.problem]))
        pieces = pieces_of(placed) if placed else []
        if len(pieces) > 1 and all(piece.kind == LOCALIZER for piece in pieces):
            stacks.append(_unplaced(placed))
            continue
        found += pieces
    moving: list[Piece] = []
    for piece in with_flow(found):
        if piece.kind in (CINE, MR) and not piece.problem:
            moving.append(piece)
        else:
            joined.append(joined_of(piece))
    moving = movements(moving)
    for kind in (CINE, MR):
        joined += join([piece for piece in moving if piece.kind == kind])
    stacks += [one.stack for one in with_neighbours(_with_views(joined))]
    return _named(sorted(stacks, key=_place))


def _unplaced(pictures: Sequence[Picture]) -> Stack:
    """Pictures of one series that make up no volume, as they are."""
    first = pictures[0]
    reasons = Counter(one.problem for one in pictures if one.problem)
    return Stack(
        name="",
        kind=LOCALIZER if not reasons or any(map(is_localizer, pictures)) else OTHER,
        modality=first.modality,
        slices=(),
        times_ms=(None,),
        shape=(0, first.rows or 0, first.columns or 0),
        ijk_to_ras=np.eye(4),
        series=(name_of(pictures),),
        problem=reasons.most_common(1)[0][0] if reasons else "its slices lie in several directions",
        keys=tuple(one.key for one in pictures),
    )


def _with_views(joined: Sequence[Joined]) -> list[Joined]:
    """Says along which axis of the heart each stack lies: the short axis first, which tells what the others are."""
    short_axis, is_usual = _short_axis(joined)
    found = []
    for one in joined:
        if one.stack.kind in (CINE, MR):
            kind = view(one.normal, len(one.stack.slices), one.words, short_axis, one.stack.kind == CINE)
            one = one.of_kind(MR if kind == SHORT_AXIS and not one.is_gradient_echo else kind)
            if kind == SHORT_AXIS_CINE and not is_usual:
                one = one.warned(UNUSUAL)
        found.append(one)
    return found


def _short_axis(joined: Sequence[Joined]) -> tuple[np.ndarray | None, bool]:
    """Normal of the short-axis slices, and whether it is as in most hearts.

    It is that of a cine if there is one, of the stack with most slices.
    """
    stacks = [one for one in joined if one.stack.kind in (CINE, MR) and len(one.stack.slices) >= LEAST_SLICES]
    stacks.sort(key=lambda one: (one.stack.kind != CINE, -len(one.stack.slices)))
    views = [view(one.normal, len(one.stack.slices), one.words, None, one.stack.kind == CINE) for one in stacks]
    for one, kind in zip(stacks, views, strict=True):
        if kind == SHORT_AXIS_CINE or (kind == SHORT_AXIS and one.is_gradient_echo):
            return one.normal, True
    for one, kind in zip(stacks, views, strict=True):
        if kind == CINE and len(one.stack.slices) >= WHOLE_HEART:
            return one.normal, False
    return None, True


def _place(stack: Stack) -> tuple[float, str]:
    numbers = [one.number for one in stack.series if one.number is not None]
    return min(numbers, default=0), stack.series[0].description


def _named(stacks: Sequence[Stack]) -> list[Stack]:
    """Gives each a name that no other has: what it is where it was put together, else what its series is called."""
    names = [_name(stack) for stack in stacks]
    count = Counter(name.casefold() for name in names)
    used: set[str] = set()
    found = []
    for stack, name in zip(stacks, names, strict=True):
        if count[name.casefold()] > 1 and len(stack.series) == 1 and stack.series[0].number is not None:
            name = f"{name} ({stack.series[0].number})"
        number, free = 1, name
        while free.casefold() in used:
            number += 1
            free = f"{name} {number}"
        used.add(free.casefold())
        found.append(replace(stack, name=free))
    return found


def _name(stack: Stack) -> str:
    if len(stack.series) > 1:
        return stack.kind
    return stack.series[0].description or stack.kind
