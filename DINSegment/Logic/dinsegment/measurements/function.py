"""What the phases of a beating heart tell about its left ventricle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dinsegment.images.segmentation import Segmentation
from dinsegment.measurements.volumes import segment_volumes

MYOCARDIAL_DENSITY = 1.05
"""Grams per millilitre of myocardium, the figure in general use for cardiac MR."""


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


def function_from_volumes(chamber_ml: Sequence[float], muscle_ml: Sequence[float]) -> CardiacFunction | None:
    """Function from what was measured in the phases of one beat.

    Args:
        chamber_ml: Volume of the left ventricular cavity in each phase.
        muscle_ml: Volume of its muscle in each phase.

    Returns:
        None for fewer than two phases, and where no phase has a cavity.

    Raises:
        ValueError: The two tell of different numbers of phases.
    """
    if len(chamber_ml) != len(muscle_ml):
        raise ValueError(f"The cavity was measured in {len(chamber_ml)} phases, the muscle in {len(muscle_ml)}.")
    if len(chamber_ml) < 2:
        return None
    cavity = np.asarray(chamber_ml, dtype=float)
    ed, es = int(cavity.argmax()), int(cavity.argmin())
    if cavity[ed] == 0:
        return None
    return CardiacFunction(
        end_diastole=ed,
        end_systole=es,
        end_diastolic_volume_ml=float(cavity[ed]),
        end_systolic_volume_ml=float(cavity[es]),
        stroke_volume_ml=float(cavity[ed] - cavity[es]),
        ejection_fraction_percent=float(100 * (cavity[ed] - cavity[es]) / cavity[ed]),
        myocardial_mass_g=float(muscle_ml[ed] * MYOCARDIAL_DENSITY),
    )


def cardiac_function(phases: Sequence[Segmentation]) -> CardiacFunction | None:
    """Function from the segmentations of one beat, two phases or more.

    None for a single phase, for a task in which nothing beats, and where no cavity was found.
    """
    task = phases[0].task
    if len(phases) < 2 or task.chamber is None or task.muscle is None:
        return None
    volumes = [[s.volume_ml for s in segment_volumes(phase)] for phase in phases]
    return function_from_volumes([v[task.chamber - 1] for v in volumes], [v[task.muscle - 1] for v in volumes])
