"""The DICOM instances that a volume was read from, so that what is made of it can refer to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset


@dataclass(frozen=True, eq=False)
class DicomSource:
    """The instances of one volume.

    Attributes:
        headers: Their data sets without pixel data. One for each slice, in the order of k, for images of one frame
            each; a single one for an enhanced multi-frame image.
        frames: Number of the frame, counted from 1, that each slice k shows; None for images of one frame each.
    """

    headers: tuple[Dataset, ...]
    frames: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not self.headers or (self.frames is not None and len(self.headers) != 1):
            raise ValueError("A source is one instance a slice, or one instance of several frames.")

    @property
    def slices(self) -> int:
        """Slices of the volume."""
        return len(self.headers if self.frames is None else self.frames)
