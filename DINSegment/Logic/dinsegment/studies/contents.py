"""What is in DICOM studies: a table of their stacks, for people and for programs."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinsegment.dicom.read.choose import candidates, of_kind, ranges, size_of, usable
from dinsegment.dicom.read.files import open_files
from dinsegment.dicom.read.headers import read_headers, without_copies
from dinsegment.dicom.read.parts import by_study
from dinsegment.dicom.read.stack import OTHER, Stack
from dinsegment.dicom.read.study import stacks_of
from dinsegment.errors import damaged, printable
from dinsegment.images.reading import check_there
from dinsegment.tasks import TASKS

if TYPE_CHECKING:
    from rich.table import Table

_MODALITIES = {task.modality for task in TASKS.values()}


@dataclass(frozen=True)
class StudyContents:
    """What one study has.

    Attributes:
        patient_id: Patient ID.
        study_uid: Study Instance UID.
        date: Study Date, YYYYMMDD.
        description: Study Description.
        stacks: In the order of their series.
        uses: For each stack the tasks that it can be used for, and of those with several such stacks whether this is
            the one to be proposed.
    """

    patient_id: str
    study_uid: str
    date: str
    description: str
    stacks: tuple[Stack, ...]
    uses: tuple[dict[str, bool], ...]


def read_contents(
    path: Path,
    alive: Callable[[int, int], object] = lambda _done, _of: None,
    warn: Callable[[str], None] = lambda _sentence: None,
) -> list[StudyContents]:
    """The studies in a folder, a zip archive, a DICOMDIR or a file, by patient and date.

    Args:
        path: Where they are.
        alive: Called with how many files have been looked at, of how many.
        warn: Called with a sentence for what was passed over.

    Raises:
        InputError: There are no DICOM images that can be read.
    """
    check_there(path)
    failed: list[Path] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what pydicom says of values that are not by the rules
        with open_files(path) as files:
            headers = without_copies(read_headers(path, files, warn, alive, failed), warn)
        for file in failed:
            warn(f"{damaged(file)} It is not in the list.")
        found = []
        for (uid, patient), of_study in by_study(headers).items():
            stacks = stacks_of(of_study)
            first = of_study[0]
            found.append(
                StudyContents(
                    patient, uid, first.text("StudyDate"), first.text("StudyDescription"), tuple(stacks), _uses(stacks)
                )
            )
    return sorted(found, key=lambda study: (study.patient_id, study.date, study.study_uid))


def _uses(stacks: list[Stack]) -> tuple[dict[str, bool], ...]:
    uses: dict[int, dict[str, bool]] = {id(stack): {} for stack in stacks}
    for name, task in TASKS.items():
        first = next(iter(candidates(stacks, task)), None)
        several = sum(usable(stack, task) for stack in stacks) > 1
        for stack in stacks:
            if usable(stack, task):
                uses[id(stack)][name] = several and stack is first
    return tuple(uses[id(stack)] for stack in stacks)


def contents_table(study: StudyContents) -> Table:
    """The table of a study."""
    from rich.markup import escape
    from rich.table import Table

    words = [study.patient_id or "no patient ID", study.date, study.description]
    title = escape(printable(", ".join(word for word in words if word)))
    table = Table("Series", "Name", "Kind", "Slices x phases", "Spacing (mm)", "For", title=title)
    for stack, uses in zip(study.stacks, study.uses, strict=True):
        numbers = sorted({series.number for series in stack.series if series.number is not None})
        table.add_row(
            ranges(numbers),
            escape(printable(stack.name)),
            stack.kind + (", repeated later" if stack.is_repeat else ""),
            size_of(stack).removesuffix(" phases").replace(" slices", "").replace(" slice", ""),
            " x ".join(f"{value:.3g}" for value in stack.spacing_mm) if stack.slices else "",
            ", ".join(f"{task} (proposed)" if proposed else task for task, proposed in uses.items()) or _why_not(stack),
        )
    return table


def remarks(study: StudyContents) -> list[str]:
    """What is to be said of stacks that a task could use: what had to be decided, or why one makes up no volume.

    Of images whose kind is not known, since they do not say where they lie, nobody knows whether one could.
    """
    said = []
    for stack in study.stacks:
        if not stack.problem:  # else nothing is made of what was decided
            said += [f"'{stack.name}': {sentence[0].lower()}{sentence[1:]}" for sentence in stack.warnings]
        if stack.problem and not _is_of_no_task(stack):
            said.append(f"'{stack.name}' makes up no volume: {stack.problem}.")
        elif stack.kind == OTHER and stack.problem and stack.modality in _MODALITIES:
            said.append(f"It is not known what '{stack.name}' shows, and it makes up no volume: {stack.problem}.")
        elif stack.kind == OTHER and not stack.modality:
            said.append(f"It is not known what '{stack.name}' shows: its images do not say their modality.")
    return said


def _is_of_no_task(stack: Stack) -> bool:
    return stack.is_repeat or not any(of_kind(stack, task) for task in TASKS.values())


def _why_not(stack: Stack) -> str:
    """Why a stack that is of a task's kind is of no use for it."""
    if _is_of_no_task(stack):
        return ""
    return "no: see below" if stack.problem else "no: too few slices"


def contents_json(studies: list[StudyContents]) -> str:
    """The same for programs."""
    content: list[dict[str, Any]] = [
        {
            "patient_id": study.patient_id,
            "study_uid": study.study_uid,
            "date": study.date,
            "description": study.description,
            "stacks": [
                {
                    "name": stack.name,
                    "kind": stack.kind,
                    "modality": stack.modality,
                    "slices": len(stack.slices),
                    "phases": stack.phases,
                    "images": len(stack.keys),
                    "spacing_mm": list(stack.spacing_mm) if stack.slices else None,
                    "times_ms": list(stack.times_ms),
                    "repeated_later": stack.is_repeat,
                    "series": [
                        {"uid": series.uid, "number": series.number, "description": series.description}
                        for series in stack.series
                    ],
                    "tasks": list(uses),
                    "proposed_for": [task for task, proposed in uses.items() if proposed],
                    "warnings": list(stack.warnings),
                    "problem": stack.problem,
                }
                for stack, uses in zip(study.stacks, study.uses, strict=True)
            ],
        }
        for study in studies
    ]
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
