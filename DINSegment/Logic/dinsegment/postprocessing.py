"""What anatomy says about labels after the network."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


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
