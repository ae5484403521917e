"""How much of the left ventricle's muscle is infarcted, and which of its AHA segments.

The muscle is all of it: what is sound, the infarct, and the no-reflow in it. Infarct size is the share of its volume
that is infarct or no-reflow, as studies of late enhancement report it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dinsegment.images.segmentation import OTHER_IMAGE, Segmentation
from dinsegment.measurements.function import MYOCARDIAL_DENSITY, Areas, cut_beyond_base, segment_areas
from dinsegment.measurements.measurement import Measurement
from dinsegment.measurements.walls import aha_labels, aha_segments, wall_of
from dinsegment.tasks import DamagedWall

NO_MUSCLE = "No muscle was found."

NO_SPACING = "All voxels are cubes of 1 mm, as in an image whose spacing was lost."

NO_NAMES = "The image does not tell how the patient lies, so that the walls have no names."

SEVERAL = "Late enhancement is one image: of several there is no infarct size."

OTHER = "The image does not look like what the network is made for, so that there is no infarct size."

ONE_SLICE = "A single slice does not show the whole left ventricle, so that its infarct size is not known."


@dataclass(frozen=True)
class Damage:
    """How much of a wall is damaged, in any unit of volume.

    Attributes:
        sound: Muscle that is not.
        infarct: Dead muscle that blood reaches.
        no_reflow: Dead muscle that it does not reach; None where that is not told apart.
    """

    sound: float
    infarct: float
    no_reflow: float | None = None

    @property
    def percents(self) -> dict[str, float]:
        """By the kinds of `Measurement`, in % of all muscle; NaN without any.

        Infarct size is infarct and no-reflow together; no-reflow by itself is missing where it is not told apart.
        """
        size = {"infarct_percent": self._share(self.infarct + (self.no_reflow or 0.0))}
        return size if self.no_reflow is None else size | {"no_reflow_percent": self._share(self.no_reflow)}

    @property
    def percent(self) -> float:
        """Infarct size alone."""
        return self.percents["infarct_percent"]

    def _share(self, part: float) -> float:
        whole = self.sound + self.infarct + (self.no_reflow or 0.0)
        return 100 * part / whole if whole else math.nan


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
    counts = np.bincount(segmentation.labels.ravel(), minlength=segmentation.task.classes)
    damage = Damage(*(int(counts[label]) for label in (wall.muscle, *wall.damaged)))
    if math.isnan(damage.percent):
        return no_infarct_size(wall, NO_MUSCLE)
    other_image = any(finding.kind == OTHER_IMAGE for finding in segmentation.findings)
    if why := why_no_size(_ventricle_areas(segmentation, wall), other_image):
        return no_infarct_size(wall, why)
    found, spacing = [], segmentation.volume.spacing
    for name, labels in _sizes(wall).items():
        count, about = sum(int(counts[label]) for label in labels), {"segments": (wall.muscle, *labels)}
        found.append(Measurement(f"{name}_percent", damage.percents[f"{name}_percent"], **about))
        if np.allclose(spacing, 1.0, atol=1e-6):
            found.append(Measurement(f"{name}_mass", None, reason=NO_SPACING, **about))
        else:
            grams = count * segmentation.volume.voxel_volume_ml * MYOCARDIAL_DENSITY
            found.append(Measurement(f"{name}_mass", grams, **about))
    return (*found, *_of_segments(segmentation, wall, anterior))


def why_no_size(ventricle: Areas | None, other_image: bool = False) -> str:
    """Why an image tells no infarct size, a sentence; empty where it does.

    Args:
        ventricle: Cross-sections of the left ventricle, cavity and whole wall together, as `segment_areas` gives them;
            None where they are not known.
        other_image: Whether the image is known to be of another kind than the task's.
    """
    if other_image:
        return OTHER
    if ventricle is None:
        return ""
    if len(ventricle[0]) == 1:
        return ONE_SLICE
    edge = cut_beyond_base(ventricle)
    return f"The left ventricle is cut by {edge}, so that its infarct size is not known." if edge else ""


def _ventricle_areas(segmentation: Segmentation, wall: DamagedWall) -> Areas:
    mask = np.isin(segmentation.labels, (wall.cavity, wall.muscle, *wall.damaged))
    return segment_areas(mask, segmentation.volume.spacing, segmentation.volume.slice_axis)


def no_infarct_size(wall: DamagedWall, reason: str) -> tuple[Measurement, ...]:
    """The numbers of `infarct_measurements`, of which there is none, with the reason, a sentence."""
    kinds = [f"{name}_{unit}" for name in _sizes(wall) for unit in ("percent", "mass")]
    about = (wall.muscle,)
    return tuple(Measurement(kind, None, reason=reason, segments=about) for kind in (*kinds, "infarct_segment"))


def _sizes(wall: DamagedWall) -> dict[str, tuple[int, ...]]:
    """The labels that count for each size."""
    return {"infarct": wall.damaged} | ({} if wall.no_reflow is None else {"no_reflow": (wall.no_reflow,)})


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
