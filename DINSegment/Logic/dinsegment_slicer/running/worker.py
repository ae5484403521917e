"""Who segments and exports: one job at a time, in a process that stays.

Outside of Slicer, which polls from a timer, a loop does:

    worker = Worker()
    job = worker.start([JobImage(array, ijk_to_ras, "Cine SAX")], "heart")
    while not job.finished:
        job.poll()
        time.sleep(0.05)
"""

from __future__ import annotations

import atexit
from collections.abc import Mapping, Sequence
from contextlib import suppress

from dinsegment.errors import WorkerError
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.running.job import Job, Part
from dinsegment_slicer.running.segment_part import JobImage, SegmentPart
from dinsegment_slicer.running.warm_process import WarmProcess


class Worker(WarmProcess):
    """The process that segments: started at first use, or by `warm_up` before, and kept warm between jobs.

    What was started is ended when Python exits, at the latest; should this process be killed, it ends itself.
    """

    def __init__(
        self,
        command: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        super().__init__(command, environment, arguments)
        self._job: Job | None = None

    def start(self, images: Sequence[JobImage], task: str, model: str | None = None, device: str = "auto") -> Job:
        """Begins to segment images, the phases of one heart, say; they are read while the job is polled.

        Args:
            images: At least one.
            task: Name of a task, as in `dinsegment.tasks.TASKS`.
            model: Name of a model in weights.json; by default the first one for the task.
            device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.

        Raises:
            WorkerError: Another job is running.
        """
        return self.begin([SegmentPart(images, task, model, device)] if images else [])

    def begin(self, parts: Sequence[Part]) -> Job:
        """Begins to do what the parts ask for, one after the other.

        Raises:
            WorkerError: Another job is running.
        """
        if self._job is not None and not self._job.finished:
            raise WorkerError(_("A segmentation or an export is running: wait for it, or cancel it."))
        _workers.add(self)
        self.remove_folders(only_in_use=True)
        self._job = Job(self, parts)
        return self._job

    def warm_up(self) -> None:
        """Starts the process, unless it is there, so that it loads before the first job; what fails, that job tells."""
        if self._job is not None and not self._job.finished:
            return
        _workers.add(self)
        with suppress(WorkerError):
            self.process()

    def close(self) -> None:
        """Ends the process and what it started, and removes all files; a second time does nothing."""
        if self._job is not None:
            self._job.close()
            self._job = None
        self.end_process()
        self.remove_folders()
        _workers.discard(self)


_workers: set[Worker] = set()
"""Those that may have a process or files."""


@atexit.register
def _close_workers() -> None:
    for worker in tuple(_workers):
        worker.close()
