"""DICOM series as scanners and archives write them: one file per slice, and per phase of a cine."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from dinsegment.errors import InputError
from dinsegment.files import image_stem, phase_names
from dinsegment.integrity import check_spacing, damaged
from dinsegment.volume import RAS_FROM_LPS, Volume

_log = logging.getLogger(__name__)

SAME_POSITION_MM = 0.01
"""Images closer than this along the slice normal show the same slice."""

PHASE_TAGS = ("0018|1060", "0020|0100", "0008|0032", "0020|0013")
"""What tells the phases of a slice apart, best first.

Trigger Time, Temporal Position Identifier, Acquisition Time, Instance Number.
"""

_NOT_IMAGES = ("SEG", "RTDOSE")
"""Modalities that GDCM reads as images though they were computed from images."""


@dataclass(frozen=True)
class _Instance:
    """One DICOM file: its header."""

    path: Path
    tags: dict[str, str]
    size: tuple[int, int]
    components: int

    def text(self, tag: str) -> str:
        return self.tags.get(tag, "")

    def numbers(self, tag: str, count: int) -> np.ndarray | None:
        """The numbers of a tag, or None unless it has so many, all finite."""
        try:
            values = np.array([float(word) for word in self.text(tag).split("\\")])
        except ValueError:
            return None
        return values if len(values) == count and np.isfinite(values).all() else None

    def number(self, tag: str) -> float | None:
        values = self.numbers(tag, 1)
        return None if values is None else float(values[0])

    # What follows may be called only after `_check_instance`.

    @property
    def position(self) -> np.ndarray:
        return self.numbers("0020|0032", 3)

    @property
    def axes(self) -> np.ndarray:
        """Directions in which the column index and the row index grow, unit vectors in LPS, as rows."""
        axes = np.reshape(self.numbers("0020|0037", 6), (2, 3))
        return axes / np.linalg.norm(axes, axis=1, keepdims=True)

    @property
    def pixel_spacing(self) -> np.ndarray:
        """Millimetres between rows and between columns."""
        return self.numbers("0028|0030", 2)


def read_dicom(path: Path, series_uid: str | None = None) -> list[Volume]:
    """Reads one series from a folder, not from the folders in it, or a single DICOM file.

    The index i grows along a row, j along a column, k from slice to slice along their normal. The distance
    between slices comes from their positions. Rescale slope and intercept are applied. The phases of a cine
    are in the order of their times within each slice, since trigger times differ between slices. All images
    of a series are taken to be in one frame of reference, as they are parallel.

    Args:
        path: A folder or a file; files that are not DICOM images are passed over.
        series_uid: Series Instance UID to read where there are several.

    Returns:
        One volume per phase, named by the folder or file.

    Raises:
        InputError: There are no images, several series, a damaged file, images that do not make up one
            volume, or slices that are missing, double or unevenly spaced.
    """
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    instances = [instance for file in files if (instance := _read_header(file)) is not None]
    if not instances:
        raise InputError(f"'{path}' has no DICOM images: give the folder that holds the image files themselves.")
    series = _choose_series(path, instances, series_uid)
    for instance in series:
        _check_instance(instance)
    _check_alike(path, series)
    slices = _group_slices(series)
    ijk_to_ras = _ijk_to_ras(path, slices)
    phases = _order_phases(path, slices)

    if len({instance.text("0020|0052") for instance in series}) > 1:
        _log.warning("The images in '%s' name different frames of reference; they are read as one volume.", path)
    name = path.resolve().name if path.is_dir() else image_stem(path)
    modality = series[0].text("0008|0060") or None
    return [
        Volume(np.stack([_read_pixels(image) for image in phase]), ijk_to_ras, phase_name, modality, str(path))
        for phase_name, phase in zip(phase_names(name, len(phases)), phases, strict=True)
    ]


def _reader(path: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("GDCMImageIO")
    return reader


def _read_header(path: Path) -> _Instance | None:
    """None for what is not a DICOM image; an InputError for an image that is damaged."""
    reader = _reader(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        if _is_damaged(path):
            raise damaged(path) from error
        return None
    tags = {key: _clean(reader.GetMetaData(key)) for key in reader.GetMetaDataKeys()}
    if tags.get("0008|0060") in _NOT_IMAGES:
        return None
    return _Instance(path, tags, reader.GetSize()[:2], reader.GetNumberOfComponents())


def _is_damaged(path: Path) -> bool:
    """Whether an unreadable file was an image, without which a slice would be missing."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return True
    if b"1.2.840.10008.1.3.10" in head:  # Media Storage Directory, the DICOMDIR
        return False
    if head[128:132] != b"DICM":
        return path.suffix.lower() == ".dcm"
    modality = re.search(rb"\x08\x00\x60\x00(?:CS..|....)([A-Z]+)", head, re.DOTALL)
    return modality is None or modality[1] in (b"MR", b"CT")


def _clean(value: str) -> str:
    """Without padding; bytes that are not UTF-8 are read as Latin-1, the most common of the other sets."""
    data = value.encode("utf-8", "surrogateescape")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return text.strip(" \0")


def _choose_series(path: Path, instances: list[_Instance], series_uid: str | None) -> list[_Instance]:
    by_uid: dict[str, list[_Instance]] = defaultdict(list)
    for instance in instances:
        by_uid[instance.text("0020|000e")].append(instance)
    if series_uid is not None:
        if series_uid not in by_uid:
            raise InputError(f"'{path}' has no DICOM series {series_uid}: check its Series Instance UID.")
        return by_uid[series_uid]
    if len(by_uid) > 1:
        listed = ", ".join(
            f"'{series[0].text('0008|103e') or 'no description'}' ({len(series)} images)" for series in by_uid.values()
        )
        raise InputError(f"'{path}' has {len(by_uid)} DICOM series: {listed}; give a folder with one of them.")
    return instances


def _check_instance(instance: _Instance) -> None:
    """Refuses an image that cannot be a slice of a volume."""
    path = instance.path
    if (instance.number("0028|0008") or 1) > 1:
        raise InputError(
            f"'{path}' has {instance.text('0028|0008')} frames in one DICOM file, which is not supported: "
            "load it in 3D Slicer and save it as NRRD."
        )
    if instance.components > 1:
        raise InputError(f"'{path}' is a colour image: give a grey image.")
    if "LOCALIZER" in instance.text("0008|0008").split("\\"):
        raise InputError(f"'{path}' is a localizer, not a slice of a volume: give a folder without localizers.")
    axes = instance.numbers("0020|0037", 6)
    spacing = instance.numbers("0028|0030", 2)
    if instance.numbers("0020|0032", 3) is None or axes is None or spacing is None:
        raise InputError(
            f"'{path}' does not say where in the patient it lies or how large its pixels are: "
            "give the series that the scanner made."
        )
    check_spacing(path, list(spacing))
    row, column = axes.reshape(2, 3)
    lengths = np.linalg.norm([row, column], axis=1)
    if np.abs(lengths - 1).max() > 1e-2 or abs(row @ column) > 1e-3:
        raise InputError(f"'{path}' has an orientation that is none: its rows and columns are not perpendicular.")


def _check_alike(path: Path, series: list[_Instance]) -> None:
    first = series[0]
    checks: dict[str, Callable[[_Instance], bool]] = {
        "orientations": lambda one: bool(np.abs(one.axes - first.axes).max() < 1e-3),
        "image sizes": lambda one: one.size == first.size,
        "pixel spacings": lambda one: np.allclose(one.pixel_spacing, first.pixel_spacing, rtol=1e-3, atol=0),
    }
    for what, alike in checks.items():
        different = sum(not alike(one) for one in series)
        if different:
            raise InputError(
                f"'{path}' mixes {what}, {different} of its {len(series)} images differ from "
                f"'{first.path.name}': give a folder with parallel slices of one kind, without localizers."
            )


def _group_slices(series: list[_Instance]) -> list[list[_Instance]]:
    """The images of each slice, in the order of the slices along their normal."""
    normal = np.cross(*series[0].axes)
    heights = np.array([normal @ one.position for one in series])
    order = np.argsort(heights, kind="stable")
    starts = np.flatnonzero(np.diff(heights[order]) > SAME_POSITION_MM) + 1
    return [[series[n] for n in group] for group in np.split(order, starts)]


def _ijk_to_ras(path: Path, slices: list[list[_Instance]]) -> np.ndarray:
    first = slices[0][0]
    between_rows, between_columns = first.pixel_spacing
    ijk_to_lps = np.eye(4)
    ijk_to_lps[:3, 0] = first.axes[0] * between_columns
    ijk_to_lps[:3, 1] = first.axes[1] * between_rows
    ijk_to_lps[:3, 2] = _slice_step(path, slices)
    ijk_to_lps[:3, 3] = first.position
    return RAS_FROM_LPS @ ijk_to_lps


def _slice_step(path: Path, slices: list[list[_Instance]]) -> np.ndarray:
    """From a slice to the next, millimetres in LPS; leans where the gantry was tilted."""
    first = slices[0][0]
    normal = np.cross(*first.axes)
    if len(slices) == 1:
        # Nothing but the header can tell how thick a single slice is.
        distance = first.number("0018|0088") or first.number("0018|0050") or np.nan
        check_spacing(first.path, [distance])
        step = normal * distance
    else:
        step = (slices[-1][0].position - first.position) / (len(slices) - 1)
    tolerance = max(SAME_POSITION_MM, 0.01 * float(normal @ step))
    upright = normal * (normal @ step)
    if np.linalg.norm(step - upright) * (len(slices) - 1) <= tolerance:
        step = upright  # the rest is rounding
    for number, images in enumerate(slices):
        for image in images:
            if np.linalg.norm(image.position - first.position - number * step) > tolerance:
                raise _uneven(path, slices, normal)
    return step


def _uneven(path: Path, slices: list[list[_Instance]], normal: np.ndarray) -> InputError:
    gaps = np.diff([normal @ images[0].position for images in slices])
    if len(slices) == 1 or gaps.max() - gaps.min() <= max(SAME_POSITION_MM, 0.01 * gaps.mean()):
        return InputError(f"'{path}' has slices that are shifted sideways against each other: give one straight stack.")
    return InputError(
        f"'{path}' has slices {gaps.min():.4g} to {gaps.max():.4g} mm apart, so some are missing or from "
        "another stack: export the complete series again."
    )


def _order_phases(path: Path, slices: list[list[_Instance]]) -> list[list[_Instance]]:
    """The slices of each phase: a phase is the rank of a time within its slice."""
    counts = sorted({len(images) for images in slices})
    if len(counts) > 1:
        raise InputError(
            f"'{path}' has from {counts[0]} to {counts[-1]} images per slice, so some are missing or double: "
            "export the complete series again."
        )
    if counts == [1]:
        return [[images[0] for images in slices]]
    for tag in PHASE_TAGS:
        times = [[image.number(tag) for image in images] for images in slices]
        if all(None not in row and len(set(row)) == len(row) for row in times):
            ranks = np.argsort(np.array(times, dtype=float), axis=1)
            return [[images[n] for images, n in zip(slices, phase, strict=True)] for phase in ranks.T]
    raise InputError(
        f"'{path}' has every slice {counts[0]} times with nothing to tell them apart: remove the duplicates."
    )


def _read_pixels(instance: _Instance) -> np.ndarray:
    """Rows and columns, float32, after rescale slope and intercept, which GDCM applies."""
    try:
        image = _reader(instance.path).Execute()
    except RuntimeError as error:
        raise damaged(instance.path) from error
    return sitk.GetArrayViewFromImage(image)[0].astype(np.float32)
