"""Outlines of segments in a slice, and the part of it that is worth a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from dinsegment.tasks import Segment, Task

if TYPE_CHECKING:
    from matplotlib.collections import PathCollection

MARGIN_MM = 25.0
"""Shown around the segments on every side."""


def crop_around(labels: np.ndarray, spacing: tuple[float, float], margin_mm: float = MARGIN_MM) -> tuple[slice, slice]:
    """The rectangle around all segments with a margin; everything if there are none."""
    mask = labels.any(0)
    if not mask.any():
        return slice(None), slice(None)
    crops = []
    for axis, step in enumerate(spacing):
        filled = np.flatnonzero(mask.any(1 - axis))
        margin = round(margin_mm / step)
        crops.append(slice(max(0, filled[0] - margin), filled[-1] + margin + 1))
    return crops[0], crops[1]


def plot_color(segment: Segment) -> tuple[float, ...]:
    """The segment's own, as matplotlib takes it."""
    return tuple(channel / 255 for channel in segment.color)


def outlines(labels: np.ndarray, task: Task, width: float = 1.1) -> PathCollection:
    """The outlines of all segments in a slice (y, x), one path for each; in boxes around them, since that is quick."""
    from contourpy import LineType, contour_generator
    from matplotlib.collections import PathCollection
    from matplotlib.path import Path

    paths, colors = [], []
    padded = np.pad(labels, 1)  # so that outlines are closed at the edge
    for label, box in enumerate(ndimage.find_objects(padded), start=1):
        if box is None:
            continue
        rows, columns = (slice(part.start - 1, part.stop + 1) for part in box)
        mask = (padded[rows, columns] == label).astype(float)
        (points,), (codes,) = contour_generator(z=mask, line_type=LineType.ChunkCombinedCode).lines(0.5)
        paths.append(Path(points + np.array((columns.start - 1, rows.start - 1)), codes))
        colors.append(plot_color(task.segments[label - 1]))
    return PathCollection(paths, facecolors="none", edgecolors=colors, linewidths=width)
