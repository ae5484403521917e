"""Heart MR and abdominal CT segmentation with the Dual Interaction Network (DIN).

    from dinsegment import read_volume, segment

    result = segment(read_volume("cine.nii.gz"), "heart")

An image comes in as a `Volume`, its labels go out as a `Segmentation` on the same grid. What is public is imported when
it is asked for, so that importing this package costs nothing. A research tool, not a medical device.
"""

from __future__ import annotations

from typing import Any

from dinsegment.version import __version__

__all__ = ["Segmentation", "Volume", "__version__", "read_volume", "segment"]


def __getattr__(name: str) -> Any:
    if name in ("Segmentation", "Volume", "read_volume"):
        from dinsegment import images

        return getattr(images, name)
    if name == "segment":
        from dinsegment.inference import segment

        return segment
    raise AttributeError(f"The package dinsegment has no '{name}'.")
