"""A stack: parallel slices of a study that make up one volume for each phase, from one series or from many."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

SHORT_AXIS_CINE, SHORT_AXIS = "short-axis cine", "short-axis stack"
LONG_AXIS_CINE, AXIAL_CINE, CINE = "long-axis cine", "axial cine", "cine"
LOCALIZER, LATE_ENHANCEMENT, PERFUSION, FLOW = "localizer", "late enhancement", "perfusion", "flow"
T1_MAP, T2_MAP, INVERSION_SCOUT, TAGGING = "T1 map", "T2 map", "inversion-time scout", "tagging"
PHASE_IMAGES, MR = "phase images", "MR"
AXIAL_CT, CORONAL_CT, SAGITTAL_CT, OBLIQUE_CT, CT_PROJECTION, CT_OVER_TIME = (
    *("axial CT", "coronal CT", "sagittal CT", "oblique CT", "CT projection", "CT over time"),
)
OTHER = "other"


@dataclass(frozen=True)
class SeriesName:
    """A series that a stack takes pictures from."""

    uid: str
    number: int | None
    description: str

    def __str__(self) -> str:
        number = "without a number" if self.number is None else str(self.number)
        return f"{number} '{self.description}'" if self.description else number


@dataclass(frozen=True, eq=False)
class StackSlice:
    """One slice of a stack.

    Attributes:
        keys: Of its pictures (`Picture.key`), one for each phase of the stack, in the order of time. A picture is
            there twice where the slice has fewer phases than the others.
        times_ms: Of each of them, milliseconds after the R wave; None where the header does not say.
        series: Where they come from.
        position: Centre of the first pixel as the header says it, millimetres in LPS, (3,).
        size: Rows and columns of its pictures.
        offset: Row and column of the stack's grid at which the first pixel lies: whole pixels, below zero where the
            picture is cropped. Not (0, 0) where a breath-hold has moved the slice, or where matrices differ.
        shift_mm: How far the first pixel lies from that of the grid along the columns' and along the rows' direction,
            exactly as the headers say it.
    """

    keys: tuple[Hashable, ...]
    times_ms: tuple[float | None, ...]
    series: SeriesName
    position: np.ndarray
    size: tuple[int, int]
    offset: tuple[int, int] = (0, 0)
    shift_mm: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Stack:
    """Parallel slices that make up one volume for each phase.

    Attributes:
        name: By which it is chosen (`--series NAME`); no other stack of the study has it.
        kind: What it is, such as `short-axis cine`, `localizer` or `axial CT`.
        modality: `MR`, `CT`.
        slices: In the order of k, along the normal of the slices (the cross product of the directions of a row and of
            a column); none where the pictures cannot be slices of a volume.
        times_ms: Of each phase, milliseconds after the R wave (the median over the slices); None where the headers do
            not say. `phases` counts them.
        shape: Voxels of each phase: (k, j, i).
        ijk_to_ras: 4x4 of the grid that all slices are placed on, from (i, j, k, 1) to millimetres in RAS.
        series: The series that it takes pictures from.
        warnings: Sentences for the user: which slices were repeated, moved, cropped, or have fewer phases.
        problem: Why it makes up no volume, one sentence that says what is wrong; "" if it does.
        is_repeat: Whether it holds what is left out of another stack since it was acquired again.
        keys: All pictures of it, also those that no slice takes.
        kernel: Convolution kernel of CT.
        thickness_mm: Slice thickness, as the header says it.
    """

    name: str
    kind: str
    modality: str
    slices: tuple[StackSlice, ...]
    times_ms: tuple[float | None, ...]
    shape: tuple[int, int, int]
    ijk_to_ras: np.ndarray
    series: tuple[SeriesName, ...]
    warnings: tuple[str, ...] = ()
    problem: str = ""
    is_repeat: bool = False
    keys: tuple[Hashable, ...] = ()
    kernel: str = ""
    thickness_mm: float | None = None

    @property
    def phases(self) -> int:
        """How many phases it has; 1 for a stack without phases."""
        return len(self.times_ms)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Millimetres between slices, rows and columns: along (k, j, i)."""
        i, j, k = np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)
        return float(k), float(j), float(i)

    @property
    def series_uids(self) -> tuple[str, ...]:
        """Series Instance UIDs of the series that it takes pictures from."""
        return tuple(one.uid for one in self.series)


def overlap(
    grid: tuple[int, int], size: tuple[int, int], offset: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part of a grid (rows, columns) that a picture covers whose first pixel lies at `offset`, and that of it."""
    there, part = [], []
    for length, count, start in zip(grid, size, offset, strict=True):
        first, last = max(start, 0), min(start + count, length)
        there.append(slice(first, max(first, last)))
        part.append(slice(first - start, max(first, last) - start))
    return (there[0], there[1]), (part[0], part[1])
