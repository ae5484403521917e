"""The panel: its sections, and what goes from one to the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import qt
import slicer
import vtk
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from dinsegment_slicer.installing.dependencies import Dependencies
from dinsegment_slicer.logic import DINSegmentLogic, Result
from dinsegment_slicer.panel.correction_section import CorrectionSection
from dinsegment_slicer.panel.dialogs import ask, ask_source_folder
from dinsegment_slicer.panel.enhancement_section import EnhancementSection
from dinsegment_slicer.panel.export_section import ExportSection
from dinsegment_slicer.panel.input_section import InputSection
from dinsegment_slicer.panel.join_section import JoinSection
from dinsegment_slicer.panel.log_section import LogSection
from dinsegment_slicer.panel.model_section import ModelSection
from dinsegment_slicer.panel.parameters import DINSegmentParameters, parameters_of_scene
from dinsegment_slicer.panel.report_section import ReportSection
from dinsegment_slicer.panel.result import Measurement, ResultNodes
from dinsegment_slicer.panel.result_section import ResultSection
from dinsegment_slicer.panel.run_section import RunSection
from dinsegment_slicer.panel.sample_section import SampleSection
from dinsegment_slicer.panel.section import Section
from dinsegment_slicer.panel.structures_section import StructuresSection
from dinsegment_slicer.panel.sure_section import SureSection
from dinsegment_slicer.panel.unexpected_section import UnexpectedSection
from dinsegment_slicer.panel.views_section import ViewsSection
from dinsegment_slicer.running.controller import Controller
from dinsegment_slicer.running.messages import Message, Severity
from dinsegment_slicer.running.requests import Request
from dinsegment_slicer.scene.sample_data import volume_of

LEAST_WIDTH = "Left ventricular 0000.0 0000.0 0000.0 0000.0 000"
"""As wide as this the panel is at the least: a row of the table of a cine, with what is around it."""


class DINSegmentWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """What Slicer shows for the module."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.parameters: DINSegmentParameters | None = None
        self.sections: list[Section] = []
        self._guiTag: Any = None
        self._updating = False

    def setup(self) -> None:
        """Makes the panel; called once, when the user first opens the module."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/DINSegment.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        # What it needs follows the font, and nothing else: the tables ask for no width themselves.
        uiWidget.setMinimumWidth(qt.QLabel(LEAST_WIDTH).sizeHint.width())

        self.logic = DINSegmentLogic()
        self.controller = Controller(self.logic, Dependencies(), ask, ask_source_folder)
        self.log = LogSection(self.ui)
        self._addSections()
        self._connect()
        self._showParameterNode(parameters_of_scene())

    def _addSections(self) -> None:
        """Each is told of what happens in this order."""
        self.input = self._add(InputSection(self.ui, lambda: self._isOpen() and not self.controller.busy))
        self.joining = self._add(JoinSection(self.ui))
        self.samples = self._add(SampleSection(self.ui))
        self.model = self._add(ModelSection(self.ui))
        self.structures = self._add(StructuresSection(self.ui))
        self.run = self._add(
            RunSection(self.ui, self.controller, self.model, self.structures, self._icon, self._isOpen)
        )
        self.views = ViewsSection(self.ui, self.controller, self._isOpen)
        self.enhancement = self._add(EnhancementSection(self.ui, self.views.currentSlice))
        self.result = self._add(ResultSection(self.ui, self._icon, self._quietly))
        self.correction = self._add(CorrectionSection(self.ui, self.controller, self.model))
        self.report = self._add(ReportSection(self.ui, self.controller))
        self.export = self._add(ExportSection(self.ui, self.controller, self.model))
        self._add(self.views)
        self.unexpected = self._add(UnexpectedSection(self.ui, self.controller, self.model))
        self.sure = self._add(SureSection(self.ui, self.controller, self.model))  # Once the views show the image.

    def _add(self, section: Any) -> Any:
        self.sections.append(section)
        section.message.connect(self._tell)
        return section

    def _connect(self) -> None:
        self.controller.changed.connect(self._onControllerChanged)
        self.controller.finished.connect(self._onFinished)
        self.samples.added.connect(self._onSample)
        self.joining.joined.connect(self.input.choose)
        self.run.begins.connect(self.enhancement.stop)
        self.export.begins.connect(self.enhancement.stop)
        self.enhancement.shown.connect(self.views.show)
        self.result.measured.connect(self._onMeasured)
        self.result.placeChosen.connect(self.views.jumpTo)
        self.correction.placeChosen.connect(self.views.jumpTo)
        self.correction.corrected.connect(self.result.measureLater)
        self.sure.drawn.connect(self.result.measureLater)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self._onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self._onSceneChanged)
        self.addObserver(scene, scene.EndImportEvent, self._onSceneChanged)
        self.addObserver(scene, scene.NodeAddedEvent, self._onNodeAdded)
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self._onNodeAboutToBeRemoved)
        self.addObserver(scene, scene.NodeRemovedEvent, lambda *_event: self.report.update())

    # --- life of the module -------------------------------------------------------------------------

    def cleanup(self) -> None:
        """Ends what runs and gives everything back; called when the module is closed or reloaded."""
        for section in self.sections:
            section.stop()
        self._showParameterNode(None)
        self.controller.close()
        for section in self.sections:
            section.close()
        self.log.close()
        self.removeObservers()

    def enter(self) -> None:
        """The user opens the module."""
        self.run.enter()
        self._showParameterNode(parameters_of_scene())
        self.input.chooseOne()
        self.views.show()
        self.sure.show()
        self.result.show()  # The Segment Editor may have hidden a segment.

    def exit(self) -> None:
        """The user opens another module: the own layout comes back, a run goes on."""
        self.enhancement.stop()
        self.views.hide()

    def _isOpen(self) -> bool:
        return self.parent.isEntered

    def _icon(self, name: str) -> str:
        return self.resourcePath(f"Icons/{name}")

    # --- the scene ------------------------------------------------------------------------------------

    def _onSceneStartClose(self, _caller: Any, _event: str) -> None:
        for section in self.sections:
            section.stop()
        self.controller.sceneClosed()
        self._showParameterNode(None)

    def _onSceneChanged(self, _caller: Any, _event: str) -> None:
        # A loaded scene brings a parameter node of its own. While another module is open, `enter` will look for it.
        if self._isOpen():
            self._showParameterNode(parameters_of_scene())
            self.input.chooseOne()
            self.views.show()
            self.sure.show()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAdded(self, _caller: Any, _event: str, node: slicer.vtkMRMLNode) -> None:
        if node.IsA("vtkMRMLScalarVolumeNode") or node.IsA("vtkMRMLSequenceNode"):
            self.input.onNodeAdded()
            self.joining.lookLater()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAboutToBeRemoved(self, _caller: Any, _event: str, node: slicer.vtkMRMLNode) -> None:
        self.controller.nodeRemoved(node)
        if node.IsA("vtkMRMLSequenceNode"):
            self.joining.lookLater()
        if self.parameters is not None and node in (self.parameters.segmentationNode, self.parameters.enhancedNode):
            self.enhancement.stop()
            self.result.measureLater()

    # --- the parameter node -----------------------------------------------------------------------------

    def _showParameterNode(self, parameters: DINSegmentParameters | None) -> None:
        if self.parameters is not None:
            self.parameters.disconnectGui(self._guiTag)
            self.removeObserver(self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParametersModified)
        self.parameters = parameters
        for section in self.sections:
            section.setParameters(parameters)
        if parameters is not None:
            self._guiTag = parameters.connectGui(self.ui)
            self.addObserver(parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParametersModified)
            self._onParametersModified()

    def _onParametersModified(self, _caller: Any = None, _event: str | None = None) -> None:
        if self.parameters is None or self._updating:
            return
        with self._quietly():  # What follows changes the parameter node itself.
            self.controller.chooseInput(self.parameters.inputNode)
            for section in self.sections:
                section.update()
        self._onControllerChanged()

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """What changes in the parameter node meanwhile is the panel's own doing, which it does not follow."""
        self._updating = True
        try:
            yield
        finally:
            self._updating = False

    # --- from one section to the other --------------------------------------------------------------------

    def _onControllerChanged(self) -> None:
        for section in self.sections:
            section.showState(self.controller)

    def _onMeasured(self, measurement: Measurement | None) -> None:
        for section in self.sections:
            section.onMeasured(measurement)

    def _onFinished(self, _request: Request, result: Result) -> None:
        if self.parameters is None:
            return
        with self._quietly():
            ResultNodes(self.parameters).replaceBy(result)
        self.ui.resultSection.collapsed = False
        self.enhancement.onNewImages()
        self._onParametersModified()

    def _onSample(self, node: slicer.vtkMRMLNode) -> None:
        """A generated image is there: it is chosen, and in view."""
        if self.parameters is None:
            return
        self.input.choose(node)
        if not self.views.visible:
            slicer.util.setSliceViewerLayers(background=volume_of(node), fit=True, rotateToVolumePlane=True)

    def _tell(self, text: str, isError: bool) -> None:
        self.controller.tell(Message(Severity.ERROR if isError else Severity.INFORMATION, text))
