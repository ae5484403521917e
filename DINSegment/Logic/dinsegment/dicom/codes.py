"""Coded concepts and colours of segments, between `tasks.Code` and DICOM data sets."""

from __future__ import annotations

from highdicom.color import CIELabColor
from highdicom.sr import CodedConcept
from pydicom import Dataset

from dinsegment.tasks import Code

ARTIFICIAL_INTELLIGENCE = Code("DCM", "123110", "Artificial Intelligence")
"""Algorithm family of a network (DICOM PS3.16, CID 7162)."""


NO_UNITS = Code("UCUM", "1", "no units")
"""Unit of a ratio or a probability (DICOM PS3.16, CID 82)."""


def to_concept(code: Code) -> CodedConcept:
    """A code as an item of a code sequence (DICOM PS3.3, section 8)."""
    return CodedConcept(code.value, code.scheme, code.meaning)


def from_item(item: Dataset) -> Code:
    """The code in an item of a code sequence; a value longer than 16 characters or a URN has its own attribute."""
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or ""
    return Code(str(item.get("CodingSchemeDesignator", "")), str(value), str(item.get("CodeMeaning", "")))


def from_sequence(dataset: Dataset, keyword: str) -> Code | None:
    """The code in the first item of a sequence, or None where the data set lacks it."""
    items = dataset.get(keyword)
    return from_item(items[0]) if items else None


def to_cielab(color: tuple[int, int, int]) -> CIELabColor:
    """Red, green, blue in 0..255 as Recommended Display CIELab Value (DICOM PS3.3 C.10.7.1.1)."""
    return CIELabColor.from_rgb(*color)
