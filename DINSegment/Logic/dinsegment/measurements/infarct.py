"""How much of the left ventricle's muscle is infarcted, and which of its AHA segments.

The muscle is all of it: what is sound, the infarct, and the no-reflow in it. Infarct size is the share of its volume
that is infarct or no-reflow, as studies of late enhancement report it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dinsegment.images.segmentation import Segmentation
from dinsegment.measurements.function import MYOCARDIAL_DENSITY
from dinsegment.measurements.measurement import Measurement
from dinsegment.measurements.walls import aha_labels, aha_segments, wall_of
from dinsegment.tasks import DamagedWall

NO_MUSCLE = "No muscle was found."

NO_SPACING = "All voxels are cubes of 1 mm, as in an image whose spacing was lost."

NO_NAMES = "The image does not tell how the patient lies, so that the walls have no names."


def infarct_measurements(
    segmentation: Segmentation, anterior: Sequence[float] | None = None
) -> tuple[Measurement, ...]:
    """Infarct size in % of the muscle and in g, no-reflow likewise, and the infarcted share of each AHA segment.

    Args:
        segmentation: Of one image, of a task that has a wall with damage; of another task nothing is measured.
        anterior: As for `walls.walls_of`: in mm in RAS, where the right ventricle's wall meets the left one's in front.
            Without a right ventricle it is needed for the segments.

    Returns:
        Each number, or why there is none.
    """
    wall = segmentation.task.wall
    if wall is None:
        return ()
    sizes = {"infarct": wall.damaged} | ({} if wall.no_reflow is None else {"no_reflow": (wall.no_reflow,)})
    kinds = [f"{name}_{unit}" for name in sizes for unit in ("percent", "mass")]
    muscle = np.isin(segmentation.labels, (wall.muscle, *wall.damaged))
    whole = int(muscle.sum())
    if not whole:
        return tuple(
            Measurement(kind, None, reason=NO_MUSCLE, segments=(wall.muscle,)) for kind in (*kinds, "infarct_segment")
        )
    found, spacing = [], segmentation.volume.spacing
    for name, labels in sizes.items():
        count, about = int(np.isin(segmentation.labels, labels).sum()), {"segments": (wall.muscle, *labels)}
        found.append(Measurement(f"{name}_percent", 100 * count / whole, **about))
        if np.allclose(spacing, 1.0, atol=1e-6):
            found.append(Measurement(f"{name}_mass", None, reason=NO_SPACING, **about))
        else:
            grams = count * segmentation.volume.voxel_volume_ml * MYOCARDIAL_DENSITY
            found.append(Measurement(f"{name}_mass", grams, **about))
    return (*found, *_of_segments(segmentation, wall, anterior))


def _of_segments(segmentation: Segmentation, parts: DamagedWall, anterior: Sequence[float] | None) -> list[Measurement]:
    about = (parts.muscle, *parts.damaged)
    damaged = np.isin(segmentation.labels, parts.damaged)
    whole = _as_ventricle(segmentation, parts)
    wall = wall_of(whole, anterior)
    if isinstance(wall, str):
        return [Measurement("infarct_segment", None, reason=f"{wall[0].upper()}{wall[1:]}.", segments=about)]
    if not wall.named:
        return [Measurement("infarct_segment", None, reason=NO_NAMES, segments=about)]
    divided = aha_labels(whole, wall)
    sizes, hurt = (np.bincount(divided[mask], minlength=17) for mask in (divided > 0, damaged))
    return [
        Measurement("infarct_segment", float(100 * hurt[aha.number] / sizes[aha.number]), aha.subject, segments=about)
        for aha in aha_segments()
        if sizes[aha.number]
    ]


def _as_ventricle(segmentation: Segmentation, parts: DamagedWall) -> Segmentation:
    """The same with the whole muscle under one label, as a ventricle that beats has it."""
    labels = np.where(np.isin(segmentation.labels, parts.damaged), parts.muscle, segmentation.labels)
    task = replace(segmentation.task, chamber=parts.cavity, muscle=parts.muscle)
    return replace(segmentation, labels=labels.astype(np.uint8), task=task)
