"""How many cores of the CPU there are, and how a process is kept on some of them."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Cores of the CPU that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_cores(count: int) -> None:
    """Keeps this process on so many cores, where the system can be told so."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def thread_settings(count: int) -> dict[str, str]:
    """Environment variables with which the libraries of a new process use so many threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_MAX_THREADS")
    return dict.fromkeys(names, str(count))
