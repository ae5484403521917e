"""How segments are shown: as outlines or filled, in which colours, and as surfaces in 3D."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import slicer
import vtk

from dinsegment.errors import DINSegmentError
from dinsegment.tasks import TASKS, Segment
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene.labelmaps import SEGMENTATION_LABELMAP
from dinsegment_slicer.scene.terminology import read_entry

Colors = Literal["distinct", "recommended"]
"""Colours that are told apart, or those that Slicer's terminologies recommend."""

SEGMENTATION_SURFACE = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()


def show_outline(segmentationNode: slicer.vtkMRMLSegmentationNode, outline: bool) -> None:
    """Shows the segments in slice views as outlines only, or filled."""
    displayNode = _display_node(segmentationNode)
    displayNode.SetVisibility2DOutline(True)
    displayNode.SetVisibility2DFill(not outline)


def show_colors(segmentationNodes: Iterable[slicer.vtkMRMLSegmentationNode], colors: Colors) -> None:
    """Gives the segments of the tasks these colours, each where it still has one of its two.

    Args:
        segmentationNodes: Of a sequence all its phases, the data nodes; the node that shows one shares its segments.
        colors: Which.
    """
    for segmentationNode in segmentationNodes:
        segmentation = segmentationNode.GetSegmentation()
        for n in range(segmentation.GetNumberOfSegments()):
            segment = segmentation.GetNthSegment(n)
            known = _segment_of_task(segment)
            if known is None:
                continue
            wanted = known.color if colors == "distinct" else known.recommended_color
            color = tuple(round(255 * channel) for channel in segment.GetColor())
            if color != wanted and color in (known.color, known.recommended_color):
                segment.SetColor(*(channel / 255 for channel in wanted))


def _segment_of_task(segment: slicer.vtkSegment) -> Segment | None:
    """The task's segment that a segment is by its terminology."""
    entry = read_entry(segment.GetTerminology())
    known = (s for task in TASKS.values() for s in task.segments)
    return next((s for s in known if (s.type, s.modifier) == (entry.type, entry.modifier)), None)


def has_surfaces(segmentationNode: slicer.vtkMRMLSegmentationNode) -> bool:
    """Whether `show_3d`, or the Segment Editor's button, shows the segments as surfaces."""
    return segmentationNode.GetSegmentation().ContainsRepresentation(SEGMENTATION_SURFACE)


def show_3d(segmentationNode: slicer.vtkMRMLSegmentationNode, shown: bool) -> None:
    """Shows the segments as surfaces in 3D views, or does not; surfaces that are not shown are not kept.

    Kept, they would be made anew at each stroke of the Segment Editor, whose own button does the same.

    Raises:
        DINSegmentError: Slicer could not make the surfaces.
    """
    displayNode = _display_node(segmentationNode)
    if shown:
        _give_type_to_empty_label_maps(segmentationNode)
        if not segmentationNode.CreateClosedSurfaceRepresentation():
            raise DINSegmentError(
                _("Slicer could not make surfaces of '{name}': its error log says why.").format(
                    name=segmentationNode.GetName()
                )
            )
        displayNode.SetPreferredDisplayRepresentationName3D(SEGMENTATION_SURFACE)
        if segmentationNode.GetSegmentation().ContainsRepresentation(SEGMENTATION_LABELMAP):
            displayNode.SetPreferredDisplayRepresentationName2D(SEGMENTATION_LABELMAP)
        displayNode.SetVisibility3D(True)
    elif segmentationNode.GetSegmentation().GetSourceRepresentationName() == SEGMENTATION_SURFACE:
        displayNode.SetVisibility3D(False)  # It has nothing else.
    else:
        segmentationNode.RemoveClosedSurfaceRepresentation()


def _give_type_to_empty_label_maps(segmentationNode: slicer.vtkMRMLSegmentationNode) -> None:
    """Slicer reports an error for each segment without voxels, whose label map has no type yet, unless it gets one."""
    segmentation = segmentationNode.GetSegmentation()
    for segmentID in segmentation.GetSegmentIDs():
        image = segmentation.GetSegment(segmentID).GetRepresentation(SEGMENTATION_LABELMAP)
        if image is not None and image.GetPointData().GetScalars() is None:
            image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)


def _display_node(segmentationNode: slicer.vtkMRMLSegmentationNode) -> slicer.vtkMRMLSegmentationDisplayNode:
    segmentationNode.CreateDefaultDisplayNodes()  # None where it has one.
    return segmentationNode.GetDisplayNode()
