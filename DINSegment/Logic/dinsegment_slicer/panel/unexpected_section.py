"""The part of the panel that asks what a network did not expect in an image, and lays that over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dinsegment.errors import DINSegmentError
from dinsegment.tasks import TASKS, Task
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.panel.asked import Asked, asked_about, phase_shown
from dinsegment_slicer.panel.model_section import ModelSection
from dinsegment_slicer.panel.overlays import Overlays
from dinsegment_slicer.panel.result import Measurement, ResultNodes
from dinsegment_slicer.panel.section import Section
from dinsegment_slicer.running.controller import Controller
from dinsegment_slicer.running.messages import Message, Severity
from dinsegment_slicer.running.requests import Errand
from dinsegment_slicer.running.states import State
from dinsegment_slicer.running.unexpected_part import Told, UnexpectedPart
from dinsegment_slicer.scene.overlay import UNEXPECTED


class UnexpectedSection(Section):
    """Asks the worker what a model did not expect, where there is one that can tell.

    Args:
        ui: The panel's widgets by name.
        controller: Runs what is asked for.
        model: Says which model can tell.
    """

    def __init__(self, ui: Any, controller: Controller, model: ModelSection) -> None:
        super().__init__(ui)
        self._controller = controller
        self._model = model
        ui.unexpectedButton.clicked.connect(lambda _checked=False: self.ask())

    def update(self) -> None:
        """Offers it for a result of which a model can tell."""
        self._show()

    def showState(self, controller: Controller) -> None:
        """Lets it be asked only while nothing runs."""
        self._show()

    def onMeasured(self, measurement: Measurement | None) -> None:
        """There is a result now, or none any more."""
        self._show()

    def ask(self) -> None:
        """Asks about the phase in view; of two images about both."""
        task, model = self._task(), self._modelToAsk()
        if task is None or model is None or self._controller.state is not State.READY:
            return
        p, nodes = self._parameters, ResultNodes(self._parameters)
        isCine = p.segmentationSequenceNode is not None
        try:
            asked = asked_about(p, [phase_shown(p)] if isCine else range(len(nodes.segmentations())), task)
        except DINSegmentError as error:
            self.message.emit(str(error), True)
            return
        parts = [UnexpectedPart(one.phase.image, one.labels, task.name, model, p.device) for one in asked]
        volumeNode, _enhancedNode = nodes.shown()
        self._controller.logic.worker.environment = self._model.environment()
        self._controller.do(
            Errand(
                parts,
                lambda results: self._deliver(asked, results),
                nodes=(*nodes.segmentations(), volumeNode),
                preparing=_("Looking for the model that is asked"),
                delivering=_("Showing what was not expected"),
                failed=_("What was not expected could not be told: {error}. The error log has the details."),
            )
        )

    def _deliver(self, asked: Sequence[Asked], results: Sequence[Told]) -> Message | None:
        if self._parameters is None:
            return None
        found = {
            one.number: np.array(told.steps) for one, told in zip(asked, results, strict=True) if told.steps is not None
        }
        missing = list(dict.fromkeys(told.text for told in results if told.steps is None))
        if not found:
            return Message(Severity.INFORMATION, "\n".join(missing))
        Overlays(self._parameters).add(UNEXPECTED, found)
        text = _("Over the image lies what the model '{model}' did not expect there: it tells where to look, not what.")
        return Message(Severity.INFORMATION, "\n".join([text.format(model=results[0].model), *missing]))

    def _show(self) -> None:
        model = self._modelToAsk()
        self.ui.unexpectedButton.setVisible(model is not None)
        self.ui.unexpectedButton.setEnabled(model is not None and self._controller.state is State.READY)

    def _task(self) -> Task | None:
        """The task of the result in view; None where there is none."""
        p = self._parameters
        return TASKS.get(p.task) if p is not None and p.segmentationNode is not None else None

    def _modelToAsk(self) -> str | None:
        task = self._task()
        return None if task is None else self._model.thatTellsUnexpected(self._parameters.segmentationNode, task)
