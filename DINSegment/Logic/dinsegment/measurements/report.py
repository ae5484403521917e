"""A segmentation as measurements.json has it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from dinsegment.images.segmentation import Segmentation
from dinsegment.measurements.volumes import segment_volumes


def report(segmentation: Segmentation) -> dict[str, Any]:
    """One segmentation as measurements.json has it."""
    return {
        "input": segmentation.volume.name,
        "segments": [asdict(s) for s in segment_volumes(segmentation)],
        "model": segmentation.model,
        "task": segmentation.task.name,
        "device": segmentation.device,
        "seconds": round(segmentation.seconds, 3),
        "warnings": list(segmentation.warnings),
        "findings": [
            finding.to_dict(segmentation.volume, segmentation.task.plane) for finding in segmentation.findings
        ],
        "corrected_slices": [number + 1 for number in segmentation.corrected],
        "note": "Research tool, not a medical device.",
    }
