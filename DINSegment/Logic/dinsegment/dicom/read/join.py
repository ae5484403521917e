"""Slices of one series or of many, put together to a stack on one grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

import numpy as np

from dinsegment.dicom.read.kinds import LEAST_SLICES, words_of
from dinsegment.dicom.read.lattice import PLACE_ROUNDING_MM, SAME_SLICE_MM, UNEVEN, Lattice, find_lattice
from dinsegment.dicom.read.picture import Picture
from dinsegment.dicom.read.pieces import Piece, Take, in_time, name_of, parallel, same_spacing, series_of, split
from dinsegment.dicom.read.stack import CINE, MR, SeriesName, Stack, StackSlice
from dinsegment.geometry import RAS_FROM_LPS

OF_OTHERS = 0.5
"""A slice with no more than this share of the phases of the others is of another acquisition, and one with more than
twice as many."""

TWICE = 0.75
"""Where at least this share of the slices was acquired twice, a whole stack was."""

LEAST_MOVEMENT_MS = 100.0
"""Series of one phase each show a movement if they are further apart in the beat."""

MANY_PHASES = 5
"""From so many series on, which differ in their time alone, single slices are phases, not repetitions."""


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

    def of_kind(self, kind: str) -> Joined:
        """The same as one of another kind."""
        return replace(self, stack=replace(self.stack, kind=kind))


def movements(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces, of which those that are single phases of one movement, a series each, have become one."""
    still = [piece for piece in pieces if piece.kind == MR]
    found = [piece for piece in pieces if piece.kind != MR]
    while still:
        same = [piece for piece in still if _same_scan(piece, still[0]) and _same_places(piece, still[0])]
        still = [piece for piece in still if piece not in same]
        whole = len(same[0].takes) >= LEAST_SLICES
        moving = _movement(same) if len(same) >= (2 if whole else MANY_PHASES) else None
        found += [moving] if moving is not None else same
    return found


def _same_scan(one: Piece, other: Piece) -> bool:
    def scan(piece: Piece) -> tuple:
        first = piece.first
        return first.rows, first.columns, first.echo_time, first.flip_angle, first.sequence, first.sequence_name

    return (
        scan(one) == scan(other)
        and parallel(one.axes, other.axes)
        and same_spacing(one.first.pixel_spacing, other.first.pixel_spacing)
    )


def _same_places(one: Piece, other: Piece) -> bool:
    mine, its = ({tuple(np.round(take.first.position, 1)) for take in piece.takes} for piece in (one, other))
    return 2 * len(mine & its) > min(len(mine), len(its)) and len(mine & its) > OF_OTHERS * max(len(mine), len(its))


def _movement(pieces: Sequence[Piece]) -> Piece | None:
    """One piece of those that hold a phase each; None where no time of the heart tells them apart."""
    by_place: dict[tuple[float, ...], list[Picture]] = {}
    for take in (take for piece in pieces for take in piece.takes):
        by_place.setdefault(tuple(np.round(take.first.position, 1)), []).extend(take.pictures)
    for images in by_place.values():
        heart = [one.heart_time_ms for one in images]
        ranks = [one.time("TemporalPositionIdentifier") for one in images]
        moves = None not in heart and max(heart) - min(heart) >= LEAST_MOVEMENT_MS
        times = heart if moves else ranks
        if len(images) > 1 and (None in times or len(set(times)) < len(times)):
            return None
    takes = [
        Take(tuple(in_time(images)[0]), float(pieces[0].normal @ images[0].position), pieces[0].series)
        for images in by_place.values()
    ]
    return Piece(tuple(sorted(takes, key=lambda take: take.height)), CINE, pieces[0].series)


def join(pieces: Sequence[Piece]) -> list[Joined]:
    """Stacks of pieces of one kind: as many slices as go together in each, and what is left of every series."""
    found: list[Joined] = []
    rest = list(pieces)
    while rest:
        first = rest[0]
        same = [
            piece
            for piece in rest
            if parallel(piece.axes, first.axes)
            and same_spacing(piece.first.pixel_spacing, first.first.pixel_spacing)
            and piece.first.study_uid == first.first.study_uid
        ]
        rest = [piece for piece in rest if piece not in same]
        found += _join_parallel([_of_normal(take, first.normal) for piece in same for take in piece.takes], first.kind)
    return found


def joined_of(piece: Piece) -> Joined:
    """A piece by itself."""
    takes = list(piece.takes)
    numbered = find_lattice(np.array([take.height for take in takes]))
    twice = len(set(numbered.numbers)) < len(takes) or None in numbered.numbers
    problem = piece.problem or (_gaps(takes) if twice else "")
    return _build(takes, numbered, piece.kind, problem=problem, whole=not twice)


def _of_normal(take: Take, normal: np.ndarray) -> Take:
    return replace(take, height=float(normal @ take.first.position))


def _join_parallel(takes: list[Take], kind: str) -> list[Joined]:
    found: list[Joined] = []
    while takes:
        members, lattice = _largest(takes)
        if lattice is None:
            return found + [_alone(images, kind) for images in _by_series(takes)]
        on = [take for take, number in zip(members, lattice.numbers, strict=True) if number is not None]
        by_number: dict[int, list[Take]] = {}
        for take, number in zip(members, lattice.numbers, strict=True):
            if number is not None:
                by_number.setdefault(number, []).append(take)
        for double in by_number.values():
            double.sort(key=lambda take: take.order)
        takes = _without(takes, on)
        parts = _acquisitions(by_number)
        if len(parts) > 1:
            for part in parts:
                found += _join_parallel(part, kind)
            continue
        chosen = [by_number[number][-1] for number in sorted(by_number)]
        repeats = [take for double in by_number.values() for take in double[:-1]]
        said = [_repeat_words(number, double) for number, double in sorted(by_number.items()) if len(double) > 1]
        numbers = tuple(sorted(by_number))
        found.append(_build(chosen, replace(lattice, numbers=numbers), kind, said))
        found += [_alone(images, kind, is_repeat=True) for images in _by_series(repeats)]
    return found


def _without(takes: Sequence[Take], taken: Sequence[Take]) -> list[Take]:
    """What is left; a slice that was split counts as taken where a part of it was."""
    used = {id(one) for take in taken for one in take.pictures}
    return [take for take in takes if not used & {id(one) for one in take.pictures}]


def _largest(takes: Sequence[Take]) -> tuple[list[Take], Lattice | None]:
    """The slices with about as many phases that most even places are taken by; None where those are too few."""
    best: tuple[int, list[Take], Lattice] | None = None
    for count, _ in Counter(len(take.pictures) for take in takes).most_common():
        members = [
            part
            for take in takes
            for part in _parts(take, count)
            if OF_OTHERS * count < len(part.pictures) <= count / OF_OTHERS
        ]
        lattice = find_lattice(np.array([take.height for take in members]))
        places = len({number for number in lattice.numbers if number is not None})
        if places >= LEAST_SLICES and (best is None or places > best[0]):
            best = places, members, lattice
    return (list(best[1]), best[2]) if best else ([], None)


def _parts(take: Take, count: int) -> list[Take]:
    """The acquisitions of a slice that one series holds several times, where other slices have `count` phases."""
    images = list(take.pictures)
    if len(images) >= 2 * count and len(images) % count == 0 and count > 1:
        by_instance = sorted(images, key=lambda one: one.time("InstanceNumber") or 0.0)
        parts = [by_instance[n : n + count] for n in range(0, len(images), count)]
        if all(_rises(part) for part in parts):
            return [replace(take, pictures=tuple(in_time(part)[0])) for part in parts]
    return [replace(take, pictures=tuple(part)) for part in split(images, count)]


def _rises(pictures: Sequence[Picture]) -> bool:
    times = [one.heart_time_ms for one in pictures]
    return None not in times and bool((np.diff(np.array(times, float)) > 0).all())


def _by_series(takes: Iterable[Take]) -> list[list[Take]]:
    found: dict[str, list[Take]] = {}
    for take in takes:
        found.setdefault(take.series.uid, []).append(take)
    return list(found.values())


def _alone(takes: list[Take], kind: str, is_repeat: bool = False) -> Joined:
    """What is left of a series, as it is."""
    takes = sorted(takes, key=lambda take: take.height)
    lattice = find_lattice(np.array([take.height for take in takes]))
    twice = len(set(lattice.numbers)) < len(takes) or None in lattice.numbers
    return _build(takes, lattice, kind, problem=_gaps(takes) if twice else "", whole=not twice, is_repeat=is_repeat)


def _acquisitions(by_number: dict[int, list[Take]]) -> list[list[Take]]:
    """The slices of each of several complete stacks in one place; one list where there are none."""
    everything = [take for takes in by_number.values() for take in takes]
    double = sum(len(takes) > 1 for takes in by_number.values())
    if double < max(LEAST_SLICES, TWICE * len(by_number)):
        return [everything]
    whole = [takes for takes in _by_series(everything) if len(takes) >= max(LEAST_SLICES, TWICE * len(by_number))]
    if len(whole) > 1:
        single = _without(everything, [take for takes in whole for take in takes])
        for take in single:
            min(whole, key=lambda takes: abs(_time(takes) - _time([take]))).append(take)
        return whole
    most = max(map(len, by_number.values()))
    parts: list[list[Take]] = [[] for _ in range(most)]
    alone: list[Take] = []
    for takes in by_number.values():
        if len(takes) == 1:
            alone += takes
        else:
            for part, take in zip(parts, takes, strict=False):
                part.append(take)
    bounds = [(min(take.order for take in part), max(take.order for take in part)) for part in parts]
    if any(before[1] >= after[0] for before, after in pairwise(bounds)):
        return [everything]  # each slice was repeated at once
    for take in alone:
        min(parts, key=lambda takes: abs(_time(takes) - _time([take]))).append(take)
    return parts


def _time(takes: Sequence[Take]) -> float:
    return median(take.order[0] or take.order[1] for take in takes)


def _repeat_words(number: int, takes: Sequence[Take]) -> str:
    others = _list([str(take.series) for take in takes[:-1]])
    return (
        f"slice {number + 1} was acquired {_times(len(takes))}: that of series {takes[-1].series}, the latest, is "
        f"taken, and that of series {others} is left out"
    )


def _times(count: int) -> str:
    return {2: "twice", 3: "three times"}.get(count, f"{count} times")


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _build(
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
    problem = problem or (_gaps(takes) if missing or not _even(takes) else "")
    step = step if step > SAME_SLICE_MM / 2 else first.spacing or first.thickness or 1.0
    size, reference, offsets, shifts = _in_plane(takes)
    count, matched, times = _phases(takes)
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
    sentences = [*said, *_said_of(takes, count, size, offsets, shifts)]
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


def _gaps(takes: Sequence[Take]) -> str:
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
    # Of a place halfway between two pixels the higher one, despite rounding in the headers.
    pixels = np.floor(shifts / (between_rows, between_columns) + 0.501).astype(int)
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


def _phases(takes: Sequence[Take]) -> tuple[int, list[list[Picture]], tuple[float | None, ...]]:
    """How many phases, the pictures of each slice for them, and the time of each phase."""
    counts = Counter(len(take.pictures) for take in takes)
    count = max(counts, key=lambda one: (counts[one], one))
    complete = [take for take in takes if len(take.pictures) == count]
    parts = np.median([_part_of_beat(take) for take in complete], axis=0)
    matched = []
    for take in takes:
        if len(take.pictures) == count:
            matched.append(list(take.pictures))
        else:
            away = np.abs(parts[:, None] - _part_of_beat(take)[None, :])
            matched.append([take.pictures[n] for n in np.minimum(away, 1 - away).argmin(axis=1)])
    times = []
    for phase in range(count):
        known = [t for take in complete if (t := take.pictures[phase].heart_time_ms) is not None]
        times.append(median(known) if known else None)
    return count, matched, tuple(times)


def _part_of_beat(take: Take) -> np.ndarray:
    """When in the beat, from 0 to 1, each picture was taken; evenly where no time says it."""
    count = len(take.pictures)
    times = [one.heart_time_ms for one in take.pictures]
    if None in times or count == 1:
        return np.arange(count) / count
    values = np.array(times, float)
    beats = [one.interval_ms for one in take.pictures if one.interval_ms is not None]
    beat = median(beats) if beats else 0.0
    if beat <= values[-1]:
        beat = values[-1] + float(np.median(np.diff(values)))
    return values / beat


def _said_of(
    takes: Sequence[Take],
    count: int,
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
            )
    moved = [n for n, shift in enumerate(shifts) if max(map(abs, shift)) > PLACE_ROUNDING_MM]
    usual = [n for n in moved if (takes[n].first.rows, takes[n].first.columns) == size]
    if usual:
        most = max(float(np.hypot(*shifts[n])) for n in usual)
        said.append(
            f"{_slices_words(usual)} of series {_list([str(takes[n].series) for n in usual])} "
            f"{'lies' if len(usual) == 1 else 'lie'} up to {most:.2g} mm beside the others, as after another "
            "breath-hold: placed to the nearest pixel"
        )
    other = [n for n, take in enumerate(takes) if (take.first.rows, take.first.columns) != size]
    if other:
        sizes = _list(sorted({f"{takes[n].first.columns} x {takes[n].first.rows}" for n in other}))
        said.append(
            f"{_slices_words(other)} of series {_list([str(takes[n].series) for n in other])} "
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
    return f"slice{'s' * (len(numbers) > 1)} {_list([str(n + 1) for n in numbers])}"
