"""Many inputs into one output folder: read ahead, computed and written each on its own, gone on with after a stop.

The output folder has a folder with the results of each input and

    studies.jsonl   one line for each finished input: what it was made from and which files it has; only appended to
    studies.csv     one row for each input of the last run
    errors.log      tracebacks of errors that are none of the library's own
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from dinsegment.errors import Cancelled
from dinsegment.tasks import Task

if TYPE_CHECKING:
    from dinsegment.images.segmentation import Segmentation
    from dinsegment.images.volume import Volume
    from dinsegment.inference.model import Model
    from dinsegment.progress import Progress
from dinsegment.studies.ledger import Ledger
from dinsegment.studies.study import Study, StudyResult, compute_study, failure, load_study, write_study

AHEAD = 1
"""Inputs read beyond the one that is computed; with the one that is being written at most three are in memory."""


# One study: load, compute, write.


# What is done, and who is at it.


# Many studies.


def segment_studies(
    studies: Sequence[Study],
    task: Task,
    model: Model,
    device: str,
    ledger: Ledger,
    finished: Callable[[StudyResult], None],
    progress: Progress | None = None,
) -> None:
    """Segments studies one after the other; the next is read and the last is written while one is computed.

    What goes wrong with a study is in its result, and the others go on. On KeyboardInterrupt what is computed is still
    written, nothing else is begun, and the exception goes on.

    Args:
        studies: In the order in which they are done.
        task: What to segment.
        model: The network, loaded.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        ledger: Of the output folder; it is closed at the end.
        finished: Called in this thread with every result, in the order of the studies.
        progress: Called with the fraction done of all studies and what is being done.

    Raises:
        InputError: No such device on this machine.
        OutputError: The output folder itself can no longer be written to.
    """
    from dinsegment.inference.devices import choose_device

    choose_device(device)
    waiting = iter(studies)
    reading: deque[tuple[Study, Future]] = deque()
    writing: deque[Future[StudyResult]] = deque()
    try:
        with ThreadPoolExecutor(1, "reader") as reader, ThreadPoolExecutor(1, "writer") as writer:

            def read_on(ahead: int) -> None:
                while len(reading) < ahead and (study := next(waiting, None)) is not None:
                    reading.append((study, reader.submit(_read, study, ledger, task)))

            def report_written() -> None:
                while writing:
                    result = writing[0].result()
                    writing.popleft()
                    finished(result)

            read_on(1)
            number = 0
            while reading:
                study, future = reading.popleft()
                read_on(AHEAD)
                loaded = future.result()
                computed = _compute(study, loaded, task, model, device, _share(progress, number, len(studies)))
                number += 1
                del loaded, future  # else they would be in memory as long as the next one is computed
                report_written()
                writing.append(writer.submit(_write, study, computed, ledger))
                del computed
            report_written()
    finally:
        # Both threads have ended; what they have finished before Ctrl+C counts.
        ledger.close()
        for future in writing:
            if future.done() and not future.exception():
                finished(future.result())


def _share(progress: Progress | None, number: int, count: int) -> Progress | None:
    return progress and (lambda fraction, text: progress((number + fraction) / count, text))


def _attempt(study: Study, stage: Callable[[], Any], before: float = 0.0) -> tuple[Any, float] | StudyResult:
    """What a stage gives and the seconds spent so far, or the failure."""
    started = time.perf_counter()
    try:
        return stage(), before + time.perf_counter() - started
    except Cancelled:
        raise
    except Exception as error:
        return failure(study, error, before + time.perf_counter() - started)


def _read(study: Study, ledger: Ledger, task: Task) -> tuple[list[Volume], float] | StudyResult:
    return ledger.claim(study) or _attempt(study, lambda: load_study(study, task))


def _compute(
    study: Study,
    loaded: tuple[list[Volume], float] | StudyResult,
    task: Task,
    model: Model,
    device: str,
    progress: Progress | None,
) -> tuple[list[Segmentation], float] | StudyResult:
    if isinstance(loaded, StudyResult):
        return loaded
    phases, seconds = loaded
    asked = {"samples": study.samples, "unexpected": study.unexpected}
    return _attempt(study, lambda: compute_study(phases, task, model, device, progress, **asked), seconds)


def _write(study: Study, computed: tuple[list[Segmentation], float] | StudyResult, ledger: Ledger) -> StudyResult:
    result = computed
    if not isinstance(computed, StudyResult):
        phases, seconds = computed
        written = _attempt(study, lambda: write_study(study, phases, seconds))
        result = written if isinstance(written, StudyResult) else written[0]
    if result.status != "skipped":
        ledger.settle(study, result)
    return result


# What came out.
