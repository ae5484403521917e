"""Cine images: sequence nodes of volumes in, sequences of segmentations and enhanced volumes beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import slicer

from dinsegment.errors import InputError
from dinsegment.files import phase_names
from dinsegment.images.segmentation import Segmentation
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.nodes import (
    ENHANCED_SUFFIX,
    check_in_scene,
    check_same_grid,
    copy_display,
    fill_enhanced,
    fill_segmentation,
    image_of,
    lay_on,
    modality_of,
    parent_to_world,
    refer_to_original,
)
from dinsegment_slicer.scene import restored_on_error
from dinsegment_slicer.segment_part import JobImage

MILLISECONDS = dict.fromkeys(("s", "sec", "second", "seconds"), 1000.0) | dict.fromkeys(
    ("ms", "msec", "millisecond", "milliseconds"), 1.0
)
"""Index units that tell time, in milliseconds."""


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
    for browserNode in _browsers(volumeNode.GetScene()):
        sequenceNode = browserNode.GetSequenceNode(volumeNode)
        if is_image_sequence(sequenceNode):
            found.append((browserNode, sequenceNode))
    masters = [pair for pair in found if pair[0].GetMasterSequenceNode() is pair[1]]
    return next(iter(masters + found), None)


def browser_of(sequenceNode: slicer.vtkMRMLSequenceNode) -> slicer.vtkMRMLSequenceBrowserNode | None:
    """The browser that shows a sequence: of several the one whose master it is, else the first; None for none."""
    browserNodes = [b for b in _browsers(sequenceNode.GetScene()) if b.IsSynchronizedSequenceNode(sequenceNode, True)]
    masters = [b for b in browserNodes if b.GetMasterSequenceNode() is sequenceNode]
    return next(iter(masters + browserNodes), None)


def proxy_of(sequenceNode: slicer.vtkMRMLSequenceNode) -> slicer.vtkMRMLDisplayableNode | None:
    """The node that shows the selected phase of a sequence; None where it is not in view."""
    browserNode = browser_of(sequenceNode)
    return browserNode.GetProxyNode(sequenceNode) if browserNode is not None else None


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
        InputError: As `phases`, or the proxy has a non-linear parent transform.
    """
    images = [image_of(node) for node in phases(sequenceNode)]
    names = phase_names(_name(sequenceNode), len(images))
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
        times = [float(value) * factor for value in _index_values(sequenceNode)]
    except ValueError:
        return None
    return times if np.isfinite(times).all() else None


@dataclass(frozen=True, eq=False)
class SequenceResult:
    """What a run on a cine added to the scene, and what it was made from.

    Attributes:
        browserNode: The browser of the cine, which now moves the three sequences together.
        segmentationSequenceNode: One segmentation per phase; what the user edits is kept in it.
        enhancedSequenceNode: One enhanced volume per phase.
        segmentationNode: Proxy of the segmentations: shows, and edits, the one of the selected phase.
        enhancedNode: Proxy of the enhanced volumes.
        segmentations: What was added, a phase each.
    """

    browserNode: slicer.vtkMRMLSequenceBrowserNode
    segmentationSequenceNode: slicer.vtkMRMLSequenceNode
    enhancedSequenceNode: slicer.vtkMRMLSequenceNode
    segmentationNode: slicer.vtkMRMLSegmentationNode
    enhancedNode: slicer.vtkMRMLScalarVolumeNode
    segmentations: tuple[Segmentation, ...]


def add_sequences_to_scene(
    sequenceNode: slicer.vtkMRMLSequenceNode, segmentations: Sequence[Segmentation]
) -> SequenceResult:
    """Adds the finished segmentations of a cine to its scene: all of it or, with an error, nothing.

    Two sequences with the index of `sequenceNode` join its browser (of several the one whose master it is, else the
    first; where there is none, a new one). Their proxies lie where the cine's proxy lies, which is their reference
    image; the enhanced one is shown like it.

    Args:
        sequenceNode: The cine, in a scene.
        segmentations: One per phase, in the same order.

    Raises:
        InputError: The cine is in no scene any more, or has other phases or grids than the segmentations.
        DINSegmentError: Slicer did not take the labels.
    """
    volumeNodes = _checked_phases(sequenceNode, segmentations)
    scene = sequenceNode.GetScene()
    with restored_on_error(scene):
        browserNode = browser_of(sequenceNode) or _new_browser(sequenceNode)
        with _browser_restored_on_error(browserNode):
            name = _name(sequenceNode)
            segmentationSequence = _new_sequence(sequenceNode, f"{name} {segmentations[0].task.title}")
            enhancedSequence = _new_sequence(sequenceNode, f"{name} {ENHANCED_SUFFIX}")
            for index, (segmentation, volumeNode) in enumerate(zip(segmentations, volumeNodes, strict=True)):
                value = sequenceNode.GetNthIndexValue(index)
                _add_segmentation(segmentationSequence, value, segmentation, volumeNode)
                _add_enhanced(enhancedSequence, value, segmentation, volumeNode)
            _check_same_index(sequenceNode, segmentationSequence)

            # In one step: the browser brings its proxies up to date at each change, and would make them itself.
            with slicer.util.NodeModify(browserNode):
                # A browser that plays or records neither keeps what is edited nor shows what is selected.
                browserNode.SetPlaybackActive(False)
                browserNode.SetRecordingActive(False)
                proxyNode = _image_proxy(browserNode, sequenceNode)
                enhancedNode = _add_proxy(browserNode, enhancedSequence, saveChanges=True)
                window = segmentations[0].task.grey_window
                copy_display(proxyNode.GetDisplayNode(), enhancedNode.GetDisplayNode(), window)
                segmentationNode = _add_proxy(browserNode, segmentationSequence, saveChanges=True)
                for node in (enhancedNode, segmentationNode):
                    lay_on(node, proxyNode)
                refer_to_original(enhancedNode, proxyNode)
                # Only the node: the geometry is that of the phase, and each segmentation has it.
                segmentationNode.SetNodeReferenceID(_REFERENCE_ROLE, proxyNode.GetID())
            return SequenceResult(
                browserNode=browserNode,
                segmentationSequenceNode=segmentationSequence,
                enhancedSequenceNode=enhancedSequence,
                segmentationNode=segmentationNode,
                enhancedNode=enhancedNode,
                segmentations=tuple(segmentations),
            )


def select_phase(browserNode: slicer.vtkMRMLSequenceBrowserNode, index: int) -> None:
    """Shows a phase, counted from 0: the scene's Sequences logic then brings all proxies of the browser to it.

    Raises:
        IndexError: There is no such phase.
    """
    if not 0 <= index < browserNode.GetNumberOfItems():
        raise IndexError(f"'{browserNode.GetName()}' has {browserNode.GetNumberOfItems()} phases, none is {index}.")
    browserNode.SetSelectedItemNumber(index)


_REFERENCE_ROLE = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()


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


def _checked_phases(
    sequenceNode: slicer.vtkMRMLSequenceNode, segmentations: Sequence[Segmentation]
) -> list[slicer.vtkMRMLScalarVolumeNode]:
    volumeNodes = phases(sequenceNode)
    check_in_scene(sequenceNode)
    if len(segmentations) != len(volumeNodes):
        raise InputError(
            _(
                "The sequence '{name}' has changed since it was segmented, from {old} phases to {new}: segment it "
                "again."
            ).format(name=sequenceNode.GetName(), old=len(segmentations), new=len(volumeNodes))
        )
    for segmentation, volumeNode in zip(segmentations, volumeNodes, strict=True):
        check_same_grid(segmentation, volumeNode)
    return volumeNodes


def _index_values(sequenceNode: slicer.vtkMRMLSequenceNode) -> list[str]:
    return [sequenceNode.GetNthIndexValue(index) for index in range(sequenceNode.GetNumberOfDataNodes())]


def _check_same_index(sequenceNode: slicer.vtkMRMLSequenceNode, made: slicer.vtkMRMLSequenceNode) -> None:
    # Slicer puts two phases whose values are equal, or nearly so, in one place.
    if _index_values(made) != _index_values(sequenceNode):
        raise InputError(
            _(
                "The sequence '{name}' has index values that are equal or not in order: correct them (module "
                "Sequences) and segment it again."
            ).format(name=sequenceNode.GetName())
        )


def _browsers(scene: slicer.vtkMRMLScene | None) -> list[slicer.vtkMRMLSequenceBrowserNode]:
    if scene is None:
        return []
    count = scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode")
    return [scene.GetNthNodeByClass(n, "vtkMRMLSequenceBrowserNode") for n in range(count)]


def _new_browser(sequenceNode: slicer.vtkMRMLSequenceNode) -> slicer.vtkMRMLSequenceBrowserNode:
    scene = sequenceNode.GetScene()
    # Not by class name, which only the Sequences module makes known to the scene.
    node = slicer.vtkMRMLSequenceBrowserNode()
    node.SetName(scene.GenerateUniqueName(f"{sequenceNode.GetName()} browser"))
    return scene.AddNode(node)


@contextmanager
def _browser_restored_on_error(browserNode: slicer.vtkMRMLSequenceBrowserNode) -> Iterator[None]:
    """Makes the browser forget what joined it inside the block if the block raises; the error goes on.

    The nodes themselves are for the caller to remove.
    """
    before = slicer.vtkMRMLSequenceBrowserNode()
    before.CopyContent(browserNode)
    try:
        yield
    except BaseException:
        browserNode.CopyContent(before)
        raise


def _name(sequenceNode: slicer.vtkMRMLSequenceNode) -> str:
    """What the user calls the cine: the name of its proxy, unless that changes with the phase."""
    proxyNode = proxy_of(sequenceNode)
    if proxyNode is None or browser_of(sequenceNode).GetOverwriteProxyName(sequenceNode):
        return sequenceNode.GetName() or "sequence"
    return proxyNode.GetName() or "sequence"


def _new_sequence(sequenceNode: slicer.vtkMRMLSequenceNode, name: str) -> slicer.vtkMRMLSequenceNode:
    """Without phases, with the kind of index of `sequenceNode`."""
    scene = sequenceNode.GetScene()
    node = scene.AddNewNodeByClass("vtkMRMLSequenceNode", scene.GenerateUniqueName(name))
    node.SetIndexName(sequenceNode.GetIndexName())
    node.SetIndexUnit(sequenceNode.GetIndexUnit())
    node.SetIndexType(sequenceNode.GetIndexType())
    node.SetNumericIndexValueTolerance(sequenceNode.GetNumericIndexValueTolerance())
    return node


def _add_phase(sequenceNode: slicer.vtkMRMLSequenceNode, value: str, className: str) -> slicer.vtkMRMLDisplayableNode:
    """A new, empty data node. It is filled where it lies, because Slicer puts a copy into the sequence."""
    empty = getattr(slicer, className)()
    empty.SetName(sequenceNode.GetName())
    return sequenceNode.SetDataNodeAtValue(empty, value)


def _add_segmentation(
    sequenceNode: slicer.vtkMRMLSequenceNode,
    value: str,
    segmentation: Segmentation,
    volumeNode: slicer.vtkMRMLScalarVolumeNode,
) -> None:
    node = _add_phase(sequenceNode, value, "vtkMRMLSegmentationNode")
    fill_segmentation(node, segmentation, volumeNode)
    # Slicer's import made a display node; what is shown is the proxy, with its own.
    node.GetScene().RemoveNode(node.GetDisplayNode())
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    # That noted the volume's ID as well, which has no meaning in the scene of another sequence.
    node.SetNodeReferenceID(_REFERENCE_ROLE, None)


def _add_enhanced(
    sequenceNode: slicer.vtkMRMLSequenceNode,
    value: str,
    segmentation: Segmentation,
    volumeNode: slicer.vtkMRMLScalarVolumeNode,
) -> None:
    fill_enhanced(_add_phase(sequenceNode, value, "vtkMRMLScalarVolumeNode"), segmentation, volumeNode)


def _image_proxy(
    browserNode: slicer.vtkMRMLSequenceBrowserNode, sequenceNode: slicer.vtkMRMLSequenceNode
) -> slicer.vtkMRMLScalarVolumeNode:
    """The volume that shows the cine; a new one where there is none, as in a new browser."""
    if not browserNode.IsSynchronizedSequenceNode(sequenceNode, True):
        browserNode.SetAndObserveMasterSequenceNodeID(sequenceNode.GetID())
    proxyNode = browserNode.GetProxyNode(sequenceNode)
    return proxyNode or _add_proxy(browserNode, sequenceNode, saveChanges=False)


def _add_proxy(
    browserNode: slicer.vtkMRMLSequenceBrowserNode, sequenceNode: slicer.vtkMRMLSequenceNode, *, saveChanges: bool
) -> slicer.vtkMRMLDisplayableNode:
    """Adds a node that shows the selected phase of `sequenceNode`, which joins the browser.

    Args:
        browserNode: Has a master sequence.
        sequenceNode: Its data nodes are shown.
        saveChanges: Whether what the user changes is kept, which makes the proxy share its content with the phase.
    """
    browserNode.AddSynchronizedSequenceNodeID(sequenceNode.GetID())
    browserNode.SetSaveChanges(sequenceNode, saveChanges)
    dataNode = _selected(browserNode, sequenceNode)
    node = sequenceNode.GetScene().AddNewNodeByClass(dataNode.GetClassName(), sequenceNode.GetName())
    node.CopyContent(dataNode, not saveChanges)
    node.CreateDefaultDisplayNodes()
    node.AddDefaultStorageNode()
    browserNode.AddProxyNode(node, sequenceNode, False)
    return node


def _selected(
    browserNode: slicer.vtkMRMLSequenceBrowserNode, sequenceNode: slicer.vtkMRMLSequenceNode
) -> slicer.vtkMRMLNode:
    """The data node of the phase that the browser shows; the first one while it shows none."""
    index = browserNode.GetSelectedItemNumber()
    if not 0 <= index < browserNode.GetNumberOfItems():
        return sequenceNode.GetNthDataNode(0)
    value = browserNode.GetMasterSequenceNode().GetNthIndexValue(index)
    return sequenceNode.GetDataNodeAtValue(value, False) or sequenceNode.GetNthDataNode(0)
