"""Which files are to be looked at for DICOM images: of a folder, a zip archive, a DICOMDIR or a single file."""

from __future__ import annotations

import functools
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from dinsegment.errors import InputError, damaged

MAX_FILES = 200_000
"""More than any study has; a whole disk, given by mistake, is refused before hours have passed."""

MAX_UNPACKED_BYTES = 64 << 30
"""Largest content of a zip archive."""

_BOMB_BYTES, _BOMB_RATIO = 1 << 30, 100
"""A packed file that is larger than this when unpacked, and by such a factor, is no image."""

_SUFFIXES = (".dcm", ".dicom", ".ima")
_RECORDS = 0x00041220  # Directory Record Sequence
_WITHOUT_FILE = (
    *("PATIENT", "STUDY", "SERIES", "PRIVATE"),
    *("TOPIC", "VISIT", "RESULTS", "INTERPRETATION", "STUDY COMPONENT"),  # retired
)


@dataclass(frozen=True, eq=False)
class DicomFile:
    """A file that may be DICOM.

    Attributes:
        path: What messages call it; in a zip archive the archive's path and the file's in it.
        open: Opens it for reading, at any number of times and from any thread.
    """

    path: Path
    open: Callable[[], BinaryIO]


def is_dicom(path: Path) -> bool:
    """Whether a file claims to be DICOM or to hold some: by its preamble (DICOM PS3.10 section 7.1) or its name."""
    if is_image_name(path) or path.name.upper() == "DICOMDIR" or _is_zip(path):
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def is_image_name(path: Path) -> bool:
    """Whether a file is called as DICOM images are."""
    return path.suffix.lower() in _SUFFIXES


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04" or path.suffix.lower() == ".zip"


@contextmanager
def open_files(path: Path) -> Iterator[Iterator[list[DicomFile]]]:
    """Yields lists of files, the first of which that has images is to be read.

    Of a folder these are the files in it, then those in its folders at any depth, as an export of whole studies has
    them. Hidden files are left out. A zip archive is read where it is: nothing of it is written to the disk.

    Raises:
        InputError: The archive is damaged, locked or larger than any study, a file that a DICOMDIR names is missing, or
            the folder has more files than a study.
    """
    if path.is_dir():
        yield _folder(path)
    elif _is_zip(path):
        with _reading_zip(path), zipfile.ZipFile(path) as archive:
            files = list(_zip_files(path, archive))
            yield iter([files])
    elif path.name.upper() == "DICOMDIR":
        yield iter([_directory_files(path)])
    else:
        yield iter([[_on_disk(path)]])


def _on_disk(path: Path) -> DicomFile:
    return DicomFile(path, functools.partial(path.open, "rb"))


def _folder(path: Path) -> Iterator[list[DicomFile]]:
    try:
        paths = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        yield [_on_disk(file) for file in paths]
        yield [_on_disk(file) for file in _deeper(path)]
    except OSError as error:
        raise InputError(f"'{path}' cannot be looked through: check that you may read it.") from error


def _deeper(path: Path) -> list[Path]:
    """The files in the folders of a folder; links to folders are not followed, they may lead in circles."""
    found: list[Path] = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if Path(folder) != path:
            files = (Path(folder, name) for name in sorted(names) if not name.startswith("."))
            found += [file for file in files if file.is_file()]
        if len(found) > MAX_FILES:
            raise InputError(f"'{path}' holds more than {MAX_FILES} files: give the folder of one study.")
    return found


@contextmanager
def _reading_zip(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError) as error:
        raise damaged(path) from error


def _zip_files(path: Path, archive: zipfile.ZipFile) -> Iterator[DicomFile]:
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(entries) > MAX_FILES or sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES:
        raise InputError(f"'{path}' holds more than any study: unpack it and give the folder of one study.")
    for entry in entries:
        inside = PurePosixPath(entry.filename)
        if entry.flag_bits & 1:
            raise InputError(f"'{path}' is locked by a password: unpack it and give the folder.")
        if entry.file_size > max(_BOMB_BYTES, _BOMB_RATIO * entry.compress_size):
            raise InputError(f"'{path}' holds '{inside}', which unpacks to more than an image has: leave it out.")
        # macOS adds a hidden file to each file.
        if not any(part.startswith((".", "__MACOSX")) for part in inside.parts):
            yield DicomFile(path / inside, functools.partial(archive.open, entry))


def _directory_files(path: Path) -> list[DicomFile]:
    """The files that a DICOMDIR names (DICOM PS3.3 F.3)."""
    from pydicom import dcmread

    files: list[Path] = []
    try:
        directory = dcmread(path)
        sequence = directory.get_item(_RECORDS)
        # One of undefined length is read at once, and is missing where its end is.
        if getattr(sequence, "length", 0) > len(sequence.value):
            raise ValueError("It ends within its records.")
        records = list(directory.DirectoryRecordSequence)
        starts = {0, *(record.seq_item_tell for record in records)}
        for record in records:
            links = {record.OffsetOfTheNextDirectoryRecord, record.OffsetOfReferencedLowerLevelDirectoryEntity}
            if not links <= starts:
                raise ValueError("Records are missing.")
            if "ReferencedFileID" in record or record.DirectoryRecordType not in _WITHOUT_FILE:
                file_id = record.ReferencedFileID
                files.append(_referenced(path, [file_id] if isinstance(file_id, str) else list(file_id)))
    except Exception as error:  # pydicom raises whatever it stumbles upon
        raise damaged(path) from error
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise InputError(
            f"'{path}' names {len(missing)} files that are not there, '{missing[0]}' among them: copy the complete "
            "folder or disc."
        )
    return [_on_disk(file) for file in files]


def _referenced(directory: Path, parts: list[str]) -> Path:
    """Where a file of a DICOMDIR lies; names on discs may have come out in lower case."""
    if any(part in ("", ".", "..") or "/" in part or "\\" in part for part in parts):
        raise ValueError("No file ID, see DICOM PS3.10 section 8.2.")
    file = directory.parent.joinpath(*parts)
    lower = directory.parent.joinpath(*(part.lower() for part in parts))
    return lower if lower.is_file() and not file.is_file() else file
