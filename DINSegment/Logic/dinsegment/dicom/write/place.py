"""Where the frames of a DICOM SEG lie: on the pixels of their images, or all on one grid.

Between the breath-holds of a heart the patient moves, and the slices of a stack are shifted against each other within
their plane. The volume has them on one grid, each moved by whole voxels to the nearest place. In a DICOM SEG each
frame can lie on its own image, pixel for pixel, which is where the network saw it; programs that build one grid of the
frames, as dcmqi and with it 3D Slicer do, then put it elsewhere. For those there is the grid of the volume.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dinsegment.errors import InputError
from dinsegment.geometry import RAS_FROM_LPS, nearest_voxel

MOVED = 0.1
"""Pixels that an image may lie beside the grid of its volume: rounding of positions, far below half a pixel."""

ASKEW = 0.5
"""Pixels by which the far corners of an image may lie elsewhere than on the grid, seen from its first pixel."""


@dataclass(frozen=True, eq=False)
class Plane:
    """Where an image lies.

    Attributes:
        position: Centre of its first pixel, millimetres in LPS.
        steps: To the next column and to the next row, millimetres in LPS, (3, 2).
        size: Rows and columns.
    """

    position: np.ndarray
    steps: np.ndarray
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Placement:
    """Where the images of a volume lie on its grid.

    Attributes:
        offsets: Voxels (j, i), with fractions, at which the first pixel of each image lies, (slices, 2).
        sizes: Rows and columns of each image, (slices, 2).
        shape: Rows and columns of the grid.
    """

    offsets: np.ndarray
    sizes: np.ndarray
    shape: tuple[int, int]

    @property
    def first(self) -> np.ndarray:
        """The voxel (j, i) at which the first pixel of each image was put, (slices, 2)."""
        return nearest_voxel(self.offsets)

    @property
    def is_grid(self) -> bool:
        """Whether the images themselves make up one grid, as they do unless the patient has moved."""
        straight = np.abs(self.offsets - self.offsets[0]).max() <= MOVED
        return bool(straight and (self.sizes == self.sizes[0]).all())

    @property
    def in_place(self) -> np.ndarray:
        """Whether the pixels of each image are the voxels of its slice, (slices,)."""
        return (np.abs(self.offsets) <= MOVED).all(axis=1) & (self.sizes == self.shape).all(axis=1)

    @property
    def largest(self) -> tuple[int, int]:
        """Rows and columns that hold every image."""
        rows, columns = self.sizes.max(axis=0)
        return int(rows), int(columns)

    def on_images(self, mask: np.ndarray) -> np.ndarray:
        """Voxels (k, j, i) of the grid on the pixels of the images, from the first of each on; 0 beyond the grid."""
        if (self.first == 0).all() and (self.sizes == self.shape).all():
            return mask
        on_images = np.zeros((len(mask), *self.largest), mask.dtype)
        for k, ((rows, columns), first) in enumerate(zip(self.sizes.tolist(), self.first.tolist(), strict=True)):
            of_grid, of_image = zip(
                *(_overlap(start, n, m) for start, n, m in zip(first, (rows, columns), self.shape, strict=True)),
                strict=True,
            )
            on_images[(k, *of_image)] = mask[(k, *of_grid)]
        return on_images


def placement(planes: list[Plane], ijk_to_ras: np.ndarray, shape: tuple[int, int, int]) -> Placement:
    """Where the images of a volume lie on its grid, the first of them in slice 0.

    Args:
        planes: Of each slice.
        ijk_to_ras: Of the grid, 4x4, millimetres.
        shape: Of the grid, (k, j, i).

    Raises:
        InputError: They are not the images of its slices.
    """
    if len(planes) != shape[0]:
        raise ValueError(f"There are {len(planes)} images of {shape[0]} slices.")
    lps_to_ijk = np.linalg.inv(RAS_FROM_LPS @ ijk_to_ras)
    offsets = []
    for k, plane in enumerate(planes):
        i, j, along = (lps_to_ijk @ (*plane.position, 1.0))[:3]
        # What one column and one row more are in voxels has to be one voxel along i and one along j, all over it.
        off = np.abs(lps_to_ijk[:3, :3] @ plane.steps - np.eye(3, 2)) * (plane.size[1] - 1, plane.size[0] - 1)
        if abs(along - k) >= ASKEW or off.sum(axis=1).max() >= ASKEW:
            raise InputError(
                f"Image {k + 1} of {len(planes)} does not lie in the slice that was made of it: segment the DICOM "
                "images as they were read, not turned, not resampled."
            )
        offsets.append((j, i))
    return Placement(np.array(offsets), np.array([plane.size for plane in planes]), shape[1:])


def _overlap(start: int, length: int, count: int) -> tuple[slice, slice]:
    """Of an axis of the grid of `count` voxels, and of an image that begins at `start`: the part that both have."""
    low, high = max(start, 0), min(start + length, count)
    return slice(low, max(low, high)), slice(low - start, max(low, high) - start)
