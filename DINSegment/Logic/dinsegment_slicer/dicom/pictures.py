"""Pictures of DICOM series, for `find_stacks`, from what Slicer's DICOM database has noted of their files.

Each question to the database takes some 50 microseconds, and a study has thousands of files: what holds for a series as
a whole is asked of its first file alone, and what neither its first nor its last file says is not asked of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from dinsegment.dicom.read.picture import TAGS, Picture, picture_of
from dinsegment.dicom.read.stack import AXIAL_CINE, CINE, SHORT_AXIS_CINE, Stack
from dinsegment.dicom.read.stacks import find_stacks

OF_EACH_PICTURE = frozenset(
    (
        "ImageType",
        "AcquisitionTime",
        "ContentTime",
        "EchoTime",
        "InversionTime",
        "TriggerTime",
        "NominalCardiacTriggerDelayTime",
        "TemporalPositionIdentifier",
        "InstanceNumber",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "Rows",
        "Columns",
    )
)
"""What differs between the pictures of one series; all else is that of the first one."""

CINE_STACKS = (SHORT_AXIS_CINE, AXIAL_CINE, CINE)
"""Kinds of stacks that one sequence shows well."""

MR_IMAGES = ("1.2.840.10008.5.1.4.1.1.4",)
"""SOP classes of MR images with a file for each picture (DICOM PS3.4 B.5)."""

SOP_CLASS = "0008,0016"


class Headers(Protocol):
    """What is used of Slicer's `ctkDICOMDatabase`."""

    def fileValue(self, fileName: str, tag: str) -> str: ...


def mr_pictures(file_lists: Sequence[Sequence[str]], database: Headers) -> list[Picture]:
    """Pictures of the MR series among some series; their keys are the names of the files.

    Args:
        file_lists: The files of each series, as the database knows them.
        database: Is asked for tags of `TAGS` and for the SOP class.
    """
    return [picture for files in file_lists for picture in _of_series(files, database)]


def _of_series(files: Sequence[str], database: Headers) -> Iterator[Picture]:
    if not files or database.fileValue(files[0], SOP_CLASS) not in MR_IMAGES:
        return
    first = {keyword: database.fileValue(files[0], tag) for keyword, tag in TAGS.items()}
    last = {keyword: database.fileValue(files[-1], TAGS[keyword]) for keyword in OF_EACH_PICTURE}
    asked = [keyword for keyword in OF_EACH_PICTURE if first[keyword] or last[keyword]]
    for file in files:
        own = {keyword: database.fileValue(file, TAGS[keyword]) for keyword in asked}
        yield picture_of(file, texts({**first, **own}))


def texts(values: Mapping[str, str]) -> Callable[[str], str]:
    """Values by keyword, as `picture_of` asks for them."""
    return lambda keyword: values.get(keyword, "")


def stacks_of(pictures: Iterable[Picture]) -> list[Stack]:
    """The stacks of each study that pictures are from."""
    studies: dict[str, list[Picture]] = {}
    for picture in pictures:
        studies.setdefault(picture.study_uid, []).append(picture)
    return [stack for study in studies.values() for stack in find_stacks(study)]


def is_cine_stack(stack: Stack) -> bool:
    """Whether a stack makes up a volume of several slices for each of several phases."""
    complete = not stack.problem and not stack.is_repeat
    return complete and stack.kind in CINE_STACKS and len(stack.slices) > 1 and stack.phases > 1
