"""What comes of a cine: a sequence of segmentations and one of enhanced volumes, in the browser of the cine."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import slicer
import vtk

from dinsegment.errors import InputError
from dinsegment.images.segmentation import Segmentation
from dinsegment.tasks import Segment
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene.browsers import (
    browser_of,
    browser_restored_on_error,
    has_selection,
    join,
    new_browser,
    phase_in,
    proxy_of,
)
from dinsegment_slicer.scene.changes import Steps, all_or_nothing, made, new_node, unique_name
from dinsegment_slicer.scene.content import LabelContent, grey_image, label_content
from dinsegment_slicer.scene.nodes import (
    ENHANCED_MARK,
    ENHANCED_SUFFIX,
    REFERENCE_ROLE,
    check_in_scene,
    check_same_grid,
    content_restored_on_error,
    copy_display,
    display_segments,
    fill_enhanced,
    fill_segmentation,
    lay_on,
    local_ijk_to_ras,
    refer_to_original,
)
from dinsegment_slicer.scene.segment_display import has_surfaces, show_3d
from dinsegment_slicer.scene.segments import wanted_segments
from dinsegment_slicer.scene.sequences import cine_name, image_proxy, index_values, new_proxy, phases


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
    values = index_values(sequenceNode)
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
            proxyNode.CopyContent(node.GetNthDataNode(phase_in(browserNode, node)), False)
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
        if index_values(node) != index_values(sequenceNode):
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
        node.SetName(unique_name(scene, f"{cine_name(sequenceNode)} {suffix}"))
        add(node)
        yield
    enhancedNode = add(new_proxy(enhancedSequence))
    source = proxy_of(sequenceNode)
    enhancedNode.CreateDefaultDisplayNodes()
    # Before it has voxels, or Slicer would look through all of them for a window that is not kept.
    if source is not None:
        copy_display(source.GetDisplayNode(), enhancedNode.GetDisplayNode(), task.grey_window)
    yield
    segmentationNode = add(new_proxy(segmentationSequence))
    display_segments(segmentationNode)
    yield
    for other in needed:
        check_in_scene(other)
    _checked_phases(sequenceNode, segmentations)
    _check_same_index(sequenceNode, segmentationSequence)
    browserNode = browser_of(sequenceNode) or new_browser(sequenceNode)
    # In one step: the browser brings its proxies up to date at each change, and would make them itself.
    with browser_restored_on_error(browserNode), slicer.util.NodeModify(browserNode):
        # A browser that plays or records neither keeps what is edited nor shows what is selected.
        browserNode.SetPlaybackActive(False)
        browserNode.SetRecordingActive(False)
        if not has_selection(browserNode):
            # Slicer would show, and add to sequences that keep changes, a phase with the index value 0.
            browserNode.SetSelectedItemNumber(0)
        proxyNode = image_proxy(browserNode, sequenceNode)
        if proxyNode is not source:
            copy_display(proxyNode.GetDisplayNode(), enhancedNode.GetDisplayNode(), task.grey_window)
        for node, itsSequence in ((enhancedNode, enhancedSequence), (segmentationNode, segmentationSequence)):
            join(browserNode, itsSequence, node, saveChanges=True)
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


def _check_same_index(sequenceNode: slicer.vtkMRMLSequenceNode, made: slicer.vtkMRMLSequenceNode) -> None:
    # Slicer puts two phases whose values are equal, or nearly so, in one place.
    if index_values(made) != index_values(sequenceNode):
        raise InputError(
            _(
                "The sequence '{name}' has index values that are equal or not in order: correct them (module "
                "Sequences) and segment it again."
            ).format(name=sequenceNode.GetName())
        )


def _new_sequence(
    sequenceNode: slicer.vtkMRMLSequenceNode, suffix: str, attributes: Mapping[str, str] | None = None
) -> slicer.vtkMRMLSequenceNode:
    """In no scene, without phases, with the kind of index of `sequenceNode`."""
    name = f"{cine_name(sequenceNode)} {suffix}"
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
