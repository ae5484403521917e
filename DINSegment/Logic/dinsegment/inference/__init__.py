"""From a Volume to a Segmentation."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "segment":
        from dinsegment.inference.pipeline import segment

        return segment
    raise AttributeError(name)
