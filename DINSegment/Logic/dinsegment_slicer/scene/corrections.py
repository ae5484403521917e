"""A result that the user corrects: what it is now, which slices a person saw, and a new one in its place, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import slicer

from dinsegment.errors import InputError
from dinsegment.images.fingerprint import FINGERPRINT_TAG
from dinsegment.tasks import Segment, Task
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.running.correct_part import Corrected
from dinsegment_slicer.running.segment_part import JobImage
from dinsegment_slicer.scene.browsers import proxy_of, selected_phase
from dinsegment_slicer.scene.changes import made
from dinsegment_slicer.scene.content import label_content
from dinsegment_slicer.scene.edits import (
    ALGORITHM_NAME_TAG,
    ALGORITHM_TYPE_TAG,
    mark_edited,
    segment_fingerprints,
    tag,
)
from dinsegment_slicer.scene.findings import FINDINGS_ATTRIBUTE, note_findings
from dinsegment_slicer.scene.nodes import check_in_scene, local_ijk_to_ras
from dinsegment_slicer.scene.segment_display import has_surfaces, show_3d
from dinsegment_slicer.scene.segment_voxels import label_voxels
from dinsegment_slicer.scene.segments import with_segments
from dinsegment_slicer.scene.slice_notes import (
    SLICES_ATTRIBUTE,
    SliceNotes,
    note_slices,
    places_of,
    slice_notes,
)

ATTRIBUTES = (SLICES_ATTRIBUTE, FINDINGS_ATTRIBUTE)
"""Of a segmentation node: what goes with its segments."""


@dataclass(frozen=True, eq=False)
class Phase:
    """One phase of a result, or its only image.

    Attributes:
        segmentationNode: Of a sequence the data node.
        volumeNode: The image; of a sequence the data node.
        image: The same where it lies in the world.
        sequenceNode: The sequence that has the segmentation; None of a volume.
    """

    segmentationNode: slicer.vtkMRMLSegmentationNode
    volumeNode: slicer.vtkMRMLScalarVolumeNode
    image: JobImage
    sequenceNode: slicer.vtkMRMLSequenceNode | None = None

    @property
    def proxyNode(self) -> slicer.vtkMRMLSegmentationNode | None:
        """Of a sequence the node that shows this phase now; None while another one is in view, and of a volume."""
        sequenceNode = self.sequenceNode
        if sequenceNode is None:
            return None
        # Asked anew each time: while the worker computes, and before an undo, the browser may move on.
        shown = sequenceNode.GetNthDataNode(selected_phase(sequenceNode))
        return proxy_of(sequenceNode) if shown is self.segmentationNode else None

    def segments(self, task: Task) -> tuple[Segment, ...]:
        """As `network_segments`."""
        return network_segments(self.segmentationNode, task)

    def labels(self, task: Task) -> np.ndarray:
        """As `network_labels`."""
        return network_labels(self.segmentationNode, self.volumeNode, task)


def network_segments(segmentationNode: slicer.vtkMRMLSegmentationNode, task: Task) -> tuple[Segment, ...]:
    """The segments of a task that a network made and that are still there."""
    segmentation = segmentationNode.GetSegmentation()
    there = {s.name: segmentation.GetSegment(s.name) for s in task.segments}
    found = (s for s in task.segments if there[s.name] is not None)
    return tuple(s for s in found if tag(there[s.name], FINGERPRINT_TAG) is not None)


def network_labels(
    segmentationNode: slicer.vtkMRMLSegmentationNode, volumeNode: slicer.vtkMRMLScalarVolumeNode, task: Task
) -> np.ndarray:
    """What these segments cover now, (k, j, i) uint8 on the grid of the image; the nodes need no scene."""
    labels = {segment.name: segment.label for segment in network_segments(segmentationNode, task)}
    whole = tuple(slice(0, n) for n in volumeNode.GetImageData().GetDimensions()[::-1])
    return label_voxels(segmentationNode, labels, local_ijk_to_ras(volumeNode), whole)


def corrected_slices(
    segmentationNode: slicer.vtkMRMLSegmentationNode, volumeNode: slicer.vtkMRMLScalarVolumeNode, task: Task
) -> tuple[int, ...]:
    """The slices that a person corrected, from 0, now or before others followed; none where nothing is known."""
    notes = slice_notes(segmentationNode)
    if notes is None:
        return ()
    labels = network_labels(segmentationNode, volumeNode, task)
    return notes.corrected(labels) if labels.shape[notes.axis] == len(notes.prints) else ()


@dataclass(frozen=True, eq=False)
class Now:
    """A result as the user has it.

    Attributes:
        phases: As given.
        labels: Of each phase, (k, j, i) uint8.
        seen: Of each phase, the slices that a person corrected, in all rounds so far.
        fresh: Of each phase, those of them that were corrected since the tool last wrote labels.
    """

    phases: tuple[Phase, ...]
    labels: tuple[np.ndarray, ...]
    seen: tuple[tuple[int, ...], ...]
    fresh: tuple[tuple[int, ...], ...] = field(default=())


def look_at(phases: Sequence[Phase], task: Task) -> Now:
    """What a result is now.

    Raises:
        InputError: Nothing is known of its slices: it was made by an earlier version; or its image has another grid,
            or lies under another transform.
    """
    labels, seen, fresh = [], [], []
    for phase in phases:
        _check_same_transform(phase)
        notes = slice_notes(phase.segmentationNode)
        now = phase.labels(task)
        if notes is None or len(notes.prints) != now.shape[notes.axis]:
            raise InputError(
                _("It is not known which slices of '{name}' were corrected: segment it again.").format(
                    name=phase.image.name
                )
            )
        labels.append(now)
        seen.append(notes.corrected(now))
        fresh.append(replace(notes, seen=()).corrected(now))
    return Now(tuple(phases), tuple(labels), tuple(seen), tuple(fresh))


def _check_same_transform(phase: Phase) -> None:
    one, other = phase.segmentationNode, phase.volumeNode
    if one.GetParentTransformNode() is not other.GetParentTransformNode():
        raise InputError(
            _("'{name}' and '{image}' lie under different transforms: put them under the same one first.").format(
                name=one.GetName(), image=phase.image.name
            )
        )


@dataclass(frozen=True, eq=False)
class Before:
    """Segments and what goes with them, as they were before a change of the tool's.

    Attributes:
        phases: Those that were changed.
        segmentations: Theirs, before.
        attributes: Of their nodes, before.
        after: What the tool left, to tell whether anybody has changed it since: of each phase `_state`.
    """

    phases: tuple[Phase, ...]
    segmentations: tuple[slicer.vtkSegmentation, ...]
    attributes: tuple[tuple[str | None, ...], ...]
    after: tuple[dict[str, tuple[Any, ...]], ...]

    def changed_since(self) -> bool:
        """Whether anybody has changed, added, removed, renamed or recoloured a segment since the tool wrote."""
        return any(_state(phase) != after for phase, after in zip(self.phases, self.after, strict=True))

    def put_back(self) -> None:
        """Makes everything as it was.

        Raises:
            InputError: A node is in no scene any more.
        """
        for phase in self.phases:
            check_in_scene(phase.sequenceNode or phase.segmentationNode)
        for phase, segmentation, attributes in zip(self.phases, self.segmentations, self.attributes, strict=True):
            _put(phase, segmentation, attributes)


def apply(now: Now, corrected: Corrected, task: Task) -> Before:
    """Puts what the worker has made of the corrections in place of the segments: all phases or, with an error, none.

    Names, colours, tags, the user's own segments and what is shown stay. Segments that are not what a network once made
    are marked so, and it is remembered which slices a person saw.

    Args:
        now: What the worker was given.
        corrected: What it made of it.
        task: What is segmented.

    Raises:
        DINSegmentError: Slicer did not take the labels.
    """
    before = Before(
        now.phases,
        tuple(phase.segmentationNode.GetSegmentation() for phase in now.phases),
        tuple(tuple(phase.segmentationNode.GetAttribute(name) for name in ATTRIBUTES) for phase in now.phases),
        (),
    )
    try:
        for n, phase in enumerate(now.phases):
            _apply_to(phase, n, corrected, task)
    except BaseException:
        before.put_back()
        raise
    return replace(before, after=tuple(map(_state, now.phases)))


def _apply_to(phase: Phase, n: int, corrected: Corrected, task: Task) -> None:
    node, segments = phase.segmentationNode, phase.segments(task)
    old = node.GetSegmentation()
    labels = np.asarray(corrected.labels[n])
    content = made(label_content(labels, segments, local_ijk_to_ras(phase.volumeNode)))
    after, ids = with_segments(old, task.segments, segments, content, corrected.model)
    for segment in segments:  # What a network once made tells what is not its own any more.
        new, was = after.GetSegment(ids[segment.label]), old.GetSegment(ids[segment.label])
        for name in (FINGERPRINT_TAG, ALGORITHM_NAME_TAG, ALGORITHM_TYPE_TAG):
            if tag(was, name) is not None:
                new.SetTag(name, tag(was, name))
    to_node = local_ijk_to_ras(phase.volumeNode) @ np.linalg.inv(phase.image.ijk_to_ras)
    names = {segment.label: segment.name for segment in segments}
    known = slice_notes(node)
    notes = SliceNotes.of(labels, known.axis, corrected.seen[n], places_of(corrected.first[n], names, to_node))
    node.SetAndObserveSegmentation(after)
    node.RemoveAttribute(FINDINGS_ATTRIBUTE)
    about = [f for f in corrected.findings[n] if f.segment is None or f.segment in names]
    note_findings(node, about, segments, to_node)
    note_slices(node, notes)
    mark_edited(node)
    _show(phase)


def _state(phase: Phase) -> dict[str, tuple[Any, ...]]:
    """All segments of a phase, the user's own among them, by their IDs: what an undo would take back."""
    segmentation = phase.segmentationNode.GetSegmentation()
    voxels = segment_fingerprints(phase.segmentationNode)
    found = {i: segmentation.GetSegment(i) for i in segmentation.GetSegmentIDs()}
    return {i: (segment.GetName(), segment.GetColor(), voxels.get(i)) for i, segment in found.items()}


def _put(phase: Phase, segmentation: slicer.vtkSegmentation, attributes: Sequence[str | None]) -> None:
    node = phase.segmentationNode
    node.SetAndObserveSegmentation(segmentation)
    for name, value in zip(ATTRIBUTES, attributes, strict=True):
        if value is None:
            node.RemoveAttribute(name)
        else:
            node.SetAttribute(name, value)
    _show(phase)


def _show(phase: Phase) -> None:
    """Brings the node that shows a phase up to date with it, surfaces included."""
    shown = phase.proxyNode or phase.segmentationNode
    solid = has_surfaces(shown)
    if phase.proxyNode is not None:
        phase.proxyNode.CopyContent(phase.segmentationNode, False)
    if solid:
        show_3d(shown, True)
