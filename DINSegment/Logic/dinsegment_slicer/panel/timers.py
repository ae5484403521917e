"""What is done later, on the window's own thread."""

from __future__ import annotations

from collections.abc import Callable

import qt


def timer(interval_ms: int, slot: Callable[[], object], once: bool = False) -> qt.QTimer:
    """A timer, not started yet, that calls `slot` after each interval, or once."""
    made = qt.QTimer()
    made.setInterval(interval_ms)
    made.setSingleShot(once)
    made.timeout.connect(slot)
    return made


def later(slot: Callable[[], object]) -> None:
    """Calls `slot` once the current event is over."""
    qt.QTimer.singleShot(0, slot)
