"""The pieces of a segment that do not hang together."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def pieces_of(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 26-connected components of a 3D mask.

    Returns:
        The number of each voxel's component, from 1 in the order of their first voxels, int32, 0 outside of the mask;
        and how many voxels each component has, by its number, none for 0.
    """
    components, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    # Plane by plane: bincount copies its input as int64, eight times the mask of a large CT.
    sizes = sum(np.bincount(plane.ravel(), minlength=count + 1) for plane in components)
    sizes[0] = 0
    return components, sizes


CUT_AREA_CM2 = 1.0
"""A smaller cross-section at the edge is no matter."""

CUT_SHARE = 0.1
"""A segment is cut where its cross-section at the image's edge has this share of its largest one, or more."""

CUT_BELOW_BASE = 0.7
"""The same share where one end of the stack may cut (`Task.open_base`), at the other: 0.6 at most in training."""


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest 26-connected component of a 3D mask (ties: the first); an empty mask stays empty."""
    components, sizes = pieces_of(mask)
    return components == sizes.argmax() if len(sizes) > 2 else mask


LARGE_PIECE = 0.25
"""Share of an organ's largest piece from which on another piece is kept; chosen on validation patients."""


def large_pieces(mask: np.ndarray, share: float = LARGE_PIECE) -> np.ndarray:
    """The 26-connected components of a 3D mask that have at least that share of the largest one's voxels."""
    components, sizes = pieces_of(mask)
    if len(sizes) <= 2:
        return mask
    wanted = sizes >= share * sizes.max()
    return np.stack([wanted[plane] for plane in components])  # an index is copied as int64: plane by plane
