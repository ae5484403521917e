"""A finding: one thing that looks wrong with an image or a result, and where to look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dinsegment.images.slices import Plane, SliceStack
from dinsegment.images.volume import Volume

RUNS = 3
"""Longer lists of slices nobody reads."""


@dataclass(frozen=True)
class Finding:
    """One thing that looks wrong.

    Attributes:
        text: A whole sentence for a clinician: what is wrong, in which slice, and what to do.
        place: What to look at, the centre of the doubtful part in the slice to look at, in mm in RAS; None if it is
            about the whole image.
        segment: Label of what it is about, of the first where there are several; None if it is about the image.
    """

    text: str
    place: tuple[float, float, float] | None = None
    segment: int | None = None

    def to_dict(self, volume: Volume, plane: Plane) -> dict[str, Any]:
        """As JSON takes it: text, slice (`slice_number`), ras and segment; `volume` is the image it is about."""
        return {
            "text": self.text,
            "slice": None if self.place is None else slice_number(volume, self.place, plane),
            "ras": None if self.place is None else list(self.place),
            "segment": self.segment,
        }


def ras_of(volume: Volume, index: tuple[float, float, float] | np.ndarray) -> tuple[float, float, float]:
    """The place in mm in RAS of a voxel (k, j, i), which may lie between the grid's."""
    k, j, i = (float(n) for n in index)
    r, a, s, _ = volume.ijk_to_ras @ (i, j, k, 1.0)
    return float(r), float(a), float(s)


def slice_number(volume: Volume, place: tuple[float, float, float], plane: Plane) -> int:
    """The number, counted from 1 in the image's order, of the slice of that plane in which a place lies."""
    axis = SliceStack.in_plane(volume, plane).axis
    index = np.linalg.solve(volume.ijk_to_ras, (*place, 1.0))[2 - axis]
    return int(np.clip(round(float(index)), 0, volume.shape[axis] - 1)) + 1


def slices_text(numbers: Iterable[int], worst: int) -> str:
    """Slice numbers in words: `slice 3`, `slices 3 and 4`, `slices 3 to 7 and 9`; of many, the one to look at."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    if len(runs) > RUNS:
        return f"slices between {runs[0][0]} and {runs[-1][-1]}, most in slice {worst}"
    parts = []
    for run in runs:
        parts += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else [str(number) for number in run]
    if len(runs) == len(runs[0]) == 1:
        return f"slice {parts[0]}"
    return f"slices {listed(parts)}" + (f", most in slice {worst}" if sum(map(len, runs)) > RUNS else "")


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
