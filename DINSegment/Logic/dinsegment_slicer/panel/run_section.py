"""The part of the panel that starts a segmentation, and shows how it goes and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt
import slicer

from dinsegment.errors import DINSegmentError
from dinsegment.models.entries import find_entry
from dinsegment.tasks import TASKS, Task
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.installing.dependencies import Missing
from dinsegment_slicer.logic import Result
from dinsegment_slicer.panel.dialogs import ask
from dinsegment_slicer.panel.model_section import ModelSection
from dinsegment_slicer.panel.result import ResultNodes
from dinsegment_slicer.panel.section import Section
from dinsegment_slicer.panel.structures_section import StructuresSection
from dinsegment_slicer.panel.task_buttons import add_task_buttons
from dinsegment_slicer.panel.texts import breakable
from dinsegment_slicer.panel.timers import timer
from dinsegment_slicer.running.controller import Controller
from dinsegment_slicer.running.messages import Message, Severity
from dinsegment_slicer.running.requests import Request
from dinsegment_slicer.running.states import State
from dinsegment_slicer.scene.edits import corrected_segments
from dinsegment_slicer.signal import Signal

RUN_INTERVAL_MS = 50
"""Between two looks at a run."""
WARM_UP_DELAY_MS = 500
"""After an image was chosen, until the process that segments is started: showing the image comes first."""


class RunSection(Section):
    """A button for each task, with the reason why it cannot run; progress and message of a run.

    `begins` is emitted before a run begins.

    Args:
        ui: The panel's widgets by name.
        controller: Runs what is asked for.
        model: Says which model is chosen.
        structures: Says which segments are wanted.
        icon: Gives the path of an icon of the module.
        isOpen: Says whether the panel is in view.

    Attributes:
        buttons: The buttons, by the names of their tasks.
        missing: Packages that are not installed; the first click asks to install them.
    """

    def __init__(
        self,
        ui: Any,
        controller: Controller,
        model: ModelSection,
        structures: StructuresSection,
        icon: Callable[[str], str],
        isOpen: Callable[[], bool],
    ) -> None:
        super().__init__(ui)
        self.begins = Signal()
        self.missing: list[Missing] = []
        self._controller = controller
        self._model = model
        self._structures = structures
        self._isOpen = isOpen
        self._chosen: str | None = None
        self._runTimer = timer(RUN_INTERVAL_MS, controller.tick)
        self._warmUpTimer = timer(WARM_UP_DELAY_MS, self._warmUp, once=True)
        self.buttons = add_task_buttons(ui, icon, self._onSegment)
        ui.outputComboBox.addItem(_("Replace the one before"), "replace")
        ui.outputComboBox.addItem(_("Add another one"), "new")
        ui.outputComboBox.currentTextChanged.connect(self._onOutputChanged)
        ui.cancelButton.clicked.connect(lambda _checked=False: controller.cancel())
        ui.messageCloseButton.clicked.connect(lambda _checked=False: controller.tell(None))
        controller.finished.connect(self._onFinished)

    def enter(self) -> None:
        """The panel comes into view."""
        self.missing = self._controller.dependencies.missing()
        self._warmUpTimer.start()

    def update(self) -> None:
        """Shows the parameter node, which has changed; for another image, the process that segments is started."""
        if self._parameters is None:
            return
        self.ui.outputComboBox.setCurrentIndex(self.ui.outputComboBox.findData(self._parameters.output))
        inputNode = self._parameters.inputNode
        chosen = inputNode.GetID() if inputNode is not None else None
        if chosen not in (None, self._chosen):
            self._warmUpTimer.start()
        self._chosen = chosen

    def showState(self, controller: Controller) -> None:
        """Shows what the controller does: a run began, went on or ended, or something is said."""
        busy = controller.busy
        if busy and not self._runTimer.isActive():
            self._runTimer.start()
        elif not busy and self._runTimer.isActive():
            self._runTimer.stop()
        self.ui.outputComboBox.setEnabled(not busy)
        self._showReasons(controller)
        self.ui.progressFrame.setVisible(busy)
        self.ui.cancelButton.setEnabled(controller.state in (State.RUNNING, State.ADDING))
        # While nothing is known of how far it is, as when the model loads, the bar only moves.
        self.ui.progressBar.setMaximum(1000 if controller.fraction > 0 else 0)
        self.ui.progressBar.setValue(round(1000 * controller.fraction))
        self.ui.progressLabel.setText(breakable(_progress_text(controller)))
        self._showMessage(controller.message)

    def stop(self) -> None:
        """Looks at no run any more: the scene is closed, or the panel."""
        self._runTimer.stop()

    def close(self) -> None:
        """Starts nothing any more: the panel is closed."""
        self._warmUpTimer.stop()

    def _onSegment(self, task: Task) -> None:
        p = self._parameters
        if p is None or self._controller.busy:
            return
        into = None
        if p.output == "replace":
            nodes = ResultNodes(p)
            into = nodes.output(task, p.inputNode, p.secondNode)
            corrected = corrected_segments(nodes.allSegmentations()) if into is not None else []
            if corrected and not ask(_replace_question(corrected)):
                return
        self.begins.emit()
        self._controller.logic.worker.environment = self._model.environment()
        model, wanted = self._model.modelFor(task), self._structures.wanted(task)
        self._controller.segment(Request(task, p.inputNode, p.secondNode, model, p.device, wanted, into))

    def _onFinished(self, _request: Request, _result: Result) -> None:
        self.missing = []

    def _onOutputChanged(self, _text: str) -> None:
        if self._parameters is not None:
            self._parameters.output = self.ui.outputComboBox.itemData(self.ui.outputComboBox.currentIndex) or "replace"

    def _warmUp(self) -> None:
        """Starts what segments while the user still looks at the image: it takes seconds to load."""
        ready = self._controller.state is State.READY and self._isOpen()
        if ready and self._parameters is not None and not self.missing:
            worker = self._controller.logic.worker
            worker.environment = self._model.environment()
            worker.warm_up()

    def _showReasons(self, controller: Controller) -> None:
        reasons = []
        for name, button in self.buttons.items():
            reason = self._reason(TASKS[name], controller)
            button.setEnabled(reason is None and not controller.busy)
            button.setToolTip(reason or _finds(TASKS[name]))
            if reason and reason not in reasons:
                reasons.append(reason)
        if self.missing:
            names = ", ".join(missing.name for missing in self.missing)
            reasons.append(_("The first click asks to install what is missing: {names}.").format(names=names))
        self.ui.reasonLabel.setText("\n".join(reasons))
        self.ui.reasonLabel.setVisible(bool(reasons) and not controller.busy)

    def _reason(self, task: Task, controller: Controller) -> str | None:
        """Why the task cannot run; None if it can."""
        try:
            find_entry(self._model.modelFor(task), task)
        except DINSegmentError:
            return _("Segment {task}: there is no model for it yet.").format(task=task.title.lower())
        if self._structures.wanted(task) == []:
            return _("Segment {task}: none of its structures is wanted.").format(task=task.title.lower())
        if controller.state is State.NO_INPUT:
            return _("Choose an image first.")
        return None

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
