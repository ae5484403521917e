"""What a process that serves another program exchanges with it: events, and arrays in files.

`dinsegment.worker` says what is in them.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dinsegment.errors import OutputError

IMAGE, LABELS, ENHANCED = "image.npy", "labels.npy", "enhanced.npy"
DISAGREEMENT, UNEXPECTED = "disagreement.npy", "unexpected.npy"
IMAGE_OF, LABELS_OF, CORRECTED_OF = "image {}.npy", "labels {}.npy", "corrected {}.npy"
"""Of several phases, counted from 1."""

MASK, SOURCES = "mask {}.npy", "sources.json"
PHASE = "phase {}"
"""Folder of an image, counted from 1."""

ALIVE_INTERVAL_S = 1.0

STEPS = 255
"""In which shares of 1 are exchanged, uint8: a CT's take a quarter of the memory that float32 would."""


class Channel:
    """Events to the program that started this process."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._said = 0.0

    def send(self, event: str, **content: Any) -> None:
        """Sends one event."""
        self._said = time.monotonic()
        # One write a line, so that no reader ever sees two events mixed.
        self._stream.write(json.dumps({"event": event, **content}).encode() + b"\n")

    def alive(self, request_id: int) -> None:
        """Sends a sign of life unless the last event was a moment ago."""
        if time.monotonic() - self._said >= ALIVE_INTERVAL_S:
            self.send("alive", id=request_id)


def told(request: dict[str, Any], channel: Channel) -> tuple[Callable[..., None], Callable[[], bool]]:
    """What takes the progress of a request, and what asks whether it is cancelled."""
    request_id = request["id"]

    def progress(fraction: float, text: str, **phase: int) -> None:
        channel.send("progress", id=request_id, fraction=fraction, text=text, **phase)

    def cancelled() -> bool:  # Whoever cancels ends this process.
        channel.alive(request_id)
        return False

    return progress, cancelled


@contextmanager
def alive(request: dict[str, Any], channel: Channel) -> Iterator[None]:
    """Sends signs of life from a thread of its own, so long as the block takes."""
    ended = threading.Event()

    def say() -> None:
        while not ended.wait(ALIVE_INTERVAL_S):
            channel.alive(request["id"])

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def in_steps(shares: np.ndarray, most: float = 1.0) -> np.ndarray:
    """Values (k, j, i) from 0 on as uint8, `most` and more as STEPS; none is off by more than half a step."""
    steps = np.empty(shares.shape, np.uint8)
    for k, values in enumerate(shares):  # Slice by slice: the whole would be there a second time.
        steps[k] = np.rint(np.clip(values * (STEPS / most), 0, STEPS))
    return steps


def save(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Arrays by the names of their files.

    Raises:
        OutputError: One could not be written.
    """
    try:
        for name, array in arrays.items():
            np.save(folder / name, array)
    except OSError as error:
        raise OutputError(
            f"The result could not be written to '{folder}' ({error.strerror or error}): make room there and try again."
        ) from error
