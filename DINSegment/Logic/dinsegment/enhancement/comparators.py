"""What the fuzzy enhancement is compared with: histogram equalisation, CLAHE, nothing (table 4)."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np

from dinsegment.enhancement.grey import Array
from dinsegment.errors import InputError


def _per_slice(function: Callable[[np.ndarray], np.ndarray], v: Array) -> Array:
    """Applies a numpy function of one (H, W) slice in [0, 1] to slices (..., H, W) in [-1, 1]."""
    array = v if isinstance(v, np.ndarray) else v.detach().cpu().numpy()
    slices = (array.reshape(-1, *array.shape[-2:]) + 1) / 2
    out = np.stack([function(s) for s in slices]).reshape(array.shape).astype(array.dtype) * 2 - 1
    return out if isinstance(v, np.ndarray) else v.new_tensor(out)


def _exposure() -> ModuleType:
    """scikit-image's module of methods that change the exposure of an image."""
    try:
        from skimage import exposure
    except ImportError as error:
        raise InputError(
            "This enhancement needs scikit-image, which is not installed: pip install 'dinsegment[comparators]', or "
            "choose 'fuzzy'."
        ) from error
    return exposure


def histogram_equalization(v: Array, bins: int = 256) -> Array:
    """Histogram equalisation of each slice (scikit-image), (..., H, W) in [-1, 1] -> the same."""
    equalize_hist = _exposure().equalize_hist
    return _per_slice(lambda s: equalize_hist(s, nbins=bins), v)


def clahe(v: Array, clip_limit: float = 0.01, tiles: int = 8) -> Array:
    """Contrast-limited adaptive equalisation of each slice (scikit-image), (..., H, W) in [-1, 1] -> the same."""
    equalize_adapthist = _exposure().equalize_adapthist

    def equalize(s: np.ndarray) -> np.ndarray:
        if s.min() == s.max():
            return s
        low, high = s.min(), s.max()  # scikit-image stretches to the full range; the slice's own range is kept
        kernel = tuple(max(side // tiles, 1) for side in s.shape)
        return equalize_adapthist(s, kernel_size=kernel, clip_limit=clip_limit) * (high - low) + low

    return _per_slice(equalize, v)


def identity(v: Array) -> Array:
    """The slices as they are: the network then sees the original twice (table 4, I + I)."""
    return v
