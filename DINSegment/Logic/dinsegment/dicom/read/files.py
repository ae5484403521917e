"""Which files are to be looked at for DICOM images: of a folder, a zip archive, a DICOMDIR or a single file."""

from __future__ import annotations

import functools
import gzip
import itertools
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from dinsegment.errors import InputError, unreadable

MAX_FILES = 200_000
"""More than any study has; a whole disk, given by mistake, is refused before hours have passed."""

MAX_FILES_OF_STUDIES = 5_000_000
"""More than thousands of studies have."""

MAX_UNPACKED_BYTES = 64 << 30
"""Largest content of a zip archive."""

_BOMB_BYTES, _BOMB_RATIO = 1 << 30, 100
"""A packed file that is larger than this when unpacked, and by such a factor, is no image."""

_PEEKED = 50
"""Files of an archive whose beginning is looked at."""

_ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")
"""How zip archives begin, and packed files, which may be archives of tar."""

_THROWN_AWAY = (".trash", "$recycle.bin", ".dinsegment-")
"""Folders of deleted files, and of results that are being written."""

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
        head = file.read(132)
    return head[128:] == b"DICM" or begins_with_meta_header(head)


def begins_with_meta_header(head: bytes) -> bool:
    """Whether a file begins with the meta information, without the preamble that belongs before it."""
    return head.startswith(b"\x02\0\0\0UL")


def is_image_name(path: Path) -> bool:
    """Whether a file is called as DICOM images are."""
    return path.suffix.lower() in _SUFFIXES


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04" or path.suffix.lower() == ".zip"


@contextmanager
def open_files(path: Path, most: int | None = None) -> Iterator[list[DicomFile]]:
    """Yields all files that are to be looked at.

    Of a folder these are the files in it, then those in its folders at any depth, as an export of whole studies has
    them. Hidden ones count where they are DICOM; what was thrown away does not. A zip archive is read where it is:
    nothing of it is written to the disk.

    Args:
        path: A folder, a zip archive, a DICOMDIR or a file.
        most: So many files a folder may have; MAX_FILES if None.

    Raises:
        InputError: The archive is damaged, locked or larger than any study, a file that a DICOMDIR names is missing, a
            folder cannot be looked through or has more files than a study, or a link in it leads nowhere.
    """
    if path.is_dir():
        yield list(_folder(path, MAX_FILES if most is None else most))
    elif _is_zip(path):
        with _reading_zip(path), zipfile.ZipFile(path) as archive:
            yield list(_zip_files(path, archive))
    elif path.name.upper() == "DICOMDIR":
        yield _directory_files(path)
    else:
        yield [_on_disk(path)]


def files_named(folder: Path, names: Sequence[str]) -> list[DicomFile]:
    """The files of these names, paths from the folder."""
    return [_on_disk(folder / name) for name in names]


def _on_disk(path: Path) -> DicomFile:
    return DicomFile(path, functools.partial(path.open, "rb"))


def _folder(path: Path, most: int) -> Iterator[DicomFile]:
    count = 0
    try:
        for file in _walk(path):
            count += 1
            if count > most:
                raise InputError(f"'{path}' holds more than {most} files: give the folder of one study.")
            hidden = _is_hidden(file.relative_to(path).parts)
            if file.is_file():
                found = _on_disk(file)
                if not hidden or has_preamble(found):
                    yield found
            elif file.is_symlink() and not hidden:
                raise InputError(f"'{file}' is a link to what is not there: copy the complete folder.")
    except OSError as error:
        raise InputError(f"'{error.filename or path}' cannot be looked through: check that you may read it.") from error


def _walk(path: Path) -> Iterator[Path]:
    """The files of a folder, then those in its folders at any depth, also behind links, once each."""

    def refuse(error: OSError) -> None:
        raise error

    seen: set[tuple[int, int]] = set()
    for folder, folders, names in os.walk(path, onerror=refuse, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.lower().startswith(_THROWN_AWAY))
        yield from (Path(folder, name) for name in sorted(names))


def _is_hidden(parts: Sequence[str]) -> bool:
    """Whether a file is hidden or in a hidden folder; macOS adds such a one to each file of an archive or disc."""
    return any(part.startswith((".", "__MACOSX")) for part in parts)


def has_preamble(file: DicomFile) -> bool:
    """Whether it begins as DICOM PS3.10 section 7.1 says; False for what cannot be opened."""
    try:
        with file.open() as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def is_packed(file: DicomFile) -> bool:
    """Whether it is a packed file or an archive that has DICOM in it, or another archive, which may."""
    try:
        with file.open() as stream:
            head = stream.read(262)
            stream.seek(0)
            if head.startswith(_ARCHIVES[0]):
                with zipfile.ZipFile(stream) as archive:
                    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
                    return any(_begins_as_packed(archive.open(entry)) for entry in entries[:_PEEKED])
            if head.startswith(b"\x1f\x8b") and _begins_as_dicom(gzip.GzipFile(fileobj=stream)):
                return True
            stream.seek(0)
            if head.startswith(_ARCHIVES[1:]) or head[257:] == b"ustar":
                with tarfile.open(fileobj=stream) as archive:
                    files = (archive.extractfile(one) for one in itertools.islice(archive, _PEEKED) if one.isfile())
                    return any(_begins_as_packed(one) for one in files if one is not None)
    except Exception:  # the unpackers raise whatever they stumble upon
        return False
    return False


def _begins_as_dicom(stream: IO[bytes]) -> bool:
    with stream:
        return stream.read(132)[128:] == b"DICM"


def _begins_as_packed(stream: IO[bytes]) -> bool:
    """Whether it is DICOM or an archive."""
    with stream:
        head = stream.read(262)
        return head[128:132] == b"DICM" or head.startswith(_ARCHIVES) or head[257:] == b"ustar"


@contextmanager
def _reading_zip(path: Path) -> Iterator[None]:
    try:
        yield
    except NotImplementedError as error:
        raise InputError(f"'{path}' is packed in a way that cannot be read: unpack it and give the folder.") from error
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise unreadable(path, error) from error


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
        found = DicomFile(path / inside, functools.partial(archive.open, entry))
        if not _is_hidden(inside.parts) or has_preamble(found):
            yield found


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
        raise unreadable(path, error) from error
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
