"""Keeps a report in step with what the user does: measures in a process of its own, always the latest state."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from dinsegment.errors import DINSegmentError, InputError, WorkerError
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.running.job import Job
from dinsegment_slicer.running.report_part import FiguresPart, Measured, Page, ReportInput, ReportPart
from dinsegment_slicer.running.worker import Worker
from dinsegment_slicer.signal import Signal

logger = logging.getLogger(__name__)


class Reporter:
    """Measures after every change, draws once nothing changes any more, and writes pages.

    While something is measured further changes wait, and are then measured all at once; `tick` is to be called about
    every 50 ms while `busy`. Signals: `measured` with a Measured, `drawn` with Figures, `failed` with a sentence,
    `saved` with the path of a page, `notSaved` with a sentence.

    Args:
        source: Gathers what there is now; None for nothing to measure. It may raise an InputError.
        worker: Runs the jobs; by default a process of its own, which is started at the first one and needs no network.
    """

    def __init__(self, source: Callable[[], ReportInput | None], worker: Worker | None = None) -> None:
        self.worker = worker or Worker(arguments=("report",))
        self.measured, self.drawn, self.failed = Signal(), Signal(), Signal()
        self.saved, self.notSaved = Signal(), Signal()
        self._source = source
        self._job: Job | None = None
        self._part: ReportPart | FiguresPart | None = None
        self._dirty = self._undrawn = False
        self._pages: list[Page] = []
        self._run = 0

    @property
    def busy(self) -> bool:
        """Whether something is measured, drawn or written, or waits for it."""
        return self._job is not None or self._dirty or self._undrawn or bool(self._pages)

    @property
    def writing(self) -> bool:
        """Whether a page is written or waits for it."""
        return bool(self._pages)

    def update(self) -> None:
        """Something has changed: it is measured anew."""
        self._dirty = True

    def write(self, page: Page) -> None:
        """Writes a page of what there is now."""
        self._pages.append(page)

    def tick(self) -> None:
        """Goes on a little."""
        if self._job is not None:
            self._job.poll()
            if not self._job.finished:
                return
            self._finish()
        if self._job is None:
            self._begin_next()

    def stop(self) -> None:
        """Forgets what is to be done; what is being measured is given up."""
        self._dirty = self._undrawn = False
        self._pages.clear()
        if self._job is not None:
            self._job.close()
            self._job = self._part = None

    def close(self) -> None:
        """Ends the process, too; it starts again by itself when it is needed."""
        self.stop()
        self.worker.close()

    def _begin_next(self) -> None:
        try:
            if self._pages:
                self._begin(self._report(self._pages[0]))
            elif self._dirty:
                self._dirty = self._undrawn = False
                self._begin(self._report())
            elif self._undrawn:
                self._undrawn = False
                self._begin(FiguresPart(self._run))
        except DINSegmentError as error:
            self._tell(str(error), bool(self._pages))
        except Exception as error:  # Else a page that waits would fail again at every tick.
            logger.exception("The report could not be gathered.")
            text = _("The report could not be made: {error}. The error log has the details.")
            self._tell(text.format(error=error), bool(self._pages))

    def _report(self, page: Page | None = None) -> ReportPart | None:
        source = self._source()
        if source is None:
            if page is not None:
                raise InputError(_("There is no result: segment an image first."))
            return None
        if page is None:
            self._run += 1
        return ReportPart(source, self._run, page)

    def _begin(self, part: ReportPart | FiguresPart | None) -> None:
        if part is not None:
            self._part = part
            self._job = self.worker.begin([part])

    def _finish(self) -> None:
        job, self._job = self._job, None
        error, results = job.error, job.results
        job.close()
        if error is not None:
            self._explain(error)
            return
        if not results:  # It was cancelled from elsewhere, as at the end of the application.
            return
        result = results[0]
        if isinstance(result, Measured):
            self._undrawn = not self._dirty
            self.measured.emit(result)
        elif isinstance(result, Sequence):
            self.drawn.emit(result)
        else:
            self._pages.pop(0)
            self.saved.emit(result)

    def _explain(self, error: DINSegmentError) -> None:
        if isinstance(self._part, FiguresPart) and isinstance(error, InputError):
            self._dirty = True  # The process that had measured it has ended meanwhile.
            return
        text = str(error)
        if isinstance(error, WorkerError):
            text = _("The report could not be made. {reason}").format(reason=error)
        self._tell(text, isinstance(self._part, ReportPart) and self._part.is_page)

    def _tell(self, text: str, of_page: bool) -> None:
        """What is wrong, with the first page that waits or with what is measured: a page still waits then."""
        if of_page:
            self._pages.pop(0)
            self.notSaved.emit(text)
        else:
            self.failed.emit(text)
