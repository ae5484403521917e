"""Slices put on one grid: which matrix, and where each lies on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dinsegment.dicom.read.kinds import words_of
from dinsegment.dicom.read.lattice import PLACE_ROUNDING_MM, SAME_SLICE_MM, UNEVEN, Lattice
from dinsegment.dicom.read.phases import match_phases
from dinsegment.dicom.read.picture import Picture
from dinsegment.dicom.read.pieces import Take, name_of, series_of
from dinsegment.dicom.read.stack import SeriesName, Stack, StackSlice
from dinsegment.geometry import RAS_FROM_LPS, nearest_voxel

FEW = 2
"""So many series are named by their descriptions, too."""


@dataclass(frozen=True, eq=False)
class Joined:
    """A stack, and what tells how it lies among others.

    Attributes:
        stack: Not yet named.
        axes: Directions of rows and columns, LPS, (2, 3).
        words: What its series are called, as `kinds.words_of`.
        is_gradient_echo: Whether blood is bright in it, as far as its headers say.
        missing: Heights along the normal, in mm, at which a slice is missing between others.
    """

    stack: Stack
    axes: np.ndarray
    words: str
    is_gradient_echo: bool
    missing: tuple[float, ...] = ()

    @property
    def normal(self) -> np.ndarray:
        """Of its slices, LPS."""
        return np.cross(*self.axes)

    @property
    def heights(self) -> list[float]:
        """Of its slices along the normal, mm."""
        return [float(self.normal @ one.position) for one in self.stack.slices]

    def warned(self, sentence: str) -> Joined:
        """The same with one more warning."""
        return replace(self, stack=replace(self.stack, warnings=(*self.stack.warnings, sentence)))

    def of_kind(self, kind: str) -> Joined:
        """The same as one of another kind."""
        return replace(self, stack=replace(self.stack, kind=kind))


def build(
    takes: Sequence[Take],
    lattice: Lattice,
    kind: str,
    said: Sequence[str] = (),
    problem: str = "",
    whole: bool = True,
    is_repeat: bool = False,
) -> Joined:
    """The stack of slices in the order of their numbers on a lattice.

    Args:
        takes: From the lowest along the normal.
        lattice: Their places.
        kind: What they show.
        said: What has been decided, in words.
        problem: What is wrong with them.
        whole: Whether each place is taken once, so that it makes sense to look for gaps.
        is_repeat: As `Stack.is_repeat`.
    """
    pictures = [one for take in takes for one in take.pictures]
    first = takes[0].first
    missing = lattice.missing if whole else []
    step = (takes[-1].height - takes[0].height) / max(len(takes) + len(missing) - 1, 1)
    problem = problem or (gaps_words(takes) if missing or not _even(takes) else "")
    step = step if step > SAME_SLICE_MM / 2 else first.spacing or first.thickness or 1.0
    size, reference, offsets, shifts = _in_plane(takes)
    count, matched, times, without = match_phases(takes)
    slices = tuple(
        StackSlice(
            tuple(one.key for one in images),
            tuple(one.heart_time_ms for one in images),
            take.series,
            take.first.position,
            (take.first.rows, take.first.columns),
            offset,
            shift,
        )
        for take, images, offset, shift in zip(takes, matched, offsets, shifts, strict=True)
    )
    sentences = [*said, *_said_of(takes, count, without, size, offsets, shifts)]
    if first.modality != "MR" and any(max(map(abs, shift)) > PLACE_ROUNDING_MM for shift in shifts):
        problem = problem or "its slices are shifted against each other, as those of a tilted gantry"
    stack = Stack(
        name="",
        kind=kind,
        modality=first.modality,
        slices=slices,
        times_ms=times,
        shape=(len(takes), *size),
        ijk_to_ras=_grid(takes, reference, step),
        series=_series(pictures),
        warnings=tuple(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences),
        problem=problem,
        is_repeat=is_repeat,
        keys=tuple(one.key for one in pictures),
        kernel=first.kernel,
        thickness_mm=first.thickness,
    )
    heights = tuple(lattice.origin + number * lattice.step for number in missing)
    is_gradient_echo = not any("SE" in one.sequence for one in pictures)
    return Joined(stack, reference.axes, words_of(pictures), is_gradient_echo, heights)


def _series(pictures: Sequence[Picture]) -> tuple[SeriesName, ...]:
    names = [name_of(images) for images in series_of(pictures).values()]
    return tuple(sorted(names, key=lambda name: (name.number is None, name.number or 0)))


def _even(takes: Sequence[Take]) -> bool:
    gaps = np.diff([take.height for take in takes])
    return not gaps.size or float(np.abs(gaps - gaps.mean()).max()) <= max(PLACE_ROUNDING_MM, UNEVEN * gaps.mean())


def gaps_words(takes: Sequence[Take]) -> str:
    gaps = np.diff(sorted(take.height for take in takes))
    return (
        f"its slices are {gaps.min():.4g} to {gaps.max():.4g} mm apart, so that some are missing, double or of another "
        "stack"
    )


def _in_plane(
    takes: Sequence[Take],
) -> tuple[tuple[int, int], Picture, list[tuple[int, int]], list[tuple[float, float]]]:
    """The common matrix, the picture whose first pixel is that of the grid, and offset and shift of each slice."""
    sizes = Counter((take.first.rows, take.first.columns) for take in takes)
    size = max(sizes, key=lambda one: (sizes[one], one))
    axes, (between_rows, between_columns) = takes[0].first.axes, takes[0].first.pixel_spacing
    corners = np.array([(axes[1] @ take.first.position, axes[0] @ take.first.position) for take in takes])
    usual = [n for n, take in enumerate(takes) if (take.first.rows, take.first.columns) == size]
    centre = np.median(corners[usual], axis=0)
    distance = np.abs(corners[usual] - centre).max(axis=1)
    near = [n for n, away in zip(usual, distance, strict=True) if away <= PLACE_ROUNDING_MM / 2]
    chosen = near[0] if near else usual[int(distance.argmin())]
    shifts = corners - corners[chosen]
    pixels = nearest_voxel(shifts / (between_rows, between_columns))
    return (
        size,
        takes[chosen].first,
        [(int(row), int(column)) for row, column in pixels],
        [(float(down), float(along)) for down, along in shifts],
    )


def _grid(takes: Sequence[Take], reference: Picture, step: float) -> np.ndarray:
    """IJK-to-RAS: in plane that of the reference, from slice to slice along the normal."""
    normal = np.cross(*reference.axes)
    between_rows, between_columns = reference.pixel_spacing
    ijk_to_lps = np.eye(4)
    ijk_to_lps[:3, 0] = reference.axes[0] * between_columns
    ijk_to_lps[:3, 1] = reference.axes[1] * between_rows
    ijk_to_lps[:3, 2] = normal * step
    down = takes[0].first.position - reference.position
    ijk_to_lps[:3, 3] = reference.position + normal * (normal @ down)
    return RAS_FROM_LPS @ ijk_to_lps


def _said_of(
    takes: Sequence[Take],
    count: int,
    without: Sequence[int],
    size: tuple[int, int],
    offsets: Sequence[tuple[int, int]],
    shifts: Sequence[tuple[float, float]],
) -> list[str]:
    """What had to be decided to put slices on one grid, in words without a full stop."""
    said = []
    for number, take in enumerate(takes, 1):
        if len(take.pictures) != count:
            said.append(
                f"slice {number} of series {take.series} has {len(take.pictures)} phases and most slices have {count}: "
                "each phase has that of its images which is nearest in time over the beat"
                + (f", but for {without[number - 1]} phases none is near" if without[number - 1] > 1 else "")
            )
    moved = [n for n, shift in enumerate(shifts) if max(map(abs, shift)) > PLACE_ROUNDING_MM]
    usual = [n for n in moved if (takes[n].first.rows, takes[n].first.columns) == size]
    if usual:
        most = max(float(np.hypot(*shifts[n])) for n in usual)
        said.append(
            f"{_slices_words(usual)} of series {in_words([str(takes[n].series) for n in usual])} "
            f"{'lies' if len(usual) == 1 else 'lie'} up to {most:.2g} mm beside the others, as after another "
            "breath-hold: placed to the nearest pixel"
        )
    other = [n for n, take in enumerate(takes) if (take.first.rows, take.first.columns) != size]
    if other:
        sizes = in_words(sorted({f"{takes[n].first.columns} x {takes[n].first.rows}" for n in other}))
        said.append(
            f"{_slices_words(other)} of series {in_words([str(takes[n].series) for n in other])} "
            f"{'has' if len(other) == 1 else 'have'} {sizes} pixels and the others {size[1]} x {size[0]}: cropped or "
            "padded to that"
        )
    gaps = np.diff([take.height for take in takes])
    if len(gaps) > 1 and gaps.max() - gaps.min() > 2 * PLACE_ROUNDING_MM:
        said.append(
            f"slices are {gaps.min():.4g} to {gaps.max():.4g} mm apart, a gap that differs from the others: they are "
            f"taken as {gaps.mean():.4g} mm apart"
        )
    frames = {one.frame_of_reference for take in takes for one in take.pictures} - {""}
    if len(frames) > 1 and len({take.series.uid for take in takes}) > 1:
        said.append("the series name different frames of reference; they are taken as one, since their slices fit")
    return said


def _slices_words(numbers: Sequence[int]) -> str:
    return f"slice{'s' * (len(numbers) > 1)} {in_words([str(n + 1) for n in numbers])}"


def in_words(words: Sequence[str]) -> str:
    """Words with commas and an `and`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def ranges(numbers: Sequence[int]) -> str:
    """Numbers in order, those that follow one another as first-last."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)


def series_words(series: Iterable[SeriesName]) -> str:
    """Series by number and description; many by their numbers alone."""
    once = list(dict.fromkeys(series))
    numbers = {one.number for one in once}
    if len(once) <= FEW or None in numbers:
        return in_words(list(dict.fromkeys(map(str, once))))
    return ranges(sorted(numbers))
