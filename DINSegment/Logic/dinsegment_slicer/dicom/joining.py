"""Sequences of single slices, as Slicer's own plugins load a cine whose slices are series of their own, become one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import slicer

from dinsegment.dicom.read.picture import TAGS, Picture, picture_of
from dinsegment.dicom.read.stack import Stack
from dinsegment.geometry import RAS_FROM_LPS
from dinsegment_slicer.dicom.instances import FRAME_FILES_ATTRIBUTE, application_database
from dinsegment_slicer.dicom.pictures import is_cine_stack, stacks_of, texts
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene.browsers import proxy_of
from dinsegment_slicer.scene.changes import restored_on_error, subject_hierarchy
from dinsegment_slicer.scene.nodes import lay_on, local_ijk_to_ras, modality_of
from dinsegment_slicer.scene.sequences import is_enhanced, is_image_sequence, sequence_of, times_ms
from dinsegment_slicer.scene.stacks import INSTANCE_UIDS_ATTRIBUTE, add_stack

TRIGGER_TIME_ATTRIBUTE = "DICOM.triggerTime"
"""Where Slicer's reader "Image sequence" keeps the Trigger Time of a frame."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice at one time, live.

    Attributes:
        sequenceNode: Of which sequence.
        volumeNode: Its volume, of one slice.
        instanceUID: SOP Instance UID of what it was loaded from; "" where that is not known.
    """

    sequenceNode: slicer.vtkMRMLSequenceNode
    volumeNode: slicer.vtkMRMLScalarVolumeNode
    instanceUID: str


@dataclass(frozen=True, eq=False)
class Joinable:
    """Sequences of single slices that make up one stack.

    Attributes:
        stack: The stack; the keys of its pictures are frames.
        sequenceNodes: Those that it takes frames from, in the order of the scene.
    """

    stack: Stack
    sequenceNodes: tuple[slicer.vtkMRMLSequenceNode, ...]


def find_joinable(node: slicer.vtkMRMLNode | None) -> Joinable | None:
    """The stack that a sequence of single slices is part of, alone or with others in its scene.

    Args:
        node: A sequence, or the volume that shows it.

    Returns:
        None for what is no such sequence, and where the slices make up no stack.
    """
    if node is not None and node.IsA("vtkMRMLVolumeNode"):
        found = sequence_of(node)
        node = found[1] if found else None
    if node is None or not _has_single_slices(node):
        return None
    scene, transform = node.GetScene(), _transform_of(node)
    sequenceNodes = [
        scene.GetNthNodeByClass(n, "vtkMRMLSequenceNode")
        for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSequenceNode"))
    ]
    pictures = [
        picture
        for one in sequenceNodes
        if one is node or (_has_single_slices(one) and _transform_of(one) == transform)
        for picture in _pictures(one)
    ]
    for stack in filter(is_cine_stack, stacks_of(pictures)):
        used = {frame.sequenceNode for one in stack.slices for frame in one.keys}
        if node in used:
            return Joinable(stack, tuple(one for one in sequenceNodes if one in used))
    return None


def join(joinable: Joinable) -> slicer.vtkMRMLSequenceNode:
    """Adds a sequence with a volume for each phase beside those of single slices, which stay as they are.

    Raises:
        InputError: The frames have changed since they were found.
    """
    first = joinable.sequenceNodes[0]
    shown = proxy_of(first)
    slices = len(joinable.stack.slices)
    name = _("{name}, {slices} slices").format(name=(shown or first).GetName(), slices=slices)
    scene = first.GetScene()
    with restored_on_error(scene):
        node = add_stack(scene, name, joinable.stack, _voxels, lambda frame: frame.instanceUID)
        if shown is not None:
            lay_on(proxy_of(node), shown)
        _note_series(proxy_of(node), joinable.stack)
    return node


def _has_single_slices(node: slicer.vtkMRMLNode) -> bool:
    if not is_image_sequence(node) or is_enhanced(node):
        return False
    images = [node.GetNthDataNode(index).GetImageData() for index in range(node.GetNumberOfDataNodes())]
    return all(image is not None and image.GetDimensions()[2] == 1 for image in images)


def _transform_of(sequenceNode: slicer.vtkMRMLSequenceNode) -> str | None:
    volumeNode = proxy_of(sequenceNode)
    return volumeNode.GetTransformNodeID() if volumeNode is not None else None


def _pictures(sequenceNode: slicer.vtkMRMLSequenceNode) -> Iterator[Picture]:
    """The frames of a sequence: where they lie is asked of the nodes, what they show of the DICOM database."""
    frames = _frames(sequenceNode)
    of_series = _of_series(sequenceNode, frames[0])
    times = times_ms(sequenceNode)
    for number, frame in enumerate(frames, start=1):
        time = frame.volumeNode.GetAttribute(TRIGGER_TIME_ATTRIBUTE) or (str(times[number - 1]) if times else "")
        own = {"TriggerTime": time, "InstanceNumber": str(number), **_place(frame.volumeNode)}
        yield picture_of(frame, texts({**of_series, **own}))


def _frames(sequenceNode: slicer.vtkMRMLSequenceNode) -> list[Frame]:
    nodes = [sequenceNode.GetNthDataNode(index) for index in range(sequenceNode.GetNumberOfDataNodes())]
    uids = [node.GetAttribute(INSTANCE_UIDS_ATTRIBUTE) or "" for node in nodes]
    files, database = (sequenceNode.GetAttribute(FRAME_FILES_ATTRIBUTE) or "").split(","), application_database()
    if database is not None and len(files) == len(nodes):
        uids = [uid or database.instanceForFile(file) for uid, file in zip(uids, files, strict=True)]
    return [Frame(sequenceNode, node, uid) for node, uid in zip(nodes, uids, strict=True)]


def _of_series(sequenceNode: slicer.vtkMRMLSequenceNode, first: Frame) -> dict[str, str]:
    """What the DICOM database says of the first frame; without it what the scene does."""
    database = application_database()
    file = database.fileForInstance(first.instanceUID) if database is not None and first.instanceUID else ""
    if file:
        return {keyword: database.fileValue(file, tag) for keyword, tag in TAGS.items()}
    volumeNode = proxy_of(sequenceNode) or first.volumeNode
    return {
        "SeriesInstanceUID": sequenceNode.GetID(),
        "SeriesDescription": sequenceNode.GetName() or "",
        "Modality": modality_of(first.volumeNode) or modality_of(volumeNode) or "MR",
    }


def _place(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> dict[str, str]:
    """Where a slice lies, as a header says it."""
    ijk_to_lps = RAS_FROM_LPS @ local_ijk_to_ras(volumeNode)
    i, j, k = np.linalg.norm(ijk_to_lps[:3, :3], axis=0)
    columns, rows, _slices = volumeNode.GetImageData().GetDimensions()
    return {
        "ImagePositionPatient": _several(ijk_to_lps[:3, 3]),
        "ImageOrientationPatient": _several((*(ijk_to_lps[:3, 0] / i), *(ijk_to_lps[:3, 1] / j))),
        "PixelSpacing": _several((j, i)),
        "SpacingBetweenSlices": str(k),
        "Rows": str(rows),
        "Columns": str(columns),
    }


def _several(values: np.ndarray | tuple[float, ...]) -> str:
    return "\\".join(repr(float(value)) for value in values)


def _voxels(frame: Frame) -> np.ndarray:
    return slicer.util.arrayFromVolume(frame.volumeNode)[0]


def _note_series(volumeNode: slicer.vtkMRMLVolumeNode, stack: Stack) -> None:
    """In the subject hierarchy: the first slice's series, by which Slicer finds what refers to it; all instances."""
    hierarchy = subject_hierarchy(volumeNode.GetScene())
    first = proxy_of(stack.slices[0].keys[0].sequenceNode)
    if hierarchy is None or first is None or not hierarchy.GetItemByDataNode(first):
        return
    item, source = (hierarchy.GetItemByDataNode(node) for node in (volumeNode, first))
    names = slicer.vtkMRMLSubjectHierarchyConstants
    hierarchy.SetItemUID(item, names.GetDICOMUIDName(), hierarchy.GetItemUID(source, names.GetDICOMUIDName()))
    for attribute in hierarchy.GetItemAttributeNames(source):
        if attribute.startswith(names.GetDICOMAttributePrefix()):
            hierarchy.SetItemAttribute(item, attribute, hierarchy.GetItemAttribute(source, attribute))
    uids = dict.fromkeys(frame.instanceUID for one in stack.slices for frame in one.keys)
    if all(uids):
        hierarchy.SetItemUID(item, names.GetDICOMInstanceUIDName(), " ".join(uids))
