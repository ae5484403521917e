"""The frames of one series, or of a stack from several, by phase and slice, and the grid that they lie on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dinsegment.dicom.read.choose import left_out, usable
from dinsegment.dicom.read.frames import Frame, frames_of
from dinsegment.dicom.read.header import Header
from dinsegment.dicom.read.pixels import check_pixels
from dinsegment.dicom.read.sorting import check_alike, choose_component, grid, group_slices, order_phases
from dinsegment.dicom.read.stack import Stack
from dinsegment.dicom.read.study import stacks_of
from dinsegment.errors import InputError
from dinsegment.tasks import Task


@dataclass(frozen=True, eq=False)
class Arranged:
    """Frames on a grid.

    Attributes:
        phases: The slices of each phase.
        ijk_to_ras: 4x4, from (i, j, k, 1) to millimetres in RAS.
        shape: Voxels (k, j, i) of each phase.
        offsets: Row and column of the grid at which the first pixel of each slice lies; None where all are the grid.
    """

    phases: list[list[Frame]]
    ijk_to_ras: np.ndarray
    shape: tuple[int, int, int]
    offsets: tuple[tuple[int, int], ...] | None = None


def arrange_series(path: Path, headers: Sequence[Header], task: Task | None, warn: Callable[[str], None]) -> Arranged:
    """All images of one series.

    Where they make up no volume as they are, but the one stack that a task needs is among them, as in a series with
    short-axis and long-axis slices, or one whose slices were moved by breath-holds, that is taken.

    Raises:
        InputError: They make up no volume.
    """
    said: list[str] = []
    try:
        arranged = _plain(path, [frame for header in headers for frame in frames_of(header)], said.append)
    except InputError:
        stacks = stacks_of(headers)
        good = [stack for stack in stacks if task is not None and task.modality == "MR" and usable(stack, task)]
        if len(good) != 1:
            raise
        left_out(path, good[0], stacks, warn)
        return arrange_stack(path, good[0], warn)
    for sentence in said:
        warn(sentence)
    return arranged


def arrange_stack(path: Path, stack: Stack, warn: Callable[[str], None]) -> Arranged:
    """The pictures of a stack.

    Raises:
        InputError: They make up no volume.
    """
    what = f"'{stack.name}' of '{path}'"
    for key in stack.keys:
        if isinstance(key, Header):
            frames_of(key)  # says why it is no slice of a volume
    if len(stack.series) == 1:
        said: list[str] = []
        try:
            arranged = _plain(path, list(stack.keys), said.append)
        except InputError:
            if stack.problem or not stack.slices:
                raise
        else:
            for sentence in said:
                warn(sentence)
            return arranged
    if stack.problem or not stack.slices:
        raise InputError(f"{what} cannot be read as a volume, {stack.problem}: export the complete study again.")
    phases = [[one.keys[phase] for one in stack.slices] for phase in range(stack.phases)]
    frames = list(dict.fromkeys(frame for phase in phases for frame in phase))
    for header in dict.fromkeys(frame.header for frame in frames):
        check_pixels(header)
    if len({frame.is_inverted for frame in frames}) > 1:
        raise InputError(f"{what} mixes bright and dark as what is large: export its images again.")
    for series in stack.series:
        of_series = [frame for frame in frames if frame.header.text("SeriesInstanceUID") == series.uid]
        if len({frame.rescaling for frame in of_series}) > 1:
            raise InputError(f"{what} mixes rescaled and raw pixels in series {series}: export that series again.")
    for sentence in stack.warnings:
        warn(f"{what}: {sentence[0].lower()}{sentence[1:]}")
    plain = all(one.offset == (0, 0) and one.size == stack.shape[1:] for one in stack.slices)
    offsets = None if plain else tuple(one.offset for one in stack.slices)
    return Arranged(phases, stack.ijk_to_ras, stack.shape, offsets)


def _plain(path: Path, frames: list[Frame], warn: Callable[[str], None]) -> Arranged:
    """Frames that all lie on one grid, each slice with as many phases."""
    frames = choose_component(path, frames, warn)
    for header in dict.fromkeys(frame.header for frame in frames):
        check_pixels(header)
    check_alike(path, frames)
    slices = group_slices(frames)
    ijk_to_ras = grid(path, slices, warn)
    phases = order_phases(path, slices)
    return Arranged(phases, ijk_to_ras, (len(slices), *frames[0].size))
