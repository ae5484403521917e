"""A fresh process in which one tool is prepared or measured, or the machine, or DINSegment's growth."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dinsegment.errors import DINSegmentError, WorkerError
from memory import use_cores

SOURCES = (Path(__file__).parents[1], Path(__file__).parents[3] / "DINSegment" / "Logic")
"""Where a new process finds this package and the library."""


def start(cores: int, job: str, *arguments: Any) -> dict[str, Any]:
    """Runs a job of `JOBS` in a fresh process with so many cores and threads.

    Args:
        cores: Of the CPU.
        job: Its name.
        arguments: Its arguments, which are sent as they are.

    Returns:
        `content`, what was measured, and `seconds` from the start of the process to the marks of the job.

    Raises:
        WorkerError: It failed.
    """
    paths = [*map(str, SOURCES), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "compare.process"], input=pickle.dumps((cores, job, arguments)), capture_output=True,
        env=environment, check=False,
    )  # fmt: skip
    if done.returncode < 0:
        raise WorkerError(f"'{job}' was ended by the system, mostly for want of memory: free some and try again.")
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise WorkerError(f"'{job}' failed: {lines[-1]}")
    told = pickle.loads(done.stdout)
    if "error" in told:
        raise WorkerError(told["error"])
    return {"content": told["content"], "seconds": {event: at - started for event, at in told["at"].items()}}


def _prepare(name: str, *arguments: Any) -> None:
    from compare.tools import TOOLS, tool_class

    tool_class(name).prepare(*arguments, **TOOLS[name].options)


def _work(job: str, arguments: tuple[Any, ...], at: dict[str, float]) -> Any:
    if job == "prepare":
        return _prepare(*arguments)
    if job == "measure":
        from compare.measure import measure_tool

        return measure_tool(*arguments, lambda event: at.update({event: time.perf_counter()}))
    if job == "growth":
        from compare.growth import measure_growth

        return measure_growth(*arguments)
    from compare.machine import describe_machine

    return describe_machine(*arguments)


def main() -> None:
    """The process: the job comes by standard input, its result goes to standard output, and nothing else does."""
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print
    cores, job, arguments = pickle.load(sys.stdin.buffer)
    use_cores(cores)  # before a library starts its threads
    at: dict[str, float] = {}
    try:
        told = {"content": _work(job, arguments, at), "at": at}
    except DINSegmentError as error:
        told = {"error": str(error)}
    pickle.dump(told, results)


if __name__ == "__main__":
    main()
