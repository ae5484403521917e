"""What stands in a report, as data: patient, tables, findings, what is left out and why, sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dinsegment.dicom.read.patient import Patient
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.slices import slice_axis
from dinsegment.images.volume import slice_number
from dinsegment.measurements.intervals import Intervals, intervals_of
from dinsegment.measurements.measurement import Measurement
from dinsegment.measurements.normals import (
    has_normal_values,
    sources,
    why_no_normal_values,
)
from dinsegment.measurements.ranges import NormalRange
from dinsegment.measurements.study import StudyMeasurements
from dinsegment.quality.gather import Gathered, gathered_findings, other_warnings
from dinsegment.quality.words import phases_text, slices_text
from dinsegment.version import __version__

NOTE = "Research tool, not a medical device."

FORMULAS = {"mosteller": "Mosteller 1987", "dubois": "Du Bois 1916"}
"""Of body surface area, as they are named."""

_INDEXED = {"bsa": "Indexed numbers: by body surface area", "height": "Indexed numbers: by height"}
"""What they are called where they are missing although the numbers themselves are there."""

ONE_PHASE = "Ejection fraction, mass and wall thickness. One phase does not tell end diastole and end systole."


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        name: What was measured.
        cells: A text for each column; empty where there is nothing.
        value: The number that the range is of, as it is read; None for none.
        range: Where healthy people of this sex and age are; None for nobody knows.
        range_text: The same in words, and on which side of it a number is that is not within.
        marks: Numbers, from 1, of the findings that touch the number.
        remark: What a published limit says of it.
    """

    name: str
    cells: tuple[str, ...]
    value: float | None = None
    range: NormalRange | None = None
    range_text: str = ""
    marks: tuple[int, ...] = ()
    remark: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under a title; `columns` are those of the cells, after the name."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    has_ranges: bool = False


@dataclass(frozen=True)
class Report:
    """What stands in a report.

    Attributes:
        title: What was examined.
        patient: Labels and what is known; without identity in an anonymous report.
        tables: With what was measured.
        findings: What looks wrong, or lies beyond a limit, a sentence each; rows refer to them by their number from 1.
        left_out: What could not be measured, with its reason, a sentence each.
        notes: How to read it: conventions, where normal values come from.
        made_by: Model, version, device.
        note: That this is a research tool.
    """

    title: str
    patient: tuple[tuple[str, str], ...]
    tables: tuple[Table, ...]
    findings: tuple[str, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    made_by: str
    note: str = NOTE


def report_content(phases: Sequence[Segmentation], study: StudyMeasurements, anonymous: bool = False) -> Report:
    """Puts together what stands in the report of one study.

    Args:
        phases: As they were measured.
        study: What they measure.
        anonymous: Whether what tells who the patient is stays out: names, numbers, dates, and the name of the file.
    """
    task = phases[0].task
    gathered = gathered_findings(phases)
    findings = [one.text for one in gathered]
    if anonymous:
        for phase in phases:
            findings = [text.replace(f"'{phase.volume.name}'", "the image") for text in findings]
    beats = study.beat is not None and len(phases) > 1
    intervals = intervals_of(phases, study)
    if beats:
        tables = _heart_tables(study, gathered, intervals)
    else:
        tables = _organ_tables(study, gathered, phases[0], intervals) + _infarct_tables(study, gathered, intervals)
    remarks = [m.remarked for m in study.measurements if m.remark]
    return Report(
        title=f"{task.title} {'MR' if task.modality == 'MR' else task.modality}",
        patient=tuple(_patient_line(phases[0], study, anonymous)),
        tables=tables,
        findings=(*findings, *remarks),
        left_out=((ONE_PHASE,) if study.beat is not None and not beats else ()) + tuple(_left_out(study)),
        notes=(
            *_corrected(phases),
            *((intervals.remark,) if intervals is not None else ()),
            *_notes(study, beats, () if anonymous else other_warnings(phases)),
        ),
        made_by=f"{phases[0].model}, DINSegment {__version__}",
    )


def _corrected(phases: Sequence[Segmentation]) -> tuple[str, ...]:
    """Which slices a person has corrected, a sentence; none if nobody has."""
    count = sum(len(phase.corrected) for phase in phases)
    if not count:
        return ()
    if len(phases) == 1:
        where = slices_text(number + 1 for number in phases[0].corrected)
    else:
        several = [
            f"{slices_text(n + 1 for n in p.corrected)} of phase {k}" for k, p in enumerate(phases, 1) if p.corrected
        ]
        where = ", ".join(several)
        if len(several) > 3:
            where = f"{count} slices in {phases_text((k for k, p in enumerate(phases, 1) if p.corrected), len(phases))}"
    return (f"Semiautomatic: a person has corrected {where}; what was drawn there was learned for the other slices.",)


def _patient_line(phase: Segmentation, study: StudyMeasurements, anonymous: bool) -> list[tuple[str, str]]:
    line: list[tuple[str, str]] = []
    if not anonymous:
        dicom = phase.volume.dicom
        if dicom is None:
            line.append(("Image", phase.volume.name))
        else:
            header = dicom.headers[0]
            line += [
                ("Patient", person(str(header.get("PatientName") or ""))),
                ("ID", str(header.get("PatientID") or "")),
                ("Born", day(str(header.get("PatientBirthDate") or ""))),
                ("Study", day(str(header.get("StudyDate") or ""))),
                ("Accession", str(header.get("AccessionNumber") or "")),
            ]
    line += size_line(study.patient, study.surface_m2)
    return [(label, text) for label, text in line if text.strip()]


def size_line(patient: Patient, surface_m2: float | None) -> list[tuple[str, str]]:
    """What is known of the patient's body."""

    def number(value: float | None, text: str) -> str:
        return "" if value is None else text.format(value)

    return [
        ("Sex", {"M": "male", "F": "female"}.get(patient.sex or "", "")),
        ("Age", "" if patient.age_years is None else age(patient.age_years)),
        ("Height", number(patient.height_m and 100 * patient.height_m, "{:.0f} cm")),
        ("Weight", number(patient.weight_kg, "{:.0f} kg")),
        ("Body surface", number(surface_m2, "{:.2f} m²")),
        ("Heart rate", number(patient.heart_rate_bpm, "{:.0f}/min")),
    ]


def age(years: float) -> str:
    """An age as it is read: in whole years; in months below two years."""
    return f"{int(years)} years" if years >= 2 else f"{int(12 * years)} months"


def person(name: str) -> str:
    """A DICOM name as it is read: `Family, Given (ideographic)`."""
    groups = []
    for group in name.split("=")[:2]:
        family, _, others = group.partition("^")
        given = " ".join(part for part in others.split("^") if part)
        if family or given:
            groups.append(", ".join(part for part in (family, given) if part))
    return f"{groups[0]} ({groups[1]})" if len(groups) == 2 else "".join(groups)


def day(date: str) -> str:
    """A DICOM date as it is read: `2024-01-31`; of one that an anonymiser has left the year, or nothing."""
    date = date.replace(".", "")
    try:
        return f"{datetime.strptime(date, '%Y%m%d'):%Y-%m-%d}"
    except ValueError:
        return date[:4] if date[:4].isdigit() and date[:4] > "1800" else ""


def _marks(measurement: Measurement, gathered: Sequence[Gathered]) -> tuple[int, ...]:
    """Which findings touch a number, from 1."""
    touching = []
    for number, finding in enumerate(gathered, start=1):
        about = finding.segment is None or finding.segment in measurement.segments
        if about and (not measurement.phases or set(measurement.phases) & set(finding.phases)):
            touching.append(number)
    return tuple(touching)


def _heart_tables(
    study: StudyMeasurements, gathered: Sequence[Gathered], intervals: Intervals | None
) -> tuple[Table, ...]:
    by_key = {m.key: m for m in study.measurements}
    groups: dict[str, list[Row]] = {}
    for measurement in study.measurements:
        if measurement.index or measurement.subject or measurement.value is None:
            continue
        indexed = [by_key.get(f"{measurement.key}_{index}") for index in ("bsa", "height")]
        cells = [f"{measurement.text} {measurement.unit}{intervals.beside(measurement.key) if intervals else ''}"]
        cells += ["" if m is None or m.value is None else f"{m.text} {m.unit}" for m in indexed]
        ranged = next((m for m in (measurement, *indexed) if m is not None and has_normal_values(m)), None)
        known = None if ranged is None else ranged.normal
        text = ""
        if known is not None:
            text = f"{ranged.written(known.low)} to {ranged.written(known.high)} {ranged.unit}"
            place = known.place_of(ranged.read)
            text += "" if place == "within" else f", {place}"
        row = Row(
            measurement.definition.name,
            tuple(cells),
            ranged.read if known is not None else None,
            known,
            text,
            _marks(measurement, gathered),
            measurement.remark,
        )
        groups.setdefault(measurement.definition.group, []).append(row)
    columns = ("(90 % interval)" if intervals and intervals.intervals else "", "/ body surface", "/ height")
    return tuple(Table(title, columns, tuple(rows), True) for title, rows in groups.items())


def _organ_tables(
    study: StudyMeasurements, gathered: Sequence[Gathered], phase: Segmentation, intervals: Intervals | None
) -> tuple[Table, ...]:
    """A row for each structure: volume, attenuation, extents."""
    organs: dict[str, dict[str, Measurement]] = {}
    for measurement in study.measurements:
        organs.setdefault(measurement.subject, {})[measurement.kind] = measurement
    rows = []
    for name, found in organs.items():

        def text(*kinds: str, found: dict[str, Measurement] = found, named: bool = False) -> str:
            parts = []
            for kind in kinds:
                m = found.get(kind)
                if m is not None and m.value is not None:
                    label = f"{m.definition.name.lower()} " if named else ""
                    beside = intervals.beside(m.key) if intervals else ""
                    parts.append(f"{label}{m.text} {m.unit}{beside}{_at(m, phase)}".strip())
            return ", ".join(parts)

        attenuation = text("hu_mean") or text("hu_difference")
        if ratio := text("hu_ratio"):
            attenuation = f"difference {attenuation}, ratio {ratio}"
        if (spread := found.get("hu_sd")) is not None and spread.value is not None:
            attenuation += f" (SD {spread.text})"
        cells = (text("volume"), attenuation, text("length", "height", "diameter", named=True))
        if not any(cells):
            continue
        marks = sorted({mark for m in found.values() for mark in _marks(m, gathered)})
        remark = " ".join(m.remark for m in found.values() if m.remark)
        rows.append(Row(name, cells, marks=tuple(marks), remark=remark))
    has = [any(row.cells[n] for row in rows) for n in range(3)]
    known = intervals is not None and any(one.measurement.kind == "volume" for one in intervals.intervals)
    volume = "Volume (90 % interval)" if known else "Volume"
    columns = (volume, "Attenuation", "Extents")
    kept = [n for n in range(3) if has[n]]
    return (
        Table(
            phase.task.title,
            tuple(columns[n] for n in kept),
            tuple(Row(r.name, tuple(r.cells[n] for n in kept), marks=r.marks, remark=r.remark) for r in rows),
        ),
    )


def _infarct_tables(
    study: StudyMeasurements, gathered: Sequence[Gathered], intervals: Intervals | None
) -> tuple[Table, ...]:
    """How much of the muscle is infarcted, and of which segments; none where that was not measured."""
    shares = [m for m in study.measurements if m.kind == "infarct_segment" and m.value is not None]
    whole = [m for m in study.measurements if m.definition.group == "Infarct" and m.value is not None]

    def row(name: str, *numbers: Measurement) -> Row:
        cells = tuple(f"{m.text} {m.unit}{intervals.beside(m.key) if intervals else ''}" for m in numbers)
        return Row(name, cells, marks=tuple(sorted({mark for m in numbers for mark in _marks(m, gathered)})))

    known = intervals is not None and any(intervals.of(m.key) for m in whole)
    heading = "Of the muscle (90 % interval)" if known else "Of the muscle"
    of_muscle = Table("Infarct size", (heading,), tuple(row(m.definition.name, m) for m in whole))
    of_walls = Table("Infarcted walls", ("Infarcted share",), tuple(row(m.subject, m) for m in shares))
    return tuple(table for table in (of_muscle, of_walls) if table.rows)


def _at(measurement: Measurement, phase: Segmentation) -> str:
    """In which slice something was measured at one place."""
    if measurement.place is None:
        return ""
    axis = slice_axis(phase.volume, phase.task.plane)
    return f" (slice {slice_number(phase.volume, measurement.place, axis)})"


def _left_out(study: StudyMeasurements) -> list[str]:
    """What could not be measured, by its reason."""
    reasons: dict[str, list[str]] = {}
    by_key = {m.key: m for m in study.measurements}
    for m in study.measurements:
        if m.value is None:
            name = m.name if m.subject else f"{m.definition.group}: {m.definition.name}"
            if m.index and by_key[m.key.removesuffix(f"_{m.index}")].value is not None:
                name = _INDEXED[m.index]
            named = reasons.setdefault(m.reason, [])
            if name not in named:
                named.append(name)
    found = []
    for reason, names in reasons.items():
        by_group: dict[str, list[str]] = {}
        for name in names:
            group, _, what = name.partition(": ")
            by_group.setdefault(group, []).append(what[:1].lower() + what[1:])
        # What is missing of several organs alike is said once.
        by_what: dict[tuple[str, ...], list[str]] = {}
        for group, what in by_group.items():
            by_what.setdefault(tuple(what), []).append(group)
        listed = "; ".join(f"{', '.join(groups)}: {', '.join(what)}" for what, groups in by_what.items())
        found.append(f"{listed}. {reason}")
    walls = study.walls
    if walls is not None:
        if walls.reason:
            found.append(f"Wall thickness. {walls.reason}")
        else:
            for name, wall in (("end diastole", walls.end_diastole), ("end systole", walls.end_systole)):
                found += [f"Wall thickness at {name}: {text[0].lower()}{text[1:]}" for text in wall.left_out]
            found.append("Segment 17, the apex: short-axis slices do not show it.")
    return list(dict.fromkeys(found))


def _notes(study: StudyMeasurements, beats: bool, others: Sequence[str]) -> list[str]:
    notes = [*others]
    if beats:
        used = {m.normal.source.short: m.normal.source for m in study.measurements if m.normal is not None}
        for source in used.values():
            told = (source.citation, f"doi {source.doi}", source.population, source.convention)
            notes.append(f"Normal: mean ± 1.96 SD. {'. '.join(told)}.")
        if not used:
            notes.append(why_no_normal_values(study.patient) or "No normal values are known of what was measured.")
        if len(study.beat.chamber_ml) == 2:
            notes.append("The larger of the two phases is taken for end diastole, the smaller for end systole.")
        if study.surface_m2 is not None:
            notes.append(f"Body surface area: {FORMULAS[study.surface_formula]}.")
        notes.append("Papillary muscles are counted as cavity; muscle has 1.05 g/ml.")
        if study.walls is not None and not study.walls.reason and not study.walls.named:
            notes.append("The walls have no names: the image does not tell how the patient lies.")
    elif study.contrast is not None:
        notes.append(
            "The images show contrast agent: limits of the liver's attenuation are for images without."
            if study.contrast
            else "The images show no contrast agent."
        )
    cited = {m.remark.rpartition("(")[2].rstrip(").") for m in study.measurements if m.remark}
    notes += [f"{s.short}: {s.citation}, doi {s.doi}." for s in sources().values() if s.short in cited]
    return [note for note in notes if note]
