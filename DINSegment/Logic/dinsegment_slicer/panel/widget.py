"""The panel: reads the parameter node, calls the controller, shows what it says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import qt
import slicer
import vtk
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from dinsegment.errors import DINSegmentError
from dinsegment.models.entries import find_entry
from dinsegment.tasks import TASKS, Task
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.installing.dependencies import Dependencies, Missing
from dinsegment_slicer.logic import DINSegmentLogic, Result
from dinsegment_slicer.panel.enhancement_section import EnhancementSection
from dinsegment_slicer.panel.export_section import DicomSection
from dinsegment_slicer.panel.join_section import JoinSection
from dinsegment_slicer.panel.log_section import LogSection
from dinsegment_slicer.panel.model_section import ModelSection
from dinsegment_slicer.panel.parameters import DINSegmentParameters, parameters_of_scene
from dinsegment_slicer.panel.result import Measurement, ResultNodes
from dinsegment_slicer.panel.result_section import ResultSection
from dinsegment_slicer.panel.sample_section import SampleSection
from dinsegment_slicer.panel.structures_section import StructuresSection
from dinsegment_slicer.panel.task_buttons import add_task_buttons
from dinsegment_slicer.panel.texts import breakable
from dinsegment_slicer.running.controller import Controller, ExportRequest, Message, Request, Severity
from dinsegment_slicer.running.states import State
from dinsegment_slicer.scene import layouts
from dinsegment_slicer.scene.annotations import SliceAnnotations
from dinsegment_slicer.scene.edits import corrected_segments, mark_edited
from dinsegment_slicer.scene.findings import NotedFinding
from dinsegment_slicer.scene.measure import show_legend_beside
from dinsegment_slicer.scene.preview import EnhancedImage
from dinsegment_slicer.scene.reading import reading_of_task
from dinsegment_slicer.scene.sample_data import volume_of
from dinsegment_slicer.scene.segment_display import show_3d, show_colors, show_outline
from dinsegment_slicer.scene.sequences import hidden_inputs, is_enhanced, proxy_of, sequence_of
from dinsegment_slicer.scene.table_export import table_text, write_csv
from dinsegment_slicer.scene.views import SideBySide

LEAST_WIDTH = "Left ventricular 0000.0 0000.0 0000.0 0000.0 000"
"""As wide as this the panel is at the least: a row of the table of a cine, with what is around it."""

RUN_INTERVAL_MS = 50
"""Between two looks at a run."""
WARM_UP_DELAY_MS = 500
"""After an image was chosen, until the process that segments is started: showing the image comes first."""
MEASURE_DELAY_MS = 300
"""After the last correction, until the volumes are computed again."""


class DINSegmentWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """What Slicer shows for the module."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.parameters: DINSegmentParameters | None = None
        self._guiTag: Any = None
        self._observed: list[tuple[Any, int]] = []
        self._updating = False
        self._measuredNodes: list[str] | None = None
        self._displayed: tuple[Any, ...] = ()
        self._viewed: tuple[Any, ...] = ()
        self._chosen: str | None = None
        self._missing: list[Missing] = []
        self._measurement: Measurement | None = None
        self._viewsPrepared = False

    # --- life of the module -------------------------------------------------------------------------

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
        self.dicom = DicomSection(self.ui)
        self.controller = Controller(self.logic, Dependencies(), self._ask, self.dicom.askFolder)
        self.annotations = SliceAnnotations()
        self.structures = StructuresSection(self.ui)
        self.samples = SampleSection(self.ui)
        self.joining = JoinSection(self.ui, lambda: self.parameters.inputNode if self.parameters else None)
        self.views = SideBySide(slicer.mrmlScene, slicer.app.applicationLogic(), _later, self.annotations.write)
        self.result = ResultSection(self.ui, self._icon)
        self.log = LogSection(self.ui)
        self.model = ModelSection(self.ui)
        self.enhancement = EnhancementSection(self.ui, self._enhancedImages, self._currentSlice)
        self._runTimer = _timer(RUN_INTERVAL_MS, self.controller.tick)
        self._measureTimer = _timer(MEASURE_DELAY_MS, self._measure, once=True)
        self._warmUpTimer = _timer(WARM_UP_DELAY_MS, self._warmUp, once=True)

        self.taskButtons = add_task_buttons(self.ui, self._icon, self._onSegment)
        self._connect()
        self._showParameterNode(parameters_of_scene())

    def cleanup(self) -> None:
        """Ends what runs and gives everything back; called when the module is closed or reloaded."""
        self._runTimer.stop()
        self._measureTimer.stop()
        self._warmUpTimer.stop()
        self.samples.stop()
        self.joining.stop()
        self._showParameterNode(None)
        self.controller.close()
        self.views.close()
        self.annotations.close()
        self.log.close()
        self.removeObservers()

    def enter(self) -> None:
        """The user opens the module."""
        self._missing = self.controller.dependencies.missing()
        self._showParameterNode(parameters_of_scene())
        self._chooseAnImage()
        self._updateViews()
        self._showMeasurement()  # The Segment Editor may have hidden a segment.
        self._warmUpTimer.start()

    def exit(self) -> None:
        """The user opens another module: the own layout comes back, a run goes on."""
        self.enhancement.stop()
        self.views.hide()

    def _connect(self) -> None:
        self.ui.outputComboBox.addItem(_("Replace the one before"), "replace")
        self.ui.outputComboBox.addItem(_("Add another one"), "new")
        self.ui.outputComboBox.currentTextChanged.connect(self._onOutputChanged)
        self.controller.changed.connect(self._updatePanel)
        self.controller.finished.connect(self._onFinished)
        self.model.message.connect(self._onModelMessage)
        self.samples.added.connect(self._onSample)
        self.samples.failed.connect(lambda text: self._onModelMessage(text, True))
        self.joining.joined.connect(self._onJoined)
        self.joining.failed.connect(lambda text: self._onModelMessage(text, True))
        self.result.findingChosen.connect(self._onFinding)
        self.result.visibilityToggled.connect(self._onSegmentVisibility)
        self.result.segmentChosen.connect(self._onSegmentChosen)
        self.ui.cancelButton.clicked.connect(lambda _checked=False: self.controller.cancel())
        self.ui.messageCloseButton.clicked.connect(lambda _checked=False: self.controller.tell(None))
        self.ui.wholeSequenceButton.clicked.connect(self._onWholeSequence)
        self.ui.endDiastoleButton.clicked.connect(lambda _checked=False: self._showPhase("end_diastole"))
        self.ui.endSystoleButton.clicked.connect(lambda _checked=False: self._showPhase("end_systole"))
        self.ui.copyButton.clicked.connect(self._onCopyTable)
        self.ui.saveTableButton.clicked.connect(self._onSaveTable)
        self.ui.editButton.clicked.connect(self._onEdit)
        self.ui.exportButton.clicked.connect(self._onExport)
        self.ui.showEnhancedButton.clicked.connect(self._onShowEnhanced)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self._onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self._onSceneChanged)
        self.addObserver(scene, scene.EndImportEvent, self._onSceneChanged)
        self.addObserver(scene, scene.NodeAddedEvent, self._onNodeAdded)
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self._onNodeAboutToBeRemoved)

    # --- the scene ------------------------------------------------------------------------------------

    def _onSceneStartClose(self, _caller: Any, _event: str) -> None:
        self._runTimer.stop()
        self._measureTimer.stop()
        self.joining.stop()
        self.enhancement.stop()
        self.controller.sceneClosed()
        self._showParameterNode(None)

    def _onSceneChanged(self, _caller: Any, _event: str) -> None:
        # A loaded scene brings a parameter node of its own. While another module is open, `enter` will look for it.
        if self.parent.isEntered:
            self._showParameterNode(parameters_of_scene())
            self._chooseAnImage()
            self._updateViews()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAdded(self, _caller: Any, _event: str, node: slicer.vtkMRMLNode) -> None:
        if not (node.IsA("vtkMRMLScalarVolumeNode") or node.IsA("vtkMRMLSequenceNode")):
            return
        self._hideWhatIsNoInput()
        self.joining.lookLater()
        if self.parameters is not None and self.parameters.inputNode is None:
            _later(self._chooseALoadedImage)  # A reader fills the node after it has added it.

    def _hideWhatIsNoInput(self) -> None:
        """Enhanced images and sequences of anything but images are not offered."""
        hidden = hidden_inputs(slicer.mrmlScene)
        for selector in (self.ui.inputSelector, self.ui.secondSelector):
            model = selector.sortFilterProxyModel()
            if tuple(model.hiddenNodeIDs) != tuple(hidden):  # Each assignment filters anew.
                model.hiddenNodeIDs = hidden

    def _chooseALoadedImage(self) -> None:
        if self.parameters is None or not self.parent.isEntered or self.controller.busy:
            return
        if not slicer.mrmlScene.IsBatchProcessing():
            self._chooseAnImage()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAboutToBeRemoved(self, _caller: Any, _event: str, node: slicer.vtkMRMLNode) -> None:
        self.controller.nodeRemoved(node)
        if node.IsA("vtkMRMLSequenceNode"):
            self.joining.lookLater()
        if self.parameters is not None and node in (self.parameters.segmentationNode, self.parameters.enhancedNode):
            self.enhancement.stop()
            self._measureTimer.start()

    # --- the parameter node -----------------------------------------------------------------------------

    def _showParameterNode(self, parameters: DINSegmentParameters | None) -> None:
        if self.parameters is not None:
            self.parameters.disconnectGui(self._guiTag)
            self.removeObserver(self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParametersModified)
        self.parameters = parameters
        self._measuredNodes = None
        self._hideWhatIsNoInput()
        self.model.setParameters(parameters)
        self.enhancement.setParameters(parameters)
        self.structures.setParameters(parameters)
        if parameters is not None:
            self._guiTag = parameters.connectGui(self.ui)
            self.addObserver(parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParametersModified)
            self._onParametersModified()
        else:
            self._observeResult()

    def _onParametersModified(self, _caller: Any = None, _event: str | None = None) -> None:
        if self.parameters is None or self._updating:
            return
        self._updating = True  # What follows changes the parameter node itself.
        try:
            self.controller.chooseInput(self.parameters.inputNode)
            self._onInput(self.parameters.inputNode)
            self.model.update()
            self.structures.update()
            self.ui.outputComboBox.setCurrentIndex(self.ui.outputComboBox.findData(self.parameters.output))
            self.enhancement.update()
            self._observeResult()
            self._updateDisplay()
            self._updateViews()
        finally:
            self._updating = False
        self._updatePanel()
        nodes = [node.GetID() for node in self._resultNodes().segmentations()]
        if nodes != self._measuredNodes:  # Not at every step of a slider: a cine takes a fifth of a second.
            self._measuredNodes = nodes
            _later(self._measure)  # Showing a large CT has taken its time already.

    def _chooseAnImage(self) -> None:
        """The image in view, or else the first one, saves a click."""
        if self.parameters is None or self.parameters.inputNode is not None:
            return
        selection = slicer.app.applicationLogic().GetSelectionNode()
        active = slicer.mrmlScene.GetNodeByID(selection.GetActiveVolumeID() or "") if selection else None
        volumeNodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        chosen = next((node for node in [active, *volumeNodes] if _is_image(node)), None)
        if chosen is not None:
            found = sequence_of(chosen)
            self.parameters.inputNode = found[1] if found else chosen

    # --- segmenting ----------------------------------------------------------------------------------------

    def _onSegment(self, task: Task) -> None:
        if self.parameters is None or self.controller.busy:
            return
        into = None
        if self.parameters.output == "replace":
            nodes = self._resultNodes()
            into = nodes.output(task, self.parameters.inputNode, self.parameters.secondNode)
            corrected = corrected_segments(nodes.allSegmentations()) if into is not None else []
            if corrected and not self._ask(_replace_question(corrected)):
                return
        self.enhancement.stop()
        self.logic.worker.environment = self.model.environment()
        self.controller.segment(
            Request(
                task,
                self.parameters.inputNode,
                self.parameters.secondNode,
                self.model.modelFor(task),
                self.parameters.device,
                self.structures.wanted(task),
                into,
            )
        )

    def _onOutputChanged(self, _text: str) -> None:
        if self.parameters is not None:
            self.parameters.output = self.ui.outputComboBox.itemData(self.ui.outputComboBox.currentIndex) or "replace"

    def _onSample(self, node: slicer.vtkMRMLNode) -> None:
        """A generated image is there: it is chosen, and in view."""
        if self.parameters is None:
            return
        self.parameters.secondNode = None
        self.parameters.inputNode = node
        if not self.views.visible:
            slicer.util.setSliceViewerLayers(background=volume_of(node), fit=True, rotateToVolumePlane=True)

    def _onInput(self, inputNode: slicer.vtkMRMLNode | None) -> None:
        chosen = inputNode.GetID() if inputNode is not None else None
        if chosen not in (None, self._chosen):
            self._warmUpTimer.start()
        if chosen != self._chosen:
            self.joining.lookLater()
        self._chosen = chosen

    def _warmUp(self) -> None:
        """Starts what segments while the user still looks at the image: it takes seconds to load."""
        ready = self.controller.state is State.READY and self.parent.isEntered
        if ready and self.parameters is not None and not self._missing:
            self.logic.worker.environment = self.model.environment()
            self.logic.worker.warm_up()

    def _onFinished(self, _request: Request, result: Result) -> None:
        if self.parameters is None:
            return
        self._updating = True
        try:
            self._resultNodes().replaceBy(result)
        finally:
            self._updating = False
        self._missing = []
        self._viewsPrepared = False
        self.ui.resultSection.collapsed = False
        self.enhancement.onNewImages()
        self._onParametersModified()

    def _ask(self, question: str) -> bool:
        return bool(slicer.util.confirmOkCancelDisplay(question, windowTitle=_("DINSegment")))

    def _onJoined(self, sequenceNode: slicer.vtkMRMLSequenceNode, text: str) -> None:
        if self.parameters is not None:
            self.parameters.secondNode = None
            self.parameters.inputNode = sequenceNode
        self.controller.tell(Message(Severity.INFORMATION, text))

    def _onWholeSequence(self, _checked: bool = False) -> None:
        found = sequence_of(self.parameters.inputNode) if self.parameters else None
        if found:
            self.parameters.secondNode = None
            self.parameters.inputNode = found[1]

    # --- the result --------------------------------------------------------------------------------------

    def _resultNodes(self) -> ResultNodes:
        return ResultNodes(self.parameters)

    def _observeResult(self) -> None:
        """The volumes follow every correction and every change of phase."""
        observed = []
        if self.parameters is not None:
            observed += [(*entry, self._onCorrected) for entry in self._resultNodes().corrected()]
            observed += [(*entry, self._onPhase) for entry in self._resultNodes().browsed()]
        if observed == self._observed:
            return
        for entry in self._observed:
            self.removeObserver(*entry)
        for entry in observed:
            self.addObserver(*entry)
        self._observed = observed

    def _onCorrected(self, _caller: Any, _event: str) -> None:
        self._measureTimer.start()

    def _onPhase(self, _caller: Any, _event: str) -> None:
        """Another phase comes into view, in a cine that plays many times a second: what was measured is shown anew."""
        self._showMeasurement()

    def _measure(self) -> None:
        if self.parameters is None:
            return
        self._updating = True
        self._measuredNodes = [node.GetID() for node in self._resultNodes().segmentations()]
        try:
            if self.parameters.threeD:  # Another phase has no surfaces yet.
                for segmentationNode in self._resultNodes().segmentations():
                    show_3d(segmentationNode, True)
            measurement = self._resultNodes().measure()
        except DINSegmentError as error:
            self.controller.tell(Message(Severity.ERROR, str(error)))
            measurement = None
        finally:
            self._updating = False
        self._measurement = measurement
        self.ui.resultSection.setVisible(measurement is not None)
        if measurement is None:
            return
        self.result.showFunction(measurement.function, measurement.no_function)
        self.ui.phaseFrame.setVisible(measurement.function is not None)
        self.ui.plotCheckBox.setVisible(measurement.is_sequence)
        self._showMeasurement()
        self._updateViews()  # There may be a plot now.
        _later(self._markEdited)

    def _showMeasurement(self) -> None:
        """What was measured, of the phase in view."""
        if self._measurement is None or self.parameters is None or self.parameters.segmentationNode is None:
            return
        nodes = self._resultNodes()
        view = self._measurement.view(nodes.selectedPhase())
        self.result.showTitle(view.title)
        self.result.showSegments(view, nodes.hiddenSegments())
        self.result.showFindings(nodes.findings(self._measurement))

    def _markEdited(self) -> None:
        """What was corrected is not the network's alone any more; Slicer's own DICOM export reads the mark, too."""
        if self.parameters is None:
            return
        self._updating = True
        try:
            for segmentationNode in self._resultNodes().segmentations():
                mark_edited(segmentationNode)
        finally:
            self._updating = False

    def _showPhase(self, name: str) -> None:
        if self._measurement is not None and self._measurement.function is not None:
            self._resultNodes().showPhase(getattr(self._measurement.function, name))

    def _updateDisplay(self) -> None:
        nodes = self._resultNodes().segmentations()
        p = self.parameters
        wanted = (*(node.GetID() for node in nodes), p.outline, p.threeD, p.showSecond, p.recommendedColors)
        if wanted == self._displayed:  # What the user changed elsewhere stays.
            return
        self._displayed = wanted
        for number, segmentationNode in enumerate(nodes):
            # Of two phases the one in view: the outlines of both would lie on each other.
            segmentationNode.GetDisplayNode().SetVisibility(number == int(p.showSecond) or len(nodes) == 1)
            show_outline(segmentationNode, p.outline)
            show_3d(segmentationNode, p.threeD)
        show_colors(self._resultNodes().allSegmentations(), "recommended" if p.recommendedColors else "distinct")

    def _updateViews(self) -> None:
        if self.parameters is None or not self.parent.isEntered or self._viewsPrepared:
            return
        volumeNode, enhancedNode = self._resultNodes().shown()
        if not self.parameters.sideBySide or volumeNode is None or enhancedNode is None:
            self.views.hide()
            return
        plot = self.parameters.plotChartNode if self.parameters.showPlot else None
        segmentations = self._resultNodes().segmentations()
        nodes = (volumeNode, enhancedNode, plot, *segmentations)
        wanted = (self.parameters.threeD, *(node.GetID() if node is not None else None for node in nodes))
        if wanted != self._viewed or not self.views.visible:
            self._viewed = wanted
            self.views.show(
                volumeNode,
                enhancedNode,
                segmentations,
                plane=self._resultNodes().reading().plane,
                threeD=self.parameters.threeD,
                plotChartNode=plot,
            )
            if plot is not None:
                _later(_place_legend)  # Once the view is there.

    def _prepareViews(self) -> None:
        """Makes the views, which takes most of a second, once the worker computes: never before the click."""
        request, p = self.controller.request, self.parameters
        if p is None or not p.sideBySide or self._viewsPrepared or not self.parent.isEntered:
            return
        if self.controller.state is not State.RUNNING or not isinstance(request, Request):
            return
        isSequence = request.inputNode.IsA("vtkMRMLSequenceNode")
        volumeNode = proxy_of(request.inputNode) if isSequence else request.inputNode
        if volumeNode is None:  # A sequence that is not in view: its result will be.
            return
        plane = reading_of_task(request.task).plane
        self._viewsPrepared, self._viewed = True, ()
        self.views.prepare(volumeNode, plane=plane, threeD=p.threeD, plot=isSequence and p.showPlot)

    def _onSegmentVisibility(self, segmentID: str) -> None:
        if self.parameters is not None:
            self._resultNodes().toggleSegment(segmentID)
            self._showMeasurement()

    def _onSegmentChosen(self, segmentID: str) -> None:
        place = self._resultNodes().middleOfSegment(segmentID) if self.parameters is not None else None
        if place is not None:
            self.views.jumpTo(place)

    def _onCopyTable(self, _checked: bool = False) -> None:
        if self.parameters is not None and self.parameters.tableNode is not None:
            slicer.app.clipboard().setText(table_text(self.parameters.tableNode))

    def _onSaveTable(self, _checked: bool = False) -> None:
        if self.parameters is None or self.parameters.tableNode is None:
            return
        name = f"{self.parameters.tableNode.GetName()}.csv"
        chosen = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(), _("Save the table"), name, _("Comma-separated values (*.csv)")
        )
        # PySide answers with the chosen filter, too.
        path = chosen[0] if isinstance(chosen, tuple) else chosen
        if not path:
            return
        try:
            write_csv(self.parameters.tableNode, Path(path))
        except DINSegmentError as error:
            self.controller.tell(Message(Severity.ERROR, str(error)))
        else:
            self.controller.tell(Message(Severity.INFORMATION, _("Saved '{path}'.").format(path=path)))

    def _onFinding(self, finding: NotedFinding) -> None:
        if self.parameters is None:
            return
        try:
            place = self._resultNodes().showFinding(finding)
        except DINSegmentError as error:
            self.controller.tell(Message(Severity.ERROR, str(error)))
            return
        if place is not None:
            self.views.jumpTo(place)

    def _onEdit(self, _checked: bool = False) -> None:
        segmentationNode = self._resultNodes().segmentationShown()
        volumeNode, _enhancedNode = self._resultNodes().shown()
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        editor.setSegmentationNode(segmentationNode)
        editor.setSourceVolumeNode(volumeNode)
        slicer.util.setSliceViewerLayers(background=volumeNode)

    def _onExport(self, _checked: bool = False) -> None:
        if self.parameters is None:
            return
        self.enhancement.stop()
        self.logic.worker.environment = self.model.environment()
        nodes = tuple(self._resultNodes().segmentations())
        self.controller.export(ExportRequest(nodes, self.dicom.folder(), self.parameters.exportToDatabase))

    # --- the enhanced image ------------------------------------------------------------------------------

    def _enhancedImages(self) -> Sequence[EnhancedImage]:
        return self._resultNodes().enhancedImages()

    def _currentSlice(self) -> int:
        volumeNode, _enhancedNode = self._resultNodes().shown()
        return self.views.currentSlice(volumeNode, self._resultNodes().reading().plane) if volumeNode is not None else 0

    def _onShowEnhanced(self, _checked: bool = False) -> None:
        if self.parameters is None:
            return
        try:
            self._resultNodes().addEnhanced()
        except DINSegmentError as error:
            self.controller.tell(Message(Severity.ERROR, str(error)))
            return
        self.parameters.sideBySide = True
        self.enhancement.recompute()
        self._updateViews()

    # --- what is shown of the controller -------------------------------------------------------------------

    def _updatePanel(self) -> None:
        busy = self.controller.busy
        if busy and not self._runTimer.isActive():
            self._runTimer.start()
        elif not busy and self._runTimer.isActive():
            self._runTimer.stop()
        choices = ("inputSelector", "outputComboBox", "structuresButton", "modelComboBox", "deviceComboBox")
        for name in choices:
            getattr(self.ui, name).setEnabled(not busy)
        self.ui.sampleDataButton.setVisible(self.controller.state is State.NO_INPUT or self.samples.busy)
        inputNode = self.parameters.inputNode if self.parameters is not None else None
        isSequence = inputNode is not None and inputNode.IsA("vtkMRMLSequenceNode")
        self.ui.secondSelector.setEnabled(not busy and not isSequence)  # A sequence has all phases.
        self._updateTaskButtons()
        self._updateSequenceHint()
        self.joining.setEnabled(not busy)
        self.dicom.setReady(self.controller.state is State.READY)
        self.ui.progressFrame.setVisible(busy)
        self.ui.cancelButton.setEnabled(self.controller.state in (State.RUNNING, State.ADDING))
        # While nothing is known of how far it is, as when the model loads, the bar only moves.
        self.ui.progressBar.setMaximum(1000 if self.controller.fraction > 0 else 0)
        self.ui.progressBar.setValue(round(1000 * self.controller.fraction))
        self.ui.progressLabel.setText(breakable(_progress_text(self.controller)))
        self._showMessage(self.controller.message)
        if self.controller.state is State.RUNNING and not self._viewsPrepared:
            _later(self._prepareViews)
        elif not busy and self._viewsPrepared:  # It was cancelled, or failed: what was in view before comes back.
            self._viewsPrepared = False
            self._updateViews()

    def _updateTaskButtons(self) -> None:
        reasons = []
        for name, button in self.taskButtons.items():
            reason = self._reason(TASKS[name])
            button.setEnabled(reason is None and not self.controller.busy)
            button.setToolTip(reason or _finds(TASKS[name]))
            if reason and reason not in reasons:
                reasons.append(reason)
        if self._missing:
            names = ", ".join(missing.name for missing in self._missing)
            reasons.append(_("The first click asks to install what is missing: {names}.").format(names=names))
        self.ui.reasonLabel.setText("\n".join(reasons))
        self.ui.reasonLabel.setVisible(bool(reasons) and not self.controller.busy)

    def _reason(self, task: Task) -> str | None:
        """Why the task cannot run; None if it can."""
        try:
            find_entry(self.model.modelFor(task), task)
        except DINSegmentError:
            return _("Segment {task}: there is no model for it yet.").format(task=task.title.lower())
        if self.structures.wanted(task) == []:
            return _("Segment {task}: none of its structures is wanted.").format(task=task.title.lower())
        if self.controller.state is State.NO_INPUT:
            return _("Choose an image first.")
        return None

    def _updateSequenceHint(self) -> None:
        found = sequence_of(self.parameters.inputNode) if self.parameters and self.parameters.inputNode else None
        self.ui.wholeSequenceButton.setVisible(found is not None and not self.controller.busy)
        if found:
            count = found[1].GetNumberOfDataNodes()
            self.ui.wholeSequenceButton.setText(
                _("This is one phase of a cine: use all {count} phases").format(count=count)
            )

    def _showMessage(self, message: Message | None) -> None:
        self.ui.messageFrame.setVisible(message is not None)
        if message is None:
            return
        icons = {
            Severity.INFORMATION: qt.QStyle.SP_MessageBoxInformation,
            Severity.WARNING: qt.QStyle.SP_MessageBoxWarning,
            Severity.ERROR: qt.QStyle.SP_MessageBoxCritical,
        }
        icon = slicer.app.style().standardIcon(icons[message.severity])
        self.ui.messageIcon.setPixmap(icon.pixmap(24, 24))
        self.ui.messageLabel.setText(breakable(message.text))

    def _onModelMessage(self, text: str, isError: bool) -> None:
        self.controller.tell(Message(Severity.ERROR if isError else Severity.INFORMATION, text))

    def _icon(self, name: str) -> str:
        return self.resourcePath(f"Icons/{name}")


def _is_image(node: slicer.vtkMRMLNode | None) -> bool:
    """Whether a node is an image to segment: neither labels nor what was made of an image."""
    if node is None or not node.IsA("vtkMRMLScalarVolumeNode") or node.IsA("vtkMRMLLabelMapVolumeNode"):
        return False
    return node.GetImageData() is not None and not is_enhanced(node)


def _timer(interval_ms: int, slot: Any, once: bool = False) -> qt.QTimer:
    timer = qt.QTimer()
    timer.setInterval(interval_ms)
    timer.setSingleShot(once)
    timer.timeout.connect(slot)
    return timer


def _later(slot: Any) -> None:
    qt.QTimer.singleShot(0, slot)


def _place_legend() -> None:
    """The legend stands beside the curves; the node of a plot has no say in that."""
    layoutManager = slicer.app.layoutManager()
    for n in range(layoutManager.plotViewCount):
        plotWidget = layoutManager.plotWidget(n)
        if plotWidget.mrmlPlotViewNode().GetLayoutName() == layouts.PLOT_VIEW:
            show_legend_beside(plotWidget.plotView().chart())


def _finds(task: Task) -> str:
    return _("Find in the chosen image: {segments}.").format(segments=", ".join(s.name.lower() for s in task.segments))


def _replace_question(corrected: Sequence[str]) -> str:
    text = _(
        "These segments were corrected by hand: {segments}. Replace them with a new result? To keep them, cancel, and "
        "choose to add another result."
    )
    return text.format(segments=", ".join(corrected))


def _progress_text(controller: Controller) -> str:
    left = controller.secondsLeft
    if left is None:
        return controller.text
    if left < 90:
        return _("{text} ({seconds:.0f} s left)").format(text=controller.text, seconds=left)
    return _("{text} ({minutes:.0f} min left)").format(text=controller.text, minutes=left / 60)
