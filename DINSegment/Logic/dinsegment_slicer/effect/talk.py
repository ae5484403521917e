"""Asks the worker for what strokes need, one thing after the other: what the user waits for comes first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dinsegment.errors import DINSegmentError
from dinsegment_slicer.running.job import Job
from dinsegment_slicer.running.segment_part import JobImage
from dinsegment_slicer.running.stroke_part import LookPart, StrokePart
from dinsegment_slicer.running.worker import Worker
from dinsegment_slicer.signal import Signal

logger = logging.getLogger(__name__)

AT_ONCE = 3
"""Slices that are looked at in one request, beside the first one: a stroke waits no longer than these take."""

MOST_AHEAD = 24
"""Slices around the one in view that are looked at before anybody draws in them."""


@dataclass(frozen=True, eq=False)
class Image:
    """What strokes are drawn on.

    Attributes:
        key: What names it.
        read: Gives its voxels, when they are needed.
        count: How many slices it has.
        task: Name of the task.
        model: Name of the model, or None for the task's first.
        device: As for segmenting.
    """

    key: str
    read: Callable[[], JobImage]
    count: int
    task: str
    model: str | None
    device: str


@dataclass(frozen=True, eq=False)
class Question:
    """Strokes of one slice, and what the segment covers there and in slices beside it.

    Attributes:
        segment: The label.
        slice: Index of the slice that was drawn in.
        belongs: Pixels of it that belong to the segment, bool.
        other: Pixels that do not.
        masks: What the segment covers, bool, by slice: consecutive ones.
    """

    segment: int
    slice: int
    belongs: np.ndarray
    other: np.ndarray
    masks: Mapping[int, np.ndarray]


class Talk:
    """What goes on between the effect and the worker. To be ticked from a timer; nothing here waits.

    `answered` is emitted with a Question and the new masks by slice: first of its own slice alone, then of all of them;
    `failed` with a DINSegmentError, after which the question is given up; `changed` when `busy` or `text` may have.

    Args:
        worker: What computes; a process of its own, so that the panel and strokes do not wait for one another.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.answered = Signal()
        self.failed = Signal()
        self.changed = Signal()
        self._image: Image | None = None
        self._known = False
        self._ahead: list[int] = []
        self._looked: set[int] = set()
        self._question: Question | None = None
        self._stages: list[dict[int, np.ndarray]] = []
        self._job: Job | None = None
        self._then: Callable[[Any], None] | None = None

    @property
    def busy(self) -> bool:
        """Whether there is something to tick for."""
        return self._job is not None or bool(self._stages) or (self._image is not None and bool(self._ahead))

    @property
    def waiting(self) -> bool:
        """Whether the user waits for an answer."""
        return bool(self._stages)

    @property
    def ready(self) -> bool:
        """Whether the worker knows the image, so that strokes are answered at once."""
        return self._known

    def show(self, image: Image, n: int) -> None:
        """The user sees slice n of an image: it and those around it are looked at, unless they were."""
        if self._image is None or image.key != self._image.key:
            self._image, self._known = image, False
            self._looked.clear()
        around = sorted(range(image.count), key=lambda k: abs(k - n))[:MOST_AHEAD]
        self._ahead = [k for k in around if k not in self._looked]
        self.changed.emit()

    def ask(self, question: Question) -> None:
        """Asks for the masks after strokes; a question that still waits is replaced."""
        self._question = question
        own = {question.slice: question.masks[question.slice]}
        self._stages = [own, dict(question.masks)] if len(question.masks) > 1 else [own]
        self.changed.emit()

    def forget(self) -> None:
        """What was asked needs no answer any more; what the worker is at ends by itself."""
        self._question = None
        self._stages = []
        self.changed.emit()

    def leave(self) -> None:
        """Nothing is looked at or answered any more, until an image is shown again."""
        self.forget()
        self._ahead = []

    def close(self) -> None:
        """Ends the worker's process."""
        self.leave()
        self._drop()
        self._image, self._known = None, False
        self._looked.clear()
        self.worker.close()

    def tick(self) -> None:
        """Goes on a little; to be called every few milliseconds while `busy`."""
        try:
            if self._job is None:
                self._begin()
            if self._job is not None:
                self._poll()
        except DINSegmentError as error:
            self._fail(error)

    def _begin(self) -> None:
        image, question = self._image, self._question
        if image is None:
            return
        if not self._known:
            first = [question.slice] if question is not None else self._ahead[:1]
            part = LookPart(image.key, first, image.read(), image.task, image.model, image.device)
            self._start(part, lambda known: self._onLooked(first, known))
        elif self._stages and question is not None:
            masks = self._stages[0]
            part = StrokePart(image.key, question.segment, question.slice, question.belongs, question.other, masks)
            self._start(part, lambda new: self._onAnswer(question, masks, new))
        elif self._ahead:
            chosen = self._ahead[:AT_ONCE]
            self._start(LookPart(image.key, chosen), lambda known: self._onLooked(chosen, known))

    def _start(self, part: LookPart | StrokePart, then: Callable[[Any], None]) -> None:
        self._then = then
        self._job = self.worker.begin([part])

    def _poll(self) -> None:
        job = self._job
        job.poll()
        if not job.finished:
            return
        if job.error is not None:
            raise job.error
        result, then = job.results[0], self._then
        self._drop()
        then(result)
        self.changed.emit()

    def _onLooked(self, slices: list[int], known: bool) -> None:
        self._known = known
        if known:
            self._looked.update(slices)
            self._ahead = [n for n in self._ahead if n not in self._looked]
        else:
            self._looked.clear()

    def _onAnswer(self, question: Question, masks: dict[int, np.ndarray], new: dict[int, np.ndarray] | None) -> None:
        if new is None:  # A process that was idle for long has ended: the next one is told the image first.
            self._known = False
            self._looked.clear()
        elif question is self._question and self._stages and self._stages[0] is masks:
            del self._stages[0]
            self.answered.emit(question, new)

    def _fail(self, error: DINSegmentError) -> None:
        logger.warning("%s", error)
        self._drop()
        self._stages, self._question, self._ahead = [], None, []
        self._known = False
        self._looked.clear()
        self.failed.emit(error)

    def _drop(self) -> None:
        job, self._job, self._then = self._job, None, None
        if job is not None:
            job.close()
