"""The part of the panel that asks how sure the model is: samples, where they differ, how far numbers can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
from slicer.util import VTKObservationMixin

from dinsegment.errors import DINSegmentError
from dinsegment.measurements.function import CardiacFunction
from dinsegment.measurements.intervals import CORRECTED
from dinsegment.tasks import TASKS, Task
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.panel.asked import Asked, asked_about, phase_shown
from dinsegment_slicer.panel.model_section import ModelSection
from dinsegment_slicer.panel.overlays import Overlays
from dinsegment_slicer.panel.parameters import DINSegmentParameters
from dinsegment_slicer.panel.result import Measurement, ResultNodes
from dinsegment_slicer.panel.section import Section
from dinsegment_slicer.panel.texts import breakable
from dinsegment_slicer.running.controller import Controller
from dinsegment_slicer.running.messages import Message, Severity
from dinsegment_slicer.running.requests import Errand
from dinsegment_slicer.running.samples_part import Drawn, SamplesPart
from dinsegment_slicer.running.states import State
from dinsegment_slicer.scene.findings import findings_of
from dinsegment_slicer.scene.nodes import original_of, voxel_ml
from dinsegment_slicer.scene.overlay import DISAGREEMENT, UNEXPECTED, Overlay, hide_overlay
from dinsegment_slicer.scene.sample_notes import SampleNotes, note_samples, with_doubtful
from dinsegment_slicer.scene.slice_notes import slice_notes
from dinsegment_slicer.scene.task_labels import changed_labels, segments_of_task
from dinsegment_slicer.signal import Signal


class SureSection(Section, VTKObservationMixin):
    """Asks the worker for samples of the result, and shows where they differ.

    `drawn` is emitted when there are samples that were not there before: what is measured has intervals then.

    Args:
        ui: The panel's widgets by name.
        controller: Runs what is asked for.
        model: Says which model made a result.
    """

    def __init__(self, ui: Any, controller: Controller, model: ModelSection) -> None:
        Section.__init__(self, ui)
        VTKObservationMixin.__init__(self)
        self.drawn = Signal()
        self._controller = controller
        self._model = model
        self._measurement: Measurement | None = None
        self._observed: list[tuple[Any, ...]] = []
        ui.sureButton.clicked.connect(lambda _checked=False: self.draw())
        for box, kind in ((ui.disagreementCheckBox, DISAGREEMENT), (ui.unexpectedCheckBox, UNEXPECTED)):
            box.clicked.connect(lambda _checked=False, box=box, kind=kind: self._onShown(box, kind))

    def setParameters(self, parameters: DINSegmentParameters | None) -> None:
        """Follows another parameter node from now on, or none."""
        self._measurement = None
        super().setParameters(parameters)
        self._tell()

    def update(self) -> None:
        """Shows the parameter node, which has changed, or lost a node."""
        p = self._parameters
        if p is not None and p.segmentationNode is None:
            Overlays(p).remove()  # They go with the result.
        self._observe()
        self.show()

    def showState(self, controller: Controller) -> None:
        """Lets samples be asked for only while nothing runs."""
        self._enable(controller)
        self.show()

    def onMeasured(self, measurement: Measurement | None) -> None:
        """What the samples say of the numbers may be another thing now."""
        self._measurement = measurement
        self._enable(self._controller)
        self._tell()
        self.show()

    def close(self) -> None:
        """Observes nothing any more, and gives the views back what they had in front: the panel is closed."""
        self.removeObservers()
        hide_overlay(slicer.mrmlScene)

    def draw(self) -> None:
        """Asks the worker for samples of the result."""
        task = self._task()
        if task is None or self._controller.state is not State.READY:
            return
        try:
            function = self._measurement.function if self._measurement is not None else None
            asked = asked_about(self._parameters, self._phasesToSample(function), task)
            model = self._model.thatMade(asked[0].phase.segmentationNode, task)
        except DINSegmentError as error:
            self.message.emit(str(error), True)
            return
        p = self._parameters
        parts = [SamplesPart(one.phase.image, one.labels, task.name, model, p.device, p.draws) for one in asked]
        volumeNode, _enhancedNode = ResultNodes(p).shown()
        self._controller.logic.worker.environment = self._model.environment()
        self._controller.do(
            Errand(
                parts,
                lambda results: self._deliver(asked, results, task),
                nodes=(*ResultNodes(p).segmentations(), volumeNode),
                preparing=_("Looking for what samples need"),
                delivering=_("Showing where the samples differ"),
                failed=_("No samples could be drawn: {error}. The error log has the details."),
            )
        )

    def show(self) -> None:
        """Lays what there is of the phase in view over the image, or gives the views back what they had in front."""
        p = self._parameters
        if p is None:
            return
        overlays = Overlays(p)
        differ, notExpected = (bool(overlays.nodes(kind)) for kind in (DISAGREEMENT, UNEXPECTED))
        self.ui.disagreementCheckBox.setVisible(differ)
        self.ui.unexpectedCheckBox.setVisible(notExpected)
        self.ui.disagreementSlider.setVisible(differ or notExpected)
        overlays.show(phase_shown(p))

    def _phasesToSample(self, function: CardiacFunction | None) -> list[int]:
        """From 0: of a cine end diastole and end systole, where it has neither the phase in view; else all."""
        if self._parameters.segmentationSequenceNode is None:
            return list(range(len(ResultNodes(self._parameters).segmentations())))
        if function is None:
            return [phase_shown(self._parameters)]
        return sorted({function.end_diastole, function.end_systole})

    def _deliver(self, asked: Sequence[Asked], results: Sequence[Drawn], task: Task) -> Message | None:
        """Keeps what samples have told, and shows it."""
        p = self._parameters
        if p is None:
            return None
        nodes = ResultNodes(p)
        missing = list(dict.fromkeys(drawn.text for drawn in results if drawn.samples is None))
        if len(missing) and all(drawn.samples is None for drawn in results):
            return Message(Severity.INFORMATION, "\n".join(missing))
        found: dict[int, np.ndarray] = {}
        for node in nodes.allSegmentations():
            note_samples(node, None)  # Of what was drawn before nothing is left.
        ml = voxel_ml(original_of(p.enhancedNode))
        for one, drawn in zip(asked, results, strict=True):
            if drawn.samples is not None:
                found[one.number] = np.array(drawn.disagreement)
                note_samples(one.phase.segmentationNode, _notes(one, drawn, task, ml))
        Overlays(p).add(DISAGREEMENT, found)
        self.drawn.emit()
        return Message(Severity.WARNING, "\n".join(missing)) if missing else None

    def _onShown(self, box: Any, kind: Overlay) -> None:
        if self._parameters is not None and box.checked:
            Overlays(self._parameters).only(kind)

    def _enable(self, controller: Controller) -> None:
        ready = controller.state is State.READY and self._task() is not None
        self.ui.sureButton.setEnabled(ready)
        self.ui.drawsSpinBox.setEnabled(not controller.busy)

    def _tell(self) -> None:
        """Says in words of what there are samples, and what they are worth."""
        text = self._text()
        self.ui.sureLabel.setText(breakable(text))
        self.ui.sureLabel.setVisible(bool(text))

    def _text(self) -> str:
        p, task, measurement = self._parameters, self._task(), self._measurement
        if task is None or measurement is None or measurement.intervals is None:
            return ""
        about = measurement.intervals
        said = {"draws": about.draws, "model": about.model}
        phases = ", ".join(str(n + 1) for n in about.sampled)
        if p.segmentationSequenceNode is None:
            text = _("{draws} samples of the model '{model}'.").format(**said)
        elif measurement.function is not None and set(about.sampled) == {
            measurement.function.end_diastole,
            measurement.function.end_systole,
        }:
            text = _(
                "{draws} samples of the model '{model}' at end diastole and end systole (phases {phases}); of the "
                "other phases there are none."
            ).format(phases=phases, **said)
        else:
            text = _("{draws} samples of the model '{model}' in phase {phases}; of the other phases there are none.")
            text = text.format(phases=phases, **said)
        sentences = [text, about.remark]
        if CORRECTED not in about.remark and self._isCorrected(about.sampled, task):
            sentences.append(CORRECTED)
        return " ".join(filter(None, sentences))

    def _isCorrected(self, sampled: Sequence[int], task: Task) -> bool:
        nodes = ResultNodes(self._parameters).allSegmentations()
        return any(changed_labels(nodes[n], task) for n in sampled if n < len(nodes))

    def _observe(self) -> None:
        """Follows the phase in view."""
        p = self._parameters
        observed = [(*entry, self._onPhase) for entry in ResultNodes(p).browsed()] if p is not None else []
        if observed == self._observed:
            return
        for entry in self._observed:
            self.removeObserver(*entry)
        for entry in observed:
            self.addObserver(*entry)
        self._observed = observed

    def _onPhase(self, _caller: Any, _event: str) -> None:
        self.show()

    def _task(self) -> Task | None:
        """The task of the result in view; None where there is none."""
        p = self._parameters
        return TASKS.get(p.task) if p is not None and p.segmentationNode is not None else None


def _notes(one: Asked, drawn: Drawn, task: Task, ml: float) -> SampleNotes:
    """What is kept of the samples of a phase, with what they say of its findings."""
    segmentationNode = one.phase.segmentationNode
    notes, slices = SampleNotes(drawn.samples, ml), slice_notes(segmentationNode)
    if slices is None:
        return notes
    spacing = np.linalg.norm(np.asarray(one.phase.image.ijk_to_ras)[:3, :3], axis=0)[::-1]
    about = findings_of(segmentationNode), segments_of_task(segmentationNode.GetSegmentation(), task)
    return with_doubtful(notes, drawn.disagreement, one.labels, slices.axis, spacing, *about)
