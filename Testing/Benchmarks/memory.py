"""Peak memory of the program on CTs of more and more slices: what grows is the volume and its results.

python Testing/Benchmarks/memory.py [--slices 100 150 300 1000] [--device cpu] [--cores 2] [--json FILE]

A phantom of 512 x 512 x 100 voxels, repeated back and forth to as many slices as asked for, is written as NIfTI
(int16), and `dinsegment segment` run on it as a user runs it, in a process of its own. Asked for are 4 GB of RAM for
1000 slices, and 6 GB of the memory of a GPU. What a voxel more takes is the volume, its labels, the enhanced image, and
one copy of that, which ITK makes to write the file, and again to check it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

SIDE, PHANTOM_SLICES, SPACING = 512, 100, (2.0, 0.75, 0.75)
RESULT_BYTES = {"volume": 2, "labels": 1, "enhanced image": 2}
"""Of a voxel."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_MAX_THREADS")
"""Environment variables with which libraries are told how many threads to use."""

MAKE, RUN = "--make", "--run"
"""What this script is started for by itself: what a process has held before counts for those that it starts."""


def available_cores() -> int:
    """Cores of the CPU that this process may use."""
    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count() or 1


def use_cores(count: int) -> None:
    """Keeps this process and those that it starts on so many cores, where the system can be told so.

    Libraries that are imported afterwards start a thread on each.
    """
    os.environ.update(dict.fromkeys(THREADS, str(count)))
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):
        process.cpu_affinity(sorted(process.cpu_affinity())[:count])


def peak_bytes() -> int:
    """The most memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says includes the process that has started this one
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))[1])
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes


def run_program(*arguments: object) -> dict[str, float]:
    """`dinsegment` with arguments, as a user runs it.

    Returns:
        Seconds of the clock and of the CPU, and the peak of its memory in GB, on the host and on a GPU.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        started = time.perf_counter()
        command = [sys.executable, __file__, RUN, str(report), *map(str, arguments)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, **json.loads(report.read_text(encoding="utf-8"))}


def _run(report: str, *arguments: str) -> None:
    from dinsegment.cli import main as program

    sys.argv = ["dinsegment", *arguments]
    try:
        program()
    finally:
        torch: Any = sys.modules["torch"]
        on_gpu = torch.cuda.max_memory_reserved() if torch.cuda.is_initialized() else 0
        used = {"cpu_seconds": time.process_time(), "peak_gb": peak_bytes() / 1e9, "gpu_peak_gb": on_gpu / 1e9}
        Path(report).write_text(json.dumps(used), encoding="utf-8")


def _make(folder: str, *counts: str) -> None:
    """Writes a CT of each number of slices."""
    import numpy as np

    from dinsegment.images import write_volume
    from dinsegment.images.volume import Volume
    from dinsegment.phantom.ct import abdomen_phantom

    phantom = abdomen_phantom(slices=PHANTOM_SLICES, size=(SIDE, SIDE), spacing=SPACING).volume
    array = phantom.array.astype(np.int16)
    there_and_back = np.concatenate((np.arange(len(array)), np.arange(len(array))[::-1]))
    for count in map(int, counts):
        volume = Volume(array[np.resize(there_and_back, count)], phantom.ijk_to_ras, f"{count} slices")
        write_volume(volume, Path(folder) / f"{count}.nii")


def main() -> None:
    if sys.argv[1:2] == [RUN]:
        return _run(*sys.argv[2:])
    if sys.argv[1:2] == [MAKE]:
        return _make(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, nargs="+", default=[100, 150, 300, 1000])
    parser.add_argument("--model", default=None, help="name in weights.json; the first one for the abdomen by default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    use_cores(options.cores)
    model = ["--model", options.model] if options.model else []
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for count in sorted(options.slices):
            image = Path(folder) / f"{count}.nii"
            subprocess.run([sys.executable, __file__, MAKE, folder, str(count)], check=True)
            output = Path(folder) / str(count)
            used = run_program(
                "segment", image, "--task", "abdomen", "--output", output, "--device", options.device, *model
            )
            rows.append({"slices": count, **used})
            image.unlink()
    report(rows)
    if options.json:
        content = {"device": options.device, "cores": options.cores, "rows": rows, "growth_bytes": growth(rows)}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def growth(rows: list[dict[str, float]]) -> float | None:
    """Bytes of peak memory for each voxel more, from the fewest to the most slices."""
    more = (rows[-1]["slices"] - rows[0]["slices"]) * SIDE * SIDE
    return (rows[-1]["peak_gb"] - rows[0]["peak_gb"]) * 1e9 / more if more else None


def report(rows: list[dict[str, float]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "Slices", "Volume and results", "Peak memory", "Peak on the GPU", "Clock", "CPU", title="CT of 512 x 512 pixels"
    )
    for row in rows:
        held = row["slices"] * SIDE * SIDE * sum(RESULT_BYTES.values()) / 1e9
        on_gpu = f"{row['gpu_peak_gb']:.2f} GB" if row["gpu_peak_gb"] else "-"
        seconds = f"{row['seconds']:.1f} s", f"{row['cpu_seconds']:.1f} s"
        table.add_row(str(row["slices"]), f"{held:.2f} GB", f"{row['peak_gb']:.2f} GB", on_gpu, *seconds)
    Console().print(table)
    if (grown := growth(rows)) is not None:
        parts = ", ".join(f"{name} {size}" for name, size in RESULT_BYTES.items())
        Console().print(f"Growth: {grown:.1f} bytes a voxel ({parts}).")


if __name__ == "__main__":
    main()
