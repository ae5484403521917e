"""The part of the panel in which the rest of a result follows what the user corrected, and is kept for training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import qt
import slicer

from dinsegment.correction.case import save_case
from dinsegment.errors import DINSegmentError, InputError
from dinsegment.models.entries import find_entry
from dinsegment.tasks import TASKS, Task
from dinsegment.training.half_made import is_half_made
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.logic import Result
from dinsegment_slicer.panel.dialogs import ask, ask_folder
from dinsegment_slicer.panel.model_section import ModelSection
from dinsegment_slicer.panel.parameters import DINSegmentParameters
from dinsegment_slicer.panel.result import ResultNodes
from dinsegment_slicer.panel.section import Section
from dinsegment_slicer.panel.stops import Stop, stops_of
from dinsegment_slicer.panel.timers import timer
from dinsegment_slicer.running.adapt_part import Adapted, AdaptPart
from dinsegment_slicer.running.controller import Controller
from dinsegment_slicer.running.correct_part import Corrected, CorrectPart
from dinsegment_slicer.running.messages import Message, Severity
from dinsegment_slicer.running.requests import Errand, Request
from dinsegment_slicer.running.states import State
from dinsegment_slicer.scene.corrections import Before, Now, Phase, apply, look_at
from dinsegment_slicer.scene.findings import findings_of
from dinsegment_slicer.scene.nodes import parent_to_world, volume_from_node
from dinsegment_slicer.scene.slice_notes import slice_notes
from dinsegment_slicer.signal import Signal

logger = logging.getLogger(__name__)

SHORTCUT = "Ctrl+Shift+L"
"""Also while the Segment Editor is in view."""

CASES_SETTING = "DINSegment/CasesFolder"
"""The folder is the machine's, not the scene's."""

SAVING_INTERVAL_MS = 100
"""Between two looks at whether a training case is saved."""


class CorrectionSection(Section):
    """Lets the rest follow what was corrected, takes that back, shows where to go on, and teaches the model.

    `placeChosen` is emitted with a place (mm RAS) that the user wants to see; `corrected` when the result has changed.

    Args:
        ui: The panel's widgets by name.
        controller: Runs what is asked for.
        model: Says which model is chosen, and offers new ones.
    """

    def __init__(self, ui: Any, controller: Controller, model: ModelSection) -> None:
        super().__init__(ui)
        self.placeChosen = Signal()
        self.corrected = Signal()
        self._controller = controller
        self._model = model
        self._before: Before | None = None
        self._visited: set[tuple[int, Stop]] = set()
        self._saver = ThreadPoolExecutor(1, "DINSegment training case")
        self._saving: Future[Path] | None = None
        self._savingTimer = timer(SAVING_INTERVAL_MS, self._lookAtSaving)
        ui.applyCorrectionsButton.clicked.connect(lambda _checked=False: self.apply())
        ui.undoCorrectionsButton.clicked.connect(lambda _checked=False: self.undo())
        ui.nextCorrectionButton.clicked.connect(lambda _checked=False: self.goToNext())
        ui.saveCaseButton.clicked.connect(lambda _checked=False: self.saveCase())
        ui.adaptButton.clicked.connect(lambda _checked=False: self.adapt())
        self._shortcut = qt.QShortcut(qt.QKeySequence(SHORTCUT), slicer.util.mainWindow())
        self._shortcut.activated.connect(self.apply)
        controller.finished.connect(self._onFinished)

    def setParameters(self, parameters: DINSegmentParameters | None) -> None:
        """Follows another parameter node from now on, or none."""
        super().setParameters(parameters)
        self._forget()

    def showState(self, controller: Controller) -> None:
        """Offers what can be done now."""
        self._show(controller.state is State.READY)

    def update(self) -> None:
        """Shows the parameter node, which has changed."""
        self._show(self._controller.state is State.READY)

    def stop(self) -> None:
        """The scene is closed: there is nothing to take back any more."""
        self._forget()

    def close(self) -> None:
        """The panel is closed; a training case that is being saved is finished."""
        self._savingTimer.stop()
        self._saver.shutdown(wait=True)
        self._shortcut.setEnabled(False)

    def apply(self) -> None:
        """Lets the other slices follow those that the user corrected."""
        task = self._task()
        if task is None or self._controller.state is not State.READY:
            return
        try:
            now = look_at(self._phases(), task)
            if not any(now.fresh):
                raise InputError(
                    _("Nothing was corrected since: correct a slice in the Segment Editor, then let the rest follow.")
                )
            model = self._model.thatMade(now.phases[0].segmentationNode, task)
        except DINSegmentError as error:
            self.message.emit(str(error), True)
            return
        images = [phase.image for phase in now.phases]
        part = CorrectPart(images, now.labels, now.seen, task.name, model, self._parameters.device)
        self._do(
            [part],
            lambda results: self._deliver(now, results[0], task),
            nodes=ResultNodes(self._parameters).segmentations(),
            preparing=_("Looking for what you corrected"),
            delivering=_("Changing the other slices"),
            failed=_("The corrections could not be applied: {error}. The error log has the details."),
        )

    def undo(self) -> None:
        """Makes everything as it was before the rest followed."""
        before, task = self._before, self._task()
        if before is None or task is None or self._controller.state is not State.READY:
            return
        question = _("You have corrected something since. Take that back, too?")
        if before.changed_since() and not ask(question):
            return
        self._forget()
        try:
            before.put_back()
        except DINSegmentError as error:
            self.message.emit(str(error), True)
            return
        self.message.emit(_("The segments are as you had corrected them."), False)
        self.corrected.emit()

    def goToNext(self) -> None:
        """Goes to what looks wrong, then to the slice in which a correction would change most.

        Slices that a person has corrected, and places that were visited, are left out.
        """
        task = self._task()
        if task is None:
            return
        try:
            phases = self._phases()
            now = look_at(phases, task)
        except DINSegmentError as error:
            self.message.emit(str(error), True)
            return
        stops = [
            (n, stop)
            for n, (phase, seen) in enumerate(zip(phases, now.seen, strict=True))
            for stop in stops_of(slice_notes(phase.segmentationNode).first, findings_of(phase.segmentationNode), seen)
            if (n, stop) not in self._visited and (stop.position is not None or len(phases) > 1)
        ]
        if not stops:
            self._visited.clear()  # The next click begins anew.
            self.message.emit(_("There is no other slice in which a correction is expected to change much."), False)
            return
        n, stop = max(stops, key=lambda found: found[1].urgency)
        self._visited.add((n, stop))
        nodes = ResultNodes(self._parameters)
        if len(phases) > 1:
            nodes.showPhase(n)
        self.message.emit(stop.text(n, len(phases)), False)
        if stop.position is not None:
            self.placeChosen.emit(tuple(parent_to_world(nodes.segmentationShown()) @ (*stop.position, 1.0))[:3])

    def saveCase(self) -> None:
        """Keeps the image in view and its segments as a training case, after a question."""
        task = self._task()
        if task is None or self._saving is not None:
            return
        try:
            phase = self._phases()[self._phaseShown()]
            _check_complete(phase, task)
        except DINSegmentError as error:
            self.message.emit(str(error), True)
            return
        folder = ask_folder(_("Folder for training cases"), slicer.util.settingsValue(CASES_SETTING, ""))
        if folder is None:
            return
        question = _(
            "Save the image '{name}' and its segments as they are now in '{folder}'? They stay on this computer, but "
            "whoever reads that folder can see them."
        )
        if not ask(question.format(name=phase.image.name, folder=folder)):
            return
        settings = qt.QSettings()
        settings.setValue(CASES_SETTING, str(folder))
        try:
            volume, labels = volume_from_node(phase.volumeNode), phase.labels(task)
        except DINSegmentError as error:
            self.message.emit(str(error), True)
            return
        # In a thread, on copies: a CT takes seconds to compress.
        self._saving = self._saver.submit(save_case, folder, volume, labels, task, phase.image.name)
        self._savingTimer.start()
        self._show(self._controller.state is State.READY)

    def adapt(self) -> None:
        """Trains the model on the saved cases, in the worker; what comes of it is offered as a model."""
        task = self._task()
        if task is None or self._controller.state is not State.READY:
            return
        cases = ask_folder(_("Folder with training cases"), slicer.util.settingsValue(CASES_SETTING, ""))
        if cases is None:
            return
        try:
            entry = find_entry(self._model.modelFor(task), task)
        except DINSegmentError as error:
            self.message.emit(str(error), True)
            return
        output = _free(cases.parent / f"{entry.name} {cases.name}")
        question = _(
            "Train '{model}' on the cases in '{cases}'? It takes minutes to hours, can be cancelled, and writes a new "
            "model to '{output}'; the one you have stays as it is."
        )
        if is_half_made(output):
            question += " " + _(
                "A training was stopped there: if it was of the same cases and the same model, this one goes on with "
                "it, otherwise it begins anew."
            )
        if not ask(question.format(model=entry.name, cases=cases, output=output)):
            return
        part = AdaptPart(self._model.modelFor(task) or entry.name, task.name, cases, output, self._parameters.device)
        self._do(
            [part],
            lambda results: self._offer(results[0]),
            preparing=_("Looking at the training cases"),
            delivering=_("Offering the new model"),
            failed=_("The training failed: {error}. The error log has the details."),
            cancelled=lambda: _cancelled_text(output),
        )

    def _do(
        self,
        parts: Sequence[Any],
        deliver: Callable[[Sequence[Any]], Message | None],
        nodes: Sequence[slicer.vtkMRMLNode] = (),
        cancelled: Callable[[], str] | None = None,
        **texts: str,
    ) -> None:
        self._controller.logic.worker.environment = self._model.environment()
        self._controller.do(Errand(parts, deliver, tuple(nodes), cancelled=cancelled, **texts))

    def _deliver(self, now: Now, corrected: Corrected, task: Task) -> Message:
        """Puts into the scene what the worker has made, unless the user went on meanwhile."""
        text = "\n".join([corrected.text, *corrected.warnings])
        if not corrected.applied:
            return Message(Severity.INFORMATION, text)
        if any((phase.labels(task) != labels).any() for phase, labels in zip(now.phases, now.labels, strict=True)):
            return Message(
                Severity.WARNING,
                _("You went on correcting meanwhile, so nothing was changed: let the rest follow again."),
            )
        self._before = apply(now, corrected, task)
        self._visited.clear()
        self.corrected.emit()
        return Message(Severity.INFORMATION, text)

    def _offer(self, adapted: Adapted) -> Message:
        self._model.offer(adapted.output)
        return Message(Severity.INFORMATION if adapted.better else Severity.WARNING, adapted.text)

    def _lookAtSaving(self) -> None:
        saving = self._saving
        if saving is None or not saving.done():
            return
        self._savingTimer.stop()
        self._saving = None
        self._show(self._controller.state is State.READY)
        try:
            path = saving.result()
        except DINSegmentError as error:
            self.message.emit(str(error), True)
        except OSError as error:
            text = _("The training case could not be saved ({reason}): make room there, or choose another folder.")
            self.message.emit(text.format(reason=error.strerror or error), True)
        except Exception as error:
            logger.exception("The training case could not be saved.")
            text = _("The training case could not be saved: {error}. The error log has the details.")
            self.message.emit(text.format(error=error), True)
        else:
            self.message.emit(_("Saved the training case '{path}'.").format(path=path), False)

    def _onFinished(self, _request: Request, _result: Result) -> None:
        self._forget()

    def _forget(self) -> None:
        self._before = None
        self._visited.clear()
        self._show(self._controller.state is State.READY)

    def _show(self, ready: bool) -> None:
        isResult = self._task() is not None
        self.ui.applyCorrectionsButton.setEnabled(ready and isResult)
        self.ui.undoCorrectionsButton.setEnabled(ready and self._before is not None)
        self.ui.nextCorrectionButton.setEnabled(isResult)
        self.ui.saveCaseButton.setEnabled(isResult and self._saving is None)
        self.ui.adaptButton.setEnabled(ready and isResult)

    def _task(self) -> Task | None:
        """The task of the result in view; None where there is none."""
        p = self._parameters
        return TASKS.get(p.task) if p is not None and p.segmentationNode is not None else None

    def _phases(self) -> list[Phase]:
        return ResultNodes(self._parameters).phases()

    def _phaseShown(self) -> int:
        nodes = ResultNodes(self._parameters)
        return nodes.selectedPhase() if self._parameters.segmentationSequenceNode else int(self._parameters.showSecond)


def _free(path: Path) -> Path:
    """The path itself, or the first of "path 2", "path 3", ... that is not there, or has what a training was killed in.

    The next training goes on with what is left there, or replaces it.
    """
    number, free = 1, path
    while free.exists() and not is_half_made(free):
        number += 1
        free = path.with_name(f"{path.name} {number}")
    return free


def _cancelled_text(output: Path) -> str:
    """What is said of a training that was cancelled: what it has left, if anything."""
    if not is_half_made(output):
        return _("Cancelled; nothing was changed.")
    return _(
        "Cancelled. What was trained so far is in '{output}': train on the same cases to go on with it, or remove that "
        "folder."
    ).format(output=output)


def _check_complete(phase: Phase, task: Task) -> None:
    """Raises InputError where a structure is not there: training would take it for background."""
    there = {segment.label for segment in phase.segments(task)}
    missing = [segment.name for segment in task.segments if segment.label not in there]
    if missing:
        raise InputError(
            _("A training case needs all structures of its task; these are missing: {segments}.").format(
                segments=", ".join(missing)
            )
        )
