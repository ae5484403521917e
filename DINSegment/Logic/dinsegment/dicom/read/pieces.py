"""The pictures of one series, sorted into parallel slices that are alike, and each slice in the order of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dinsegment.dicom.read.kinds import header_kind
from dinsegment.dicom.read.picture import TIMES, Picture
from dinsegment.dicom.read.stack import SeriesName

SAME_DIRECTION = 1e-3
"""Direction cosines that differ by less are written with few digits."""

SAME_PLACE_MM = 0.05
"""Pictures closer than this along the slice normal show the same slice."""

SAME_CORNER_MM = 0.5
"""Pictures of one slice that were moved sideways by more were taken in different breath-holds."""

SAME_PHASE = 0.2
"""Share of the distance between phases by which two acquisitions of a slice may begin at another moment."""

SAME_SPACING = 1e-4
"""Share by which pixel spacings may differ: rounding."""


@dataclass(frozen=True, eq=False)
class Take:
    """One slice as it was acquired once.

    Attributes:
        pictures: In the order of time.
        height: Millimetres along the normal of the piece.
        series: Where they come from.
    """

    pictures: tuple[Picture, ...]
    height: float
    series: SeriesName

    @property
    def first(self) -> Picture:
        """The picture of the first phase."""
        return self.pictures[0]

    @property
    def order(self) -> tuple[float, float, float]:
        """By which the later of two is known: when it was acquired, number of the series, of the instance."""
        times = [one.acquired for one in self.pictures if one.acquired is not None]
        instances = [number for one in self.pictures if (number := one.time("InstanceNumber")) is not None]
        return min(times, default=0.0), self.series.number or 0, min(instances, default=0.0)


@dataclass(frozen=True, eq=False)
class Piece:
    """Parallel pictures of one series that are alike in matrix, pixels and part of the signal.

    Attributes:
        takes: Its slices, from the lowest along the normal.
        kind: What it shows, as its headers tell.
        series: Where it comes from.
        problem: Why its pictures make up no volume, one sentence; "" if nothing is wrong with them.
    """

    takes: tuple[Take, ...]
    kind: str
    series: SeriesName
    problem: str = ""

    @property
    def first(self) -> Picture:
        """Any picture, for what all have in common."""
        return self.takes[0].first

    @property
    def axes(self) -> np.ndarray:
        """Directions of rows and columns, (2, 3)."""
        return self.first.axes

    @property
    def normal(self) -> np.ndarray:
        """Of its slices, LPS."""
        return np.cross(*self.axes)

    @property
    def pictures(self) -> list[Picture]:
        """All of them."""
        return [one for take in self.takes for one in take.pictures]


def series_of(pictures: Sequence[Picture]) -> dict[str, list[Picture]]:
    """The pictures of each series, by its UID, in the order in which they come."""
    found: dict[str, list[Picture]] = {}
    for picture in pictures:
        found.setdefault(picture.series_uid, []).append(picture)
    return found


def name_of(pictures: Sequence[Picture]) -> SeriesName:
    """What their series is called."""
    number = next((one.series_number for one in pictures if one.series_number is not None), None)
    description = next((one.description for one in pictures if one.description), "")
    return SeriesName(pictures[0].series_uid, number, description)


def pieces_of(pictures: Sequence[Picture]) -> list[Piece]:
    """The pieces of one series, of pictures without a `problem`."""
    series = name_of(pictures)
    groups = _alike(pictures)
    directions = _directions(groups)
    pieces = []
    for group in groups:
        slices = list(_slices(group))
        kind = header_kind([images for _, images in slices], directions)
        takes: list[Take] = []
        problem = ""
        for height, images in slices:
            parts = [in_time(part) for part in split(in_time(images)[0])]
            told = all(told for _, told in parts)
            problem = problem or (_mixed(images) if len(images) > 1 else "") or ("" if told else _twins(images))
            takes += [Take(tuple(ordered), height, series) for ordered, _ in parts]
        pieces.append(Piece(tuple(takes), kind, series, problem))
    return pieces


def parallel(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether rows and columns (2, 3) have the same directions, but for rounding."""
    return bool(np.abs(one - other).max() < SAME_DIRECTION)


def same_spacing(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether pixels are of one size, but for rounding."""
    return bool(np.allclose(one, other, rtol=SAME_SPACING, atol=0))


def _alike(pictures: Sequence[Picture]) -> list[list[Picture]]:
    groups: list[list[Picture]] = []
    for one in pictures:
        for group in groups:
            first = group[0]
            if (
                (one.rows, one.columns, one.component or "magnitude")
                == (first.rows, first.columns, first.component or "magnitude")
                and parallel(one.axes, first.axes)
                and same_spacing(one.pixel_spacing, first.pixel_spacing)
            ):
                group.append(one)
                break
        else:
            groups.append([one])
    return groups


def _directions(groups: Sequence[Sequence[Picture]]) -> int:
    """How many ways slices of a series face."""
    normals: list[np.ndarray] = []
    for group in groups:
        normal = np.cross(*group[0].axes)
        if not any(abs(normal @ other) > 0.995 for other in normals):
            normals.append(normal)
    return len(normals)


def _slices(pictures: Sequence[Picture]) -> Iterator[tuple[float, list[Picture]]]:
    """Height and pictures of each slice, from the lowest; of those moved sideways, too, each on its own."""
    normal = np.cross(*pictures[0].axes)
    places = np.array([one.position for one in pictures])
    heights = places @ normal
    order = np.argsort(heights, kind="stable")
    starts = np.flatnonzero(np.diff(heights[order]) > SAME_PLACE_MM) + 1
    for group in np.split(order, starts):
        while group.size:
            near = np.linalg.norm(places[group] - places[group[0]], axis=1) <= SAME_CORNER_MM
            yield float(heights[group[near]].mean()), [pictures[n] for n in group[near]]
            group = group[~near]


def in_time(pictures: Sequence[Picture]) -> tuple[list[Picture], bool]:
    """Pictures of a slice in the order of time, and whether a time tells them apart."""
    if len(pictures) == 1:
        return list(pictures), True
    for name in TIMES:
        times = [one.time(name) for one in pictures]
        if None not in times and len(set(times)) == len(times):
            return [pictures[n] for n in np.argsort(np.array(times, float), kind="stable")], True
    return list(pictures), False


def split(pictures: list[Picture], count: int | None = None) -> list[list[Picture]]:
    """The pictures of a slice that was acquired several times, those of each time in the order of time.

    They are told apart where the heart's time begins anew in the order of instances, or of the clock, each time after
    as many pictures and near the same moment of the beat. Where it begins anew later by a part of the distance between
    phases, they are phases of one acquisition in another order.

    Args:
        pictures: Of one slice.
        count: How many pictures other slices have; then as many make up an acquisition.
    """
    heart = [one.heart_time_ms for one in pictures]
    if len(pictures) < 4 or None in heart:
        return [pictures]
    times = np.array(heart, float)
    for order in _orders(pictures, times):
        parts = np.split(order, np.flatnonzero(np.diff(times[order]) < 0) + 1)
        length = len(parts[0])
        if len(parts) < 2 or length < 2 or any(len(part) != length for part in parts) or count not in (None, length):
            continue
        starts = np.array([times[part[0]] for part in parts])
        if np.ptp(starts) <= SAME_PHASE * float(np.median(np.diff(times[parts[0]]))):
            return [[pictures[n] for n in part] for part in parts]
    return [pictures]


def _orders(pictures: Sequence[Picture], heart: np.ndarray) -> Iterator[np.ndarray]:
    """Orders in which pictures may have been acquired."""
    instances = [one.time("InstanceNumber") for one in pictures]
    if None not in instances and len(set(instances)) == len(instances):
        yield np.argsort(np.array(instances, float), kind="stable")
    clock = [one.acquired for one in pictures]
    if None not in clock:
        yield np.lexsort((heart, np.array(clock, float)))


def _mixed(pictures: Sequence[Picture]) -> str:
    """What makes several pictures of a slice no phases of a movement."""
    for name, what in (
        ("echo_time", "echo times"),
        ("inversion_time", "inversion times"),
        ("flip_angle", "flip angles"),
        ("image_type", "image types"),
    ):
        if len({getattr(one, name) for one in pictures}) > 1:
            return f"several images of a slice differ in their {what}, so that they are no phases of a movement"
    return ""


def _twins(pictures: Sequence[Picture]) -> str:
    return f"a slice is there {len(pictures)} times with nothing to tell the images apart"
