"""MRML nodes <-> Volume, Segmentation."""

from __future__ import annotations

import numpy as np
import slicer
import vtk

from dinsegment import __version__
from dinsegment.errors import DINSegmentError, InputError
from dinsegment.images.fingerprint import VERSION_TAG
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.volume import Volume
from dinsegment.tasks import Segment
from dinsegment_slicer.content import LabelContent, grey_image, label_content, made
from dinsegment_slicer.edits import (
    ALGORITHM_NAME_TAG,
    ALGORITHM_TYPE_TAG,
    AUTOMATIC,
    remember_voxels,
)
from dinsegment_slicer.findings import note_findings
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene import place_beside, subject_hierarchy
from dinsegment_slicer.segment_part import JobImage

MODALITY_ATTRIBUTE = "DICOM.Modality"
"""Where Slicer's DICOM module keeps a series' modality: at its item in the subject hierarchy."""

ORIGINAL_ROLE = "DINSegment.Original"
"""Role of the node reference from an enhanced image to its original."""

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
    """As `image_of`, as a copy: voxels (k, j, i), float32."""
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
    segmentation: Segmentation, volumeNode: slicer.vtkMRMLScalarVolumeNode, image: vtk.vtkImageData | None = None
) -> slicer.vtkMRMLScalarVolumeNode:
    """A new volume node with the enhanced image, in the scene of `volumeNode` and right on it.

    It has the geometry, parent transform and place in the subject hierarchy of `volumeNode`, and is shown so that the
    two compare (`copy_display`).

    Args:
        segmentation: What a run gave.
        volumeNode: The image that was segmented.
        image: What `dinsegment_slicer.content.grey_image` made of the enhanced image, if that was done before.

    Raises:
        InputError: The segmentation was made from another grid than `volumeNode` now has.
    """
    check_same_grid(segmentation, volumeNode)
    node = _add_shown_like(volumeNode, segmentation.task.grey_window)
    fill_enhanced(node, segmentation, volumeNode, image)
    return node


def plain_enhanced_node(
    volumeNode: slicer.vtkMRMLScalarVolumeNode, window: tuple[float, float] | None = None
) -> slicer.vtkMRMLScalarVolumeNode:
    """As `enhanced_node`, but with the voxels of the original, float32, which are still to be enhanced.

    Args:
        volumeNode: The image.
        window: Grey values (low, high) that are looked at; None for those of its own display.

    Raises:
        InputError: It is no grey image, holds no voxels, or is in no scene.
    """
    array = image_of(volumeNode).array
    check_in_scene(volumeNode)
    node = _add_shown_like(volumeNode, window)
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
    segmentation: Segmentation, volumeNode: slicer.vtkMRMLScalarVolumeNode, content: LabelContent | None = None
) -> slicer.vtkMRMLSegmentationNode:
    """A new segmentation node, in the scene of `volumeNode` and right on it.

    It has one segment per segment of the task, in the order of the labels, also where a label has no voxel;
    each with name, colour, terminology and the DICOM tags of an automatic segmentation. `volumeNode` is its
    reference image; parent transform and place in the subject hierarchy are the same.

    Args:
        segmentation: What a run gave.
        volumeNode: The image that was segmented.
        content: What `dinsegment_slicer.content.label_content` made of the labels, if that was done before.

    Raises:
        InputError: The segmentation was made from another grid than `volumeNode` now has.
        DINSegmentError: Slicer did not take the labels.
    """
    check_same_grid(segmentation, volumeNode)
    node = _add_node("vtkMRMLSegmentationNode", volumeNode, segmentation.task.title)
    node.CreateDefaultDisplayNodes()
    fill_segmentation(node, segmentation, volumeNode, content)
    # After the import: Slicer resamples a label map that lies under another transform than the segmentation.
    lay_on(node, volumeNode)
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    return node


def fill_enhanced(
    node: slicer.vtkMRMLScalarVolumeNode,
    segmentation: Segmentation,
    volumeNode: slicer.vtkMRMLScalarVolumeNode,
    image: vtk.vtkImageData | None = None,
) -> None:
    """Gives `node` the enhanced image, on the grid of `volumeNode`; neither needs a scene."""
    # Not a clone: that would copy DICOM.instanceUIDs, and no DICOM instance holds these voxels.
    node.CopyOrientation(volumeNode)
    node.SetAndObserveImageData(image or made(grey_image(segmentation.enhanced.array)))


def fill_segmentation(
    node: slicer.vtkMRMLSegmentationNode,
    segmentation: Segmentation,
    volumeNode: slicer.vtkMRMLScalarVolumeNode,
    content: LabelContent | None = None,
) -> None:
    """Gives `node` the segments of the task, with their voxels, on the grid of `volumeNode`; neither needs a scene."""
    task, to_node = segmentation.task, local_ijk_to_ras(volumeNode)
    for segment in task.segments:
        _add_segment(node, segment, segmentation.model)
    content = content or made(label_content(segmentation.labels, task.segments, to_node))
    _import_labels(node, segmentation, content)
    remember_voxels(node, {segment.name: content.fingerprints[segment.label] for segment in task.segments})
    # The run read the image where parent transforms had moved it.
    note_findings(node, segmentation.findings, task.segments, to_node @ np.linalg.inv(segmentation.volume.ijk_to_ras))


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


def _add_node(className: str, volumeNode: slicer.vtkMRMLScalarVolumeNode, suffix: str) -> slicer.vtkMRMLDisplayableNode:
    scene = volumeNode.GetScene()
    # By class name, so that the defaults the user set for nodes of that class apply.
    return scene.AddNewNodeByClass(className, scene.GenerateUniqueName(f"{_name(volumeNode)} {suffix}"))


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


def _add_shown_like(
    volumeNode: slicer.vtkMRMLScalarVolumeNode, window: tuple[float, float] | None
) -> slicer.vtkMRMLScalarVolumeNode:
    """A node for the enhanced image of `volumeNode`, still without voxels.

    It is displayed before it has any, or Slicer would look through all of them for a window that is not kept.
    """
    node = _add_node("vtkMRMLScalarVolumeNode", volumeNode, ENHANCED_SUFFIX)
    node.CreateDefaultDisplayNodes()
    copy_display(volumeNode.GetDisplayNode(), node.GetDisplayNode(), window)
    lay_on(node, volumeNode)
    refer_to_original(node, volumeNode)
    return node


def _add_segment(node: slicer.vtkMRMLSegmentationNode, segment: Segment, model: str) -> None:
    """Adds `segment`, still without voxels; its name serves as its ID."""
    added = slicer.vtkSegment()
    added.SetName(segment.name)
    added.SetColor(*(channel / 255 for channel in segment.color))
    # Both were chosen: another terminology entry must not replace them.
    added.SetNameAutoGenerated(False)
    added.SetColorAutoGenerated(False)
    added.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), segment.terminology)
    added.SetTag(ALGORITHM_TYPE_TAG, AUTOMATIC)
    added.SetTag(ALGORITHM_NAME_TAG, f"DINSegment {model}")
    added.SetTag(VERSION_TAG, __version__)
    # Slicer would add the empty label map itself, but only where its converters are registered, as in the
    # application.
    labelmapName = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    added.AddRepresentation(labelmapName, slicer.vtkOrientedImageData())
    _require(node.GetSegmentation().AddSegment(added, segment.name), node)


def _import_labels(node: slicer.vtkMRMLSegmentationNode, segmentation: Segmentation, content: LabelContent) -> None:
    """Fills all segments at once, from one label map that they share."""
    if not content.present:
        return
    # Slicer takes the n-th ID for label n and passes over an empty ID. A segment without voxels stays out of
    # the shared label map: Slicer's DICOM export tells an empty segment by its own label map being empty.
    names = {segment.label: segment.name for segment in segmentation.task.segments}
    segmentIds = vtk.vtkStringArray()
    for label in range(1, max(names) + 1):
        segmentIds.InsertNextValue(names[label] if label in names and label in content.present else "")
    # The class, not slicer.modules.segmentations.logic(): the method is static, and outside the application
    # there are no modules.
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    _require(logic.ImportLabelmapToSegmentationNode(content.image, node, segmentIds), node)


def _require(done: bool, node: slicer.vtkMRMLSegmentationNode) -> None:
    if not done:
        raise DINSegmentError(f"Slicer could not make '{_name(node)}': its error log says why.")
