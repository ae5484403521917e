"""Fresh processes, in which the machine and the tools are measured."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

from dinsegment.errors import DINSegmentError, WorkerError
from memory import use_cores


def start(cores: int, job: Callable[..., Any], *arguments: Any) -> Any:
    """What a function or method returns in a fresh process with so many cores and threads.

    It is sent by its name: the process imports its module once these are set. Raises WorkerError if it fails.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), _begin, (cores,)) as pool:
        try:
            return pool.submit(job, *arguments).result()
        except DINSegmentError as error:
            raise WorkerError(str(error)) from error
        except BrokenProcessPool as error:
            raise WorkerError(
                f"'{job.__name__}' was ended by the system, mostly for want of memory: free some and try again."
            ) from error
        except (Exception, SystemExit) as error:
            raise WorkerError(f"'{job.__name__}' failed: {type(error).__name__}: {error}") from error


def _begin(cores: int) -> None:
    use_cores(cores)  # before a library starts its threads
    for output in (1, 2):  # what libraries print
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
