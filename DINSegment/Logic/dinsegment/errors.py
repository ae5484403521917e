"""Errors whose text a user reads as it stands."""

from __future__ import annotations

import errno
import unicodedata
from pathlib import Path


class DINSegmentError(Exception):
    """One sentence for the user: what is wrong with which input, and what to do."""


class InputError(DINSegmentError, ValueError):
    """An image, label map or option that cannot be used."""


class ModelError(DINSegmentError, RuntimeError):
    """A model that is unknown, missing, damaged, or does not fit the task."""


class OutputError(DINSegmentError, OSError):
    """A result that could not be written."""


class WorkerError(DINSegmentError):
    """The process that computes could not be started, broke, or answered with something unexpected."""


class Cancelled(DINSegmentError):
    """The user cancelled; nothing was kept."""

    def __init__(self) -> None:
        super().__init__("Cancelled.")


_NOT_OPENED = (
    *(errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT, errno.EBUSY, errno.ENXIO),
)
"""What the system says where a file cannot be opened or read, whatever is in it."""


def printable(text: object) -> str:
    """The text with `\\xNN` for what cannot be shown or stored: control characters, and bytes that are not UTF-8.

    Such bytes are in names of files as Python gives them on Linux (PEP 383).
    """
    return "".join(_escaped(c) if unicodedata.category(c) in ("Cc", "Cs") else c for c in str(text))


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else ascii(character)[1:-1]


def damaged(path: Path) -> InputError:
    """The error for an image that cannot be read to its end."""
    return InputError(f"'{path}' is damaged or incomplete and cannot be read: copy or export it again.")


def unreadable(path: Path, error: BaseException) -> InputError:
    """The error for an image whose reading has failed: damaged, unless the system or the memory is the reason."""
    if isinstance(error, InputError):
        return error
    if isinstance(error, MemoryError):
        return InputError(f"'{path}' needs more memory than is free: close other programs or use a larger machine.")
    if isinstance(error, OSError) and error.errno in _NOT_OPENED:
        reason = (error.strerror or str(error)).lower()
        other = error.filename is not None and str(error.filename) != str(path)
        what = f"cannot be read because '{error.filename}' cannot be opened" if other else "cannot be opened"
        return InputError(f"'{path}' {what} ({reason}): check that it is there and that you may read it.")
    return damaged(path)
