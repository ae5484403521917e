"""The DICOM instances that a volume was read from, so that what is made of it can refer to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset


@dataclass(frozen=True, eq=False)
class DicomSource:
    """The instances of one volume, which may be of several series of one study.

    Attributes:
        headers: Their data sets without pixel data, one for each slice, in the order of k. What they say of the place
            of a slice is the truth, also where the volume has put it elsewhere. Slices that are frames of one image
            share its data set; it is enough to give it once if it is the only one.
        frames: Number of the frame, counted from 1, that each slice k shows in its image; None for a slice whose image
            can have one frame alone, and instead of all of them if every image is such.
    """

    headers: tuple[Dataset, ...]
    frames: tuple[int | None, ...] | None = None

    def __post_init__(self) -> None:
        if not self.headers or (self.frames is not None and len(self.headers) not in (1, len(self.frames))):
            raise ValueError("A source is one instance a slice, or one instance of several frames.")

    @property
    def slices(self) -> int:
        """Slices of the volume."""
        return len(self.headers if self.frames is None else self.frames)

    @property
    def images(self) -> tuple[tuple[Dataset, int | None], ...]:
        """The data set and the number of the frame of each slice, in the order of k."""
        headers = self.headers if len(self.headers) > 1 else self.headers * self.slices
        return tuple(zip(headers, self.frames or (None,) * self.slices, strict=True))

    @property
    def series_uids(self) -> tuple[str, ...]:
        """Series Instance UIDs, each once, in the order of the slices."""
        return tuple(dict.fromkeys(str(header.SeriesInstanceUID) for header in self.headers))
