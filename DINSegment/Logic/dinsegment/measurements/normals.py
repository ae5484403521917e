"""Published normal values and limits, and where a measurement lies among them.

They are data, Resources/Measurements/normal_values.json: each number with its source, whom it was measured in, and
where it was read. A number that could not be looked up is not among them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from dinsegment.measurements.measurement import Measurement
from dinsegment.measurements.ranges import NormalRange, Source
from dinsegment.resources import resource
from dinsegment.tasks import Task

if TYPE_CHECKING:
    from dinsegment.dicom.read.patient import Patient

WITHIN_SD = 1.96
"""Standard deviations on either side of the mean within which 95 of 100 healthy people are."""


@cache
def _content() -> dict[str, Any]:
    content = json.loads((resource("Measurements") / "normal_values.json").read_text(encoding="utf-8"))
    content["sources"] = {name: Source(**entry) for name, entry in content["sources"].items()}
    return content


def sources() -> dict[str, Source]:
    """All publications that numbers come from."""
    return dict(_content()["sources"])


def has_normal_values(measurement: Measurement) -> bool:
    """Whether there are published normal values of this kind for anybody."""
    return any(_is_of(entry, measurement) for entry in _content()["ranges"])


def normal_range(measurement: Measurement, patient: Patient) -> NormalRange | None:
    """That of people of the patient's sex and age; None where there is none, or sex or age is not known."""
    if patient.sex is None or patient.age_years is None:
        return None
    for entry in _content()["ranges"]:
        youngest, oldest = entry["ages"]
        fits = entry["sex"] == patient.sex and youngest <= int(patient.age_years) <= oldest
        if fits and _is_of(entry, measurement):
            mean, reach = float(entry["mean"]), WITHIN_SD * entry["sd"]
            low, high = (float(measurement.written(end)) for end in (mean - reach, mean + reach))
            return NormalRange(low, high, mean, _content()["sources"][entry["source"]])
    return None


def why_no_normal_values(patient: Patient) -> str:
    """Why there are none for this patient, a sentence; empty where there are some."""
    missing = [name for name, value in (("sex", patient.sex), ("age", patient.age_years)) if value is None]
    if missing:
        return f"No normal value for this patient: the {' and the '.join(missing)} is not known."
    ages = [entry["ages"] for entry in _content()["ranges"] if entry["sex"] == patient.sex]
    if any(youngest <= int(patient.age_years) <= oldest for youngest, oldest in ages):
        return ""
    youngest, oldest = min(a for a, _ in ages), max(b for _, b in ages)
    return f"No normal value for this patient: those that are published here are of {youngest} to {oldest} years."


def _is_of(entry: dict[str, Any], measurement: Measurement) -> bool:
    return entry["kind"] == measurement.kind and entry.get("index", "") == measurement.index


def with_normal_values(measurements: Sequence[Measurement], patient: Patient) -> list[Measurement]:
    """The measurements of a patient, those with a value with where healthy people of this sex and age are."""
    return [m if m.value is None else replace(m, normal=normal_range(m, patient)) for m in measurements]


def with_remarks(
    measurements: Sequence[Measurement], task: Task, has_contrast: bool | None = None
) -> list[Measurement]:
    """The measurements, those beyond a published limit with what it says of them.

    Args:
        measurements: Of one study.
        task: What the segments are.
        has_contrast: Whether contrast agent was given; None where nobody knows, so that limits without are not asked.
    """
    return [replace(m, remark=_remark(m, task, has_contrast) or m.remark) for m in measurements]


def _remark(measurement: Measurement, task: Task, has_contrast: bool | None) -> str:
    value = measurement.read
    if value is None or not measurement.segments:
        return ""
    kind = task.segments[measurement.segments[0] - 1].type
    for entry in _content()["limits"]:
        if entry["kind"] != measurement.kind or entry["type"] != [kind.scheme, kind.value]:
            continue
        if entry.get("unenhanced") and has_contrast is not False:
            continue
        beyond = (
            value >= entry.get("at_least", float("inf"))
            or value > entry.get("above", float("inf"))
            or value < entry.get("below", float("-inf"))
        )
        if beyond:
            return f"{entry['remark']} ({_content()['sources'][entry['source']].short})."
    return ""
