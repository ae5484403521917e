"""One study: loaded, computed, written; and what became of it."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dinsegment.errors import DINSegmentError, printable
from dinsegment.tasks import Task, get_task

if TYPE_CHECKING:
    from dinsegment.dicom.read.parts import StudyPart
    from dinsegment.images.segmentation import Segmentation
    from dinsegment.images.volume import Volume
    from dinsegment.inference.model import Model
    from dinsegment.measurements.study import MeasureOptions
    from dinsegment.progress import Progress

ERRORS = "errors.log"
"""Tracebacks of errors that are none of the library's own, in the output folder."""

Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class Study:
    """An input and the folder that its results go to.

    Attributes:
        input: An image file, or a DICOM folder, zip archive or DICOMDIR.
        folder: Gets the results.
        series_uid: Which DICOM series of several is meant, or which stack, as `images.read_volumes` takes it.
        overwrite: Whether results of an earlier run are replaced although somebody has changed them.
        others: The later phases, where each phase of a heart is an input of its own.
        common_grid: As in `dicom.write.seg.SegOptions`.
        part: Which DICOM study of a folder; None for an input that is taken as a whole.
        measure: What the user knows of the patient, for what is measured; None for nothing.
        report: Whether the page that is read is written, too.
        anonymous: Whether it tells nobody who the patient is; then nothing is made for the patient's DICOM study.
        samples: How many possible segmentations are drawn for intervals and an overlay of disagreement; 0 for none.
        unexpected: The model, or the folder of its run, that is asked what it did not expect; None for nobody.
    """

    input: Path
    folder: Path
    series_uid: str | None = None
    overwrite: bool = False
    others: tuple[Path, ...] = ()
    common_grid: bool = False
    part: StudyPart | None = None
    measure: MeasureOptions | None = None
    report: bool = False
    anonymous: bool = False
    samples: int = 0
    unexpected: str | None = None

    @property
    def label(self) -> str:
        """What messages and tables call the input."""
        return str(self.input if self.part is None else self.part.where)


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
        message: Why it failed or was skipped, or what was overwritten; one sentence for the user.
        traceback: Of an error that is none of the library's own.
        no_function: Why the phases of a heart tell no function, a sentence; empty where they do or nobody expects it.
        warnings: What is to be said of all phases, a sentence each.
        measurements: All numbers, as measurements.json has them (`Measurement.to_dict`).
        samples: What samples tell of the numbers (`Intervals.to_dict`); None where none were drawn.
    """

    input: str
    folder: str
    status: Status
    phases: tuple[dict[str, Any], ...] = ()
    function: dict[str, Any] | None = None
    seconds: float = 0.0
    message: str = ""
    traceback: str = ""
    no_function: str = ""
    warnings: tuple[str, ...] = ()
    measurements: tuple[dict[str, Any], ...] = ()
    samples: dict[str, Any] | None = None

    @property
    def volumes_ml(self) -> dict[str, float]:
        """Volume of each segment by its name: of end diastole where a heart beats, else of the first phase."""
        if not self.phases:
            return {}
        phase = self.phases[self.function["end_diastole"] if self.function else 0]
        return {segment["name"]: segment["volume_ml"] for segment in phase["segments"]}


def load_study(study: Study, task: Task | None = None, of_correction: bool = False) -> list[Volume]:
    """The phases of the input, whose results can be written where they are to be.

    Args:
        study: What to load.
        task: What is to be segmented: of several DICOM series those that it needs are read.
        of_correction: As in `results.check_results`.

    Raises:
        InputError: As `images.read_volumes` or `read_phases`.
        OutputError: As `results.check_results`.
    """
    from dinsegment.images.reading import read_phases, read_volumes
    from dinsegment.studies.results import check_results

    inputs = (study.input, *study.others)
    if study.others:
        phases = read_phases(inputs, task)
    else:
        phases = read_volumes(study.input, study.series_uid, task, study.part)
    for path in inputs:
        maps = (study.samples > 0, study.unexpected is not None)
        check_results(phases, study.folder, path, study.overwrite, study.report, study.anonymous, *maps, of_correction)
    return phases


def compute_study(
    phases: Sequence[Volume],
    task: Task,
    model: Model | str | None,
    device: str,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    samples: int = 0,
    unexpected: str | None = None,
) -> list[Segmentation]:
    """The segmentation of each phase, those of a cine as one thing; `progress` goes from 0 to 1 over all of them.

    Of a beating heart `samples` are drawn at end diastole and end systole, of other images in each. `unexpected` is the
    model that is asked in each what it did not expect.

    Raises:
        DINSegmentError: As `inference.segment_phases`, `inference.samples.with_samples`, and as those of
            `inference.maps`.
    """
    if unexpected is not None:
        from dinsegment.inference.maps import load_maps_model, with_unexpected

        asked = load_maps_model(unexpected, task, cancelled)
        told = _share(progress, 0.0, SEEN)
        segmented = compute_study(phases, task, model, device, told, cancelled, samples)
        told = _share(progress, SEEN, 1.0)
        return [with_unexpected(phase, asked, device, told, cancelled) for phase in segmented]
    if samples:
        return _with_samples(
            compute_study(phases, task, model, device, _share(progress, 0.0, SEGMENTED), cancelled),
            *(samples, model, device, _share(progress, SEGMENTED, 1.0), cancelled),
        )
    from dinsegment.inference.phases import segment_phases
    from dinsegment.measurements.function import beat_of, outliers
    from dinsegment.quality.beat import with_outliers

    told = progress and (lambda number, fraction, text: progress(fraction, f"{phases[number].name}: {text}"))
    segmented = list(segment_phases(phases, task, model, device, told, cancelled))
    beat = beat_of(segmented)
    return with_outliers(segmented, beat.chamber_ml, outliers(beat.chamber_ml)) if beat else segmented


SEEN = 0.9
"""Progress once all else is done, where a model is asked what it did not expect."""

SEGMENTED = 0.2
"""Progress once the phases are segmented, where samples are to be drawn."""


def _share(progress: Progress | None, start: float, stop: float) -> Progress | None:
    return progress and (lambda fraction, text: progress(start + (stop - start) * fraction, text))


def _with_samples(
    phases: list[Segmentation],
    samples: int,
    model: Model | str | None,
    device: str,
    progress: Progress | None,
    cancelled: Callable[[], bool] | None,
) -> list[Segmentation]:
    from dinsegment.inference.samples import with_samples
    from dinsegment.measurements.function import beat_of

    beat = beat_of(phases) if len(phases) > 1 else None
    chosen = sorted(set(beat.left.ends)) if beat else list(range(len(phases)))
    result = list(phases)
    for done, n in enumerate(chosen):
        part = _share(progress, done / len(chosen), (done + 1) / len(chosen))
        result[n] = with_samples(phases[n], samples, model, device, part, cancelled)
    return result


def write_study(study: Study, phases: Sequence[Segmentation], seconds: float = 0.0) -> StudyResult:
    """Writes the results, all or none; `seconds` were spent on the study before.

    Raises:
        OutputError: As `results.write_results`.
    """
    from dinsegment.manifest import changed
    from dinsegment.measurements.intervals import intervals_of
    from dinsegment.measurements.report import report
    from dinsegment.measurements.study import measure_study
    from dinsegment.quality.gather import gathered
    from dinsegment.studies.results import KIND, write_results

    started = time.perf_counter()
    overwritten = changed(study.folder, KIND) if study.overwrite else []
    measured = measure_study(phases, study.measure)
    intervals = intervals_of(phases, measured)
    pages = None
    if study.report:
        from dinsegment.report.pages import make_pages

        pages = make_pages(phases, measured, study.anonymous)
    phases = write_results(
        phases, study.folder, study.overwrite, study.common_grid, measured, pages, without_dicom=study.anonymous
    )
    return StudyResult(
        study.label,
        str(study.folder),
        "done",
        tuple(report(segmentation) for segmentation in phases),
        asdict(measured.function) if measured.function else None,
        seconds + time.perf_counter() - started,
        f"Overwritten, although changed since: {', '.join(map(str, overwritten))}." if overwritten else "",
        no_function=measured.no_function,
        warnings=gathered(phases),
        samples=intervals.to_dict() if intervals else None,
        measurements=tuple(m.to_dict() for m in measured.measurements),
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
    overwrite: bool = False,
    others: Sequence[str | os.PathLike[str]] = (),
    common_grid: bool = False,
    measure: MeasureOptions | None = None,
    report: bool = False,
    anonymous: bool = False,
    samples: int = 0,
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
        series_uid: Of an input with several DICOM series the one to segment, as `images.read_volumes` takes it.
        overwrite: Whether results that are there are replaced although somebody has changed them.
        others: Inputs that are later phases of the same heart, in their order.
        common_grid: As in `dicom.write.seg.SegOptions`.
        measure: As `Study` has it.
        report: As `Study` has it.
        anonymous: As `Study` has it.
        samples: As `Study` has it.

    Raises:
        DINSegmentError: The input cannot be used or the results cannot be written; nothing is left of them.
    """
    later = tuple(Path(path) for path in others)
    study = Study(
        Path(input_path),
        Path(output_folder),
        series_uid,
        overwrite,
        later,
        common_grid,
        None,
        measure,
        report,
        anonymous,
        samples,
    )
    return run_study(study, get_task(task) if isinstance(task, str) else task, model, device, progress, cancelled)


def run_study(
    study: Study,
    task: Task,
    model: Model | Callable[[], Model] | str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> StudyResult:
    """Loads, segments and writes a study; arguments and errors as `segment_study`.

    A model may also be given as what loads it. It is loaded, which takes seconds, after the images were read, so that
    what is wrong with them is said at once.
    """
    started = time.perf_counter()
    phases = load_study(study, task)
    loaded = model() if callable(model) else model
    segmentations = compute_study(phases, task, loaded, device, progress, cancelled, study.samples, study.unexpected)
    return write_study(study, segmentations, time.perf_counter() - started)


def failure(study: Study, error: Exception, seconds: float = 0.0) -> StudyResult:
    """What became of a study that ended with an error; the error itself, which holds arrays, may then go."""
    from dinsegment.memory import is_out_of_memory

    message, trace = str(error), ""
    if not isinstance(error, DINSegmentError):
        trace = "".join(traceback.format_exception(error))
        what = f"{type(error).__name__}: {' '.join(message.split()) or 'no message'}"
        message = f"'{study.label}' could not be segmented because of an unexpected error, see {ERRORS} ({what})."
        if is_out_of_memory(error):
            message = f"'{study.label}' needs more memory than is free: close other programs or use a larger machine."
    message = printable(message)
    return StudyResult(study.label, str(study.folder), "failed", seconds=seconds, message=message, traceback=trace)
