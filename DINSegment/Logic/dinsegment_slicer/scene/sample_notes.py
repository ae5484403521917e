"""What samples of a result have told, kept at its segmentation: saved with the scene."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import slicer
from scipy import ndimage

from dinsegment.images.samples import Samples
from dinsegment.worker_exchange import STEPS
from dinsegment_slicer.scene.findings import NotedFinding

SAMPLES_ATTRIBUTE = "DINSegment.Samples"
"""Of a segmentation node; of a cine those of the phases that were asked about."""

NEAR_MM = 5.0
"""So far from a segment, in its slice, what samples draw is taken to be about it."""

SAME_SIZE = 1e-3
"""Share by which a voxel's volume may differ from what it was: a transform that scales makes other numbers."""


@dataclass(frozen=True, eq=False)
class SampleNotes:
    """What is kept.

    Attributes:
        samples: Without where they differ, which is a volume of its own.
        voxel_ml: Volume of a voxel when they were drawn.
        doubtful_ml: Of each finding, by its text: the volume that the samples draw otherwise in what it is about.
    """

    samples: Samples
    voxel_ml: float
    doubtful_ml: Mapping[str, float] = field(default_factory=dict)

    def fits(self, voxel_ml: float) -> bool:
        """Whether millilitres are still what they were."""
        return abs(voxel_ml / self.voxel_ml - 1) < SAME_SIZE


def note_samples(segmentationNode: slicer.vtkMRMLSegmentationNode, notes: SampleNotes | None) -> None:
    """Keeps the notes at a segmentation, or takes them away."""
    if notes is None:
        segmentationNode.RemoveAttribute(SAMPLES_ATTRIBUTE)
        return
    doubtful = {text: round(ml, 3) for text, ml in notes.doubtful_ml.items()}
    content = {"samples": notes.samples.to_dict(), "voxel_ml": notes.voxel_ml, "doubtful_ml": doubtful}
    segmentationNode.SetAttribute(SAMPLES_ATTRIBUTE, json.dumps(content))


def sample_notes(segmentationNode: slicer.vtkMRMLSegmentationNode | None) -> SampleNotes | None:
    """What is kept at a segmentation; None where nothing is, or another program wrote something else there."""
    text = segmentationNode.GetAttribute(SAMPLES_ATTRIBUTE) if segmentationNode is not None else None
    try:
        return _read(**json.loads(text)) if text else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _read(samples: Any, voxel_ml: Any, doubtful_ml: Any) -> SampleNotes:
    if not float(voxel_ml) > 0:
        raise ValueError(voxel_ml)
    doubtful = {str(text): float(ml) for text, ml in doubtful_ml.items()}
    return SampleNotes(Samples.from_dict(samples, np.zeros((0, 0, 0), np.float32)), float(voxel_ml), doubtful)


def with_doubtful(
    notes: SampleNotes,
    disagreement: np.ndarray,
    labels: np.ndarray,
    axis: int,
    spacing: Sequence[float],
    findings: Sequence[NotedFinding],
    ids: Mapping[int, str],
) -> SampleNotes:
    """The notes with what the samples say of each finding that is about slices.

    Args:
        notes: Of the same image.
        disagreement: The probability of another label, (k, j, i) uint8, STEPS for 1.
        labels: What it is another one than, (k, j, i).
        axis: Across which the slices lie.
        spacing: In mm, along (k, j, i).
        findings: What is to be checked.
        ids: IDs of the segments, by their labels.
    """
    found = {}
    label_of = {segment_id: label for label, segment_id in ids.items()}
    pixel = np.delete(np.asarray(spacing, float), axis)
    reach = [round(NEAR_MM / size) for size in pixel]
    for finding in findings:
        slices = [n - 1 for n in finding.slices if 0 < n <= labels.shape[axis]]
        if slices:
            ml = sum(
                _near(labels.take(n, axis), label_of.get(finding.segment), reach, disagreement.take(n, axis))
                for n in slices
            )
            found[finding.text] = float(ml * notes.voxel_ml) / STEPS
    return replace(notes, doubtful_ml=found)


def _near(labels: np.ndarray, label: int | None, reach: Sequence[int], disagreement: np.ndarray) -> float:
    """The sum of a slice's steps at a segment and beside it; of the whole slice where it has none there."""
    mask = labels == label if label is not None else labels > 0
    if not mask.any():
        return float(disagreement.sum())
    size = tuple(2 * n + 1 for n in reach)
    return float(disagreement[ndimage.maximum_filter(mask, size=size)].sum())
