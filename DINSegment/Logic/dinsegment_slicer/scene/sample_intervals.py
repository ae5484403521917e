"""The intervals of what the panel measures, from the samples that are kept at its segmentations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import slicer

from dinsegment.images.segmentation import OTHER_IMAGE
from dinsegment.measurements.function import Beat, Ventricle
from dinsegment.measurements.infarct import Damage
from dinsegment.measurements.intervals import (
    Interval,
    Intervals,
    draws_of_beat,
    draws_of_image,
    intervals_about,
    why_not_like,
)
from dinsegment.measurements.measurement import Measurement
from dinsegment.tasks import Task
from dinsegment_slicer.scene.findings import findings_of
from dinsegment_slicer.scene.measure import MeasuredSegment
from dinsegment_slicer.scene.sample_notes import SampleNotes, sample_notes
from dinsegment_slicer.scene.task_labels import changed_labels, segments_of_task


@dataclass(frozen=True, eq=False)
class SampleIntervals:
    """How far what the panel shows can be trusted.

    Attributes:
        sampled: Phases, from 0, of which there are samples.
        draws: How many.
        model: That they are of.
        remark: What is to be known of the intervals, a sentence or two.
        numbers: Those of the heart's function and of the damage to its wall, by key (`lv_ef`, `infarct_percent`).
        volumes: Those of segments, by phase and ID.
    """

    sampled: tuple[int, ...]
    draws: int
    model: str
    remark: str
    numbers: Mapping[str, Interval]
    volumes: Mapping[tuple[int, str], Interval]


def sample_intervals(
    task: Task,
    phases: Sequence[Sequence[MeasuredSegment]],
    segmentationNodes: Sequence[slicer.vtkMRMLSegmentationNode],
    beat: Beat | None,
    damage: Damage | None,
    voxel_ml: float | None,
) -> SampleIntervals | None:
    """The intervals of measured phases; None where nobody has asked for samples, or they are of another size.

    Samples are of the model: what the user has corrected has no interval, nor has what is made of it; nothing has one
    in an image that is not like those of the patients that were looked at.

    Args:
        task: What was segmented.
        phases: What `measure` said of each.
        segmentationNodes: What was measured.
        beat: What it tells of the left ventricle; None for a task in which nothing beats.
        damage: What a single image tells of the damage to its wall; None for nothing.
        voxel_ml: Volume of the image's voxels in the world; None where that is not known.
    """
    kept = {n: notes for n, node in enumerate(segmentationNodes) if (notes := sample_notes(node)) is not None}
    kept = {n: notes for n, notes in kept.items() if voxel_ml is not None and notes.fits(voxel_ml)}
    if not kept:
        return None
    ids = {n: segments_of_task(segmentationNodes[n].GetSegmentation(), task) for n in kept}
    changed = {n: changed_labels(segmentationNodes[n], task) for n in kept}
    ml = {n: {s.id: s.volume_ml for s in phases[n]} for n in kept}
    ml = {n: {label: ml[n][i] for label, i in ids[n].items() if i in ml[n]} for n in kept}
    other = any(noted.kind == OTHER_IMAGE for node in segmentationNodes for noted in findings_of(node))
    why_not, function = why_not_like(beat, other), None if beat is None else beat.function
    found: list[Intervals] = []
    volumes: dict[tuple[int, str], Interval] = {}
    numbers: dict[str, Interval] = {}
    for n, notes in kept.items():
        about = _of_image(task, notes, ml[n], damage, changed[n], why_not)
        if about is not None:
            found.append(about)
            for one in about.intervals:
                if one.measurement.kind == "volume":
                    volumes[n, ids[n][one.measurement.segments[0]]] = one
                else:
                    numbers[one.measurement.key] = one
    if function is not None and {function.end_diastole, function.end_systole} <= set(kept):
        ends = function.end_diastole, function.end_systole
        about = _of_beat(task, [kept[n] for n in ends], [ml[n] for n in ends], [changed[n] for n in ends], why_not)
        if about is not None:
            found.insert(0, about)
            numbers |= {one.measurement.key: one for one in about.intervals}
            for n, key in zip(ends, ("lv_edv", "lv_esv"), strict=True):
                if key in numbers:
                    volumes[n, ids[n][task.chamber]] = numbers[key]
    first = next(iter(kept.values())).samples
    best = next((one for one in found if one.intervals), next(iter(found), None))
    remark = "" if best is None else replace(best, corrected=any(one.corrected for one in found)).remark
    return SampleIntervals(tuple(sorted(kept)), first.draws, first.model, remark, numbers, volumes)


def _of_image(
    task: Task,
    notes: SampleNotes,
    ml: Mapping[int, float],
    damage: Damage | None,
    changed: frozenset[int],
    why_not: str,
) -> Intervals | None:
    measured = [
        Measurement("volume", ml[s.label], subject=s.name, segments=(s.label,)) for s in task.segments if s.label in ml
    ]
    if damage is not None:
        of_wall = (task.wall.muscle, *task.wall.damaged)
        measured += [Measurement(kind, percent, segments=of_wall) for kind, percent in damage.percents.items()]
    drawn = draws_of_image(task, notes.samples)
    return intervals_about(measured, drawn, notes.samples, lambda m: not changed & set(m.segments), why_not)


def _of_beat(
    task: Task,
    notes: Sequence[SampleNotes],
    ml: Sequence[Mapping[int, float]],
    changed: Sequence[frozenset[int]],
    why_not: str,
) -> Intervals | None:
    """Of end diastole and end systole, in this order."""
    from dinsegment.dicom.read.patient import Patient  # It takes pydicom, which nothing else of the panel needs.
    from dinsegment.measurements.heart import heart_measurements

    samples = [one.samples for one in notes]
    if samples[0].draws != samples[1].draws or not all({task.chamber, task.muscle} <= set(one) for one in ml):
        return None
    right = task.right_chamber if all(task.right_chamber in one for one in ml) else None
    beat = Beat([one[task.chamber] for one in ml], [one[task.muscle] for one in ml])
    other = Ventricle([one[right] for one in ml], name="right ventricle") if right is not None else None
    measured = heart_measurements(task, beat, other, Patient())
    drawn = draws_of_beat(task, *samples, right is not None, Patient())

    def is_models_own(measurement: Measurement) -> bool:
        return not any(changed[n] & set(measurement.segments) for n in measurement.phases or (0, 1))

    return intervals_about(measured, drawn, samples[0], is_models_own, why_not)
