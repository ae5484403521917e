"""Phases of a heart beat that do not go with those before and after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dinsegment.images.segmentation import Finding, Segmentation
from dinsegment.images.slices import slice_axis
from dinsegment.quality.shape import shapes_of


def outlier_topic(name: str, chamber_ml: Sequence[float], phase: int) -> str:
    """What is wrong with the cavity `name` in a phase, counted from 0, whose volume its neighbours contradict."""
    before, here, after = (chamber_ml[n % len(chamber_ml)] for n in (phase - 1, phase, phase + 1))
    return (
        f"The volume of the {name[0].lower() + name[1:]} ({here:.0f} ml) does not go with those of the phases before "
        f"and after ({before:.0f} and {after:.0f} ml)"
    )


def with_outliers(
    phases: Sequence[Segmentation], chamber_ml: Sequence[float], outliers: Sequence[int]
) -> list[Segmentation]:
    """The phases of one beat, those that are outliers with a finding that says so.

    Args:
        phases: All of the beat.
        chamber_ml: Volume of the task's chamber in each.
        outliers: Which phases, counted from 0.
    """
    result = list(phases)
    for number in outliers:
        phase = phases[number]
        axis = slice_axis(phase.volume, phase.task.plane)
        shape = shapes_of(phase.volume, phase.labels, phase.task, axis)[phase.task.chamber]
        topic = outlier_topic(shape.segment.name, chamber_ml, number)
        text = f"{topic} in phase {number + 1}."
        place, short = shape.in_slice(shape.middle), f"{shape.segment.name}: unlike before and after"
        finding = Finding(text, place, shape.segment.label, short, "outlier", topic)
        warnings = (*phase.warnings[: len(phase.findings)], text, *phase.warnings[len(phase.findings) :])
        result[number] = replace(phase, findings=(*phase.findings, finding), warnings=warnings)
    return result
