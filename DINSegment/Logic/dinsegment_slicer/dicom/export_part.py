"""A segmentation that the worker writes as DICOM SEG: what is written for it, what it is asked, and what it answers."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from dinsegment.errors import InputError, OutputError
from dinsegment.tasks import Code
from dinsegment.worker_exchange import IMAGE, MASK, SOURCES
from dinsegment_slicer.dicom.instances import SourceFiles
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.running.process import FOLDER_PREFIX, remove_folder
from dinsegment_slicer.running.segment_part import write_blocks


@dataclass(frozen=True)
class ExportSegment:
    """What the DICOM SEG says of a segment, as `dinsegment.dicom.write.seg.SegSegment`.

    Attributes:
        id: Its ID in the segmentation.
    """

    id: str
    name: str
    category: Code
    type: Code
    modifier: Code | None
    region: Code | None
    region_modifier: Code | None
    color: tuple[int, int, int]
    algorithm_type: str
    algorithm_name: str | None
    algorithm_version: str | None

    def described(self) -> dict[str, Any]:
        """A dictionary of what is said of the segment, in the form in which the worker takes it."""
        values = {key: value for key, value in asdict(self).items() if key != "id"}
        codes = ("category", "type", "modifier", "region", "region_modifier")
        return values | {key: list(values[key].values()) for key in codes if values[key] is not None}


@dataclass(frozen=True, eq=False)
class SegExport:
    """One DICOM SEG to write.

    Attributes:
        segmentationNode: What is written.
        volumeNode: The image on whose grid it is, as loaded from DICOM.
        name: What messages call the image.
        segments: Those that have voxels.
        source: Where the DICOM images are.
        path: The file to write.
        run: The same for all phases of a cine.
        phase: Of a cine, counted from 0.
        options: As `dinsegment.dicom.write.seg.SegOptions`.
    """

    segmentationNode: slicer.vtkMRMLSegmentationNode
    volumeNode: slicer.vtkMRMLScalarVolumeNode
    name: str
    segments: Sequence[ExportSegment]
    source: SourceFiles
    path: Path
    run: str
    phase: int = 0
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Exported:
    """A DICOM SEG that was written.

    Attributes:
        path: The file.
        uid: Its SOP Instance UID.
        staged: Where the worker has put it, until the whole job is done.
    """

    path: Path
    uid: str
    staged: Path


def place(exported: Sequence[Exported]) -> None:
    """Moves the files of a job to where they belong: all of them or, with an error, none.

    Raises:
        OutputError: One of them could not be moved.
    """
    placed = []
    try:
        for one in exported:
            if one.path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            one.staged.replace(one.path)
            placed.append(one.path)
    except OSError as error:
        for path in placed:
            path.unlink(missing_ok=True)
        raise OutputError(
            _("'{path}' could not be written ({reason}): choose another folder and export again.").format(
                path=one.path, reason=error.strerror or error
            )
        ) from error


class ExportPart:
    """One DICOM SEG of a job.

    Args:
        export: What to write; the nodes are read while the part is written.
    """

    def __init__(self, export: SegExport) -> None:
        self._export = export
        matrix = vtk.vtkMatrix4x4()
        export.volumeNode.GetIJKToRASMatrix(matrix)  # Without parent transforms: DICOM knows of none.
        self._volume = {
            "name": export.name,
            "shape": export.volumeNode.GetImageData().GetDimensions()[::-1],
            "ijk_to_ras": slicer.util.arrayFromVTKMatrix(matrix).tolist(),
        }
        self._segments: list[dict[str, Any]] = []
        # Beside the place of the file, so that moving it there is one step, of which nothing is left when it is killed.
        self._staging = export.path.parent / f".{FOLDER_PREFIX}{export.run}"

    def check(self) -> None:
        """Everything was checked when the export was made."""

    def write(self, folder: Path) -> Iterator[None]:
        """Writes the masks, each as far as it reaches, and the image where that has to tell DICOM images apart.

        Raises:
            InputError: No segment reaches into the image.
        """
        export = self._export
        self._staging.mkdir(exist_ok=True)
        (folder / SOURCES).write_text(json.dumps(export.source.paths), encoding="utf-8")
        yield
        for segment in export.segments:
            mask, first = segment_mask(export.segmentationNode, segment.id, export.volumeNode)
            yield
            if not mask.size:
                continue  # All of it lies outside of the image.
            self._segments.append({**segment.described(), "first": list(first)})
            yield from write_blocks(folder / MASK.format(len(self._segments)), mask, bool)
        if not self._segments:
            raise InputError(
                _("No segment of '{name}' reaches into its image: there is nothing to export.").format(
                    name=export.segmentationNode.GetName()
                )
            )
        if not export.source.exact:
            yield from write_blocks(folder / IMAGE, slicer.util.arrayFromVolume(export.volumeNode))

    def request(self) -> dict[str, Any]:
        """What the worker is told."""
        export = self._export
        return {
            "command": "export",
            "path": str(self._staging / export.path.name),
            "run": export.run,
            "phase": export.phase,
            "volume": self._volume,
            "segments": self._segments,
            "options": export.options,
        }

    def result(self, folder: Path, event: dict[str, Any]) -> Exported:
        """What the worker's `done` says.

        Raises:
            KeyError, ValueError: That is not what was agreed.
        """
        staged = Path(event["path"])
        if not staged.is_file():
            raise ValueError(f"There is no '{staged}'")
        return Exported(self._export.path, str(event["uid"]), staged)

    def close(self) -> None:
        """Removes what was written but not placed; a second time does nothing."""
        remove_folder(self._staging)


def segment_mask(
    segmentationNode: slicer.vtkMRMLSegmentationNode, segment_id: str, volumeNode: slicer.vtkMRMLScalarVolumeNode
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """A segment on the grid of an image, cut to where it is. Neither node needs a scene; the scene stays as it is.

    Returns:
        The part of the grid (k, j, i), bool, that holds all voxels of the segment that are in the image, and the index
        (k, j, i) of its first voxel; without voxels if there are none.
    """
    ids = vtk.vtkStringArray()
    ids.InsertNextValue(segment_id)
    labelmap = slicer.vtkOrientedImageData()
    slicer.vtkSlicerSegmentationsModuleLogic.GenerateMergedLabelmapInReferenceGeometry(
        segmentationNode, volumeNode, ids, slicer.vtkSegmentation.EXTENT_UNION_OF_EFFECTIVE_SEGMENTS, labelmap
    )
    scalars = labelmap.GetPointData().GetScalars()
    if scalars is None or labelmap.IsEmpty():
        return np.zeros((0, 0, 0), bool), (0, 0, 0)
    offset = np.array(labelmap.GetExtent()[4::-2])  # Of its first voxel, (k, j, i); it may lie outside of the image.
    shape = volumeNode.GetImageData().GetDimensions()[::-1]
    labels = vtk_to_numpy(scalars).reshape(labelmap.GetDimensions()[::-1])
    inside = [slice(max(0, -o), max(0, n - o)) for o, n in zip(offset.tolist(), shape, strict=True)]
    mask = labels[tuple(inside)] != 0
    box = bounding_box(mask)
    if box is None:
        return np.zeros((0, 0, 0), bool), (0, 0, 0)
    first = [int(o) + i.start + b.start for o, i, b in zip(offset, inside, box, strict=True)]
    return mask[box], (first[0], first[1], first[2])


def bounding_box(mask: np.ndarray) -> tuple[slice, slice, slice] | None:
    """The part of a mask (k, j, i) that holds all its voxels; None without any."""
    planes = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    return tuple(slice(int(p[0]), int(p[-1]) + 1) for p in planes) if planes[0].size else None
