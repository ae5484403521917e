"""What the tool remembers of each slice of a segmentation, at its node: saved with the scene.

That is how the labels were when the tool wrote them, so that slices the user corrects are known without being marked;
which slices a person corrected in earlier rounds; and where a correction would change most.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from dinsegment.images.fingerprint import changed_slices, slice_prints

SLICES_ATTRIBUTE = "DINSegment.Slices"
"""Of a segmentation node."""


@dataclass(frozen=True)
class Place:
    """A segment in a slice, and how much of it a correction is expected to change.

    Attributes:
        slice: Index along the image's slice axis, from 0.
        segment: Name of the segment.
        ml: Millilitres.
        position: Its place in mm, in the node's own coordinates, which its parent transforms move.
    """

    slice: int
    segment: str
    ml: float
    position: tuple[float, float, float]


@dataclass(frozen=True)
class SliceNotes:
    """What is remembered of the slices of one segmentation.

    Attributes:
        axis: Across which they lie, 0 (k) to 2 (i).
        prints: One short text a slice, of the labels as the tool wrote them.
        seen: Slices that a person corrected before the tool wrote them.
        first: Where to correct first, most to be gained first.
    """

    axis: int
    prints: tuple[str, ...]
    seen: tuple[int, ...] = ()
    first: tuple[Place, ...] = ()

    @classmethod
    def of(cls, labels: np.ndarray, axis: int, seen: Collection[int] = (), first: Sequence[Place] = ()) -> SliceNotes:
        """Notes on labels (k, j, i) that the tool writes."""
        return cls(axis, slice_prints(labels, axis), tuple(sorted(seen)), tuple(first))

    def corrected(self, labels: np.ndarray) -> tuple[int, ...]:
        """All slices that a person corrected: now, or in an earlier round.

        Args:
            labels: (k, j, i), as they are now.
        """
        return tuple(sorted({*self.seen, *changed_slices(self.prints, labels, self.axis)}))


def note_slices(segmentationNode: slicer.vtkMRMLSegmentationNode, notes: SliceNotes | None) -> None:
    """Keeps the notes at a segmentation, or takes them away."""
    if notes is None:
        segmentationNode.RemoveAttribute(SLICES_ATTRIBUTE)
        return
    first = [[p.slice, p.segment, round(p.ml, 3), [round(x, 3) for x in p.position]] for p in notes.first]
    content = {"axis": notes.axis, "prints": notes.prints, "seen": notes.seen, "first": first}
    segmentationNode.SetAttribute(SLICES_ATTRIBUTE, json.dumps(content))


def slice_notes(segmentationNode: slicer.vtkMRMLSegmentationNode | None) -> SliceNotes | None:
    """What is kept at a segmentation; None where nothing is, or another program wrote something else there."""
    text = segmentationNode.GetAttribute(SLICES_ATTRIBUTE) if segmentationNode is not None else None
    try:
        return _read(**json.loads(text)) if text else None
    except (ValueError, TypeError):
        return None


def _read(axis: Any, prints: Any, seen: Any, first: Any) -> SliceNotes:
    places = tuple(Place(int(n), str(segment), float(ml), _three(position)) for n, segment, ml, position in first)
    if axis not in (0, 1, 2):
        raise ValueError(axis)
    return SliceNotes(axis, tuple(map(str, prints)), tuple(map(int, seen)), places)


def _three(position: Any) -> tuple[float, float, float]:
    x, y, z = map(float, position)
    return x, y, z


def places_of(found: Sequence[Mapping[str, Any]], names: Mapping[int, str], to_node: np.ndarray) -> list[Place]:
    """What the worker says of where to correct first.

    Args:
        found: Each with slice, segment (a label), ml, and ras, in mm in the world.
        names: Of the segments, by their labels; others are left out.
        to_node: 4x4, from that world to the node's own coordinates.
    """
    places = []
    for one in found:
        name = names.get(int(one["segment"]))
        if name is not None:
            position = _three((to_node @ (*map(float, one["ras"]), 1.0))[:3])
            places.append(Place(int(one["slice"]), name, float(one["ml"]), position))
    return places
