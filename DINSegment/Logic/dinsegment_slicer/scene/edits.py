"""Which segments were changed by hand since a network made them, which their DICOM tags then say.

Each segment keeps a fingerprint of its voxels in a tag, which is saved with the scene: so an edit is also found after
the scene was saved, loaded elsewhere and edited without this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from dinsegment.images.fingerprint import EMPTY, FINGERPRINT_TAG, fingerprints, same_voxels
from dinsegment_slicer.i18n import tr as _

ALGORITHM_TYPE_TAG = "DICOM.SegmentAlgorithmType"
ALGORITHM_NAME_TAG = "DICOM.SegmentAlgorithmName"
"""Tags that Slicer's own DICOM export reads, too (DICOM PS3.3 C.8.20.4, Segment Algorithm Type and Name)."""

ALGORITHM = "DINSegment "
"""What the name of the algorithm begins with; the model's name follows."""

AUTOMATIC, SEMIAUTOMATIC, MANUAL = "AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"

_LABELMAP = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()


def tag(segment: slicer.vtkSegment, name: str) -> str | None:
    """A tag of a segment; None where it has none of that name."""
    value = vtk.mutable("")
    return str(value) if segment.GetTag(name, value) else None


def model_name(segmentationNode: slicer.vtkMRMLSegmentationNode) -> str | None:
    """The model that made a segmentation, as its segments' tags say; None where none of them does."""
    segmentation = segmentationNode.GetSegmentation()
    for n in range(segmentation.GetNumberOfSegments()):
        name = tag(segmentation.GetNthSegment(n), ALGORITHM_NAME_TAG) or ""
        if name.startswith(ALGORITHM):
            return name.removeprefix(ALGORITHM)
    return None


def model_gone(name: str) -> str:
    """What is said where a segmentation's model is nowhere to be found."""
    return _(
        "The model '{name}', which made this result, is not there any more: choose its folder among the models, or "
        "segment again with another model."
    ).format(name=name)


def mark_edited(segmentationNode: slicer.vtkMRMLSegmentationNode, found: Mapping[str, str] | None = None) -> None:
    """Makes the tags say SEMIAUTOMATIC of each segment that differs from what the network made, else AUTOMATIC.

    Segments that no network made, and those of which somebody has said that they are MANUAL, stay as they are.

    Args:
        segmentationNode: The segmentation.
        found: What `segment_fingerprints` says of it, if that is known.
    """
    segmentation = segmentationNode.GetSegmentation()
    remembered = {}
    for n in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(n)
        fingerprint = tag(segment, FINGERPRINT_TAG)
        if fingerprint is not None and tag(segment, ALGORITHM_TYPE_TAG) in (AUTOMATIC, SEMIAUTOMATIC):
            remembered[segmentation.GetNthSegmentID(n)] = fingerprint
    if found is None:
        found = segment_fingerprints(segmentationNode) if remembered else {}
    for segment_id, fingerprint in remembered.items():
        segment = segmentation.GetSegment(segment_id)
        unchanged = segment_id in found and same_voxels(fingerprint, found[segment_id])
        algorithm_type = AUTOMATIC if unchanged else SEMIAUTOMATIC
        if tag(segment, ALGORITHM_TYPE_TAG) != algorithm_type:  # Setting it tells all that watch the segment.
            segment.SetTag(ALGORITHM_TYPE_TAG, algorithm_type)


def changed_segments(segmentationNode: slicer.vtkMRMLSegmentationNode) -> frozenset[str]:
    """IDs of the segments that are not what a network made: changed since, or a person's own from the beginning."""
    segmentation, found = segmentationNode.GetSegmentation(), segment_fingerprints(segmentationNode)
    changed = set()
    for segment_id in segmentation.GetSegmentIDs():
        remembered = tag(segmentation.GetSegment(segment_id), FINGERPRINT_TAG)
        if remembered is None or not same_voxels(remembered, found.get(segment_id, "")):
            changed.add(segment_id)
    return frozenset(changed)


def corrected_segments(segmentationNodes: Iterable[slicer.vtkMRMLSegmentationNode]) -> list[str]:
    """Names of the segments that differ from what a network made, each once: what would be lost if it made them anew.

    Args:
        segmentationNodes: Of a sequence all its phases, the data nodes.
    """
    names: dict[str, None] = {}
    for segmentationNode in segmentationNodes:
        segmentation, changed = segmentationNode.GetSegmentation(), changed_segments(segmentationNode)
        for segment_id in segmentation.GetSegmentIDs():
            segment = segmentation.GetSegment(segment_id)
            if segment_id in changed and tag(segment, FINGERPRINT_TAG) is not None:
                names[segment.GetName() or ""] = None
    return list(names)


def network_voxels(segmentationNode: slicer.vtkMRMLSegmentationNode) -> dict[str, str]:
    """What the segments now are that a network once made, by their IDs; the user's own are left out."""
    segmentation = segmentationNode.GetSegmentation()
    found = segment_fingerprints(segmentationNode)
    return {i: voxels for i, voxels in found.items() if tag(segmentation.GetSegment(i), FINGERPRINT_TAG) is not None}


def segment_fingerprints(segmentationNode: slicer.vtkMRMLSegmentationNode) -> dict[str, str]:
    """What each segment that has a binary labelmap now is, by its ID, in the order of the segments."""
    segmentation = segmentationNode.GetSegmentation()
    shared: dict[slicer.vtkOrientedImageData, dict[str, int]] = {}  # Many segments share a labelmap.
    for n in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(n)
        image = segment.GetRepresentation(_LABELMAP)
        if image is not None:
            shared.setdefault(image, {})[segmentation.GetNthSegmentID(n)] = segment.GetLabelValue()
    found = {}
    for image, values in shared.items():
        scalars = image.GetPointData().GetScalars()
        if scalars is None or image.IsEmpty():
            found.update(dict.fromkeys(values, EMPTY))
            continue
        labels = vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1])
        by_value = fingerprints(labels, values.values(), _ijk_to_mm(image))
        found.update({segment_id: by_value[value] for segment_id, value in values.items()})
    return {segment_id: found[segment_id] for segment_id in segmentation.GetSegmentIDs() if segment_id in found}


def _ijk_to_mm(image: slicer.vtkOrientedImageData) -> np.ndarray:
    """4x4, from the indices (i, j, k, 1) of the image's array, which begin at 0, to millimetres."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    first = np.eye(4)
    first[:3, 3] = image.GetExtent()[::2]
    return slicer.util.arrayFromVTKMatrix(matrix) @ first
