"""Cine images: the sequence nodes that hold one, the images of their phases, and how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import slicer

from dinsegment.errors import InputError
from dinsegment.files import phase_names
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.running.segment_part import JobImage
from dinsegment_slicer.scene.browsers import browser_of, browsers, join, new_browser, proxy_of
from dinsegment_slicer.scene.changes import new_node
from dinsegment_slicer.scene.nodes import (
    ENHANCED_ATTRIBUTE,
    ENHANCED_MARK,
    ORIGINAL_ROLE,
    image_of,
    modality_of,
    parent_to_world,
)

MILLISECONDS = dict.fromkeys(("s", "sec", "second", "seconds"), 1000.0) | dict.fromkeys(
    ("ms", "msec", "millisecond", "milliseconds"), 1.0
)
"""Index units that tell time, in milliseconds."""

OVERLAY_ATTRIBUTES = ("DINSegment.Disagreement", "DINSegment.Unexpected")
"""Of volumes that lie over an image, where samples differ and what was not expected: the phase that one is of, from 0.
"""


def is_image_sequence(node: slicer.vtkMRMLNode | None) -> bool:
    """Whether `node` is a sequence node whose first phase is a grey volume."""
    if node is None or not node.IsA("vtkMRMLSequenceNode") or node.GetNumberOfDataNodes() == 0:
        return False
    return _is_grey_volume(node.GetNthDataNode(0))


def sequence_of(
    volumeNode: slicer.vtkMRMLVolumeNode | None,
) -> tuple[slicer.vtkMRMLSequenceBrowserNode, slicer.vtkMRMLSequenceNode] | None:
    """The browser and the image sequence of which `volumeNode` is the proxy, the volume that shows one phase.

    Of several browsers the one whose master the sequence is, else the first; None for an ordinary volume.
    """
    if volumeNode is None:
        return None
    found = []
    for browserNode in browsers(volumeNode.GetScene()):
        sequenceNode = browserNode.GetSequenceNode(volumeNode)
        if is_image_sequence(sequenceNode):
            found.append((browserNode, sequenceNode))
    masters = [pair for pair in found if pair[0].GetMasterSequenceNode() is pair[1]]
    return next(iter(masters + found), None)


def is_enhanced(node: slicer.vtkMRMLNode | None) -> bool:
    """Whether a volume, or a sequence of volumes, holds enhanced images, which are not to be segmented themselves.

    Scenes of older versions tell it of the volume alone, while its original is there.
    """
    if node is None:
        return False
    if node.GetAttribute(ENHANCED_ATTRIBUTE) or node.GetNodeReferenceID(ORIGINAL_ROLE):
        return True
    if node.IsA("vtkMRMLSequenceNode"):
        proxyNode = proxy_of(node)
        return proxyNode is not None and is_enhanced(proxyNode)
    return False


def is_of_result(node: slicer.vtkMRMLNode | None) -> bool:
    """Whether a volume or sequence belongs to a result, enhanced images and what lies over images: it is no input."""
    return node is not None and (is_overlay(node) or is_enhanced(node))


def is_overlay(node: slicer.vtkMRMLNode) -> bool:
    """Whether a volume lies over an image of a result."""
    return any(node.GetAttribute(name) is not None for name in OVERLAY_ATTRIBUTES)


def hidden_inputs(scene: slicer.vtkMRMLScene) -> list[str]:
    """IDs of the volumes and sequences that are no input: what belongs to results, sequences of no grey images.

    Args:
        scene: Any scene.

    Returns:
        What a node selector takes as `sortFilterProxyModel().hiddenNodeIDs`, in the order of the scene. A sequence
        that is still empty is not among them.
    """
    nodes = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
    return [
        node.GetID() for node in nodes if _is_other_sequence(node) or (_is_volume_like(node) and is_of_result(node))
    ]


def phases(sequenceNode: slicer.vtkMRMLSequenceNode) -> list[slicer.vtkMRMLScalarVolumeNode]:
    """The volumes of a cine, live, in the order of the index.

    They lie in a scene of the sequence's own, where parent transforms do not reach: `phase_images` places them in the
    world.

    Raises:
        InputError: The sequence is empty, or a phase is no grey volume, has no voxels, or is of another type.
    """
    if sequenceNode is None or not sequenceNode.IsA("vtkMRMLSequenceNode"):
        raise InputError(_("No sequence is selected: choose the image sequence to segment."))
    nodes = [sequenceNode.GetNthDataNode(index) for index in range(sequenceNode.GetNumberOfDataNodes())]
    if not nodes:
        raise InputError(
            _("The sequence '{name}' has no phases: load it again, or choose another.").format(
                name=sequenceNode.GetName()
            )
        )
    for number, node in enumerate(nodes, start=1):
        problem = _problem(node, nodes[0])
        if problem:
            raise InputError(problem.format(number=number, name=sequenceNode.GetName()))
    return nodes


def phase_images(sequenceNode: slicer.vtkMRMLSequenceNode) -> list[JobImage]:
    """The image of each phase, where it lies in the world, without copying it.

    Returns:
        Live views of the voxels (k, j, i). The linear parent transforms of the proxy are part of `ijk_to_ras`, its
        modality is that of the phases, and the names are that of the cine with the number of the phase.

    Raises:
        InputError: As `phases`, a phase is a single slice, or the proxy has a non-linear parent transform.
    """
    images = [image_of(node) for node in phases(sequenceNode)]
    _check_stacks(sequenceNode, images)
    names = phase_names(cine_name(sequenceNode), len(images))
    images = [replace(image, name=name) for image, name in zip(images, names, strict=True)]
    proxyNode = proxy_of(sequenceNode)
    if proxyNode is None:
        return images
    to_world, modality = parent_to_world(proxyNode), modality_of(proxyNode)
    return [
        replace(image, ijk_to_ras=to_world @ image.ijk_to_ras, modality=image.modality or modality) for image in images
    ]


def times_ms(sequenceNode: slicer.vtkMRMLSequenceNode) -> list[float] | None:
    """When each phase was taken, in milliseconds; None where the index does not tell time."""
    factor = MILLISECONDS.get(sequenceNode.GetIndexUnit().strip().lower())
    if factor is None or sequenceNode.GetIndexType() != slicer.vtkMRMLSequenceNode.NumericIndex:
        return None
    try:
        times = [float(value) * factor for value in index_values(sequenceNode)]
    except ValueError:
        return None
    return times if np.isfinite(times).all() else None


def index_values(sequenceNode: slicer.vtkMRMLSequenceNode) -> list[str]:
    """The index value of each phase, as Slicer keeps it, in the order of the index."""
    return [sequenceNode.GetNthIndexValue(index) for index in range(sequenceNode.GetNumberOfDataNodes())]


def cine_name(sequenceNode: slicer.vtkMRMLSequenceNode) -> str:
    """What the user calls the cine: the name of its proxy, unless that changes with the phase."""
    proxyNode = proxy_of(sequenceNode)
    if proxyNode is None or browser_of(sequenceNode).GetOverwriteProxyName(sequenceNode):
        return sequenceNode.GetName() or "sequence"
    return proxyNode.GetName() or "sequence"


def show_in_browser(sequenceNode: slicer.vtkMRMLSequenceNode) -> slicer.vtkMRMLSequenceBrowserNode:
    """The browser of a sequence in a scene; a new one, with a volume that shows its first phase, where there is none.

    Its window and level are those of the first phase, and stay: they would flicker as the cine plays.
    """
    browserNode = browser_of(sequenceNode)
    if browserNode is None:
        browserNode = new_browser(sequenceNode)
        displayNode = image_proxy(browserNode, sequenceNode).GetDisplayNode()
        displayNode.SetAutoWindowLevel(False)
    return browserNode


def image_proxy(
    browserNode: slicer.vtkMRMLSequenceBrowserNode, sequenceNode: slicer.vtkMRMLSequenceNode
) -> slicer.vtkMRMLScalarVolumeNode:
    """The volume that shows the cine; a new one where there is none, as in a new browser."""
    if not browserNode.IsSynchronizedSequenceNode(sequenceNode, True):
        browserNode.SetAndObserveMasterSequenceNodeID(sequenceNode.GetID())
    proxyNode = browserNode.GetProxyNode(sequenceNode)
    if proxyNode is None:
        proxyNode = sequenceNode.GetScene().AddNode(new_proxy(sequenceNode))
        join(browserNode, sequenceNode, proxyNode, saveChanges=False)
        proxyNode.CreateDefaultDisplayNodes()
    return proxyNode


def new_proxy(sequenceNode: slicer.vtkMRMLSequenceNode) -> slicer.vtkMRMLDisplayableNode:
    """A node for a phase of `sequenceNode`, still in no scene and without content."""
    mark = ENHANCED_MARK if is_enhanced(sequenceNode) else None
    className = sequenceNode.GetNthDataNode(0).GetClassName()
    return new_node(sequenceNode.GetScene(), className, sequenceNode.GetName(), mark)


def show_cine(sequenceNode: slicer.vtkMRMLSequenceNode) -> None:
    """Shows a sequence in the slice views, and the tool bar that plays it; it is the application's active volume."""
    slicer.modules.sequences.showSequenceBrowser(browser_of(sequenceNode))
    volumeNode = proxy_of(sequenceNode)
    slicer.app.applicationLogic().GetSelectionNode().SetActiveVolumeID(volumeNode.GetID())
    if slicer.app.layoutManager() is not None:  # There may be no window.
        slicer.util.setSliceViewerLayers(background=volumeNode, fit=True, rotateToVolumePlane=True)


def _is_volume_like(node: slicer.vtkMRMLNode) -> bool:
    return node.IsA("vtkMRMLVolumeNode") or node.IsA("vtkMRMLSequenceNode")


def _is_other_sequence(node: slicer.vtkMRMLNode) -> bool:
    return node.IsA("vtkMRMLSequenceNode") and node.GetNumberOfDataNodes() > 0 and not is_image_sequence(node)


def _is_grey_volume(node: slicer.vtkMRMLNode | None) -> bool:
    if node is None or not node.IsA("vtkMRMLScalarVolumeNode") or node.IsA("vtkMRMLLabelMapVolumeNode"):
        return False
    # Colour and vectors are scalar volumes, too.
    return node.GetImageData() is None or node.GetImageData().GetNumberOfScalarComponents() == 1


def _problem(node: slicer.vtkMRMLNode | None, first: slicer.vtkMRMLNode | None) -> str | None:
    """What keeps a phase, {number} of {name}, from being segmented; None if nothing does."""
    if not _is_grey_volume(node):
        return _("Phase {number} of the sequence '{name}' is no grey image: choose a sequence of grey images.")
    if node.GetClassName() != first.GetClassName():
        return _(
            "Phase {number} of the sequence '{name}' is of another type than the first: choose a sequence of grey "
            "images that are all of one type."
        )
    image = node.GetImageData()
    voxels = image.GetPointData().GetScalars() if image else None
    if voxels is None or voxels.GetNumberOfTuples() == 0:
        return _("Phase {number} of the sequence '{name}' holds no image: load it again, or choose another sequence.")
    return None


def _check_stacks(sequenceNode: slicer.vtkMRMLSequenceNode, images: Sequence[JobImage]) -> None:
    """Raises InputError where a phase is one slice: no task can measure a volume in it.

    Slicer's DICOM reader "Image sequence" makes such frames of a cine, one for each slice of each phase; they are told
    from a cine of one slice by their places.
    """
    single = [image for image in images if 1 in image.array.shape]
    places = {tuple(np.round(image.ijk_to_ras, 3).ravel()) for image in single}
    if not single:
        return
    if len(places) == 1 and len(single) == len(images):
        text = _(
            "The sequence '{name}' shows one slice only, which has no volume: choose a cine of several slices. If the "
            "others are series of their own, load them all: then they can be joined."
        )
    else:
        text = _(
            "In the sequence '{name}', {count} of {total} frames are single slices, where each phase should be a "
            "volume: join them with the button below the chosen image. Where it is not there, the slices make up no "
            "stack: choose a cine of parallel slices that are evenly spaced."
        )
    raise InputError(text.format(name=sequenceNode.GetName(), count=len(single), total=len(images)))
