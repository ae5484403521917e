"""How much memory there is, so that an image that needs more is refused before it is taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dinsegment.errors import DINSegmentError, InputError

_GROUPS = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60


def free_memory() -> int:
    """Bytes of main memory that this process can still have: of the machine, of its container, of its own limit."""
    import psutil

    return max(0, min(psutil.virtual_memory().available, _free_in_group(), _free_of_limit()))


def _free_in_group() -> int:
    """What Linux's control groups, which containers and clusters are limited by, leave; files kept count as free."""
    free = _UNLIMITED
    with suppress(OSError, ValueError, IndexError):
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        for _, controllers, name in lines:
            if controllers == "":  # version 2
                folder, files = _GROUPS / name.lstrip("/"), ("memory.max", "memory.current", "inactive_file")
            elif "memory" in controllers.split(","):
                folder = _GROUPS / "memory" / name.lstrip("/")
                files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            else:
                continue
            # In a container its own group stands at the top.
            for place in (folder, *folder.parents):
                if not place.is_relative_to(_GROUPS):
                    break
                with suppress(OSError, ValueError):
                    limit, used = (int((place / name).read_text()) for name in files[:2])
                    words = (place / "memory.stat").read_text().split()
                    free = min(free, limit - used + int(words[words.index(files[2]) + 1]))
    return free


def _free_of_limit() -> int:
    """What the limit of the address space (`ulimit -v`) leaves."""
    with suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        import psutil

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            return limit - psutil.Process().memory_info().vms
    return _UNLIMITED


def check_memory(name: object, needed: float, free: int | None = None) -> None:
    """Raises InputError if an image needs more than is free.

    Args:
        name: What the message calls the image: its path or its name.
        needed: Bytes.
        free: Bytes; those of `free_memory` if None.
    """
    free = free_memory() if free is None else free
    if needed > free:
        raise InputError(
            f"'{name}' needs about {needed / 1e9:.2g} GB of memory, but only {free / 1e9:.2g} GB are free: "
            "close other programs, or use a larger machine or a part of the image."
        )


PYTORCH_BYTES = 0.7e9
"""Of main memory that importing PyTorch takes."""

PYTORCH_ADDRESSES = 3.6e9
"""Bytes of address space that it takes; with less some libraries wait for ever instead of failing."""


def check_import() -> None:
    """Raises InputError if there is too little memory to import PyTorch."""
    addresses, needed = _free_of_limit(), PYTORCH_BYTES
    free = min(free_memory(), addresses)
    if addresses < PYTORCH_ADDRESSES:
        needed, free = PYTORCH_ADDRESSES, addresses
    if free < needed:
        raise InputError(
            f"PyTorch needs about {needed / 1e9:.2g} GB of memory, but only {max(free, 0) / 1e9:.2g} GB are free: "
            "close other programs or use a larger machine."
        )


@contextmanager
def enough_memory(name: object) -> Iterator[None]:
    """Turns what Python, ITK and PyTorch raise where memory runs out into an InputError that names the image."""
    try:
        yield
    except DINSegmentError:
        raise
    except (MemoryError, RuntimeError, OSError, ImportError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            f"'{name}' needs more memory than is free: close other programs or use a larger machine."
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, of the system, of ITK or of PyTorch says that there is too little memory."""
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or "out of memory" in text
        or "allocate memory" in text
        or "not enough memory" in text
        or "failed to map segment" in text
        or "bad_alloc" in text
        or "failed to allocate" in text
    )
