"""The mouse's way in a slice view, on the pixels of a slice of the image; and outlines of masks, the way back.

Pixels of a slice are counted along the image's two other axes, in the order of its array (k, j, i), from the centre of
the first one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from dinsegment.errors import InputError
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene.placement import Grid

STEP = 0.25
"""Pixels between two points of a line that are looked at: none is left out."""

OFF_SLICE = 0.6
"""How many slices the mouse's way may lie off one slice: half, and what rounding adds."""


def slice_shape(grid: Grid) -> tuple[int, int]:
    """Pixels of a slice."""
    a, b = np.delete(grid.dimensions, grid.axis)[::-1].tolist()
    return a, b


def on_slice(grid: Grid, points: Sequence[Sequence[float]]) -> tuple[int, np.ndarray]:
    """The slice in which points of the world (mm) lie, and where in it: (points, 2), in pixels.

    Raises:
        InputError: They lie in no slice, or in several: the view cuts across those that the network looks at.
    """
    world = np.column_stack((np.asarray(points, float), np.ones(len(points))))
    ijk = (np.linalg.inv(grid.ijk_to_world) @ world.T).T[:, :3]
    across = ijk[:, grid.axis]
    n = int(np.clip(np.rint(across.mean()), 0, grid.count - 1))
    if np.abs(across - n).max() > OFF_SLICE:
        raise InputError(
            _("Draw in the slices that the network looks at: this view shows others, or none of the image.")
        )
    return n, np.delete(ijk, grid.axis, axis=1)[:, ::-1]


def drawn(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The pixels that a line through points (points, 2) goes through, bool."""
    mask = np.zeros(shape, bool)
    for start, end in pairwise(pixels) if len(pixels) > 1 else [(pixels[0], pixels[0])]:
        steps = max(2, int(np.ceil(np.abs(end - start).max() / STEP)) + 1)
        along = np.rint(start + np.linspace(0.0, 1.0, steps)[:, None] * (end - start)).astype(int)
        inside = ((along >= 0) & (along < shape)).all(1)
        mask[tuple(along[inside].T)] = True
    return mask


def outline(mask: np.ndarray) -> np.ndarray:
    """The edges between the pixels of a mask and those around it: (edges, 2 ends, 2), in pixels."""
    padded = np.pad(mask, 1).astype(np.int8)
    edges = []
    for axis in (0, 1):
        rows = np.argwhere(np.diff(padded, axis=axis) != 0).astype(float) - 1.0
        ends = np.repeat(rows[:, None], 2, axis=1)
        ends[:, :, axis] += 0.5
        ends[:, 0, 1 - axis] -= 0.5
        ends[:, 1, 1 - axis] += 0.5
        edges.append(ends)
    return np.concatenate(edges)


def in_world(grid: Grid, n: int, pixels: np.ndarray) -> np.ndarray:
    """Places (..., 2) in slice n, in pixels, in the world (..., 3), mm."""
    ijk = np.insert(pixels[..., ::-1], grid.axis, float(n), axis=-1)
    return ijk @ grid.ijk_to_world[:3, :3].T + grid.ijk_to_world[:3, 3]
