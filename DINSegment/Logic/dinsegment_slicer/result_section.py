"""The panel's section with the result: what looks wrong, segments with their volumes, and the function of the heart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt

from dinsegment.measurements.function import CardiacFunction
from dinsegment_slicer.findings import NotedFinding
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.measure import MeasuredSegment
from dinsegment_slicer.signal import Signal

SWATCH = 14
"""Side of the colour shown beside a segment's name, in pixels."""


class ResultSection:
    """Fills the tables of the result.

    `findingChosen` is emitted with a NotedFinding that the user wants to see.

    Args:
        ui: The panel's widgets by name.
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.findingChosen = Signal()
        self._findings: Sequence[NotedFinding] = ()
        ui.findingsTable.cellClicked.connect(self._onFinding)
        ui.findingsTable.cellActivated.connect(self._onFinding)
        ui.findingsTable.horizontalHeader().setVisible(False)
        for table in (ui.findingsTable, ui.volumeTable, ui.functionTable):
            table.verticalHeader().setVisible(False)
            # Follows also the width of the panel, in which a long name takes two lines.
            table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
            table.setHorizontalScrollBarPolicy(qt.Qt.ScrollBarAlwaysOff)
            table.setVerticalScrollBarPolicy(qt.Qt.ScrollBarAlwaysOff)

    def showFindings(self, findings: Sequence[NotedFinding]) -> None:
        """One row for each; those with a place to look at are underlined, as links are."""
        self._findings = tuple(findings)
        table = self.ui.findingsTable
        table.setVisible(bool(findings))
        table.setColumnCount(1)
        table.setRowCount(len(findings))
        for row, finding in enumerate(findings):
            item = qt.QTableWidgetItem(finding.text)
            if finding.position is not None:
                font = qt.QFont(table.font)
                font.setUnderline(True)
                item.setFont(font)
                item.setToolTip(_("Show the place in all slice views."))
            table.setItem(row, 0, item)
        _fit(table)

    def _onFinding(self, row: int, _column: int) -> None:
        if row < len(self._findings):
            self.findingChosen.emit(self._findings[row])

    def showSegments(self, phases: Sequence[Sequence[MeasuredSegment]], titles: Sequence[str]) -> None:
        """One row per segment, one column of millilitres per phase.

        Args:
            phases: Segments of the image, or of end diastole and end systole; they have the same segments first.
            titles: Heading of each column.
        """
        table = self.ui.volumeTable
        rows = max(phases, key=len, default=[])
        table.setColumnCount(1 + len(titles))
        table.setRowCount(len(rows))
        table.setHorizontalHeaderLabels([_("Segment"), *titles])
        for row, segment in enumerate(rows):
            name = qt.QTableWidgetItem(segment.name)
            name.setIcon(_swatch(segment.color))
            table.setItem(row, 0, name)
            for column, segments in enumerate(phases, start=1):
                volumes = {s.id: s.volume_ml for s in segments}
                text = f"{volumes[segment.id]:.1f}" if segment.id in volumes else ""
                table.setItem(row, column, _number(text))
        _fit(table)

    def showFunction(self, function: CardiacFunction | None) -> None:
        """The function of the left ventricle, or nothing."""
        table = self.ui.functionTable
        table.setVisible(function is not None)
        if function is None:
            return
        rows = [
            (_("End-diastolic volume"), _("{value:.1f} ml").format(value=function.end_diastolic_volume_ml)),
            (_("End-systolic volume"), _("{value:.1f} ml").format(value=function.end_systolic_volume_ml)),
            (_("Stroke volume"), _("{value:.1f} ml").format(value=function.stroke_volume_ml)),
            (_("Ejection fraction"), _("{value:.0f} %").format(value=function.ejection_fraction_percent)),
            (_("Myocardial mass"), _("{value:.0f} g").format(value=function.myocardial_mass_g)),
        ]
        table.setColumnCount(2)
        table.setRowCount(len(rows))
        table.setHorizontalHeaderLabels([_("Left ventricle"), _("Value")])
        for row, (name, value) in enumerate(rows):
            table.setItem(row, 0, qt.QTableWidgetItem(name))
            table.setItem(row, 1, _number(value))
        _fit(table)


def _swatch(color: tuple[int, int, int]) -> qt.QIcon:
    pixmap = qt.QPixmap(SWATCH, SWATCH)
    pixmap.fill(qt.QColor(*color))
    return qt.QIcon(pixmap)


def _number(text: str) -> qt.QTableWidgetItem:
    item = qt.QTableWidgetItem(text)
    item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
    return item


def _fit(table: qt.QTableWidget) -> None:
    """As wide as the panel and as high as its rows: the panel scrolls as a whole."""
    header = table.horizontalHeader()
    header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
    header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
    table.updateGeometry()
