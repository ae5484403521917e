"""How long a run has taken so far, and how long its rest takes."""

from __future__ import annotations

import time

LONGEST_STEP_S = 1.0
"""What one step between polls counts at most: a laptop that slept for hours has not waited for hours."""


class Clock:
    """Seconds that were spent, by the steps between polls."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last = time.monotonic()

    def tick(self) -> None:
        """A step: what has passed since the last one counts, up to `LONGEST_STEP_S`."""
        now = time.monotonic()
        self.seconds += min(now - self._last, LONGEST_STEP_S)
        self._last = now


class Pace:
    """Tells from fractions and when they were reached how long the rest takes."""

    LEAST_S, LEAST_FRACTION = 2.0, 0.03
    """Before so much has been seen nothing is told."""

    WEIGHT = 0.3
    """Of a new estimate of when it ends, beside the last ones."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None
        self._end: float | None = None

    def update(self, fraction: float, now: float) -> None:
        """So much, 0..1, is done at this time (s)."""
        if self._first is None:
            self._first = fraction, now
        done, seconds = fraction - self._first[0], now - self._first[1]
        if done < self.LEAST_FRACTION or seconds < self.LEAST_S:
            return
        end = now + seconds / done * (1.0 - fraction)
        self._end = end if self._end is None else self._end + self.WEIGHT * (end - self._end)

    def seconds_left(self, now: float) -> float | None:
        """How long the rest takes from now (s) on; None until that can be told."""
        return None if self._end is None else max(self._end - now, 0.0)
