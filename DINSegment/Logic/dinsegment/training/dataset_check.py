"""What is wrong with a labelled data set, found before a network is trained on it or judged by it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from dinsegment.errors import InputError
from dinsegment.images.reading import itk_warnings_off, read_volume
from dinsegment.images.volume import Volume, check_voxels
from dinsegment.tasks import Task
from dinsegment.training.cases import Case
from dinsegment.training.nifti_floats import count_not_finite

if TYPE_CHECKING:
    from rich.table import Table

SPACING_FACTOR = 3.0
"""A spacing so many times larger or smaller than the data set's median is likely a wrong header."""

SAME_PLACE_MM = 0.1
"""Grids that differ by less differ by rounding."""

MAX_THREADS = 4
"""A thread holds an image and its labels, some hundred megabytes for a CT."""


@dataclass(frozen=True)
class Finding:
    """Something wrong with a data set.

    Attributes:
        level: `error` where training or scores would fail or be wrong, `warning` where somebody should look.
        where: The file, or the split.
        text: What is wrong, and what to do.
    """

    level: Literal["error", "warning"]
    where: str
    text: str


@dataclass
class _Examined:
    """What remains of a case once its voxels are let go."""

    case: Case
    findings: list[Finding] = field(default_factory=list)
    digest: str | None = None
    spacing: np.ndarray | None = None  # mm, ascending: images of one set may lie along different axes
    present: frozenset[int] | None = None  # labels of the task

    def error(self, where: Path, problem: object) -> None:
        self.findings.append(Finding("error", str(where), str(problem)))

    def warn(self, where: Path, problem: str) -> None:
        self.findings.append(Finding("warning", str(where), problem))


def check_cases(
    cases: Sequence[Case],
    task: Task,
    splits: Mapping[str, Sequence[str]] | None = None,
    progress: Callable[[int, Case], None] | None = None,
) -> list[Finding]:
    """Reads every case once and lists what is wrong with it, with the set as a whole and with its splits.

    Args:
        cases: As `find_cases` gives them, those of every patient.
        task: What the labels are for.
        splits: Patients by the split's name, as `read_split` gives them.
        progress: Called with the number of cases read so far and the last of them.

    Returns:
        Findings in the order of the cases, then those of the whole set, then those of the splits; none if all is well.
    """
    examined = []
    # Around all threads: the switch is one for the whole process, and each reading sets it back to what it found.
    with itk_warnings_off(), ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        for number, one in enumerate(pool.map(lambda case: _examine(case, task), cases), start=1):
            examined.append(one)
            if progress:
                progress(number, one.case)
    splits = splits or {}
    findings = [finding for one in examined for finding in one.findings]
    findings += _unusual_spacings(examined)
    findings += _duplicates(examined, splits)
    findings += _missing_segments(examined, task, "The data set", "data set")
    findings += _wrong_splits(examined, splits)
    if not _missing_segments(examined, task, "", ""):  # otherwise no split has it
        for name, patients in splits.items():
            part = [one for one in examined if one.case.patient in patients]
            findings += _missing_segments(part, task, f"The split '{name}'", f"split {name}")
    return findings


def has_errors(findings: Iterable[Finding]) -> bool:
    """Whether one of them is an error."""
    return any(finding.level == "error" for finding in findings)


def format_findings(findings: Sequence[Finding]) -> Table:
    """A table for the terminal, errors first."""
    from rich.table import Table
    from rich.text import Text

    table = Table("", "Where", "What is wrong, and what to do", show_lines=True)
    for column in table.columns:
        column.overflow = "fold"  # a path is not cut
    for level, style in (("error", "bold red"), ("warning", "yellow")):
        for finding in findings:
            if finding.level == level:
                # As Text: names may hold what rich would take for markup.
                table.add_row(Text(level.capitalize(), style), Text(finding.where), Text(finding.text))
    return table


def _examine(case: Case, task: Task) -> _Examined:
    one = _Examined(case)
    volume, truth = _read(one, case.image), _read(one, case.labels)
    if volume is not None:
        one.spacing = np.sort(volume.spacing)
        one.digest = digest_of(volume)
        try:
            check_voxels(volume)
        except InputError as error:
            one.error(case.image, error)
    if volume is not None and truth is not None:
        _compare_grids(one, case, volume, truth)
    if truth is not None:
        _examine_labels(one, truth.array, task)
    return one


def _read(one: _Examined, path: Path) -> Volume | None:
    try:
        volume = read_volume(path)
    except InputError as error:
        one.error(path, error)
        return None
    if lost := count_not_finite(path, volume.array.size):
        one.error(path, f"{lost} of its voxels are NaN or infinite, which are read as 0: replace them.")
    return volume


def digest_of(volume: Volume) -> str:
    """The same for the same voxels, whatever file and header they are in."""
    digest = hashlib.sha256(repr(volume.shape).encode())
    digest.update(np.ascontiguousarray(volume.array, np.float32))
    return digest.hexdigest()


def _compare_grids(one: _Examined, case: Case, volume: Volume, truth: Volume) -> None:
    try:
        distance = case.check_grid(volume, truth)
    except InputError as error:
        one.error(case.labels, error)
        return
    if distance > SAME_PLACE_MM:
        one.warn(
            case.labels,
            f"Its header places voxels up to {distance:.2g} mm from where '{case.image.name}' does, which is less than "
            "half a voxel and is passed over: copy the image's header if both are one grid.",
        )


def _examine_labels(one: _Examined, array: np.ndarray, task: Task) -> None:
    case = one.case
    try:
        labels = case.task_labels(array, task)
    except InputError as error:
        one.error(case.labels, error)
        return
    counts = np.bincount(labels.ravel(), minlength=task.classes)
    one.present = frozenset(np.flatnonzero(counts).tolist())
    missing = [s.name for s in task.segments if s.label not in one.present]
    if len(missing) == len(task.segments):
        one.error(
            case.labels,
            f"It has no voxel of any segment of the task '{task.name}': leave the case out, or find its labelmap.",
        )
    elif missing:
        one.warn(case.labels, f"It has no voxel of {', '.join(missing)}: make sure that the image does not show it.")


def _unusual_spacings(examined: Sequence[_Examined]) -> list[Finding]:
    known = [one for one in examined if one.spacing is not None]
    if not known:
        return []
    median = np.median([one.spacing for one in known], axis=0)
    return [
        Finding(
            "warning",
            str(one.case.image),
            f"Its voxels measure {_millimetres(one.spacing)}, the data set's median is {_millimetres(median)} "
            f"(shortest edge first): more than {SPACING_FACTOR:g} times apart, check the spacing in its header.",
        )
        for one in known
        if np.max(np.abs(np.log(one.spacing / median))) > np.log(SPACING_FACTOR)
    ]


def _millimetres(spacing: np.ndarray) -> str:
    return " x ".join(f"{value:.3g}" for value in spacing) + " mm"


def _duplicates(examined: Sequence[_Examined], splits: Mapping[str, Sequence[str]]) -> list[Finding]:
    first: dict[str, Case] = {}
    findings = []
    for one in examined:
        if one.digest is None:
            continue
        case, earlier = one.case, first.setdefault(one.digest, one.case)
        if earlier is case:
            continue
        text = f"It has exactly the voxels of '{earlier.image}'"
        mine, other = (_splits_of(c.patient, splits) for c in (case, earlier))
        if mine and other and mine != other:
            text += f", but '{case.patient}' is in {mine[0]} and '{earlier.patient}' in {other[0]}"
            findings.append(Finding("error", str(case.image), f"{text}: scores would be too good, remove one of them."))
        else:
            findings.append(Finding("warning", str(case.image), f"{text}: remove one of them, it would count twice."))
    return findings


def _splits_of(patient: str, splits: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"split '{name}'" for name, patients in splits.items() if patient in patients]


def _missing_segments(examined: Sequence[_Examined], task: Task, subject: str, where: str) -> list[Finding]:
    """Segments that none of these cases has; none if no labelmap could be used, which is found already."""
    known = [one.present for one in examined if one.present is not None]
    present = frozenset().union(*known)
    return [
        Finding(
            "error",
            where,
            f"{subject} has no voxel of {segment.name}, which can be neither learned nor judged there: add cases that "
            "have it, or correct which label it is.",
        )
        for segment in task.segments
        if known and segment.label not in present
    ]


def _wrong_splits(examined: Sequence[_Examined], splits: Mapping[str, Sequence[str]]) -> list[Finding]:
    there = {one.case.patient for one in examined}
    findings = []
    for name, patients in splits.items():
        for patient in dict.fromkeys(patients):
            if patient not in there:
                text = f"It names '{patient}', of whom there is no labelled image: correct the name or add the images."
                findings.append(Finding("error", f"split {name}", text))
            others = _splits_of(patient, splits)
            if len(others) > 1 and others[0] == f"split '{name}'":
                text = (
                    f"'{patient}' is in {' and '.join(others)}: scores would be too good, remove it from all but one."
                )
                findings.append(Finding("error", f"split {name}", text))
    return findings
