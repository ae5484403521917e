"""The panel's choice of the image: which nodes are offered, which one is chosen by itself, the whole of a cine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer

from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.panel.parameters import DINSegmentParameters
from dinsegment_slicer.panel.section import Section
from dinsegment_slicer.panel.timers import later
from dinsegment_slicer.running.controller import Controller
from dinsegment_slicer.scene.sequences import hidden_inputs, is_of_result, sequence_of


class InputSection(Section):
    """The chosen image and the second phase of the same patient.

    Args:
        ui: The panel's widgets by name.
        isFree: Says whether an image may be chosen for the user now: the panel is open, and no run goes on.
    """

    def __init__(self, ui: Any, isFree: Callable[[], bool]) -> None:
        super().__init__(ui)
        self._isFree = isFree
        ui.wholeSequenceButton.clicked.connect(self._onWholeSequence)

    def setParameters(self, parameters: DINSegmentParameters | None) -> None:
        """Follows another parameter node from now on, or none."""
        super().setParameters(parameters)
        self._hideWhatIsNoInput()

    def showState(self, controller: Controller) -> None:
        """Lets nothing be chosen while a run goes on, and offers all phases where one of a cine is chosen."""
        inputNode = self.node()
        self.ui.inputSelector.setEnabled(not controller.busy)
        isSequence = inputNode is not None and inputNode.IsA("vtkMRMLSequenceNode")
        self.ui.secondSelector.setEnabled(not controller.busy and not isSequence)  # A sequence has all phases.
        found = sequence_of(inputNode) if inputNode is not None else None
        self.ui.wholeSequenceButton.setVisible(found is not None and not controller.busy)
        if found:
            text = _("This is one phase of a cine: use all {count} phases")
            self.ui.wholeSequenceButton.setText(text.format(count=found[1].GetNumberOfDataNodes()))

    def node(self) -> slicer.vtkMRMLNode | None:
        """The chosen image, a volume or a sequence; None where none is chosen."""
        return self._parameters.inputNode if self._parameters is not None else None

    def choose(self, node: slicer.vtkMRMLNode) -> None:
        """Chooses that image, alone."""
        if self._parameters is not None:
            self._parameters.secondNode = None
            self._parameters.inputNode = node

    def chooseOne(self) -> None:
        """Chooses the image in view, or else the first one, unless one is chosen; that saves a click."""
        if self._parameters is None or self._parameters.inputNode is not None:
            return
        selection = slicer.app.applicationLogic().GetSelectionNode()
        active = slicer.mrmlScene.GetNodeByID(selection.GetActiveVolumeID() or "") if selection else None
        volumeNodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        chosen = next((node for node in [active, *volumeNodes] if _is_image(node)), None)
        if chosen is not None:
            found = sequence_of(chosen)
            self._parameters.inputNode = found[1] if found else chosen

    def onNodeAdded(self) -> None:
        """A volume or a sequence came into the scene."""
        self._hideWhatIsNoInput()
        if self._parameters is not None and self._parameters.inputNode is None:
            later(self._chooseALoadedImage)  # A reader fills the node after it has added it.

    def _chooseALoadedImage(self) -> None:
        if self._parameters is not None and self._isFree() and not slicer.mrmlScene.IsBatchProcessing():
            self.chooseOne()

    def _hideWhatIsNoInput(self) -> None:
        """What belongs to results, and sequences of anything but images, are not offered."""
        hidden = hidden_inputs(slicer.mrmlScene)
        for selector in (self.ui.inputSelector, self.ui.secondSelector):
            model = selector.sortFilterProxyModel()
            if tuple(model.hiddenNodeIDs) != tuple(hidden):  # Each assignment filters anew.
                model.hiddenNodeIDs = hidden

    def _onWholeSequence(self, _checked: bool = False) -> None:
        found = sequence_of(self.node())
        if found:
            self.choose(found[1])


def _is_image(node: slicer.vtkMRMLNode | None) -> bool:
    """Whether a node is an image to segment: neither labels nor what was made of an image."""
    if node is None or not node.IsA("vtkMRMLScalarVolumeNode") or node.IsA("vtkMRMLLabelMapVolumeNode"):
        return False
    return node.GetImageData() is not None and not is_of_result(node)
