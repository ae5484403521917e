"""DICOM series as scanners and archives write them: one file per slice, and per phase of a cine, or enhanced images."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dinsegment.dicom.read.files import DicomFile, has_preamble, is_packed, open_files
from dinsegment.dicom.read.frames import frames_of, heart_time_of, source_of
from dinsegment.dicom.read.header import Header, read_header, text
from dinsegment.dicom.read.patient import Patient, patient_of
from dinsegment.dicom.read.pixels import check_pixels, read_pixels
from dinsegment.dicom.read.sorting import check_alike, choose_component, choose_series, grid, group_slices, order_phases
from dinsegment.dicom.source import DicomSource
from dinsegment.dicom.uids import derived_uid
from dinsegment.errors import InputError, damaged, unreadable
from dinsegment.files import image_stem

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


BESIDE = 500
"""Files beside those of a series that are looked at for others of it."""


def read_series(path: Path, series_uid: str | None = None) -> Series:
    """Reads one series from a folder, a zip archive, a DICOMDIR, or a single DICOM file.

    Of a folder all images in it count, at any depth, each instance once. The index i grows along a
    row, j along a column, k from slice to slice along their normal. The distance between slices comes from their
    positions. Rescale slope and intercept are applied. The phases of a cine are in the order of their times within each
    slice, since trigger times differ between slices. All images of a series are taken to be in one frame of reference,
    as they are parallel. What is no image, such as reports and segmentations, is passed over.

    Args:
        path: Where the series is.
        series_uid: Series Instance UID to read where there are several.

    Returns:
        Voxels of every phase on one grid, and the instances that they come from.

    Raises:
        InputError: There are no images, several series, a damaged file, images that do not make up one volume, or
            slices that are missing, double or unevenly spaced.
    """
    said: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what pydicom says of values that are not by the rules
        with open_files(path) as files:
            headers = _read_headers(files, said.append)
            if not headers:
                raise InputError(
                    f"'{path}' has no DICOM images: give the folder, zip or file that holds them."
                    + "".join(f" {one}" for one in said[:1])
                )
            series = _without_copies(choose_series(path, headers, series_uid), said.append)
            frames = [frame for header in series for frame in frames_of(header)]
            frames = choose_component(path, frames, said.append)
            for header in series:
                check_pixels(header)
            check_alike(path, frames)
            slices = group_slices(frames)
            ijk_to_ras = grid(path, slices, said.append)
            phases = order_phases(path, slices)
            arrays = read_pixels(phases)
            if path.is_file():
                _look_beside(path, series, {file.path for file in files}, said.append)

    if len({header.text("FrameOfReferenceUID") for header in series}) > 1:
        _log.warning("The images in '%s' name different frames of reference; they are read as one volume.", path)
    complete_series([header.dataset for header in series], path)
    modality = series[0].text("Modality") or None
    return Series(
        arrays,
        ijk_to_ras,
        [source_of(phase) for phase in phases],
        modality,
        [heart_time_of(phase) for phase in phases],
        patient_of([header.dataset for header in series]),
        tuple(said),
    )


def series_name(path: Path) -> str:
    """What a series is called by: its folder, or its file without what names the format."""
    path = path.resolve()
    if path.name.upper() == "DICOMDIR":
        path = path.parent
    return path.name if path.is_dir() else image_stem(path)


def _read_headers(files: list[DicomFile], warn: Callable[[str], None]) -> list[Header]:
    """The headers of the images.

    Raises:
        InputError: An image is damaged; such is also a file that is none but is called as the images beside it are.
    """
    headers = [read_header(file) for file in files]
    found = [header for header in headers if header is not None]
    names = {_pattern(header.file) for header in found}
    for file, header in zip(files, headers, strict=True):
        if header is not None or has_preamble(file):
            continue
        if is_packed(file):
            warn(f"'{file.path}' has DICOM in it that was not looked at, since it is packed: unpack it.")
        elif _pattern(file) in names:
            raise damaged(file.path)
    # Pictures of screens beside images are reports; alone they are refused with a reason.
    return [header for header in found if not header.is_capture] or found


def _pattern(file: DicomFile) -> str:
    """A file's name with its numbers, also hexadecimal ones and UIDs, replaced."""
    return re.sub(r"[0-9a-fA-F.]*\d[0-9a-fA-F.]*", "0", file.path.name)


def _without_copies(series: list[Header], warn: Callable[[str], None]) -> list[Header]:
    """Each file once, where some are there again under other names: with the same UID and the same bytes."""
    alike: dict[tuple[str, int, int], list[Header]] = {}
    for header in series:
        alike.setdefault((header.text("SOPInstanceUID"), header.offset, header.length), []).append(header)
    copies: dict[Header, Header] = {}
    for group in alike.values():
        first: dict[bytes, Header] = {}
        for header in group if len(group) > 1 else ():
            original = first.setdefault(_digest(header.file), header)
            if original is not header:
                copies[header] = original
    if copies:
        copy, original = next(iter(copies.items()))
        warn(
            f"'{copy.file.path}' is the same file as '{original.file.path}'"
            + (f", and {len(copies) - 1} more are there twice" if len(copies) > 1 else "")
            + ": each is read once."
        )
    return [header for header in series if header not in copies]


def _digest(file: DicomFile) -> bytes:
    digest = sha256()
    try:
        with file.open() as stream:
            for chunk in iter(lambda: stream.read(1 << 20), b""):
                digest.update(chunk)
    except Exception as error:  # a damaged archive raises whatever it stumbles upon
        raise unreadable(file.path, error) from error
    return digest.digest()


def _look_beside(path: Path, series: list[Header], read: set[Path], warn: Callable[[str], None]) -> None:
    """Says so where images of the series lie beside the file, or beside those that a DICOMDIR names."""
    uid, known = series[0].text("SeriesInstanceUID"), {header.text("SOPInstanceUID") for header in series}
    folders = sorted({header.file.path.parent for header in series})
    if not uid or not all(folder.is_dir() for folder in folders):  # those of an archive are not
        return
    with suppress(OSError):
        beside = [file for folder in folders for file in sorted(folder.iterdir()) if file not in read]
        for file in beside[:BESIDE]:
            with suppress(InputError):
                header = read_header(DicomFile(file, partial(file.open, "rb"))) if file.is_file() else None
                if header and header.text("SeriesInstanceUID") == uid and header.text("SOPInstanceUID") not in known:
                    warn(
                        f"'{file}' is of the same series, but was not read, since only '{path}' was given: give the "
                        "folder for all images of the series."
                    )
                    return


def complete_series(headers: Sequence[Dataset], path: Path) -> None:
    """Gives images whose study or series was taken away, as some anonymisers do, a study and a series of their own.

    The UIDs follow from those of the images, so that all that is ever made from them belongs together.

    Args:
        headers: All images of one series; they are changed.
        path: Where they were read, for the log.
    """
    instances = sorted(text([header], "SOPInstanceUID") for header in headers)
    if "" in instances:
        return
    for keyword, what in (("StudyInstanceUID", "study"), ("SeriesInstanceUID", "series")):
        if any(text([header], keyword) for header in headers):
            continue
        _log.warning(
            "The images in '%s' belong to no %s; what is made from them gets one of its own, in which an archive does "
            "not find the images.", path, what,
        )  # fmt: skip
        for header in headers:
            setattr(header, keyword, derived_uid(None, what, *instances))
