"""Cine images: sequence nodes of volumes in, sequences of segmentations and enhanced volumes beside them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import slicer
import vtk

from dinsegment.errors import InputError
from dinsegment.files import phase_names
from dinsegment.images.segmentation import Segmentation
from dinsegment.tasks import Segment
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.running.segment_part import JobImage
from dinsegment_slicer.scene.changes import Steps, all_or_nothing, made, new_node, unique_name
from dinsegment_slicer.scene.content import LabelContent, grey_image, label_content
from dinsegment_slicer.scene.nodes import (
    ENHANCED_ATTRIBUTE,
    ENHANCED_MARK,
    ENHANCED_SUFFIX,
    ORIGINAL_ROLE,
    REFERENCE_ROLE,
    check_in_scene,
    check_same_grid,
    content_restored_on_error,
    copy_display,
    display_segments,
    fill_enhanced,
    fill_segmentation,
    image_of,
    lay_on,
    local_ijk_to_ras,
    modality_of,
    parent_to_world,
    refer_to_original,
)
from dinsegment_slicer.scene.segment_display import has_surfaces, show_3d
from dinsegment_slicer.scene.segments import wanted_segments

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


def hidden_inputs(scene: slicer.vtkMRMLScene) -> list[str]:
    """IDs of the volumes and sequences that are no input: enhanced images, sequences of anything but grey images.

    Args:
        scene: Any scene.

    Returns:
        What a node selector takes as `sortFilterProxyModel().hiddenNodeIDs`, in the order of the scene. A sequence
        that is still empty is not among them.
    """
    nodes = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
    return [node.GetID() for node in nodes if _is_other_sequence(node) or (_is_volume_like(node) and is_enhanced(node))]


def browser_of(sequenceNode: slicer.vtkMRMLSequenceNode) -> slicer.vtkMRMLSequenceBrowserNode | None:
    """The browser that shows a sequence: of several the one whose master it is, else the first; None for none."""
    browserNodes = [b for b in _browsers(sequenceNode.GetScene()) if b.IsSynchronizedSequenceNode(sequenceNode, True)]
    masters = [b for b in browserNodes if b.GetMasterSequenceNode() is sequenceNode]
    return next(iter(masters + browserNodes), None)


def show_in_browser(sequenceNode: slicer.vtkMRMLSequenceNode) -> slicer.vtkMRMLSequenceBrowserNode:
    """The browser of a sequence in a scene; a new one, with a volume that shows its first phase, where there is none.

    Its window and level are those of the first phase, and stay: they would flicker as the cine plays.
    """
    browserNode = browser_of(sequenceNode)
    if browserNode is None:
        browserNode = _new_browser(sequenceNode)
        displayNode = _image_proxy(browserNode, sequenceNode).GetDisplayNode()
        displayNode.SetAutoWindowLevel(False)
    return browserNode


def show_cine(sequenceNode: slicer.vtkMRMLSequenceNode) -> None:
    """Shows a sequence in the slice views, and the tool bar that plays it; it is the application's active volume."""
    slicer.modules.sequences.showSequenceBrowser(browser_of(sequenceNode))
    volumeNode = proxy_of(sequenceNode)
    slicer.app.applicationLogic().GetSelectionNode().SetActiveVolumeID(volumeNode.GetID())
    if slicer.app.layoutManager() is not None:  # There may be no window.
        slicer.util.setSliceViewerLayers(background=volumeNode, fit=True, rotateToVolumePlane=True)


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
        InputError: As `phases`, a phase is a single slice, or the proxy has a non-linear parent transform.
    """
    images = [image_of(node) for node in phases(sequenceNode)]
    _check_stacks(sequenceNode, images)
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
    sequenceNode: slicer.vtkMRMLSequenceNode,
    segmentations: Sequence[Segmentation],
    wanted: Collection[str] | None = None,
) -> SequenceResult:
    """Adds the finished segmentations of a cine to its scene: all of it or, with an error, nothing.

    Two sequences with the index of `sequenceNode` join its browser (of several the one whose master it is, else the
    first; where there is none, a new one). Their proxies lie where the cine's proxy lies, which is their reference
    image; the enhanced one is shown like it.

    Args:
        sequenceNode: The cine, in a scene.
        segmentations: One per phase, in the same order.
        wanted: Names of the task's segments that are added; None for all.

    Raises:
        InputError: The cine is in no scene any more, or has other phases or grids than the segmentations, or nothing is
            wanted.
        DINSegmentError: Slicer did not take the labels.
    """
    return made(adding_sequences(sequenceNode, segmentations, wanted))


def adding_sequences(
    sequenceNode: slicer.vtkMRMLSequenceNode,
    segmentations: Sequence[Segmentation],
    wanted: Collection[str] | None = None,
) -> Steps[SequenceResult]:
    """The steps of `add_sequences_to_scene`; the scene changes in the last few of them alone."""
    volumeNodes = _checked_phases(sequenceNode, segmentations)
    scene, task = sequenceNode.GetScene(), segmentations[0].task
    segments = wanted_segments(task, wanted)
    values = _index_values(sequenceNode)
    segmentationSequence = _new_sequence(sequenceNode, task.title)
    enhancedSequence = _new_sequence(sequenceNode, ENHANCED_SUFFIX, ENHANCED_MARK)
    yield
    for value, segmentation, volumeNode in zip(values, segmentations, volumeNodes, strict=True):
        content = yield from label_content(segmentation.labels, segments, local_ijk_to_ras(volumeNode))
        _add_segmentation(segmentationSequence, value, segmentation, volumeNode, segments, content)
        yield
        image = yield from grey_image(segmentation.enhanced.array)
        _add_enhanced(enhancedSequence, value, volumeNode, image)
        yield
    _check_same_index(sequenceNode, segmentationSequence)
    steps = _adding_to_browser(sequenceNode, segmentations, segmentationSequence, enhancedSequence)
    return (yield from all_or_nothing(scene, steps))


def refilling_sequences(
    sequenceNode: slicer.vtkMRMLSequenceNode,
    segmentations: Sequence[Segmentation],
    segmentationSequence: slicer.vtkMRMLSequenceNode,
    enhancedSequence: slicer.vtkMRMLSequenceNode,
    wanted: Collection[str] | None = None,
) -> Steps[SequenceResult]:
    """Puts the segmentations of a cine into the sequences that `adding_sequences` once added, bit by bit.

    Segments that the user added stay, and so does what is set of the display. All changes in the last step.

    Raises:
        InputError: As `add_sequences_to_scene`, or the sequences are not in the cine's browser or have other phases.
        DINSegmentError: Slicer did not take the labels.
    """
    volumeNodes = _checked_phases(sequenceNode, segmentations)
    segments = wanted_segments(segmentations[0].task, wanted)
    _check_belong_to(sequenceNode, segmentationSequence, enhancedSequence)
    yield
    contents, images = [], []
    for segmentation, volumeNode in zip(segmentations, volumeNodes, strict=True):
        contents.append((yield from label_content(segmentation.labels, segments, local_ijk_to_ras(volumeNode))))
        images.append((yield from grey_image(segmentation.enhanced.array)))
        yield
    volumeNodes = _checked_phases(sequenceNode, segmentations)
    browserNode = _check_belong_to(sequenceNode, segmentationSequence, enhancedSequence)
    segmented, enhanced = (
        [node.GetNthDataNode(n) for n in range(len(volumeNodes))] for node in (segmentationSequence, enhancedSequence)
    )
    proxies = [(browserNode.GetProxyNode(node), node) for node in (segmentationSequence, enhancedSequence)]
    solid = has_surfaces(proxies[0][0])
    with content_restored_on_error([*segmented, *enhanced, *(proxyNode for proxyNode, _node in proxies)]):
        for node, *made_of in zip(segmented, segmentations, volumeNodes, contents, strict=True):
            segmentation, volumeNode, content = made_of
            fill_segmentation(node, segmentation, volumeNode, segments, content)
            _refer_to_grid(node, volumeNode)
        for node, image, volumeNode in zip(enhanced, images, volumeNodes, strict=True):
            fill_enhanced(node, image, volumeNode)
        for proxyNode, node in proxies:
            proxyNode.CopyContent(node.GetNthDataNode(_selected(browserNode, node)), False)
        if solid:
            show_3d(proxies[0][0], True)
        return SequenceResult(
            browserNode=browserNode,
            segmentationSequenceNode=segmentationSequence,
            enhancedSequenceNode=enhancedSequence,
            segmentationNode=proxies[0][0],
            enhancedNode=proxies[1][0],
            segmentations=tuple(segmentations),
        )


def _check_belong_to(
    sequenceNode: slicer.vtkMRMLSequenceNode, *others: slicer.vtkMRMLSequenceNode
) -> slicer.vtkMRMLSequenceBrowserNode:
    """The browser that shows a cine together with the sequences of a result; raises InputError where none does."""
    browserNode = browser_of(sequenceNode)
    for node in others:
        check_in_scene(node)
        if browserNode is None or browserNode.GetProxyNode(node) is None:
            raise InputError(
                _("'{name}' is not shown together with '{cine}': choose a new segmentation.").format(
                    name=node.GetName(), cine=sequenceNode.GetName()
                )
            )
        if _index_values(node) != _index_values(sequenceNode):
            raise InputError(
                _("'{name}' has other phases than '{cine}': choose a new segmentation.").format(
                    name=node.GetName(), cine=sequenceNode.GetName()
                )
            )
    return browserNode


def _adding_to_browser(
    sequenceNode: slicer.vtkMRMLSequenceNode,
    segmentations: Sequence[Segmentation],
    segmentationSequence: slicer.vtkMRMLSequenceNode,
    enhancedSequence: slicer.vtkMRMLSequenceNode,
) -> Steps[SequenceResult]:
    scene, task = sequenceNode.GetScene(), segmentations[0].task
    needed = [sequenceNode]

    def add(node: slicer.vtkMRMLNode) -> slicer.vtkMRMLNode:
        for other in needed:
            check_in_scene(other)
        needed.append(scene.AddNode(node))
        return node

    for node, suffix in ((segmentationSequence, task.title), (enhancedSequence, ENHANCED_SUFFIX)):
        node.SetName(unique_name(scene, f"{_name(sequenceNode)} {suffix}"))
        add(node)
        yield
    enhancedNode = add(_proxy_of(enhancedSequence))
    source = proxy_of(sequenceNode)
    enhancedNode.CreateDefaultDisplayNodes()
    # Before it has voxels, or Slicer would look through all of them for a window that is not kept.
    if source is not None:
        copy_display(source.GetDisplayNode(), enhancedNode.GetDisplayNode(), task.grey_window)
    yield
    segmentationNode = add(_proxy_of(segmentationSequence))
    display_segments(segmentationNode)
    yield
    for other in needed:
        check_in_scene(other)
    _checked_phases(sequenceNode, segmentations)
    _check_same_index(sequenceNode, segmentationSequence)
    browserNode = browser_of(sequenceNode) or _new_browser(sequenceNode)
    # In one step: the browser brings its proxies up to date at each change, and would make them itself.
    with _browser_restored_on_error(browserNode), slicer.util.NodeModify(browserNode):
        # A browser that plays or records neither keeps what is edited nor shows what is selected.
        browserNode.SetPlaybackActive(False)
        browserNode.SetRecordingActive(False)
        if not _has_selection(browserNode):
            # Slicer would show, and add to sequences that keep changes, a phase with the index value 0.
            browserNode.SetSelectedItemNumber(0)
        proxyNode = _image_proxy(browserNode, sequenceNode)
        if proxyNode is not source:
            copy_display(proxyNode.GetDisplayNode(), enhancedNode.GetDisplayNode(), task.grey_window)
        for node, itsSequence in ((enhancedNode, enhancedSequence), (segmentationNode, segmentationSequence)):
            _join(browserNode, itsSequence, node, saveChanges=True)
            # By default Slicer invents the phases that a sequence lacks, as soon as they are selected.
            browserNode.SetMissingItemMode(itsSequence, browserNode.MissingItemSetToDefault)
            lay_on(node, proxyNode)
        refer_to_original(enhancedNode, proxyNode)
        # Only the node: the geometry is that of the phase, and each segmentation has it.
        segmentationNode.SetNodeReferenceID(REFERENCE_ROLE, proxyNode.GetID())
        return SequenceResult(
            browserNode=browserNode,
            segmentationSequenceNode=segmentationSequence,
            enhancedSequenceNode=enhancedSequence,
            segmentationNode=segmentationNode,
            enhancedNode=enhancedNode,
            segmentations=tuple(segmentations),
        )


def selected_phase(sequenceNode: slicer.vtkMRMLSequenceNode) -> int:
    """The phase of a sequence that its browser shows, counted from 0; the first one where none is selected."""
    browserNode = browser_of(sequenceNode)
    return _selected(browserNode, sequenceNode) if browserNode is not None else 0


def select_phase(browserNode: slicer.vtkMRMLSequenceBrowserNode, index: int) -> None:
    """Shows a phase, counted from 0: the scene's Sequences logic then brings all proxies of the browser to it.

    Raises:
        IndexError: There is no such phase.
    """
    if not 0 <= index < browserNode.GetNumberOfItems():
        raise IndexError(f"'{browserNode.GetName()}' has {browserNode.GetNumberOfItems()} phases, none is {index}.")
    browserNode.SetSelectedItemNumber(index)


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
    node.SetName(unique_name(scene, f"{sequenceNode.GetName()} browser"))
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


def _new_sequence(
    sequenceNode: slicer.vtkMRMLSequenceNode, suffix: str, attributes: Mapping[str, str] | None = None
) -> slicer.vtkMRMLSequenceNode:
    """In no scene, without phases, with the kind of index of `sequenceNode`."""
    name = f"{_name(sequenceNode)} {suffix}"
    node = new_node(sequenceNode.GetScene(), "vtkMRMLSequenceNode", name, attributes)
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
    segments: Sequence[Segment],
    content: LabelContent,
) -> None:
    node = _add_phase(sequenceNode, value, "vtkMRMLSegmentationNode")
    fill_segmentation(node, segmentation, volumeNode, segments, content)
    _refer_to_grid(node, volumeNode)


def _refer_to_grid(node: slicer.vtkMRMLSegmentationNode, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> None:
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    # That noted the volume's ID as well, which has no meaning in the scene of another sequence.
    node.SetNodeReferenceID(REFERENCE_ROLE, None)


def _add_enhanced(
    sequenceNode: slicer.vtkMRMLSequenceNode,
    value: str,
    volumeNode: slicer.vtkMRMLScalarVolumeNode,
    image: vtk.vtkImageData,
) -> None:
    fill_enhanced(_add_phase(sequenceNode, value, "vtkMRMLScalarVolumeNode"), image, volumeNode)


def _image_proxy(
    browserNode: slicer.vtkMRMLSequenceBrowserNode, sequenceNode: slicer.vtkMRMLSequenceNode
) -> slicer.vtkMRMLScalarVolumeNode:
    """The volume that shows the cine; a new one where there is none, as in a new browser."""
    if not browserNode.IsSynchronizedSequenceNode(sequenceNode, True):
        browserNode.SetAndObserveMasterSequenceNodeID(sequenceNode.GetID())
    proxyNode = browserNode.GetProxyNode(sequenceNode)
    if proxyNode is None:
        proxyNode = sequenceNode.GetScene().AddNode(_proxy_of(sequenceNode))
        _join(browserNode, sequenceNode, proxyNode, saveChanges=False)
        proxyNode.CreateDefaultDisplayNodes()
    return proxyNode


def _proxy_of(sequenceNode: slicer.vtkMRMLSequenceNode) -> slicer.vtkMRMLDisplayableNode:
    """A node for a phase of `sequenceNode`, still in no scene and without content."""
    mark = ENHANCED_MARK if is_enhanced(sequenceNode) else None
    className = sequenceNode.GetNthDataNode(0).GetClassName()
    return new_node(sequenceNode.GetScene(), className, sequenceNode.GetName(), mark)


def _join(
    browserNode: slicer.vtkMRMLSequenceBrowserNode,
    sequenceNode: slicer.vtkMRMLSequenceNode,
    node: slicer.vtkMRMLDisplayableNode,
    *,
    saveChanges: bool,
) -> None:
    """Makes `node` show the selected phase of `sequenceNode`, which joins the browser.

    Args:
        browserNode: Has a master sequence.
        sequenceNode: Its data nodes are shown.
        node: In the scene.
        saveChanges: Whether what the user changes is kept, which makes the proxy share its content with the phase.
    """
    browserNode.AddSynchronizedSequenceNodeID(sequenceNode.GetID())
    browserNode.SetSaveChanges(sequenceNode, saveChanges)
    node.CopyContent(sequenceNode.GetNthDataNode(_selected(browserNode, sequenceNode)), not saveChanges)
    node.AddDefaultStorageNode()
    browserNode.AddProxyNode(node, sequenceNode, False)


def _selected(browserNode: slicer.vtkMRMLSequenceBrowserNode, sequenceNode: slicer.vtkMRMLSequenceNode) -> int:
    if not _has_selection(browserNode):
        return 0
    value = browserNode.GetMasterSequenceNode().GetNthIndexValue(browserNode.GetSelectedItemNumber())
    return max(0, sequenceNode.GetItemNumberFromIndexValue(value, False))


def _has_selection(browserNode: slicer.vtkMRMLSequenceBrowserNode) -> bool:
    """Whether a browser shows a phase: one to which a sequence was just added does not, nor does an empty one."""
    return 0 <= browserNode.GetSelectedItemNumber() < browserNode.GetNumberOfItems()
