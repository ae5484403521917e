"""The part of the panel that offers to join sequences of single slices to one with a volume for each phase."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer

from dinsegment.errors import DINSegmentError
from dinsegment_slicer.dicom.joining import Joinable, find_joinable, join
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene.sequences import show_cine
from dinsegment_slicer.scene.stacks import dimensions
from dinsegment_slicer.signal import Signal

LOOK_DELAY_MS = 300
"""After the last of many sequences was added, until it is looked whether they make up one stack."""


class JoinSection:
    """A button that is there where something can be joined.

    `joined` is emitted with the new sequence and a sentence that says what was joined, `failed` with one that says why
    nothing was.

    Args:
        ui: The panel's widgets by name.
        inputNode: Gives the chosen image, or None.
    """

    def __init__(self, ui: Any, inputNode: Callable[[], slicer.vtkMRMLNode | None]) -> None:
        self.ui = ui
        self.joined = Signal()
        self.failed = Signal()
        self._inputNode = inputNode
        self._joinable: Joinable | None = None
        self._enabled = True
        self._timer = qt.QTimer()
        self._timer.setInterval(LOOK_DELAY_MS)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._look)
        ui.joinButton.clicked.connect(self._onJoin)

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

    def setEnabled(self, enabled: bool) -> None:
        """Whether the user may choose something: not while a run goes on."""
        self._enabled = enabled
        self._show()

    def _look(self) -> None:
        self._joinable = find_joinable(self._inputNode())
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
            self.failed.emit(str(error))
            return
        show_cine(node)
        self._show()
        self.joined.emit(node, _said(node, joinable))


def _said(node: slicer.vtkMRMLSequenceNode, joinable: Joinable) -> str:
    count = len(joinable.sequenceNodes)
    text = (
        _("'{name}' joins {count} sequences, which are still there: {dimensions}.")
        if count > 1
        else _("'{name}' joins the single slices of a sequence, which is still there: {dimensions}.")
    )
    said = text.format(name=node.GetName(), count=count, dimensions=dimensions(joinable.stack))
    return " ".join([said, *joinable.stack.warnings])
