"""The point at which the right ventricle's wall meets the left one's in front: where the AHA's segments begin."""

from __future__ import annotations

import slicer

from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene.changes import unique_name

POINT_EVENTS = (
    slicer.vtkMRMLMarkupsNode.PointModifiedEvent,
    slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent,
    slicer.vtkMRMLMarkupsNode.PointPositionUndefinedEvent,
    slicer.vtkMRMLMarkupsNode.PointRemovedEvent,
)
"""What a point says of itself when it is placed, dragged or taken away."""


def add_point(
    scene: slicer.vtkMRMLScene, place: tuple[float, float, float] | None = None
) -> slicer.vtkMRMLMarkupsFiducialNode:
    """A markups node for the one point.

    Args:
        scene: Where it is added.
        place: Where the point is (mm in world RAS); None for a point that is still to be placed.
    """
    name = unique_name(scene, _("Anterior insertion"))
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    node.SetControlPointLabelFormat("%N")
    node.SetMaximumNumberOfControlPoints(1)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetTextScale(2.5)
    if place is not None:
        node.AddControlPointWorld(*place)
    return node


def place_of(node: slicer.vtkMRMLMarkupsFiducialNode | None) -> tuple[float, float, float] | None:
    """Where the point is (mm in world RAS); None while it is not placed."""
    if node is None or node.GetNumberOfDefinedControlPoints() < 1:
        return None
    defined = slicer.vtkMRMLMarkupsNode.PositionDefined
    for n in range(node.GetNumberOfControlPoints()):
        if node.GetNthControlPointPositionStatus(n) == defined:
            place = [0.0, 0.0, 0.0]
            node.GetNthControlPointPositionWorld(n, place)
            return place[0], place[1], place[2]
    return None


def start_placing(node: slicer.vtkMRMLMarkupsFiducialNode, applicationLogic: slicer.vtkMRMLApplicationLogic) -> None:
    """The next click into a view places the point."""
    selectionNode, interactionNode = applicationLogic.GetSelectionNode(), applicationLogic.GetInteractionNode()
    selectionNode.SetReferenceActivePlaceNodeClassName(node.GetClassName())
    selectionNode.SetActivePlaceNodeID(node.GetID())
    interactionNode.SwitchToSinglePlaceMode()


def stop_placing(applicationLogic: slicer.vtkMRMLApplicationLogic) -> None:
    """A click into a view places nothing."""
    applicationLogic.GetInteractionNode().SwitchToViewTransformMode()
