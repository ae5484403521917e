"""The studies in a folder of studies: which files belong to each."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dinsegment.dicom.read.files import DicomFile, files_named, open_files
from dinsegment.dicom.read.header import Header
from dinsegment.dicom.read.headers import read_headers


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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what pydicom says of values that are not by the rules
        with open_files(folder) as files:
            headers = read_headers(folder, files, said.append, failed, alive)
    groups = by_study(headers)
    if len(groups) == 1:
        kept = [] if failed else headers  # else reading it says what is wrong
        (uid, patient), of_study = next(iter(groups.items()))
        names = _names(folder, [*(header.file for header in of_study), *failed])
        return [StudyPart(folder, folder.resolve().name, uid, patient, names, True, kept, tuple(said))], []
    places = {key: {header.file.path.parent for header in of_study} for key, of_study in groups.items()}
    lost: list[Path] = []
    damaged: dict[tuple[str, str], list[Path]] = {}
    for path in failed:
        owners = [key for key, folders in places.items() if path.parent in folders]
        if len(owners) == 1:
            damaged.setdefault(owners[0], []).append(path)
        else:
            lost.append(path)
    parts = _parts(folder, groups, damaged)
    return sorted(parts, key=lambda part: part.name), lost


def by_study(headers: Sequence[Header]) -> dict[tuple[str, str], list[Header]]:
    """Headers by Study Instance UID and Patient ID; those of one series belong together whatever they say."""
    if len({header.text("SeriesInstanceUID") for header in headers}) == 1:
        return {(headers[0].text("StudyInstanceUID"), headers[0].text("PatientID")): list(headers)}
    groups: dict[tuple[str, str], list[Header]] = {}
    for header in headers:
        groups.setdefault((header.text("StudyInstanceUID"), header.text("PatientID")), []).append(header)
    return groups


def _parts(
    folder: Path, groups: dict[tuple[str, str], list[Header]], damaged: dict[tuple[str, str], list[Path]]
) -> list[StudyPart]:
    own = {key: _own_folder(folder, key, groups) for key in groups}
    labels = {key: own[key].name if own[key] is not None else _label(groups[key][0]) for key in groups}
    count = Counter(label.casefold() for label in labels.values())
    used: set[str] = set()
    parts = []
    for key, of_study in groups.items():
        label = labels[key]
        if count[label.casefold()] > 1:
            place = own[key]
            label = "_".join(place.relative_to(folder).parts) if place is not None else f"{label}_{key[0][-12:]}"
        free, number = label, 1
        while free.casefold() in used:
            number += 1
            free = f"{label}_{number}"
        used.add(free.casefold())
        where = own[key] or Path(f"{folder} ({free})")
        names = _names(folder, [*(header.file for header in of_study), *damaged.get(key, [])])
        parts.append(StudyPart(where, free, *key, names, False))
    return parts


def _names(folder: Path, files: Sequence[DicomFile | Path]) -> tuple[str, ...]:
    paths = [file if isinstance(file, Path) else file.path for file in files]
    return tuple(path.relative_to(folder).as_posix() for path in paths)


def _own_folder(folder: Path, key: tuple[str, str], groups: dict[tuple[str, str], list[Header]]) -> Path | None:
    """The folder that holds all of a study and nothing of another; None where there is none."""
    mine = _common(header.file.path.parent for header in groups[key])
    if mine == folder or folder not in mine.parents:
        return None
    others = (header.file.path for other, headers in groups.items() if other != key for header in headers)
    return None if any(mine in path.parents for path in others) else mine


def _common(folders: Iterable[Path]) -> Path:
    """The innermost folder that holds all of these."""
    paths = list(dict.fromkeys(folders))
    common = paths[0]
    for path in paths[1:]:
        while common != path and common not in path.parents:
            common = common.parent
    return common


def _label(header: Header) -> str:
    """Patient and date, as far as the header says them."""
    patient = header.text("PatientID") or header.text("PatientName").replace("^", " ").strip()
    words = [word for word in (patient, header.text("StudyDate")) if word]
    return re.sub(r"[^\w.-]+", "_", "_".join(words)).strip("._") or "study"
