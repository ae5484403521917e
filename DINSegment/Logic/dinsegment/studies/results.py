"""The files of a result, all or none, in the place of those of the run before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinsegment.errors import InputError, OutputError
from dinsegment.files import write_json
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.volume import Volume
from dinsegment.images.writing import write_segmentation, write_volume
from dinsegment.manifest import Kind, check_replaceable, staged, written
from dinsegment.measurements.intervals import intervals_of
from dinsegment.measurements.report import report
from dinsegment.quality.gather import gathered
from dinsegment.studies.overview import write_overview

if TYPE_CHECKING:
    from pydicom import Dataset

    from dinsegment.dicom.write.seg import SegOptions
    from dinsegment.measurements.study import StudyMeasurements
    from dinsegment.report.pages import Pages

DICOM_FILES = ("segmentation.dcm", "measurements.dcm")
"""What there is only of images that came from DICOM, and where something was found."""

PAGE_FILES = ("report.pdf", "report.html", "thumbnail.png")
"""What there is only where a report was asked for."""

DICOM_PAGE_FILES = ("report.dcm", "key-slices.dcm")
"""What there is of it for an archive, for images that came from DICOM."""

RESULT_FILES = ("segmentation.seg.nrrd", "enhanced.nrrd", "overview.png", "measurements.json", *DICOM_FILES)
"""What there may be in a folder with results, beside the list of them (`manifest.MANIFEST`)."""

SAMPLES_FILE = "disagreement.nrrd"
"""What there is only where samples were asked for: the probability of another label over all of them."""

SAMPLES_DICOM_FILE = "disagreement.dcm"
"""The same for an archive, a DICOM Parametric Map, of images that came from DICOM."""

UNEXPECTED_FILE = "unexpected.nrrd"
"""What there is only where a model was asked what it did not expect."""

OF_STUDY = ("patient", "measurements")
"""What measurements.json says of a whole study."""

SAMPLES = "samples"
"""What it says of it beside, where samples were drawn."""

KIND: Kind = "segmentation"
"""Of results, as the list of them says."""


def check_results(
    phases: Sequence[Volume],
    output: Path,
    source: Path,
    overwrite: bool = False,
    with_pages: bool = False,
    without_dicom: bool = False,
    with_samples: bool = False,
    with_unexpected: bool = False,
    of_correction: bool = False,
) -> None:
    """Refuses, before anything is computed, to write results where they would replace what is not the tool's alone.

    Args:
        phases: What is to be segmented.
        output: Where `write_results` is to write.
        source: The file or folder that the phases come from.
        overwrite: As in `write_results`.
        with_pages: Whether a report is to be written, too.
        without_dicom: As in `write_results`.
        with_samples: Whether samples are drawn, too.
        with_unexpected: Whether a model is asked what it did not expect.
        of_correction: Whether they come from slices that a person has corrected, as those there of the same images may.

    Raises:
        OutputError: Names what is in the way.
    """
    corrected = corrected_images(output)
    if corrected and not overwrite and not (of_correction and corrected == [phase.name for phase in phases]):
        raise OutputError(
            f"'{output}' has results of slices that a person has corrected in '{corrected[0]}', which would be lost: "
            "choose another output folder; --overwrite replaces them."
        )
    dicom = any(phase.dicom for phase in phases) and not without_dicom
    names = [name for name in RESULT_FILES if name not in DICOM_FILES or dicom]
    names += [SAMPLES_FILE, *([SAMPLES_DICOM_FILE] if dicom else [])] if with_samples else []
    names += [UNEXPECTED_FILE] if with_unexpected else []
    if len(phases) > 1:
        names = [f"{folder}/{name}" for folder in phase_folders(len(phases)) for name in names]
        names += ["measurements.json", *(DICOM_FILES if dicom else ())]
    if with_pages:
        names += [*PAGE_FILES, *(DICOM_PAGE_FILES if dicom else ())]
    for path in (output / name for name in {*names, *written(output, KIND)}):
        if path.exists() and source.exists() and path.samefile(source):
            raise OutputError(f"'{path}' is the input and would be replaced by a result: choose another output folder.")
    check_replaceable(output, KIND, names, overwrite)


def corrected_images(folder: Path) -> list[str]:
    """Names of the phases whose results a folder has, if a person has corrected slices of one; else none."""
    if "measurements.json" in written(folder, KIND):
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            content = json.loads((folder / "measurements.json").read_text(encoding="utf-8"))
            phases = content.get("phases", [content])
            return [str(phase["input"]) for phase in phases] if any(map(_is_corrected, phases)) else []
    return []


def _is_corrected(phase: dict[str, Any]) -> bool:
    return bool(phase.get("corrected_slices"))


def phase_folders(count: int) -> list[str]:
    """Names of the folders of that many phases."""
    return [f"phase{number:02d}" for number in range(1, count + 1)]


def write_results(
    phases: Sequence[Segmentation],
    output: Path,
    overwrite: bool = False,
    common_grid: bool = False,
    measured: StudyMeasurements | None = None,
    pages: Pages | None = None,
    without_dicom: bool = False,
) -> list[Segmentation]:
    """Writes segmentation.seg.nrrd, enhanced.nrrd, overview.png and measurements.json into `output`.

    For images that were read from DICOM, segmentation.dcm (a DICOM SEG) and measurements.dcm (a DICOM SR) are among
    them, as far as there is anything segmented. Several phases of one heart get a folder each, phase01, phase02, ...,
    and a measurements.json of their own with all phases and the heart's function, or why there is none, and what is to
    be said of all phases. Their DICOM SEGs are instances of one series. All that an earlier run has written there is
    removed, but for what was changed since, which `overwrite` takes away, too. Where samples were drawn,
    disagreement.nrrd lies beside the segmentation, and measurements.json has intervals; where a model was asked what it
    did not expect, unexpected.nrrd.

    Args:
        phases: What was segmented.
        output: The folder; created if missing.
        overwrite: Whether files of an earlier run are replaced although somebody has changed them.
        common_grid: That of `SegOptions`.
        measured: What the phases measure; measured here if None.
        pages: The report, which becomes report.pdf, report.html and thumbnail.png; None for none.
        without_dicom: Whether no DICOM files are made.

    Returns:
        The phases; where no DICOM could be made of one, or something had to be decided for it, its warnings say so.

    Raises:
        OutputError: Something could not be written, or is in the way, as in `check_results`; then all is as before.
    """
    if measured is None:
        from dinsegment.measurements.study import measure_study

        measured = measure_study(phases)
    of_study = measured.patient.to_dict(), [m.to_dict() for m in measured.measurements]
    numbers = dict(zip(OF_STUDY, of_study, strict=True))
    intervals = intervals_of(phases, measured)
    if intervals is not None:
        numbers[SAMPLES] = intervals.to_dict()
    with staged(output, KIND, overwrite) as folder:
        folders = [folder]
        if len(phases) > 1:
            folders = [folder / name for name in phase_folders(len(phases))]
        for phase in folders:
            phase.mkdir(exist_ok=True)
        if not without_dicom:
            phases = _write_dicom(phases, folders, folder, measured, pages, common_grid)
        for segmentation, phase in zip(phases, folders, strict=True):
            _write_phase(segmentation, phase, numbers if len(phases) == 1 else {})
        if pages is not None:
            for name, data in zip(PAGE_FILES, (pages.pdf, pages.html, pages.thumbnail), strict=True):
                (folder / name).write_bytes(data)
        if len(phases) > 1:
            content = {
                "phases": [report(s) for s in phases],
                "function": asdict(measured.function) if measured.function else None,
                "no_function": measured.no_function,
                "warnings": list(gathered(phases)),
                **numbers,
            }
            write_json(content, folder / "measurements.json")
    return list(phases)


def _write_phase(segmentation: Segmentation, folder: Path, numbers: dict[str, Any]) -> None:
    write_segmentation(segmentation, folder / "segmentation.seg.nrrd")
    write_volume(segmentation.enhanced, folder / "enhanced.nrrd")
    write_overview(segmentation, folder / "overview.png")
    if segmentation.samples is not None:
        write_volume(
            segmentation.volume.with_array(segmentation.samples.disagreement, "disagreement"), folder / SAMPLES_FILE
        )
    if segmentation.unexpected is not None:
        write_volume(segmentation.volume.with_array(segmentation.unexpected, "unexpected"), folder / UNEXPECTED_FILE)
    write_json({**report(segmentation), **numbers}, folder / "measurements.json")


def _write_dicom(
    phases: Sequence[Segmentation],
    folders: Sequence[Path],
    top: Path,
    measured: StudyMeasurements,
    pages: Pages | None,
    common_grid: bool,
) -> list[Segmentation]:
    """Writes the DICOM results of images that came from DICOM; the warnings say what could not be made, and why."""
    if not any(phase.volume.dicom and phase.labels.any() for phase in phases):
        return list(phases)
    from dinsegment.dicom.write.seg import SegOptions, cine_options
    from dinsegment.dicom.write.sr import write_dicom_sr

    written, segs = [], []
    options = cine_options(len(phases), SegOptions(common_grid=common_grid))
    for segmentation, folder, of_phase in zip(phases, folders, options, strict=True):
        seg, segmentation = _write_seg(segmentation, folder / "segmentation.dcm", of_phase)
        segs.append(seg)
        written.append(segmentation)
    written = _write_maps(written, folders)
    if any(seg is not None for seg in segs):
        try:
            numbers = measured.measurements
            write_dicom_sr(
                written, segs, measured.function, top / "measurements.dcm", reason=measured.no_function, numbers=numbers
            )
        except InputError as error:
            written = [_warned(segmentation, error) for segmentation in written]
        if pages is not None:
            from dinsegment.dicom.write.pages import write_encapsulated_pdf, write_secondary_capture

            first = next(seg for seg in segs if seg is not None)
            write_encapsulated_pdf(pages.pdf, first, top / DICOM_PAGE_FILES[0])
            write_secondary_capture(pages.key_picture, first, top / DICOM_PAGE_FILES[1])
    return written


def _write_maps(phases: Sequence[Segmentation], folders: Sequence[Path]) -> list[Segmentation]:
    """Writes where samples disagree, of each phase that came from DICOM and has any; the maps are one series."""
    from dinsegment.dicom.write.parametric_map import write_disagreement
    from dinsegment.dicom.write.seg import cine_options

    written = []
    for segmentation, folder, options in zip(phases, folders, cine_options(len(phases)), strict=True):
        if segmentation.samples is not None and segmentation.volume.dicom is not None:
            try:
                write_disagreement(segmentation, folder / SAMPLES_DICOM_FILE, options)
            except InputError as error:
                segmentation = _warned(segmentation, error)
        written.append(segmentation)
    return written


def _write_seg(segmentation: Segmentation, path: Path, options: SegOptions) -> tuple[Dataset | None, Segmentation]:
    from dinsegment.dicom.write.seg import seg_warnings, write_dicom_seg

    if segmentation.volume.dicom is None or not segmentation.labels.any():
        return None, segmentation
    try:
        seg = write_dicom_seg(segmentation, path, options)
        said = seg_warnings(segmentation.volume, options)
        return seg, replace(segmentation, warnings=(*segmentation.warnings, *said)) if said else segmentation
    except InputError as error:
        return None, _warned(segmentation, error)


def _warned(segmentation: Segmentation, error: InputError) -> Segmentation:
    return replace(segmentation, warnings=(*segmentation.warnings, f"No DICOM result: {error}"))
