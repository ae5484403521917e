"""Segmentation nodes, as the user left them -> volumes in ml, and the function of the heart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from scipy import ndimage
from vtk.util.numpy_support import vtk_to_numpy

from dinsegment.errors import InputError
from dinsegment.measurements.function import Areas, Beat, CardiacFunction, segment_areas
from dinsegment.measurements.infarct import SEVERAL, Damage, why_no_size
from dinsegment.tasks import Code, Task
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene.nodes import parent_to_world
from dinsegment_slicer.scene.terminology import read_entry


@dataclass(frozen=True)
class MeasuredSegment:
    """One segment as it now is.

    Attributes:
        id: Its ID in the segmentation.
        name: What the user reads, and may have changed.
        color: Red, green, blue in 0..255.
        volume_ml: Millilitres in the world; 0 for an empty segment.
        type: The anatomical structure by its terminology; None without one.
    """

    id: str
    name: str
    color: tuple[int, int, int]
    volume_ml: float
    type: Code | None = None


def measure(
    segmentationNode: slicer.vtkMRMLSegmentationNode, proxyNode: slicer.vtkMRMLSegmentationNode | None = None
) -> list[MeasuredSegment]:
    """The volume of every segment, in the order of the segments, also of empty ones and those that the user added.

    Labelmaps are counted on their own grids, with the linear parent transforms; a segment that exists only as closed
    surface has the volume that the surface encloses.

    Args:
        segmentationNode: What is measured.
        proxyNode: Where `segmentationNode` is a phase of a sequence, the node that shows it: its parent transforms
            are those of the phases.

    Raises:
        InputError: A parent transform is not linear, or a segment is neither labelmap nor closed surface.
    """
    ml = abs(np.linalg.det(parent_to_world(proxyNode or segmentationNode)[:3, :3])) / 1000
    segmentation = segmentationNode.GetSegmentation()
    counts: dict[slicer.vtkOrientedImageData, np.ndarray] = {}  # Segments share labelmaps: each is counted once.
    measured = []
    for n in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(n)
        measured.append(
            MeasuredSegment(
                id=segmentation.GetNthSegmentID(n),
                name=segment.GetName() or "",
                color=tuple(round(255 * channel) for channel in segment.GetColor()),
                volume_ml=float(ml * _cubic_millimetres(segmentationNode, segment, counts)),
                type=read_entry(segment.GetTerminology()).type,
            )
        )
    return measured


def measure_phases(
    segmentationNodes: Iterable[slicer.vtkMRMLSegmentationNode],
    proxyNode: slicer.vtkMRMLSegmentationNode | None = None,
) -> list[list[MeasuredSegment]]:
    """`measure` of each phase: of the data nodes of a sequence with their proxy, or of nodes of their own."""
    return [measure(node, proxyNode) for node in segmentationNodes]


def beat_of(
    task: Task,
    phases: Sequence[Sequence[MeasuredSegment]],
    segmentationNodes: Sequence[slicer.vtkMRMLSegmentationNode] = (),
    other_image: bool = False,
) -> Beat | None:
    """What the measured phases of one beat tell of the left ventricle.

    Chamber and muscle are found by what they are, the type in their terminology, else by the ID that the task's
    segments have when they are made; their names are the user's.

    Args:
        task: What was segmented.
        phases: What `measure` said of each.
        segmentationNodes: What was measured, to know where the image cuts the chamber.
        other_image: Whether the run said that the image is of another kind than the task's.

    Returns:
        None for a task in which nothing beats, and where chamber or muscle was removed from a phase.
    """
    if task.chamber is None or task.muscle is None:
        return None
    chamber = [_find(task, task.chamber, phase) for phase in phases]
    muscle = [_find(task, task.muscle, phase) for phase in phases]
    if None in chamber or None in muscle:
        return None
    areas = [
        _areas(node, [segment.id]) for node, segment in zip(segmentationNodes, chamber, strict=bool(segmentationNodes))
    ]
    return Beat([s.volume_ml for s in chamber], [s.volume_ml for s in muscle], areas, other_image)


def damage_of(task: Task, phase: Sequence[MeasuredSegment]) -> Damage | None:
    """How much of a wall is damaged; its parts are found as those of `beat_of` are.

    Returns:
        None for a task without such a wall, and where a part of it was removed or there is no muscle.
    """
    if task.wall is None:
        return None
    parts = [_find(task, label, phase) for label in (task.wall.muscle, *task.wall.damaged)]
    damage = None if None in parts else Damage(*(part.volume_ml for part in parts))
    return None if damage is None or math.isnan(damage.percent) else damage


def why_no_damage(
    task: Task,
    phases: Sequence[Sequence[MeasuredSegment]],
    segmentationNodes: Sequence[slicer.vtkMRMLSegmentationNode],
    other_image: bool = False,
) -> str:
    """Why `damage_of` is not to be told of a result, a sentence; empty where it is, and for a task without a wall.

    Args:
        task: What was segmented.
        phases: What `measure` said of each.
        segmentationNodes: What was measured, to know whether the image cuts the ventricle.
        other_image: As for `beat_of`.
    """
    if task.wall is None:
        return ""
    if len(phases) > 1:
        return SEVERAL
    labels = (task.wall.cavity, task.wall.muscle, *task.wall.damaged)
    parts = [part for label in labels if (part := _find(task, label, phases[0])) is not None]
    return why_no_size(_areas(segmentationNodes[0], [part.id for part in parts]), other_image)


def function_of(
    task: Task,
    phases: Sequence[Sequence[MeasuredSegment]],
    segmentationNodes: Sequence[slicer.vtkMRMLSegmentationNode] = (),
) -> CardiacFunction | None:
    """Function of the left ventricle; None for a single phase, where `beat_of` has none, or a reason against one."""
    beat = beat_of(task, phases, segmentationNodes)
    return beat.function if beat else None


def _cubic_millimetres(
    segmentationNode: slicer.vtkMRMLSegmentationNode,
    segment: slicer.vtkSegment,
    counts: dict[slicer.vtkOrientedImageData, np.ndarray],
) -> float:
    """In the coordinates of the segmentation; `counts` keeps the voxels per label of the labelmaps seen."""
    converter = slicer.vtkSegmentationConverter
    labelmap = segment.GetRepresentation(converter.GetSegmentationBinaryLabelmapRepresentationName())
    surfaceName = converter.GetSegmentationClosedSurfaceRepresentationName()
    surface = segment.GetRepresentation(surfaceName)
    # Where labelmaps are the source an empty one is an empty segment, though a surface may be left of what it was.
    of_surfaces = segmentationNode.GetSegmentation().GetSourceRepresentationName() == surfaceName
    if surface is not None and (labelmap is None or (of_surfaces and labelmap.IsEmpty())):
        return _enclosed_volume(surface)
    if labelmap is not None:
        if labelmap not in counts:
            counts[labelmap] = _voxels_per_label(labelmap)
        label = segment.GetLabelValue()
        return counts[labelmap][label] * _voxel_volume(labelmap) if label < len(counts[labelmap]) else 0.0
    contained: list[str] = []
    segment.GetContainedRepresentationNames(contained)
    if contained:
        raise InputError(
            _(
                "The segment '{segment}' of '{name}' is neither a label map nor a closed surface: convert it to a "
                "binary labelmap (module Segmentations) to measure it."
            ).format(segment=segment.GetName(), name=segmentationNode.GetName())
        )
    return 0.0


def _voxels_per_label(image: slicer.vtkOrientedImageData) -> np.ndarray:
    """Number of voxels with each label above 0, by the label."""
    scalars = image.GetPointData().GetScalars()
    if image.IsEmpty() or scalars is None:
        return np.zeros(1, np.intp)
    labels = vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1])
    if labels.dtype.kind not in "iu":
        labels = labels.astype(np.intp)
    # Only where a label is: all voxels together, for each label or as indices, take long of a large CT.
    boxes = ndimage.find_objects(labels)
    counts = [0 if box is None else int(np.count_nonzero(labels[box] == n)) for n, box in enumerate(boxes, start=1)]
    return np.array([0, *counts], np.intp)


def _areas(segmentationNode: slicer.vtkMRMLSegmentationNode, segment_ids: Sequence[str]) -> Areas | None:
    """Cross-sections of segments together in the image that they were made from, as the node remembers its grid.

    Empty ones have none. None where they cannot be told: for a surface, where label map and image have different
    grids, and where all are empty.
    """
    segmentation = segmentationNode.GetSegmentation()
    converter = slicer.vtkSegmentationConverter
    geometry = segmentation.GetConversionParameter(converter.GetReferenceImageGeometryParameterName())
    grid = slicer.vtkOrientedImageData()
    if not geometry or not converter.DeserializeImageGeometry(geometry, grid, False):
        return None
    name = converter.GetSegmentationBinaryLabelmapRepresentationName()
    segments = [segmentation.GetSegment(segment_id) for segment_id in segment_ids]
    labelmaps = [segment.GetRepresentation(name) for segment in segments]
    if None in labelmaps or all(labelmap.IsEmpty() for labelmap in labelmaps):
        return None
    first, last = np.reshape(grid.GetExtent(), (3, 2)).T[:, ::-1]
    inside = np.zeros(last - first + 1, bool)
    for segment, labelmap in zip(segments, labelmaps, strict=True):
        if labelmap.IsEmpty():
            continue
        if not np.allclose(_matrix(labelmap), _matrix(grid), atol=1e-3):
            return None
        begin, end = np.reshape(labelmap.GetExtent(), (3, 2)).T[:, ::-1]
        low, high = np.maximum(first, begin), np.minimum(last, end)
        if (low > high).any():
            return None
        labels = vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape(labelmap.GetDimensions()[::-1])
        there = tuple(slice(a, b + 1) for a, b in zip(low - begin, high - begin, strict=True))
        here = tuple(slice(a, b + 1) for a, b in zip(low - first, high - first, strict=True))
        inside[here] |= labels[there] == segment.GetLabelValue()
    return segment_areas(inside, np.array(grid.GetSpacing()[::-1]))


def _matrix(image: slicer.vtkOrientedImageData) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def _voxel_volume(image: slicer.vtkOrientedImageData) -> float:
    return abs(float(np.linalg.det(_matrix(image)[:3, :3])))


def _enclosed_volume(surface: vtk.vtkPolyData) -> float:
    if surface.GetNumberOfCells() == 0:
        return 0.0
    triangles = vtk.vtkTriangleFilter()
    triangles.SetInputData(surface)
    triangles.PassLinesOff()
    triangles.PassVertsOff()
    properties = vtk.vtkMassProperties()
    properties.SetInputConnection(triangles.GetOutputPort())
    return properties.GetVolume()


def _find(task: Task, label: int, phase: Sequence[MeasuredSegment]) -> MeasuredSegment | None:
    """The segment of `phase` that is the task's one with that label."""
    wanted = next(segment for segment in task.segments if segment.label == label)
    code = (wanted.type.scheme, wanted.type.value)
    of_type = [s for s in phase if s.type is not None and (s.type.scheme, s.type.value) == code]
    # A user may have more than one of a type: the task's own is then the one that still has its ID.
    by_id = [s for s in of_type or phase if s.id == wanted.name]
    return next(iter(by_id + of_type), None)
