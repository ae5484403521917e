"""Scores of labels against the experts'."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def dice(labels: np.ndarray, truth: np.ndarray, label: int) -> float:
    """Dice of one segment over a whole volume, 0..1; 1 where neither has it."""
    a, b = labels == label, truth == label
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / total if total else 1.0


def surface_distances(
    labels: np.ndarray, truth: np.ndarray, label: int, spacing: Sequence[float] | np.ndarray
) -> tuple[float, float]:
    """How far apart two outlines of one segment are, in three dimensions.

    A surface is the voxels of a segment with a neighbour (across a face) outside of it; beyond the image is outside.

    Args:
        labels: Labelmap (k, j, i).
        truth: The experts', of the same shape.
        label: The segment.
        spacing: In mm, along (k, j, i).

    Returns:
        HD95, the larger of the 95th percentiles of the distances from either surface to the other, and the average
        surface distance, the mean over the voxels of both surfaces; in mm. Both are NaN where either is empty.
    """
    import warnings

    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    masks = np.stack([labels == label, truth == label])
    if not masks.any(axis=(1, 2, 3)).all():
        return math.nan, math.nan
    # Voxels outside the box around both are in no surface; looking for surfaces there takes most of the time.
    model, expert = masks[(slice(None), *_box(masks.any(axis=0)))][:, None, None]
    steps = [float(step) for step in spacing]
    with warnings.catch_warnings():
        # MONAI 1.6 warns of an argument that it gives to itself.
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        hd95 = compute_hausdorff_distance(model, expert, include_background=True, percentile=95, spacing=steps)
        asd = compute_average_surface_distance(model, expert, include_background=True, symmetric=True, spacing=steps)
    return float(hd95), float(asd)


def _box(mask: np.ndarray, margin: int = 1) -> tuple[slice, ...]:
    """The box around a mask that is not empty, with a margin of so many voxels where the array has them."""
    filled = [
        np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis))) for axis in range(mask.ndim)
    ]
    return tuple(slice(max(0, int(f[0]) - margin), int(f[-1]) + 1 + margin) for f in filled)
