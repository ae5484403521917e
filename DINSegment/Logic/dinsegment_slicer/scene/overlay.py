"""What lies over an image in slice views: where samples differ, or what a network did not expect, as a volume.

A view that shows it keeps what it had in front before, which comes back with `hide_overlay`. Both are saved with the
scene.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import slicer
import vtk

from dinsegment.worker_exchange import STEPS
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene.changes import made, new_node, restored_on_error, unique_name
from dinsegment_slicer.scene.content import grey_image
from dinsegment_slicer.scene.nodes import lay_on
from dinsegment_slicer.scene.sequences import OVERLAY_ATTRIBUTES, is_overlay

BEFORE_ROLE = "DINSegment.Foreground"
"""Node reference of a view's composite node: what it had in front of the image."""

BEFORE_ATTRIBUTE = "DINSegment.ForegroundOpacity"
"""Attribute of a view's composite node that has or had something of ours in front: how opaque that was before."""

COLORS = "vtkMRMLColorTableNodeWarm1"
"""From yellow to red; one of Slicer's own."""

UNITS = ("UCUM", f"/{STEPS}", f"1/{STEPS}")
"""Of a voxel: shares of 1 are kept in so many steps, a byte each, where float32 of a large CT takes 157 MB."""


@dataclass(frozen=True)
class Overlay:
    """A kind of volume that lies over an image.

    Attributes:
        attribute: Of the node: the phase of the result that it is of, from 0.
        low: Share of 1 below which nothing is shown.
        high: From here on all is red.
    """

    attribute: str
    low: float
    high: float


DISAGREEMENT = Overlay(OVERLAY_ATTRIBUTES[0], low=0.1, high=0.6)
"""Probability of another label."""

UNEXPECTED = Overlay(OVERLAY_ATTRIBUTES[1], low=0.15, high=0.5)
"""Difference from what a network expected, as a share of the grey range."""


def _words(kind: Overlay) -> tuple[str, str]:
    """Of a node that shows it: its name, with {image} in it, and what its values mean, with {steps}."""
    return {
        DISAGREEMENT: (_("{image} disagreement"), _("Probability of another label; {steps} is 1.")),
        UNEXPECTED: (
            _("{image} not expected"),
            _("Difference from what the network expected, as a share of the grey range; {steps} is 1."),
        ),
    }[kind]


def add_overlay(
    kind: Overlay, steps: np.ndarray, phase: int, volumeNode: slicer.vtkMRMLScalarVolumeNode
) -> slicer.vtkMRMLScalarVolumeNode:
    """A new volume right on an image in a scene. Window, threshold, colours and units say what its values mean.

    Args:
        kind: What it shows.
        steps: (k, j, i) uint8, STEPS for 1, on the grid of the image.
        phase: Which one of a result it is of, from 0.
        volumeNode: The image; of a cine the proxy.
    """
    scene = volumeNode.GetScene()
    with restored_on_error(scene):
        name, meaning = _words(kind)
        name = unique_name(scene, name.format(image=volumeNode.GetName()))
        node = new_node(scene, "vtkMRMLScalarVolumeNode", name, {kind.attribute: str(phase)})
        node.SetDescription(meaning.format(steps=STEPS))
        units = slicer.vtkCodedEntry()
        units.SetValueSchemeMeaning(UNITS[1], UNITS[0], UNITS[2])
        node.SetVoxelValueUnits(units)
        node.CopyOrientation(volumeNode)
        node.SetAndObserveImageData(made(grey_image(steps, vtk.VTK_UNSIGNED_CHAR)))
        scene.AddNode(node)
        node.CreateDefaultDisplayNodes()
        displayNode = node.GetDisplayNode()
        displayNode.SetAndObserveColorNodeID(COLORS)
        displayNode.SetAutoWindowLevel(False)
        displayNode.SetWindowLevelMinMax(STEPS * kind.low, STEPS * kind.high)
        displayNode.SetAutoThreshold(False)
        displayNode.SetThreshold(STEPS * kind.low, STEPS)
        displayNode.SetApplyThreshold(True)
        lay_on(node, volumeNode)
    return node


def phase_of(node: slicer.vtkMRMLScalarVolumeNode) -> int:
    """Which phase of a result a volume of `add_overlay` is of, from 0."""
    text = next((node.GetAttribute(name) for name in OVERLAY_ATTRIBUTES if node.GetAttribute(name)), "")
    return int(text) if text.isdecimal() else 0


def show_overlay(
    node: slicer.vtkMRMLScalarVolumeNode, images: Collection[slicer.vtkMRMLScalarVolumeNode | None], opacity: float
) -> None:
    """Lays a volume of `add_overlay` over images, in all slice views that show one of them.

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
        if isOurs and front and not _is_ours(compositeNode, front):
            continue  # The user has chosen another one.
        with slicer.util.NodeModify(compositeNode):
            if not isOurs:
                compositeNode.SetNodeReferenceID(BEFORE_ROLE, front)
                compositeNode.SetAttribute(BEFORE_ATTRIBUTE, repr(compositeNode.GetForegroundOpacity()))
            if front != node.GetID():
                compositeNode.SetForegroundVolumeID(node.GetID())
            if compositeNode.GetForegroundOpacity() != opacity:
                compositeNode.SetForegroundOpacity(opacity)


def hide_overlay(scene: slicer.vtkMRMLScene) -> None:
    """Gives all slice views what they had in front before; where the user has chosen another one, that stays."""
    for compositeNode in _composites(scene):
        _give_back(compositeNode)


def _give_back(compositeNode: slicer.vtkMRMLSliceCompositeNode) -> None:
    opacity = compositeNode.GetAttribute(BEFORE_ATTRIBUTE)
    if opacity is None:
        return
    front = compositeNode.GetForegroundVolumeID()
    with slicer.util.NodeModify(compositeNode):
        if not front or _is_ours(compositeNode, front):
            compositeNode.SetForegroundVolumeID(compositeNode.GetNodeReferenceID(BEFORE_ROLE))
            try:
                compositeNode.SetForegroundOpacity(float(opacity))
            except ValueError:  # It was not written here.
                compositeNode.SetForegroundOpacity(0.0)
        compositeNode.SetNodeReferenceID(BEFORE_ROLE, None)
        compositeNode.RemoveAttribute(BEFORE_ATTRIBUTE)


def _is_ours(compositeNode: slicer.vtkMRMLSliceCompositeNode, volume_id: str) -> bool:
    """Whether an ID is that of such a volume, or of one that was removed."""
    node = compositeNode.GetScene().GetNodeByID(volume_id)
    return node is None or is_overlay(node)


def _composites(scene: slicer.vtkMRMLScene) -> list[slicer.vtkMRMLSliceCompositeNode]:
    count = scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")
    return [scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode") for n in range(count)]
