"""One volume from the command line, cold start to files written: seconds and peak memory.

python Testing/Benchmarks/cold_start.py INPUT [--repeat 3]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path


def run(arguments: list[str]) -> tuple[float, float]:
    """Seconds and peak resident memory in GB of one process."""
    started = time.perf_counter()
    process = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, *arguments])
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"'{' '.join(arguments)}' failed.")
    return time.perf_counter() - started, usage.ru_maxrss * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input", type=Path)
    parser.add_argument("--task", default="heart")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    measured = {"import dinsegment": ["-c", "import dinsegment"], "import torch, timm": ["-c", "import torch, timm"]}
    for name, arguments in measured.items():
        print(f"{name:22} {min(run(arguments)[0] for _ in range(options.repeat)):6.2f} s")
    for n in range(options.repeat):
        with tempfile.TemporaryDirectory() as folder:
            seconds, memory = run(
                ["-m", "dinsegment.cli", "segment", str(options.input), "--task", options.task,
                 "--device", options.device, "--output", folder]
            )  # fmt: skip
        print(f"segment, run {n + 1:<9} {seconds:6.2f} s   {memory:.2f} GB")


if __name__ == "__main__":
    main()
