"""A running segmentation or export: start, progress, cancel, result, error.

Nothing here waits, except for a killed process to be gone: a `Job` goes on a little whenever it is polled, in Slicer
from a timer, elsewhere in a loop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from dinsegment.errors import Cancelled, DINSegmentError, InputError, ModelError, OutputError, WorkerError
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.running.pace import Clock, Pace
from dinsegment_slicer.running.process import WorkerProcess, exchange_error, memory_error, unexpected_error
from dinsegment_slicer.running.warm_process import WarmProcess

logger = logging.getLogger(__name__)

WRITING_S = 0.02
"""How long one poll writes images, plus a block."""

LOADED = 0.05
"""Fraction of a run at which the model is there and the computation begins."""

ERRORS = {error.__name__: error for error in (InputError, ModelError, OutputError)}
"""Errors whose sentence the worker passes on, and after which it works on."""


class Part(Protocol):
    """What a job asks the worker for at once: the images to segment, or a segmentation to export."""

    def check(self) -> None:
        """Raises a DINSegmentError for what cannot be done, before a process is started for it."""

    def write(self, folder: Path) -> Iterator[None]:
        """Writes what the worker reads, a little at each step."""

    def request(self) -> dict[str, Any]:
        """What the worker is told, once all is written; its ID and folder are added."""

    def result(self, folder: Path, event: dict[str, Any]) -> Any:
        """What comes of it, from the worker's `done`; a list where it is several results.

        Raises a KeyError, TypeError or ValueError if that is not as agreed.
        """

    def close(self) -> None:
        """Removes what is elsewhere than in the job's folder; called when the job gives up its results."""


class Job:
    """Parts being worked on; made by `Worker.begin`.

    Attributes:
        finished: Whether it is over: done, failed or cancelled.
        cancelled: Whether `cancel` ended it.
        error: Why it failed; None if it did not.
        results: Once it is done, what came of the parts, in their order; of images to segment one for each. Arrays in
            them are memory-mapped files, which `close` gives up.
        fraction: How much is done, 0..1, of all parts.
        text: What is being done.
    """

    def __init__(self, worker: WarmProcess, parts: Sequence[Part]) -> None:
        self.finished = False
        self.cancelled = False
        self.error: DINSegmentError | None = None
        self.results: tuple[Any, ...] = ()
        self.fraction = 0.0
        self.text = _("Starting")
        self._worker = worker
        self._parts = tuple(parts)
        self._writing = self._write()
        self._written = 0
        self._folder: Path | None = None
        self._process: WorkerProcess | None = None
        self._request: int | None = None  # The ID of the one that the worker is at.
        self._parts_done = 0
        self._done: list[Any] = []
        self._clock = Clock()
        self._last_sign = 0.0
        self._pace = Pace()

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes, as far as the pace so far tells; None until it does."""
        return None if self.finished else self._pace.seconds_left(self._clock.seconds)

    def poll(self) -> bool:
        """Goes on a little; to be called about every 50 ms, always from the same thread.

        Returns:
            Whether anything has changed that the user sees.
        """
        if self.finished:
            return False
        before = self.text, self.fraction
        try:
            self._step()
        except DINSegmentError as error:
            self._fail(error)
        return self.finished or (self.text, self.fraction) != before

    def cancel(self) -> None:
        """Ends it at once, with its process, and leaves no file; a job that is finished stays as it is."""
        if self.finished:
            return
        self.finished = self.cancelled = True
        self._worker.end_process()
        self._give_up_files()

    def close(self) -> None:
        """Gives up the results and their files; a job that runs is cancelled. A second time does nothing."""
        self.cancel()
        self._give_up_files()

    def _step(self) -> None:
        self._clock.tick()
        if self._folder is None:
            self._begin()
        try:
            self._write_a_while()
        except OSError as error:
            raise exchange_error(self._folder, error) from error
        for event in self._process.events():
            self._last_sign = self._clock.seconds
            try:
                self._take(event)
            except DINSegmentError:
                raise
            except (KeyError, TypeError, ValueError) as error:
                raise unexpected_error(event) from error
            if self.finished:
                return
        self._process.check_running()
        self._send_next()
        self._check_signs_of_life()

    def _begin(self) -> None:
        if not self._parts:
            raise InputError(_("No image is given: choose the image to segment."))
        for part in self._parts:
            part.check()
        self._folder = self._worker.new_folder()
        self._process = self._worker.process()

    def _write(self) -> Iterator[None]:
        """Writes all parts, one block a step."""
        for part in self._parts:
            folder = self._part_folder(self._written)
            folder.mkdir()
            yield from part.write(folder)
            self._written += 1

    def _write_a_while(self) -> None:
        end = time.perf_counter() + WRITING_S
        while self._written < len(self._parts) and time.perf_counter() < end:
            next(self._writing, None)

    def _part_folder(self, index: int) -> Path:
        return self._folder / f"part {index + 1}"

    def _send_next(self) -> None:
        index = self._parts_done
        if self._request is not None or not self._process.ready:
            return
        if index == self._written:
            self.text = self._of_phase(_("Reading the image"))
            return
        self._request = self._worker.next_request()
        self._last_sign = self._clock.seconds
        folder = str(self._part_folder(index))
        self._process.send({"id": self._request, "folder": folder, **self._parts[index].request()})

    def _take(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "ready" and not self._process.ready:
            self._process.ready = True
        elif self._request is None or event["id"] != self._request:
            raise unexpected_error(event)
        elif kind == "progress":
            self._show(float(event["fraction"]), str(event["text"]), event.get("phase"), event.get("phases"))
        elif kind == "done":
            self._accept(event)
        elif kind == "error":
            self._explain(event)
        elif kind != "alive":
            raise unexpected_error(event)

    def _show(self, fraction: float, text: str, phase: int | None, phases: int | None) -> None:
        self.text = self._of_phase(text, phase, phases)
        self.fraction = max(self.fraction, min((self._parts_done + fraction) / len(self._parts), 1.0))
        if fraction >= LOADED or self._done:  # What a download takes says nothing of the rest.
            self._pace.update(self.fraction, self._clock.seconds)

    def _of_phase(self, text: str, phase: int | None = None, phases: int | None = None) -> str:
        """What is said of a phase, where there are several: the worker tells of which, else each part is one."""
        number, count = phase or self._parts_done + 1, phases or len(self._parts)
        if count == 1:
            return text
        return _("Phase {number} of {count}: {text}").format(number=number, count=count, text=text)

    def _accept(self, event: dict[str, Any]) -> None:
        index = self._parts_done
        try:
            result = self._parts[index].result(self._part_folder(index), event)
        except ValueError as error:
            raise unexpected_error(error) from error
        self._done.extend(result if isinstance(result, list) else [result])
        self._parts_done += 1
        self._request = None
        if self._parts_done == len(self._parts):
            self.results = tuple(self._done)
            self.fraction, self.text = 1.0, _("Done")
            self.finished = True

    def _explain(self, event: dict[str, Any]) -> None:
        kind, message = str(event["type"]), str(event["message"])
        if kind in ERRORS or kind == Cancelled.__name__:
            self._request = None
            raise ERRORS[kind](message) if kind in ERRORS else Cancelled
        logger.error("The segmentation process failed.\n%s", event.get("traceback", f"{kind}: {message}"))
        if kind == MemoryError.__name__:
            raise memory_error()
        last = f"{kind}: {message}".strip().splitlines()[-1]
        raise WorkerError(
            _("The segmentation failed with an error that was not expected ({error}): the error log has the details.")
            .format(error=last)
        )  # fmt: skip

    def _check_signs_of_life(self) -> None:
        waited = self._clock.seconds - self._last_sign
        if not self._process.ready and waited > self._worker.START_LIMIT_S:
            said = self._process.said()
            logger.error("The segmentation process did not get ready.\n%s", said)
            raise WorkerError(
                _("The segmentation process did not get ready within {seconds} s: segment again.")
                .format(seconds=round(self._worker.START_LIMIT_S))
            )  # fmt: skip
        if self._request is not None and waited > self._worker.SILENCE_LIMIT_S:
            logger.error("The segmentation process hangs.\n%s", self._process.said())
            raise WorkerError(
                _(
                    "The segmentation process hangs, it has shown no sign of life for {seconds} s: segment again, on "
                    "another device if it hangs again."
                ).format(seconds=round(self._worker.SILENCE_LIMIT_S))
            )

    def _fail(self, error: DINSegmentError) -> None:
        self.finished = True
        self.error = error
        # An idle process that has kept to the protocol may go on; one that computes would do so for nothing.
        if isinstance(error, WorkerError) or self._request is not None:
            self._worker.end_process()
        self._give_up_files()

    def _give_up_files(self) -> None:
        self._writing.close()
        self.results = ()
        self._done.clear()
        for part in self._parts:
            part.close()
        self._process = None
        if self._folder is not None:
            self._worker.give_back(self._folder)
            self._folder = None
