"""A signal between plain Python objects. PythonQt's own crashes when a Python class declares it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Signal:
    """Calls whoever is connected, in the order in which they connected."""

    def __init__(self) -> None:
        self._slots: list[Callable[..., Any]] = []

    def connect(self, slot: Callable[..., Any]) -> None:
        """`slot` is called at every `emit` from now on."""
        self._slots.append(slot)

    def emit(self, *args: Any) -> None:
        """Calls all slots with `args`."""
        for slot in tuple(self._slots):
            slot(*args)
