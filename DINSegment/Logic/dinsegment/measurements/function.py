"""What the phases of a beating heart tell about its left ventricle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dinsegment.images.pieces import CUT_AREA_CM2, CUT_BELOW_BASE, CUT_SHARE
from dinsegment.images.segmentation import OTHER_IMAGE, Segmentation
from dinsegment.images.slices import SliceStack
from dinsegment.measurements.volumes import segment_volumes

MYOCARDIAL_DENSITY = 1.05
"""Grams per millilitre of myocardium, the figure in general use for cardiac MR."""

OUTLIER_SHARE = 0.15
"""A phase is an outlier where its cavity differs by this share of the largest one from the mean of its neighbours."""

OUTLIER_RATIO = 4.0
"""And by so many times what the phases of this beat differ so, by their median: few phases differ more than many."""

FEWEST_PHASES = 6
"""Of fewer phases, which may be any part of the beat, none is called an outlier."""

Areas = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Cross-sections of a segment in cm2: in every slice of the stack, and in every plane across each of the other axes."""


@dataclass(frozen=True)
class CardiacFunction:
    """What the volumes of all phases tell about the left ventricle.

    Attributes:
        end_diastole: Phase, counted from 0, of the largest cavity.
        end_systole: Phase of the smallest cavity.
        end_diastolic_volume_ml: Volume of the cavity at end diastole.
        end_systolic_volume_ml: Volume of the cavity at end systole.
        stroke_volume_ml: Their difference.
        ejection_fraction_percent: Stroke volume over end-diastolic volume.
        myocardial_mass_g: Of the muscle at end diastole.
    """

    end_diastole: int
    end_systole: int
    end_diastolic_volume_ml: float
    end_systolic_volume_ml: float
    stroke_volume_ml: float
    ejection_fraction_percent: float
    myocardial_mass_g: float


@dataclass(frozen=True, eq=False)
class Beat:
    """What was measured of the left ventricle in the phases of one heart beat.

    Attributes:
        chamber_ml: Volume of the cavity in each phase.
        muscle_ml: Volume of its muscle in each phase.
        areas: Cross-sections of the cavity in each phase; None for a phase, or altogether, where they are not known.
        other_image: Whether the images are known to be of another kind than the task's.
    """

    chamber_ml: Sequence[float]
    muscle_ml: Sequence[float]
    areas: Sequence[Areas | None] = ()
    other_image: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError if cavity and muscle are of different numbers of phases."""
        cavity, muscle = len(self.chamber_ml), len(self.muscle_ml)
        if cavity != muscle:
            raise ValueError(f"The cavity was measured in {cavity} phases, the muscle in {muscle}.")

    @property
    def function(self) -> CardiacFunction | None:
        """The function of the ventricle; None for a single phase, and where `reason` says why there is none."""
        if len(self.chamber_ml) < 2 or self.reason:
            return None
        cavity = np.asarray(self.chamber_ml, dtype=float)
        ed, es = self._ends
        return CardiacFunction(
            end_diastole=ed,
            end_systole=es,
            end_diastolic_volume_ml=float(cavity[ed]),
            end_systolic_volume_ml=float(cavity[es]),
            stroke_volume_ml=float(cavity[ed] - cavity[es]),
            ejection_fraction_percent=float(100 * (cavity[ed] - cavity[es]) / cavity[ed]),
            myocardial_mass_g=float(self.muscle_ml[ed] * MYOCARDIAL_DENSITY),
        )

    @property
    def reason(self) -> str:
        """Why there is no function of these phases, a sentence; empty where there is one, and for a single phase."""
        why = self._why() if len(self.chamber_ml) > 1 else ""
        return f"No ejection fraction and no myocardial mass: {why}." if why else ""

    @property
    def _ends(self) -> tuple[int, int]:
        """End diastole and end systole."""
        return int(np.argmax(self.chamber_ml)), int(np.argmin(self.chamber_ml))

    def _why(self) -> str:
        if self.other_image:
            return "the image does not look like what the network is made for"
        if any(areas is not None and len(areas[0]) == 1 for areas in self.areas):
            return "a single slice does not show the whole left ventricle"
        for what, ml in (("left ventricle", self.chamber_ml), ("left ventricular myocardium", self.muscle_ml)):
            empty = [n for n, volume in enumerate(ml) if volume <= 0]
            if empty:
                rest = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
                return f"no {what} was found in phase {empty[0] + 1}{rest} of {len(ml)}"
        for phase in self._ends:
            areas = self.areas[phase] if self.areas else None
            if areas is not None and (edge := cut_beyond_base(areas)):
                return f"the left ventricle is cut by {edge} in phase {phase + 1}, so its volume is not known"
        doubtful = set(outliers(self.chamber_ml)) & set(self._ends)
        if doubtful:
            return (
                f"the left ventricle of phase {min(doubtful) + 1} does not go with those of the phases before and after"
            )
        return ""


def function_from_volumes(chamber_ml: Sequence[float], muscle_ml: Sequence[float]) -> CardiacFunction | None:
    """Function from what was measured in the phases of one beat.

    Args:
        chamber_ml: Volume of the left ventricular cavity in each phase.
        muscle_ml: Volume of its muscle in each phase.

    Returns:
        None for fewer than two phases, where a phase has no cavity or no muscle, and where end diastole or end systole
        is an outlier.

    Raises:
        ValueError: The two tell of different numbers of phases.
    """
    return Beat(chamber_ml, muscle_ml).function


def cardiac_function(phases: Sequence[Segmentation]) -> CardiacFunction | None:
    """Function from the segmentations of one beat, two phases or more.

    None for a single phase, for a task in which nothing beats, and where `no_function` gives a reason.
    """
    beat = beat_of(phases)
    return beat.function if beat else None


def no_function(phases: Sequence[Segmentation]) -> str:
    """Why the segmentations of one beat tell no function, a sentence; empty where they do or nobody expects it."""
    beat = beat_of(phases)
    return beat.reason if beat else ""


def beat_of(phases: Sequence[Segmentation]) -> Beat | None:
    """What the segmentations of one beat measure; None for a task in which nothing beats."""
    task = phases[0].task
    if task.chamber is None or task.muscle is None:
        return None
    volumes = [[s.volume_ml for s in segment_volumes(phase)] for phase in phases]
    return Beat(
        [v[task.chamber - 1] for v in volumes],
        [v[task.muscle - 1] for v in volumes],
        [segment_areas(phase.labels == task.chamber, phase.volume.spacing) for phase in phases],
        any(finding.kind == OTHER_IMAGE for phase in phases for finding in phase.findings),
    )


def segment_areas(mask: np.ndarray, spacing: np.ndarray) -> Areas:
    """Cross-sections of a segment in an image whose slices are those that it was acquired in.

    Args:
        mask: Its voxels on the whole grid of the image (k, j, i).
        spacing: Of the image in mm, along (k, j, i).
    """
    axis = SliceStack.across(mask, spacing).axis
    first, second = (a for a in range(3) if a != axis)

    def across(one: int) -> np.ndarray:
        others = tuple(a for a in range(3) if a != one)
        return mask.sum(others) * float(np.prod(np.delete(spacing, one)) / 100)

    return across(axis), across(first), across(second)


def cut_beyond_base(areas: Areas) -> str:
    """Where the image's edge cuts a ventricle, in words, beside the base, where short-axis slices may begin; or empty.

    The wider one of two ends of the stack is the base.
    """
    slices, *in_plane = areas
    for across in in_plane:
        if max(across[0], across[-1]) >= max(CUT_AREA_CM2, CUT_SHARE * across.max()):
            return "the edge of the field of view"
    apex = min(slices[0], slices[-1])
    if apex >= max(CUT_AREA_CM2, CUT_BELOW_BASE * slices.max()):
        return "the first slice and the last one"
    return ""


def outliers(chamber_ml: Sequence[float]) -> list[int]:
    """Phases, counted from 0, whose cavity is an outlier of its neighbours in time, the beat being a circle.

    A phase is one where its cavity is larger, or smaller, than in both phases beside it, and much farther from their
    mean than the other phases of this beat are from that of theirs. Where no cavity was found at all is another matter.
    """
    cavity = np.asarray(chamber_ml, dtype=float)
    left, found = np.flatnonzero(cavity > 0), []
    # The worst first, and then without it: beside it others would look like outliers, too.
    while len(left) >= FEWEST_PHASES:
        here = cavity[left]
        before, after = np.roll(here, 1), np.roll(here, -1)
        beyond = (here > np.maximum(before, after)) | (here < np.minimum(before, after))
        off = np.abs(here - (before + after) / 2)
        least = max(OUTLIER_SHARE * float(cavity.max()), OUTLIER_RATIO * float(np.median(off)))
        worst = int(np.argmax(np.where(beyond, off, 0.0)))
        if not beyond[worst] or off[worst] <= least:
            break
        found.append(int(left[worst]))
        left = np.delete(left, worst)
    return sorted(found)
