"""What looks wrong with the shape of segments: cut, in pieces, with gaps, too large or too small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from dinsegment.images.pieces import CUT_AREA_CM2, CUT_BELOW_BASE, CUT_SHARE, pieces_of
from dinsegment.images.segmentation import Finding
from dinsegment.images.volume import Volume, ras_of, slice_number
from dinsegment.quality.words import few, listed, slices_short, slices_text
from dinsegment.tasks import Segment, Task

PIECE_SHARE = 0.08
"""A second piece counts from this share of the largest one's volume; 0.04 at most in training."""

DIP = 0.4
"""A slice in which a segment has less than this share of what it has in both slices beside it is implausible.

The experts' labels of the training patients have 0.72 or more in hearts, 0.45 or more in abdomens."""

DIP_CM2 = 2.0
"""Where it has at least this area in both of them."""

MARGIN = 1.25
"""A volume is outside of the range seen in training if it is by this factor."""


@dataclass(frozen=True, eq=False)
class Shape:
    """One segment of a labelmap, inside of the box around it.

    Attributes:
        segment: What it is.
        volume: The image that it is a segment of.
        axis: Axis of the image's array across the slices that it is looked at in.
        mask: Its voxels in the box, (k, j, i).
        start: First voxel (k, j, i) of the box.
    """

    segment: Segment
    volume: Volume
    axis: int
    mask: np.ndarray
    start: tuple[int, int, int]

    @cached_property
    def profiles(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Voxels in each plane of the box across k, j and i."""
        plane = self.mask.sum(0), self.mask.sum((1, 2))
        return plane[1], plane[0].sum(1), plane[0].sum(0)

    @property
    def name(self) -> str:
        """The segment's name as it stands in the middle of a sentence: its first letter is small."""
        return self.segment.name[0].lower() + self.segment.name[1:]

    @property
    def ml(self) -> float:
        """The volume in millilitres."""
        return float(self.profiles[0].sum() * self.volume.voxel_volume_ml)

    @property
    def center(self) -> tuple[float, float, float]:
        """Its centre of mass in mm in RAS."""
        index = [s + float(np.arange(len(p)) @ p / p.sum()) for s, p in zip(self.start, self.profiles, strict=True)]
        return ras_of(self.volume, np.array(index))

    @property
    def areas(self) -> np.ndarray:
        """Its area in cm2 in each slice of the box."""
        return self.profiles[self.axis] * self.pixel_cm2(self.axis)

    @property
    def middle(self) -> int:
        """The slice, counted from 0, in which it is largest."""
        return self.start[self.axis] + int(self.areas.argmax())

    def number_of(self, place: tuple[float, float, float]) -> int:
        """The number, counted from 1, of the slice in which a place in mm in RAS lies."""
        return slice_number(self.volume, place, self.axis)

    def is_in_slice(self, number: int) -> bool:
        """Whether a slice, counted from 0, shows any of it."""
        index = number - self.start[self.axis]
        return bool(0 <= index < len(self.areas) and self.areas[index] > 0)

    def pixel_cm2(self, axis: int) -> float:
        """Area of a voxel in planes across an axis."""
        return float(np.prod(np.delete(self.volume.spacing, axis)) / 100)

    def in_slice(self, number: int) -> tuple[float, float, float]:
        """Its centre in a slice, counted from 0, in mm in RAS."""
        return self.center_of(self.mask, number)

    def center_of(self, mask: np.ndarray, number: int) -> tuple[float, float, float]:
        """The centre of a part of it, which is a mask in its box, in a slice, counted from 0."""
        inside = np.argwhere(np.take(mask, number - self.start[self.axis], self.axis)).mean(0)
        return ras_of(self.volume, np.insert(inside, self.axis, number - self.start[self.axis]) + self.start)


def shapes_of(volume: Volume, labels: np.ndarray, task: Task, axis: int) -> dict[int, Shape]:
    """The segments that there are in labels (k, j, i) of a volume, by label, looked at in slices across an axis."""
    boxes = ndimage.find_objects(labels, max_label=task.classes - 1)
    return {
        s.label: Shape(s, volume, axis, labels[box] == s.label, tuple(b.start for b in box))
        for s, box in zip(task.segments, boxes, strict=True)
        if box is not None
    }


def cut_findings(shapes: Sequence[Shape], task: Task) -> tuple[list[Finding], set[int]]:
    """Segments that the image's edge cuts, one finding an edge, and the labels of all of them."""
    found, cut = [], set()
    shapes = [s for s in shapes if not s.segment.runs_on]
    for axis in range(3):
        at_ends = [sum(int(s.profiles[axis][end]) for s in shapes if _touches(s, axis, end)) for end in (0, -1)]
        for end in (0, -1):
            share = CUT_SHARE
            if task.open_base and shapes and axis == shapes[0].axis:
                # The stack's wider end is the base.
                if at_ends[end] >= at_ends[-1 - end] and (end == 0 or at_ends[0] != at_ends[1]):
                    continue
                share = CUT_BELOW_BASE
            here = [s for s in shapes if _is_cut(s, axis, end, share)]
            if here:
                cut.update(s.segment.label for s in here)
                found.append(_cut(here, axis, end))
    return found, cut


def _is_cut(shape: Shape, axis: int, end: int, share: float) -> bool:
    profile = shape.profiles[axis]
    area = profile[end] * shape.pixel_cm2(axis)
    return bool(_touches(shape, axis, end) and area >= CUT_AREA_CM2 and profile[end] >= share * profile.max())


def _cut(shapes: Sequence[Shape], axis: int, end: int) -> Finding:
    largest = max(shapes, key=lambda s: s.profiles[axis][end])
    number, place = _where_cut(largest, axis, end)
    edge = f"the {'last' if end else 'first'} slice" if axis == largest.axis else "the edge of the field of view"
    topic = f"{_the(shapes)} {'are' if len(shapes) > 1 else 'is'} cut by {edge}"
    advice = "what lies beyond is missing in the volume in ml, use images that show all of it"
    text = f"{topic} (slice {number + 1}): {advice}."
    short = f"{few([s.segment.name for s in shapes])}: cut by the image's edge"
    return Finding(text, place, largest.segment.label, short, "cut", topic, advice=advice)


def _touches(shape: Shape, axis: int, end: int) -> bool:
    start = shape.start[axis]
    return start == 0 if end == 0 else start + shape.mask.shape[axis] == shape.volume.shape[axis]


def _where_cut(shape: Shape, axis: int, end: int) -> tuple[int, tuple[float, float, float]]:
    """The slice, counted from 0, with most of the cut, and its place there."""
    at_edge = np.zeros_like(shape.mask)
    plane = (slice(None),) * axis + (end,)
    at_edge[plane] = shape.mask[plane]
    most = at_edge.sum(tuple(a for a in range(3) if a != shape.axis)).argmax()
    number = shape.start[shape.axis] + int(most)
    return number, shape.center_of(at_edge, number)


def piece_findings(shapes: Sequence[Shape]) -> list[Finding]:
    """Segments with gaps along the slices, with implausibly small slices, or in pieces; one finding a segment."""
    found = (_gap(shape) or _dip(shape) or _piece(shape) for shape in shapes)
    return [finding for finding in found if finding]


def _gap(shape: Shape) -> Finding | None:
    gaps = [shape.start[shape.axis] + int(k) for k in np.flatnonzero(shape.areas == 0)]
    if not gaps:
        return None
    where = slices_text([g + 1 for g in gaps], gaps[0] + 1)
    text = f"The {shape.name} is missing in {where}, between slices that have it."
    numbers = tuple(g + 1 for g in gaps)
    short = f"{shape.segment.name}, {slices_short(numbers)}: missing"
    topic = f"Between slices that have it the {shape.name} is missing"
    return Finding(text, _beside(shape, gaps[0]), shape.segment.label, short, "gap", topic, numbers)


def _dip(shape: Shape) -> Finding | None:
    areas = shape.areas
    beside = np.minimum(areas[:-2], areas[2:])
    low = np.flatnonzero((beside >= DIP_CM2) & (areas[1:-1] < DIP * beside))
    if not len(low):
        return None
    dips = [shape.start[shape.axis] + 1 + int(k) for k in low]
    where = slices_text([d + 1 for d in dips], dips[0] + 1)
    text = f"The {shape.name} is much smaller in {where} than in the slices beside."
    numbers = tuple(d + 1 for d in dips)
    short = f"{shape.segment.name}, {slices_short(numbers)}: much smaller than beside"
    topic = f"The {shape.name} is much smaller than in the slices beside"
    return Finding(text, shape.in_slice(dips[0]), shape.segment.label, short, "dip", topic, numbers)


def _piece(shape: Shape) -> Finding | None:
    second = _second_piece(shape)
    if second is None:
        return None
    number = shape.start[shape.axis] + int(second.sum(tuple(a for a in range(3) if a != shape.axis)).argmax())
    topic = f"The {shape.name} is in pieces that do not hang together, a smaller one"
    short = f"{shape.segment.name}, slice {number + 1}: in pieces"
    place = shape.center_of(second, number)
    return Finding(f"{topic} in slice {number + 1}.", place, shape.segment.label, short, "pieces", topic, (number + 1,))


def _beside(shape: Shape, gap: int) -> tuple[float, float, float]:
    """The place in a slice without the segment, where the slice before it has the segment's centre."""
    index = np.linalg.solve(shape.volume.ijk_to_ras, (*shape.in_slice(gap - 1), 1.0))[2::-1]
    index[shape.axis] = gap
    return ras_of(shape.volume, index)


def _second_piece(shape: Shape) -> np.ndarray | None:
    """The second largest piece as a mask in the segment's box, or None if there is none worth a word."""
    pieces, sizes = pieces_of(shape.mask)
    sizes = sizes[1:]
    if len(sizes) < 2:
        return None
    largest, second = np.argsort(-sizes, kind="stable")[:2]
    return pieces == second + 1 if sizes[second] >= PIECE_SHARE * sizes[largest] else None


def volume_findings(shapes: Sequence[Shape]) -> list[Finding]:
    """Segments that are larger or smaller than in any patient of the training, whole ones only."""
    found = []
    for shape in shapes:
        if shape.segment.seen_ml is None:
            continue
        low, high = shape.segment.seen_ml
        if low / MARGIN <= shape.ml <= high * MARGIN:
            continue
        size = f"{'larger' if shape.ml > high else 'smaller'} than in any patient the network has learned from"
        ml = f"{shape.ml:.0f}" if shape.ml >= 10 else f"{shape.ml:.1f}"
        text = (
            f"The {shape.name} has {ml} ml and is {size} ({low:.0f} to {high:.0f} ml); it is largest in "
            f"slice {shape.middle + 1}."
        )
        topic = f"The {shape.name} is {size} ({low:.0f} to {high:.0f} ml)"
        short = f"{shape.segment.name}: {'large' if shape.ml > high else 'small'}, {ml} ml"
        found.append(Finding(text, shape.in_slice(shape.middle), shape.segment.label, short, "volume", topic))
    return found


def _the(shapes: Sequence[Shape]) -> str:
    return f"The {listed([s.name for s in shapes])}"
