"""Runs one segmentation after the other for the panel: what happens, in which order, and what is said of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import slicer

from dinsegment.errors import DINSegmentError
from dinsegment.tasks import Task
from dinsegment.weights import find_entry
from dinsegment_slicer.dependencies import Dependencies
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.job import Job
from dinsegment_slicer.logic import DINSegmentLogic, Result
from dinsegment_slicer.signal import Signal
from dinsegment_slicer.states import BUSY, Event, State, next_state

logger = logging.getLogger(__name__)


class Severity(Enum):
    """How a message is shown."""

    INFORMATION = "information"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Message:
    """What the user is told."""

    severity: Severity
    text: str


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        task: What to segment.
        inputNode: A volume, or a sequence of volumes.
        secondNode: Another phase of the same heart, or None.
        model: Name of a model, or None for the task's first.
        device: `auto`, `cpu`, `cuda`, `mps`.
    """

    task: Task
    inputNode: slicer.vtkMRMLNode
    secondNode: slicer.vtkMRMLNode | None = None
    model: str | None = None
    device: str = "auto"


class Controller:
    """The panel's run: its state, its progress, and what is said of it. It never blocks, but for installing.

    `changed` is emitted, without arguments, whenever anything below changed; `finished` with the Request and the
    Result once that is in the scene.

    Args:
        logic: Starts the jobs and adds what comes of them.
        dependencies: Says what is missing and installs it.
        ask: Asks the user a question; True means yes.
    """

    def __init__(self, logic: DINSegmentLogic, dependencies: Dependencies, ask: Callable[[str], bool]) -> None:
        self.logic = logic
        self.dependencies = dependencies
        self.changed = Signal()
        self.finished = Signal()
        self.state = State.NO_INPUT
        self.message: Message | None = None
        self.request: Request | None = None
        self._ask = ask
        self._job: Job | None = None

    @property
    def busy(self) -> bool:
        """A run is being prepared, computed or added to the scene."""
        return self.state in BUSY

    @property
    def fraction(self) -> float:
        """How much of the run is done, 0..1."""
        return self._job.fraction if self._job else 0.0

    @property
    def text(self) -> str:
        """What is being done."""
        if self.state is State.PREPARING:
            return _("Looking for what the segmentation needs")
        if self.state is State.ADDING:
            return _("Adding the result to the scene")
        return self._job.text if self._job else ""

    @property
    def secondsLeft(self) -> float | None:
        """Time until the run is done; None while that cannot be told."""
        return self._job.secondsLeft if self._job and self.state is State.RUNNING else None

    def chooseInput(self, node: slicer.vtkMRMLNode | None) -> None:
        """The user chose an image, or none."""
        self._handle(Event.INPUT_CHOSEN if node is not None else Event.INPUT_REMOVED)

    def segment(self, request: Request) -> None:
        """Begins a run; does nothing while one goes on."""
        if not self._handle(Event.SEGMENT):
            return
        self.request = request
        self.message = None
        self.changed.emit()
        try:
            entry = find_entry(request.model, request.task)
            images = self.logic.images(request.inputNode, request.secondNode)
            if not self._provide_dependencies() or self.state is not State.PREPARING:
                return  # The user declined, or closed the scene meanwhile.
            self._job = self.logic.start(images, request.task, entry.name, request.device)
        except Exception as error:
            self._fail(error)
        else:
            self._handle(Event.PREPARED)

    def tick(self) -> None:
        """Goes on with the run; to be called about every 50 ms while `busy`."""
        if self.state is not State.RUNNING or self._job is None:
            return
        try:
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
        self._drop_job()
        self.message = Message(Severity.INFORMATION, _("Cancelled; nothing was changed."))
        self._handle(Event.CANCEL)

    def nodeRemoved(self, node: slicer.vtkMRMLNode) -> None:
        """A node leaves the scene: the run ends if it is what is being segmented."""
        if self.busy and self.request and node in (self.request.inputNode, self.request.secondNode):
            self._drop_job()
            name = node.GetName() or _("The image")
            text = _("'{name}' was removed while it was segmented: nothing was added.").format(name=name)
            self.message = Message(Severity.WARNING, text)
            self._handle(Event.INPUT_REMOVED)

    def sceneClosed(self) -> None:
        """The scene is closed: a run ends, and what was said is forgotten."""
        self._drop_job()
        self.request = None
        self.message = None
        self._handle(Event.SCENE_CLOSED)

    def tell(self, message: Message | None) -> None:
        """Shows a message, or none."""
        self.message = message
        self.changed.emit()

    def close(self) -> None:
        """Ends a run and the worker."""
        self._drop_job()
        self.logic.close()

    def _provide_dependencies(self) -> bool:
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
        result = self.logic.addToScene(request.inputNode, job.results, request.secondNode)
        self.message = _summary(result)
        self._drop_job()
        self.finished.emit(request, result)
        self._handle(Event.ADDED)

    def _fail(self, error: Exception) -> None:
        self._drop_job()
        if isinstance(error, DINSegmentError):
            text = str(error)
        else:
            logger.error("The segmentation failed.", exc_info=error)
            text = _("The segmentation failed: {error}. The error log has the details.").format(error=error)
        self.message = Message(Severity.ERROR, text)
        if not self._handle(Event.FAILED):
            self.changed.emit()

    def _drop_job(self) -> None:
        job, self._job = self._job, None
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
        self.state = state
        self.changed.emit()
        return True


def _summary(result: Result) -> Message | None:
    """What the user should know about a result; None if all is well."""
    return Message(Severity.WARNING, "\n".join(result.warnings)) if result.warnings else None
