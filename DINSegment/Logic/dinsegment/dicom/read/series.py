"""DICOM series as scanners and archives write them: one file per slice, and per phase of a cine, or enhanced images.

A stack may take its slices from several of them.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dinsegment.dicom.read.arrange import Arranged, arrange_series, arrange_stack
from dinsegment.dicom.read.choose import choose_stack
from dinsegment.dicom.read.files import open_files
from dinsegment.dicom.read.frames import heart_time_of, source_of
from dinsegment.dicom.read.header import Header, text
from dinsegment.dicom.read.headers import look_beside, read_headers, without_copies
from dinsegment.dicom.read.parts import StudyPart
from dinsegment.dicom.read.patient import Patient, patient_of
from dinsegment.dicom.read.phases import rising
from dinsegment.dicom.read.pixels import read_pixels
from dinsegment.dicom.read.sorting import series_of
from dinsegment.dicom.source import DicomSource
from dinsegment.dicom.uids import derived_uid
from dinsegment.files import image_stem
from dinsegment.tasks import Task

if TYPE_CHECKING:
    from pydicom import Dataset

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Series:
    """One series as it was read.

    Attributes:
        phases: Voxels (k, j, i) of each phase, in the order of time; one for a series without phases.
        ijk_to_ras: 4x4, from (i, j, k, 1) to millimetres in RAS, the same for all phases.
        sources: The instances that each phase was read from.
        modality: DICOM modality (`MR`, `CT`), None where the images do not say.
        times_ms: Of each phase, milliseconds after the R wave, the median over its slices; None where the images do not
            say.
        patient: What the images say of the patient and of the heartbeat.
        warnings: Sentences for the user: what was left out, or taken for something that it is not quite.
    """

    phases: list[np.ndarray]
    ijk_to_ras: np.ndarray
    sources: list[DicomSource]
    modality: str | None
    times_ms: list[float | None]
    patient: Patient
    warnings: tuple[str, ...] = ()


def read_series(
    path: Path, wanted: str | None = None, task: Task | None = None, part: StudyPart | None = None
) -> Series:
    """Reads one series, or one stack of slices from several series, of a folder, a zip archive, a DICOMDIR, or a file.

    Of a folder all images in it count, at any depth, each instance once. The index i grows along a
    row, j along a column, k from slice to slice along their normal. The distance between slices comes from their
    positions. Rescale slope and intercept are applied. The phases of a cine are in the order of their times within each
    slice, since trigger times differ between slices. All images of a series are taken to be in one frame of reference,
    as they are parallel. What is no image, such as reports and segmentations, is passed over.

    Slices of a stack that a breath-hold has moved against each other are placed on one grid, each at the nearest pixel;
    nothing is interpolated.

    Args:
        path: Where the images are.
        wanted: Of several series the Series Instance UID of the one to read, several UIDs with commas between them,
            whose slices make up one stack, the name of a stack, or `choose.BEST`.
        task: What is to be segmented: of several series or stacks the one that it needs is taken if there is but one.
        part: Which study of a folder of studies.

    Returns:
        Voxels of every phase on one grid, and the instances that they come from.

    Raises:
        InputError: There are no images, several series of which none is chosen, a damaged file, images that do not make
            up one volume, or slices that are missing, double or unevenly spaced.
    """
    said: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what pydicom says of values that are not by the rules
        if part is not None:
            said += part.said
            arranged, arrays = _arrange(part.where, part.take_headers(path), wanted, task, said, not part.is_alone)
        else:
            with open_files(path) as files:
                arranged, arrays = _arrange(path, read_headers(path, files, said.append), wanted, task, said)
        used = list(dict.fromkeys(frame.header for phase in arranged.phases for frame in phase))
        if path.is_file():
            look_beside(path, used, {file.path for file in files}, said.append)

    if (count := len({header.text("PatientID") for header in used})) > 1:
        said.append(
            f"The images of '{path}' that are read as one volume have {count} different Patient IDs: make sure that "
            "they are of one patient."
        )
    for series in series_of(used).values():
        if len({header.text("FrameOfReferenceUID") for header in series}) > 1:
            _log.warning("The images in '%s' name different frames of reference; they are read as one volume.", path)
    complete_uids([[header.dataset for header in series] for series in series_of(used).values()], path)
    return Series(
        arrays,
        arranged.ijk_to_ras,
        [source_of(phase) for phase in arranged.phases],
        used[0].text("Modality") or None,
        list(rising([heart_time_of(phase) for phase in arranged.phases])),
        patient_of([header.dataset for header in used]),
        tuple(said),
    )


def _arrange(
    path: Path,
    headers: list[Header],
    wanted: str | None,
    task: Task | None,
    said: list[str],
    only_fitting: bool = False,
) -> tuple[Arranged, list[np.ndarray]]:
    """What is wanted of some images, and its voxels.

    Args:
        path: Where they are, for messages.
        headers: Of all of them.
        wanted: As `read_series`.
        task: As `read_series`.
        said: Gets sentences for the user.
        only_fitting: Whether an only series has to be of the kind that the task needs: nobody has looked at it.
    """
    by_uid = series_of(headers)
    alone = wanted is None and len(by_uid) == 1 and not (only_fitting and task is not None)
    if alone or wanted in by_uid:
        headers = without_copies(headers if wanted is None else by_uid[wanted], said.append)
        arranged = arrange_series(path, headers, task, said.append)
    else:
        stack = choose_stack(path, without_copies(headers, said.append), wanted, task, said.append)
        arranged = arrange_stack(path, stack, said.append)
    return arranged, read_pixels(arranged.phases, arranged.shape, arranged.offsets)


def series_name(path: Path) -> str:
    """What a series is called by: its folder, or its file without what names the format."""
    path = path.resolve()
    if path.name.upper() == "DICOMDIR":
        path = path.parent
    return path.name if path.is_dir() else image_stem(path)


def complete_uids(series: Sequence[Sequence[Dataset]], path: Path) -> None:
    """Gives images whose study or series was taken away, as some anonymisers do, a study and a series of their own.

    The UIDs follow from those of the images, so that all that is ever made from them belongs together.

    Args:
        series: The images of a volume by their series; they are changed.
        path: Where they were read, for the log.
    """
    _complete([header for headers in series for header in headers], "StudyInstanceUID", "study", path)
    for headers in series:
        _complete(headers, "SeriesInstanceUID", "series", path)


def _complete(headers: Sequence[Dataset], keyword: str, what: str, path: Path) -> None:
    instances = sorted(text([header], "SOPInstanceUID") for header in headers)
    if "" in instances or any(text([header], keyword) for header in headers):
        return
    _log.warning(
        "The images in '%s' belong to no %s; what is made from them gets one of its own, in which an archive does not "
        "find the images.", path, what,
    )  # fmt: skip
    for header in headers:
        setattr(header, keyword, derived_uid(None, what, *instances))
