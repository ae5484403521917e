"""Parts of an array in threads: numpy lets go of Python's lock while it computes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Part = TypeVar("Part")


def available_cores() -> int:
    """Cores of the CPU that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def for_each(work: Callable[[Part], object], parts: Iterable[Part]) -> None:
    """Does the work on every part, on all cores; each part writes to a place of its own.

    Raises:
        Exception: The first that the work raised, once the parts that were begun are done.
    """
    parts = list(parts)
    threads = min(len(parts), available_cores())
    if threads < 2:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, parts):
            pass
