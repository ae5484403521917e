"""What this program wrote into a folder, so that it replaces and removes nothing else.

dinsegment.json lies beside the files and has the SHA-256 of each. A file that is not listed there is somebody else's;
one that is not what the list says was changed since, as a segmentation is that somebody has corrected.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dinsegment.errors import OutputError
from dinsegment.files import atomic_path, ensure_writable_folder, sha256_of, write_json
from dinsegment.version import __version__

MANIFEST = "dinsegment.json"
"""Lists what this program wrote beside it."""

PROGRAM = "DINSegment"

STAGING = ".dinsegment-"
"""Begins the names of folders whose content is not complete yet."""

Kind = Literal["segmentation", "evaluation"]
"""Results that replace one another: a segmentation replaces the segmentation before, and no evaluation."""

_NAME = re.compile(r"(?:[\w-][\w.-]*/)?[\w-][\w.-]*", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Manifest:
    """What dinsegment.json says.

    Attributes:
        files: By kind, then by path from the folder with `/`: the SHA-256 that the file may have. Usually one; several
            while it is being replaced.
    """

    files: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """That of a folder, empty where there is none; None if the file is not this program's."""
        path = folder / MANIFEST
        if not os.path.lexists(path):
            return cls()
        try:
            content = json.loads(path.read_bytes())
            files = content["files"]
            hashes = [(name, one) for of_kind in files.values() for name, some in of_kind.items() for one in some]
            known = all(_NAME.fullmatch(name) and _SHA256.fullmatch(one) for name, one in hashes)
            return cls(files) if content["program"] == PROGRAM and known and not path.is_symlink() else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def of(self, kind: Kind) -> dict[str, list[str]]:
        """The files of one kind of results."""
        return self.files.get(kind, {})

    def write(self, folder: Path) -> None:
        """Replaces that of the folder.

        Raises:
            OutputError: It could not be written.
        """
        content = {
            "program": PROGRAM,
            "version": __version__,
            "about": "SHA-256 of the files that DINSegment wrote here. It replaces or removes these, and none that was "
            "changed since.",
            "files": self.files,
        }
        with atomic_path(folder / MANIFEST) as path:
            write_json(content, path)


def written(folder: Path, kind: Kind) -> dict[str, list[str]]:
    """What was written there, with its hashes; empty where nothing is known."""
    return (Manifest.read(folder) or Manifest()).of(kind)


def changed(folder: Path, kind: Kind) -> list[Path]:
    """What was written there and is not as it was; what is no longer there is not among them.

    Raises:
        OSError: A file cannot be read.
    """
    return [folder / name for name, hashes in written(folder, kind).items() if _is_changed(folder / name, hashes)]


def check_replaceable(folder: Path, kind: Kind, names: Collection[str], overwrite: bool = False) -> None:
    """Refuses to write where something is in the way that this program did not make, or that was changed since.

    Args:
        folder: Where results are to be; it need not exist.
        kind: What is to be replaced.
        names: Files that may be written, as paths from the folder with `/`.
        overwrite: Whether what this program made may be replaced although it was changed.

    Raises:
        OutputError: Names what is in the way.
    """
    try:
        if foreign := _foreign(folder, kind, names):
            raise OutputError(
                f"'{foreign}' is in the way and was not made by {PROGRAM}: choose another output folder, or move it."
            )
        if not overwrite and (found := changed(folder, kind)):
            raise OutputError(
                f"'{found[0]}' was changed since {PROGRAM} wrote it and is kept: choose another output folder, or move "
                "it; --overwrite replaces it."
            )
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"What lies in '{folder}' cannot be read ({(error.strerror or str(error)).lower()}): choose another output "
            "folder."
        ) from error


def _foreign(folder: Path, kind: Kind, names: Collection[str]) -> Path | None:
    """The first thing in the way that is not this program's."""
    manifest = Manifest.read(folder)
    if manifest is None:
        return folder / MANIFEST
    known = manifest.of(kind)
    for inner in dict.fromkeys(name.partition("/")[0] for name in names if "/" in name):
        path = folder / inner
        if path.is_symlink() or (os.path.lexists(path) and not path.is_dir()):
            return path
        # Beside what somebody keeps in a folder of that name nothing is written, either: it may be an input.
        if path.is_dir() and not any(name.startswith(f"{inner}/") for name in known):
            for item in sorted(path.iterdir()):
                return item
    in_the_way = (folder / name for name in names if name not in known and os.path.lexists(folder / name))
    return next(in_the_way, next((folder / name for name in known if (folder / name).is_dir()), None))


def _is_changed(path: Path, hashes: Collection[str]) -> bool:
    if not os.path.lexists(path):
        return False
    return path.is_symlink() or not path.is_file() or sha256_of(path) not in hashes


@contextmanager
def staged(output: Path, kind: Kind, overwrite: bool = False) -> Iterator[Path]:
    """A folder to write to, whose files replace all that this program wrote of that kind once they are complete.

    The folder lies in `output`, which is created where missing. What is in `output` beside stays as it is.

    Raises:
        OutputError: As `check_replaceable`, or something could not be written; then all is as before.
    """
    missing = [folder for folder in (output, *output.parents) if not folder.exists()]
    ensure_writable_folder(output)
    try:
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=output))
        try:
            yield staging
            _replace(staging, output, kind, overwrite)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except BaseException as error:
        for folder in missing:
            with suppress(OSError):  # it is not empty, or not there
                folder.rmdir()
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            reason = (error.strerror or str(error)).lower()
            raise OutputError(f"The results could not be written to '{output}': {reason}.") from error
        raise


def _replace(staging: Path, output: Path, kind: Kind, overwrite: bool) -> None:
    new = {p.relative_to(staging).as_posix(): [sha256_of(p)] for p in sorted(staging.rglob("*")) if p.is_file()}
    check_replaceable(output, kind, new, overwrite)
    manifest = Manifest.read(output) or Manifest()
    old = manifest.of(kind)
    # Whenever the process is killed, each file is one of these, and known as this program's.
    both = {name: [*old.get(name, []), *new.get(name, [])] for name in (*old, *new)}
    Manifest({**manifest.files, kind: both}).write(output)
    for name in old.keys() - new.keys():
        (output / name).unlink(missing_ok=True)
        if "/" in name:
            with suppress(OSError):  # somebody keeps something there
                (output / name).parent.rmdir()
    for name in new:
        (output / name).parent.mkdir(exist_ok=True)
        (staging / name).replace(output / name)
    Manifest({**manifest.files, kind: new}).write(output)


def remove_staging(folder: Path) -> None:
    """Removes what a process that was killed while writing has left in a folder, in which no other one writes now."""
    for leftover in folder.glob(f"{STAGING}*"):
        shutil.rmtree(leftover, ignore_errors=True)
