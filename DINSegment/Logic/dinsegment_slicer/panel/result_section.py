"""The panel's section with the result: measured anew at every correction, shown of the phase in view, to be checked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import slicer
from slicer.util import VTKObservationMixin

from dinsegment.errors import DINSegmentError
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.panel.dialogs import ask_new_file
from dinsegment_slicer.panel.parameters import DINSegmentParameters
from dinsegment_slicer.panel.result import Measurement, ResultNodes
from dinsegment_slicer.panel.result_tables import ResultTables
from dinsegment_slicer.panel.section import Section
from dinsegment_slicer.panel.timers import later, timer
from dinsegment_slicer.scene.edits import mark_edited
from dinsegment_slicer.scene.findings import NotedFinding
from dinsegment_slicer.scene.segment_display import show_3d
from dinsegment_slicer.scene.tables import table_text, write_csv
from dinsegment_slicer.signal import Signal

MEASURE_DELAY_MS = 300
"""After the last correction, until the volumes are computed again."""


class ResultSection(Section, VTKObservationMixin):
    """Measures the result, and shows what was measured and what is to be checked.

    `measured` is emitted with the Measurement, or None where there is none; `placeChosen` with a place (mm RAS) that
    the user wants to see.

    Args:
        ui: The panel's widgets by name.
        icon: Gives the path of an icon of the module.
        quietly: While it lasts, the panel does not follow changes of the parameter node.
    """

    def __init__(
        self, ui: Any, icon: Callable[[str], str], quietly: Callable[[], AbstractContextManager[None]]
    ) -> None:
        Section.__init__(self, ui)
        VTKObservationMixin.__init__(self)
        self.measured = Signal()
        self.placeChosen = Signal()
        self.measurement: Measurement | None = None
        self._quietly = quietly
        self._observed: list[tuple[Any, ...]] = []
        self._measuredNodes: list[str] | None = None
        self._measureTimer = timer(MEASURE_DELAY_MS, self._measure, once=True)
        self._tables = ResultTables(ui, icon)
        self._tables.findingChosen.connect(self._onFinding)
        self._tables.visibilityToggled.connect(self._onSegmentVisibility)
        self._tables.segmentChosen.connect(self._onSegmentChosen)
        ui.endDiastoleButton.clicked.connect(lambda _checked=False: self._showPhase("end_diastole"))
        ui.endSystoleButton.clicked.connect(lambda _checked=False: self._showPhase("end_systole"))
        ui.copyButton.clicked.connect(self._onCopyTable)
        ui.saveTableButton.clicked.connect(self._onSaveTable)
        ui.editButton.clicked.connect(self._onEdit)

    def setParameters(self, parameters: DINSegmentParameters | None) -> None:
        """Follows another parameter node from now on, or none."""
        self._measuredNodes = None
        super().setParameters(parameters)

    def update(self) -> None:
        """Follows the result that the parameter node names: every correction, and every change of phase."""
        self._observe()
        if self._parameters is None:
            return
        nodes = [node.GetID() for node in ResultNodes(self._parameters).segmentations()]
        if nodes != self._measuredNodes:  # Not at every step of a slider: a cine takes a fifth of a second.
            self._measuredNodes = nodes
            later(self._measure)  # Showing a large CT has taken its time already.

    def measureLater(self) -> None:
        """Measures once nothing has changed for a moment."""
        self._measureTimer.start()

    def show(self) -> None:
        """Shows what was measured, of the phase in view."""
        if self.measurement is None or self._parameters is None or self._parameters.segmentationNode is None:
            return
        nodes = ResultNodes(self._parameters)
        view = self.measurement.view(nodes.selectedPhase())
        self._tables.showTitle(view.title)
        self._tables.showSegments(view, nodes.hiddenSegments())
        self._tables.showFindings(nodes.findings(self.measurement))

    def stop(self) -> None:
        """Measures no more: the scene is closed, or the panel."""
        self._measureTimer.stop()

    def close(self) -> None:
        """Observes nothing any more: the panel is closed."""
        self.removeObservers()

    def _observe(self) -> None:
        observed: list[tuple[Any, ...]] = []
        if self._parameters is not None:
            nodes = ResultNodes(self._parameters)
            observed += [(*entry, self._onCorrected) for entry in nodes.corrected()]
            observed += [(*entry, self._onPhase) for entry in nodes.browsed()]
        if observed == self._observed:
            return
        for entry in self._observed:
            self.removeObserver(*entry)
        for entry in observed:
            self.addObserver(*entry)
        self._observed = observed

    def _onCorrected(self, _caller: Any, _event: str) -> None:
        self.measureLater()

    def _onPhase(self, _caller: Any, _event: str) -> None:
        """Another phase comes into view, in a cine that plays many times a second: what was measured is shown anew."""
        self.show()

    def _measure(self) -> None:
        if self._parameters is None:
            return
        nodes = ResultNodes(self._parameters)
        self._measuredNodes = [node.GetID() for node in nodes.segmentations()]
        measurement = None
        with self._quietly():
            try:
                if self._parameters.threeD:  # Another phase has no surfaces yet.
                    for segmentationNode in nodes.segmentations():
                        show_3d(segmentationNode, True)
                measurement = nodes.measure()
            except DINSegmentError as error:
                self.message.emit(str(error), True)
        self.measurement = measurement
        self.ui.resultSection.setVisible(measurement is not None)
        if measurement is not None:
            intervals = measurement.intervals.numbers if measurement.intervals is not None else None
            if measurement.damage is not None:
                self._tables.showDamage(measurement.damage, intervals)
            else:
                self._tables.showFunction(measurement.function, measurement.no_function, intervals)
            self.ui.phaseFrame.setVisible(measurement.function is not None)
            self.ui.plotCheckBox.setVisible(measurement.is_sequence)
            self.show()
            later(self._markEdited)
        self.measured.emit(measurement)

    def _markEdited(self) -> None:
        """What was corrected is not the network's alone any more; Slicer's own DICOM export reads the mark, too."""
        if self._parameters is None:
            return
        with self._quietly():
            for segmentationNode in ResultNodes(self._parameters).segmentations():
                mark_edited(segmentationNode)

    def _showPhase(self, name: str) -> None:
        if self.measurement is not None and self.measurement.function is not None:
            ResultNodes(self._parameters).showPhase(getattr(self.measurement.function, name))

    def _onSegmentVisibility(self, segmentID: str) -> None:
        if self._parameters is not None:
            ResultNodes(self._parameters).toggleSegment(segmentID)
            self.show()

    def _onSegmentChosen(self, segmentID: str) -> None:
        place = ResultNodes(self._parameters).middleOfSegment(segmentID) if self._parameters is not None else None
        if place is not None:
            self.placeChosen.emit(place)

    def _onFinding(self, finding: NotedFinding) -> None:
        if self._parameters is None:
            return
        try:
            place = ResultNodes(self._parameters).showFinding(finding)
        except DINSegmentError as error:
            self.message.emit(str(error), True)
            return
        if place is not None:
            self.placeChosen.emit(place)

    def _onCopyTable(self, _checked: bool = False) -> None:
        if self._parameters is not None and self._parameters.tableNode is not None:
            slicer.app.clipboard().setText(table_text(self._parameters.tableNode))

    def _onSaveTable(self, _checked: bool = False) -> None:
        if self._parameters is None or self._parameters.tableNode is None:
            return
        name = f"{self._parameters.tableNode.GetName()}.csv"
        path = ask_new_file(_("Save the table"), name, _("Comma-separated values (*.csv)"))
        if path is None:
            return
        try:
            write_csv(self._parameters.tableNode, path)
        except DINSegmentError as error:
            self.message.emit(str(error), True)
        else:
            self.message.emit(_("Saved '{path}'.").format(path=path), False)

    def _onEdit(self, _checked: bool = False) -> None:
        nodes = ResultNodes(self._parameters)
        segmentationNode = nodes.segmentationShown()
        volumeNode, _enhancedNode = nodes.shown()
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        editor.setSegmentationNode(segmentationNode)
        editor.setSourceVolumeNode(volumeNode)
        slicer.util.setSliceViewerLayers(background=volumeNode)
