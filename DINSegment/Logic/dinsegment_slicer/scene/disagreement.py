"""Where samples differ, as a volume in the scene that lies over the image in slice views.

A view that shows it keeps what it had in front before, which comes back with `hide_disagreement`. Both are saved with
the scene.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import slicer

from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene.changes import made, new_node, restored_on_error, unique_name
from dinsegment_slicer.scene.content import grey_image
from dinsegment_slicer.scene.nodes import lay_on
from dinsegment_slicer.scene.sequences import DISAGREEMENT_ATTRIBUTE

BEFORE_ROLE = "DINSegment.Foreground"
"""Node reference of a view's composite node: what it had in front of the image."""

BEFORE_ATTRIBUTE = "DINSegment.ForegroundOpacity"
"""Attribute of a view's composite node that shows where samples differ, or has: how opaque that was."""

COLORS = "vtkMRMLColorTableNodeWarm1"
"""From yellow to red; one of Slicer's own."""

LOW, HIGH = 0.1, 0.6
"""Probabilities of another label: below the first nothing is shown, from the second on all is red."""


def add_disagreement(
    disagreement: np.ndarray, phase: int, volumeNode: slicer.vtkMRMLScalarVolumeNode
) -> slicer.vtkMRMLScalarVolumeNode:
    """A new volume with the probability of another label, right on an image in a scene.

    Args:
        disagreement: (k, j, i) float32 in 0..1, on the grid of the image.
        phase: Which one of a result it is of, from 0.
        volumeNode: The image; of a cine the proxy.
    """
    scene = volumeNode.GetScene()
    with restored_on_error(scene):
        name = unique_name(scene, _("{image} disagreement").format(image=volumeNode.GetName()))
        node = new_node(scene, "vtkMRMLScalarVolumeNode", name, {DISAGREEMENT_ATTRIBUTE: str(phase)})
        node.CopyOrientation(volumeNode)
        node.SetAndObserveImageData(made(grey_image(np.ascontiguousarray(disagreement, np.float32))))
        scene.AddNode(node)
        node.CreateDefaultDisplayNodes()
        displayNode = node.GetDisplayNode()
        displayNode.SetAndObserveColorNodeID(COLORS)
        displayNode.SetAutoWindowLevel(False)
        displayNode.SetWindowLevelMinMax(LOW, HIGH)
        displayNode.SetAutoThreshold(False)
        displayNode.SetThreshold(LOW, 1.0)
        displayNode.SetApplyThreshold(True)
        lay_on(node, volumeNode)
    return node


def phase_of(node: slicer.vtkMRMLScalarVolumeNode) -> int:
    """Which phase of a result a volume of `add_disagreement` is of, from 0."""
    text = node.GetAttribute(DISAGREEMENT_ATTRIBUTE) or ""
    return int(text) if text.isdecimal() else 0


def show_disagreement(
    node: slicer.vtkMRMLScalarVolumeNode, images: Collection[slicer.vtkMRMLScalarVolumeNode | None], opacity: float
) -> None:
    """Lays a volume of `add_disagreement` over images, in all slice views that show one of them.

    What the user has put in front there since stays.

    Args:
        node: The volume.
        images: What it is of: original and enhanced.
        opacity: 0 to 1.
    """
    ids = {image.GetID() for image in images if image is not None}
    for compositeNode in _composites(node.GetScene()):
        front = compositeNode.GetForegroundVolumeID()
        isOurs = compositeNode.GetAttribute(BEFORE_ATTRIBUTE) is not None
        if compositeNode.GetBackgroundVolumeID() not in ids:
            _give_back(compositeNode)
            continue
        if isOurs and front and not _is_disagreement(compositeNode, front):
            continue  # The user has chosen another one.
        with slicer.util.NodeModify(compositeNode):
            if not isOurs:
                compositeNode.SetNodeReferenceID(BEFORE_ROLE, front)
                compositeNode.SetAttribute(BEFORE_ATTRIBUTE, repr(compositeNode.GetForegroundOpacity()))
            if front != node.GetID():
                compositeNode.SetForegroundVolumeID(node.GetID())
            if compositeNode.GetForegroundOpacity() != opacity:
                compositeNode.SetForegroundOpacity(opacity)


def hide_disagreement(scene: slicer.vtkMRMLScene) -> None:
    """Gives all slice views what they had in front before; where the user has chosen another one, that stays."""
    for compositeNode in _composites(scene):
        _give_back(compositeNode)


def _give_back(compositeNode: slicer.vtkMRMLSliceCompositeNode) -> None:
    opacity = compositeNode.GetAttribute(BEFORE_ATTRIBUTE)
    if opacity is None:
        return
    front = compositeNode.GetForegroundVolumeID()
    with slicer.util.NodeModify(compositeNode):
        if not front or _is_disagreement(compositeNode, front):
            compositeNode.SetForegroundVolumeID(compositeNode.GetNodeReferenceID(BEFORE_ROLE))
            try:
                compositeNode.SetForegroundOpacity(float(opacity))
            except ValueError:  # It was not written here.
                compositeNode.SetForegroundOpacity(0.0)
        compositeNode.SetNodeReferenceID(BEFORE_ROLE, None)
        compositeNode.RemoveAttribute(BEFORE_ATTRIBUTE)


def _is_disagreement(compositeNode: slicer.vtkMRMLSliceCompositeNode, volume_id: str) -> bool:
    """Whether an ID is that of such a volume, or of one that was removed."""
    node = compositeNode.GetScene().GetNodeByID(volume_id)
    return node is None or node.GetAttribute(DISAGREEMENT_ATTRIBUTE) is not None


def _composites(scene: slicer.vtkMRMLScene) -> list[slicer.vtkMRMLSliceCompositeNode]:
    count = scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")
    return [scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode") for n in range(count)]
