"""What is known of a segment in a slice beside how sure the network is: its shape, and what lies beside and around it.

From these facts an `estimator.Estimator` tells how likely the segment is to be corrected there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from dinsegment.tasks import Task

FACTS: dict[str, str] = {
    "mean": "mean probability of the segment where it is drawn",
    "inner": "the same without its edge",
    "outside": "probability of it where it is not drawn, over what is drawn",
    "expected": "Dice that is to be expected if the probabilities are true",
    "pieces": "share of it that is not in its largest piece",
    "round": "its area over that of a circle with its edge",
    "base end": "1 where no slice lies beyond, towards the base",
    "base overlap": "Dice of it and of the same segment in the next slice towards the base",
    "base expected": "what is expected in that slice",
    "apex overlap": "as towards the base, towards the apex",
    "apex expected": "as towards the base, towards the apex",
    "apex area": "its area in the next slice towards the apex over its area here",
    "ring": "share of the chamber's border beyond which the muscle lies; -1 where there is no chamber",
}
"""Facts of one segment in one slice. Of every segment of the task, by its abbreviation, there are also `expected X`,
what is expected of it in this slice, 0 where it is not drawn, and `share X`, its area over that in its largest slice.
Which end of the stack is the base is told by its wider third."""

Probabilities = Sequence[tuple[np.ndarray, np.ndarray]]
"""Of each slice pixels, counted row by row, and the probability of each segment there, (segments, pixels)."""


def known_facts(task: Task) -> set[str]:
    """The names of all facts of a segment of that task."""
    of_each = {f"{what} {segment.abbreviation}" for segment in task.segments for what in ("expected", "share")}
    return of_each | FACTS.keys()


def facts_of(
    labels: np.ndarray, expected: np.ndarray, totals: np.ndarray, kept: Probabilities, task: Task
) -> dict[str, np.ndarray]:
    """The facts, each (slices, segments), with NaN where the segment is not drawn.

    Args:
        labels: (slices, rows, columns) on the network's grid.
        expected: Dice that is to be expected, (slices, segments).
        totals: Sum of each segment's probability over the slice, (slices, segments).
        kept: The probabilities that are known: at least wherever a segment is drawn.
        task: What is labelled.
    """
    count, segments = expected.shape
    masks = labels[:, None] == np.arange(1, segments + 1)[:, None, None]
    area = masks.sum((2, 3))
    names = sorted(known_facts(task))
    found = {name: np.full((count, segments), np.nan) for name in names}
    if not area.any():
        return found
    towards_base = -1 if _base_is_first(area.sum(1)) else 1
    ring = [_ring(masks[n], task) for n in range(count)]
    share = area / np.maximum(area.max(0), 1)
    for n, s in np.argwhere(area):
        mask = masks[n, s]
        where, values = kept[n]
        probability = np.zeros(mask.size)
        probability[where] = values[s]
        here = _facts_inside(mask, probability.reshape(mask.shape), totals[n, s])
        here |= {"expected": expected[n, s], "ring": ring[n]}
        for end, step in (("base", towards_base), ("apex", -towards_base)):
            beside = n + step
            inside = 0 <= beside < count
            here[f"{end} overlap"] = _overlap(mask, masks[beside, s]) if inside else 0.0
            here[f"{end} expected"] = expected[beside, s] if inside else 0.0
            here[f"{end} end"] = float(not inside)
            here[f"{end} area"] = area[beside, s] / area[n, s] if inside else 0.0
        for other, segment in enumerate(task.segments):
            here[f"expected {segment.abbreviation}"] = expected[n, other] if area[n, other] else 0.0
            here[f"share {segment.abbreviation}"] = share[n, other]
        for name in names:
            found[name][n, s] = here[name]
    return found


def _base_is_first(area: np.ndarray) -> bool:
    """Whether the base, the wider third of what is drawn, lies at the first slice; from the area in each slice."""
    drawn = area[area > 0]
    third = max(1, len(drawn) // 3)
    return bool(drawn[:third].mean() >= drawn[-third:].mean())


def _facts_inside(mask: np.ndarray, probability: np.ndarray, total: float) -> dict[str, float]:
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    box = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in box)
    mask, probability = mask[box], probability[box]
    count = int(mask.sum())
    inside = float(probability[mask].sum())
    eroded = ndimage.binary_erosion(mask)
    whole = ndimage.binary_fill_holes(mask)
    edge = int((whole & ~ndimage.binary_erosion(whole)).sum())
    sizes = np.bincount(ndimage.label(mask)[0].ravel())[1:]
    return {
        "mean": inside / count,
        "inner": float(probability[eroded].mean()) if eroded.sum() > 5 else inside / count,
        "outside": (total - inside) / count,
        "pieces": 1 - float(sizes.max()) / count,
        "round": 4 * np.pi * float(whole.sum()) / max(edge, 1) ** 2,
    }


def _ring(masks: np.ndarray, task: Task) -> float:
    if task.chamber is None or task.muscle is None:
        return -1.0
    chamber, muscle = masks[task.chamber - 1], masks[task.muscle - 1]
    border = ndimage.binary_dilation(chamber) & ~chamber
    return float(muscle[border].mean()) if border.any() else -1.0


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float((one & other).sum()) / max(1, int(one.sum() + other.sum()))
