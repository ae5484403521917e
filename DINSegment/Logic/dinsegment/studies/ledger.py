"""What is done in an output folder, and who is at it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinsegment.errors import OutputError
from dinsegment.files import atomic_path, sha256_of
from dinsegment.manifest import MANIFEST, PROGRAM, STAGING, changed, remove_staging, written
from dinsegment.models.entries import ModelEntry, told_by
from dinsegment.studies.index import INDEX, INDEX_BEGIN, Index, absolute, input_of
from dinsegment.studies.page import PAGE, page_bytes
from dinsegment.studies.results import KIND, OF_STUDY, SAMPLES, corrected_images
from dinsegment.studies.study import ERRORS, Study, StudyResult
from dinsegment.studies.table import TABLE, table_bytes, write_table
from dinsegment.tasks import Task
from dinsegment.version import __version__

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from dinsegment.dicom.read.parts import StudyPart

ERRORS_BEGIN = f"Unexpected errors of {PROGRAM}\n\n"
"""By which a log is known as one."""

CORRECTED = "A person has corrected slices of it: the results are kept as they are."
"""What is said of an input that is skipped for it."""


def fingerprint(path: Path, output: Path, part: StudyPart | None = None) -> dict[str, Any]:
    """What tells whether an input is still the same: path, files, bytes and time of the last change.

    Of a folder all files in it count, at any depth, as a DICOM export has them, but not what this program has written
    there. Voxels in a file beside their header (.nhdr, .mhd) are not looked at. Of one study of many in a folder its
    own files count.

    Raises:
        OSError: It does not exist or cannot be looked at.
    """
    files = [path]
    if part is not None and not part.is_alone:
        files = [path / name for name in part.files]
    elif path.is_dir():
        folder, results = path.resolve(), output.resolve()
        files = [file for file in folder.rglob("*") if file.is_file()]
        own = {file.parent / name for file in files if file.name == MANIFEST for name in written(file.parent, KIND)}
        own |= {results / name for name in (INDEX, TABLE, PAGE, ERRORS)}
        files = [file for file in files if file not in own and file.name != MANIFEST]
        files = [file for file in files if not any(p.startswith(STAGING) for p in file.relative_to(folder).parts)]
    stats = [file.stat() for file in files]
    return {
        "path": absolute(path),
        "files": len(files),
        "bytes": sum(stat.st_size for stat in stats),
        "modified_ns": max((stat.st_mtime_ns for stat in stats), default=0),
        **({} if part is None or part.is_alone else {"study": part.study_uid, "patient": part.patient_id}),
    }


class Ledger:
    """Says what is done in an output folder, and keeps others from doing the same input at the same time.

    Args:
        output: The folder that holds the studies' folders; it exists.
        task: What is segmented.
        entry: The model that segments.
        resume: Whether inputs whose results are complete are skipped. Complete are results that were recorded, whose
            files are all there, and that came from the same input, task, weights and version, told by the same
            networks. Those that somebody has changed since are skipped, too, and those of which somebody has corrected
            slices.
        overwrite: Whether a table is replaced although somebody has changed it.
        folder: Of the model's weights.json, if not models_folder().

    Raises:
        ModelError: A network that tells the model what to expect is missing.
        OutputError: A file of the ledger's names is there that it has not written, or that was changed since.
    """

    def __init__(
        self,
        output: Path,
        task: Task,
        entry: ModelEntry,
        resume: bool = True,
        overwrite: bool = False,
        folder: Path | None = None,
    ) -> None:
        self.output = output
        self._task = task
        self._overwrite = overwrite
        self._made_by = {
            "task": task.name,
            "model": entry.name,
            "weights": entry.weights["sha256"],
            "version": __version__,
        }
        told = {one.name: one.weights["sha256"] for one in told_by(entry.context, folder)}
        self._told_by = {"told_by": told, "context": entry.context} if told else {}
        self._resume = resume
        self._index = Index(output)
        self._claimed: dict[Path, tuple[BaseFileLock, dict[str, Any]]] = {}
        self._check_own()

    def claim(self, study: Study) -> StudyResult | None:
        """Takes a study; None if it is to be done now, otherwise why it is skipped.

        The claim ends with `settle` or `close`, or with this process.
        """
        from filelock import FileLock

        # Beside the results, since a folder that a failed study has created is removed again. A hash, since the name
        # of the folder may be as long as names can be.
        path = self.output / f"{STAGING}{hashlib.sha256(study.folder.name.encode()).hexdigest()[:16]}.lock"
        lock = FileLock(path, thread_local=False, blocking=False)
        try:
            lock.acquire()
        except TimeoutError:
            return StudyResult(study.label, str(study.folder), "skipped", message="Another process is segmenting it.")
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            message = f"'{path}' could not be created ({reason.lower()}): choose another output folder."
            return StudyResult(study.label, str(study.folder), "failed", message=message)
        self._claimed[study.folder] = lock, {}
        try:
            made_of = fingerprint(study.input, self.output, study.part)
            if study.series_uid is not None:
                made_of["series"] = study.series_uid
            if study.common_grid:
                made_of["common_grid"] = True
        except OSError:
            return None  # reading it will say what is wrong
        if (known := self._index.records().get(self._key(study))) and input_of(known) != input_of({"made_of": made_of}):
            self._release(study)  # of another process, since this one has chosen its folders
            message = f"'{study.folder}' has become the folder of '{known['made_of']['path']}': start again."
            return StudyResult(study.label, str(study.folder), "failed", message=message)
        self._claimed[study.folder] = lock, made_of
        if self._resume and (result := self._complete(study, made_of)):
            self._release(study)
            return result
        remove_staging(study.folder)
        return None

    def settle(self, study: Study, result: StudyResult) -> None:
        """Ends a claim; a result that is done is recorded, an unexpected error goes to the log.

        Raises:
            OutputError: That could not be written.
        """
        if result.status == "done":
            made_of = self._claimed[study.folder][1]
            files = written(study.folder, KIND)
            made_as = _made_as(study)
            record = {
                "folder": self._key(study),
                "made_of": made_of,
                **self._made_by,
                **self._told_by,
                "made_as": made_as,
                "files": files,
            }
            self._index.append({**record, "seconds": round(result.seconds, 3)})
        elif result.traceback:
            self._log(result)
        self._release(study)

    def write_table(self, results: Sequence[StudyResult]) -> None:
        """Writes studies.csv.

        Raises:
            OutputError: It could not be written, or somebody has changed it since the ledger was opened.
        """
        self._check_file(TABLE)
        # Known before it is there: a table that nobody knows would be somebody else's.
        self._index.append({"folder": "", "table": hashlib.sha256(table_bytes(results, self._task)).hexdigest()})
        write_table(results, self._task, self.output / TABLE)

    def check_page(self) -> None:
        """Refuses to replace an index.html that is somebody else's, before anything is computed.

        Raises:
            OutputError: It is in the way, or was changed since it was written.
        """
        self._check_file(PAGE)

    def write_page(self, results: Sequence[StudyResult], anonymous: bool = False) -> None:
        """Writes index.html, which lists all studies with their reports.

        Raises:
            OutputError: As `write_table`.
        """
        self._check_file(PAGE)
        content = page_bytes(results, self._task, anonymous)
        self._index.append({"folder": "", "table": hashlib.sha256(content).hexdigest()})
        with atomic_path(self.output / PAGE) as path:
            path.write_bytes(content)

    def close(self) -> None:
        """Ends all claims."""
        for folder in list(self._claimed):
            self._release(Study(folder, folder))

    def _key(self, study: Study) -> str:
        return study.folder.relative_to(self.output).as_posix()

    def _complete(self, study: Study, made_of: dict[str, Any]) -> StudyResult | None:
        record = self._index.records().get(self._key(study), {})
        expected = {"made_of": made_of, **self._made_by}
        if record.get("made_as", {}) != _made_as(study):
            return None
        if {key: record[key] for key in ("told_by", "context") if key in record} != self._told_by:
            return None
        if any(record.get(key) != value for key, value in expected.items()):
            return None
        try:
            files, corrected = written(study.folder, KIND), corrected_images(study.folder)
            # After a correction other files are there than were recorded.
            if not (corrected or files == record["files"]) or not all((study.folder / f).is_file() for f in files):
                return None
            if found := changed(study.folder, KIND):
                message = f"'{found[0]}' was changed since it was written: the results are kept as they are."
                return StudyResult(study.label, str(study.folder), "skipped", message=message)
            content = json.loads((study.folder / "measurements.json").read_text(encoding="utf-8"))
            return StudyResult(
                study.label,
                str(study.folder),
                "skipped",
                tuple(content.get("phases", [{k: v for k, v in content.items() if k not in (*OF_STUDY, SAMPLES)}])),
                content.get("function"),
                float(record["seconds"]),
                CORRECTED if corrected else "Its results are complete.",
                no_function=content.get("no_function", ""),
                warnings=tuple(content.get("warnings", ())),
                measurements=tuple(content.get("measurements", ())),
                samples=content.get(SAMPLES),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _log(self, result: StudyResult) -> None:
        try:
            with (self.output / ERRORS).open("a", encoding="utf-8", errors="backslashreplace") as file:
                if not file.tell():
                    file.write(ERRORS_BEGIN)
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {result.input}\n{result.traceback}\n")
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise OutputError(f"'{self.output / ERRORS}' could not be written ({reason}): make room there.") from error

    def _check_own(self) -> None:
        """Refuses files of the ledger's names that are not its own."""
        for name, begin in ((INDEX, INDEX_BEGIN), (ERRORS, ERRORS_BEGIN.encode())):
            path = self.output / name
            if os.path.lexists(path) and not (path.is_file() and _begins_with(path, begin)):
                raise _in_the_way(path)
        self._check_file(TABLE)

    def _check_file(self, name: str) -> None:
        path, known = self.output / name, self._index.tables()
        try:
            if not os.path.lexists(path) or (path.is_file() and sha256_of(path) in known):
                return
        except OSError as error:
            raise _in_the_way(path) from error
        if not known or not path.is_file():
            raise _in_the_way(path)
        if not self._overwrite:
            raise OutputError(
                f"'{path}' was changed since {PROGRAM} wrote it and is kept: move or rename it; --overwrite replaces "
                "it."
            )

    def _release(self, study: Study) -> None:
        if study.folder not in self._claimed:
            return
        lock, _ = self._claimed.pop(study.folder)
        # While it is held: who waits for it sees that the file is gone and makes a new one. Windows removes it later.
        with suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()


def _made_as(study: Study) -> dict[str, Any]:
    """How the results of a study were made where that is not as usual: those made otherwise are made again."""
    made_as: dict[str, Any] = {}
    if study.report:
        made_as["report"] = "anonymous" if study.anonymous else "with identity"
    if study.samples:
        made_as["samples"] = study.samples
    if study.unexpected is not None:
        made_as["unexpected"] = study.unexpected
    if study.measure is not None:
        made_as["measure"] = json.loads(json.dumps(asdict(study.measure)))
    return made_as


def _begins_with(path: Path, begin: bytes) -> bool:
    """Whether a file begins so; one that a crash has left shorter has a part of it."""
    try:
        with path.open("rb") as file:
            return begin.startswith(content) if len(content := file.read(len(begin))) < len(begin) else content == begin
    except OSError:
        return False


def _in_the_way(path: Path) -> OutputError:
    return OutputError(
        f"'{path}' is in the way and was not made by {PROGRAM}: choose another output folder, or move it."
    )
