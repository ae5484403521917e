"""How segments are shown: as outlines or filled, and as surfaces in 3D."""

from __future__ import annotations

import slicer
import vtk

from dinsegment.errors import DINSegmentError
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.labelmaps import SEGMENTATION_LABELMAP

SEGMENTATION_SURFACE = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()


def show_outline(segmentationNode: slicer.vtkMRMLSegmentationNode, outline: bool) -> None:
    """Shows the segments in slice views as outlines only, or filled."""
    displayNode = _display_node(segmentationNode)
    displayNode.SetVisibility2DOutline(True)
    displayNode.SetVisibility2DFill(not outline)


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
