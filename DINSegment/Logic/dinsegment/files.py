"""Output files that are either complete or not there."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dinsegment.errors import Cancelled, DINSegmentError, InputError, OutputError, printable

CHUNK = 1 << 20
"""Bytes that are read at a time."""

LONGEST_SUFFIX = 16
"""Characters of what names a format."""

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than the system allows",
    errno.EACCES: "the folder is not writable",
    errno.EPERM: "the folder is not writable",
    errno.EROFS: "the folder is not writable",
    errno.ENOENT: "the folder does not exist",
    errno.ENOTDIR: "a file stands where a folder should be",
    errno.EISDIR: "a folder has that name",
    errno.ENAMETOOLONG: "the name is longer than the system allows",
}


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a path beside `path`, with its suffixes, to write to; what was written then replaces `path`.

    Whatever happens, no temporary file is left, and `path` is as it was unless the writing succeeded.

    Raises:
        OutputError: The file could not be written: no such folder, not writable, disk full.
    """
    path = Path(path)
    # Only the last two suffixes choose the format (.nii.gz, .seg.nrrd); a UID as a name has many more dots. What is
    # longer is none, and would make the name too long.
    suffixes = "".join(suffix for suffix in path.suffixes[-2:] if len(suffix) <= LONGEST_SUFFIX)
    temporary = path.with_name(f".{secrets.token_hex(8)}{suffixes}")
    try:
        # Fails here with the system's reason, which image writers do not pass on. The writer creates the file
        # anew, so that it gets the user's usual permissions.
        temporary.touch()
        temporary.unlink()
        yield temporary
        with temporary.open("r+b") as written:
            os.fsync(written.fileno())  # a full network disk may say so only now
        temporary.replace(path)
    except DINSegmentError:
        raise
    except OSError as error:
        raise OutputError(
            f"'{path}' could not be written because {_reason(error)}: choose another place or make room."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def ensure_writable_folder(path: str | os.PathLike[str]) -> Path:
    """The folder, created with its parents where missing, after a file could be created in it.

    Raises:
        OutputError: It could not be created or written to; no folder created on the way is left.
    """
    path = Path(path)
    created: list[Path] = []
    try:
        check_name(path)
    except InputError as error:
        raise OutputError(f"The results cannot be written there: {error}") from error
    try:
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir()
            created.append(folder)
        probe = path / f".{secrets.token_hex(8)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        for folder in reversed(created):
            with suppress(OSError):
                folder.rmdir()
        raise OutputError(
            f"The folder '{path}' cannot be written to because {_reason(error)}: choose another folder."
        ) from error
    return path


def image_stem(path: Path) -> str:
    """The name of an image file without what names its format: `.nii.gz`, `.seg.nrrd`, `.seq.nrrd`, `.dcm`."""
    stem = path.name.removesuffix(".gz").removesuffix(".GZ")
    suffix = Path(stem).suffix
    # DICOM files are often named by a UID, whose last part is no suffix.
    if suffix and not suffix[1:].isdigit():
        stem = stem[: -len(suffix)]
    return stem.removesuffix(".seg").removesuffix(".seq") or path.name


def phase_names(stem: str, count: int) -> list[str]:
    """The stem alone for one phase, otherwise `<stem> phase 01`, ... with digits enough to sort by."""
    if count == 1:
        return [stem]
    digits = max(2, len(str(count)))
    return [f"{stem} phase {number:0{digits}d}" for number in range(1, count + 1)]


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0, (error.strerror or str(error)).lower())


def write_json(content: Any, path: Path) -> None:
    """Writes JSON that people read, too."""
    path.write_bytes(json_bytes(content, indent=2))


def json_bytes(content: Any, indent: int | None = None) -> bytes:
    """JSON with a line end, in UTF-8; bytes of a name that is not UTF-8 become escapes, which are read as they were."""
    return json.dumps(content, indent=indent, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def sha256_of(path: Path, cancelled: Callable[[], bool] | None = None) -> str:
    """SHA-256 of a file, read in pieces.

    Raises:
        Cancelled: `cancelled` said so.
        OSError: The file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(CHUNK), b""):
            if cancelled and cancelled():
                raise Cancelled
            digest.update(chunk)
    return digest.hexdigest()


def check_name(path: Path) -> None:
    """Refuses names that are not UTF-8, for which the image libraries end the whole process.

    Raises:
        InputError: The name of the file, or of a folder above it, is not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"'{printable(path)}' has a name that is not UTF-8, which image libraries cannot open: rename it, or the "
            "folder that it is in."
        ) from error
