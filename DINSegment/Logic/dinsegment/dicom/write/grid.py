"""Masks and labelmaps that lie on a volume's grid, whatever the order and direction of their own axes."""

from __future__ import annotations

import numpy as np

from dinsegment.images.volume import Volume

TOLERANCE = 0.05
"""Voxels that a voxel's centre may be off the grid: rounding of positions in files, far below half a voxel."""


def put_on_grid(array: np.ndarray, ijk_to_ras: np.ndarray, reference: Volume, target: np.ndarray) -> bool:
    """Writes an array of the same or a smaller extent into an array on a volume's grid.

    Args:
        array: Voxels (k, j, i); their axes are those of the volume in any order and direction.
        ijk_to_ras: Where they lie, 4x4, millimetres.
        reference: The volume.
        target: Voxels (k, j, i) on the grid of `reference`; only those that `array` covers are changed.

    Returns:
        Whether it lies on the grid: its voxels are voxels of the volume, and none but zeros stick out. Otherwise
        nothing was written.
    """
    to_reference = np.linalg.solve(reference.ijk_to_ras, ijk_to_ras)
    steps, first = np.rint(to_reference[:3, :3]), np.rint(to_reference[:3, 3])
    if (np.abs(steps).sum(axis=0) != 1).any() or (np.abs(steps).sum(axis=1) != 1).any():
        return False
    size = np.array(array.shape[::-1])
    off = np.abs(to_reference[:3, :3] - steps) @ (size - 1) + np.abs(to_reference[:3, 3] - first)
    if off.max() > TOLERANCE:
        return False
    # Row r of `steps` tells which of the array's axes runs along the volume's axis r, both counted from i.
    along = np.abs(steps).argmax(axis=1)
    turned = array.transpose([2 - along[axis] for axis in (2, 1, 0)])
    into, out = [], []
    for axis in (2, 1, 0):
        count, start = int(size[along[axis]]), int(first[axis])
        if steps[axis, along[axis]] < 0:
            turned = np.flip(turned, 2 - axis)
            start -= count - 1
        low, high = max(start, 0), min(start + count, reference.shape[2 - axis])
        into.append(slice(low, max(low, high)))
        out.append(slice(low - start, max(low, high) - start))
    inside = turned[tuple(out)]
    if inside.size < turned.size and np.count_nonzero(inside) < np.count_nonzero(turned):
        return False
    target[tuple(into)] = inside
    return True
