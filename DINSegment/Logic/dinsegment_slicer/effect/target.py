"""What strokes correct: a segment that a model knows, in the image that it lies on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import slicer

from dinsegment.errors import DINSegmentError, InputError
from dinsegment.models.entries import find_entry
from dinsegment.tasks import TASKS, Segment, Task
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene.edits import model_gone, model_name, tag
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
        model: Name, or folder, of the model that made the segmentation; None for the task's first.
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

    def is_in(self, segmentationNode: slicer.vtkMRMLSegmentationNode | None) -> bool:
        """Whether the segment is still one of a segmentation, that which is edited now."""
        same = segmentationNode is not None and segmentationNode is self.segmentationNode
        return same and segmentationNode.GetSegmentation().GetSegment(self.segmentID) is not None


def find_target(
    segmentationNode: slicer.vtkMRMLSegmentationNode | None,
    segmentID: str | None,
    volumeNode: slicer.vtkMRMLScalarVolumeNode | None,
    named: Callable[[str], str | None] = str,
) -> Target:
    """What is corrected in a segment, by its terminology or its name.

    Args:
        segmentationNode: The segmentation.
        segmentID: Of the segment in it.
        volumeNode: The image.
        named: Tells of a model's name how `find_entry` is asked for it: by the name, or by the folder of a training
            run; None for a model that is not there any more.

    Raises:
        InputError: Nothing is chosen, no model knows the segment, or the one that made it is not there any more; it
            says what to do.
    """
    if segmentationNode is None or volumeNode is None:
        raise InputError(_("Choose a segmentation and the image that it was made of."))
    checked_volume(volumeNode)
    check_in_scene(volumeNode)
    segment = segmentationNode.GetSegmentation().GetSegment(segmentID or "")
    if segment is None:
        raise InputError(_("Choose the segment to correct."))
    model, task = _model_of(segmentationNode, named)
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


def _model_of(
    segmentationNode: slicer.vtkMRMLSegmentationNode, named: Callable[[str], str | None]
) -> tuple[str | None, Task | None]:
    """The model that made a segmentation, and its task; None where no model has.

    Raises:
        InputError: It is nowhere to be found: another one would look at the image with other eyes.
    """
    name = model_name(segmentationNode)
    if name is None:
        return None, None
    model = named(name)
    try:
        if model is not None:
            return model, TASKS[find_entry(model, None).task]
    except (DINSegmentError, KeyError):  # It was removed, or is of another version.
        pass
    raise InputError(model_gone(name))


def _is(segment: slicer.vtkSegment, segmentID: str | None, known: Segment) -> bool:
    """Whether a segment of the user's is one of a task's."""
    terminology = tag(segment, slicer.vtkSegment.GetTerminologyEntryTagName()) or ""
    return terminology == known.terminology or known.name in (segmentID, segment.GetName())
