"""The generated heart as sample data: one phase as a volume, a whole beat as a volume sequence."""

from __future__ import annotations

import numpy as np
import slicer

from dinsegment.phantom import Phantom, cine_phantom, heart_phantom
from dinsegment_slicer.nodes import MODALITY_ATTRIBUTE

PHASES = 10
BEAT_MS = 1000.0

GRID = {"slices": 10, "size": (160, 176)}
"""Slices and in-plane size of both: smaller than the phantom's own, which takes twice as long to generate."""


def add_heart_phantom(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLScalarVolumeNode:
    """The phantom at end diastole. Equal voxels each time."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName("HeartPhantom"))
    _fill(node, heart_phantom(**GRID))
    node.CreateDefaultDisplayNodes()
    return node


def heart_truth() -> np.ndarray:
    """What `add_heart_phantom` shows: (k, j, i), uint8, with the labels of the task heart."""
    return heart_phantom(**GRID).labels


def add_cine_phantom(scene: slicer.vtkMRMLScene, phases: int = PHASES) -> slicer.vtkMRMLSequenceBrowserNode:
    """A beat of the same heart: a sequence of volumes over milliseconds, and the browser that shows it.

    Returns:
        The browser; `GetProxyNode(GetMasterSequenceNode())` is the volume that shows the selected phase, made by
        Slicer's Sequences logic.
    """
    name = scene.GenerateUniqueName("CineHeartPhantom")
    sequenceNode = scene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    sequenceNode.SetIndexName("time")
    sequenceNode.SetIndexUnit("ms")
    for number, phantom in enumerate(cine_phantom(phases, **GRID)):
        node = slicer.vtkMRMLScalarVolumeNode()  # The sequence takes a copy, into a scene of its own.
        node.SetName(name)
        _fill(node, phantom)
        sequenceNode.SetDataNodeAtValue(node, f"{number * BEAT_MS / phases:g}")
    browserNode = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{name} browser")
    browserNode.SetAndObserveMasterSequenceNodeID(sequenceNode.GetID())
    return browserNode


def _fill(node: slicer.vtkMRMLScalarVolumeNode, phantom: Phantom) -> None:
    # Whole numbers, in the type that scanners use.
    slicer.util.updateVolumeFromArray(node, phantom.volume.array.astype(np.int16))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(phantom.volume.ijk_to_ras))
    node.SetAttribute(MODALITY_ATTRIBUTE, phantom.volume.modality)
