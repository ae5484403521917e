"""Which folder the results of each input go to."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from dinsegment.files import image_stem
from dinsegment.manifest import MANIFEST, STAGING
from dinsegment.studies.index import Index, absolute, input_of
from dinsegment.studies.study import Study

if TYPE_CHECKING:
    from dinsegment.dicom.read.parts import StudyPart

LONGEST_STEM = 200
"""Bytes of a name of a results folder: file systems take 255."""


def plan_studies(
    inputs: Iterable[Path | tuple[Path, StudyPart | None]],
    output: Path,
    series_uid: str | None = None,
    overwrite: bool = False,
) -> list[Study]:
    """A results folder for each input, named after it, with a number where names meet.

    An input that the output folder knows keeps its folder, whatever else is segmented this time. A folder in which
    something else lies, such as an input, is left alone.

    Args:
        inputs: Image files, or DICOM folders, zip archives or DICOMDIRs; of a folder of studies each with its study.
        output: Gets the folders.
        series_uid: The DICOM series to segment of inputs that have several.
        overwrite: As `Study` has it.
    """
    known: dict[tuple[str, str, str], str] = {input_of(r): folder for folder, r in Index(output).records().items()}
    taken = {folder.casefold() for folder in known.values()}  # not every file system tells cases apart
    studies = []
    for one in inputs:
        path, part = one if isinstance(one, tuple) else (one, None)
        several = part is not None and not part.is_alone
        name = known.pop((absolute(path), *((part.study_uid, part.patient_id) if several else ("", ""))), None)
        if name is None:
            stem = _safe(part.name) if several else _folder_name(path)
            name, number = stem, 2
            while name.casefold() in taken or not _is_free(output / name):
                name, number = f"{stem}_{number}", number + 1
            taken.add(name.casefold())
        studies.append(Study(path, output / name, series_uid, overwrite, part=part))
    return studies


def _is_free(folder: Path) -> bool:
    """Whether results can go there: there is nothing, or only results."""
    try:
        if not os.path.lexists(folder):
            return True
        if folder.is_symlink() or not folder.is_dir():
            return False
        names = [item.name for item in folder.iterdir() if not item.name.startswith(STAGING)]
        return MANIFEST in names or not names
    except OSError:
        return False


def _folder_name(path: Path) -> str:
    """What results of an input are called."""
    try:
        name = path.name if path.is_dir() else image_stem(path)
    except OSError:  # the name is longer than the system allows
        name = path.name
    return _safe(name)


def _safe(name: str) -> str:
    """A name as that of a folder of results can be."""
    stem = re.sub(r"[^\w.-]+", "_", name).strip(".")
    return stem.encode()[:LONGEST_STEM].decode(errors="ignore") or "input"
