"""What the phases of a beating heart tell about its ventricles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

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

QUICKEST_CHANGE = 0.2
"""Part of the beat in which a ventricle empties, or fills again, at the quickest: few phases differ by much in it."""

FEWEST_PHASES = 6
"""Of fewer phases, which may be any part of the beat, none is called an outlier."""

Areas = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Cross-sections of a segment in cm2: in every slice of the stack, and in every plane across each of the other axes."""


@dataclass(frozen=True)
class VentricleVolumes:
    """What the volumes of all phases tell about one ventricle.

    Attributes:
        end_diastole: Phase, counted from 0, whose volume is taken for the end-diastolic one.
        end_systole: Phase whose volume is taken for the end-systolic one.
        end_diastolic_volume_ml: Volume of the cavity at end diastole.
        end_systolic_volume_ml: Volume of the cavity at end systole.
        stroke_volume_ml: Their difference.
        ejection_fraction_percent: Stroke volume over end-diastolic volume.
    """

    end_diastole: int
    end_systole: int
    end_diastolic_volume_ml: float
    end_systolic_volume_ml: float
    stroke_volume_ml: float
    ejection_fraction_percent: float


@dataclass(frozen=True)
class CardiacFunction(VentricleVolumes):
    """What the volumes of all phases tell about the left ventricle, with end diastole where its cavity is largest.

    Attributes:
        myocardial_mass_g: Of the muscle at end diastole.
    """

    myocardial_mass_g: float


@dataclass(frozen=True, eq=False)
class Ventricle:
    """What was measured of one ventricle's cavity in the phases of one heart beat.

    Attributes:
        chamber_ml: Volume of the cavity in each phase.
        areas: Cross-sections of the cavity in each phase; None for a phase, or altogether, where they are not known.
        other_image: Whether the images are known to be of another kind than the task's.
        name: As it stands in the middle of a sentence.
    """

    chamber_ml: Sequence[float]
    areas: Sequence[Areas | None] = ()
    other_image: bool = False
    name: str = "left ventricle"

    @property
    def ends(self) -> tuple[int, int]:
        """The phases of the largest and of the smallest cavity: its own end diastole and end systole."""
        return int(np.argmax(self.chamber_ml)), int(np.argmin(self.chamber_ml))

    def volumes(self, end_diastole: int, end_systole: int) -> VentricleVolumes:
        """What the cavity's volumes in two phases, counted from 0, tell; ask `why_not` before."""
        edv, esv = float(self.chamber_ml[end_diastole]), float(self.chamber_ml[end_systole])
        return VentricleVolumes(end_diastole, end_systole, edv, esv, edv - esv, 100 * (edv - esv) / edv)

    def why_not(self) -> str:
        """Why these phases tell no volumes of the ventricle, in words that follow a colon; empty where they do."""
        return self.why_not_shown() or self.why_not_whole()

    def why_not_shown(self) -> str:
        """The same of the images alone, and of phases in which no cavity was found."""
        if self.other_image:
            return "the image does not look like what the network is made for"
        if any(areas is not None and len(areas[0]) == 1 for areas in self.areas):
            return f"a single slice does not show the whole {self.name}"
        return not_found(self.name, self.chamber_ml)

    def why_cut(self) -> str:
        """The same of a cavity that the image cuts."""
        for phase in self.ends:
            areas = self.areas[phase] if self.areas else None
            if areas is not None and (edge := cut_beyond_base(areas)):
                where = f" in phase {phase + 1}" if len(self.chamber_ml) > 1 else ""
                return f"the {self.name} is cut by {edge}{where}, so its volume is not known"
        return ""

    def why_not_whole(self) -> str:
        """The same of a cavity that the image cuts, and of one that its neighbours in time contradict."""
        if cut := self.why_cut():
            return cut
        doubtful = set(outliers(self.chamber_ml)) & set(self.ends)
        if doubtful:
            return f"the {self.name} of phase {min(doubtful) + 1} does not go with those of the phases before and after"
        return ""


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
        volumes = self.left.volumes(*self.left.ends)
        return CardiacFunction(**asdict(volumes), myocardial_mass_g=self.mass_g(volumes.end_diastole))

    def mass_g(self, phase: int) -> float:
        """The mass of the muscle as it was measured in a phase, counted from 0."""
        return float(self.muscle_ml[phase] * MYOCARDIAL_DENSITY)

    @property
    def left(self) -> Ventricle:
        """The left ventricle's cavity."""
        return Ventricle(self.chamber_ml, self.areas, self.other_image)

    @property
    def reason(self) -> str:
        """Why there is no function of these phases, a sentence; empty where there is one, and for a single phase."""
        why = self._why() if len(self.chamber_ml) > 1 else ""
        return f"No ejection fraction and no myocardial mass: {why}." if why else ""

    def _why(self) -> str:
        left = self.left
        no_muscle = not_found("left ventricular myocardium", self.muscle_ml)
        return left.why_not_shown() or no_muscle or left.why_not_whole()


def beat_of(phases: Sequence[Segmentation]) -> Beat | None:
    """What the segmentations of one beat measure; None for a task in which nothing beats."""
    task = phases[0].task
    if task.chamber is None or task.muscle is None:
        return None
    volumes = [[s.volume_ml for s in segment_volumes(phase)] for phase in phases]
    return Beat(
        [v[task.chamber - 1] for v in volumes],
        [v[task.muscle - 1] for v in volumes],
        [segment_areas(p.labels == task.chamber, p.volume.spacing, p.volume.slice_axis) for p in phases],
        any(finding.kind == OTHER_IMAGE for phase in phases for finding in phase.findings),
    )


def right_ventricle_of(phases: Sequence[Segmentation]) -> Ventricle | None:
    """The right ventricle's cavity in the segmentations of one beat; None for a task that has none."""
    task = phases[0].task
    if task.right_chamber is None:
        return None
    volumes = [segment_volumes(phase)[task.right_chamber - 1].volume_ml for phase in phases]
    areas = [segment_areas(p.labels == task.right_chamber, p.volume.spacing, p.volume.slice_axis) for p in phases]
    other = any(finding.kind == OTHER_IMAGE for phase in phases for finding in phase.findings)
    return Ventricle(volumes, areas, other, "right ventricle")


def not_found(name: str, volumes_ml: Sequence[float]) -> str:
    """In which phase something has no volume, in words that follow a colon; empty where it has one in all."""
    empty = [n for n, volume in enumerate(volumes_ml) if volume <= 0]
    if not empty:
        return ""
    rest = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
    return f"no {name} was found in phase {empty[0] + 1}{rest} of {len(volumes_ml)}"


def segment_areas(mask: np.ndarray, spacing: np.ndarray, slice_axis: int | None = None) -> Areas:
    """Cross-sections of a segment in an image whose slices are those that it was acquired in.

    Args:
        mask: Its voxels on the whole grid of the image (k, j, i).
        spacing: Of the image in mm, along (k, j, i).
        slice_axis: Across which it was acquired, where the image's source tells; None where the spacing has to.
    """
    axis = SliceStack.across(mask, spacing, slice_axis).axis
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

    A phase is one where its cavity is larger, or smaller, than in both phases beside it, much farther from their mean
    than the other phases of this beat are from that of theirs, and farther than a heart moves between phases so far
    apart in time. Where no cavity was found at all is another matter.
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
        least = max(least, float(np.ptp(np.delete(here, worst))) / (QUICKEST_CHANGE * len(cavity)))
        if not beyond[worst] or off[worst] <= least:
            break
        found.append(int(left[worst]))
        left = np.delete(left, worst)
    return sorted(found)
