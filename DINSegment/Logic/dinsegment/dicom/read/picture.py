"""What the header of a picture says about its place among others, from a DICOM file or from a database of tags.

It needs numpy alone, so that 3D Slicer can ask before anything else is installed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

TAGS = {
    "ImageType": "0008,0008",
    "SOPInstanceUID": "0008,0018",
    "StudyDate": "0008,0020",
    "AcquisitionDate": "0008,0022",
    "ContentDate": "0008,0023",
    "StudyTime": "0008,0030",
    "SeriesTime": "0008,0031",
    "AcquisitionTime": "0008,0032",
    "ContentTime": "0008,0033",
    "Modality": "0008,0060",
    "SeriesDescription": "0008,103E",
    "PatientID": "0010,0020",
    "ContrastBolusAgent": "0018,0010",
    "ScanningSequence": "0018,0020",
    "SequenceName": "0018,0024",
    "SliceThickness": "0018,0050",
    "EchoTime": "0018,0081",
    "InversionTime": "0018,0082",
    "SpacingBetweenSlices": "0018,0088",
    "ProtocolName": "0018,1030",
    "TriggerTime": "0018,1060",
    "NominalInterval": "0018,1062",
    "HeartRate": "0018,1088",
    "ConvolutionKernel": "0018,1210",
    "FlipAngle": "0018,1314",
    "StudyInstanceUID": "0020,000D",
    "SeriesInstanceUID": "0020,000E",
    "SeriesNumber": "0020,0011",
    "AcquisitionNumber": "0020,0012",
    "InstanceNumber": "0020,0013",
    "ImagePositionPatient": "0020,0032",
    "ImageOrientationPatient": "0020,0037",
    "FrameOfReferenceUID": "0020,0052",
    "TemporalPositionIdentifier": "0020,0100",
    "NominalCardiacTriggerDelayTime": "0020,9153",
    "SamplesPerPixel": "0028,0002",
    "PhotometricInterpretation": "0028,0004",
    "NumberOfFrames": "0028,0008",
    "Rows": "0028,0010",
    "Columns": "0028,0011",
    "PixelSpacing": "0028,0030",
}
"""The attributes that are asked for: keyword to "gggg,eeee", as 3D Slicer's DICOM database takes them."""

TIMES = (
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "TemporalPositionIdentifier",
    "TemporalPositionTimeOffset",
    "TemporalPositionIndex",
    "FrameReferenceDateTime",
    "FrameAcquisitionDateTime",
    "FrameAcquisitionNumber",
    "AcquisitionTime",
    "InstanceNumber",
)
"""What tells the phases of a slice apart, best first, of classic and of enhanced images."""

PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
"""What says where in the patient an image lies, and how large its pixels are."""

HEART_TIMES = TIMES[:2]
"""Those of them that are milliseconds after the R wave."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture: a file of one frame, or a frame of an enhanced one. What is missing is "" or None.

    Attributes:
        key: By which whoever made it knows it again: a file's name, a frame.
        study_uid: Study Instance UID.
        series_uid: Series Instance UID.
        series_number: Series Number.
        description: Series Description, or Protocol Name where there is none.
        modality: `MR`, `CT`.
        rows: Of the matrix.
        columns: Of the matrix.
        position: Centre of the first pixel in millimetres, LPS, (3,).
        axes: Directions in which the column index and the row index grow, unit vectors in LPS, as rows, (2, 3).
        pixel_spacing: Millimetres between rows and between columns, (2,).
        thickness: Slice thickness in millimetres.
        spacing: Millimetres between slices, as the header says it.
        frame_of_reference: Its UID.
        times: By the names of `TIMES`: numbers that grow with time; those that are missing are not there.
        acquired: When: seconds since midnight of the day of the study, to tell earlier from later.
        interval_ms: Length of a heartbeat, by Nominal Interval or Heart Rate.
        image_type: Image Type, or Frame Type of an enhanced image.
        sequence: Scanning Sequence, such as `GR` or `SE` or `IR`.
        sequence_name: Sequence Name.
        inversion_time: Milliseconds.
        echo_time: Milliseconds.
        flip_angle: Degrees.
        component: Part of the complex signal: `magnitude`, `phase`, `real`, `imaginary`; "" if it does not say.
        kernel: Convolution Kernel of CT.
        contrast: Contrast/Bolus Agent.
        problem: Why it cannot be a slice of a volume, one sentence; "" if it can.
    """

    key: Hashable
    study_uid: str = ""
    series_uid: str = ""
    series_number: int | None = None
    description: str = ""
    modality: str = ""
    rows: int | None = None
    columns: int | None = None
    position: np.ndarray | None = None
    axes: np.ndarray | None = None
    pixel_spacing: np.ndarray | None = None
    thickness: float | None = None
    spacing: float | None = None
    frame_of_reference: str = ""
    times: dict[str, float] | None = None
    acquired: float | None = None
    interval_ms: float | None = None
    image_type: tuple[str, ...] = ()
    sequence: tuple[str, ...] = ()
    sequence_name: str = ""
    inversion_time: float | None = None
    echo_time: float | None = None
    flip_angle: float | None = None
    component: str = ""
    kernel: str = ""
    contrast: str = ""
    problem: str = ""

    def time(self, name: str) -> float | None:
        """One of `times`; None where it is missing."""
        return (self.times or {}).get(name)

    @property
    def heart_time_ms(self) -> float | None:
        """Milliseconds after the R wave; None where the header does not say."""
        return next((t for name in HEART_TIMES if (t := self.time(name)) is not None), None)


COMPONENTS = {
    "M": "magnitude",
    "P": "phase",
    "R": "real",
    "I": "imaginary",
    "MAGNITUDE": "magnitude",
    "PHASE": "phase",
    "REAL": "real",
    "IMAGINARY": "imaginary",
}
"""What the image types of several makers, and Complex Image Component (DICOM PS3.3 C.8.13.3), call parts."""


def picture_of(key: Hashable, text: Callable[[str], str], problem: str = "") -> Picture:
    """A picture from the texts of its attributes.

    Args:
        key: As `Picture.key`.
        text: Gives the value of an attribute by its keyword (those of `TAGS`), several values with a backslash between
            them, "" where there is none. Of a dictionary of tags `lambda keyword: values.get(TAGS.get(keyword), "")`.
        problem: Why it is no slice of a volume, where that is known.
    """
    position, axes, spacing = (_numbers(text(keyword), count) for keyword, count in zip(PLACE, (3, 6, 2), strict=True))
    unit = None if axes is None else _unit_axes(axes)
    if spacing is not None and not (spacing > 0).all():
        spacing = None
    rows, columns = _integer(text("Rows")), _integer(text("Columns"))
    size = ("Rows", rows), ("Columns", columns)
    image_type = tuple(word.strip().upper() for word in text("ImageType").split("\\"))
    modality = text("Modality").strip()
    missing = [name for name, value in zip(PLACE, (position, unit, spacing), strict=True) if value is None]
    problem = problem or _problem(text, image_type, missing or [name for name, value in size if value is None])
    times = {name: time for name in TIMES if (time := time_of(name, text(name))) is not None}
    return Picture(
        key=key,
        study_uid=text("StudyInstanceUID").strip(),
        series_uid=text("SeriesInstanceUID").strip(),
        series_number=_integer(text("SeriesNumber")),
        description=" ".join((text("SeriesDescription") or text("ProtocolName")).split()),
        modality=modality,
        rows=rows,
        columns=columns,
        position=position,
        axes=unit,
        pixel_spacing=spacing,
        thickness=_positive(text("SliceThickness")),
        spacing=_positive(text("SpacingBetweenSlices")),
        frame_of_reference=text("FrameOfReferenceUID").strip(),
        times=times,
        acquired=_acquired(text),
        interval_ms=beat_ms(_positive(text("NominalInterval")), _positive(text("HeartRate"))),
        image_type=image_type,
        sequence=tuple(word.strip().upper() for word in text("ScanningSequence").split("\\") if word.strip()),
        sequence_name=text("SequenceName").strip(),
        inversion_time=_positive(text("InversionTime")),
        echo_time=_positive(text("EchoTime")),
        flip_angle=_positive(text("FlipAngle")),
        component=component_of(text("ComplexImageComponent"), image_type),
        kernel=text("ConvolutionKernel").replace("\\", " ").strip(),
        contrast=text("ContrastBolusAgent").strip(),
        problem=problem,
    )


def component_of(said: str, image_type: tuple[str, ...] | list[str]) -> str:
    """Which part of the complex MR signal is shown, by Complex Image Component or by Image Type; "" if neither says."""
    found = [COMPONENTS[value] for value in (said, *image_type[2:]) if value in COMPONENTS]
    return found[0] if found else ""


def beat_ms(interval_ms: float | None, heart_rate: float | None) -> float | None:
    """Milliseconds of a heartbeat of a living person (25 to 240 a minute); None where neither value is one."""
    for value in (interval_ms, 60_000 / heart_rate if heart_rate else None):
        if value is not None and 250 <= value <= 2400:
            return value
    return None


def time_of(keyword: str, value: str) -> float | None:
    """A time, or what else counts images, as a number that grows with time; None where it is missing."""
    if keyword.endswith("DateTime"):
        # YYYYMMDDHHMMSS.FFFFFF&ZZXX (DICOM PS3.5 6.2); the day only starts to count where a scan passes midnight.
        value = value.partition("+")[0].partition("-")[0]
        return _number(value[8:]) if len(value) >= 14 else None
    return _number(value)


def _problem(text: Callable[[str], str], image_type: tuple[str, ...], missing: Sequence[str]) -> str:
    samples = _integer(text("SamplesPerPixel"))
    if (samples is not None and samples > 1) or text("PhotometricInterpretation").strip() == "PALETTE COLOR":
        return "it is a colour image"
    if "MOSAIC" in image_type:
        return "it is a mosaic, many slices as tiles of one image"
    if (_integer(text("NumberOfFrames")) or 1) > 1:
        return "it has several frames in one file, which are not looked at here"
    return f"it {placeless(missing)}" if missing else ""


def placeless(missing: Sequence[str]) -> str:
    """What is wrong with an image that has no usable value of some attributes, words that follow its name."""
    return f"does not say where in the patient it lies or how large its pixels are (no usable {', '.join(missing)})"


def _unit_axes(values: np.ndarray) -> np.ndarray | None:
    """Directions of row and column as unit vectors; None where they are no perpendicular directions."""
    axes = values.reshape(2, 3)
    lengths = np.linalg.norm(axes, axis=1)
    if np.abs(lengths - 1).max() > 1e-2 or abs(axes[0] @ axes[1]) > 2e-3:
        return None
    return axes / lengths[:, None]


def _acquired(text: Callable[[str], str]) -> float | None:
    """Seconds from the beginning of the study's day to the acquisition, by the best time that there is."""
    for name in ("Acquisition", "Content", "Series"):
        seconds = _seconds(text(f"{name}Time").strip())
        if seconds is None:
            continue
        day, first = text(f"{name}Date").strip() if name != "Series" else "", text("StudyDate").strip()
        # The day only matters where a study passes midnight.
        return seconds + (86_400.0 if len(day) == len(first) == 8 and day > first else 0.0)
    return None


def _seconds(value: str) -> float | None:
    """HHMMSS.FFFFFF, also without its end, or with colons as before DICOM 3 (DICOM PS3.5 6.2)."""
    value = value.replace(":", "")
    digits = value.partition(".")[0]
    if not digits.isdigit() or len(digits) not in (2, 4, 6):
        return None
    hours, minutes, seconds = (int(digits[n : n + 2] or 0) for n in (0, 2, 4))
    return hours * 3600 + minutes * 60 + seconds + (_number(f"0.{value.partition('.')[2]}") or 0.0)


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _positive(value: str) -> float | None:
    number = _number(value)
    return number if number is not None and number > 0 else None


def _integer(value: str) -> int | None:
    number = _number(value)
    return None if number is None or number != int(number) else int(number)


def _numbers(value: str, count: int) -> np.ndarray | None:
    words = value.split("\\")
    if len(words) != count:
        return None
    numbers = [_number(word) for word in words]
    return None if None in numbers else np.array(numbers, dtype=float)
