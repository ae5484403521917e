"""What the user has left of a task's segments, as the library has it: one labelmap on the grid of the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer

from dinsegment.errors import InputError
from dinsegment.tasks import Segment, Task
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene.edits import changed_segments
from dinsegment_slicer.scene.nodes import ijk_to_world, parent_to_world
from dinsegment_slicer.scene.segment_voxels import first_voxel, label_voxels
from dinsegment_slicer.scene.segments import LABELMAP
from dinsegment_slicer.scene.terminology import read_entry


@dataclass(frozen=True, eq=False)
class TaskLabels:
    """Labels of a task, cut to where there are any.

    Attributes:
        part: (k, j, i), uint8, a copy; one voxel without a label where there is none.
        first: Index (k, j, i) of its first voxel on the grid of the image.
        segment_ids: ID of the segment of each label that the segmentation has.
    """

    part: np.ndarray
    first: tuple[int, int, int]
    segment_ids: dict[int, str]


def task_labels(
    segmentationNode: slicer.vtkMRMLSegmentationNode, volumeNode: slicer.vtkMRMLScalarVolumeNode, task: Task
) -> TaskLabels:
    """The labels of a task's segments on the grid of an image. Neither node needs a scene; both stay as they are.

    Where segments overlap, a voxel belongs to the last one. Segments of the user's own are left out.

    Raises:
        InputError: The segmentation is made of surfaces alone.
    """
    segmentation = segmentationNode.GetSegmentation()
    ids = segments_of_task(segmentation, task)
    if ids and not segmentation.ContainsRepresentation(LABELMAP):
        raise InputError(
            _(
                "'{name}' is no labelmap: create its representation 'Binary labelmap' (module Segmentations, section "
                "Representations) to get its report."
            ).format(name=segmentationNode.GetName())
        )
    image_to_node = np.linalg.inv(parent_to_world(segmentationNode)) @ ijk_to_world(volumeNode)
    part = _labelled_part(segmentation, ids, image_to_node, volumeNode.GetImageData().GetDimensions()[::-1])
    labels = {segment_id: label for label, segment_id in ids.items()}
    voxels = label_voxels(segmentationNode, labels, image_to_node, part)
    return TaskLabels(voxels, (part[0].start, part[1].start, part[2].start), ids)


def segments_of_task(segmentation: slicer.vtkSegmentation, task: Task) -> dict[int, str]:
    """The IDs of the segments that are a task's, by its labels; their names are the user's.

    A segment is told by what it is, type and modifier of its terminology, of several by the ID that it was made with;
    else by that ID alone.
    """
    found = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
    codes = {i: _codes(segmentation.GetSegment(i)) for i in found}
    ids: dict[int, str] = {}
    for exactly in (True, False):
        for segment in task.segments:
            if segment.label in ids:
                continue
            left = [i for i in found if i not in ids.values()]
            alike = [i for i in left if codes[i] == _wanted(segment)]
            named = [i for i in (alike if exactly else left) if i == segment.name]
            chosen = next(iter(named + alike), None)
            if chosen is not None:
                ids[segment.label] = chosen
    return dict(sorted(ids.items()))


def changed_labels(segmentationNode: slicer.vtkMRMLSegmentationNode, task: Task) -> frozenset[int]:
    """Labels of the task's segments that are not, or not any more, what a network made."""
    ids, changed = segments_of_task(segmentationNode.GetSegmentation(), task), changed_segments(segmentationNode)
    return frozenset(s.label for s in task.segments if s.label not in ids or ids[s.label] in changed)


def _codes(segment: slicer.vtkSegment) -> tuple[str, ...]:
    entry = read_entry(segment.GetTerminology())
    return tuple(f"{c.scheme}^{c.value}" if c is not None else "" for c in (entry.type, entry.modifier))


def _wanted(segment: Segment) -> tuple[str, ...]:
    return tuple(f"{c.scheme}^{c.value}" if c is not None else "" for c in (segment.type, segment.modifier))


def _labelled_part(
    segmentation: slicer.vtkSegmentation, ids: dict[int, str], image_to_node: np.ndarray, shape: tuple[int, ...]
) -> tuple[slice, slice, slice]:
    """The part of an image (k, j, i) that the labelmaps of segments cover; one voxel where they cover none of it."""
    covered = []
    for segment_id in ids.values():
        image = segmentation.GetSegment(segment_id).GetRepresentation(LABELMAP)
        if image is None or image.IsEmpty():
            continue
        first = first_voxel(image, image_to_node)
        if first is None:  # It is on another grid: wherever that may reach.
            return tuple(slice(0, n) for n in shape)
        covered.append((first, np.add(first, image.GetDimensions()[::-1])))
    if not covered:
        return tuple(slice(0, 1) for _axis in shape)
    low = np.clip(np.min([first for first, _end in covered], axis=0), 0, np.subtract(shape, 1))
    high = np.clip(np.max([end for _first, end in covered], axis=0), low + 1, shape)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
