"""The tables of the result: segments with their volumes, the heart's function, what is to be checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import qt

from dinsegment.measurements.function import CardiacFunction
from dinsegment.measurements.infarct import Damage
from dinsegment.measurements.intervals import Interval
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.panel.result import MeasurementView
from dinsegment_slicer.panel.tables import number_item, set_up_table, stretch_column
from dinsegment_slicer.panel.texts import breakable
from dinsegment_slicer.scene.findings import NotedFinding
from dinsegment_slicer.scene.measure import MeasuredSegment
from dinsegment_slicer.signal import Signal

SWATCH = 14
"""Side of the colour shown beside a segment's name, in pixels."""

EYE, NAME = 0, 1
"""Columns of the table of volumes, before those with numbers."""


class ResultTables:
    """Fills the tables of the result.

    `findingChosen` is emitted with a NotedFinding that the user wants to see; `visibilityToggled` with the ID of a
    segment to show or hide; `segmentChosen` with the ID of one whose middle the user wants to see.

    Args:
        ui: The panel's widgets by name.
        icon: Gives the path of an icon of the module.
    """

    def __init__(self, ui: Any, icon: Callable[[str], str]) -> None:
        self.ui = ui
        self.findingChosen = Signal()
        self.visibilityToggled = Signal()
        self.segmentChosen = Signal()
        self._findings: Sequence[NotedFinding] = ()
        self._segments: Sequence[MeasuredSegment] = ()
        self._eyes = {True: qt.QIcon(icon("visible.png")), False: qt.QIcon(icon("hidden.png"))}
        ui.findingsTable.horizontalHeader().setVisible(False)
        for table in (ui.findingsTable, ui.volumeTable, ui.functionTable):
            set_up_table(table)
        ui.findingsTable.cellClicked.connect(self._onFinding)
        ui.findingsTable.cellActivated.connect(self._onFinding)
        ui.volumeTable.cellClicked.connect(self._onSegmentClicked)
        ui.volumeTable.cellDoubleClicked.connect(self._onSegmentDoubleClicked)

    def showTitle(self, title: str) -> None:
        """What the result is of."""
        self.ui.resultLabel.setText(breakable(title))

    def showFindings(self, findings: Sequence[NotedFinding]) -> None:
        """One line for each, with their number in the title; those with a place to look at are underlined, as links."""
        self._findings = tuple(findings)
        self.ui.findingsSection.setVisible(bool(findings))
        self.ui.findingsSection.text = _("To check ({count})").format(count=len(findings))
        self.ui.findingsSection.toolTip = _("Check what is said of segments, and correct it in the Segment Editor.")
        table = self.ui.findingsTable
        table.setColumnCount(1)
        table.setRowCount(len(findings))
        for row, finding in enumerate(findings):
            item = qt.QTableWidgetItem(finding.short or finding.text)
            item.setToolTip(finding.text)
            if finding.position is not None:
                font = qt.QFont(table.font)
                font.setUnderline(True)
                item.setFont(font)
            table.setItem(row, 0, item)
        stretch_column(table, 0)

    def showSegments(self, view: MeasurementView, hidden: Collection[str] = ()) -> None:
        """One row per segment: an eye, its name, and one column of millilitres per phase.

        Args:
            view: What is shown; all its columns have the same segments first.
            hidden: IDs of segments that are not shown in the views.
        """
        table = self.ui.volumeTable
        self._segments = tuple(max(view.columns, key=len, default=[]))
        table.setColumnCount(2 + len(view.titles))
        table.setRowCount(len(self._segments))
        table.setHorizontalHeaderLabels(["", view.heading, *view.titles])
        for row, segment in enumerate(self._segments):
            table.setItem(row, EYE, self._eye(segment, segment.id not in hidden))
            name = qt.QTableWidgetItem(segment.name)
            name.setIcon(_swatch(segment.color))
            table.setItem(row, NAME, name)
            for column, segments in enumerate(view.columns, start=2):
                volumes = {s.id: s.volume_ml for s in segments}
                text = f"{volumes[segment.id]:.1f}" if segment.id in volumes else ""
                interval = view.intervals[column - 2].get(segment.id, "") if view.intervals else ""
                # Of several phases the width of a panel has no room for it.
                item = number_item(f"{text} ({interval})" if interval and len(view.titles) == 1 else text)
                if interval:
                    item.setToolTip(_("{value} ml, 90 % interval {interval} ml").format(value=text, interval=interval))
                table.setItem(row, column, item)
        stretch_column(table, NAME)

    def showFunction(
        self, function: CardiacFunction | None, reason: str = "", intervals: Mapping[str, Interval] | None = None
    ) -> None:
        """The function of the left ventricle with what intervals there are, or why there is none, or nothing."""
        if function is None:
            self._showNumbers([], intervals, reason)
            return
        rows = [
            ("lv_ef", _("Ejection fraction"), _("{value:.0f} %").format(value=function.ejection_fraction_percent)),
            ("lv_edv", _("End-diastolic volume"), _("{value:.1f} ml").format(value=function.end_diastolic_volume_ml)),
            ("lv_esv", _("End-systolic volume"), _("{value:.1f} ml").format(value=function.end_systolic_volume_ml)),
            ("lv_sv", _("Stroke volume"), _("{value:.1f} ml").format(value=function.stroke_volume_ml)),
            ("lv_mass_ed", _("Myocardial mass"), _("{value:.0f} g").format(value=function.myocardial_mass_g)),
        ]
        self._showNumbers(rows, intervals)

    def showDamage(self, damage: Damage, intervals: Mapping[str, Interval] | None = None) -> None:
        """How much of the left ventricle's wall is damaged, with what intervals there are."""
        names = {"infarct_percent": _("Infarct, of the muscle"), "no_reflow_percent": _("No-reflow, of the muscle")}
        percents = damage.percents.items()
        self._showNumbers([(key, names[key], _("{value:.1f} %").format(value=n)) for key, n in percents], intervals)

    def _showNumbers(
        self, rows: Sequence[tuple[str, str, str]], intervals: Mapping[str, Interval] | None = None, reason: str = ""
    ) -> None:
        """Numbers of the left ventricle, each with its kind, name and value, or why there are none, or nothing."""
        table = self.ui.functionTable
        table.setVisible(bool(rows) or bool(reason))
        if not rows:
            self._showReason(reason)
            return
        table.setColumnCount(2)
        table.setRowCount(len(rows))
        title = _("Value (90 % interval)") if intervals else _("Value")
        table.setHorizontalHeaderLabels([_("Left ventricle"), title])
        for row, (key, name, value) in enumerate(rows):
            interval = intervals.get(key) if intervals else None
            table.setItem(row, 0, qt.QTableWidgetItem(name))
            table.setItem(row, 1, number_item(value if interval is None else f"{value} ({interval.text})"))
        stretch_column(table, 0)

    def _showReason(self, reason: str) -> None:
        """A row that says why there is no function; the whole sentence is its tooltip."""
        table = self.ui.functionTable
        table.setColumnCount(1)
        table.setRowCount(1 if reason else 0)
        table.setHorizontalHeaderLabels([_("Left ventricle")])
        if reason:
            item = qt.QTableWidgetItem(reason)
            item.setToolTip(reason)
            table.setItem(0, 0, item)
        stretch_column(table, 0)

    def _eye(self, segment: MeasuredSegment, shown: bool) -> qt.QTableWidgetItem:
        item = qt.QTableWidgetItem()
        item.setIcon(self._eyes[shown])
        text = _("Hide {segment}") if shown else _("Show {segment}")
        item.setToolTip(text.format(segment=segment.name))
        return item

    def _onFinding(self, row: int, _column: int) -> None:
        if row < len(self._findings):
            self.findingChosen.emit(self._findings[row])

    def _onSegmentClicked(self, row: int, column: int) -> None:
        if column == EYE and row < len(self._segments):
            self.visibilityToggled.emit(self._segments[row].id)

    def _onSegmentDoubleClicked(self, row: int, column: int) -> None:
        if column != EYE and row < len(self._segments):
            self.segmentChosen.emit(self._segments[row].id)


def _swatch(color: tuple[int, int, int]) -> qt.QIcon:
    pixmap = qt.QPixmap(SWATCH, SWATCH)
    pixmap.fill(qt.QColor(*color))
    return qt.QIcon(pixmap)
