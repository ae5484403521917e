"""Where the patient is in a CT: the trunk, without a table and without arms that lie apart from it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from dinsegment.images.pieces import largest_component
from dinsegment.images.slices import SliceStack
from dinsegment.inference.preprocessing import PATCH, Preprocessing
from dinsegment.inference.view import View

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


def box_around_body(preprocessing: Preprocessing, stack: SliceStack) -> View:
    """The box around the patient's trunk, which is found by the grey values alone; large enough for all of it."""
    if preprocessing.grey_window is None:
        raise ValueError("A body is found by grey values that are known: give 'grey_window'.")
    low, high = preprocessing.grey_window
    step = preprocessing.overview_spacing
    rows, columns = np.maximum(1, np.ceil(stack.extent_mm / step - 1e-6)).astype(int).tolist()
    view = View(stack.middle_mm, (rows, columns), step, step)
    slices, inside = view.sample(stack, clip=preprocessing.grey_window)
    tissue = (slices > low + AIR * (high - low)) & (inside > 0.5)
    (y, x), extent = find_body(tissue.numpy(), (step, step, step))
    needed = np.ceil(np.array(extent) / preprocessing.spacing / PATCH) * PATCH
    rows, columns = np.maximum(preprocessing.box, needed).astype(int).tolist()
    return preprocessing.box_around((view.first[0] + y, view.first[1] + x), (rows, columns))
