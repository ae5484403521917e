"""What looks wrong with where segments lie: what is missing though the image reaches there, and sides in conflict."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dinsegment.images.segmentation import OTHER_IMAGE, Finding
from dinsegment.images.volume import Volume, slice_number
from dinsegment.quality.shape import MARGIN, Shape
from dinsegment.quality.words import few, listed
from dinsegment.tasks import Segment, Task

REACH_MM = 30.0
"""An image reaches an organ if the organ's centre is to be expected at least so far inside of it."""

SIDE_MM = 10.0
"""By so much an organ lies to the other side of another one."""

FEW = 0.5
"""If more than this share of what should be there is missing or far too small, the image is of something else."""


def expected_place(segment: Segment, shapes: Mapping[int, Shape]) -> tuple[float, float, float] | None:
    """Where a segment's centre is to be expected from those that were found, in mm in RAS; None if none tells."""
    others = [s for s in shapes.values() if s.segment.place is not None and not s.segment.runs_on]
    if segment.place is None or not others:
        return None
    shift = np.mean([np.subtract(s.center, s.segment.place) for s in others], axis=0)
    r, a, s = np.add(segment.place, shift)
    return float(r), float(a), float(s)


def reaches(volume: Volume, place: tuple[float, float, float]) -> bool:
    """Whether a place lies well inside of an image."""
    index = np.linalg.solve(volume.ijk_to_ras, (*place, 1.0))[2::-1]
    inside = np.minimum(index + 0.5, np.array(volume.shape) - 0.5 - index) * volume.spacing
    return bool(inside.min() >= REACH_MM)


def missing_findings(
    volume: Volume, shapes: Mapping[int, Shape], task: Task, axis: int, cut: set[int]
) -> list[Finding]:
    """What was not found though the image shows where it should be; one finding if that is nearly everything.

    Args:
        volume: The image.
        shapes: What was found, by label.
        task: What was looked for.
        axis: Of the array, across which the slices lie.
        cut: Labels of what the image's edge cuts, whose size says nothing.
    """
    if not shapes:
        text = f"Nothing was found in '{volume.name}': check that it is {task.images}."
        return [Finding(text, short=f"Nothing found: is it {task.images}?", kind="nothing", topic="Nothing was found")]
    damaged = task.wall.damaged if task.wall else ()  # Of which `quality.wall` speaks: they need not be there.
    absent = [s for s in task.segments if s.label not in shapes and s.label not in damaged]
    wanted = {s.label: expected_place(s, shapes) for s in absent}
    missing = [s for s in absent if s.place is None or _in_image(volume, wanted[s.label])]
    tiny = [s for s in shapes.values() if s.segment.label not in cut and is_tiny(s)]
    if len(missing) + len(tiny) > FEW * max(2, len(missing) + len(shapes)):
        names = listed([s.name.lower() for s in missing] + [s.name for s in tiny])
        text = (
            f"Hardly anything was found in '{volume.name}' (missing or much too small: {names}): check that it is "
            f"{task.images}, and do not rely on the result."
        )
        return [
            Finding(
                text,
                short=f"Hardly anything found: is it {task.images}?",
                kind=OTHER_IMAGE,
                topic="Hardly anything was found",
                advice=f"check that it is {task.images}, and do not rely on the result",
            )
        ]
    found = [_missing(volume, s, wanted[s.label], axis) for s in missing if s.place is not None]
    if everywhere := [s for s in missing if s.place is None]:
        names = listed([s.name.lower() for s in everywhere])
        text = f"Not found in '{volume.name}': {names}. Check whether the slices show it."
        short = f"{few([s.name for s in everywhere])}: not found"
        topic = f"No {names} was found"
        found.append(Finding(text, None, everywhere[0].label, short, "missing", topic, advice="check the slices"))
    return found


def is_tiny(shape: Shape) -> bool:
    """Whether a segment is too small by far to be the organ."""
    return shape.segment.seen_ml is not None and shape.ml < shape.segment.seen_ml[0] / MARGIN


def _in_image(volume: Volume, place: tuple[float, float, float] | None) -> bool:
    return place is not None and reaches(volume, place)


def _missing(volume: Volume, segment: Segment, place: tuple[float, float, float], axis: int) -> Finding:
    why = f", as after {segment.absence}" if segment.absence else ""
    number = slice_number(volume, place, axis)
    text = (
        f"No {segment.name.lower()} was found{why}; it is to be expected near slice {number}: look whether it is there."
    )
    short, topic = f"{segment.name}: not found near slice {number}", f"No {segment.name.lower()} was found{why}"
    return Finding(text, place, segment.label, short, "missing", topic)


def side_findings(volume: Volume, shapes: Mapping[int, Shape], task: Task, cut: set[int]) -> list[Finding]:
    """Organs that lie on the other side of each other than they should; one finding for all of them.

    Where left and right are exchanged in a file, a network that has learned on which side a liver lies may call it a
    spleen, so one that is larger than a liver that is far too small says the same. Arguments as `missing_findings`.
    """
    why = f"exchanged in the file of '{volume.name}' or in the segments, or the organs lie mirrored in the patient"
    for left, right in task.sides:
        if left not in shapes or right not in shapes:
            continue
        first, second = shapes[left], shapes[right]
        slice_text = f"slice {first.middle + 1}"
        if first.center[0] > second.center[0] + SIDE_MM:
            text = f"The {first.name} lies to the right of the {second.name} ({slice_text}): left and right are {why}"
        elif (left, right) not in task.pairs and right not in cut and is_tiny(second) and first.ml > second.ml:
            text = f"The {first.name} is larger than the {second.name} ({slice_text}): left and right may be {why}"
        else:
            continue
        text += " (situs inversus); find out before you use the result."
        place, short = first.in_slice(first.middle), "Left and right may be exchanged"
        return [Finding(text, place, left, short, "sides", short, advice="find out before you use the result")]
    return []
