"""Seconds and memory of a correction beside those of segmenting the same image in the same run, and of a cancel.

    taskset -c 1 python Testing/Benchmarks/correction_times.py --task heart --cores 1
    taskset -c 1 python Testing/Benchmarks/correction_times.py --task abdomen --cores 1 --rounds 1

The heart is a phantom of 10 slices, the CT one of 512 x 512 x 150 voxels. Both are segmented with the model loaded, as
the process that serves Slicer has it; then the slices with the most wrong voxels are corrected with the phantom's own
labels and the others follow, once with a look at the image, and once with what is kept of it. Asked for are 3 s for a
heart, for a CT the seconds of segmenting it and 4 more, and 2 GB. On a machine that is busy with other things, the
CPU's seconds tell more than the clock's.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from dinsegment.correction.pipeline import FeaturesKept, correct
from dinsegment.errors import Cancelled
from dinsegment.images.slices import SliceStack
from dinsegment.inference import load_model, segment
from dinsegment.phantom.ct import abdomen_phantom
from dinsegment.phantom.heart import cine_phantom
from dinsegment.tasks import get_task
from memory import peak_bytes, use_cores

CANCELLED_AT = (0.1, 0.3, 0.5, 0.72, 0.78, 0.9)
"""Progress at which a correction is cancelled."""


def timed(work: Callable[[], object]) -> tuple[object, float, float]:
    """What it gives, and its seconds of the clock and of the CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def seconds_to_cancel(at: float, run: Callable[..., object]) -> float:
    """Seconds from a cancel at that progress until it has stopped."""
    asked = threading.Event()
    since: list[float] = []

    def progress(done: float, _text: str) -> None:
        if done >= at and not since:
            since.append(time.perf_counter())
            asked.set()

    with suppress(Cancelled):
        run(progress, asked.is_set)
    return time.perf_counter() - since[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="heart", choices=("heart", "abdomen"))
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--corrected", type=int, default=2, help="slices")
    parser.add_argument("--rounds", type=int, default=5, help="medians of so many")
    options = parser.parse_args()
    use_cores(options.cores)
    torch.set_num_threads(options.cores)
    task = get_task(options.task)
    if task.name == "heart":
        phantom = cine_phantom(1, slices=10)[0]
    else:
        phantom = abdomen_phantom(slices=150, size=(512, 512), spacing=(2.0, 0.75, 0.75))
    volume, model = phantom.volume, load_model(None, task)
    rows: dict[str, list[tuple[float, float]]] = {
        "segmenting": [],
        "correcting, with a look": [],
        "correcting again": [],
    }
    labels = segment(volume, task, model, "cpu").labels  # once for nothing: the next ones are warm
    for _ in range(options.rounds):
        rows["segmenting"].append(timed(lambda: segment(volume, task, model, "cpu"))[1:])
    stack = SliceStack.in_plane(volume, task.plane)
    truth, given = (stack.like(array).array for array in (phantom.labels, labels))
    seen = np.argsort(-(truth != given).sum((1, 2)))[: options.corrected]
    given = given.copy()
    given[seen] = truth[seen]
    corrected = stack.to_volume_axes(given)
    slices = [stack.number(int(k)) - 1 for k in seen]
    for _ in range(options.rounds):
        kept = FeaturesKept()

        def run(progress=None, cancelled=None, kept=kept):
            return correct([volume], [corrected], [slices], task, model, "cpu", progress, cancelled, features=kept)

        for name in ("correcting, with a look", "correcting again"):
            rows[name].append(timed(run)[1:])
    cancels = [seconds_to_cancel(at, lambda *how: run(*how, FeaturesKept())) for at in CANCELLED_AT]
    base = np.median(rows["segmenting"], axis=0)
    table = Table(f"{task.name}, {len(truth)} slices, {len(seen)} corrected, {options.cores} cores", "s", "CPU s", "x")
    for name, spent in rows.items():
        wall, cpu = np.median(spent, axis=0)
        table.add_row(name, f"{wall:.2f}", f"{cpu:.2f}", f"{cpu / base[1]:.2f}")
    table.add_row("until a cancel has stopped it, most", f"{max(cancels):.2f}", "", "")
    Console().print(table, f"Peak memory {peak_bytes() / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
