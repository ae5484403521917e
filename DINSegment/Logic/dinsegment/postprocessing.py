"""What anatomy says about labels after the network."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from dinsegment.slices import SliceStack
from dinsegment.tasks import Task

APART_MM = 40.0
"""Two kidneys lie farther apart than this, from middle to middle; two parts of one do not."""

LARGE_PIECE = 0.25
"""Share of an organ's largest piece from which on another piece is kept; chosen on validation patients."""

SMALL_PIECE = 0.05
"""Pieces smaller than this share of the largest one tell nothing about sides."""


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest 26-connected component of a 3D mask (ties: the first); an empty mask stays empty."""
    components, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    if count < 2:
        return mask
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return components == sizes.argmax()


def keep_one_organ(labels: np.ndarray) -> np.ndarray:
    """Labels (slices, y, x) with everything removed that does not hang together with the largest labelled piece.

    The segments of a heart touch each other, so islands elsewhere are mistakes.
    """
    return np.where(largest_component(labels > 0), labels, 0).astype(labels.dtype)


def keep_large_pieces(labels: np.ndarray) -> np.ndarray:
    """Labels (slices, y, x) without pieces of a segment that are much smaller than its largest; they become background.

    An organ is one piece, but the network loses a slender one, such as the pancreas, here and there: what is left of it
    is no mistake.
    """
    kept = np.zeros_like(labels)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:  # only where the segment is: a whole CT for each of them takes seconds
            continue
        components, _ = ndimage.label(labels[box] == label, structure=np.ones((3, 3, 3)))
        sizes = np.bincount(components.ravel())
        sizes[0] = 0
        kept[box][(sizes >= LARGE_PIECE * sizes.max())[components] & (components > 0)] = label
    return kept


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
    both = (labels == left) | (labels == right)
    box = ndimage.find_objects(both.astype(np.uint8))
    if not box:
        return labels
    told = labels.copy()
    inner, mask = told[box[0]], both[box[0]]
    components, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(components.ravel(), minlength=count + 1)[1:]
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


def postprocess(labels: np.ndarray, task: Task, stack: SliceStack) -> np.ndarray:
    """Labels (slices, y, x) of a stack with what the anatomy of the task rules out corrected or removed."""
    if task.one_organ:
        return keep_one_organ(labels)
    for pair in task.pairs:
        labels = tell_sides(labels, pair, stack.spacing[1])
    return keep_large_pieces(labels)
