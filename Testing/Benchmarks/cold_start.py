"""One volume from the command line, cold start to files written: seconds, CPU seconds and peak memory.

CPU seconds hardly change while other programs run; wall-clock seconds do.

python Testing/Benchmarks/cold_start.py INPUT [--repeat 3]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

IMPORTS = {
    "import dinsegment": "import dinsegment",
    "import the network": "import dinsegment.inference.pipeline",
    "import torch": "import torch",
    "import matplotlib": "import matplotlib.figure, matplotlib.backends.backend_agg",
}


def run(arguments: list[str]) -> tuple[float, float, float]:
    """Wall-clock seconds, CPU seconds and peak resident memory in GB of one process."""
    started = time.perf_counter()
    process = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, *arguments])
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"'{' '.join(arguments)}' failed.")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9


def show(name: str, measured: tuple[float, float, float]) -> None:
    seconds, cpu, memory = measured
    print(f"{name:22} {seconds:6.2f} s {cpu:6.2f} CPU s {memory:6.2f} GB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input", type=Path)
    parser.add_argument("--task", default="heart")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    for name, statement in IMPORTS.items():
        show(name, min(run(["-c", statement]) for _ in range(options.repeat)))
    for n in range(options.repeat):
        with tempfile.TemporaryDirectory() as folder:
            command = ["-m", "dinsegment.cli", "segment", str(options.input)]
            command += ["--task", options.task, "--device", options.device, "--output", folder]
            show(f"segment, run {n + 1}", run(command))


if __name__ == "__main__":
    main()
