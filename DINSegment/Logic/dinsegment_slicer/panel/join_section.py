"""The part of the panel that offers to join sequences of single slices to one with a volume for each phase."""

from __future__ import annotations

from typing import Any

import slicer

from dinsegment.errors import DINSegmentError
from dinsegment_slicer.dicom.joining import Joinable, find_joinable, join
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.panel.section import Section
from dinsegment_slicer.panel.timers import timer
from dinsegment_slicer.running.controller import Controller
from dinsegment_slicer.scene.sequences import show_cine
from dinsegment_slicer.scene.stacks import dimensions
from dinsegment_slicer.signal import Signal

LOOK_DELAY_MS = 300
"""After the last of many sequences was added, until it is looked whether they make up one stack."""


class JoinSection(Section):
    """A button that is there where something can be joined.

    `joined` is emitted with the new sequence.

    Args:
        ui: The panel's widgets by name.
    """

    def __init__(self, ui: Any) -> None:
        super().__init__(ui)
        self.joined = Signal()
        self._chosen: str | None = None
        self._joinable: Joinable | None = None
        self._enabled = True
        self._timer = timer(LOOK_DELAY_MS, self._look, once=True)
        ui.joinButton.clicked.connect(self._onJoin)

    def update(self) -> None:
        """Looks anew where another image is chosen."""
        if self._parameters is None:
            return
        inputNode = self._parameters.inputNode
        chosen = inputNode.GetID() if inputNode is not None else None
        if chosen != self._chosen:
            self.lookLater()
        self._chosen = chosen

    def showState(self, controller: Controller) -> None:
        """Offers nothing while a run goes on."""
        self._enabled = not controller.busy
        self._show()

    def lookLater(self) -> None:
        """Another image is chosen, or what is in the scene has changed."""
        self._joinable = None
        self._show()
        self._timer.start()

    def stop(self) -> None:
        """Nothing is offered any more."""
        self._timer.stop()
        self._joinable = None
        self._show()

    def _look(self) -> None:
        self._joinable = find_joinable(self._parameters.inputNode if self._parameters is not None else None)
        self._show()

    def _show(self) -> None:
        joinable = self._joinable
        self.ui.joinButton.setVisible(joinable is not None and self._enabled)
        if joinable is not None:
            text = (
                _("These {count} sequences are one stack: join them")
                if len(joinable.sequenceNodes) > 1
                else _("These {frames} single slices are one stack: join them")
            )
            frames = sum(node.GetNumberOfDataNodes() for node in joinable.sequenceNodes)
            self.ui.joinButton.setText(text.format(count=len(joinable.sequenceNodes), frames=frames))

    def _onJoin(self, _checked: bool = False) -> None:
        joinable, self._joinable = self._joinable, None
        if joinable is None:
            return
        try:
            node = join(joinable)
        except DINSegmentError as error:
            self._show()
            self.message.emit(str(error), True)
            return
        show_cine(node)
        self._show()
        self.joined.emit(node)
        self.message.emit(_said(node, joinable), False)


def _said(node: slicer.vtkMRMLSequenceNode, joinable: Joinable) -> str:
    count = len(joinable.sequenceNodes)
    text = (
        _("'{name}' joins {count} sequences, which are still there: {dimensions}.")
        if count > 1
        else _("'{name}' joins the single slices of a sequence, which is still there: {dimensions}.")
    )
    said = text.format(name=node.GetName(), count=count, dimensions=dimensions(joinable.stack))
    return " ".join([said, *joinable.stack.warnings])
