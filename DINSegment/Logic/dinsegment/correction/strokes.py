"""From a stroke of the user to a slice's new mask, and to those of its neighbours.

The network has seen each slice before, and keeps what it made of it (`single_slices`). An answer takes two steps. A
linear head on the decoder's features, fitted in closed form, adds to the logits what the strokes' pixels are short of;
it counts near the strokes alone. A graph cut (Y. Boykov and M.-P. Jolly, "Interactive Graph Cuts for Optimal Boundary &
Region Segmentation of Objects in N-D Images", ICCV 2001) over these logits then lets borders follow the edges of the
image. What does not hang together with a stroke stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from dinsegment.correction.single_slices import SingleSlices, SliceView
from dinsegment.errors import InputError

REACH_MM = 3.0
"""Standard deviation, in mm, of the distance to a stroke in which pixels need not stay as they are; what the head adds
counts twice as far."""

WEIGHT = 0.3
"""Of all pixels of the strokes for the head, beside 1 of all others of the slice."""

RIDGE = 3e-3
"""Penalty on the head's weights, whose features have variance 1."""

SURE = 4.0
"""Logits are clipped there: beyond a probability of 0.982 the network is no more sure than that."""

EDITED = 0.5
"""Logit of a pixel that was changed by hand since the network drew it: more would hinder who changes it back."""

BORDER = 1.0
"""Cost of a border between two pixels of the same grey, in logits."""

LEAST_BORDER = 0.1
"""Share of that which a border costs at the sharpest edge, too, so that strokes do not fray."""

PASSED_ON, PASSED_MM, PASSED_BORDER = 2.0, 5.0, 4.0
"""In the slices beside it, the core of a change has this logit, likely but for the image to decide; the network's word
counts for little this near to it; and a border costs so much. A head fitted there did harm in one slice in six."""

NEAR_MM = 4.0
"""Slices farther apart are left alone: those of hearts, and CT slices 5 mm apart, rather lose by what is passed on."""

TOUCHED = 0.2
"""Share of a pixel of the network's grid that a stroke covers, from which on it counts as drawn on."""

UNIT = 1000
"""Capacities are whole numbers: so many make a logit of 1."""

EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True, eq=False)
class Stroke:
    """All strokes of one slice that were drawn for one segment.

    Attributes:
        slice: Index along the volume's slice axis, from 0, in the image's order.
        belongs: Pixels that belong to the segment, bool, of the slice, its axes in the order of the volume's (k, j, i).
        other: Pixels that do not; what is in both belongs.
    """

    slice: int
    belongs: np.ndarray
    other: np.ndarray


def answer(
    slices: SingleSlices, segment: int, stroke: Stroke, masks: Mapping[int, np.ndarray]
) -> dict[int, np.ndarray]:
    """A segment's masks after a stroke.

    In the slice of the stroke pixels are added only where they hang together with what belongs, and removed only where
    they hang together with what does not; in its neighbours, where these are near (`NEAR_MM`), only where that lies on
    a change of the slice before. So a stroke that says what belongs takes nothing away. The strokes' own pixels are as
    the user said.

    Args:
        slices: What the network makes of the image.
        segment: Its label.
        stroke: What was drawn.
        masks: What the segment covers now, bool, by the index of the slice: that of the stroke and any neighbours that
            may change with it, as `Stroke` has its pixels.

    Returns:
        The new masks of the same slices.

    Raises:
        InputError: The segment, the slice, or the shape of a mask is none of the image's; or nothing was drawn.
    """
    _check(slices, segment, stroke, masks)
    belongs = slices.to_stack(stroke.belongs)
    other = slices.to_stack(stroke.other) & ~belongs
    before = slices.to_stack(masks[stroke.slice])
    new = _cut_slice(slices, segment, stroke.slice, before, (belongs, other), fixed=True)
    after = before.copy()
    for value, change, drawn in ((True, new & ~before, belongs), (False, before & ~new, other)):
        # The drawn pixels themselves lead from one piece to the next.
        after[_pieces_on(change | drawn, drawn)] = value
    after[belongs], after[other] = True, False
    done = {stroke.slice: after}
    for step in (1, -1) if slices.stack.slice_spacing <= NEAR_MM else ():
        n, last = stroke.slice + step, (before, after)
        while n in masks and (last[0] != last[1]).any():
            last = _passed_on(slices, segment, n, slices.to_stack(masks[n]), last)
            done[n] = last[1]
            n += step
    return {n: slices.from_stack(done[n]) if n in done else mask.copy() for n, mask in masks.items()}


def _passed_on(
    slices: SingleSlices, segment: int, n: int, before: np.ndarray, beside: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """A slice beside one that has changed, before and after what that change brings here."""
    then, now = beside
    added, removed = _core(now & ~then) & ~before, _core(then & ~now) & before
    after = before.copy()
    if added.any() or removed.any():
        new = _cut_slice(slices, segment, n, before, (added, removed), fixed=False)
        for value, change, where in ((True, new & ~before, added), (False, before & ~new, removed)):
            after[_pieces_on(change, where)] = value
    return before, after


def _cut_slice(
    slices: SingleSlices,
    segment: int,
    n: int,
    before: np.ndarray,
    drawn: tuple[np.ndarray, np.ndarray],
    fixed: bool,
) -> np.ndarray:
    """The new mask (y, x) of a slice of the stack from what was drawn there; `fixed` where that must be fulfilled."""
    belongs, other = _touched(*map(slices.on_grid, drawn))
    if not (belongs.any() or other.any()):  # Outside of what the network looks at, strokes only paint.
        return before
    seen = slices.of_slice(slices.place(n))
    logits = _logits(seen, segment, slices.on_grid(before))
    distance = ndimage.distance_transform_edt(~(belongs | other)) * slices.flat.spacing
    if fixed:
        logits = np.clip(logits + head(seen.features(), logits, belongs, other, distance), -SURE, SURE)
        certain, border = np.inf, BORDER
    else:
        logits = logits * (1.0 - np.exp(-0.5 * (distance / PASSED_MM) ** 2))
        certain, border = PASSED_ON, PASSED_BORDER
    logits[belongs], logits[other] = certain, -certain
    return slices.back(cut(logits, seen.image, border).astype(np.float32))


def head(
    features: np.ndarray, logits: np.ndarray, belongs: np.ndarray, other: np.ndarray, distance: np.ndarray
) -> np.ndarray:
    """What a linear function of the features, fitted to strokes, adds to the logits of a slice.

    Ridge regression of what the strokes' pixels are short of, and of nothing for the others, the more the farther away.

    Args:
        features: What tells pixels apart, (features, rows, columns); the logits are taken for one more.
        logits: Of the segment, (rows, columns).
        belongs: Pixels that are to reach `SURE`, bool.
        other: Pixels that are to reach its negative, bool.
        distance: To the nearest of them, in mm.
    """
    x = np.concatenate((features, logits[None])).reshape(len(features) + 1, -1).astype(float)
    x = (x - x.mean(1, keepdims=True)) / (x.std(1, keepdims=True) + 1e-6)
    x = np.concatenate((x, np.ones((1, x.shape[1]))))
    drawn = (belongs | other).ravel()
    weight = (1.0 - np.exp(-0.5 * (distance.ravel() / REACH_MM) ** 2)) / len(drawn)
    weight[drawn] = WEIGHT / drawn.sum()
    short = np.where(belongs, np.maximum(SURE - logits, 0.0), 0.0)
    short = np.where(other, np.minimum(-SURE - logits, 0.0), short).ravel()
    weighted = x * weight
    weights = np.linalg.solve(weighted @ x.T + RIDGE * np.eye(len(x)), weighted @ short)
    reach = np.exp(-0.5 * (distance / (2.0 * REACH_MM)) ** 2)
    return reach * (weights @ x).reshape(logits.shape)


def cut(logits: np.ndarray, image: np.ndarray, cost: float = BORDER) -> np.ndarray:
    """The mask that costs least: what pixels lose that are against their logit, and borders away from edges.

    Args:
        logits: Above 0 where a pixel rather belongs to the mask; infinite where that is certain.
        image: Grey values of the same shape.
        cost: Of a border between two pixels of the same grey, in logits.

    Returns:
        Bool, (rows, columns).
    """
    number = np.arange(logits.size).reshape(logits.shape)
    pairs = [(number[:, :-1], number[:, 1:]), (number[:-1], number[1:])]
    one, two = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    grey = image.ravel().astype(float)
    steps = (grey[one] - grey[two]) ** 2
    edge = np.exp(-steps / max(2.0 * float(steps.mean()), 1e-12))
    border = (UNIT * cost * (edge + LEAST_BORDER)).astype(np.int32)
    source, sink = logits.size, logits.size + 1
    most = 4.0 * cost * (1.0 + LEAST_BORDER) + 1.0  # More than all borders around a pixel.
    capacity = (UNIT * np.clip(logits.ravel(), -most, most)).astype(np.int32)
    inside, outside = np.flatnonzero(capacity > 0), np.flatnonzero(capacity < 0)
    starts = (one, two, np.full(len(inside), source), outside)
    ends = (two, one, inside, np.full(len(outside), sink))
    values = (border, border, capacity[inside], -capacity[outside])
    places = np.concatenate(starts), np.concatenate(ends)
    graph = csr_matrix((np.concatenate(values), places), shape=(sink + 1, sink + 1))
    left = graph - maximum_flow(graph, source, sink).flow
    left.data = np.maximum(left.data, 0)
    left.eliminate_zeros()
    reached = breadth_first_order(left, source, return_predecessors=False)
    mask = np.zeros(sink + 1, bool)
    mask[reached] = True
    return mask[:source].reshape(logits.shape)


def _core(change: np.ndarray) -> np.ndarray:
    """What lies deepest in each piece of a change: at least half as far from its border as its middle."""
    if not change.any():
        return change
    pieces, count = ndimage.label(change, EIGHT)
    depth = ndimage.distance_transform_edt(np.pad(change, 1))[1:-1, 1:-1]
    deepest = np.concatenate(([0.0], np.atleast_1d(ndimage.maximum(depth, pieces, np.arange(1, count + 1)))))
    return change & (depth >= 0.5 * deepest[pieces])


def _pieces_on(change: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The pieces of a change that have a pixel in `where`."""
    pieces, count = ndimage.label(change, EIGHT)
    wanted = np.zeros(count + 1, bool)
    wanted[pieces[where & change]] = True
    return wanted[pieces]


def _logits(seen: SliceView, segment: int, share: np.ndarray) -> np.ndarray:
    """What the network says of the segment, and where it was changed since, what it is now."""
    p = np.clip(seen.probabilities[segment].astype(float), 1e-4, 1.0 - 1e-4)
    logits = np.clip(np.log(p / (1.0 - p)), -SURE, SURE)
    inside = share > 0.5
    return np.where((p > 0.5) == inside, logits, np.where(inside, EDITED, -EDITED))


def _touched(belongs: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of the network's grid that each stroke is on; a thin one at least where it covers most of a pixel."""

    def on(share: np.ndarray) -> np.ndarray:
        most = float(share.max())
        return share >= min(TOUCHED, most) if most > 0.0 else np.zeros(share.shape, bool)

    return on(belongs) & (belongs >= other), on(other) & (other > belongs)


def _check(slices: SingleSlices, segment: int, stroke: Stroke, masks: Mapping[int, np.ndarray]) -> None:
    last = slices.task.classes - 1
    if not 1 <= segment <= last:
        raise InputError(f"The task '{slices.task.name}' has no segment {segment}: it has 1 to {last}.")
    if stroke.slice not in masks:
        raise InputError(f"The mask of slice {stroke.slice + 1}, in which the stroke lies, is missing.")
    shape = slices.slice_shape
    for n, mask in (*masks.items(), (stroke.slice, stroke.belongs), (stroke.slice, stroke.other)):
        if not 0 <= n < slices.count or mask.shape != shape:
            raise InputError(
                f"A slice {n + 1} of {mask.shape} pixels is none of '{slices.volume.name}', which has {slices.count} "
                f"of {shape}."
            )
    if not (stroke.belongs.any() or stroke.other.any()):
        raise InputError("Nothing was drawn: draw in the segment, or in what does not belong to it.")
