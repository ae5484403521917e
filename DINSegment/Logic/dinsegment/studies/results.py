"""The files of a result, all or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dinsegment.errors import InputError, OutputError
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.writing import write_segmentation, write_volume
from dinsegment.measurements.function import CardiacFunction, cardiac_function, no_function
from dinsegment.measurements.report import report
from dinsegment.quality.gather import gathered
from dinsegment.studies.overview import write_overview

if TYPE_CHECKING:
    from pydicom import Dataset

    from dinsegment.dicom.write.seg import SegOptions
from dinsegment.files import staged, write_json

DICOM_FILES = ("segmentation.dcm", "measurements.dcm")
"""What there is only of images that came from DICOM, and where something was found."""

RESULT_FILES = ("segmentation.seg.nrrd", "enhanced.nrrd", "overview.png", "measurements.json", *DICOM_FILES)
"""What there may be in a folder with results."""


def write_results(phases: Sequence[Segmentation], output: Path) -> list[Segmentation]:
    """Writes segmentation.seg.nrrd, enhanced.nrrd, overview.png and measurements.json into `output`.

    For images that were read from DICOM, segmentation.dcm (a DICOM SEG) and measurements.dcm (a DICOM SR) are among
    them, as far as there is anything segmented. Several phases of one heart get a folder each, phase01, phase02, ...,
    and a measurements.json of their own with all phases and the heart's function, or why there is none, and what is to
    be said of all phases. Their DICOM SEGs are instances of one series.

    Returns:
        The phases; where no DICOM could be made of one, its warnings say why.

    Raises:
        OutputError: Something could not be written; then nothing is left.
    """
    function, reason = cardiac_function(phases), no_function(phases)
    with staged(output) as folder:
        folders = [folder]
        if len(phases) > 1:
            folders = [folder / f"phase{number:02d}" for number in range(1, len(phases) + 1)]
        for phase in folders:
            phase.mkdir(exist_ok=True)
        phases = _write_dicom(phases, folders, folder / "measurements.dcm", function, reason)
        for segmentation, phase in zip(phases, folders, strict=True):
            _write_phase(segmentation, phase)
        if len(phases) > 1:
            content = {
                "phases": [report(s) for s in phases],
                "function": asdict(function) if function else None,
                "no_function": reason,
                "warnings": list(gathered(phases)),
            }
            write_json(content, folder / "measurements.json")
        written = {item.name for item in folder.iterdir()}
    _remove_older(output, written)
    return list(phases)


def _remove_older(output: Path, written: set[str]) -> None:
    """Removes the DICOM of an earlier run, which is not of this segmentation; that of others stays."""
    for path in [output / name for name in DICOM_FILES if name not in written and (output / name).is_file()]:
        from dinsegment.dicom.write.save import is_ours

        try:
            if is_ours(path):
                path.unlink()
        except OSError as error:
            raise OutputError(f"'{path}' is of an earlier run and could not be removed: remove it.") from error


def _write_phase(segmentation: Segmentation, folder: Path) -> None:
    write_segmentation(segmentation, folder / "segmentation.seg.nrrd")
    write_volume(segmentation.enhanced, folder / "enhanced.nrrd")
    write_overview(segmentation, folder / "overview.png")
    write_json(report(segmentation), folder / "measurements.json")


def _write_dicom(
    phases: Sequence[Segmentation],
    folders: Sequence[Path],
    report_path: Path,
    function: CardiacFunction | None,
    reason: str,
) -> list[Segmentation]:
    """Writes the DICOM results of images that came from DICOM; the warnings say what could not be made, and why."""
    if not any(phase.volume.dicom and phase.labels.any() for phase in phases):
        return list(phases)
    from dinsegment.dicom.write.seg import cine_options
    from dinsegment.dicom.write.sr import write_dicom_sr

    written, segs = [], []
    options = cine_options(len(phases))
    for segmentation, folder, of_phase in zip(phases, folders, options, strict=True):
        seg, segmentation = _write_seg(segmentation, folder / "segmentation.dcm", of_phase)
        segs.append(seg)
        written.append(segmentation)
    if any(seg is not None for seg in segs):
        try:
            write_dicom_sr(written, segs, function, report_path, reason=reason)
        except InputError as error:
            written = [_warned(segmentation, error) for segmentation in written]
    return written


def _write_seg(segmentation: Segmentation, path: Path, options: SegOptions) -> tuple[Dataset | None, Segmentation]:
    from dinsegment.dicom.write.seg import write_dicom_seg

    if segmentation.volume.dicom is None or not segmentation.labels.any():
        return None, segmentation
    try:
        return write_dicom_seg(segmentation, path, options), segmentation
    except InputError as error:
        return None, _warned(segmentation, error)


def _warned(segmentation: Segmentation, error: InputError) -> Segmentation:
    return replace(segmentation, warnings=(*segmentation.warnings, f"No DICOM result: {error}"))
