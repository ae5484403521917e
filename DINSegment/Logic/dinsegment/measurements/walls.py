"""Wall by wall: the AHA segments of the left ventricle, their thickness at end diastole and end systole, thickening.

Segments are those of M. D. Cerqueira et al., Circulation 105:539, 2002: six at the base, six in the middle, four
towards the apex, which short-axis slices show; the apex itself, segment 17, needs long-axis images. The septum lies
where the right ventricle touches the wall: its middle is the border of segments 2 and 3, each of which takes 60
degrees. Which end of the septum is the anterior one is known where the images tell how the patient lies, or where a
point is given; without it segments have numbers for computing alone, and no names.

Thickness is the symmetric closest distance: from each place of the inner surface to the nearest one of the outer
surface and the other way round, in space, the surfaces between slices being straight, so that a wall that is tilted
against the slices is not measured along the tilt.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise

import numpy as np
from scipy.spatial import cKDTree

from dinsegment.images.segmentation import Segmentation
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import ras_of
from dinsegment.measurements.measurement import Measurement
from dinsegment.measurements.rings import ANGLES, Ring, apex_first, directions, rings_of
from dinsegment.resources import resource
from dinsegment.tasks import Code

FEWEST_RINGS = 3
"""Slices with a closed ring: one at the base, one in the middle, one towards the apex."""

LAYERS = 8
"""Places between two slices at which their surfaces are taken."""

LEAST_SEPTUM = np.radians(30.0)
"""A shorter contact with the right ventricle does not tell where the septum is."""

LARGEST_GAP = np.radians(20.0)
"""Within the contact."""

SIXTH = np.radians(60.0)

ANTERIOR = np.array([0.0, 1.0, 1.0]) / np.sqrt(2)
"""In RAS: in a short-axis slice the anterior end of the septum lies to the front and above the inferior one."""

LEAST_LEAN = 0.3
"""Cosine between the septum's ends and `ANTERIOR`: of less nobody can say which end is which."""


@dataclass(frozen=True)
class AhaSegment:
    """A segment of the AHA's model: its number, its name, what DICOM calls it (CID 3717), and the colour it is shown
    in (red, green, blue in 0..255): walls have hues that the colour-blind tell apart, levels of one wall are lighter
    towards the apex."""

    number: int
    name: str
    code: Code
    color: tuple[int, int, int]

    @property
    def subject(self) -> str:
        """As measurements call it, in the order of the numbers."""
        return f"Segment {self.number:02d} {self.name.lower()}"


@cache
def aha_segments() -> tuple[AhaSegment, ...]:
    """The sixteen segments that short-axis slices show."""
    entries = json.loads((resource("Measurements") / "aha_segments.json").read_text(encoding="utf-8"))
    return tuple(
        AhaSegment(entry["number"], entry["name"], Code(*entry["code"]), tuple(entry["color"])) for entry in entries
    )


@dataclass(frozen=True, eq=False)
class Wall:
    """The wall in one phase, divided into segments.

    Attributes:
        rings: Slices with a closed ring, from base to apex.
        thickness_mm: (rings, ANGLES) in the directions of `rings.directions`.
        segment: (rings, ANGLES) number of the AHA segment, 1 to 16.
        named: Whether it is known which end of the septum is the anterior one.
        left_out: Why slices that show the ventricle are not measured, a sentence each.
    """

    rings: tuple[Ring, ...]
    thickness_mm: np.ndarray
    segment: np.ndarray
    named: bool
    left_out: tuple[str, ...] = ()

    @cached_property
    def mean_mm(self) -> dict[int, float]:
        """The mean thickness of each segment that there is."""
        return {int(n): float(self.thickness_mm[self.segment == n].mean()) for n in np.unique(self.segment) if n}


@dataclass(frozen=True, eq=False)
class Walls:
    """The wall at end diastole and end systole.

    Attributes:
        end_diastole: The wall there; None where `reason` says why it could not be divided.
        end_systole: The wall there.
        reason: Why there are no walls, a sentence; empty where there are.
        phases: End diastole and end systole, counted from 0.
    """

    end_diastole: Wall | None = None
    end_systole: Wall | None = None
    reason: str = ""
    phases: tuple[int, int] = (0, 0)

    @property
    def named(self) -> bool:
        """Whether segments have names."""
        return self.end_diastole is not None and self.end_diastole.named

    @cached_property
    def values(self) -> dict[str, dict[int, float]]:
        """By the kind of measurement, then by the number of the segment; nothing where `reason` says why."""
        if self.end_diastole is None or self.end_systole is None:
            return {}
        ed, es = self.end_diastole.mean_mm, self.end_systole.mean_mm
        thickening = {n: 100 * (es[n] - ed[n]) / ed[n] for n in ed if n in es}
        return {"wall_ed": ed, "wall_es": es, "thickening": thickening}

    def measurements(self, segments: tuple[int, ...] = ()) -> list[Measurement]:
        """Thickness and thickening of each segment, where the segments have names; `segments` are muscle and cavity."""
        if not self.named:
            return []
        phases = {"wall_ed": self.phases[:1], "wall_es": self.phases[1:], "thickening": self.phases}
        return [
            Measurement(kind, of[aha.number], aha.subject, segments=segments, phases=phases[kind])
            for aha in aha_segments()
            for kind, of in self.values.items()
            if aha.number in of
        ]


def walls_of(
    end_diastole: Segmentation,
    end_systole: Segmentation,
    phases: tuple[int, int] = (0, 1),
    anterior: Sequence[float] | None = None,
) -> Walls:
    """The wall of the left ventricle in two phases of one beat.

    Args:
        end_diastole: The segmentation of that phase.
        end_systole: On the same grid.
        phases: Which phases they are, counted from 0.
        anterior: A point in mm in RAS at which the right ventricle's wall meets the left one's in front: the border of
            segments 1 and 2. None finds the septum's ends by what the right ventricle touches, and names the segments
            where the images tell how the patient lies.
    """
    found, from_apex = [], apex_first((end_diastole, end_systole))
    for name, phase in (("end diastole", end_diastole), ("end systole", end_systole)):
        wall = wall_of(phase, anterior, from_apex)
        if isinstance(wall, str):
            return Walls(reason=f"At {name} {wall}.", phases=phases)
        found.append(wall)
    return Walls(*found, phases=phases)


def wall_of(
    segmentation: Segmentation, anterior: Sequence[float] | None = None, from_apex: bool | None = None
) -> Wall | str:
    """The wall in one phase; or why it could not be divided, in words that follow the phase.

    Args:
        segmentation: Of that phase.
        anterior: As for `walls_of`.
        from_apex: Whether the slices run from apex to base; None asks `rings.apex_first`.
    """
    rings, open_slices, small = rings_of(segmentation)
    closed = [ring for ring in rings if ring.endocardium is not None]
    if len(closed) < FEWEST_RINGS:
        count = "one slice has" if len(closed) == 1 else f"{len(closed) or 'no'} slices have"
        return f"{count} a closed ring of muscle, and it takes {FEWEST_RINGS}"
    flip = apex_first((segmentation,)) if from_apex is None else from_apex
    order = rings[::-1] if flip else rings
    closed = closed[::-1] if flip else closed
    septum = _septum(segmentation, closed, anterior)
    if septum is None and segmentation.task.right_chamber is None:
        return "the right ventricle is not segmented: it takes a point where its wall meets the left one's in front"
    if septum is None:
        return "the right ventricle does not touch the left one, so that nobody can say where the septum is"
    middles, sense, named = septum
    thickness = _thickness(order, closed, _slice_spacing(segmentation))
    levels = _levels([ring.slice for ring in closed])
    segment = np.array([_segments(level, middle, sense) for level, middle in zip(levels, middles, strict=True)])
    return Wall(tuple(closed), thickness, segment, named, _left_out(segmentation, open_slices, small))


def aha_labels(segmentation: Segmentation, wall: Wall) -> np.ndarray:
    """The muscle divided into the AHA segments: (k, j, i), uint8, 1 to 16; 0 elsewhere and where it is not divided."""
    stack = SliceStack.of(segmentation.volume).like(segmentation.labels)
    divided = np.zeros(stack.array.shape, np.uint8)
    for ring, segment in zip(wall.rings, wall.segment, strict=True):
        rows, columns = np.nonzero(stack.array[ring.slice] == segmentation.task.muscle)
        offset = np.column_stack([rows, columns]) * stack.spacing - ring.center
        angle = np.arctan2(offset[:, 0], offset[:, 1]) % (2 * np.pi)
        divided[ring.slice, rows, columns] = segment[np.rint(angle / (2 * np.pi) * ANGLES).astype(int) % ANGLES]
    return stack.to_volume_axes(divided)


def anterior_insertion(segmentation: Segmentation, wall: Wall) -> tuple[float, float, float] | None:
    """Where the wall of the right ventricle meets the left one's in front, in mm in RAS: what `anterior` may be.

    It lies on the outer border, in the middle one of the slices at the base and in the middle of the heart. None where
    it is not known which end of the septum is the anterior one.
    """
    levels = [n for n, numbers in enumerate(wall.segment) if numbers.max() <= 12]
    if not wall.named or not levels:
        return None
    ring, numbers = wall.rings[levels[len(levels) // 2]], (wall.segment[levels[len(levels) // 2]] - 1) % 6
    ends = [n for n in range(ANGLES) if {numbers[n - 1], numbers[n]} == {0, 1}]  # anterior and anteroseptal
    stack = SliceStack.of(segmentation.volume)
    row, column = (ring.epicardium[ends[0]] + ring.epicardium[ends[0] - 1]) / 2 / stack.spacing
    return ras_of(segmentation.volume, stack.volume_index((ring.slice, float(row), float(column))))


def _slice_spacing(segmentation: Segmentation) -> float:
    return SliceStack.of(segmentation.volume).slice_spacing


def _left_out(segmentation: Segmentation, open_slices: Sequence[int], small: Sequence[int]) -> tuple[str, ...]:
    stack = SliceStack.of(segmentation.volume)
    found = []
    for slices, why in ((open_slices, "the muscle is no closed ring"), (small, "the ventricle is a few pixels there")):
        numbers = sorted(stack.number(k) for k in slices)
        if numbers:
            listed = ", ".join(map(str, numbers[:-1])) + (" and " if len(numbers) > 1 else "") + str(numbers[-1])
            found.append(f"Slice{'s' if len(numbers) > 1 else ''} {listed}: {why}.")
    return tuple(found)


def _thickness(rings: Sequence[Ring], closed: Sequence[Ring], slice_spacing: float) -> np.ndarray:
    """(closed rings, ANGLES): the mean of the closest distances at the inner and the outer border."""

    def lifted(ring: Ring, border: np.ndarray) -> np.ndarray:
        return np.column_stack([border, np.full(len(border), ring.slice * slice_spacing)])

    inner = [(r.slice, lifted(r, r.endocardium)) for r in rings if r.endocardium is not None]
    outer = [(r.slice, lifted(r, r.epicardium)) for r in rings]
    to_outer, to_inner = (cKDTree(_between(borders)) for borders in (outer, inner))
    return np.array(
        [(to_outer.query(lifted(r, r.endocardium))[0] + to_inner.query(lifted(r, r.epicardium))[0]) / 2 for r in closed]
    )


def _between(borders: Sequence[tuple[int, np.ndarray]]) -> np.ndarray:
    """Places of a surface: its borders in the slices and, straight, between neighbours; (places, 3)."""
    places = [borders[0][1]]
    for (k, here), (after, there) in pairwise(borders):
        if abs(after - k) == 1:
            steps = np.arange(1, LAYERS)[:, None, None] / LAYERS
            places.append((here + steps * (there - here)).reshape(-1, 3))
        places.append(there)
    return np.concatenate(places)


def _levels(slices: Sequence[int]) -> list[int]:
    """0 at the base, 1 in the middle, 2 towards the apex: thirds of the way, so that a slice that is left out counts.

    Args:
        slices: Those that are divided, from base to apex.
    """
    begin, length = slices[0], abs(slices[-1] - slices[0]) + 1
    return [min(int(3 * (abs(k - begin) + 0.5) / length), 2) for k in slices]


def _segments(level: int, middle: float, sense: int) -> np.ndarray:
    """The AHA segment in each direction of one ring.

    Args:
        level: Of the ring, as `_levels` has it.
        middle: Direction of the middle of the septum.
        sense: 1 where directions grow from the septum's anterior end to its inferior one, -1 otherwise.
    """
    turned = np.degrees(sense * (directions() - middle)) + 1e-9  # 0 in the septum's middle, growing to its inferior end
    if level < 2:
        return np.choose(np.floor(turned / 60).astype(int) % 6, [3, 4, 5, 6, 1, 2]) + 6 * level
    return np.choose(np.floor((turned + 45) / 90).astype(int) % 4, [14, 15, 16, 13])


def _septum(
    segmentation: Segmentation, rings: Sequence[Ring], anterior: Sequence[float] | None
) -> tuple[list[float], int, bool] | None:
    """The direction of the septum's middle in each ring, the sense of the numbers, and whether segments have names."""
    contacts = [_contact(ring.right) for ring in rings]
    seen = [contact for contact in contacts if contact is not None]
    if not seen:
        return _septum_beside(segmentation, rings, anterior)
    begin, end = (_mean_angle([contact[n] for contact in seen]) for n in (0, 1))
    span = (end - begin) % (2 * np.pi)
    middle = begin + span / 2
    if anterior is not None:
        angles = _towards(segmentation, rings, anterior)
        at_begin = np.cos(_mean_angle(angles) - begin) >= np.cos(_mean_angle(angles) - end)
        sense = 1 if at_begin else -1
        return [float(angle + sense * SIXTH) for angle in angles], sense, True
    middles = [middle] * len(rings)
    for n, contact in enumerate(contacts):
        if contact is not None:
            middles[n] = contact[0] + ((contact[1] - contact[0]) % (2 * np.pi)) / 2
    sense = _anterior_end(segmentation, begin, end)
    smoothed = [
        float(_mean_angle([middles[m] for m in (n - 1, n, n + 1) if 0 <= m < len(rings)])) for n in range(len(rings))
    ]
    return smoothed, sense or 1, sense != 0


def _septum_beside(
    segmentation: Segmentation, rings: Sequence[Ring], anterior: Sequence[float] | None
) -> tuple[list[float], int, bool] | None:
    """The same from the septum's anterior end alone: the septum lies on that side of it that is the patient's right."""
    if anterior is None or segmentation.volume.dicom is None:
        return None
    angles = _towards(segmentation, rings, anterior)
    to_right = [axis[0] for axis in _in_plane_axes(segmentation)]  # of rows and columns, in RAS
    mean = _mean_angle(angles)
    rightness = [
        float(np.sin(mean + sense * SIXTH) * to_right[0] + np.cos(mean + sense * SIXTH) * to_right[1])
        for sense in (1, -1)
    ]
    if abs(rightness[0] - rightness[1]) < LEAST_LEAN:
        return None
    sense = 1 if rightness[0] > rightness[1] else -1
    return [float(angle + sense * SIXTH) for angle in angles], sense, True


def _anterior_end(segmentation: Segmentation, begin: float, end: float) -> int:
    """1 where the septum begins at its anterior end, -1 where it ends there, 0 where nobody can say."""
    volume = segmentation.volume
    if volume.dicom is None:
        return 0
    rows, columns = _in_plane_axes(segmentation)
    across = (np.sin(begin) - np.sin(end)) * rows + (np.cos(begin) - np.cos(end)) * columns
    lean = float(across @ ANTERIOR / np.linalg.norm(across))
    return 0 if abs(lean) < LEAST_LEAN else int(np.sign(lean))


def _in_plane_axes(segmentation: Segmentation) -> tuple[np.ndarray, np.ndarray]:
    """Directions in RAS of the rows and the columns of a slice."""
    volume = segmentation.volume
    axes = (volume.ijk_to_ras[:3, :3] / np.linalg.norm(volume.ijk_to_ras[:3, :3], axis=0)).T[::-1]  # k, j, i
    across = SliceStack.of(volume).axis
    rows, columns = (axes[a] for a in range(3) if a != across)
    return rows, columns


def _towards(segmentation: Segmentation, rings: Sequence[Ring], point: Sequence[float]) -> list[float]:
    """The direction of a point in RAS from the centre of each ring."""
    volume, stack = segmentation.volume, SliceStack.of(segmentation.volume)
    index = np.linalg.solve(volume.ijk_to_ras, (*point, 1.0))[2::-1]
    place = np.delete(index, stack.axis) * stack.spacing
    offsets = [place - ring.center for ring in rings]
    return [float(np.arctan2(offset[0], offset[1])) for offset in offsets]


def _contact(right: np.ndarray) -> tuple[float, float] | None:
    """Where the contact with the right ventricle begins and ends, growing directions; None where it is too short."""
    if not right.any() or right.all():
        return None
    touching = np.flatnonzero(right)
    gaps = np.diff(touching, append=touching[0] + ANGLES)
    # The longest run between gaps that are too large to be noise.
    breaks = np.flatnonzero(gaps * 2 * np.pi / ANGLES > LARGEST_GAP)
    if not len(breaks):
        return None
    runs = []
    for n, stop in enumerate(breaks):
        start = breaks[n - 1] + 1
        first, last = touching[start % len(touching)], touching[stop]
        runs.append(((last - first) % ANGLES, first, last))
    length, first, last = max(runs)
    step = 2 * np.pi / ANGLES
    return (first * step, last * step) if length * step >= LEAST_SEPTUM else None


def _mean_angle(angles: Sequence[float]) -> float:
    return float(np.arctan2(np.mean(np.sin(angles)), np.mean(np.cos(angles))))
