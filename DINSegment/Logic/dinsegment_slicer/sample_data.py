"""Generated images as sample data: a heart at one phase as a volume, its whole beat as a sequence, and an abdomen."""

from __future__ import annotations

import numpy as np
import slicer

from dinsegment.images.volume import Volume
from dinsegment.phantom.ct import abdomen_phantom
from dinsegment.phantom.heart import cine_phantom, heart_phantom
from dinsegment_slicer.nodes import MODALITY_ATTRIBUTE

PHASES = 10
BEAT_MS = 1000.0

GRID = {"slices": 10, "size": (160, 176)}
"""Slices and in-plane size of both hearts: smaller than the phantom's own, which takes twice as long to generate."""


ABDOMEN_GRID = {"slices": 90, "spacing": (3.0, 1.5, 1.5), "size": (224, 256)}


def add_heart_phantom(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLScalarVolumeNode:
    """The phantom at end diastole. Equal voxels each time."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName("HeartPhantom"))
    _fill(node, heart_phantom(**GRID).volume)
    node.CreateDefaultDisplayNodes()
    return node


def heart_truth() -> np.ndarray:
    """What `add_heart_phantom` shows: (k, j, i), uint8, with the labels of the task heart."""
    return heart_phantom(**GRID).labels


def add_abdomen_phantom(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLScalarVolumeNode:
    """The CT phantom. Equal voxels each time."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName("AbdomenPhantom"))
    _fill(node, abdomen_phantom(**ABDOMEN_GRID).volume)
    node.CreateDefaultDisplayNodes()
    return node


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
        _fill(node, phantom.volume)
        sequenceNode.SetDataNodeAtValue(node, f"{number * BEAT_MS / phases:g}")
    browserNode = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{name} browser")
    browserNode.SetAndObserveMasterSequenceNodeID(sequenceNode.GetID())
    return browserNode


def _fill(node: slicer.vtkMRMLScalarVolumeNode, volume: Volume) -> None:
    # Whole numbers, in the type that scanners use.
    slicer.util.updateVolumeFromArray(node, volume.array.astype(np.int16))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(volume.ijk_to_ras))
    node.SetAttribute(MODALITY_ATTRIBUTE, volume.modality)
