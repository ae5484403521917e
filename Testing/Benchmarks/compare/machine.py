"""The machine: what it is, and how fast it multiplies matrices and copies memory."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.utils.benchmark import Timer

SIDE = {"cpu": 2048, "cuda": 8192, "mps": 4096}
"""Of the matrices that are multiplied."""

PRECISIONS = {"cpu": ("float32", "bfloat16"), "cuda": ("float32", "bfloat16", "float16"), "mps": ("float32", "float16")}

COPIED = {"cpu": 2**28, "cuda": 2**31, "mps": 2**29}
"""Bytes that are copied, many times what caches hold."""

LONG_ENOUGH_S = 1.0
"""Each rate is the best of the repetitions in so many seconds."""


def cpu_name() -> str:
    """The CPU as it names itself."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def describe_machine(device: torch.device, cores: int) -> dict[str, Any]:
    """What figures of this machine have to be read with."""
    on_gpu = device.type == "cuda"
    return {
        "cpu": cpu_name(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def waiter(device: torch.device) -> Callable[[], None]:
    """What waits until the device has done all that was asked of it."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    if device.type == "mps":
        return torch.mps.synchronize
    return lambda: None


def measure_rates(device: torch.device) -> dict[str, Any]:
    """How fast the device is at its best.

    Returns:
        `macs_per_s` by precision, of products of large square matrices; `bytes_per_s` read and written in a large copy.
    """
    kind = device.type
    side = SIDE[kind]
    rates = {}
    for precision in PRECISIONS[kind]:
        a, b = (torch.rand(side, side, device=device).to(getattr(torch, precision)) for _ in range(2))
        out = torch.empty_like(a)
        rates[precision] = side**3 / _best(lambda a=a, b=b, out=out: torch.mm(a, b, out=out))
    source = torch.ones(COPIED[kind] // 4, device=device)
    target = torch.empty_like(source)
    return {"macs_per_s": rates, "bytes_per_s": 2 * COPIED[kind] / _best(lambda: target.copy_(source))}


def _best(work: Callable[[], object]) -> float:
    """Seconds of the fastest repetition; PyTorch's timer warms up and waits for the device."""
    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    return min(timer.blocked_autorange(min_run_time=LONG_ENOUGH_S).times)


def peak_memory() -> int:
    """Most bytes of memory that this process has had so far."""
    status = Path("/proc/self/status")
    if status.exists():  # `getrusage` on Linux also counts the process that started this one
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
