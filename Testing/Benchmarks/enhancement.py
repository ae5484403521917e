"""Fuzzy enhancement of a CT-sized volume, beside copying it once and beside scikit-image's CLAHE.

python Testing/Benchmarks/enhancement.py [--shape 150 512 512]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from dinsegment.enhancement import LIMIT, Array, clahe, fuzzy_enhance


def seconds(function: Callable[[], object], repeat: int = 5) -> float:
    """The least of several runs."""
    best = float("inf")
    for _ in range(repeat):
        started = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - started)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(150, 512, 512))
    options = parser.parse_args()
    volume = np.random.default_rng(0).uniform(-LIMIT, LIMIT, options.shape).astype(np.float32)
    tensor = torch.from_numpy(volume)
    few = volume[:4]

    def row(name: str, taken: float) -> None:
        print(f"{name:28} {taken:7.3f} s  {taken / copy:6.1f} copies")

    copy = seconds(lambda: tensor.clone())
    row("copy", copy)
    arrays: dict[str, Array] = {"fuzzy, numpy": volume, "fuzzy, torch": tensor}
    for name, array in arrays.items():
        row(name, seconds(lambda array=array: fuzzy_enhance(array)))
    row("CLAHE (from 4 slices)", seconds(lambda: clahe(few), 1) * len(volume) / len(few))


if __name__ == "__main__":
    main()
