"""The panel's section with the result: segments with their volumes, and the function of the heart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt

from dinsegment.measurements import CardiacFunction
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.measure import MeasuredSegment

SWATCH = 14
"""Side of the colour shown beside a segment's name, in pixels."""


class ResultSection:
    """Fills the two tables of the result.

    Args:
        ui: The panel's widgets by name.
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        for table in (ui.volumeTable, ui.functionTable):
            table.verticalHeader().setVisible(False)
            # Follows also the width of the panel, in which a long name takes two lines.
            table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
            table.setHorizontalScrollBarPolicy(qt.Qt.ScrollBarAlwaysOff)
            table.setVerticalScrollBarPolicy(qt.Qt.ScrollBarAlwaysOff)

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
