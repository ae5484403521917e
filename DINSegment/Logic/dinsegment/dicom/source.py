"""The DICOM instances that a volume was read from, so that what is made of it can refer to them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset

_log = logging.getLogger(__name__)


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


def complete_series(headers: Sequence[Dataset], path: Path) -> None:
    """Gives images whose study or series was taken away, as some anonymisers do, a study and a series of their own.

    The UIDs follow from those of the images, so that all that is ever made from them belongs together.

    Args:
        headers: All images of one series; they are changed.
        path: Where they were read, for the log.
    """
    from dinsegment.dicom.read.header import text
    from dinsegment.dicom.uids import derived_uid

    instances = sorted(text([header], "SOPInstanceUID") for header in headers)
    if "" in instances:
        return
    for keyword, what in (("StudyInstanceUID", "study"), ("SeriesInstanceUID", "series")):
        if any(text([header], keyword) for header in headers):
            continue
        _log.warning(
            "The images in '%s' belong to no %s; what is made from them gets one of its own, in which an archive does "
            "not find the images.", path, what,
        )  # fmt: skip
        for header in headers:
            setattr(header, keyword, derived_uid(None, what, *instances))
