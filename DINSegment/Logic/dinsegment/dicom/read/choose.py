"""Which stack of a study is read: the one that was asked for, or the only one that a task can use."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from dinsegment.dicom.read.header import Header
from dinsegment.dicom.read.kinds import LEAST_SLICES, says
from dinsegment.dicom.read.placing import ranges
from dinsegment.dicom.read.sorting import list_series, series_of
from dinsegment.dicom.read.stack import CT_OVER_TIME, CT_PROJECTION, LOCALIZER, Stack
from dinsegment.dicom.read.study import stacks_of
from dinsegment.errors import InputError
from dinsegment.tasks import Task

BEST = "best"
"""Asks for the stack that would be proposed."""

THICKNESSES_MM = (1.0, 5.0)
"""Slices of a CT that organs are segmented in: thinner ones are noisy, thicker ones blurred."""

USUAL_THICKNESS_MM = 2.5

_SHARP_WORDS = r"lung|lunge|bone|knochen|os|osseux|poumon|sharp|edge|yc|yd|ye"
_PORTAL_VENOUS = r"portal\w*|ven\w*|pv|pvp|portalven\w*|7[0-9] ?s|80 ?s"
_OTHER_PHASES = r"art\w*|native|nativ|non ?contrast|without|plain|delayed|late|spaet|urographic|unenhanced|ohne"
_REAL_TIME_WORDS = r"real ?time\w*|rt|echtzeit"
_NAMED = 8
"""So many stacks are named in a message."""


def usable(stack: Stack, task: Task) -> bool:
    """Whether a task can be done on a stack without being told to: it is of its kind, complete, and no repetition."""
    return of_kind(stack, task) and not stack.problem and not stack.is_repeat and len(stack.slices) >= LEAST_SLICES


def of_kind(stack: Stack, task: Task) -> bool:
    """Whether a stack is what a task is done on."""
    if task.stacks:
        return stack.kind in task.stacks
    return stack.modality == task.modality and stack.kind not in (LOCALIZER, CT_PROJECTION, CT_OVER_TIME)


def candidates(stacks: Sequence[Stack], task: Task) -> list[Stack]:
    """The stacks that a task can use, of the kind that it prefers; the one to be proposed comes first.

    Of a heart, one that has fewer than half as many slices as another does not count beside it.
    """
    good = [stack for stack in stacks if usable(stack, task)]
    if task.stacks and good:
        best = min(task.stacks.index(stack.kind) for stack in good)
        good = [stack for stack in good if task.stacks.index(stack.kind) == best]
        most = max(len(stack.slices) for stack in good)
        good = [stack for stack in good if 2 * len(stack.slices) >= most]
    return sorted(good, key=_rank, reverse=True)


def _rank(stack: Stack) -> tuple:
    """By which the best of several is proposed: of CT the soft kernel, usual slices and the portal venous phase."""
    words = _words(stack)
    extent = len(stack.slices) * stack.spacing_mm[0]
    if stack.modality != "CT":
        return not says(words, _REAL_TIME_WORDS), len(stack.slices), stack.phases
    contrast = says(words, _PORTAL_VENOUS) - says(words, _OTHER_PHASES)
    distance = -abs((stack.thickness_mm or stack.spacing_mm[0]) - USUAL_THICKNESS_MM)
    return is_soft(stack), is_usual(stack), contrast, round(extent, -2), distance, extent


def _words(stack: Stack) -> str:
    names = " ".join(series.description for series in stack.series)
    return " " + re.sub(r"[^a-z0-9]+", " ", names.lower()).strip() + " "


def is_soft(stack: Stack) -> bool:
    """Whether the kernel of a CT is one for soft tissue, as far as its name or the series' description tells.

    Siemens numbers its kernels by sharpness (B30f, Br40, I31f; from 50 on they are for lungs and bones), Canon by use
    (FC01 to FC29 for the body), GE and Philips name them.
    """
    kernel = stack.kernel.lower()
    if says(_words(stack), _SHARP_WORDS) or re.search(r"lung|bone|edge|sharp|detail|ultra", kernel):
        return False
    if siemens := re.match(r"([a-z]{1,2})(\d{2})", kernel):
        letters, number = siemens.group(1), int(siemens.group(2))
        return number < (30 if letters == "fc" else 50)
    return True


def is_usual(stack: Stack) -> bool:
    """Whether the slices of a CT are as thick as those that organs are segmented in."""
    thickness = stack.thickness_mm or stack.spacing_mm[0]
    return THICKNESSES_MM[0] <= thickness <= THICKNESSES_MM[1]


def choose_stack(
    path: Path, headers: Sequence[Header], wanted: str | None, task: Task | None, warn: Callable[[str], None]
) -> Stack:
    """The stack to read.

    Args:
        path: Where the images are, for messages.
        headers: Of all of them.
        wanted: What was asked for: the name of a stack, UIDs of series with commas between them, or `BEST`.
        task: What is to be segmented.
        warn: Called with a sentence that says what was taken and what was not.

    Raises:
        InputError: What was asked for is not there, or nothing was and several stacks are possible, or none.
    """
    by_uid = series_of(headers)
    if wanted is not None:
        return _wanted(path, by_uid, wanted, task, warn)
    stacks = stacks_of(headers)
    if task is None:
        if len(stacks) == 1 and not stacks[0].problem:
            return stacks[0]
        raise InputError(
            f"'{path}' has {len(by_uid)} DICOM series, choose one of them with --series UID: "
            f"{list_series(by_uid)}.{_together(stacks)}"
        )
    return _for_task(path, stacks, len(by_uid), task, warn)


def _together(stacks: Sequence[Stack]) -> str:
    """What series make up together, as a sentence that follows another; "" if each stands alone."""
    joined = [stack for stack in stacks if len(stack.series) > 1]
    return f" Together they make up {listed(joined)}." if joined else ""


def _wanted(
    path: Path, by_uid: dict[str, list[Header]], wanted: str, task: Task | None, warn: Callable[[str], None]
) -> Stack:
    stacks = stacks_of([header for headers in by_uid.values() for header in headers])
    named = [stack for stack in stacks if stack.name.casefold() == wanted.strip().casefold()]
    if named:
        return named[0]
    if wanted == BEST and task is not None:
        good = candidates(stacks, task)
        if good:
            left_out(path, good[0], stacks, warn)
            return good[0]
        raise _none(path, stacks, len(by_uid), task)
    uids = [uid.strip() for uid in wanted.split(",") if uid.strip()]
    unknown = [uid for uid in uids if uid not in by_uid]
    if unknown or not uids:
        raise InputError(
            f"'{path}' has no DICOM series {', '.join(unknown) or wanted}, choose one that it has: "
            f"{list_series(by_uid)}.{_together(stacks)}"
        )
    chosen = stacks_of([header for uid in dict.fromkeys(uids) for header in by_uid[uid]])
    good = candidates(chosen, task) if task is not None else []
    if len(chosen) == 1 or len(good) == 1:
        found = (good or chosen)[0]
        if len(chosen) > 1:
            left_out(path, found, chosen, warn)
        return found
    raise InputError(
        f"The DICOM series chosen of '{path}' make up no one stack but {listed(chosen)}: choose one of these with "
        "--series NAME."
    )


def _for_task(path: Path, stacks: Sequence[Stack], series: int, task: Task, warn: Callable[[str], None]) -> Stack:
    good = candidates(stacks, task)
    if not good:
        raise _none(path, stacks, series, task)
    fit = [stack for stack in good if stack.modality != "CT" or (is_soft(stack) and is_usual(stack))]
    if len(good) == 1 or len(fit) == 1:
        found = (fit or good)[0]
        left_out(path, found, stacks, warn)
        return found
    raise InputError(
        f"'{path}' has {len(good)} stacks that are {task.images}: {listed(good)}. Choose one of them with --series "
        f"NAME; '{good[0].name}' is proposed, which --series {BEST} takes."
    )


def _none(path: Path, stacks: Sequence[Stack], series: int, task: Task) -> InputError:
    bad = [stack for stack in stacks if of_kind(stack, task) and stack.problem and len(stack.slices) >= LEAST_SLICES]
    if bad:
        return InputError(
            f"'{bad[0].name}' of '{path}' cannot be read as a volume, {bad[0].problem}: export the complete "
            "study again, or choose another stack with --series."
        )
    few = [stack for stack in stacks if of_kind(stack, task) and len(stack.slices) < LEAST_SLICES]
    if few and task.stacks:
        return InputError(
            f"'{path}' has no {LEAST_SLICES} slices that make up {task.images}, only {listed(few)}: export the "
            "complete study again."
        )
    largest = sorted(stacks, key=lambda stack: len(stack.keys), reverse=True)
    return InputError(
        f"'{path}' has {series} DICOM series, none of which is {task.images}: {listed(largest)}. Choose one with "
        "--series NAME if it is."
    )


def left_out(path: Path, chosen: Stack, stacks: Sequence[Stack], warn: Callable[[str], None]) -> None:
    """Says which stack was taken, and which others were not."""
    others = [stack for stack in stacks if stack is not chosen]
    if others:
        warn(f"Of '{path}' {describe(chosen)} is read; not read: {listed(others)}.")


def listed(stacks: Sequence[Stack]) -> str:
    """Stacks in words, the first of them by name."""
    shown = ", ".join(describe(stack) for stack in stacks[:_NAMED])
    more = len(stacks) - _NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def describe(stack: Stack) -> str:
    """A stack in words: its name, what it is, how large it is and of which series."""
    kind = "" if stack.name.startswith(stack.kind) else f"{stack.kind}, "
    return f"'{stack.name}' ({kind}{size_of(stack)}, {series_words(stack)})"


def size_of(stack: Stack) -> str:
    """How many slices and phases, or images, it has."""
    if not stack.slices:
        return f"{len(stack.keys)} image{'s' * (len(stack.keys) != 1)}"
    slices = f"{len(stack.slices)} slice{'s' * (len(stack.slices) != 1)}"
    return f"{slices} x {stack.phases} phases" if stack.phases > 1 else slices


def series_words(stack: Stack) -> str:
    """The numbers of its series, those that follow one another as a range."""
    numbers = sorted({series.number for series in stack.series if series.number is not None})
    if not numbers:
        return f"series {stack.series[0].uid}" if len(stack.series) == 1 else f"{len(stack.series)} series"
    return f"series {ranges(numbers)}"
