"""The fields of the report that say who was examined: filled from DICOM, corrected by the user."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dinsegment.measurements.body import body_surface_area
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.panel.parameters import DINSegmentParameters
from dinsegment_slicer.signal import Signal

UNKNOWN = -1.0
"""In the parameter node: the user says that a number is not known, whatever DICOM says."""

UNKNOWN_SEX = "unknown"
"""The same of the sex."""

A_DAY = 1 / 365.25
"""In years: the age that is kept of a newborn, as 0 in the parameter node says nothing."""


@dataclass(frozen=True)
class Field:
    """A number of the patient.

    Attributes:
        widget: Name of its line edit.
        parameter: Name in the parameter node, in the field's unit; 0 where the user says nothing, `UNKNOWN` where they
            say that it is not known.
        key: Of `dinsegment.dicom.read.patient.Patient`.
        factor: Units of the field in one of that.
        low: A smaller number is a mistake.
        high: A larger one, too.
        digits: After the point, at most.
        name: As a sentence begins with it.
        unit: As a sentence ends with it.
    """

    widget: str
    parameter: str
    key: str
    factor: float
    low: float
    high: float
    digits: int
    name: str
    unit: str


def fields() -> tuple[Field, ...]:
    """All of them."""
    return (
        Field("ageEdit", "patientAge", "age_years", 1, 0, 120, 0, _("An age"), _("years")),
        Field("heightEdit", "patientHeight", "height_m", 100, 30, 250, 1, _("A height"), _("cm")),
        Field("weightEdit", "patientWeight", "weight_kg", 1, 0.5, 400, 1, _("A weight"), _("kg")),
        Field("heartRateEdit", "heartRate", "heart_rate_bpm", 1, 20, 300, 0, _("A heart rate"), _("a minute")),
    )


class PatientFields:
    """Shows what DICOM says, and what the user says instead, which goes before and is kept in the parameter node.

    Where the user empties what they wrote, what DICOM says comes back; where they empty that, it is not known.

    `changed` is emitted when the user says something else, `refused` with a sentence for what cannot be right.

    Args:
        ui: The panel's widgets by name.
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.changed, self.refused = Signal(), Signal()
        self._parameters: DINSegmentParameters | None = None
        self._read: Mapping[str, Any] = {}
        self._showing = False
        self._fields = fields()
        for text, sex in ((_("not known"), ""), (_("female"), "F"), (_("male"), "M")):
            ui.sexComboBox.addItem(text, sex)
        ui.sexComboBox.currentTextChanged.connect(self._onSex)
        for field in self._fields:
            getattr(ui, field.widget).editingFinished.connect(lambda field=field: self._onEdited(field))

    def setParameters(self, parameters: DINSegmentParameters | None) -> None:
        """Follows another parameter node from now on, or none."""
        self._parameters = parameters
        self._read = {}
        self.show()

    def forget(self) -> None:
        """Another image is examined, which may be of another patient: what the user said is not of this one."""
        if self._parameters is not None:
            for field in self._fields:
                setattr(self._parameters, field.parameter, 0.0)
            self._parameters.patientSex = ""
        self._read = {}
        self.show()

    def setRead(self, read: Mapping[str, Any]) -> None:
        """What DICOM says, by the keys of `Patient`."""
        self._read = read
        self.show()

    def said(self) -> dict[str, Any]:
        """What the user says, by the keys of `Patient`; None for what they say is not known."""
        p = self._parameters
        if p is None:
            return {}
        values = {f: getattr(p, f.parameter) for f in self._fields}
        said = {f.key: value / f.factor if value > 0 else None for f, value in values.items() if value != 0}
        if p.patientSex:
            said["sex"] = None if p.patientSex == UNKNOWN_SEX else p.patientSex
        return said

    def _known(self) -> dict[str, Any]:
        """What is known by either, by the keys of `Patient`."""
        return {key: value for key, value in {**self._read, **self.said()}.items() if value is not None}

    def show(self) -> None:
        """Fills the fields."""
        known = self._known()
        self._showing = True
        try:
            for field in self._fields:
                edit = getattr(self.ui, field.widget)
                text = self._text(field, known.get(field.key))
                if edit.text != text:
                    edit.setText(text)
            self.ui.sexComboBox.setCurrentIndex(self.ui.sexComboBox.findData(known.get("sex") or ""))
        finally:
            self._showing = False
        size = known.get("height_m"), known.get("weight_kg")
        surface = "" if None in size else _("BSA: {m2:.2f} m²").format(m2=body_surface_area(*size))
        self.ui.surfaceLabel.setText(surface)

    @staticmethod
    def _text(field: Field, value: float | None) -> str:
        if value is None:
            return ""
        shown = value * field.factor
        # An age is counted in whole years that are over; of an infant it is what it is.
        shown = math.floor(shown) if field.key == "age_years" and shown >= 2 else shown
        return f"{round(shown, 1 if shown < 2 else field.digits):g}"

    def _onEdited(self, field: Field) -> None:
        edit, p = getattr(self.ui, field.widget), self._parameters
        if self._showing or p is None:
            return
        text, read = edit.text.strip().replace(",", "."), self._text(field, self._read.get(field.key))
        if text == self._text(field, self._known().get(field.key)):
            return
        try:
            value = float(text) if text else UNKNOWN
        except ValueError:
            value = math.nan
        if text == read or (not text and getattr(p, field.parameter) != 0):  # As DICOM has it.
            value = 0.0
        elif text and field.low <= value <= field.high:
            value = value or A_DAY  # Of the numbers an age alone can be 0.
        elif text:
            self.refused.emit(
                _("{name} of '{text}' cannot be right: give {low:g} to {high:g} {unit}.").format(
                    name=field.name, text=edit.text, low=field.low, high=field.high, unit=field.unit
                )
            )
            self.show()
            return
        setattr(p, field.parameter, value)
        self.show()
        self.changed.emit()

    def _onSex(self, _text: str) -> None:
        if self._showing or self._parameters is None:
            return
        sex = self.ui.sexComboBox.itemData(self.ui.sexComboBox.currentIndex) or ""
        self._parameters.patientSex = "" if sex == (self._read.get("sex") or "") else sex or UNKNOWN_SEX
        self.show()
        self.changed.emit()
