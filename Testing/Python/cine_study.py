"""A study of the heart as scanners store it, made of the one series of the Sunnybrook cine.

`study_of` gives 12 short-axis series of one slice and 20 phases each, a second acquisition of one of them, two
long-axis series, a localizer and a late-enhancement series. The parts can be had one by one, and changed.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import FileMetaDataset
from pydicom.uid import PYDICOM_ROOT_UID, EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

SLICES, PHASES = 12, 20
ROOT = PYDICOM_ROOT_UID + "5"
REPEATED = 4
"""Slice, counted from 0 along the normal, of which `study_of` has two acquisitions."""

Rows = list[list[Dataset]]
"""Images by slice, along the normal, and phase."""

_Images = TypeVar("_Images", Dataset, list[Dataset], list[list[Dataset]])


def read_cine(
    sunnybrook: Path, slices: Iterable[int] = range(SLICES), phases: Iterable[int] = range(PHASES), series: int = 1
) -> Rows:
    """Images of the cine with valid identifiers, as one series."""

    def read(k: int, phase: int) -> Dataset:
        number = PHASES * (SLICES - 1 - k) + phase + 1
        image = pydicom.dcmread(sunnybrook / f"{number}.dcm")
        pixels = image.pixel_array
        image.remove_private_tags()
        image.pop("PerFrameFunctionalGroupsSequence", None)
        for tag in [tag for tag in image.keys() if keyword_for_tag(tag).startswith("Referenced")]:  # noqa: SIM118
            del image[tag]
        image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = "20120101"
        image.PatientName, image.PatientID, image.PatientBirthDate = "Test^Patient", "ID1", "19500401"
        image.PatientSex, image.PatientSize, image.PatientWeight = "F", "1.68", "61"
        image.StudyInstanceUID, image.FrameOfReferenceUID = f"{ROOT}.1", f"{ROOT}.2"
        image.SOPClassUID, image.InstanceNumber, image.SpecificCharacterSet = MRImageStorage, number, "ISO_IR 100"
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        set_pixels(image, pixels)
        return image

    phases = list(phases)
    rows = [[read(k, phase) for phase in phases] for k in slices]
    return [into_series(row, series) for row in rows]


def set_pixels(image: Dataset, pixels: np.ndarray) -> None:
    """Gives an image these pixels, int16."""
    image.Rows, image.Columns = pixels.shape
    image.PixelData = np.ascontiguousarray(pixels, np.int16).tobytes()
    image["PixelData"].VR = "OW"


def pixels_of(image: Dataset) -> np.ndarray:
    """Stored values, int16."""
    return np.frombuffer(image.PixelData, np.int16).reshape(image.Rows, image.Columns)


def axes_of(image: Dataset) -> np.ndarray:
    """Directions along a row and along a column."""
    return np.array(image.ImageOrientationPatient, float).reshape(2, 3)


def move(images: Iterable[Dataset], offset: np.ndarray) -> None:
    """Moves images by millimetres in LPS."""
    for image in images:
        image.ImagePositionPatient = decimals(np.array(image.ImagePositionPatient, float) + offset)


def decimals(values: Iterable[float]) -> list[str]:
    """Decimal strings as scanners write them."""
    return [f"{value:.6f}" for value in values]


def into_series(images: list[Dataset], number: int, description: str = "", study: int = 1) -> list[Dataset]:
    """Makes images a series of its own; they are changed."""
    for place, image in enumerate(images, 1):
        image.StudyInstanceUID = f"{ROOT}.{study}"
        image.SeriesInstanceUID, image.SeriesNumber = f"{ROOT}.{study}.{number}", number
        image.SOPInstanceUID = f"{ROOT}.{study}.{number}.{image.InstanceNumber}.{place}"
        image.SeriesDescription = description
    return images


def uid_of(number: int, study: int = 1) -> str:
    """Series Instance UID of the series of a number."""
    return f"{ROOT}.{study}.{number}"


def a_copy(images: _Images) -> _Images:
    """Images that can be changed without the others; `deepcopy` takes twice as long."""
    return pickle.loads(pickle.dumps(images, pickle.HIGHEST_PROTOCOL))


def series_per_slice(rows: Rows, first: int = 101, description: str = "cine") -> list[list[Dataset]]:
    """A series for each slice, numbered from `first` on along the normal."""
    return [into_series(a_copy(row), first + k, description) for k, row in enumerate(rows)]


def series_per_phase(rows: Rows, first: int = 101) -> list[list[Dataset]]:
    """A series for each phase."""
    return [
        into_series(a_copy([row[phase] for row in rows]), first + phase, "cine phases") for phase in range(len(rows[0]))
    ]


def whole_series(rows: Rows, number: int = 101, description: str = "cine") -> list[Dataset]:
    """All in one series."""
    return into_series(a_copy([image for row in rows for image in row]), number, description)


def repeated(row: list[Dataset], number: int, at: str = "093000") -> list[Dataset]:
    """The same slice as acquired once more, later."""
    images = into_series(a_copy(row), number, "cine")
    for image in images:
        image.SeriesTime = image.AcquisitionTime = image.ContentTime = at
    return images


def spoil(images: Iterable[Dataset]) -> None:
    """Ghosts over the images, as of a failed breath-hold."""
    for image in images:
        pixels = pixels_of(image)
        set_pixels(image, pixels // 2 + np.roll(pixels, 40, axis=0) // 2)


def long_axis(rows: Rows, number: int, at: int = 130, along_rows: bool = False) -> list[Dataset]:
    """A cine of one slice at right angles to the stack: through its column (or row) `at`."""
    images = []
    for phase in range(len(rows[0])):
        volume = np.stack([pixels_of(row[phase]) for row in rows]).astype(float)
        plane = volume[:, at, :] if along_rows else volume[:, :, at]
        image = a_copy(rows[0][phase])
        row, column = axes_of(image)
        spacing = float(image.PixelSpacing[0])
        steps = np.arange(0, len(plane) - 1, spacing / 10.0)
        below, part = steps.astype(int), (steps % 1)[:, None]
        set_pixels(image, ((1 - part) * plane[below] + part * plane[below + 1]).astype(np.int16))
        move([image], at * spacing * (column if along_rows else row))
        image.ImageOrientationPatient = decimals([*(row if along_rows else column), *np.cross(row, column)])
        image.SliceThickness = "8"
        images.append(image)
    return into_series(images, number, "cine")


def late_enhancement(rows: Rows, number: int) -> list[Dataset]:
    """One image of each slice, after an inversion."""
    images = a_copy([row[len(row) // 2] for row in rows])
    for image in images:
        image.InversionTime, image.ScanningSequence, image.SeriesTime = "280", ["GR", "IR"], "094500"
        image.AcquisitionTime = image.ContentTime = "094500"
        set_pixels(image, 1500 - pixels_of(image))
    return into_series(images, number, "psir_sax")


def localizer(rows: Rows, number: int) -> list[Dataset]:
    """Three images at right angles to one another."""
    images = []
    for axis in range(3):
        image = a_copy(rows[len(rows) // 2][0])
        image.ImageOrientationPatient = decimals(np.roll(np.eye(3), axis, axis=1)[:2].ravel())
        image.ImagePositionPatient = decimals([-170.0, -170.0, -170.0])
        image.ImageType, image.SeriesTime = ["ORIGINAL", "PRIMARY", "LOCALIZER"], "080000"
        image.InstanceNumber = axis + 1
        images.append(image)
    return into_series(images, number, "localizer")


def study_of(rows: Rows) -> list[list[Dataset]]:
    """The whole study, series by series: 1 localizer, 90 and 91 long axis, 101 on short axis, of which the
    `REPEATED` slice is spoilt and there again as 150, 200 late enhancement."""
    short_axis = series_per_slice(rows)
    again = repeated(short_axis[REPEATED], 150)
    spoil(short_axis[REPEATED])
    return [
        localizer(rows, 1),
        long_axis(rows, 90),
        long_axis(rows, 91, at=128, along_rows=True),
        *short_axis,
        again,
        late_enhancement(rows, 200),
    ]


def write(series: Iterable[Sequence[Dataset]], folder: Path, name: Callable[[Dataset], str] | None = None) -> Path:
    """Writes series into one folder, under names that are in no order."""
    folder.mkdir(parents=True, exist_ok=True)
    for images in series:
        for number, image in enumerate(images):
            file = name(image) if name else f"{image.SeriesNumber:04d}_{(7 * number + 3) % 1009:04d}.dcm"
            pydicom.dcmwrite(folder / file, image, enforce_file_format=True)
    return folder


def enhanced(images: Sequence[Dataset], number: int) -> Dataset:
    """Images of one slice, in the order of time, as one enhanced multi-frame image."""
    first = images[0]
    made = a_copy(first)
    for keyword in (
        *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "TriggerTime"),
        *("NominalCardiacTriggerDelayTime", "SpacingBetweenSlices", "NominalInterval", "HeartRate", "EchoTime"),
    ):
        made.pop(keyword, None)
    into_series([made], number, "cine")
    made.SOPClassUID, made.NumberOfFrames, made.InstanceNumber = EnhancedMRImageStorage, len(images), 1
    made.ImageType = ["ORIGINAL", "PRIMARY", "CARDIAC", "NONE"]
    shared, measures, beat = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = first.PixelSpacing, first.SliceThickness
    measures.SpacingBetweenSlices = first.SpacingBetweenSlices
    shared.PixelMeasuresSequence = [measures]
    made.SharedFunctionalGroupsSequence, made.PerFrameFunctionalGroupsSequence = [shared], []
    for place, image in enumerate(images, 1):
        group, content, position, orientation, beat = (Dataset() for _ in range(5))
        content.StackID, content.InStackPositionNumber, content.TemporalPositionIndex = "1", 1, place
        content.FrameAcquisitionDateTime = image.AcquisitionDate + image.AcquisitionTime
        position.ImagePositionPatient = image.ImagePositionPatient
        orientation.ImageOrientationPatient = image.ImageOrientationPatient
        beat.NominalCardiacTriggerDelayTime = float(image.TriggerTime)
        beat.RRIntervalTimeNominal = float(image.NominalInterval)
        group.FrameContentSequence, group.PlanePositionSequence = [content], [position]
        group.PlaneOrientationSequence, group.CardiacSynchronizationSequence = [orientation], [beat]
        made.PerFrameFunctionalGroupsSequence.append(group)
    set_pixels(made, pixels_of(first))
    made.PixelData = b"".join(bytes(image.PixelData) for image in images)
    return made
