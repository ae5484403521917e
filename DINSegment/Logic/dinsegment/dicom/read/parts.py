"""The studies in a folder of studies: which files belong to each."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dinsegment.dicom.read.files import MAX_FILES_OF_STUDIES, files_named, open_files
from dinsegment.dicom.read.header import Header
from dinsegment.dicom.read.headers import each_header, read_headers


@dataclass(frozen=True)
class StudyPart:
    """One study of a folder.

    Attributes:
        where: What messages call it: the folder that holds all of it and nothing else, or the whole folder and a name.
        name: Of its results: that of its own folder, or patient and date.
        study_uid: Study Instance UID.
        patient_id: Patient ID.
        files: Of it, as paths from the folder.
        is_alone: Whether the folder holds no other study.
        headers: Of its files, for whoever comes first: they are large, so that who has read them empties the list.
        said: Sentences for the user about how its files were read.
    """

    where: Path
    name: str
    study_uid: str
    patient_id: str
    files: tuple[str, ...]
    is_alone: bool
    headers: list[Header] = field(default_factory=list, compare=False, repr=False)
    said: tuple[str, ...] = ()

    def __reduce__(self) -> tuple:
        """Another process reads the headers itself."""
        return StudyPart, (
            self.where, self.name, self.study_uid, self.patient_id, self.files, self.is_alone, [], self.said,
        )  # fmt: skip

    def take_headers(self, folder: Path) -> list[Header]:
        """The headers of its files, those that are there or read now.

        Raises:
            InputError: A file is damaged, or no longer there.
        """
        found = list(self.headers)
        self.headers.clear()
        return found or read_headers(self.where, files_named(folder, self.files), lambda _sentence: None)


Key = tuple[str, str]
"""Study Instance UID and Patient ID."""


@dataclass(frozen=True)
class _File:
    """What is kept of a file among those of many studies."""

    path: Path
    key: Key
    series_uid: str
    label: str
    is_capture: bool


def split_studies(
    folder: Path, alive: Callable[[int, int], object] = lambda _done, _of: None
) -> tuple[list[StudyPart], list[Path]]:
    """The studies in a folder, one for each patient and study, in the order of their names.

    The headers of all files are read, once. Those of the only study are kept for reading it; of many they would take
    too much memory.

    Args:
        folder: Where they are; files at any depth count.
        alive: Called with how many files have been looked at, of how many.

    Returns:
        The studies, and files that are damaged and belong to none of them.

    Raises:
        InputError: There are no DICOM images, or the folder cannot be looked through.
    """
    said: list[str] = []
    failed: list[Path] = []
    kept: list[Header] = []
    found: list[_File] = []
    keys: set[Key] = set()
    series: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what pydicom says of values that are not by the rules
        with open_files(folder, MAX_FILES_OF_STUDIES) as files:
            for header in each_header(folder, files, said.append, failed, alive):
                found.append(_file_of(header))
                keys.add(found[-1].key)
                series.add(found[-1].series_uid)
                if len(keys) > 1 and len(series) > 1:
                    kept.clear()
                else:
                    kept.append(header)
    found = [file for file in found if not file.is_capture] or found
    groups: dict[Key, list[_File]] = {}
    for file in found:
        groups.setdefault(file.key, []).append(file)
    if len(groups) > 1 and len({file.series_uid for file in found}) > 1:
        return _parts(folder, groups, failed)
    # If some are damaged, reading the study says what is wrong.
    whole = len(kept) >= len(found) and not failed
    headers = ([header for header in kept if not header.is_capture] or kept) if whole else []
    names = _names(folder, [*(file.path for file in found), *failed])
    return [StudyPart(folder, folder.resolve().name, *found[0].key, names, True, headers, tuple(said))], []


def _file_of(header: Header) -> _File:
    """What is kept of a file; patient and date as its label, as far as the header says them."""
    patient = header.text("PatientID") or header.text("PatientName").replace("^", " ").strip()
    words = "_".join(word for word in (patient, header.text("StudyDate")) if word)
    return _File(
        header.file.path,
        key_of(header),
        header.text("SeriesInstanceUID"),
        re.sub(r"[^\w.-]+", "_", words).strip("._") or "study",
        header.is_capture,
    )


def key_of(header: Header) -> Key:
    """Which study it is of."""
    return header.text("StudyInstanceUID"), header.text("PatientID")


def by_study(headers: Sequence[Header]) -> dict[Key, list[Header]]:
    """Headers by study; those of one series belong together whatever they say."""
    if len({header.text("SeriesInstanceUID") for header in headers}) == 1:
        return {key_of(headers[0]): list(headers)}
    groups: dict[Key, list[Header]] = {}
    for header in headers:
        groups.setdefault(key_of(header), []).append(header)
    return groups


def _parts(folder: Path, groups: dict[Key, list[_File]], failed: Sequence[Path]) -> tuple[list[StudyPart], list[Path]]:
    """The studies by name, and the damaged files that belong to none: that lie beside files of none or of several."""
    owners: dict[Path, set[Key]] = {}
    for key, files in groups.items():
        for place in {file.path.parent for file in files}:
            for above in (place, *place.parents):
                owners.setdefault(above, set()).add(key)
                if above == folder:
                    break
    beside: dict[Path, set[Key]] = {}
    for key, files in groups.items():
        for file in files:
            beside.setdefault(file.path.parent, set()).add(key)
    damaged: dict[Key, list[Path]] = {}
    lost: list[Path] = []
    for path in failed:
        if len(beside.get(path.parent, ())) == 1:
            damaged.setdefault(next(iter(beside[path.parent])), []).append(path)
        else:
            lost.append(path)
    own = {key: _own_folder(folder, files, owners) for key, files in groups.items()}
    names = _free_names(folder, {key: own[key] or files[0].label for key, files in groups.items()})
    parts = [
        StudyPart(
            own[key] or Path(f"{folder} ({names[key]})"),
            names[key],
            *key,
            _names(folder, [*(file.path for file in files), *damaged.get(key, [])]),
            False,
        )
        for key, files in groups.items()
    ]
    return sorted(parts, key=lambda part: part.name), lost


def _own_folder(folder: Path, files: Sequence[_File], owners: dict[Path, set[Key]]) -> Path | None:
    """The folder that holds all files of a study and nothing of another; None where there is none."""
    mine = _common({file.path.parent for file in files})
    return mine if mine != folder and folder in mine.parents and len(owners[mine]) == 1 else None


def _free_names(folder: Path, labels: dict[Key, Path | str]) -> dict[Key, str]:
    """A name for each study: of its folder, or its label; what is called the same gets all of its path, or a number."""
    short = {key: label.name if isinstance(label, Path) else label for key, label in labels.items()}
    count = Counter(name.casefold() for name in short.values())
    names: dict[Key, str] = {}
    used: set[str] = set()
    for key, label in labels.items():
        name = short[key]
        if count[name.casefold()] > 1 and isinstance(label, Path):
            name = "_".join(label.relative_to(folder).parts)
        number, free = 1, name
        while free.casefold() in used:
            number += 1
            free = f"{name}_{number}"
        used.add(free.casefold())
        names[key] = free
    return names


def _names(folder: Path, paths: Iterable[Path]) -> tuple[str, ...]:
    return tuple(path.relative_to(folder).as_posix() for path in paths)


def _common(folders: Iterable[Path]) -> Path:
    """The innermost folder that holds all of these."""
    first, *others = folders
    for path in others:
        while first != path and first not in path.parents:
            first = first.parent
    return first
