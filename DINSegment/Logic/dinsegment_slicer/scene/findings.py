"""What looks wrong with a result, each with the place to look at: kept at the segmentation, saved with the scene."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import slicer

from dinsegment.images.segmentation import Finding
from dinsegment.tasks import Segment

FINDINGS_ATTRIBUTE = "DINSegment.Findings"
"""Of a segmentation node."""


@dataclass(frozen=True)
class NotedFinding:
    """A finding as a segmentation node keeps it.

    Attributes:
        text: A sentence for the user.
        position: Where to look, in mm in the node's own coordinates, which its parent transforms move; None for what
            has no place.
        segment: ID of the segment that it is about; None for none.
        short: The same in a few words, for one line of a list; empty where there are none.
        kind: Which rule it comes from.
        topic: What is wrong, without slices and what to do.
        slices: Slices that it is about, counted from 1.
        advice: What to do, where it is not to correct a segment.
        ml: Millilitres that a correction is expected to change; 0 where nothing is known.
    """

    text: str
    position: tuple[float, float, float] | None = None
    segment: str | None = None
    short: str = ""
    kind: str = ""
    topic: str = ""
    slices: tuple[int, ...] = ()
    advice: str = ""
    ml: float = 0.0

    def place(self, to_world: np.ndarray) -> tuple[float, float, float] | None:
        """Where it lies in the world (mm RAS), with the 4x4 of the node's parent transforms; None without a place."""
        if self.position is None:
            return None
        x, y, z = (to_world @ (*self.position, 1.0))[:3]
        return float(x), float(y), float(z)


def note_findings(
    segmentationNode: slicer.vtkMRMLSegmentationNode,
    findings: Iterable[Finding],
    segments: Sequence[Segment],
    to_node: np.ndarray,
) -> None:
    """Keeps the findings of a run at its segmentation.

    Args:
        segmentationNode: The segmentation.
        findings: With places in the world as it was when the image was read.
        segments: Of the task; what their labels mean.
        to_node: 4x4, from that world to the node's own coordinates.
    """
    ids = {segment.label: segment.name for segment in segments}
    noted = []
    for finding in findings:
        position = None
        if finding.place is not None:
            position = [round(float(x), 3) for x in (to_node @ (*finding.place, 1.0))[:3]]
        segment = ids.get(finding.segment)
        about = {"segment": segment, "short": finding.short, "kind": finding.kind, "ml": round(finding.ml, 3)}
        several = {"topic": finding.topic, "slices": list(finding.slices), "advice": finding.advice}
        noted.append({"text": finding.text, "position": position} | about | several)
    if noted:
        segmentationNode.SetAttribute(FINDINGS_ATTRIBUTE, json.dumps(noted))


def findings_of(segmentationNode: slicer.vtkMRMLSegmentationNode | None) -> list[NotedFinding]:
    """What is kept at a segmentation; nothing where another program wrote something else there."""
    text = segmentationNode.GetAttribute(FINDINGS_ATTRIBUTE) if segmentationNode is not None else None
    try:
        return [_read(**noted) for noted in json.loads(text or "[]")]
    except (ValueError, TypeError):
        return []


def show_segment(segmentationNode: slicer.vtkMRMLSegmentationNode, segment_id: str | None) -> None:
    """Makes a segmentation visible, and a segment in it that the user may have hidden."""
    displayNode = segmentationNode.GetDisplayNode()
    if displayNode is None:
        return
    displayNode.SetVisibility(True)
    if segment_id is not None and segmentationNode.GetSegmentation().GetSegment(segment_id) is not None:
        displayNode.SetSegmentVisibility(segment_id, True)


def _read(
    text: str,
    position: list[float] | None = None,
    segment: str | None = None,
    short: str = "",
    kind: str = "",
    topic: str = "",
    slices: Sequence[int] = (),
    advice: str = "",
    ml: float = 0.0,
) -> NotedFinding:
    x, y, z = position or (0.0, 0.0, 0.0)
    return NotedFinding(
        text=str(text),
        position=None if position is None else (float(x), float(y), float(z)),
        segment=None if segment is None else str(segment),
        short=str(short),
        kind=str(kind),
        topic=str(topic),
        slices=tuple(int(n) for n in slices),
        advice=str(advice),
        ml=float(ml),
    )
