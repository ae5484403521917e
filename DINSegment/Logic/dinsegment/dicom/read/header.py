"""The header of a DICOM file: what comes before the pixel data, and where that lies.

Values are taken as they stand in the file. pydicom would convert them to its own types and warn of every one that
breaks a rule, such as the UIDs that an anonymisation left behind; damaged ones would raise errors of any kind.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    SecondaryCaptureImageStorage,
    UID_dictionary,
)

from dinsegment.dicom.read.files import DicomFile, begins_with_meta_header, is_image_name
from dinsegment.errors import InputError, unreadable

UNDEFINED_LENGTH = 0xFFFFFFFF
_PIXEL_DATA, _FLOAT_PIXEL_DATA = 0x7FE00010, (0x7FE00008, 0x7FE00009)
_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}


@dataclass(frozen=True, eq=False)
class Header:
    """A DICOM image without its pixels.

    Attributes:
        file: Where it was read.
        dataset: The data set up to the pixel data.
        transfer_syntax: Transfer Syntax UID.
        offset: Byte in the file at which the pixel data begins; in a deflated file nothing of use.
        length: Bytes of the pixel data, or UNDEFINED_LENGTH.
    """

    file: DicomFile
    dataset: Dataset
    transfer_syntax: str
    offset: int
    length: int

    def text(self, keyword: str) -> str:
        """A value as text, see `text`."""
        return text([self.dataset], keyword)

    def integer(self, keyword: str) -> int | None:
        """A whole number; None where there is none."""
        value = numbers([self.dataset], keyword, 1)
        return None if value is None or value[0] != int(value[0]) else int(value[0])

    @property
    def is_capture(self) -> bool:
        """Whether it is a picture of a screen or of paper, with no place in the patient."""
        classes = set(_storage_classes(self.dataset))
        return classes == {SecondaryCaptureImageStorage} and not self.text("ImagePositionPatient")


def read_header(file: DicomFile) -> Header | None:
    """Reads a header; None for what is no DICOM image: other files, directories, reports, segmentations, doses.

    Raises:
        InputError: An image that is damaged or incomplete, without which a slice would be missing.
    """
    try:
        with file.open() as stream:
            return _read(file, stream)
    except Exception as error:  # pydicom raises whatever it stumbles upon
        raise unreadable(file.path, error) from error


def _read(file: DicomFile, stream: BinaryIO) -> Header | None:
    head = stream.read(132)
    stream.seek(0)
    bare = _is_bare(head)
    if head[128:] != b"DICM" and not bare:
        if is_image_name(file.path):
            raise ValueError("No DICOM.")
        return None
    pixels: list[tuple[str | None, int]] = []
    found_floats: list[BaseTag] = []

    def at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
        if tag == _PIXEL_DATA:
            pixels.append((vr, length))
        found_floats.extend([tag] * (tag in _FLOAT_PIXEL_DATA))
        return tag == _PIXEL_DATA or bool(found_floats)

    dataset = read_partial(stream, stop_when=at_pixels, force=bare)
    dataset.buffer = None  # else every header would keep its file
    if _is_no_image(dataset, bool(pixels)):
        return None
    if found_floats:
        raise InputError(
            f"'{file.path}' has pixels of floating-point numbers, as no MR or CT image has: export it again."
        )
    if not pixels and text([dataset], "PixelDataProviderURL"):
        raise InputError(f"'{file.path}' has its pixels on a server, not in the file: export it with its pixels.")
    if not pixels:
        raise ValueError("It ends before its pixel data.")
    vr, length = pixels[0]
    offset = stream.tell() + (8 if vr is None else 12)
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", "")) or _guess_syntax(dataset)
    _identify(dataset)
    return Header(file, dataset, syntax, offset, length)


def _identify(dataset: Dataset) -> None:
    """Says which instance it is where only the file's meta information does: the same UIDs (DICOM PS3.10, 7.1)."""
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        if not text([dataset], keyword) and (uid := text([dataset.file_meta], f"MediaStorage{keyword}")):
            setattr(dataset, keyword, uid)


def _is_bare(head: bytes) -> bool:
    """Whether it begins without a preamble, as before DICOM PS3.10 had files: with one of the first elements."""
    return begins_with_meta_header(head) or (head[:2] == b"\x08\0" and head[3:4] == b"\0" and head[2] <= 0x18)


def _guess_syntax(dataset: Dataset) -> str:
    """For files that do not tell, of what pydicom found."""
    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _storage_classes(dataset: Dataset) -> tuple[str, str]:
    """What the data set and the file's meta information say it is: the same, unless one of them is damaged."""
    return text([dataset], "SOPClassUID"), text([dataset.file_meta], "MediaStorageSOPClassUID")


def _is_no_image(dataset: Dataset, has_pixels: bool) -> bool:
    """Whether it is surely no image; one without pixels that is not surely something else is a damaged one."""
    classes = {uid for uid in _storage_classes(dataset) if uid}
    if len(classes) != 1:
        return False
    uid = classes.pop()
    if uid not in UID_dictionary:
        # What makers add of their own, such as raw data; or one of the two is missing since the file was cut.
        return not has_pixels and all(_storage_classes(dataset))
    _, kind, _, _, keyword = UID_dictionary[uid]
    # Segmentation, RT Dose and Parametric Map have pixels, but were computed from images.
    return uid == MediaStorageDirectoryStorage or (kind == "SOP Class" and "Image" not in keyword)


def text(places: Sequence[Dataset], keyword: str) -> str:
    """The value of an attribute in the first data set that has it, without padding; "" where none has.

    Bytes that are not UTF-8 are read as Latin-1, the most common of the other sets.
    """
    for _, value, _ in _find(places, keyword):
        if not isinstance(value, bytes):
            many = isinstance(value, Sequence) and not isinstance(value, str)
            return "\\".join(map(str, value)) if many else str(value)
        try:
            return value.decode("utf-8").strip(" \0")
        except UnicodeDecodeError:
            return value.decode("latin-1").strip(" \0")
    return ""


def numbers(places: Sequence[Dataset], keyword: str, count: int) -> list[float] | None:
    """The numbers of an attribute in the first data set that has it, or None unless it has so many, all finite."""
    values: list[float] = []
    for vr, value, little in _find(places, keyword):
        with suppress(ValueError, TypeError, struct.error, OverflowError):
            if not isinstance(value, bytes):
                values = [float(v) for v in (value if isinstance(value, Sequence) else [value])]
            elif code := _BINARY.get(vr):
                size = struct.calcsize(code)
                values = list(struct.unpack(f"{'<' if little else '>'}{len(value) // size}{code}", value))
            else:
                values = [float(word) for word in value.decode("ascii").replace("\0", " ").split("\\")]
    return values if len(values) == count and all(map(math.isfinite, values)) else None


def stored_value(dataset: Dataset, keyword: str) -> int | None:
    """A value of the pixels' own type, which is signed or not as they are; None where there is none.

    Its VR is US or SS by Pixel Representation, and in files often the wrong one of both.
    """
    for _, value, little in _find([dataset], keyword):
        with suppress(ValueError, TypeError, OverflowError, struct.error):
            raw = value if isinstance(value, bytes) else int(value).to_bytes(2, "little", signed=int(value) < 0)
            order = "<" if little or not isinstance(value, bytes) else ">"
            signed = numbers([dataset], "PixelRepresentation", 1) == [1.0]
            return struct.unpack(f"{order}{'h' if signed else 'H'}", raw)[0]
    return None


def items(dataset: Dataset, keyword: str | BaseTag) -> list[Dataset]:
    """The items of a sequence; none where it is missing."""
    element = dataset.get(Tag(keyword))  # asked for a keyword it would give the bare value
    return list(element.value) if element is not None and element.VR == "SQ" and element.value else []


def _find(places: Sequence[Dataset], keyword: str) -> Iterator[tuple[str, object, bool]]:
    """Value representation, value and whether it is little endian, in the first place that has a value."""
    tag = tag_for_keyword(keyword)
    for place in places:
        element = place.get_item(tag) if tag in place else None
        if element is None or element.value in (None, b"", ""):
            continue
        little = element.is_little_endian if isinstance(element, RawDataElement) else True
        # The dictionary knows the type better than a damaged file.
        yield dictionary_VR(tag), element.value, little
        return
