"""One number about a patient: what it is, where it comes from, or why there is none."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from dinsegment.measurements.ranges import NormalRange
from dinsegment.resources import resource
from dinsegment.tasks import Code

Index = Literal["", "bsa", "height"]
"""What a number is divided by: nothing, body surface area in m2, or height in m."""

_PER_UNIT = {"": "", "bsa": "/m²", "height": "/m"}
_PER_WORDS = {"": "", "bsa": ", indexed to body surface area", "height": ", indexed to height"}


@dataclass(frozen=True)
class Definition:
    """What a kind of measurement is, as Resources/Measurements/definitions.json has it.

    Attributes:
        name: What the user reads.
        group: What it is about where that is always the same, such as the left ventricle.
        unit: `ml`, `%`, ...; empty for a ratio.
        digits: After the decimal point.
        index: What else it is given divided by.
        code: What DICOM calls it; None where it has no such concept.
        most: The most that it can be, as 100 % of a whole; None where there is no such limit.
    """

    name: str
    group: str
    unit: str
    digits: int
    index: tuple[Index, ...] = ()
    code: Code | None = None
    most: float | None = None


@cache
def definitions() -> dict[str, Definition]:
    """All kinds of measurements by their keys, in the order in which they are listed."""
    entries = json.loads((resource("Measurements") / "definitions.json").read_text(encoding="utf-8"))
    return {
        key: Definition(
            entry["name"],
            entry["group"],
            entry["unit"],
            entry["digits"],
            tuple(entry.get("index", ())),
            Code(*entry["code"]) if "code" in entry else None,
            entry.get("most"),
        )
        for key, entry in entries.items()
    }


def rounded(value: float, digits: int) -> str:
    """A number with so many digits after the point, and without the sign of a zero."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


@dataclass(frozen=True)
class Measurement:
    """One number, or why there is none.

    Attributes:
        kind: What it is: a key of `definitions`.
        value: In the unit of its kind, over that of `index`; None where it could not be measured.
        subject: The structure that it is about, where the kind alone does not say it.
        index: What the number was divided by.
        reason: Why there is no value, in a sentence; empty where there is one.
        segments: Labels of the segments that it comes from; a finding about one of them touches the number.
        phases: Phases that it comes from, counted from 0; empty where there is but one, or all count.
        place: Where it was measured, in mm in RAS, where it is of one place.
        remark: What a published threshold says of it, or what else is to be known of it, in a sentence; empty for
            nothing.
        normal: Where healthy people of the patient's sex and age are; None where nobody knows.
    """

    kind: str
    value: float | None
    subject: str = ""
    index: Index = ""
    reason: str = ""
    segments: tuple[int, ...] = ()
    phases: tuple[int, ...] = ()
    place: tuple[float, float, float] | None = field(default=None)
    remark: str = ""
    normal: NormalRange | None = None

    def __post_init__(self) -> None:
        """Raises ValueError unless it has either a value or a reason."""
        if (self.value is None) == (not self.reason):
            raise ValueError(f"The measurement '{self.key}' has to have either a value or a reason.")

    @property
    def definition(self) -> Definition:
        """What its kind is."""
        return definitions()[self.kind]

    @property
    def key(self) -> str:
        """By which files and tables know it, such as `lv_edv_bsa` or `left_kidney_length`."""
        subject = re.sub(r"\W+", "_", self.subject.lower()).strip("_")
        return "_".join(part for part in (subject, self.kind, self.index) if part)

    @property
    def name(self) -> str:
        """What the user reads: `Left ventricle: End-diastolic volume, indexed to body surface area`."""
        return f"{self.subject or self.definition.group}: {self.definition.name}{_PER_WORDS[self.index]}"

    @property
    def unit(self) -> str:
        """Its unit, such as `ml/m²`."""
        return self.definition.unit + _PER_UNIT[self.index]

    @property
    def text(self) -> str:
        """The value as it is read, without its unit; empty where there is none."""
        return "" if self.value is None else self.written(self.value)

    def written(self, value: float) -> str:
        """Another value of the same kind as it is read."""
        return rounded(value, self.definition.digits)

    @property
    def read(self) -> float | None:
        """The value as it is read, rounded, which is what ranges and limits are held against; None for none."""
        return None if self.value is None else float(self.text)

    @property
    def remarked(self) -> str:
        """The number and what is to be known of it, a sentence; empty for nothing."""
        return f"{self.name}, {self.text} {self.unit}: {self.remark}" if self.remark else ""

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return {
            "key": self.key,
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "reason": self.reason,
            "remark": self.remark,
            "normal": self.normal.to_dict(self.read) if self.normal is not None and self.read is not None else None,
            "phases": list(self.phases),
            "ras": None if self.place is None else list(self.place),
        }
