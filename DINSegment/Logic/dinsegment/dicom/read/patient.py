"""What the headers of a series say of the patient and of the heart's beat, for a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from statistics import median

from pydicom import Dataset

from dinsegment.dicom.read.header import items, numbers, text
from dinsegment.dicom.read.picture import beat_ms

HEIGHTS_M, WEIGHTS_KG, MOST_YEARS = (0.3, 2.5), (0.5, 400.0), 120.0
"""Beyond these a value is a mistake: a height in cm, a weight in g, a birth date that an anonymiser has set."""

BODY_MASS_INDICES = 5.0, 250.0
"""kg/m2: beyond these, height and weight do not belong to one person, as where one was written in the other's place."""

_AGE_UNITS = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}


@dataclass(frozen=True)
class Patient:
    """What is known of the patient at the time of the scan; None for what the images do not say or cannot be right.

    Attributes:
        sex: `M` or `F`.
        age_years: In years.
        height_m: In metres.
        weight_kg: In kilograms.
        heart_rate_bpm: Heartbeats a minute while the images were taken, the median over them.
        wrong: What the images say of height and weight but cannot be right, in words such as `a height of 175 m`.
    """

    sex: str | None = None
    age_years: float | None = None
    height_m: float | None = None
    weight_kg: float | None = None
    heart_rate_bpm: float | None = None
    wrong: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, str | float | None]:
        """A dictionary for JSON; `wrong` stands in the reasons of the numbers that miss what was left out."""
        return {name: value for name, value in vars(self).items() if name != "wrong"}


def patient_of(headers: Sequence[Dataset]) -> Patient:
    """What the headers of one series, or of one stack, say. Values of the patient are those of the first that has them.

    The heart rate follows from Nominal Interval, the RR interval of an enhanced image or Heart Rate (DICOM PS3.3
    C.7.6.18, C.8.13.5), of each image that has one.
    """
    (height, weight), wrong = _size(headers)
    sexes = (text([header], "PatientSex").upper() for header in headers)
    beats = [beat for header in headers if (beat := _beat(header)) is not None]
    return Patient(
        sex=next((sex for sex in sexes if sex in ("M", "F")), None),
        age_years=next((age for header in headers if (age := _age(header)) is not None), None),
        height_m=height,
        weight_kg=weight,
        heart_rate_bpm=60_000 / median(beats) if beats else None,
        wrong=wrong,
    )


def _size(headers: Sequence[Dataset]) -> tuple[tuple[float | None, float | None], tuple[str, ...]]:
    """Height in m and weight in kg, None where there is none, and what is said of them but cannot be right."""
    found, said = [], []
    for keyword, (low, high), words in (
        ("PatientSize", HEIGHTS_M, "a height of {} m"),
        ("PatientWeight", WEIGHTS_KG, "a weight of {} kg"),
    ):
        texts = [value for header in headers if (value := text([header], keyword))]
        values = [(numbers([header], keyword, 1) or [None])[0] for header in headers]
        right = next((value for value in values if value is not None and low <= value <= high), None)
        # Zero is what many scanners write where nobody has filled in anything.
        told = right if right is not None else next((one for one in texts if one.strip("0., ")), None)
        found.append(right)
        said.append("" if told is None else words.format(f"{told:g}" if isinstance(told, float) else told))
    height, weight = found
    low, high = BODY_MASS_INDICES
    if height is not None and weight is not None and not low <= weight / height**2 <= high:
        return (None, None), tuple(said)
    return (height, weight), tuple(words for value, words in zip(found, said, strict=True) if value is None and words)


def _beat(header: Dataset) -> float | None:
    """Milliseconds of a heartbeat."""
    rate, interval = (numbers([header], keyword, 1) for keyword in ("HeartRate", "NominalInterval"))
    if interval is None:
        interval = numbers(_shared(header), "RRIntervalTimeNominal", 1)
    return beat_ms(interval and interval[0], rate and rate[0])


def _shared(header: Dataset) -> list[Dataset]:
    """The data sets of an enhanced image in which its heartbeat can stand."""
    groups = [
        *items(header, "SharedFunctionalGroupsSequence"),
        *items(header, "PerFrameFunctionalGroupsSequence")[:1],
    ]
    return [macro for group in groups for macro in items(group, "CardiacSynchronizationSequence")]


def _age(header: Dataset) -> float | None:
    """Years: from the birth date to the scan, or as Patient's Age says it (nnnY, nnnM, nnnW, nnnD)."""
    born, scanned = _date(text([header], "PatientBirthDate")), None
    for keyword in ("AcquisitionDate", "SeriesDate", "StudyDate", "ContentDate"):
        scanned = scanned or _date(text([header], keyword))
    age = None
    if born and scanned:
        age = (scanned - born).days / 365.25
    if age is None or not 0 < age <= MOST_YEARS:
        said = text([header], "PatientAge").upper()
        count, unit = said[:-1].strip(), said[-1:]
        age = int(count) / _AGE_UNITS[unit] if count.isdigit() and unit in _AGE_UNITS else None
    return age if age is not None and 0 < age <= MOST_YEARS else None


def _date(value: str) -> date | None:
    value = value.replace(".", "")
    try:
        return date(int(value[:4]), int(value[4:6]), int(value[6:8])) if len(value) == 8 else None
    except ValueError:
        return None
