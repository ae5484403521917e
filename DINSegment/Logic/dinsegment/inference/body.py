"""Where the patient is in a CT: the trunk, without a table and without arms that lie apart from it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from dinsegment.images.pieces import largest_component

AIR = 0.03
"""Share of a fixed window up to which a grey value is air: -113 HU of one from -125 to 275, where fat is brighter."""

GAP_MM = 18.0
"""What is thinner than this, such as a table's top, does not belong to the body.

On the grid that it is looked for on: what is there is thicker than it was by up to two voxels of that grid, which it
shares with air.
"""

RIM = 0.05
"""Rows and columns with less than this share of the fullest one's tissue are no part of the trunk."""


def find_body(
    tissue: np.ndarray, spacing: tuple[float, float, float]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The rectangle in the slice plane that has the trunk in it; the field of view if there is no tissue.

    Args:
        tissue: (slices, y, x), True where a voxel is no air.
        spacing: In mm, along (slices, y, x).

    Returns:
        Its centre (y, x) from the first pixel's centre, and its size (y, x), in mm.
    """
    width = [max(1, round(GAP_MM / s)) for s in spacing[1:]]
    # What touches the edge of the field of view goes on beyond it: opened as it is, it would lose its rim there.
    padded = np.pad(tissue, [(0, 0), *((w, w) for w in width)], mode="edge")
    opened = ndimage.binary_opening(padded, np.ones((1, *width)))[:, width[0] : -width[0], width[1] : -width[1]]
    mask = largest_component(opened if opened.any() else tissue)
    if not mask.any():
        mask = np.ones_like(tissue)
    centers, sizes = [], []
    for axis in (1, 2):
        profile = mask.sum(axis=(0, 3 - axis))
        first, last = np.flatnonzero(profile > RIM * profile.max())[[0, -1]]
        centers.append(0.5 * float(first + last) * spacing[axis])
        sizes.append(float(last - first + 1) * spacing[axis])
    return (centers[0], centers[1]), (sizes[0], sizes[1])
