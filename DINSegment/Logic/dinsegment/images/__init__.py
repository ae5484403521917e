"""Images and what is known of them: `Volume`, reading and writing files, checks, slices."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    if name in ("read_volume", "read_volumes", "write_volume", "write_segmentation"):
        return getattr(import_module("dinsegment.images.reading"), name)
    raise AttributeError(name)
