"""What looks wrong with damage to a wall: with an infarct, which may be anywhere in it, in pieces, or not there."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace

import numpy as np

from dinsegment.images.segmentation import OTHER_IMAGE, Finding
from dinsegment.images.volume import Volume
from dinsegment.quality.shape import Shape, shapes_of
from dinsegment.tasks import Task


def whole_wall(volume: Volume, labels: np.ndarray, task: Task, axis: int) -> dict[int, Shape]:
    """The organs that there are, by label, with a damaged wall as one of them; arguments as `shapes_of`.

    An infarct may be missing in a slice, lie in pieces, and take a slice's whole muscle; the wall may not.
    """
    if task.wall is None:
        return shapes_of(volume, labels, task, axis)
    merged = np.where(np.isin(labels, task.wall.damaged), task.wall.muscle, labels).astype(labels.dtype)
    shapes = shapes_of(volume, merged, task, axis)
    if wall := shapes.get(task.wall.muscle):
        name = task.wall.name or wall.segment.name
        shapes[task.wall.muscle] = replace(wall, segment=replace(wall.segment, name=name))
    return shapes


def several_findings(task: Task, count: int) -> list[Finding]:
    """One finding where several phases were given for a wall's damage, of which late enhancement has one image."""
    if task.wall is None or count < 2:
        return []
    topic, advice = (
        f"There are {count} phases, but {task.images} is one image",
        "if this is a cine, do not rely on the result",
    )
    short = f"{count} phases: is it {task.images}?"
    return [Finding(f"{topic}: {advice}.", None, None, short, OTHER_IMAGE, topic, advice=advice)]


def damage_findings(shapes: Mapping[int, Shape], task: Task, cut: Set[int]) -> list[Finding]:
    """What is to be said of an infarct: that none was found, or less than in any patient of the training.

    Args:
        shapes: What was found, by label.
        task: What was looked for.
        cut: Labels of what the image's edge cuts. Of a wall that is cut no share is known.
    """
    wall = task.wall
    if wall is None or wall.muscle not in shapes:
        return []
    name = next(s for s in task.segments if s.label == wall.infarct)
    damaged = [shapes[label] for label in wall.damaged if label in shapes]
    if not damaged:
        topic = f"No {name.name.lower()} was found"
        why = f" ({name.absence})" if name.absence else ""
        text = f"{topic}{why}: a small one may have been missed or left out, look at the slices."
        return [
            Finding(text, None, wall.infarct, f"{name.name}: not found", "missing", topic, advice="check the slices")
        ]
    if not cut.isdisjoint((wall.muscle, *wall.damaged)):
        return []
    ml = sum(shape.ml for shape in damaged)
    percent = 100 * ml / (ml + shapes[wall.muscle].ml)
    if percent >= wall.smallest_percent:
        return []
    largest = max(damaged, key=lambda shape: shape.ml)
    topic = (
        f"The {name.name.lower()} is smaller than in any patient the network has learned from "
        f"({wall.smallest_percent:.0f} % of the muscle or more)"
    )
    text = f"{topic}: it has {percent:.1f} % (slice {largest.middle + 1}), look whether there is one."
    short = f"{name.name}: small, {percent:.1f} % of the muscle"
    return [
        Finding(
            text, largest.in_slice(largest.middle), largest.segment.label, short, "volume", topic, advice="check it"
        )
    ]
