"""What strokes correct: a segment that a model knows, in the image that it lies on."""

from __future__ import annotations

from dataclasses import dataclass

import slicer

from dinsegment.errors import DINSegmentError, InputError
from dinsegment.models.entries import find_entry
from dinsegment.tasks import TASKS, Segment, Task
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene.edits import model_name, tag
from dinsegment_slicer.scene.nodes import check_in_scene, checked_volume
from dinsegment_slicer.scene.placement import Grid


@dataclass(frozen=True, eq=False)
class Target:
    """What strokes correct.

    Attributes:
        volumeNode: The image.
        segmentationNode: The segmentation.
        segmentID: Of the segment in it.
        task: What the model was trained for.
        label: Of the segment in the task.
        model: Name of the model that made the segmentation; None for the task's first.
        grid: Of the image, in the slices that the model looks at.
    """

    volumeNode: slicer.vtkMRMLScalarVolumeNode
    segmentationNode: slicer.vtkMRMLSegmentationNode
    segmentID: str
    task: Task
    label: int
    model: str | None
    grid: Grid

    @property
    def key(self) -> str:
        """What names the image, with the model that looks at it: another one if voxels or place change."""
        image = self.volumeNode.GetImageData()
        voxels = self.volumeNode.GetID(), image.GetMTime(), image.GetPointData().GetScalars().GetMTime()
        return repr((voxels, self.grid.key, self.task.name, self.model))


def find_target(
    segmentationNode: slicer.vtkMRMLSegmentationNode | None,
    segmentID: str | None,
    volumeNode: slicer.vtkMRMLScalarVolumeNode | None,
) -> Target:
    """What is corrected in a segment, by its terminology or its name.

    Raises:
        InputError: Nothing is chosen, or no model knows the segment; it says what to do.
    """
    if segmentationNode is None or volumeNode is None:
        raise InputError(_("Choose a segmentation and the image that it was made of."))
    checked_volume(volumeNode)
    check_in_scene(volumeNode)
    segment = segmentationNode.GetSegmentation().GetSegment(segmentID or "")
    if segment is None:
        raise InputError(_("Choose the segment to correct."))
    model, task = _model_of(segmentationNode)
    tasks = [task] if task is not None else list(TASKS.values())
    for one in tasks:
        known = next((s for s in one.segments if _is(segment, segmentID, s)), None)
        if known is not None:
            grid = Grid.of(volumeNode, one.plane)
            return Target(volumeNode, segmentationNode, segmentID, one, known.label, model, grid)
    names = ", ".join(s.name for one in tasks for s in one.segments)
    raise InputError(
        _("DIN does not know the segment '{name}': choose one of {names}.").format(name=segment.GetName(), names=names)
    )


def _model_of(segmentationNode: slicer.vtkMRMLSegmentationNode) -> tuple[str | None, Task | None]:
    """The model that made a segmentation, and its task; None for what is not known."""
    model = model_name(segmentationNode)
    try:
        return (model, TASKS[find_entry(model, None).task]) if model is not None else (None, None)
    except (DINSegmentError, KeyError):  # A run in a folder, or a model of another version.
        return None, None


def _is(segment: slicer.vtkSegment, segmentID: str | None, known: Segment) -> bool:
    """Whether a segment of the user's is one of a task's."""
    terminology = tag(segment, slicer.vtkSegment.GetTerminologyEntryTagName()) or ""
    return terminology == known.terminology or known.name in (segmentID, segment.GetName())
