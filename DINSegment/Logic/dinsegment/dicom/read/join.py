"""Which slices, of one series or of many, belong together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median

import numpy as np

from dinsegment.dicom.read.kinds import LEAST_MOVEMENT_MS, LEAST_SLICES
from dinsegment.dicom.read.lattice import Lattice, find_lattice
from dinsegment.dicom.read.phases import is_cut, usual_count
from dinsegment.dicom.read.picture import Picture
from dinsegment.dicom.read.pieces import Piece, Take, in_time, parallel, same_spacing, split
from dinsegment.dicom.read.placing import Joined, build, gaps_words, ranges, series_words
from dinsegment.dicom.read.stack import CINE, MR

OF_OTHERS = 0.5
"""A slice with no more than this share of the phases of the others is of another acquisition, and one with twice as
many."""

TWICE = 0.75
"""Where at least this share of the slices was acquired twice, a whole stack was."""

BROKEN_OFF = 0.9
"""A slice with less than this share of the phases of the others, as far apart, was broken off or is incomplete."""

OTHER_SCAN = 0.35
"""Share by which flip angle or echo time differ between scans of different purpose."""

OVERLAP = 0.8
"""Slices that are closer than this share of their thickness overlap."""

MANY_PHASES = 5
"""From so many series on, which differ in their time alone, single slices are phases, not repetitions."""


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
    problem = piece.problem or (gaps_words(takes) if twice else "")
    return build(takes, numbered, piece.kind, problem=problem, whole=not twice)


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
        for double in (takes for takes in by_number.values() if len(takes) > 1):
            # A later one that was broken off, or is of another scan such as tagging, does not count.
            double.sort(key=lambda take: (_is_of_scan(take, on), not _is_broken_off(take, on), take.order))
        takes = _without(takes, on)
        parts = _by_turns(by_number, lattice.step) or _acquisitions(by_number)
        if len(parts) > 1:
            for part in parts:
                found += _join_parallel(part, kind)
            continue
        chosen = [by_number[number][-1] for number in sorted(by_number)]
        repeats = [take for double in by_number.values() for take in double[:-1]]
        said = _repeats_words(by_number)
        numbers = tuple(sorted(by_number))
        found.append(build(chosen, replace(lattice, numbers=numbers), kind, said))
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
            if OF_OTHERS * count < len(part.pictures) < count / OF_OTHERS
        ]
        lattice = find_lattice(np.array([take.height for take in members]))
        places = len({number for number in lattice.numbers if number is not None})
        if places >= LEAST_SLICES and (best is None or places > best[0]):
            best = places, members, lattice
    return (list(best[1]), best[2]) if best else ([], None)


def _parts(take: Take, count: int) -> list[Take]:
    """The acquisitions of a slice that one series holds several times, where other slices have `count` phases."""
    return [replace(take, pictures=tuple(part)) for part in split(list(take.pictures), count)]


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
    return build(takes, lattice, kind, problem=gaps_words(takes) if twice else "", whole=not twice, is_repeat=is_repeat)


def _is_of_scan(take: Take, others: Sequence[Take]) -> bool:
    """Whether a slice was acquired as most others were, as far as sequence, flip angle and echo time tell."""
    if _sequence(take) != Counter(map(_sequence, others)).most_common(1)[0][0]:
        return False
    for name in ("flip_angle", "echo_time"):
        mine, its = getattr(take.first, name), [getattr(one.first, name) for one in others]
        known = [value for value in its if value is not None]
        if mine is not None and known and abs(mine - median(known)) > OTHER_SCAN * median(known):
            return False
    return True


def _sequence(take: Take) -> str:
    """Letters with which the name of the sequence begins: what follows counts lines, or is a direction."""
    return re.sub(r"[^a-z].*", "", take.first.sequence_name.lower().lstrip("*"))


def _is_broken_off(take: Take, others: Sequence[Take]) -> bool:
    return len(take.pictures) < BROKEN_OFF * usual_count(others) and is_cut(take, others)


def _by_turns(by_number: dict[int, list[Take]], step: float) -> list[list[Take]]:
    """The slices of two stacks, one after the other, of which one lies in the middle between those of the other.

    Their slices overlap, as those of one stack of many series never do unless they were acquired in their order.
    """
    parts = [[take for number, takes in by_number.items() if number % 2 == n for take in takes] for n in (0, 1)]
    if min(map(len, parts)) < LEAST_SLICES:
        return []
    thickness = parts[0][0].first.thickness
    apart = not {take.series.uid for take in parts[0]} & {take.series.uid for take in parts[1]}
    if thickness is None or step >= OVERLAP * thickness or not apart:
        return []
    first, last = sorted(parts, key=lambda part: min(take.order for take in part))
    return parts if max(take.order for take in first) < min(take.order for take in last) else []


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


def _repeats_words(by_number: dict[int, list[Take]]) -> list[str]:
    """What is said of slices that are there several times, alike of all that are there as often."""
    alike: dict[tuple[int, str], list[int]] = {}
    for number, takes in sorted(by_number.items()):
        if len(takes) > 1:
            alike.setdefault((len(takes), _which(takes)), []).append(number)
    return [_repeat_words(numbers, [by_number[n] for n in numbers], which) for (_, which), numbers in alike.items()]


def _which(takes: Sequence[Take]) -> str:
    """Which of several acquisitions of a slice the last one is; "" if all are of one time."""
    at = {take.order[0] for take in takes}
    if len(at) == 1 and at != {0.0}:
        return ""
    return (
        ", the latest,"
        if takes[-1].order == max(take.order for take in takes)
        else ", the latest of this scan with all phases,"
    )


def _repeat_words(numbers: Sequence[int], takes: Sequence[Sequence[Take]], which: str) -> str:
    several = len(numbers) > 1
    was, that, taken = ("were", "those", "are") if several else ("was", "that", "is")
    what = f"slice{'s' * several} {ranges([number + 1 for number in numbers])} "
    times = _times(len(takes[0]))
    what += f"{was} acquired {times}" if which else f"{taken} there {times}, acquired at the same time"
    last = series_words(take.series for double in takes for take in double[-1:])
    others = series_words(take.series for double in takes for take in double[:-1])
    return f"{what}: {that} of series {last}{which} {taken} taken, and {that} of series {others} {taken} left out"


def _times(count: int) -> str:
    return {2: "twice", 3: "three times"}.get(count, f"{count} times")
