"""The enhanced image that follows the parameters: the slice in view at once, the others bit by bit."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import slicer

from dinsegment.enhancement.displayed import enhanced_slices
from dinsegment.enhancement.grey import grey_window
from dinsegment.enhancement.methods import Enhancement
from dinsegment.images.slices import SliceStack
from dinsegment_slicer.scene.nodes import image_of
from dinsegment_slicer.scene.reading import AS_ACQUIRED, Reading, stack_of

STEP_S = 0.02
"""Seconds that one step may take: the window answers in between."""


@dataclass(frozen=True, eq=False)
class EnhancedImage:
    """An enhanced volume node and the original that it is made from.

    Attributes:
        volumeNode: The original.
        enhancedNode: On the same grid, float32; its voxels are replaced.
        proxyNode: What shows `enhancedNode` when that is an item of a sequence; else None.
        reading: Which slices are enhanced, and inside which grey values.
    """

    volumeNode: slicer.vtkMRMLScalarVolumeNode
    enhancedNode: slicer.vtkMRMLScalarVolumeNode
    proxyNode: slicer.vtkMRMLScalarVolumeNode | None = None
    reading: Reading = AS_ACQUIRED


class EnhancementPreview:
    """Recomputes enhanced images while the user changes the parameters.

    `begin` makes the slice in view and forgets what was left to do; `step`, called until it is False, makes the rest.
    """

    def __init__(self) -> None:
        self._windows: dict[tuple[str, int], tuple[float, float]] = {}
        self._left: deque[tuple[EnhancedImage, int]] = deque()
        self._enhancement = Enhancement()

    def begin(self, images: Sequence[EnhancedImage], enhancement: Enhancement, currentSlice: int) -> None:
        """Makes the slice in view of the first image; all others are left for `step`.

        Args:
            images: The image in view first.
            enhancement: Method and parameters from now on.
            currentSlice: Voxel index along the axis across which the slices lie.
        """
        self._enhancement = enhancement
        self._left.clear()
        if not images:
            return
        first, *others = images
        stack = _stack(first, first.volumeNode)
        count = stack.array.shape[0]
        current = min(max(currentSlice, 0), count - 1)
        if stack.flipped[0]:
            current = count - 1 - current
        self._make(first, current)
        _show(first)
        # The neighbours of the slice in view are what the user scrolls to next.
        self._left.extend((first, k) for k in sorted(range(count), key=lambda k: abs(k - current)) if k != current)
        for image in others:
            self._left.extend((image, k) for k in range(_stack(image, image.volumeNode).array.shape[0]))

    def step(self) -> bool:
        """Makes some of the slices that are left; True while there are more."""
        began = time.perf_counter()
        touched: dict[int, EnhancedImage] = {}
        while self._left and time.perf_counter() - began < STEP_S:
            image, k = self._left.popleft()
            if _gone(image):
                continue
            self._make(image, k)
            touched[id(image)] = image
        for image in touched.values():
            _show(image)
        return bool(self._left)

    def stop(self) -> None:
        """Leaves the rest as it is."""
        self._left.clear()

    def _make(self, image: EnhancedImage, k: int) -> None:
        source, target = _stack(image, image.volumeNode), _stack(image, image.enhancedNode)
        target.array[k] = enhanced_slices(source.array[k : k + 1], self._window(image), self._enhancement)[0]

    def _window(self, image: EnhancedImage) -> tuple[float, float]:
        if image.reading.window is not None:
            return image.reading.window
        # Of the whole volume, so that slices compare; computed again only when its voxels change.
        key = (image.volumeNode.GetID(), image.volumeNode.GetImageData().GetMTime())
        if key not in self._windows:
            self._windows[key] = grey_window(slicer.util.arrayFromVolume(image.volumeNode))
        return self._windows[key]


def _stack(image: EnhancedImage, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> SliceStack:
    """The voxels of one of the two nodes as slices, a live view."""
    return stack_of(image_of(volumeNode), image.reading.plane)


def _show(image: EnhancedImage) -> None:
    slicer.util.arrayFromVolumeModified(image.enhancedNode)
    if image.proxyNode is not None:
        slicer.util.arrayFromVolumeModified(image.proxyNode)


def _gone(image: EnhancedImage) -> bool:
    return image.enhancedNode.GetScene() is None or image.volumeNode.GetScene() is None
