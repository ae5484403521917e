"""Volumes in millilitres, and what a beating heart's phases tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dinsegment.images.segmentation import Segmentation


@dataclass(frozen=True)
class SegmentVolume:
    """One segment's size: voxels, and millilitres from the grid they lie on."""

    name: str
    voxels: int
    volume_ml: float


def segment_volumes(segmentation: Segmentation) -> list[SegmentVolume]:
    """The size of every segment of the task, in the order of their labels; an absent one has 0 voxels."""
    # Plane by plane: bincount copies its input as int64, eight times the labels of a large CT.
    counts = sum(np.bincount(plane.ravel(), minlength=segmentation.task.classes) for plane in segmentation.labels)
    ml = segmentation.volume.voxel_volume_ml
    return [
        SegmentVolume(s.name, int(counts[s.label]), float(counts[s.label] * ml)) for s in segmentation.task.segments
    ]
