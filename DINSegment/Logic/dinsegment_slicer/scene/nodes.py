"""MRML nodes <-> Volume, Segmentation."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import slicer
import vtk

from dinsegment.errors import InputError
from dinsegment.images.segmentation import Finding, Segmentation
from dinsegment.images.slices import slice_axis
from dinsegment.images.volume import Volume
from dinsegment.tasks import Segment
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.running.segment_part import JobImage
from dinsegment_slicer.scene.changes import Steps, made, new_node, place_beside, subject_hierarchy, unique_name
from dinsegment_slicer.scene.content import LabelContent, grey_image, label_content
from dinsegment_slicer.scene.findings import FINDINGS_ATTRIBUTE, note_findings
from dinsegment_slicer.scene.sample_notes import SAMPLES_ATTRIBUTE
from dinsegment_slicer.scene.segments import LABELMAP, wanted_segments, with_segments
from dinsegment_slicer.scene.slice_notes import SliceNotes, note_slices, places_of

MODALITY_ATTRIBUTE = "DICOM.Modality"
"""Where Slicer's DICOM module keeps a series' modality: at its item in the subject hierarchy."""

REFERENCE_ROLE = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
"""Role of the node reference from a segmentation to the image that it is edited on."""

ORIGINAL_ROLE = "DINSegment.Original"
"""Role of the node reference from an enhanced image to its original."""

ENHANCED_ATTRIBUTE = "DINSegment.Enhanced"
"""At enhanced images, and at sequences of them: what tells them from images that can be segmented."""

ENHANCED_MARK = {ENHANCED_ATTRIBUTE: "1"}

OUTLINE_PIXELS = 2
"""Width of the outlines of segments; Slicer's own are one pixel wide, in which colours are hard to tell apart."""

ENHANCED_SUFFIX = "fuzzy-enhanced"
"""Follows the name of the original in that of its enhanced image."""


def image_of(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> JobImage:
    """The image of a volume node, where it lies in the world, without copying it.

    Args:
        volumeNode: Grey image, with or without a scene. Linear parent transforms are part of the result's
            `ijk_to_ras` (to world RAS, millimetres).

    Returns:
        A live view of the voxels (k, j, i). `modality` is the node's own attribute `DICOM.Modality`, or what the
        DICOM module noted, else None.

    Raises:
        InputError: It is no grey image, holds no voxels, or has a non-linear parent transform.
    """
    return JobImage(
        slicer.util.arrayFromVolume(checked_volume(volumeNode)),
        ijk_to_world(volumeNode),
        _name(volumeNode),
        modality_of(volumeNode),
    )


def volume_from_node(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> Volume:
    """A copy of a volume node as a Volume: voxels (k, j, i), float32, in the world's coordinates."""
    image = image_of(volumeNode)
    # Always a copy: the node's array is live.
    return Volume(image.array.astype(np.float32), image.ijk_to_ras, name=image.name, modality=image.modality)


def check_in_scene(node: slicer.vtkMRMLNode) -> None:
    """Raises InputError for a node that is in no scene: a removed one lives on while Python holds it."""
    if node.GetScene() is None:
        raise InputError(
            _("'{name}' is not in the scene, or was removed from it: load it, then segment it.").format(
                name=_name(node)
            )
        )


def enhanced_node(
    segmentation: Segmentation, volumeNode: slicer.vtkMRMLScalarVolumeNode
) -> slicer.vtkMRMLScalarVolumeNode:
    """A new volume node with the enhanced image, in the scene of `volumeNode` and right on it.

    It has the geometry, parent transform and place in the subject hierarchy of `volumeNode`, and is shown so that the
    two compare (`copy_display`).

    Args:
        segmentation: What a run gave.
        volumeNode: The image that was segmented.

    Raises:
        InputError: The segmentation was made from another grid than `volumeNode` now has.
    """
    return made(adding_enhanced(segmentation, volumeNode, made(grey_image(segmentation.enhanced.array))))


def adding_enhanced(
    segmentation: Segmentation, volumeNode: slicer.vtkMRMLScalarVolumeNode, image: vtk.vtkImageData
) -> Steps[slicer.vtkMRMLScalarVolumeNode]:
    """The steps of `enhanced_node`; `image` is what `grey_image` made of the enhanced slices."""
    check_same_grid(segmentation, volumeNode)
    node = _add_volume(volumeNode)
    yield
    for needed in (volumeNode, node):
        check_in_scene(needed)
    _show_like(node, volumeNode, segmentation.task.grey_window)
    yield
    for needed in (volumeNode, node):
        check_in_scene(needed)
    check_same_grid(segmentation, volumeNode)
    fill_enhanced(node, image, volumeNode)
    return node


def plain_enhanced_node(
    volumeNode: slicer.vtkMRMLScalarVolumeNode, window: tuple[float, float] | None = None
) -> slicer.vtkMRMLScalarVolumeNode:
    """A new volume node with the voxels of the original, float32, which are still to be enhanced.

    It lies and is shown like that of `enhanced_node`.

    Args:
        volumeNode: The image.
        window: Grey values (low, high) that are looked at; None for those of its own display.

    Raises:
        InputError: It is no grey image, holds no voxels, or is in no scene.
    """
    array = image_of(volumeNode).array
    check_in_scene(volumeNode)
    node = _add_volume(volumeNode)
    _show_like(node, volumeNode, window)
    node.CopyOrientation(volumeNode)
    node.SetAndObserveImageData(made(grey_image(array)))
    return node


def refer_to_original(enhancedNode: slicer.vtkMRMLScalarVolumeNode, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Notes, in a node reference that is saved with the scene, which image was enhanced."""
    enhancedNode.SetNodeReferenceID(ORIGINAL_ROLE, volumeNode.GetID())


def original_of(enhancedNode: slicer.vtkMRMLScalarVolumeNode | None) -> slicer.vtkMRMLScalarVolumeNode | None:
    """The image that was enhanced; None if it is not in the scene any more."""
    return enhancedNode.GetNodeReference(ORIGINAL_ROLE) if enhancedNode is not None else None


def segmentation_node(
    segmentation: Segmentation,
    volumeNode: slicer.vtkMRMLScalarVolumeNode,
    wanted: Collection[str] | None = None,
) -> slicer.vtkMRMLSegmentationNode:
    """A new segmentation node, in the scene of `volumeNode` and right on it.

    It has one segment per segment of the task, in the order of the labels, also where a label has no voxel;
    each with name, colour, terminology and the DICOM tags of an automatic segmentation. `volumeNode` is its
    reference image; parent transform and place in the subject hierarchy are the same.

    Args:
        segmentation: What a run gave.
        volumeNode: The image that was segmented.
        wanted: Names of the task's segments that it shall have; None for all.

    Raises:
        InputError: The segmentation was made from another grid than `volumeNode` now has, or nothing is wanted.
        DINSegmentError: Slicer did not take the labels.
    """
    segments = wanted_segments(segmentation.task, wanted)
    content = made(label_content(segmentation.labels, segments, local_ijk_to_ras(volumeNode)))
    return made(adding_segmentation(segmentation, volumeNode, segments, content))


def adding_segmentation(
    segmentation: Segmentation,
    volumeNode: slicer.vtkMRMLScalarVolumeNode,
    segments: Sequence[Segment],
    content: LabelContent,
) -> Steps[slicer.vtkMRMLSegmentationNode]:
    """The steps of `segmentation_node`; `content` is what `label_content` made of the labels."""
    check_same_grid(segmentation, volumeNode)
    scene = volumeNode.GetScene()
    node = new_node(scene, "vtkMRMLSegmentationNode", "")
    fill_segmentation(node, segmentation, volumeNode, segments, content)
    yield
    check_in_scene(volumeNode)
    node.SetName(unique_name(scene, f"{_name(volumeNode)} {segmentation.task.title}"))
    scene.AddNode(node)
    yield
    for needed in (volumeNode, node):
        check_in_scene(needed)
    display_segments(node)
    lay_on(node, volumeNode)
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    return node


def display_segments(node: slicer.vtkMRMLSegmentationNode) -> None:
    """Gives a new segmentation node its display."""
    node.CreateDefaultDisplayNodes()
    displayNode = node.GetDisplayNode()
    # The user may have made wider ones the default.
    displayNode.SetSliceIntersectionThickness(max(OUTLINE_PIXELS, displayNode.GetSliceIntersectionThickness()))


def fill_enhanced(
    node: slicer.vtkMRMLScalarVolumeNode, image: vtk.vtkImageData, volumeNode: slicer.vtkMRMLScalarVolumeNode
) -> None:
    """Gives `node` an enhanced image, on the grid of `volumeNode`; neither needs a scene."""
    node.SetAttribute(ENHANCED_ATTRIBUTE, ENHANCED_MARK[ENHANCED_ATTRIBUTE])
    # Not a clone: that would copy DICOM.instanceUIDs, and no DICOM instance holds these voxels.
    node.CopyOrientation(volumeNode)
    node.SetAndObserveImageData(image)


def fill_segmentation(
    node: slicer.vtkMRMLSegmentationNode,
    segmentation: Segmentation,
    volumeNode: slicer.vtkMRMLScalarVolumeNode,
    segments: Sequence[Segment],
    content: LabelContent,
) -> None:
    """Gives `node` segments of the task, on the grid of `volumeNode`; neither needs a scene.

    They take the place of those of the task that a network made before; the user's own stay.
    """
    after, ids = with_segments(
        node.GetSegmentation(), segmentation.task.segments, segments, content, segmentation.model
    )
    node.SetAndObserveSegmentation(after)
    node.RemoveAttribute(FINDINGS_ATTRIBUTE)
    node.RemoveAttribute(SAMPLES_ATTRIBUTE)
    named = [replace(segment, name=ids[segment.label]) for segment in segments]
    # The run read the image where parent transforms had moved it.
    to_node = local_ijk_to_ras(volumeNode) @ np.linalg.inv(segmentation.volume.ijk_to_ras)
    note_findings(node, findings_about(segmentation, segments), named, to_node)
    labels = segmentation.labels
    if len(segments) < len(segmentation.task.segments):
        labels = np.where(np.isin(labels, [segment.label for segment in segments]), labels, 0)
    axis = slice_axis(segmentation.volume, segmentation.task.plane)
    first = places_of([one.to_dict() for one in segmentation.first], {s.label: s.name for s in named}, to_node)
    note_slices(node, SliceNotes.of(labels, axis, segmentation.corrected, first))


def check_takes_segments(node: slicer.vtkMRMLSegmentationNode, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Raises InputError where new segments of `volumeNode` cannot be put into a segmentation that is there."""
    check_in_scene(node)
    source = node.GetSegmentation().GetSourceRepresentationName()
    if node.GetSegmentation().GetNumberOfSegments() > 0 and source != LABELMAP:
        raise InputError(
            _(
                "'{name}' is made of surfaces or contours: make the binary labelmap its source (module Segmentations), "
                "or choose a new segmentation."
            ).format(name=_name(node))
        )
    if node.GetParentTransformNode() is not volumeNode.GetParentTransformNode():
        raise InputError(
            _(
                "'{name}' and '{image}' lie under different transforms: put them under the same one (module "
                "Transforms), or choose a new segmentation."
            ).format(name=_name(node), image=_name(volumeNode))
        )


@contextmanager
def content_restored_on_error(nodes: Iterable[slicer.vtkMRMLDisplayableNode]) -> Iterator[None]:
    """Gives segmentations and volumes their content back if the block, which fills them, raises; the error goes on."""
    nodes = list(nodes)
    contents = []
    for node in nodes:
        contents.append(node.CreateNodeInstance())
        contents[-1].UnRegister(None)  # Python has a reference of its own.
        contents[-1].CopyContent(node, False)
    references = [node.GetNodeReferenceID(REFERENCE_ROLE) for node in nodes]
    try:
        yield
    except BaseException:
        for node, content, reference in zip(nodes, contents, references, strict=True):
            node.CopyContent(content, False)
            node.SetNodeReferenceID(REFERENCE_ROLE, reference)
        raise


def findings_about(segmentation: Segmentation, segments: Sequence[Segment]) -> tuple[Finding, ...]:
    """The findings of a run that are about these segments, or about none."""
    labels = {None, *(segment.label for segment in segments)}
    return tuple(finding for finding in segmentation.findings if finding.segment in labels)


def checked_volume(volumeNode: slicer.vtkMRMLScalarVolumeNode | None) -> slicer.vtkMRMLScalarVolumeNode:
    """The node itself; raises InputError unless it is a grey image with voxels."""
    if volumeNode is None:
        raise InputError("No volume is selected: choose the image to segment.")
    name = f"'{_name(volumeNode)}'"
    if not volumeNode.IsA("vtkMRMLScalarVolumeNode"):
        raise InputError(f"{name} is not a volume: choose the image to segment.")
    if volumeNode.IsA("vtkMRMLLabelMapVolumeNode"):
        raise InputError(f"{name} is a label map: choose the image it was made from.")
    image = volumeNode.GetImageData()
    voxels = image.GetPointData().GetScalars() if image else None
    if voxels is None or voxels.GetNumberOfTuples() == 0:
        raise InputError(f"{name} holds no image: load it again, or choose another volume.")
    if voxels.GetNumberOfComponents() != 1:
        raise InputError(
            f"{name} has {voxels.GetNumberOfComponents()} values per voxel (colour or vectors): choose a "
            "grey image, or make one with the module Vector to Scalar Volume."
        )
    return volumeNode


def _name(node: slicer.vtkMRMLNode) -> str:
    return node.GetName() or "volume"


def ijk_to_world(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> np.ndarray:
    """4x4, from (i, j, k, 1) to world RAS, all parent transforms included."""
    return parent_to_world(volumeNode) @ local_ijk_to_ras(volumeNode)


def local_ijk_to_ras(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> np.ndarray:
    """4x4, from (i, j, k, 1) to the node's own RAS, without parent transforms."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def voxel_ml(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> float:
    """Volume of a voxel in the world, in ml; raises InputError under a transform that is not linear."""
    return float(abs(np.linalg.det(ijk_to_world(volumeNode)[:3, :3])) / 1000)


def parent_to_world(node: slicer.vtkMRMLTransformableNode) -> np.ndarray:
    """4x4, all parent transforms of `node`: from the space its content is given in to world RAS.

    Raises:
        InputError: One of them is not linear.
    """
    transformNode = node.GetParentTransformNode()
    if transformNode is None:
        return np.eye(4)
    if not transformNode.IsTransformToWorldLinear():
        raise InputError(
            _("'{name}' lies under a non-linear transform: harden it (module Transforms) and try again.").format(
                name=_name(node)
            )
        )
    return slicer.util.arrayFromTransformMatrix(transformNode, toWorld=True)


def modality_of(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> str | None:
    """The node's own attribute `DICOM.Modality`, or what the DICOM module noted, else None."""
    modality = volumeNode.GetAttribute(MODALITY_ATTRIBUTE)
    hierarchy = subject_hierarchy(volumeNode.GetScene()) if volumeNode.GetScene() else None
    item = hierarchy.GetItemByDataNode(volumeNode) if hierarchy else 0
    if not modality and item:
        modality = hierarchy.GetItemAttribute(item, MODALITY_ATTRIBUTE)
    return modality or None


def check_same_grid(segmentation: Segmentation, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Raises InputError where `volumeNode` has another number of voxels than the segmentation was made from."""
    image = volumeNode.GetImageData()
    shape = image.GetDimensions()[::-1] if image else None
    if segmentation.labels.shape != shape:
        raise InputError(
            f"'{_name(volumeNode)}' has changed since it was segmented, from {segmentation.labels.shape} "
            f"voxels to {shape}: segment it again."
        )


def lay_on(node: slicer.vtkMRMLDisplayableNode, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Gives `node` the parent transform of `volumeNode`, whose changes it then follows, and its study."""
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    place_beside(node, volumeNode)


def copy_display(
    source: slicer.vtkMRMLScalarVolumeDisplayNode | None,
    target: slicer.vtkMRMLScalarVolumeDisplayNode,
    window: tuple[float, float] | None = None,
) -> None:
    """Shows an enhanced image as its original.

    Without a `window` it has the original's window and level, since it keeps the grey range; without `source`, Slicer
    chooses them. With one, (low, high), that is all it holds. The original gets the same as long as Slicer chose for
    it, which of a CT shows everything from air to metal; what the user or the scanner chose stays.
    """
    if source is not None:
        target.SetAndObserveColorNodeID(source.GetColorNodeID())
        target.SetInterpolate(source.GetInterpolate())
    if window is not None:
        chosen = [source] if source is not None and source.GetAutoWindowLevel() else []
        for displayNode in (target, *chosen):
            displayNode.SetAutoWindowLevel(False)
            displayNode.SetWindowLevelMinMax(*window)
    elif source is not None:
        target.SetAutoWindowLevel(False)
        target.SetWindowLevel(source.GetWindow(), source.GetLevel())


def _add_volume(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLScalarVolumeNode:
    """A node for the enhanced image of `volumeNode`, still without voxels."""
    scene = volumeNode.GetScene()
    name = unique_name(scene, f"{_name(volumeNode)} {ENHANCED_SUFFIX}")
    return scene.AddNode(new_node(scene, "vtkMRMLScalarVolumeNode", name, ENHANCED_MARK))


def _show_like(
    node: slicer.vtkMRMLScalarVolumeNode,
    volumeNode: slicer.vtkMRMLScalarVolumeNode,
    window: tuple[float, float] | None,
) -> None:
    """Displays the node of an enhanced image, and lays it where `volumeNode` is.

    Before it has voxels, or Slicer would look through all of them for a window that is not kept.
    """
    node.CreateDefaultDisplayNodes()
    copy_display(volumeNode.GetDisplayNode(), node.GetDisplayNode(), window)
    lay_on(node, volumeNode)
    refer_to_original(node, volumeNode)
