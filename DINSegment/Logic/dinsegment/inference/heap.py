"""Memory that a tensor gave back stays with the process, for the next one."""

from __future__ import annotations

import torch

LARGEST = 31 << 20
"""Bytes; glibc's threshold grows to 32 MB at most, with what it notes beside a block (mallopt(3), M_MMAP_THRESHOLD)."""


def keep_freed_memory() -> None:
    """Has glibc, Linux's C library, take tensors of up to 32 MB from its heap, which keeps 64 MB of what is freed.

    By default each block of 128 kB or more is asked of the system and given back, and every page of it costs a fault
    when it is first touched: a quarter of the time of a heart. Once a larger block was freed, that is the threshold.
    Where memory is managed otherwise this does nothing.
    """
    torch.empty(LARGEST, dtype=torch.uint8)  # freed at once; as nothing touches it, it costs nothing
