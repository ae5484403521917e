"""How whoever waits for a run hears of it, and how a run is stopped."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float, str], None]
"""Called with the fraction that is done, 0 to 1, and what is being done, in words for the user."""

Cancelled = Callable[[], bool]
"""Asked several times a second; True stops the run, which then raises `dinsegment.errors.Cancelled`."""
