"""What is done in an output folder, and who is at it."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinsegment.errors import OutputError
from dinsegment.files import image_stem
from dinsegment.tasks import Task
from dinsegment.version import __version__

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from dinsegment.models.entries import ModelEntry
from dinsegment.studies.study import ERRORS, Study, StudyResult, remove_leftovers

INDEX = "studies.jsonl"
"""One line for each finished input: what it was made from and which files it has; only appended to."""


def fingerprint(path: Path, output: Path) -> dict[str, Any]:
    """What tells whether an input is still the same: path, files, bytes and time of the last change.

    Of a folder all files in it count, at any depth, as a DICOM export has them, but not those of an output folder
    there. Voxels in a file beside their header (.nhdr, .mhd) are not looked at.

    Raises:
        OSError: It does not exist or cannot be looked at.
    """
    files = [path]
    if path.is_dir():
        folder, results = path.resolve(), output.resolve()
        files = [file for file in folder.rglob("*") if file.is_file()]
        if folder in results.parents:
            files = [file for file in files if results not in file.parents]
    stats = [file.stat() for file in files]
    return {
        "path": str(path.resolve()),
        "files": len(files),
        "bytes": sum(stat.st_size for stat in stats),
        "modified_ns": max((stat.st_mtime_ns for stat in stats), default=0),
    }


class Index:
    """studies.jsonl. Several threads and processes may read and append."""

    def __init__(self, output: Path) -> None:
        self._path = output / INDEX
        self._records: dict[str, dict[str, Any]] = {}
        self._read = 0
        self._lock = threading.Lock()

    def records(self) -> dict[str, dict[str, Any]]:
        """The last record of each results folder; a line that was cut short by a crash is passed over."""
        with self._lock:
            with suppress(FileNotFoundError), self._path.open("rb") as file:
                file.seek(self._read)
                lines = file.read()
                lines = lines[: lines.rfind(b"\n") + 1]
                self._read += len(lines)
                for line in lines.splitlines():
                    with suppress(ValueError, KeyError, TypeError):
                        record = json.loads(line)
                        record["made_of"]["path"]
                        self._records[record["folder"]] = record
            return self._records

    def append(self, record: dict[str, Any]) -> None:
        """Adds a record, which is on the disk when this returns.

        Raises:
            OutputError: It could not be written.
        """
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        try:
            with self._lock, self._path.open("a+b", buffering=0) as file:
                if file.seek(0, os.SEEK_END):
                    file.seek(-1, os.SEEK_END)
                    line = line if file.read(1) == b"\n" else b"\n" + line
                file.write(line)  # at the end, whoever else has written since: the file is open for appending
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(
                f"'{self._path}' could not be written ({(error.strerror or str(error)).lower()}): make room and start "
                "again, finished inputs are kept."
            ) from error


class Ledger:
    """Says what is done in an output folder, and keeps others from doing the same input at the same time.

    Args:
        output: The folder that holds the studies' folders; it exists.
        task: What is segmented.
        entry: The model that segments.
        resume: Whether inputs whose results are complete are skipped. Complete are results that were recorded, whose
            files are all there with their sizes, and that came from the same input, task, weights and version.
    """

    def __init__(self, output: Path, task: Task, entry: ModelEntry, resume: bool = True) -> None:
        self.output = output
        self._made_by = {
            "task": task.name,
            "model": entry.name,
            "weights": entry.weights["sha256"],
            "version": __version__,
        }
        self._resume = resume
        self._index = Index(output)
        self._claimed: dict[Path, tuple[BaseFileLock, dict[str, Any]]] = {}

    def claim(self, study: Study) -> StudyResult | None:
        """Takes a study; None if it is to be done now, otherwise why it is skipped.

        The claim ends with `settle` or `close`, or with this process.
        """
        from filelock import FileLock

        # Beside the results, since a folder that a failed study has created is removed again.
        path = self.output / f".{study.folder.name}.lock"
        lock = FileLock(path, thread_local=False, blocking=False)
        try:
            lock.acquire()
        except TimeoutError:
            return StudyResult(
                str(study.input), str(study.folder), "skipped", message="Another process is segmenting it."
            )
        self._claimed[study.folder] = lock, {}
        try:
            made_of = fingerprint(study.input, self.output)
            if study.series_uid is not None:
                made_of["series"] = study.series_uid
        except OSError:
            return None  # reading it will say what is wrong
        self._claimed[study.folder] = lock, made_of
        if self._resume and (result := self._complete(study, made_of)):
            self._release(study)
            return result
        remove_leftovers(study.folder)
        return None

    def settle(self, study: Study, result: StudyResult) -> None:
        """Ends a claim; a result that is done is recorded, an unexpected error goes to the log.

        Raises:
            OutputError: That could not be written.
        """
        if result.status == "done":
            made_of = self._claimed[study.folder][1]
            record = {"folder": self._key(study), "made_of": made_of, **self._made_by, "files": _sizes(study.folder)}
            self._index.append({**record, "seconds": round(result.seconds, 3)})
        elif result.traceback:
            self._log(result)
        self._release(study)

    def close(self) -> None:
        """Ends all claims."""
        for folder in list(self._claimed):
            self._release(Study(folder, folder))

    def _key(self, study: Study) -> str:
        return study.folder.relative_to(self.output).as_posix()

    def _complete(self, study: Study, made_of: dict[str, Any]) -> StudyResult | None:
        record = self._index.records().get(self._key(study), {})
        expected = {"made_of": made_of, **self._made_by}
        if any(record.get(key) != value for key, value in expected.items()):
            return None
        try:
            if any((study.folder / name).stat().st_size != size for name, size in record["files"].items()):
                return None
            content = json.loads((study.folder / "measurements.json").read_text(encoding="utf-8"))
            return StudyResult(
                str(study.input),
                str(study.folder),
                "skipped",
                tuple(content.get("phases", [content])),
                content.get("function"),
                float(record["seconds"]),
                "Its results are complete.",
                no_function=content.get("no_function", ""),
                warnings=tuple(content.get("warnings", ())),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _log(self, result: StudyResult) -> None:
        try:
            with (self.output / ERRORS).open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {result.input}\n{result.traceback}\n")
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise OutputError(f"'{self.output / ERRORS}' could not be written ({reason}): make room there.") from error

    def _release(self, study: Study) -> None:
        lock, _ = self._claimed.pop(study.folder)
        # While it is held: who waits for it sees that the file is gone and makes a new one. Windows removes it later.
        with suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of the result files of one study, which lie in its folder and in those of its phases."""
    from dinsegment.studies.results import RESULT_FILES

    files = [file for pattern in ("*", "phase*/*") for file in folder.glob(pattern)]
    return {f.relative_to(folder).as_posix(): f.stat().st_size for f in sorted(files) if f.name in RESULT_FILES}


def plan_studies(inputs: Iterable[Path], output: Path, series_uid: str | None = None) -> list[Study]:
    """A results folder for each input, named after it, with a number where names meet.

    An input that the output folder knows keeps its folder, whatever else is segmented this time. `series_uid` is the
    DICOM series to segment of inputs that have several.
    """
    known: dict[str, str] = {r["made_of"]["path"]: folder for folder, r in Index(output).records().items()}
    taken = set(known.values())
    studies = []
    for path in inputs:
        name = known.pop(str(path.resolve()), None)
        if name is None:
            stem = re.sub(r"[^\w.-]+", "_", path.name if path.is_dir() else image_stem(path)).strip(".") or "input"
            name, number = stem, 2
            while name in taken:
                name, number = f"{stem}_{number}", number + 1
            taken.add(name)
        studies.append(Study(path, output / name, series_uid))
    return studies
