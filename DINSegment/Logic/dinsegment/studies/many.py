"""Many inputs into one output folder: read ahead, computed and written each on its own, gone on with after a stop.

The output folder has a folder with the results of each input and

    studies.jsonl   one line for each finished input: what it was made from and which files it has; only appended to
    studies.csv     one row for each input of the last run
    errors.log      tracebacks of errors that are none of the library's own
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dinsegment import __version__
from dinsegment.errors import Cancelled, DINSegmentError, OutputError
from dinsegment.files import atomic_path, image_stem
from dinsegment.tasks import Task, get_task

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from dinsegment.images.segmentation import Segmentation
    from dinsegment.images.volume import Volume
    from dinsegment.inference.pipeline import Progress
    from dinsegment.models.weights import Model, ModelEntry

INDEX, TABLE, ERRORS = "studies.jsonl", "studies.csv", "errors.log"

AHEAD = 1
"""Inputs read beyond the one that is computed; with the one that is being written at most three are in memory."""

Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class Study:
    """An input and the folder that its results go to; `series_uid` tells which DICOM series of several is meant."""

    input: Path
    folder: Path
    series_uid: str | None = None


@dataclass(frozen=True)
class StudyResult:
    """What became of a study.

    Attributes:
        input: Path of the input.
        folder: Path of the results.
        status: `done`; `skipped`, where complete results were there; `failed`.
        phases: What measurements.json says of each phase; empty where there is no result.
        function: What the phases of a beating heart tell (`measurements.CardiacFunction`), or None.
        seconds: Time spent on reading, computing and writing; waiting for one another not included.
        message: Why it failed or was skipped, one sentence for the user.
        traceback: Of an error that is none of the library's own.
    """

    input: str
    folder: str
    status: Status
    phases: tuple[dict[str, Any], ...] = ()
    function: dict[str, Any] | None = None
    seconds: float = 0.0
    message: str = ""
    traceback: str = ""

    @property
    def warnings(self) -> list[str]:
        """The sentences about all phases."""
        return [warning for phase in self.phases for warning in phase["warnings"]]

    @property
    def volumes_ml(self) -> dict[str, float]:
        """Volume of each segment by its name: of end diastole where a heart beats, else of the first phase."""
        if not self.phases:
            return {}
        phase = self.phases[self.function["end_diastole"] if self.function else 0]
        return {segment["name"]: segment["volume_ml"] for segment in phase["segments"]}


# One study: load, compute, write.


def load_study(study: Study) -> list[Volume]:
    """The phases of the input.

    Raises:
        InputError: As `images.read_volumes`.
    """
    from dinsegment.images.reading import read_volumes

    return read_volumes(study.input, study.series_uid)


def compute_study(
    phases: Sequence[Volume],
    task: Task,
    model: Model | str | None,
    device: str,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[Segmentation]:
    """The segmentation of each phase; `progress` goes from 0 to 1 over all of them.

    Raises:
        DINSegmentError: As `inference.segment`.
    """
    from dinsegment.inference.pipeline import segment

    def part(number: int, name: str) -> Progress | None:
        return progress and (lambda f, text: progress((number + f) / len(phases), f"{name}: {text}"))

    return [
        segment(volume, task, model, device, part(number, volume.name), cancelled)
        for number, volume in enumerate(phases)
    ]


def write_study(study: Study, phases: Sequence[Segmentation], seconds: float = 0.0) -> StudyResult:
    """Writes the results, all or none; `seconds` were spent on the study before.

    Raises:
        OutputError: As `results.write_results`.
    """
    from dinsegment.measurements.volumes import cardiac_function, report
    from dinsegment.studies.results import write_results

    started = time.perf_counter()
    phases = write_results(phases, study.folder)
    function = cardiac_function(phases)
    return StudyResult(
        str(study.input),
        str(study.folder),
        "done",
        tuple(report(segmentation) for segmentation in phases),
        asdict(function) if function else None,
        seconds + time.perf_counter() - started,
    )


def segment_study(
    input_path: str | os.PathLike[str],
    output_folder: str | os.PathLike[str],
    task: Task | str,
    model: Model | str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    series_uid: str | None = None,
) -> StudyResult:
    """Segments one input from file to files.

    Args:
        input_path: An image file, or a DICOM folder, zip archive or DICOMDIR; a cine has several phases.
        output_folder: Gets the results, see `results.write_results`; created if missing.
        task: A task or its name.
        model: A model or its name in weights.json; the task's first one if None.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        progress: Called with the fraction done and what is being done.
        cancelled: Asked several times a second; True stops the run.
        series_uid: Series Instance UID of the DICOM series to segment where the input has several.

    Raises:
        DINSegmentError: The input cannot be used or the results cannot be written; nothing is left of them.
    """
    started = time.perf_counter()
    study = Study(Path(input_path), Path(output_folder), series_uid)
    task = get_task(task) if isinstance(task, str) else task
    segmentations = compute_study(load_study(study), task, model, device, progress, cancelled)
    return write_study(study, segmentations, time.perf_counter() - started)


def failure(study: Study, error: Exception, seconds: float = 0.0) -> StudyResult:
    """What became of a study that ended with an error; the error itself, which holds arrays, may then go."""
    from dinsegment.inference.pipeline import _out_of_memory

    message, trace = str(error), ""
    if not isinstance(error, DINSegmentError):
        trace = "".join(traceback.format_exception(error))
        what = f"{type(error).__name__}: {' '.join(message.split()) or 'no message'}"
        message = f"'{study.input}' could not be segmented because of an unexpected error, see {ERRORS} ({what})."
        if _out_of_memory(error):
            message = f"'{study.input}' needs more memory than is free: close other programs or use a larger machine."
    return StudyResult(str(study.input), str(study.folder), "failed", seconds=seconds, message=message, traceback=trace)


def remove_leftovers(folder: Path) -> None:
    """Removes what a process that was killed while writing has left in a study's folder."""
    for leftover in folder.glob(".dinsegment-*"):
        shutil.rmtree(leftover, ignore_errors=True)


# What is done, and who is at it.


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


# Many studies.


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


def segment_studies(
    studies: Sequence[Study],
    task: Task,
    model: Model,
    device: str,
    ledger: Ledger,
    finished: Callable[[StudyResult], None],
    progress: Progress | None = None,
) -> None:
    """Segments studies one after the other; the next is read and the last is written while one is computed.

    What goes wrong with a study is in its result, and the others go on. On KeyboardInterrupt what is computed is still
    written, nothing else is begun, and the exception goes on.

    Args:
        studies: In the order in which they are done.
        task: What to segment.
        model: The network, loaded.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        ledger: Of the output folder; it is closed at the end.
        finished: Called in this thread with every result, in the order of the studies.
        progress: Called with the fraction done of all studies and what is being done.

    Raises:
        InputError: No such device on this machine.
        OutputError: The output folder itself can no longer be written to.
    """
    from dinsegment.inference.pipeline import choose_device

    choose_device(device)
    waiting = iter(studies)
    reading: deque[tuple[Study, Future]] = deque()
    writing: deque[Future[StudyResult]] = deque()
    try:
        with ThreadPoolExecutor(1, "reader") as reader, ThreadPoolExecutor(1, "writer") as writer:

            def read_on(ahead: int) -> None:
                while len(reading) < ahead and (study := next(waiting, None)) is not None:
                    reading.append((study, reader.submit(_read, study, ledger)))

            def report_written() -> None:
                while writing:
                    result = writing[0].result()
                    writing.popleft()
                    finished(result)

            read_on(1)
            number = 0
            while reading:
                study, future = reading.popleft()
                read_on(AHEAD)
                loaded = future.result()
                computed = _compute(study, loaded, task, model, device, _share(progress, number, len(studies)))
                number += 1
                del loaded, future  # else they would be in memory as long as the next one is computed
                report_written()
                writing.append(writer.submit(_write, study, computed, ledger))
                del computed
            report_written()
    finally:
        # Both threads have ended; what they have finished before Ctrl+C counts.
        ledger.close()
        for future in writing:
            if future.done() and not future.exception():
                finished(future.result())


def _share(progress: Progress | None, number: int, count: int) -> Progress | None:
    return progress and (lambda fraction, text: progress((number + fraction) / count, text))


def _attempt(study: Study, stage: Callable[[], Any], before: float = 0.0) -> tuple[Any, float] | StudyResult:
    """What a stage gives and the seconds spent so far, or the failure."""
    started = time.perf_counter()
    try:
        return stage(), before + time.perf_counter() - started
    except Cancelled:
        raise
    except Exception as error:
        return failure(study, error, before + time.perf_counter() - started)


def _read(study: Study, ledger: Ledger) -> tuple[list[Volume], float] | StudyResult:
    return ledger.claim(study) or _attempt(study, lambda: load_study(study))


def _compute(
    study: Study,
    loaded: tuple[list[Volume], float] | StudyResult,
    task: Task,
    model: Model,
    device: str,
    progress: Progress | None,
) -> tuple[list[Segmentation], float] | StudyResult:
    if isinstance(loaded, StudyResult):
        return loaded
    phases, seconds = loaded
    return _attempt(study, lambda: compute_study(phases, task, model, device, progress), seconds)


def _write(study: Study, computed: tuple[list[Segmentation], float] | StudyResult, ledger: Ledger) -> StudyResult:
    result = computed
    if not isinstance(computed, StudyResult):
        phases, seconds = computed
        written = _attempt(study, lambda: write_study(study, phases, seconds))
        result = written if isinstance(written, StudyResult) else written[0]
    if result.status != "skipped":
        ledger.settle(study, result)
    return result


# What came out.


def table_header(task: Task) -> list[str]:
    """The columns of studies.csv."""
    volumes = [f"{segment.name} (ml)" for segment in task.segments]
    function = ["Ejection fraction (%)"] if task.chamber is not None else []
    return ["Input", "Folder", "Status", "Phases", *volumes, *function, "Seconds", "Warnings", "Message"]


def table_row(result: StudyResult, task: Task) -> list[str]:
    """A study as studies.csv has it; what is not known is empty."""
    volumes = result.volumes_ml
    row = [result.input, Path(result.folder).name, result.status, str(len(result.phases) or "")]
    row += [f"{volumes[s.name]:.2f}" if s.name in volumes else "" for s in task.segments]
    if task.chamber is not None:
        row.append(f"{result.function['ejection_fraction_percent']:.2f}" if result.function else "")
    return [*row, f"{result.seconds:.1f}", str(len(result.warnings)) if result.phases else "", result.message]


def write_table(results: Iterable[StudyResult], task: Task, path: Path) -> None:
    """Writes studies.csv, a row for each result.

    Raises:
        OutputError: It could not be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table_header(task))
        writer.writerows(table_row(result, task) for result in results)
