"""The stacks of a study, of the headers of its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dinsegment.dicom.read.frames import Frame, all_frames, complex_component, image_type
from dinsegment.dicom.read.header import Header, numbers, text
from dinsegment.dicom.read.picture import Picture, picture_of
from dinsegment.dicom.read.stack import Stack
from dinsegment.dicom.read.stacks import find_stacks
from dinsegment.errors import InputError

_NUMBERS = {
    *("Rows", "Columns", "SamplesPerPixel", "TemporalPositionIndex", "NominalCardiacTriggerDelayTime"),
    *("TemporalPositionTimeOffset", "FrameAcquisitionNumber"),
}
"""Attributes that are stored as numbers, not as text."""

_ENHANCED = {
    "EchoTime": "EffectiveEchoTime",
    "InversionTime": "InversionTimes",
    "NominalInterval": "RRIntervalTimeNominal",
    "AcquisitionTime": "FrameAcquisitionDateTime",
}
"""What enhanced images call attributes of others; a date with a time for the time."""

_SEQUENCES = {"GRADIENT": "GR", "SPIN": "SE", "BOTH": "GR\\SE"}
"""Echo Pulse Sequence of enhanced images, as Scanning Sequence says it."""


def stacks_of(headers: Sequence[Header]) -> list[Stack]:
    """The stacks of images; keys are `Frame`, or `Header` of images that cannot be slices of a volume."""
    return find_stacks([picture for header in headers for picture in pictures_of(header)])


def pictures_of(header: Header) -> list[Picture]:
    """What is known of the frames of an image."""
    try:
        return [_picture(frame) for frame in all_frames(header)]
    except InputError as error:
        # Without what to do, which is said where the image is needed.
        reason = "it " + str(error).removeprefix(f"'{header.file.path}' ").partition(": ")[0].rstrip(".")
        return [picture_of(header, lambda keyword: _text([header.dataset], keyword), reason)]


def _picture(frame: Frame) -> Picture:
    made = picture_of(frame, lambda keyword: _text_of(frame, keyword))
    # As the frame has them, which is how they are read.
    return replace(made, position=frame.position, axes=frame.axes, pixel_spacing=frame.pixel_spacing, problem="")


def _text_of(frame: Frame, keyword: str) -> str:
    if keyword == "ImageType":
        return "\\".join(image_type(frame))
    if keyword == "ComplexImageComponent":
        return complex_component(frame).upper()
    if keyword == "NumberOfFrames":
        return ""
    return _text(frame.places, keyword)


def _text(places: Sequence, keyword: str) -> str:
    if keyword in _NUMBERS:
        value = numbers(places, keyword, 1)
        return "" if value is None else repr(value[0])
    found = text(places, keyword)
    if found:
        return found
    if keyword == "ScanningSequence":
        return _SEQUENCES.get(text(places, "EchoPulseSequence"), "")
    if (enhanced := _ENHANCED.get(keyword)) is None:
        return ""
    if enhanced.endswith("DateTime"):
        return text(places, enhanced)[8:].partition("+")[0].partition("-")[0]
    value = numbers(places, enhanced, 1)
    return "" if value is None else repr(value[0])
