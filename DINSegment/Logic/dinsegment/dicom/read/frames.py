"""Frames: the single pictures of a DICOM series, each with its place in the patient and the time it shows.

A classic image file has one frame, an enhanced one (DICOM PS3.3 C.7.6.16) has several, which are described in its
functional groups: those that all frames share and those of each frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from pydicom import Dataset
from pydicom.uid import UID

from dinsegment.dicom.read import picture
from dinsegment.dicom.read.header import Header, items, numbers, text
from dinsegment.dicom.read.picture import HEART_TIMES, PLACE, component_of, placeless
from dinsegment.dicom.source import DicomSource
from dinsegment.errors import InputError, damaged
from dinsegment.geometry import LEAN_DEGREES, check_spacing


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture.

    Attributes:
        header: Of its file.
        number: Of the frame in its file, counted from 1; None in a file that can hold only one.
        places: The data sets in which its attributes stand, best first.
        position: Centre of the first pixel in millimetres, LPS.
        axes: Directions in which the column index and the row index grow, unit vectors in LPS, as rows.
        pixel_spacing: Millimetres between rows and between columns.
        slope: Of the rescaling of stored values.
        intercept: Of the rescaling of stored values.
    """

    header: Header
    number: int | None
    places: tuple[Dataset, ...]
    position: np.ndarray
    axes: np.ndarray
    pixel_spacing: np.ndarray
    slope: float
    intercept: float

    @property
    def path(self) -> Path:
        """Of its file."""
        return self.header.file.path

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Rows and columns."""
        return self.header.integer("Rows"), self.header.integer("Columns")

    @property
    def rescaling(self) -> tuple[bool, bool]:
        """Whether it has a rescale slope and an intercept."""
        return bool(self.text("RescaleSlope")), bool(self.text("RescaleIntercept"))

    @property
    def is_inverted(self) -> bool:
        """Whether what is large is dark; numbers of a CT mean the same however they are shown."""
        return self.header.text("PhotometricInterpretation") == "MONOCHROME1" and self.header.text("Modality") != "CT"

    @property
    def label(self) -> str:
        """What messages call it beside the input's name."""
        return self.path.name if self.number is None else f"frame {self.number} of {self.path.name}"

    def text(self, keyword: str) -> str:
        """A value as text; "" where it is missing."""
        return text(self.places, keyword)

    def number_of(self, keyword: str) -> float | None:
        """A single number; None where it is missing."""
        value = numbers(self.places, keyword, 1)
        return None if value is None else value[0]


def frames_of(header: Header) -> list[Frame]:
    """The frames of an image file, in their order in it.

    Raises:
        InputError: As `all_frames`, or it is a localizer.
    """
    frames = all_frames(header)
    if any("LOCALIZER" in image_type(frame) for frame in frames):
        raise InputError(
            f"'{header.file.path}' is a localizer, not a slice of a volume: give a folder without localizers."
        )
    return frames


def all_frames(header: Header) -> list[Frame]:
    """The frames of an image file, in their order in it, also those of a localizer.

    Raises:
        InputError: They cannot be slices of a volume: colour, tiles of one image, no place in the patient.
    """
    path = header.file.path
    samples = header.integer("SamplesPerPixel")
    if (samples is not None and samples > 1) or header.text("PhotometricInterpretation") == "PALETTE COLOR":
        raise InputError(f"'{path}' is a colour image: give a grey image.")
    if "MOSAIC" in header.text("ImageType").split("\\"):
        raise InputError(
            f"'{path}' is a mosaic, many slices as tiles of one image: convert it to NIfTI or enhanced DICOM, "
            "which have the slices one by one."
        )
    groups = _functional_groups(header)
    # A file with the groups of a single frame is read as any image of one frame.
    return [_frame(header, n if len(groups) > 1 else None, places) for n, places in enumerate(groups, 1)]


def _functional_groups(header: Header) -> list[tuple[Dataset, ...]]:
    """The data sets that describe each frame."""
    path, dataset = header.file.path, header.dataset
    count = header.integer("NumberOfFrames") if header.text("NumberOfFrames") else 1
    if count is None or count < 1:
        raise damaged(path)
    try:
        per_frame = items(dataset, "PerFrameFunctionalGroupsSequence")
        shared = items(dataset, "SharedFunctionalGroupsSequence")
        if not per_frame and count > 1:
            raise InputError(
                f"'{path}' has {count} frames in one DICOM file that does not say where each of them lies: "
                "export it as an enhanced image or as one file for each slice."
            )
        if not per_frame:
            return [(dataset,)]
        common = [group for item in shared for group in _macros(item)]
        groups = [(*_macros(item), *common, dataset) for item in per_frame]
    except InputError:
        raise
    except Exception as error:  # pydicom raises whatever it stumbles upon
        raise damaged(path) from error
    if len(groups) != count:
        raise damaged(path)
    return groups


def _macros(item: Dataset) -> list[Dataset]:
    """The contents of an item's functional groups; a maker's own may repeat attributes with another meaning."""
    keywords = [tag for tag in item.keys() if not tag.is_private]  # noqa: SIM118 - a Dataset is no dictionary
    return [group for tag in keywords for group in items(item, tag)]


def image_type(frame: Frame) -> list[str]:
    """The values of Frame Type, or of Image Type where there is none."""
    return (frame.text("FrameType") or frame.text("ImageType")).split("\\")


def _frame(header: Header, number: int | None, places: tuple[Dataset, ...]) -> Frame:
    path = header.file.path
    # The data set itself says nothing of the place of the frames of an enhanced image.
    here = places[:-1] or places
    position, axes, spacing = place = [numbers(here, name, count) for name, count in zip(PLACE, (3, 6, 2), strict=True)]
    missing = [name for name, value in zip(PLACE, place, strict=True) if value is None]
    if missing:
        raise InputError(f"'{path}' {placeless(missing)}: give the series that the scanner made.")
    check_spacing(path, spacing)
    row, column = np.reshape(axes, (2, 3))
    lengths = np.linalg.norm([row, column], axis=1)
    if np.abs(lengths - 1).max() > 1e-2 or abs(row @ column) > math.sin(math.radians(LEAN_DEGREES)):
        raise InputError(f"'{path}' has an orientation that is none: its rows and columns are not perpendicular.")
    slope, intercept = _rescaling(path, places)
    unit = np.array([row, column]) / lengths[:, None]
    return Frame(header, number, places, np.array(position), unit, np.array(spacing), slope, intercept)


def _rescaling(path: Path, places: tuple[Dataset, ...]) -> tuple[float, float]:
    """Slope and intercept; 1 and 0 where there are none."""
    values = []
    for keyword, usual in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)):
        value = numbers(places, keyword, 1) if text(places, keyword) else [usual]
        if value is None or (keyword == "RescaleSlope" and value[0] == 0):
            raise InputError(
                f"'{path}' has a {keyword} of '{text(places, keyword)}', which is no scale: export the image again."
            )
        values.append(value[0])
    return values[0], values[1]


def complex_component(frame: Frame) -> str:
    """Which part of the complex MR signal a frame shows: magnitude, phase, real, imaginary; "" if it does not say."""
    return component_of(frame.text("ComplexImageComponent"), image_type(frame)) or _ge_component(frame)


def _ge_component(frame: Frame) -> str:
    """GE's private element (0043,xx2F): 0 to 3."""
    try:
        value = frame.header.dataset.private_block(0x0043, "GEMS_PARM_01")[0x2F].value
    except Exception:  # there is none, or it is damaged
        return ""
    if isinstance(value, bytes):
        value = int.from_bytes(value, "little")
    names = ("magnitude", "phase", "real", "imaginary")
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else ""


def kind_of(frame: Frame, keyword: str) -> str:
    """A value that tells kinds of images apart, in one form whoever wrote it; "" where it is missing."""
    if keyword == "ImageType":
        return "\\".join(image_type(frame))
    number = frame.number_of(keyword)
    return frame.text(keyword) if number is None else f"{number:.5g}"


def time_of(frame: Frame, keyword: str) -> float | None:
    """A time, or what else counts images, as a number that grows with time; None where it is missing."""
    if keyword.endswith("DateTime"):
        return picture.time_of(keyword, frame.text(keyword))
    return frame.number_of(keyword)


def heart_time_of(frames: Sequence[Frame]) -> float | None:
    """When the slices of a phase were taken, in milliseconds after the R wave, their median; None if none says."""
    times = (next((t for name in HEART_TIMES if (t := frame.number_of(name)) is not None), None) for frame in frames)
    known = [time for time in times if time is not None]
    return median(known) if known else None


def source_of(frames: Sequence[Frame]) -> DicomSource:
    """What the slices of a volume refer to, in their order."""
    datasets = [frame.header.dataset for frame in frames]
    # An enhanced image of a single frame is read as any image of one frame.
    numbers = tuple(1 if frame.number is None and _is_enhanced(frame.header) else frame.number for frame in frames)
    if all(number is None for number in numbers):
        return DicomSource(tuple(datasets))
    single = all(dataset is datasets[0] for dataset in datasets)
    return DicomSource((datasets[0],) if single else tuple(datasets), numbers)


def _is_enhanced(header: Header) -> bool:
    """Whether a file can have several frames; some makers give plain images the groups of enhanced ones besides."""
    if "PerFrameFunctionalGroupsSequence" not in header.dataset:
        return False
    return "ImagePositionPatient" not in header.dataset or "Enhanced" in UID(header.text("SOPClassUID")).name
