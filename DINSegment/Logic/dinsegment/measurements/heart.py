"""The numbers that a cine MR of the heart is read for: both ventricles, the mass, the output, how fast it moves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dinsegment.measurements.body import SurfaceFormula, body_surface_area
from dinsegment.measurements.function import Beat, Ventricle
from dinsegment.measurements.measurement import Index, Measurement
from dinsegment.measurements.rates import NO_TIMES, Rates
from dinsegment.tasks import Task

if TYPE_CHECKING:
    from dinsegment.dicom.read.patient import Patient

FEW_PHASES = 10
"""Of fewer phases of a beat, end systole may lie so far between two that the ejection fraction is lower by a point or
more. Two phases are taken for those that somebody has chosen."""

NO_HEART_RATE = "The heart rate is not known."

SIZES: dict[Index, tuple[str, ...]] = {"bsa": ("height", "weight"), "height": ("height",)}
"""What has to be known of the patient to index a number."""


def heart_measurements(
    task: Task,
    beat: Beat,
    right: Ventricle | None,
    patient: Patient,
    rates: Rates | str = NO_TIMES,
    formula: SurfaceFormula = "mosteller",
) -> list[Measurement]:
    """Both ventricles' volumes and what follows from them, each number or why there is none; none of a single phase.

    End diastole and end systole of each ventricle are its own largest and smallest volume; the right one is measured
    at the left one's end systole, too.

    Args:
        task: What the segments are.
        beat: The left ventricle.
        right: The right one, where it was segmented.
        patient: As far as it is known.
        rates: Of the left ventricle's volume; or why there are none.
        formula: For body surface area.
    """
    if len(beat.chamber_ml) < 2:
        return []
    found = _left(task, beat, patient, rates)
    if right is not None:
        found += _right(task, right, None if beat.reason else beat.left.ends)
    return [one for m in found for one in (m, *(_indexed(m, index, patient, formula) for index in m.definition.index))]


def _left(task: Task, beat: Beat, patient: Patient, rates: Rates | str) -> list[Measurement]:
    chamber, muscle = (task.chamber,), (task.muscle,)
    kinds = ("lv_edv", "lv_esv", "lv_sv", "lv_ef", "lv_mass_ed", "lv_mass_es", "cardiac_output")
    rate_kinds = (
        *("lv_peak_ejection_rate", "lv_time_to_peak_ejection", "lv_peak_filling_rate", "lv_time_to_peak_filling"),
    )
    if beat.reason:
        return [Measurement(kind, None, reason=beat.reason, segments=chamber) for kind in (*kinds, *rate_kinds)]
    volumes = beat.left.volumes(*beat.left.ends)
    ed, es = volumes.end_diastole, volumes.end_systole
    found = [
        Measurement("lv_edv", volumes.end_diastolic_volume_ml, segments=chamber, phases=(ed,)),
        Measurement("lv_esv", volumes.end_systolic_volume_ml, segments=chamber, phases=(es,)),
        Measurement("lv_sv", volumes.stroke_volume_ml, segments=chamber, phases=(ed, es)),
        Measurement(
            "lv_ef", volumes.ejection_fraction_percent, segments=chamber, phases=(ed, es), remark=_few_phases(beat.left)
        ),
        Measurement("lv_mass_ed", beat.mass_g(ed), segments=muscle, phases=(ed,)),
        Measurement("lv_mass_es", beat.mass_g(es), segments=muscle, phases=(es,)),
    ]
    rate = patient.heart_rate_bpm
    if rate is None:
        found.append(Measurement("cardiac_output", None, reason=NO_HEART_RATE, segments=chamber))
    else:
        litres = volumes.stroke_volume_ml * rate / 1000
        found.append(Measurement("cardiac_output", litres, segments=chamber, phases=(ed, es)))
    if isinstance(rates, str):
        return [*found, *(Measurement(kind, None, reason=rates, segments=chamber) for kind in rate_kinds)]
    values = (
        *(rates.peak_ejection_ml_s, rates.time_to_peak_ejection_ms),
        *(rates.peak_filling_ml_s, rates.time_to_peak_filling_ms),
    )
    return [*found, *(Measurement(k, value, segments=chamber) for k, value in zip(rate_kinds, values, strict=True))]


def _right(task: Task, right: Ventricle, left_ends: tuple[int, int] | None) -> list[Measurement]:
    """Of the right ventricle; `left_ends` are end diastole and end systole of the left one, where it has them."""
    segments = (task.right_chamber,)
    own, at_left = ("rv_edv", "rv_esv", "rv_sv", "rv_ef"), ("rv_esv_lv", "rv_ef_lv")
    if why := right.why_not():
        reason = f"{why[0].upper()}{why[1:]}."
        return [Measurement(kind, None, reason=reason, segments=segments) for kind in (*own, *at_left)]
    volumes = right.volumes(*right.ends)
    ed, es = volumes.end_diastole, volumes.end_systole
    found = [
        Measurement("rv_edv", volumes.end_diastolic_volume_ml, segments=segments, phases=(ed,)),
        Measurement("rv_esv", volumes.end_systolic_volume_ml, segments=segments, phases=(es,)),
        Measurement("rv_sv", volumes.stroke_volume_ml, segments=segments, phases=(ed, es)),
        Measurement(
            "rv_ef", volumes.ejection_fraction_percent, segments=segments, phases=(ed, es), remark=_few_phases(right)
        ),
    ]
    if left_ends is None:
        reason = "The left ventricle's end systole is not known."
        return [*found, *(Measurement(kind, None, reason=reason, segments=segments) for kind in at_left)]
    ed, es = left_ends
    with_left = right.volumes(ed, es)
    return [
        *found,
        Measurement("rv_esv_lv", with_left.end_systolic_volume_ml, segments=segments, phases=(es,)),
        Measurement("rv_ef_lv", with_left.ejection_fraction_percent, segments=segments, phases=(ed, es)),
    ]


def _few_phases(ventricle: Ventricle) -> str:
    """What few phases mean for the ejection fraction, a sentence; empty for two phases, and for enough."""
    count = len(ventricle.chamber_ml)
    if not 2 < count < FEW_PHASES:
        return ""
    return f"Of {count} phases end systole may lie between two, so that the ejection fraction may be higher."


def _no_size(index: Index, patient: Patient) -> str:
    """Why a number is not indexed, in sentences; empty where what it takes is known."""
    known = {"height": patient.height_m, "weight": patient.weight_kg}
    missing = [name for name in SIZES[index] if known[name] is None]
    if not missing:
        return ""
    words = f"The {missing[0]} is" if len(missing) == 1 else f"{' and '.join(missing).capitalize()} are"
    wrong = [words for words in patient.wrong if any(f" {name} " in words for name in missing)]
    return f"{words} not known." + (f" The images say {' and '.join(wrong)}, which cannot be right." if wrong else "")


def _indexed(measurement: Measurement, index: Index, patient: Patient, formula: SurfaceFormula) -> Measurement:
    """The same divided by the patient's body surface area or height."""
    height, weight = patient.height_m, patient.weight_kg
    if measurement.value is None:
        return replace(measurement, index=index, remark="")
    if reason := _no_size(index, patient):
        return replace(measurement, index=index, value=None, reason=reason)
    size = height if index == "height" else body_surface_area(height, weight, formula)
    return replace(measurement, index=index, value=measurement.value / size)
