"""Energy that the device says it has used: a GPU by its power, an Intel or AMD processor by RAPL's counters."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

COUNTERS = Path("/sys/class/powercap")

LEAST_S = 3.0
"""The work is repeated for so long, since a GPU tells its power only a few times a second."""

INTERVAL_S = 0.1


def measure_energy(work: Callable[[], object], device: torch.device) -> float | None:
    """Joule for doing the work once, all that the GPU or the processor's packages used meanwhile; None if not told."""
    meter = _gpu_meter(device) if device.type == "cuda" else _rapl_meter()
    if meter is None:
        return None
    return meter(lambda: _repeat(work))


def _repeat(work: Callable[[], object]) -> int:
    """Does it for LEAST_S seconds; returns how often."""
    ends, count = time.perf_counter() + LEAST_S, 0
    while count == 0 or time.perf_counter() < ends:
        work()
        count += 1
    return count


Meter = Callable[[Callable[[], int]], float]


def _gpu_meter(device: torch.device) -> Meter | None:
    try:
        torch.cuda.power_draw(device)
    except (ImportError, RuntimeError, AttributeError):  # ModuleNotFoundError without nvidia-ml-py
        return None

    def meter(work: Callable[[], int]) -> float:
        samples, done = [], threading.Event()

        def sample() -> None:
            while not done.wait(INTERVAL_S):
                samples.append(torch.cuda.power_draw(device) / 1000)

        thread = threading.Thread(target=sample)
        thread.start()
        started = time.perf_counter()
        try:
            count = work()
            torch.cuda.synchronize(device)
        finally:
            seconds = time.perf_counter() - started
            done.set()
            thread.join()
        return sum(samples) / len(samples) * seconds / count

    return meter


def _rapl_meter(folder: Path = COUNTERS) -> Meter | None:
    packages = [p for p in sorted(folder.glob("intel-rapl:*")) if p.name.count(":") == 1]
    try:
        ranges = [int((p / "max_energy_range_uj").read_text(encoding="utf-8")) for p in packages]
        _microjoule(packages)
    except (OSError, ValueError):  # since 2020 only the administrator may read them
        return None
    if not packages:
        return None

    def meter(work: Callable[[], int]) -> float:
        before = _microjoule(packages)
        count = work()
        after = _microjoule(packages)
        used = sum((b - a) % (most + 1) for a, b, most in zip(before, after, ranges, strict=True))
        return used / 1e6 / count

    return meter


def _microjoule(packages: list[Path]) -> list[int]:
    return [int((p / "energy_uj").read_text(encoding="utf-8")) for p in packages]
