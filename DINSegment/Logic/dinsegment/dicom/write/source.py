"""Source instances as a DICOM SEG can be made from: whatever scanners, archives and anonymisers left in them.

What a value is used for decides what happens to one that the standard forbids:

- References to the source, its study, Patient ID, Patient's Name, Accession Number and Study ID stay as they are, since
  viewers and archives find the source by them. Such a SEG is as valid as its source.
- Everything else that describes patient, study or trial is left out, or empty where the standard requires it.
- Private attributes are not taken over: what they mean, and in which characters, only their maker knows.

All text is decoded with the source's character set and written as UTF-8.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from pydicom import DataElement, Dataset
from pydicom.config import RAISE
from pydicom.datadict import dictionary_description
from pydicom.valuerep import DA, DT, TM, PersonName, validate_value

from dinsegment.dicom.source import DicomSource
from dinsegment.dicom.uids import derived_uid
from dinsegment.errors import InputError

_log = logging.getLogger(__name__)

UTF8 = "ISO_IR 192"

IDENTITY = ("PatientID", "PatientName", "AccessionNumber", "StudyID", "StudyInstanceUID")
"""What says whose and which study it is; taken over as it stands."""

REQUIRED = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
"""Attributes of patient and study that have to be there, if only empty (type 2)."""

_REFERENCE = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


class PreparedSource:
    """Headers for highdicom of one volume, in the order of its slices, and what they are about.

    Attributes:
        headers: One for each slice, or a single one with a frame for each slice.
        positions: Image Position (Patient) of each slice, (slices, 3), millimetres in LPS.
        spacing: Millimetres between slices along their normal.
    """

    def __init__(self, source: DicomSource) -> None:
        _check_references(source)
        first = source.headers[0]
        geometry = [_geometry(first, frame) for frame in source.frames] if source.frames else []
        geometry = geometry or [_geometry(header) for header in source.headers]
        self.positions = np.array([[float(x) for x in one.ImagePositionPatient] for one in geometry])
        self.spacing = _slice_spacing(geometry[0], self.positions)
        shared = geometry[0]
        shared.SpacingBetweenSlices = _decimal(self.spacing)
        # A slice has to have a thickness; in the patient it is at least not thicker than what lies between them.
        if not _positive(shared.get("SliceThickness")):
            shared.SliceThickness = shared.SpacingBetweenSlices
        head = _described(first)
        head.update({"FrameOfReferenceUID": frame_of_reference(source), "SpecificCharacterSet": UTF8})
        if source.frames is not None:
            self.headers = [_multi_frame(head, geometry)]
            return
        self.headers = []
        for header, one in zip(source.headers, geometry, strict=True):
            prepared = head if not self.headers else _copy(head, "StudyInstanceUID", "FrameOfReferenceUID")
            for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Rows", "Columns"):
                prepared[keyword] = header[keyword]
            for keyword in ("PixelSpacing", "ImageOrientationPatient", "SliceThickness", "SpacingBetweenSlices"):
                prepared[keyword] = shared[keyword]  # rounding differs from slice to slice, the grid has but one
            prepared["ImagePositionPatient"] = one["ImagePositionPatient"]
            self.headers.append(prepared)


def frame_of_reference(source: DicomSource) -> str:
    """The Frame of Reference UID of the source, or a new one where it has none or several.

    The new one follows from the Series Instance UID, so that all that is made from a series shares it. The log says so
    once.
    """
    first = source.headers[0]
    uids = {str(header.get("FrameOfReferenceUID") or "") for header in source.headers}
    if len(uids) == 1 and "" not in uids:
        return uids.pop()
    study, series = (str(first.get(keyword, "")) for keyword in ("StudyInstanceUID", "SeriesInstanceUID"))
    has = "no Frame of Reference UID" if uids == {""} else "several Frame of Reference UIDs"
    _say_once(
        f"The series {series} has {has}; what is made from it gets a new one, and viewers find its "
        "place by the images that it refers to."
    )
    return derived_uid(None, "frame of reference", study, series)


def source_datetime(source: DicomSource) -> datetime.datetime:
    """When the source was made: its first valid date and time; 1970 where there is none."""
    header = source.headers[0]
    for kind in ("Content", "Acquisition", "Series", "Study"):
        date, time = header.get(f"{kind}Date"), header.get(f"{kind}Time")
        if date and _is_valid("DA", date):
            clock = TM(time) if time and _is_valid("TM", time) else datetime.time()
            return datetime.datetime.combine(DA(date), clock.replace(tzinfo=None))
    return datetime.datetime(1970, 1, 1)


@lru_cache(maxsize=256)
def _say_once(text: str) -> None:
    _log.warning(text)


def _check_references(source: DicomSource) -> None:
    """Refuses instances that cannot be referred to one by one."""
    for header in source.headers:
        for keyword in (*_REFERENCE, "Rows", "Columns"):
            if not header.get(keyword):
                raise InputError(
                    f"The images have no {dictionary_description(keyword)}, without which a DICOM SEG cannot refer to "
                    "them: export them from the archive again."
                )
    for keyword, what in (("StudyInstanceUID", "studies"), ("SeriesInstanceUID", "series")):
        if len({str(header[keyword].value) for header in source.headers}) > 1:
            raise InputError(f"The images are from several {what}: a DICOM SEG is made from one series.")
    if len({str(header.SOPInstanceUID) for header in source.headers}) < len(source.headers):
        raise InputError("Several images have the same SOP Instance UID: export the series from the archive again.")


def _geometry(header: Dataset, frame: int | None = None) -> Dataset:
    """Where one image or frame lies: pixel spacing, thickness, orientation, position."""
    groups = [header]
    if frame is not None:
        per_frame = header.PerFrameFunctionalGroupsSequence[frame - 1]
        macros = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
        shared = header.get("SharedFunctionalGroupsSequence") or [Dataset()]
        groups = [group[macro][0] for group in (per_frame, shared[0]) for macro in macros if group.get(macro)]
    geometry = Dataset()
    for keyword in ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"):
        found = next((group[keyword] for group in groups if group.get(keyword)), None)
        if found is None:
            raise InputError(
                f"The images have no {dictionary_description(keyword)}: a DICOM SEG needs to know where they lie."
            )
        geometry[keyword] = found
    for keyword in ("SliceThickness", "SpacingBetweenSlices"):
        if found := next((group[keyword] for group in groups if _positive(group.get(keyword))), None):
            geometry[keyword] = found
    return geometry


def _slice_spacing(geometry: Dataset, positions: np.ndarray) -> float:
    """From the positions; only a single slice has nothing but its header to tell."""
    if len(positions) == 1:
        return float(geometry.get("SpacingBetweenSlices") or geometry.get("SliceThickness") or 1.0)
    row, column = np.reshape([float(x) for x in geometry.ImageOrientationPatient], (2, 3))
    normal = np.cross(row, column)
    return float(abs(normal @ (positions[-1] - positions[0])) / np.linalg.norm(normal) / (len(positions) - 1))


def _positive(value: Any) -> bool:
    try:
        return float(value) > 0
    except (TypeError, ValueError):
        return False


def _decimal(value: float) -> str:
    return f"{value:.10g}"


def _multi_frame(head: Dataset, geometry: list[Dataset]) -> Dataset:
    """A multi-frame image of only the frames of the volume, in its order, with one orientation for all."""
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    for keyword in ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"):
        measures[keyword] = geometry[0][keyword]
    orientation["ImageOrientationPatient"] = geometry[0]["ImageOrientationPatient"]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    head.SharedFunctionalGroupsSequence = [shared]
    head.PerFrameFunctionalGroupsSequence = []
    for one in geometry:
        frame, position = Dataset(), Dataset()
        position["ImagePositionPatient"] = one["ImagePositionPatient"]
        frame.PlanePositionSequence = [position]
        head.PerFrameFunctionalGroupsSequence.append(frame)
    head.NumberOfFrames = len(geometry)
    return head


def _copy(header: Dataset, *keywords: str) -> Dataset:
    copy = Dataset()
    for keyword in keywords:
        copy[keyword] = header[keyword]
    return copy


def _described(header: Dataset) -> Dataset:
    """What a header says of patient, study and equipment, as far as it is valid."""
    described = Dataset()
    for element in _elements(header):
        kept = element.keyword in IDENTITY or element.keyword in _REFERENCE
        if kept or (not _is_left_out(element) and _all_valid(element)):
            described.add(_plain(element))
    if described.get("PatientSex") not in ("M", "F", "O"):
        described.PatientSex = ""
    for keyword in REQUIRED:
        if keyword not in described:
            setattr(described, keyword, "")
    return described


def _is_left_out(element: DataElement) -> bool:
    tag = element.tag
    return tag.is_private or tag.element == 0 or element.keyword == "" or element.keyword in _FUNCTIONAL_GROUPS


def _plain(element: DataElement) -> DataElement:
    """A copy that no longer knows the character set that it was read with."""
    if element.VR == "SQ":
        return DataElement(element.tag, "SQ", [_plain_item(item) for item in element.value])
    if element.VR == "PN":
        names = [str(name) for name in _values(element)]
        return DataElement(element.tag, "PN", names if len(names) > 1 else "".join(names))
    return DataElement(element.tag, element.VR, element.value)


def _plain_item(item: Dataset) -> Dataset:
    plain = Dataset()
    for element in _elements(item):
        if not _is_left_out(element):
            plain.add(_plain(element))
    return plain


def _elements(dataset: Dataset) -> Iterator[DataElement]:
    """Those that can be read; pydicom converts a value when it is first asked for."""
    for tag in sorted(dataset.keys()):
        try:
            yield dataset[tag]
        except Exception:  # whatever may go wrong with a damaged value
            _log.info("Attribute %s could not be read and is left out.", tag)


def _values(element: DataElement) -> Iterable[Any]:
    if element.value is None or element.value == "":
        return ()
    return element.value if element.VM > 1 else (element.value,)


def _all_valid(element: DataElement) -> bool:
    """Whether the standard allows the values of an element and of all in it (DICOM PS3.5, 6.2)."""
    if element.VR == "SQ":
        return all(_all_valid(inner) for item in element.value for inner in _elements(item) if not _is_left_out(inner))
    return all(_is_valid(element.VR, value) for value in _values(element))


def _is_valid(vr: str, value: Any) -> bool:
    dates = {"DA": DA, "DT": DT, "TM": TM}
    as_text = vr in ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UI", "UR")
    try:
        if as_text:
            value = str(value.original_string if hasattr(value, "original_string") else value)
            if vr != "PN" and any(ord(character) < 32 and character not in "\t\n\f\r" for character in value):
                return False
        validate_value(vr, value, RAISE)
        if vr in dates:
            dates[vr](value)
    except ValueError:
        return False
    return True


def person_name(name: str) -> PersonName:
    """A name as DICOM has it; an InputError where it has too many parts or too many characters."""
    try:
        validate_value("PN", name, RAISE)
    except ValueError:
        raise InputError(f"'{name}' is no name that DICOM can hold: give at most 64 characters.") from None
    return PersonName(name)
