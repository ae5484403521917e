"""Energy that the device says it has used: a GPU by its driver's counter, an Intel or AMD processor by RAPL's."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch

LEAST_S = 3.0
"""The work is repeated for so long, since a GPU's counter goes on only a few times a second."""

Counter = Callable[[], float]
"""Joule since some time in the past."""


def measure_energy(work: Callable[[], object], device: torch.device) -> float | None:
    """Joule for doing the work once, all that the GPU or the processor's packages used meanwhile; None if not told."""
    counter = gpu_counter(device) if device.type == "cuda" else rapl_counter()
    if counter is None:
        return None
    before, ends, count = counter(), time.perf_counter() + LEAST_S, 0
    while count == 0 or time.perf_counter() < ends:
        work()
        count += 1
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (counter() - before) / count


def gpu_counter(device: torch.device) -> Counter | None:
    """That of an NVIDIA GPU; None without nvidia-ml-py, or where the GPU has none."""
    if find_spec("pynvml") is None:
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except (AttributeError, pynvml.NVMLError):  # an old PyTorch tells no UUID
        return None
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000


def rapl_counter(folder: Path = Path("/sys/class/powercap")) -> Counter | None:
    """That of all packages of the processor; None where there is none, or only the administrator may read it."""
    packages = [p for p in sorted(folder.glob("intel-rapl:*")) if p.name.count(":") == 1]
    used, last = 0, dict[Path, int]()

    def counter() -> float:
        nonlocal used
        for package in packages:
            now = int((package / "energy_uj").read_text(encoding="utf-8"))
            most = int((package / "max_energy_range_uj").read_text(encoding="utf-8"))
            used += (now - last.get(package, now)) % (most + 1)  # it starts again at 0
            last[package] = now
        return used / 1e6

    try:
        counter()
    except (OSError, ValueError):
        return None
    return counter if packages else None
