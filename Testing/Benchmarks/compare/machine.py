"""The machine: what it is, how fast it multiplies matrices and copies memory, and the energy that it says it has used.

A GPU tells its energy by its driver's counter, an Intel or AMD processor by that of RAPL.
"""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

SIDE = {"cpu": 1024, "cuda": 8192, "mps": 4096}
"""Of the matrices that are multiplied."""

PRECISIONS = {"cpu": ("float32", "bfloat16"), "cuda": ("float32", "bfloat16", "float16"), "mps": ("float32", "float16")}

COPIED = {"cpu": 2**28, "cuda": 2**31, "mps": 2**29}
"""Bytes that are copied, many times what caches hold."""

RATE_S = 0.5
"""Each rate is the best of the repetitions in so many seconds."""

ENERGY_S = 3.0
"""Work is repeated for so long to tell its energy, since a GPU's counter goes on only a few times a second."""


def wait_for(device: torch.device) -> None:
    """Until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def describe_machine(device: str, cores: int) -> dict[str, Any]:
    """What figures of this machine have to be read with, and how fast the device is at its best.

    Returns:
        Among others `macs_per_s` by precision, of products of large square matrices, and `bytes_per_s` read and written
        in a large copy.
    """
    kind = torch.device(device).type
    rates = {name: _macs_per_s(SIDE[kind], getattr(torch, name), device) for name in PRECISIONS[kind]}
    source, target = (torch.ones(COPIED[kind] // 4, device=device) for _ in range(2))
    return {
        "cpu": _cpu_name(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpu": torch.cuda.get_device_name(device) if kind == "cuda" else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "macs_per_s": rates,
        "bytes_per_s": 2 * COPIED[kind] / _best(lambda: target.copy_(source)),
    }


def _macs_per_s(side: int, dtype: torch.dtype, device: str) -> float:
    """Multiply-accumulates in a second, of matrices of so many rows; of smaller ones where those would take long."""

    def seconds(side: int, least_s: float = RATE_S) -> float:
        a, b, out = (torch.rand(side, side, device=device).to(dtype) for _ in range(3))
        return _best(lambda: torch.mm(a, b, out=out), least_s)

    # A CPU without a precision computes it in software, a hundred times slower, and no faster for being asked for more.
    if 4**3 * seconds(side // 4, 0.0) > RATE_S:
        side //= 4
    return side**3 / seconds(side)


def _best(work: Callable[[], object], least_s: float = RATE_S) -> float:
    """Seconds of the fastest repetition in so many seconds; PyTorch's timer warms up and waits for the device."""
    from torch.utils.benchmark import Timer  # which is not to count for a tool that is measured

    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    return min(timer.blocked_autorange(min_run_time=least_s).times)


def _cpu_name() -> str:
    """The CPU as it names itself."""
    info = Path("/proc/cpuinfo")
    told = re.search(r"model name\s*:\s*(.+)", info.read_text(encoding="utf-8")) if info.exists() else None
    return told[1] if told else platform.processor() or platform.machine()


def measure_energy(work: Callable[[], object], device: torch.device) -> float | None:
    """Joule for doing the work once, all that the GPU or the processor's packages used meanwhile; None if not told."""
    counter = gpu_counter(device) if device.type == "cuda" else rapl_counter()
    if counter is None:
        return None
    before, ends, count = counter(), time.perf_counter() + ENERGY_S, 0
    while count == 0 or time.perf_counter() < ends:
        work()
        count += 1
    wait_for(device)
    return (counter() - before) / count


def gpu_counter(device: torch.device) -> Callable[[], float] | None:
    """What tells the Joule that an NVIDIA GPU has used; None without nvidia-ml-py, or where the GPU does not tell."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except ImportError:
        return None
    except pynvml.NVMLError:
        return None
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000


def rapl_counter(folder: Path = Path("/sys/class/powercap")) -> Callable[[], float] | None:
    """What tells the Joule that all packages of the processor use from now on; None where that cannot be read."""
    packages = [path for path in folder.glob("intel-rapl:*") if path.name.count(":") == 1]

    def read(file: str) -> list[int]:
        return [int((package / file).read_text(encoding="utf-8")) for package in packages]

    try:
        start, most = read("energy_uj"), read("max_energy_range_uj")
    except (OSError, ValueError):
        return None

    def counter() -> float:  # each starts again at 0 after its most
        used = [(now - then) % (end + 1) for now, then, end in zip(read("energy_uj"), start, most, strict=True)]
        return sum(used) / 1e6

    return counter if packages else None
