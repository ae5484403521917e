"""What anatomy says about labels after the network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from dinsegment.images.pieces import CUT_AREA_CM2, LARGE_PIECE, large_pieces, largest_component, pieces_of
from dinsegment.images.slices import SliceStack
from dinsegment.tasks import DamagedWall, Task

APART_MM = 40.0
"""Two kidneys lie farther apart than this, from middle to middle; two parts of one do not."""

SMALL_PIECE = 0.05
"""Pieces smaller than this share of the largest one tell nothing about sides."""


def keep_one_organ(labels: np.ndarray) -> np.ndarray:
    """Labels (slices, y, x) with everything removed that does not hang together with the largest labelled piece.

    The segments of a heart touch each other, so islands elsewhere are mistakes.
    """
    return np.where(largest_component(labels > 0), labels, 0).astype(labels.dtype)


def keep_large_pieces(
    labels: np.ndarray,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    smallest_ml: float = 0.0,
    shares: Mapping[int, float] | None = None,
) -> np.ndarray:
    """Labels (slices, y, x) without pieces of a segment that are much smaller than its largest; they become background.

    An organ is one piece, but the network loses a slender one, such as the pancreas, here and there: what is left of it
    is no mistake.

    Args:
        labels: In which each segment is an organ of its own.
        spacing: Of slices, y and x in mm.
        smallest_ml: A segment of which less would be left is no organ, and removed as a whole; in a thin slab, whose
            edge cuts everything, there is so little of real ones, too, which stay.
        shares: Of the largest piece that another one has at least, by label; `LARGE_PIECE` without.
    """
    kept = np.zeros_like(labels)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:  # only where the segment is: a whole CT for each of them takes seconds
            continue
        large = large_pieces(labels[box] == label, (shares or {}).get(label, LARGE_PIECE))
        if not _is_speck(large, box, labels.shape, spacing, smallest_ml):
            kept[box][large] = label
    return kept


def _is_speck(
    mask: np.ndarray,
    box: tuple[slice, ...],
    shape: tuple[int, ...],
    spacing: tuple[float, float, float],
    smallest_ml: float,
) -> bool:
    """Whether a segment, as a mask in its box, is too small for an organ and not cut by the edge of the image."""
    if np.count_nonzero(mask) * np.prod(spacing) / 1000 >= smallest_ml:
        return False
    for axis, part in enumerate(box):
        enough = CUT_AREA_CM2 * 100 / np.prod(np.delete(spacing, axis))
        first, last = (np.count_nonzero(np.take(mask, end, axis)) >= enough for end in (0, -1))
        if (part.start == 0 and first) or (part.stop == shape[axis] and last):
            return False
    return True


def tell_sides(labels: np.ndarray, pair: tuple[int, int], x_spacing: float) -> np.ndarray:
    """Labels with a pair of organs told apart by where they lie to each other, when the network mixes them.

    One piece becomes one organ, the one that most of it was labelled; two pieces with the same label, well apart,
    become the left and the right one. A piece with both labels well apart, such as a horseshoe kidney, stays as it is.

    Args:
        labels: Axial slices (slices, y, x), x from the patient's right to the left.
        pair: Labels of the left and of the right organ.
        x_spacing: In mm.
    """
    left, right = pair
    boxes = ndimage.find_objects(labels, max_label=max(pair))
    found = [boxes[label - 1] for label in pair if boxes[label - 1] is not None]
    if not found:
        return labels
    told = labels.copy()
    ends = [(min(s.start for s in along), max(s.stop for s in along)) for along in zip(*found, strict=True)]
    inner = told[tuple(slice(start, stop) for start, stop in ends)]
    components, sizes = pieces_of((inner == left) | (inner == right))
    sizes = sizes[1:]
    pieces = [n for n in np.argsort(-sizes, kind="stable") + 1 if sizes[n - 1] >= SMALL_PIECE * sizes.max()]
    places = []
    for n in pieces:
        piece = components == n
        is_left = inner[piece] == left
        x = np.nonzero(piece)[2] * x_spacing
        places.append(float(x.mean()))
        if is_left.any() and not is_left.all() and abs(x[is_left].mean() - x[~is_left].mean()) > APART_MM:
            return labels
        inner[piece] = left if 2 * is_left.sum() > len(is_left) else right
    if len(pieces) > 1 and abs(places[0] - places[1]) > APART_MM:
        more_left, more_right = (pieces[0], pieces[1]) if places[0] > places[1] else (pieces[1], pieces[0])
        first, second = (inner[components == n][0] for n in (more_left, more_right))
        if first == second:
            inner[components == more_left], inner[components == more_right] = left, right
    return told


def remove_traces(labels: np.ndarray, wall: DamagedWall) -> np.ndarray:
    """Labels (slices, y, x) in which damage of less than `wall.least_percent` of the muscle is sound muscle.

    In a heart without an infarct the network takes noise, fat at the wall or blood between trabeculae for one.
    """
    damaged = np.isin(labels, wall.damaged)
    count = np.count_nonzero(damaged)
    if 100 * count >= wall.least_percent * (count + np.count_nonzero(labels == wall.muscle)):
        return labels
    return np.where(damaged, wall.muscle, labels).astype(labels.dtype)


def postprocess(labels: np.ndarray, task: Task, stack: SliceStack) -> np.ndarray:
    """Labels (slices, y, x) of a stack with what the anatomy of the task rules out corrected or removed."""
    if task.one_organ:
        labels = keep_one_organ(labels)
        return labels if task.wall is None else remove_traces(labels, task.wall)
    for pair in task.pairs:
        labels = tell_sides(labels, pair, stack.spacing[1])
    shares = {s.label: s.smallest_piece for s in task.segments if s.smallest_piece is not None}
    return keep_large_pieces(labels, (stack.slice_spacing, *stack.spacing), task.smallest_ml, shares)
