"""DICOM series as scanners and archives write them: one file per slice, and per phase of a cine, or enhanced images."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dinsegment.dicom.read.files import DicomFile, open_files
from dinsegment.dicom.read.frames import frames_of, source_of
from dinsegment.dicom.read.header import Header, read_header, text
from dinsegment.dicom.read.pixels import check_pixels, read_pixels
from dinsegment.dicom.read.sorting import check_alike, choose_component, choose_series, grid, group_slices, order_phases
from dinsegment.dicom.source import DicomSource
from dinsegment.dicom.uids import derived_uid
from dinsegment.errors import InputError, damaged
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
        sources: The instances that each phase was read from; None for one that takes its slices from several enhanced
            images.
        modality: DICOM modality (`MR`, `CT`), None where the images do not say.
    """

    phases: list[np.ndarray]
    ijk_to_ras: np.ndarray
    sources: list[DicomSource | None]
    modality: str | None


def read_series(path: Path, series_uid: str | None = None) -> Series:
    """Reads one series from a folder, a zip archive, a DICOMDIR, or a single DICOM file.

    Of a folder the images in it count, or, if there are none, those in the folders in it. The index i grows along a
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what pydicom says of values that are not by the rules
        with open_files(path) as candidates:
            headers = next((found for files in candidates if (found := _read_headers(files))), [])
            if not headers:
                raise InputError(f"'{path}' has no DICOM images: give the folder, zip or file that holds them.")
            series = choose_series(path, headers, series_uid)
            frames = choose_component(path, [frame for header in series for frame in frames_of(header)])
            for header in series:
                check_pixels(header)
            check_alike(path, frames)
            slices = group_slices(frames)
            ijk_to_ras = grid(path, slices)
            phases = order_phases(path, slices)
            arrays = read_pixels(phases)

    if len({header.text("FrameOfReferenceUID") for header in series}) > 1:
        _log.warning("The images in '%s' name different frames of reference; they are read as one volume.", path)
    complete_series([header.dataset for header in series], path)
    modality = series[0].text("Modality") or None
    return Series(arrays, ijk_to_ras, [source_of(phase) for phase in phases], modality)


def series_name(path: Path) -> str:
    """What a series is called by: its folder, or its file without what names the format."""
    path = path.resolve()
    if path.name.upper() == "DICOMDIR":
        path = path.parent
    return path.name if path.is_dir() else image_stem(path)


def _read_headers(files: list[DicomFile]) -> list[Header]:
    """The headers of the images.

    Raises:
        InputError: An image is damaged; such is also a file that is none but is called as the images beside it are.
    """
    headers = [read_header(file) for file in files]
    found = [header for header in headers if header is not None]
    names = {_pattern(header.file) for header in found}
    for file, header in zip(files, headers, strict=True):
        if header is None and _pattern(file) in names and not _has_preamble(file):
            raise damaged(file.path)
    # Pictures of screens beside images are reports; alone they are refused with a reason.
    return [header for header in found if not header.is_capture] or found


def _pattern(file: DicomFile) -> str:
    """A file's name with its numbers, also hexadecimal ones and UIDs, replaced."""
    return re.sub(r"[0-9a-fA-F.]*\d[0-9a-fA-F.]*", "0", file.path.name)


def _has_preamble(file: DicomFile) -> bool:
    with file.open() as stream:
        return stream.read(132)[128:] == b"DICM"


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
