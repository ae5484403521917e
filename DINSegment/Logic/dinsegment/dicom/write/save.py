"""DICOM files, complete or not there."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from dinsegment.errors import OutputError
from dinsegment.files import atomic_path

PART = 1 << 24
"""Bytes that are compared at a time."""


MANUFACTURER = "DINSegment"
"""Of all instances that this library makes."""


def is_ours(path: Path) -> bool:
    """Whether a file is DICOM that this library made; not if it cannot be read."""
    try:
        header = dcmread(path, specific_tags=["Manufacturer"], stop_before_pixels=True)
    except (InvalidDicomError, OSError, EOFError, ValueError):
        return False
    return header.get("Manufacturer") == MANUFACTURER


def save_dicom(dataset: Dataset, path: Path) -> None:
    """Writes a data set with its file meta information; the file is read again before it takes its place.

    Raises:
        OutputError: It could not be written, or not be read again as it was written. Nothing is left of it then.
    """
    buffer = BytesIO()
    with warnings_off():
        dataset.save_as(buffer, enforce_file_format=True)
        content = buffer.getbuffer()
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
            # An element that cannot be read again ends the data set early.
            with temporary.open("rb") as file:
                same = all(file.read(PART) == bytes(content[n : n + PART]) for n in range(0, len(content), PART))
            written = dcmread(temporary, defer_size=1 << 20)
            if not same or [e.tag for e in written] != [e.tag for e in dataset]:
                raise OutputError(f"'{path}' could not be written completely, perhaps the disk is full: make room.")


@contextmanager
def warnings_off() -> Iterator[None]:
    """pydicom warns of every value that the standard forbids; those that stay are meant to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
