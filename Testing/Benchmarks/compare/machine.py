"""The machine: what it is, the cores that are used of it, and how fast it multiplies matrices and copies memory."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    import torch

SIDE = {"cpu": 1024, "cuda": 8192, "mps": 4096}
"""Of the matrices that are multiplied."""

PRECISIONS = {"cpu": ("float32", "bfloat16"), "cuda": ("float32", "bfloat16", "float16"), "mps": ("float32", "float16")}

COPIED = {"cpu": 2**28, "cuda": 2**31, "mps": 2**29}
"""Bytes that are copied, many times what caches hold."""

LONG_ENOUGH_S = 0.5
"""Each rate is the best of the repetitions in so many seconds."""


def describe_machine(device: str, cores: int) -> dict[str, Any]:
    """What figures of this machine have to be read with, and how fast the device is at its best.

    Returns:
        Among others `macs_per_s` by precision, of products of large square matrices, and `bytes_per_s` read and written
        in a large copy.
    """
    import torch

    kind = torch.device(device).type
    rates = {}
    for precision in PRECISIONS[kind]:
        rates[precision] = _products_per_s(SIDE[kind], getattr(torch, precision), device)
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


def _products_per_s(side: int, dtype: torch.dtype, device: str) -> float:
    """Multiply-accumulates in a second, of matrices of so many rows; of smaller ones where those would take long."""
    import torch

    def seconds(side: int, measure: Callable[[Callable[[], object]], float]) -> float:
        a, b, out = (torch.rand(side, side, device=device).to(dtype) for _ in range(3))
        return measure(lambda: torch.mm(a, b, out=out))

    # A CPU without a precision computes it in software, a hundred times slower, and no faster for being asked for more.
    small = side // 4
    if (side / small) ** 3 * seconds(small, _once) > LONG_ENOUGH_S:
        side = small
    return side**3 / seconds(side, _best)


def _once(work: Callable[[], object]) -> float:
    """Seconds of one repetition, on a device that has to answer at once."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _best(work: Callable[[], object]) -> float:
    """Seconds of the fastest repetition; PyTorch's timer warms up and waits for the device."""
    import torch
    from torch.utils.benchmark import Timer

    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    return min(timer.blocked_autorange(min_run_time=LONG_ENOUGH_S).times)


def _cpu_name() -> str:
    """The CPU as it names itself."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())
