"""Runs one segmentation or export after the other for the panel: what happens, in which order, and what is said."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import slicer

from dinsegment import __version__
from dinsegment.errors import DINSegmentError
from dinsegment.models.entries import find_entry
from dinsegment_slicer.dicom.export_part import Exported
from dinsegment_slicer.dicom.instances import SourceUnknown
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.installing.dependencies import Dependencies
from dinsegment_slicer.logic import DINSegmentLogic, Result
from dinsegment_slicer.running.job import Job
from dinsegment_slicer.running.messages import Message, Severity, summary
from dinsegment_slicer.running.requests import Errand, ExportRequest, Request, nodes_of
from dinsegment_slicer.running.states import BUSY, Event, State, next_state
from dinsegment_slicer.scene.changes import Steps
from dinsegment_slicer.scene.segments import wanted_segments
from dinsegment_slicer.signal import Signal

logger = logging.getLogger(__name__)

ADDING_S = 0.02
"""How long one tick adds a result to the scene, plus a step."""


RequestType = TypeVar("RequestType", Request, ExportRequest, Errand)


class Controller:
    """The panel's run: its state, its progress, and what is said of it. It never blocks, but for installing.

    `changed` is emitted, without arguments, whenever anything below changed; `finished` with the Request and the
    Result once that is in the scene.

    Args:
        logic: Starts the jobs and adds what comes of them.
        dependencies: Says what is missing and installs it.
        ask: Asks the user a question; True means yes.
        askFolder: Tells the user something and asks for a folder; None means no.
    """

    def __init__(
        self,
        logic: DINSegmentLogic,
        dependencies: Dependencies,
        ask: Callable[[str], bool],
        askFolder: Callable[[str], Path | None] = lambda _text: None,
    ) -> None:
        self.logic = logic
        self.dependencies = dependencies
        self.changed = Signal()
        self.finished = Signal()
        self.state = State.NO_INPUT
        self.message: Message | None = None
        self.request: Request | ExportRequest | Errand | None = None
        self._ask = ask
        self._askFolder = askFolder
        self._job: Job | None = None
        self._adding: Steps[Result] | None = None
        self._hasInput = False
        self._toReplace: list[dict[str, str]] = []
        self._kept: str | None = None  # Name of what was to be replaced, and was corrected meanwhile.

    @property
    def busy(self) -> bool:
        """A run is being prepared, computed or added to the scene."""
        return self.state in BUSY

    @property
    def _outlivesScene(self) -> bool:
        """A training runs, say, which takes hours."""
        return self.busy and isinstance(self.request, Errand) and not self.request.nodes

    @property
    def fraction(self) -> float:
        """How much of the run is done, 0..1."""
        return self._job.fraction if self._job else 0.0

    @property
    def text(self) -> str:
        """What is being done."""
        if isinstance(self.request, Errand) and self.state in (State.PREPARING, State.ADDING):
            return self.request.preparing if self.state is State.PREPARING else self.request.delivering
        exporting = isinstance(self.request, ExportRequest)
        if self.state is State.PREPARING:
            return _("Looking for the DICOM images") if exporting else _("Looking for what the segmentation needs")
        if self.state is State.ADDING:
            return _("Saving the DICOM SEG") if exporting else _("Adding the result to the scene")
        return self._job.text if self._job else ""

    @property
    def secondsLeft(self) -> float | None:
        """Time until the run is done; None while that cannot be told."""
        return self._job.seconds_left if self._job and self.state is State.RUNNING else None

    def chooseInput(self, node: slicer.vtkMRMLNode | None) -> None:
        """The user chose an image, or none, which ends a run that is about something in the scene."""
        self._hasInput = node is not None
        if node is None:
            if self._outlivesScene:
                return
            self._dropJob()
        self._handle(Event.INPUT_CHOSEN if node is not None else Event.INPUT_REMOVED)

    def segment(self, request: Request) -> None:
        """Begins to segment; does nothing while a run goes on."""
        self._begin(request, self._prepareSegmentation)

    def export(self, request: ExportRequest) -> None:
        """Begins to write DICOM SEG; does nothing while a run goes on.

        What is missing is said, all of it at once, before anything is written.
        """
        self._begin(request, self._prepareExport)

    def do(self, errand: Errand) -> None:
        """Begins something else; does nothing while a run goes on."""
        self._begin(errand, self._prepareErrand)

    def tick(self) -> None:
        """Goes on with the run; to be called about every 50 ms while `busy`."""
        if self.state not in (State.RUNNING, State.ADDING) or self._job is None:
            return
        try:
            if self.state is State.ADDING:
                self._goOnAdding()
                return
            changed = self._job.poll()
            if self._job.error is not None:
                raise self._job.error
            if self._job.finished:
                self._add()
            elif changed:
                self.changed.emit()
        except Exception as error:
            self._fail(error)

    def cancel(self) -> None:
        """Ends the run; the scene stays as it was."""
        if next_state(self.state, Event.CANCEL) is None:
            return
        self._dropJob()
        logger.info("Cancelled.")
        said = self.request.cancelled if isinstance(self.request, Errand) else None
        self.message = Message(Severity.INFORMATION, said() if said else _("Cancelled; nothing was changed."))
        self._handle(Event.CANCEL)

    def nodeRemoved(self, node: slicer.vtkMRMLNode) -> None:
        """A node leaves the scene: the run ends if it is what is being segmented or exported."""
        if not self.busy or node not in nodes_of(self.request):
            return
        self._dropJob()
        name = node.GetName() or _("The image")
        if isinstance(self.request, Errand):
            text = _("'{name}' was removed meanwhile: nothing was changed.").format(name=name)
            event = Event.FAILED
        elif isinstance(self.request, ExportRequest):
            text = _("'{name}' was removed while it was exported: nothing was saved.").format(name=name)
            event = Event.FAILED
        else:
            text = _("'{name}' was removed while it was segmented: nothing was added.").format(name=name)
            event = Event.INPUT_REMOVED
        self.message = Message(Severity.WARNING, text)
        self._handle(event)

    def sceneClosed(self) -> None:
        """The scene is closed: a run ends, unless it is about nothing in it, and what was said is forgotten."""
        self._hasInput = False
        if self._outlivesScene:
            self.changed.emit()
            return
        self._dropJob()
        self.request = None
        self.message = None
        self._handle(Event.SCENE_CLOSED)

    def tell(self, message: Message | None) -> None:
        """Shows a message, or none."""
        self.message = message
        self.changed.emit()

    def close(self) -> None:
        """Ends a run and the worker."""
        self._dropJob()
        self.logic.close()

    def _begin(self, request: RequestType, prepare: Callable[[RequestType], Job | None]) -> None:
        if not self._handle(Event.SEGMENT):
            return
        self.request = request
        self.message = None
        self.changed.emit()
        try:
            job = prepare(request)
            if job is None:
                return  # The user declined, or closed the scene meanwhile.
            self._job = job
        except Exception as error:
            self._fail(error)
        else:
            self._handle(Event.PREPARED)

    def _prepareSegmentation(self, request: Request) -> Job | None:
        entry = find_entry(request.model, request.task)
        wanted_segments(request.task, request.wanted)
        images = self.logic.images(request.inputNode, request.secondNode)
        self._toReplace = request.into.networkVoxels() if request.into is not None else []
        if not self._provideDependencies() or self.state is not State.PREPARING:
            return None
        logger.info(
            "Segmenting '%s' (%s, %d images) with %s on device '%s'; DINSegment %s.",
            *(request.inputNode.GetName(), request.task.name, len(images), entry.name, request.device, __version__),
        )
        return self.logic.start(images, request.task, request.model or entry.name, request.device)

    def _prepareExport(self, request: ExportRequest) -> Job | None:
        try:
            exports = self.logic.exports(request.segmentationNodes, request.folder)
        except SourceUnknown as error:
            sourceFolder = self._askFolder(str(error))
            if self.state is not State.PREPARING:
                return None
            if sourceFolder is None:
                raise
            exports = self.logic.exports(request.segmentationNodes, request.folder, sourceFolder)
        if not self._provideDependencies() or self.state is not State.PREPARING:
            return None
        return self.logic.startExport(exports)

    def _prepareErrand(self, errand: Errand) -> Job | None:
        if not self._provideDependencies() or self.state is not State.PREPARING:
            return None
        return self.logic.worker.begin(errand.parts)

    def _provideDependencies(self) -> bool:
        missing = self.dependencies.missing()
        if not missing:
            return True
        if not self._ask(self.dependencies.question(missing)):
            self.message = Message(
                Severity.INFORMATION,
                _("Nothing was installed. Segmenting needs these packages: click again to install."),
            )
            self._handle(Event.FAILED)
            return False
        self.dependencies.install(missing)
        return True

    def _add(self) -> None:
        job, request = self._job, self.request
        assert job is not None and request is not None
        if not self._handle(Event.COMPUTED):
            return
        if isinstance(request, Errand):
            self.message = request.deliver(job.results)
            self._dropJob()
            self._handle(Event.ADDED)
        elif isinstance(request, ExportRequest):
            self.logic.placeExports(job.results)
            self.message = self._deliver(job.results, request)
            self._dropJob()
            self._handle(Event.ADDED)
        else:
            into, self._kept = request.into, None
            if into is not None and into.networkVoxels() != self._toReplace:  # Nobody was asked about that.
                into, self._kept = None, into.name
            self._adding = self.logic.adding(request.inputNode, job.results, request.secondNode, request.wanted, into)
            self._goOnAdding()

    def _goOnAdding(self) -> None:
        """Adds the result bit by bit: a large CT's takes longer than a click may have to wait."""
        request, adding = self.request, self._adding
        assert isinstance(request, Request) and adding is not None
        end = time.perf_counter() + ADDING_S
        try:
            while time.perf_counter() < end:
                next(adding)
        except StopIteration as done:
            result = done.value
        else:
            return
        self.message = summary(result, self._kept)
        logger.info("Done in %.1f s on %s.", result.seconds, result.device)
        for text in dict.fromkeys([*result.warnings, *(f.text for found in result.findings for f in found)]):
            logger.info("%s", text)
        self._dropJob()
        self.finished.emit(request, result)
        self._handle(Event.ADDED)

    def _deliver(self, exported: Sequence[Exported], request: ExportRequest) -> Message:
        """Adds what was written to the DICOM database, if that was asked for; what the user is told of both."""
        first = exported[0].path
        if len(exported) == 1:
            text = _("Saved '{path}'.").format(path=first)
        else:
            text = _("Saved {count} DICOM SEG, from '{path}' on.").format(count=len(exported), path=first)
        if not request.addToDatabase:
            return Message(Severity.INFORMATION, text)
        try:
            self.logic.addToDatabase(exported)
        except DINSegmentError as error:
            return Message(Severity.WARNING, f"{text}\n{error}")
        return Message(Severity.INFORMATION, text + " " + _("Slicer's DICOM database has a copy."))

    def _fail(self, error: Exception) -> None:
        self._dropJob()
        if isinstance(error, DINSegmentError):
            text = str(error)
            logger.warning("%s", text)
        else:
            logger.error("The run failed.", exc_info=error)
            failed = _("The segmentation failed: {error}. The error log has the details.")
            if isinstance(self.request, ExportRequest):
                failed = _("The export failed: {error}. The error log has the details.")
            elif isinstance(self.request, Errand):
                failed = self.request.failed
            text = failed.format(error=error)
        self.message = Message(Severity.ERROR, text)
        if not self._handle(Event.FAILED):
            self.changed.emit()

    def _dropJob(self) -> None:
        job, self._job = self._job, None
        adding, self._adding = self._adding, None
        if adding is not None:
            adding.close()
        if job is None:
            return
        if not job.finished:
            job.cancel()
        job.close()

    def _handle(self, event: Event) -> bool:
        """Goes to the next state; False if the event means nothing now."""
        state = next_state(self.state, event)
        if state is None:
            return False
        if state is State.READY and not self._hasInput:  # It went while something ran that did not need it.
            state = State.NO_INPUT
        self.state = state
        self.changed.emit()
        return True
