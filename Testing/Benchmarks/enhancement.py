"""Fuzzy enhancement of a CT-sized volume, beside copying it once through memory and beside scikit-image's CLAHE.

python Testing/Benchmarks/enhancement.py [--shape 150 512 512] [--cores 2] [--json FILE]

The volume has to go through memory twice: it is read for the windows' moments, and the result is written. Asked for are
three times the time of a copy for each of these passes. The copy is that of the same library, numpy or PyTorch, into
memory that is new, as the result's is.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

PASSES = 2
"""Reading the volume, and writing the result."""

COPIES_PER_PASS = 3.0
"""Asked for."""


def seconds(*functions: Callable[[], object], repeat: int = 5) -> list[float]:
    """The least of several runs of each, taken in turns, so that what else the machine does hits all of them."""
    best = [float("inf")] * len(functions)
    for _ in range(repeat):
        for n, function in enumerate(functions):
            started = time.perf_counter()
            function()
            best[n] = min(best[n], time.perf_counter() - started)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(150, 512, 512))
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.cores)  # before numpy and torch are imported
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    measured = measure(tuple(options.shape))
    for name, row in measured.items():
        print(f"{name:24} {row['seconds']:7.3f} s", end="")
        if "copies_per_pass" in row:
            copies = row["copies_per_pass"]
            met = "met" if copies <= COPIES_PER_PASS else "not met"
            print(f"  {copies:5.2f} copies a pass, asked for: {COPIES_PER_PASS:g} at most ({met})", end="")
        print()
    if options.json:
        options.json.write_text(json.dumps({"shape": options.shape, **measured}, indent=2) + "\n", encoding="utf-8")


def measure(shape: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Seconds of each way, and how many copies each of the passes through memory takes."""
    import numpy as np
    import torch

    from dinsegment.enhancement.comparators import clahe
    from dinsegment.enhancement.fuzzy import LIMIT, fuzzy_enhance

    volume = np.random.default_rng(0).uniform(-LIMIT, LIMIT, shape).astype(np.float32)
    tensor = torch.from_numpy(volume)
    few = volume[:4]
    rows = {}
    for name, array, copy in (("numpy", volume, volume.copy), ("torch", tensor, tensor.clone)):
        copied, taken = seconds(copy, lambda array=array: fuzzy_enhance(array))
        rows[f"copy, {name}"] = {"seconds": copied}
        rows[f"fuzzy, {name}"] = {"seconds": taken, "copies_per_pass": taken / copied / PASSES}
    rows["CLAHE (from 4 slices)"] = {"seconds": seconds(lambda: clahe(few), repeat=1)[0] * len(volume) / len(few)}
    return rows


if __name__ == "__main__":
    main()
