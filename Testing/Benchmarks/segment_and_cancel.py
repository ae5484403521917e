"""Segment and cancel, again and again in one host process: what is left, and what a warm worker saves.

    python Testing/Benchmarks/segment_and_cancel.py [--rounds 50] [--seed 0]

Each round cancels at another moment: while the worker starts and the image is written, while the model is loaded, while
it computes. Then the time from start to result is measured for a first volume, whose worker is cold, and a second one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from dinsegment.phantom.heart import heart_phantom
from dinsegment_slicer.running.job import Job
from dinsegment_slicer.running.segment_part import JobImage
from dinsegment_slicer.running.worker import Worker

POLL_S = 0.05
MOMENTS = ("Starting", "Loading the model", "Finding the anatomy", "Segmenting")
"""What a job says it is doing some moments before it is cancelled, in turn."""


def doing(job: Job) -> str:
    """What it says, without phase and slice."""
    return job.text.removeprefix("Phase 1 of 2: ").removeprefix("Phase 2 of 2: ").split(":")[0]


def poll_until(job: Job, *moments: str) -> None:
    """Polls as Slicer's timer does, until the job does one of these, or is finished."""
    while not job.finished and not doing(job).startswith(moments or "finished"):
        job.poll()
        time.sleep(POLL_S)


def poll_for(job: Job, seconds: float) -> None:
    end = time.perf_counter() + seconds
    while not job.finished and time.perf_counter() < end:
        job.poll()
        time.sleep(POLL_S)


def seconds_to_result(worker: Worker, image: JobImage) -> float:
    started = time.perf_counter()
    job = worker.start([image], "heart")
    poll_until(job)
    if job.error is not None:
        raise job.error
    seconds = time.perf_counter() - started
    job.close()
    return seconds


def folders() -> int:
    return len(list(Path(tempfile.gettempdir()).glob(f"DINSegment-{os.getpid()}-*")))


def megabytes() -> float:
    return psutil.Process().memory_info().rss / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    volume = heart_phantom().volume
    image = JobImage(volume.array.astype(np.int16), volume.ijk_to_ras, volume.name, volume.modality)

    worker = Worker()
    cancelled: dict[str, int] = {}
    seconds, memory = [], []
    for n in range(options.rounds):
        job = worker.start([image, image], "heart")
        poll_until(job, *MOMENTS[n % len(MOMENTS) :])  # A poll may miss a short one.
        poll_for(job, random.uniform(0, 0.3))
        if job.finished:
            raise SystemExit(f"Round {n + 1} was finished before it could be cancelled.")
        moment = doing(job)
        started = time.perf_counter()
        job.cancel()
        seconds.append(time.perf_counter() - started)
        job.close()
        cancelled[moment] = cancelled.get(moment, 0) + 1
        memory.append(megabytes())
    left = len(psutil.Process().children(recursive=True)), folders()

    cold, warm = [], []
    for _ in range(3):
        cold.append(seconds_to_result(worker, image))
        warm.append(seconds_to_result(worker, image))
        worker.close()

    table = Table("Segment and cancel", f"{options.rounds} rounds")
    table.add_row("Cancelled while", ", ".join(f"{text} ({count})" for text, count in sorted(cancelled.items())))
    table.add_row("Cancel, median and longest", f"{statistics.median(seconds):.2f} s, {max(seconds):.2f} s")
    table.add_row("Processes left", str(left[0]))
    table.add_row("Temporary folders left", str(left[1]))
    table.add_row("Host memory after round 1, after the last", f"{memory[0]:.1f} MB, {memory[-1]:.1f} MB")
    table.add_row("First volume, worker cold (median of 3)", f"{statistics.median(cold):.2f} s")
    table.add_row("Second volume, worker warm (median of 3)", f"{statistics.median(warm):.2f} s")
    Console().print(table)


if __name__ == "__main__":
    main()
