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
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import takewhile
from typing import Any

import numpy as np
from highdicom.seg import Segmentation
from pydicom import DataElement, Dataset
from pydicom.config import RAISE
from pydicom.datadict import dictionary_description
from pydicom.uid import UID, MRImageStorage
from pydicom.valuerep import DA, DT, TM, PersonName, validate_value

from dinsegment.dicom.source import DicomSource
from dinsegment.dicom.uids import derived_uid
from dinsegment.dicom.write.place import ASKEW, Plane
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

SHORTEST_NAME = 3
"""Characters that descriptions have to have in common to be called by them."""

_REFERENCE = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_GRID = ("PixelSpacing", "ImageOrientationPatient", "SliceThickness", "SpacingBetweenSlices")
_FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


class PreparedSource:
    """What highdicom is given of the images of a volume, and what they are about.

    highdicom takes images of one series and of one frame of reference, and of multi-frame images one alone. It gets
    headers of single-frame images of one series, in the order of the slices, and `refer` then replaces what the DICOM
    SEG says of them by what the images are.

    Attributes:
        planes: Where the image of each slice lies.
        headers: One for each slice, on the pixels of its image.
        description: What the series are called.
    """

    def __init__(self, source: DicomSource) -> None:
        _check_references(source)
        self._source = source
        geometry = [_geometry(header, frame) for header, frame in source.images]
        self.planes = planes_of(source)
        _check_parallel(self.planes)
        shared, positions = geometry[0], [plane.position for plane in self.planes]
        shared.SpacingBetweenSlices = _decimal(_slice_spacing(shared, self.planes[0].steps, positions))
        # A slice has to have a thickness; in the patient it is at least not thicker than what lies between them.
        if not _positive(shared.get("SliceThickness")):
            shared.SliceThickness = shared.SpacingBetweenSlices
        head = _described(source.headers[0])
        head.update({"FrameOfReferenceUID": frame_of_reference(source), "SpecificCharacterSet": UTF8})
        self.description = series_description(source)
        self.headers = []
        for k, (header, _) in enumerate(source.images):
            prepared = head if not self.headers else _copy(head, ("StudyInstanceUID", "FrameOfReferenceUID"))
            prepared.update(_copy(header, ("SOPClassUID", "SOPInstanceUID", "Rows", "Columns")))
            prepared.update(_copy(source.headers[0], ("SeriesInstanceUID",)))
            if source.frames is not None:
                prepared.SOPClassUID, prepared.SOPInstanceUID = MRImageStorage, _stand_in(k)
            # Rounding differs from slice to slice, the grid has but one.
            prepared.update(_copy(shared, _GRID))
            prepared.update(_copy(geometry[k], ("ImagePositionPatient",)))
            self.headers.append(prepared)

    def place(self, size: tuple[int, int], positions: np.ndarray | None = None) -> None:
        """Puts the headers elsewhere than on the pixels of their images.

        Args:
            size: Rows and columns of the frames.
            positions: Of the first pixel of each, (slices, 3), millimetres in LPS; those of the images if None.
        """
        for k, prepared in enumerate(self.headers):
            prepared.Rows, prepared.Columns = size
            if positions is not None:
                prepared.ImagePositionPatient = [_decimal(value) for value in positions[k]]
                prepared.SpacingBetweenSlices = _decimal(_slice_spacing(prepared, self.planes[0].steps, positions))

    def refer(self, seg: Segmentation, in_place: Sequence[bool]) -> Segmentation:
        """The DICOM SEG with references to the images as they are: their series and their frames.

        Args:
            seg: Made of the headers.
            in_place: Whether the pixels of each image are those of its frames.
        """
        source, images = self._source, self._source.images
        if source.frames is None and len(source.series_uids) == 1 and all(in_place):
            return seg
        slices = {str(header.SOPInstanceUID): k for k, header in enumerate(self.headers)}
        for item in _source_items(seg):
            k = slices[str(item.ReferencedSOPInstanceUID)]
            header, frame = images[k]
            item.update(_reference(header))
            if frame is not None:
                item.ReferencedFrameNumber = frame
            item.SpatialLocationsPreserved = "YES" if in_place[k] else "NO"
        self.refer_whole(seg)
        return Segmentation.from_dataset(seg, copy=False)  # which has tables of the references

    def refer_whole(self, made: Dataset) -> None:
        """What an instance that was made of the headers says of all images: their series and their instances."""
        source = self._source
        made.SourceImageSequence = [_reference(header) for header in _each_once(source)]
        made.ReferencedSeriesSequence = []
        for uid in source.series_uids:
            series = Dataset()
            series.SeriesInstanceUID = uid
            of_series = [header for header in _each_once(source) if str(header.SeriesInstanceUID) == uid]
            series.ReferencedInstanceSequence = [_reference(header) for header in of_series]
            made.ReferencedSeriesSequence.append(series)


def frame_of_reference(source: DicomSource) -> str:
    """The Frame of Reference UID of the images, or of most of them; a new one where most have none or differ.

    Scanners and anonymisers give the series of one heart different ones, although their slices make up one stack. That
    of more than half of the images is the one in which other programs look for it. A new one follows from the Series
    Instance UID, so that all that is made from a series shares it. The log says so once.
    """
    said = frame_of_reference_warning(source)
    if said:
        _say_once(said)
    uid, count = _frames_of_reference(source).most_common(1)[0]
    if uid and 2 * count > source.slices:
        return uid
    return derived_uid(None, "frame of reference", str(source.headers[0].StudyInstanceUID), source.series_uids[0])


def frame_of_reference_warning(source: DicomSource) -> str:
    """A sentence for the user where the images are not all of one frame of reference; empty where they are."""
    uids = _frames_of_reference(source)
    (uid, count), (first, *others) = uids.most_common(1)[0], source.series_uids
    if uid and count == source.slices:
        return ""
    images = f"The images of the series {first}" + (f" and {len(others)} more" if others else "")
    if not uid and len(uids) == 1:
        return (
            f"{images} have no Frame of Reference UID; what is made from them gets a new one, and viewers find its "
            "place by the images that it refers to."
        )
    one = f"that of {count} of the {source.slices} slices" if uid and 2 * count > source.slices else "a new one"
    return (
        f"{images} have several Frame of Reference UIDs, although they make up one stack; what is made from them gets "
        f"{one}, and viewers find its place by the images that it refers to."
    )


def _frames_of_reference(source: DicomSource) -> Counter[str]:
    """How many slices have which."""
    return Counter(str(header.get("FrameOfReferenceUID") or "") for header, _ in source.images)


def series_description(source: DicomSource) -> str:
    """What the series of the images are called: by what their descriptions have in common, if they are several."""
    first = {str(header.SeriesInstanceUID): header for header in reversed(source.headers)}
    texts = list(dict.fromkeys(_text(first[uid], "SeriesDescription") for uid in source.series_uids))
    if len(texts) == 1:
        return texts[0]
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False))
    common = "".join(letters[0] for letters in alike).rstrip(" _-.,;:/#([0123456789")
    return common if len(common) >= SHORTEST_NAME else f"{len(source.series_uids)} series"


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
    if len({str(header.StudyInstanceUID) for header in source.headers}) > 1:
        raise InputError("The images are from several studies: a DICOM SEG is made from one study.")
    if len({(str(header.SOPInstanceUID), frame) for header, frame in source.images}) < source.slices:
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


def planes_of(source: DicomSource) -> list[Plane]:
    """Where the image of each slice lies.

    Raises:
        InputError: The headers do not say it.
    """
    return [_plane(header, _geometry(header, frame)) for header, frame in source.images]


def _plane(header: Dataset, geometry: Dataset) -> Plane:
    row, column = np.reshape([float(x) for x in geometry.ImageOrientationPatient], (2, 3))
    between_rows, between_columns = (float(x) for x in geometry.PixelSpacing)
    position = np.array([float(x) for x in geometry.ImagePositionPatient])
    steps = np.stack([row * between_columns, column * between_rows], axis=1)
    return Plane(position, steps, (int(header.Rows), int(header.Columns)))


def _check_parallel(planes: list[Plane]) -> None:
    """Refuses what has not one orientation and pixel spacing, of which a DICOM SEG has but one for all frames."""
    first = planes[0]
    for k, plane in enumerate(planes):
        off = np.abs(plane.steps - first.steps) * (plane.size[1] - 1, plane.size[0] - 1)
        if off.sum() >= ASKEW * np.linalg.norm(first.steps, axis=0).min():
            raise InputError(
                f"Image {k + 1} of {len(planes)} is turned or scaled against the first: a DICOM SEG is made from "
                "parallel images with pixels of one size."
            )


def _slice_spacing(geometry: Dataset, steps: np.ndarray, positions: Sequence[np.ndarray]) -> float:
    """From the positions; only a single slice has nothing but its header to tell."""
    if len(positions) == 1:
        return float(geometry.get("SpacingBetweenSlices") or geometry.get("SliceThickness") or 1.0)
    normal = np.cross(*steps.T)
    across = abs(normal @ (positions[-1] - positions[0])) / np.linalg.norm(normal)
    return float(across / (len(positions) - 1))


def _positive(value: Any) -> bool:
    try:
        return float(value) > 0
    except (TypeError, ValueError):
        return False


def _decimal(value: float) -> str:
    return f"{value:.10g}"


def _stand_in(k: int) -> UID:
    """A UID for the frame that is slice k, where frames share the one of their image."""
    return derived_uid(None, "frame of slice", str(k))


def _reference(header: Dataset) -> Dataset:
    """An item that refers to an image."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    return item


def _each_once(source: DicomSource) -> list[Dataset]:
    """The images in the order of the slices; one with several frames is one."""
    return list({str(header.SOPInstanceUID): header for header in source.headers}.values())


def _source_items(seg: Segmentation) -> list[Dataset]:
    """What says of the frames which image they were made from; the frames of different segments share it."""
    groups = seg.PerFrameFunctionalGroupsSequence
    items = [i for group in groups for d in group.DerivationImageSequence for i in d.SourceImageSequence]
    return list({id(item): item for item in items}.values())


def _copy(header: Dataset, keywords: Iterable[str]) -> Dataset:
    """Some attributes in elements of their own, so that the header stays as it is if they are changed."""
    copy = Dataset()
    for keyword in keywords:
        element = header[keyword]
        copy.add_new(element.tag, element.VR, element.value)
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


def _text(header: Dataset, keyword: str) -> str:
    """A value as text; empty where it is missing or cannot be read."""
    try:
        return str(header.get(keyword) or "").strip()
    except Exception:  # whatever may go wrong with a damaged value
        return ""


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
