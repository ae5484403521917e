"""The DICOM instances that a volume was read from, so that what is made of it can refer to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset


@dataclass(frozen=True, eq=False)
class DicomSource:
    """The instances of one volume.

    They may be of several series, as where a scanner stores each slice of a stack as a series of its own. Where a
    slice lies is said by its header alone (Image Position, Rows, Columns): the volume has the slices of such a stack
    on one grid, each at the nearest pixel, and `offsets` says where.

    Attributes:
        headers: Their data sets without pixel data. One for each slice, in the order of k, for images of one frame
            each, or where the slices are in several enhanced multi-frame images; a single one for one of those.
        frames: Number of the frame, counted from 1, that each slice k shows; None for images of one frame each.
        offsets: Row and column of the volume at which the first pixel of each slice k's image lies, whole numbers, also
            below zero where the image was cropped; what the image does not cover is padding. None where all images are
            exactly the volume's grid.
    """

    headers: tuple[Dataset, ...]
    frames: tuple[int, ...] | None = None
    offsets: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        if not self.headers or (self.frames is not None and len(self.headers) not in (1, len(self.frames))):
            raise ValueError("A source is one instance a slice, or one instance of several frames.")
        if self.offsets is not None and len(self.offsets) != self.slices:
            raise ValueError(f"There are {len(self.offsets)} offsets of {self.slices} slices.")

    @property
    def slices(self) -> int:
        """Slices of the volume."""
        return len(self.headers if self.frames is None else self.frames)
