"""The panel's section with the report: numbers with normal ranges, pictures, the wall; copied, saved, laid out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import qt
import slicer

from dinsegment.errors import DINSegmentError
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.installing.dependencies import Missing
from dinsegment_slicer.panel.dialogs import ask, ask_new_file
from dinsegment_slicer.panel.parameters import DINSegmentParameters
from dinsegment_slicer.panel.patient_fields import PatientFields
from dinsegment_slicer.panel.pictures import icon_of, show_picture
from dinsegment_slicer.panel.report_source import DicomFiles, image_source, report_input
from dinsegment_slicer.panel.result import Measurement, ResultNodes
from dinsegment_slicer.panel.section import Section
from dinsegment_slicer.panel.tables import number_item, set_up_table, stretch_column
from dinsegment_slicer.panel.texts import breakable
from dinsegment_slicer.panel.timers import timer
from dinsegment_slicer.panel.walls_section import WallsSection
from dinsegment_slicer.running.controller import Controller
from dinsegment_slicer.running.report_part import Figure, Measured, Page, ReportInput
from dinsegment_slicer.running.reporter import Reporter
from dinsegment_slicer.scene.report_table import report_rows, update_report_table
from dinsegment_slicer.scene.tables import rows_text, write_rows

TICK_MS = 50
"""Between two looks at what is measured."""

GATHER_MS = 100
"""After a change until it is measured: what follows within is measured together."""

NEEDED = frozenset({"matplotlib", "psutil"})
"""Packages without which there is no report."""

BAR = (40, 9)
"""Points of the bar beside a range."""

SUFFIXES = (".pdf", ".html", ".htm")


class ReportSection(Section):
    """Keeps the report in step with the result, and gives it away.

    Args:
        ui: The panel's widgets by name.
        controller: Knows which packages are missing, and installs them.
        reporter: Makes what measures, of what gathers the result; by default in a process of its own.
    """

    def __init__(
        self,
        ui: Any,
        controller: Controller,
        reporter: Callable[[Callable[[], ReportInput | None]], Reporter] = Reporter,
    ) -> None:
        super().__init__(ui)
        self._controller = controller
        self._measured: Measured | None = None
        self._endDiastole: int | None = None
        self._complete = False
        self._said: dict[str, Any] = {}
        self._files = DicomFiles()
        self.patient = PatientFields(ui)
        self.walls = WallsSection(ui, self._pictureWidth)
        self.reporter = reporter(self._input)
        self._tickTimer = timer(TICK_MS, self._tick)
        self._gatherTimer = timer(GATHER_MS, self._begin, once=True)
        set_up_table(ui.reportTable)
        ui.reportTable.horizontalHeader().setVisible(False)
        ui.reportTable.setIconSize(qt.QSize(*BAR))
        for label in (ui.curveLabel, ui.bullsEyeLabel):
            label.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Fixed)
        self._connect()
        self._clear("")

    def _connect(self) -> None:
        self.patient.changed.connect(self.measureLater)
        self.patient.refused.connect(lambda text: self.message.emit(text, True))
        self.walls.changed.connect(self.measureLater)
        self.walls.message.connect(self.message.emit)
        self.walls.endDiastoleWanted.connect(self._showEndDiastole)
        self.reporter.measured.connect(self._onMeasured)
        self.reporter.drawn.connect(self._onDrawn)
        self.reporter.failed.connect(self._clear)
        self.reporter.saved.connect(lambda path: self.message.emit(_("Saved '{path}'.").format(path=path), False))
        self.reporter.notSaved.connect(lambda text: self.message.emit(text, True))
        self.ui.reportSection.contentsCollapsed.connect(lambda _collapsed: self.measureLater())
        self.ui.reportInstallButton.clicked.connect(self._onInstall)
        self.ui.copyReportButton.clicked.connect(self._onCopy)
        self.ui.saveNumbersButton.clicked.connect(self._onSaveNumbers)
        self.ui.reportNodeButton.clicked.connect(self._onAddNode)
        self.ui.saveReportButton.clicked.connect(self._onSaveReport)

    # --- what the panel says -------------------------------------------------------------------------------

    def setParameters(self, parameters: DINSegmentParameters | None) -> None:
        """Follows another parameter node from now on, or none."""
        self.stop()
        self._files.forget()
        self.patient.setParameters(parameters)
        self.walls.setParameters(parameters)
        super().setParameters(parameters)
        self._follow()

    def update(self) -> None:
        """Shows the parameter node, which has changed, or lost a node."""
        self.patient.show()
        self.walls.followPoint()
        self.walls.show()
        if self._measured is not None and (self._parameters is None or self._parameters.segmentationNode is None):
            self._follow()  # The result was removed: nothing of it is shown, or given away, any more.
        if self._measured is not None and self.patient.said() != self._said:
            self.measureLater()

    def onMeasured(self, measurement: Measurement | None) -> None:
        """There is another result, or the one that there is was corrected; None where there is none any more."""
        function = measurement.function if measurement is not None else None
        self._endDiastole = function.end_diastole if function is not None else None
        self._follow()

    def stop(self) -> None:
        """Nothing is measured any more."""
        self._gatherTimer.stop()
        self._tickTimer.stop()
        self.reporter.stop()
        self._clear("")

    def close(self) -> None:
        """Ends the process that measures."""
        self.walls.close()
        self.reporter.close()

    def measureLater(self) -> None:
        """Something has changed: it is measured, a moment later, while the section is open."""
        p = self._parameters
        if p is None or p.segmentationNode is None or self.ui.reportSection.collapsed:
            return
        if not self._gatherTimer.isActive():  # Not started anew: while a point is dragged the walls follow.
            self._gatherTimer.start()

    def _follow(self) -> None:
        """Makes the report that of the result that there is now."""
        p = self._parameters
        has_result = p is not None and p.segmentationNode is not None
        self.ui.reportSection.setVisible(has_result)
        if not has_result:
            self.stop()
            return
        try:
            source = image_source(p)
        except DINSegmentError:  # It is told when it is measured.
            source = None
        if source is not None and source.volumeNode is not p.reportImageNode:
            # Also where the node is gone: the image before was removed, and what was said is still of its patient.
            self.patient.forget()
            self.walls.forget()
            p.reportTableNode = None
            p.reportImageNode = source.volumeNode
            self._files.forget()
            self._clear("")
        self.walls.followPoint()
        self.measureLater()

    # --- measuring -------------------------------------------------------------------------------------------

    def _input(self) -> ReportInput | None:
        self._said = self.patient.said()
        return report_input(self._parameters, self._said, self._files) if self._parameters else None

    def _missing(self, needed: frozenset[str]) -> list[Missing]:
        """Packages that are needed and not there."""
        if self._complete:
            return []
        missing = self._controller.dependencies.missing()
        self._complete = not missing
        return [one for one in missing if one.name in needed]

    def _begin(self) -> None:
        missing = self._missing(NEEDED)
        self.ui.reportInstallButton.setVisible(bool(missing))
        if missing:
            self.reporter.stop()
            names = ", ".join(one.name for one in missing)
            self._clear(_("The report needs Python packages that are not installed yet: {names}.").format(names=names))
            self.ui.reportInstallButton.setVisible(True)
            return
        if self._measured is None:
            self._tell(_("Measuring…"))
        self.reporter.update()
        self._tickTimer.start()

    def _tick(self) -> None:
        self.reporter.tick()
        self.ui.saveReportButton.setEnabled(not self.reporter.writing)
        if not self.reporter.busy:
            self._tickTimer.stop()

    def _onInstall(self, _checked: bool = False) -> None:
        if self._install(NEEDED | {"reportlab"}):
            self.measureLater()

    def _install(self, needed: frozenset[str]) -> bool:
        """Installs what is needed if the user agrees; whether it is there now."""
        missing = self._missing(needed)
        if not missing:
            return True
        dependencies = self._controller.dependencies
        if not ask(dependencies.question(missing)):
            return False
        try:
            dependencies.install(missing)
        except DINSegmentError as error:
            self.message.emit(str(error), True)
            return False
        return True

    # --- what is shown -----------------------------------------------------------------------------------------

    def _tell(self, text: str) -> None:
        self.ui.reportStateLabel.setText(breakable(text))
        self.ui.reportStateLabel.setVisible(bool(text))

    def _clear(self, text: str) -> None:
        """No number is shown that is not what is there now; why, is said."""
        self._measured = None
        self._tell(text)
        self.ui.reportInstallButton.setVisible(False)
        self.ui.reportTable.setRowCount(0)
        for widget in (self.ui.reportTable, self.ui.reportNotesSection, self.ui.curveLabel):
            widget.setVisible(False)
        for button in (self.ui.copyReportButton, self.ui.saveNumbersButton, self.ui.reportNodeButton):
            button.setEnabled(False)
        self.ui.saveReportButton.setEnabled(False)
        self.walls.setMeasured(None)

    def _onMeasured(self, measured: Measured) -> None:
        self._measured = measured
        self._tell("")
        self.patient.setRead(measured.read)
        self._showTable(measured.content["tables"])
        self._showNotes(measured.content)
        self.walls.setMeasured(measured)
        for button in (self.ui.copyReportButton, self.ui.saveNumbersButton, self.ui.reportNodeButton):
            button.setEnabled(True)
        self.ui.saveReportButton.setEnabled(not self.reporter.writing)
        if self._parameters is not None and self._parameters.reportTableNode is not None:
            self._onAddNode()

    def _onDrawn(self, figures: Sequence[Figure]) -> None:
        curve = next((figure for figure in figures if figure.name == "curve"), None)
        show_picture(self.ui.curveLabel, curve, self._pictureWidth())
        self.walls.setFigures([figure for figure in figures if figure.name != "curve"])

    def _pictureWidth(self) -> int:
        """What every width of the panel has room for."""
        return max(240, self.ui.DINSegment.minimumWidth - 40)

    def _showTable(self, tables: Sequence[dict[str, Any]]) -> None:
        """All tables below each other, each under its title."""
        table = self.ui.reportTable
        shown = [entry for entry in tables if entry["rows"]]
        columns = 1 + max((3 if entry["has_ranges"] else len(entry["columns"]) for entry in shown), default=0)
        table.setRowCount(0)
        table.setColumnCount(columns)
        table.setRowCount(sum(1 + len(entry["rows"]) for entry in shown))
        table.setVisible(bool(shown))
        row = 0
        for entry in shown:
            titles = entry["columns"]
            if entry["has_ranges"]:  # The width of a panel has no room for the number over the height, too.
                titles = (
                    titles[0],
                    _("per m²") if any(r["cells"][1] for r in entry["rows"]) else "",
                    _("Normal") if any(r["range_text"] for r in entry["rows"]) else "",
                )
            self._showTitle(row, entry["title"], titles)
            row += 1
            for measured in entry["rows"]:
                self._showRow(row, measured, entry["has_ranges"])
                row += 1
        stretch_column(table, 0)

    def _showTitle(self, row: int, title: str, titles: Sequence[str]) -> None:
        font = qt.QFont(self.ui.reportTable.font)
        font.setBold(True)
        item = qt.QTableWidgetItem(title)
        item.setFont(font)
        self.ui.reportTable.setItem(row, 0, item)
        for column, text in enumerate(titles, start=1):
            self.ui.reportTable.setItem(row, column, number_item(text))

    def _showRow(self, row: int, measured: dict[str, Any], ranges: bool) -> None:
        table = self.ui.reportTable
        marks = "".join(f" [{mark}]" for mark in measured["marks"])
        cells = measured["cells"]
        told = [f"{measured['name']}: {', '.join(cell for cell in cells if cell)}"]
        if measured["range_text"]:
            told.append(_("Normal: {range}").format(range=measured["range_text"]))
        told += [measured["remark"]] if measured["remark"] else []
        items = [qt.QTableWidgetItem(measured["name"] + marks)]
        # What is divided has the unit of the number before it, as its heading says.
        # An interval stands below its number: beside it the width of a panel has no room.
        shown = (cells[0].replace(" (", "\n("), cells[1].partition(" ")[0]) if ranges else cells
        items += [number_item(cell) for cell in shown]
        if ranges:
            item = qt.QTableWidgetItem(measured["range_short"])
            if measured["bar"]:
                item.setIcon(icon_of(measured["bar"]))
            items.append(item)
        for column, item in enumerate(items):
            item.setToolTip("\n".join(told))
            table.setItem(row, column, item)

    def _showNotes(self, content: dict[str, Any]) -> None:
        """What is to be checked, by the numbers that rows refer to; what is missing, and why; where values are from."""
        parts = []
        for title, texts, kind in (
            (_("To check"), content["findings"], "ol"),
            (_("Not measured"), content["left_out"], "ul"),
            (_("How to read it"), content["notes"], "ul"),
        ):
            if texts:
                entries = "".join(f"<li>{escape(text)}</li>" for text in texts)
                parts.append(f"<p><b>{escape(title)}</b></p><{kind} style='margin-left: -20px'>{entries}</{kind}>")
        self.ui.reportNotesLabel.setText("".join(parts))
        self.ui.reportNotesSection.setVisible(bool(parts))

    def _showEndDiastole(self) -> None:
        if self._endDiastole is not None:
            ResultNodes(self._parameters).showPhase(self._endDiastole)

    # --- giving it away -----------------------------------------------------------------------------------------

    def rows(self) -> list[tuple[str, ...]]:
        """All numbers, a row each, under a heading."""
        m = self._measured
        return report_rows(m.measurements, m.texts, m.intervals) if m is not None else []

    def _onCopy(self, _checked: bool = False) -> None:
        if self._measured is not None:
            slicer.app.clipboard().setText(rows_text(self.rows()))

    def _onSaveNumbers(self, _checked: bool = False) -> None:
        if self._measured is None:
            return
        path = self._askFile(_("Save the numbers"), ".csv", _("Comma-separated values (*.csv)"))
        if path is None:
            return
        try:
            write_rows(self.rows(), path)
        except DINSegmentError as error:
            self.message.emit(str(error), True)
        else:
            self.message.emit(_("Saved '{path}'.").format(path=path), False)

    def _onAddNode(self, _checked: bool = False) -> None:
        p = self._parameters
        if self._measured is not None and p is not None and p.segmentationNode is not None:
            name = _("{name} report").format(name=p.segmentationNode.GetName())
            p.reportTableNode = update_report_table(p.parameterNode.GetScene(), name, self.rows(), p.reportTableNode)

    def _onSaveReport(self, _checked: bool = False) -> None:
        p = self._parameters
        if p is None or self._measured is None:
            return
        filters = _("PDF (*.pdf)") + ";;" + _("Web page (*.html)")
        path = self._askFile(_("Save the report: a name that ends in .pdf or .html"), ".pdf", filters, SUFFIXES)
        if path is None or (path.suffix.lower() == ".pdf" and not self._install(frozenset({"reportlab"}))):
            return
        self.write(Page(path, p.anonymous))

    def write(self, page: Page) -> None:
        """Writes the report of what there is now; a sentence tells when it is done."""
        self.reporter.write(page)
        self.ui.saveReportButton.setEnabled(False)
        self._tickTimer.start()

    def _askFile(self, title: str, suffix: str, filters: str, known: Sequence[str] = ()) -> Path | None:
        """Where to write; what has no suffix that is known gets one. None if the user has changed their mind."""
        name = "report" if self._parameters.anonymous and known else self._parameters.segmentationNode.GetName()
        name = "".join("_" if c in '<>:"/\\|?*' else c for c in name)
        path = ask_new_file(title, f"{name}{suffix}", filters)
        if path is None:
            return None
        if path.suffix.lower() not in (known or (suffix,)):
            path = path.with_name(path.name + suffix)
            # The dialog has asked for another name.
            if path.exists() and not ask(_("'{path}' exists already. Replace it?").format(path=path)):
                return None
        return path
