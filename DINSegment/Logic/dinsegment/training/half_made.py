"""A folder that a run writes into, and what becomes of what a run has left there that was killed.

While a run is under way a note lies in its folder. One that fails or is interrupted takes away what it has written; one
that was killed, or whose computer went off, cannot, and its note says so: the next run into the same folder goes on
with it if it is to make the same, and otherwise begins anew.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dinsegment.errors import OutputError
from dinsegment.files import atomic_path, ensure_writable_folder, write_json

NOTE, LOCK, LOGS = "half-made.json", "half-made.lock", "tensorboard"

PROGRAM = "DINSegment"

RUN_FILES = ("checkpoint.pt", "best.safetensors", "last.safetensors", "weights.json", "log.csv", "curves.png")
"""What a training writes, beside the logs for TensorBoard."""

_TEMPORARY = re.compile(r"\.[0-9a-f]{16}(\.\w+)*", re.ASCII)
"""Names that `atomic_path` gives to what is not complete yet."""


def is_half_made(folder: Path) -> bool:
    """Whether a run was killed while it wrote into the folder, or is writing there now."""
    return _note(folder) is not None


def check_free(folder: Path) -> None:
    """Raises OutputError unless a run may write into the folder: it is not there, empty, or half made."""
    if is_half_made(folder):
        own = {*RUN_FILES, NOTE, LOCK, LOGS}
        for one in sorted(folder.iterdir()):
            if one.name not in own and not _TEMPORARY.fullmatch(one.name):
                raise OutputError(
                    f"'{folder}' has a training that was stopped, and '{one.name}', which is not of it: move that "
                    "away, or choose another folder."
                )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"'{folder}' is there: choose another folder for the adapted model.")


@contextmanager
def run_folder(folder: Path, made_of: Mapping[str, Any]) -> Iterator[bool]:
    """Keeps a folder for one run, and what it has written if it succeeds.

    Args:
        folder: Of the run; not there, empty, or half made.
        made_of: All that decides what the run makes, as JSON has it.

    Yields:
        Whether the folder has what is left of a run that was to make the same, for this one to go on with.

    Raises:
        OutputError: The folder is taken, cannot be written to, or another process is writing into it.
    """
    check_free(folder)
    created = not folder.exists()
    ensure_writable_folder(folder)
    try:
        with _alone(folder):
            note = _note(folder)
            goes_on = False
            if note is not None:
                created = bool(note.get("created"))
                goes_on = note.get("made_of") == json.loads(json.dumps(made_of))
                _remove(folder, () if goes_on else (*RUN_FILES, NOTE), logs=not goes_on)
            with atomic_path(folder / NOTE) as path:
                write_json({"program": PROGRAM, "created": created, "made_of": made_of}, path)
            try:
                yield goes_on
            except BaseException:
                _remove(folder, (*RUN_FILES, NOTE), logs=True)
                raise
            (folder / NOTE).unlink()
    finally:
        if created:
            with suppress(OSError):  # It is not empty.
                folder.rmdir()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps other processes from writing into the folder."""
    from filelock import FileLock

    lock = FileLock(folder / LOCK, blocking=False)
    try:
        lock.acquire()
    except TimeoutError as error:
        raise OutputError(
            f"Another process is writing into '{folder}': wait until it is done, or choose another folder."
        ) from error
    except (OSError, NotImplementedError):
        lock = None  # There is no locking in this folder; what is left out is a check.
    try:
        yield
    finally:
        if lock is not None:
            lock.release()
        with suppress(OSError):
            (folder / LOCK).unlink(missing_ok=True)


def _note(folder: Path) -> dict[str, Any] | None:
    """What the note in a folder says; None where there is none of this program's."""
    try:
        content = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("program") == PROGRAM else None


def _remove(folder: Path, files: Sequence[str], logs: bool) -> None:
    """Takes away those files, what was not written to its end, and if wanted the logs for TensorBoard."""
    if logs:
        shutil.rmtree(folder / LOGS, ignore_errors=True)
    parts = [one.name for one in folder.iterdir() if _TEMPORARY.fullmatch(one.name)]
    for name in (*files, *parts):
        with suppress(OSError):
            (folder / name).unlink(missing_ok=True)
