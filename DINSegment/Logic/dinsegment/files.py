"""Output files that are either complete or not there."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dinsegment.errors import DINSegmentError, OutputError

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
}


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a path beside `path`, with its suffixes, to write to; what was written then replaces `path`.

    Whatever happens, no temporary file is left, and `path` is as it was unless the writing succeeded.

    Raises:
        OutputError: The file could not be written: no such folder, not writable, disk full.
    """
    path = Path(path)
    # Only the last two suffixes choose the format (.nii.gz, .seg.nrrd); a UID as a name has many more dots.
    temporary = path.with_name(f".{secrets.token_hex(8)}{''.join(path.suffixes[-2:])}")
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
    """The name of an image file without what names its format: `.nii.gz`, `.seg.nrrd`, `.dcm`."""
    stem = path.name.removesuffix(".gz").removesuffix(".GZ")
    suffix = Path(stem).suffix
    # DICOM files are often named by a UID, whose last part is no suffix.
    if suffix and not suffix[1:].isdigit():
        stem = stem[: -len(suffix)]
    return stem.removesuffix(".seg") or path.name


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
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def staged(output: Path) -> Iterator[Path]:
    """A folder beside its place whose content replaces what has the same name in `output` once all is written."""
    existed = output.exists()
    ensure_writable_folder(output)
    staging = Path(tempfile.mkdtemp(prefix=".dinsegment-", dir=output))
    try:
        yield staging
        for item in sorted(staging.iterdir()):
            target = output / item.name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            item.replace(target)
    except BaseException as error:
        shutil.rmtree(staging, ignore_errors=True)
        if not existed:
            shutil.rmtree(output, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            reason = (error.strerror or str(error)).lower()
            raise OutputError(f"The results could not be written to '{output}': {reason}.") from error
        raise
    shutil.rmtree(staging, ignore_errors=True)
