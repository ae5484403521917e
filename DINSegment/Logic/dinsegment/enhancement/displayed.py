"""The enhanced image as the user sees it: each whole slice at full resolution, in the grey range of the original.

Needs no torch, so that Slicer shows it before anything is installed, and slice by slice while parameters change.
"""

from __future__ import annotations

import numpy as np

from dinsegment.enhancement.grey import PERCENTILES, from_unit_interval, grey_window, to_unit_interval
from dinsegment.enhancement.methods import Enhancement
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume

FINE = 64
"""Grey values in a window from which on whole numbers show all that an eye can see."""


def enhanced_slices(slices: np.ndarray, window: tuple[float, float], enhancement: Enhancement) -> np.ndarray:
    """Slices (slices, y, x) with grey values as they were acquired -> enhanced ones inside the same window, float32."""
    grey = to_unit_interval(slices.astype(np.float32), *window)
    return from_unit_interval(enhancement(grey), *window).astype(np.float32, copy=False)


def enhanced_volume(
    volume: Volume,
    enhancement: Enhancement,
    percentiles: tuple[float, float] = PERCENTILES,
    window: tuple[float, float] | None = None,
    stack: SliceStack | None = None,
) -> Volume:
    """The enhanced image on the same grid. Slice by slice, so that no more than the result is held in memory.

    An image of whole numbers (int16), such as a CT, is enhanced to whole numbers, which take half the memory and far
    less of a file; unless its window has so few of them that one would see the steps.

    Args:
        volume: The image.
        enhancement: Method and parameters.
        percentiles: Of the grey values that become the ends of the window.
        window: Grey values (low, high) instead, such as a fixed window of Hounsfield units.
        stack: Its slices, which are enhanced; those it was acquired in if None.
    """
    stack = stack or SliceStack.of(volume)
    window = window or grey_window(volume.array, percentiles)
    whole = volume.array.dtype == np.int16 and window[1] - window[0] >= FINE
    enhanced = np.empty(volume.shape, np.int16 if whole else np.float32)
    for k, target in enumerate(stack.like(enhanced).array):
        made = enhanced_slices(stack.array[k : k + 1], window, enhancement)[0]
        target[...] = np.rint(made, out=made) if whole else made
    return volume.with_array(enhanced, name=f"{volume.name} fuzzy-enhanced")
