"""Segmentation nodes, as the user left them -> what is to be written as DICOM SEG, or what is missing for it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import slicer
from packaging.version import Version

from dinsegment.errors import InputError
from dinsegment.files import ensure_writable_folder, phase_names
from dinsegment.images.fingerprint import EMPTY, VERSION_TAG
from dinsegment_slicer.dicom.export_part import ExportSegment, SegExport
from dinsegment_slicer.dicom.instances import DicomDatabase, SourceFiles, SourceUnknown, source_files
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene.browsers import proxy_of
from dinsegment_slicer.scene.edits import (
    ALGORITHM_NAME_TAG,
    ALGORITHM_TYPE_TAG,
    AUTOMATIC,
    MANUAL,
    SEMIAUTOMATIC,
    mark_edited,
    segment_fingerprints,
    tag,
)
from dinsegment_slicer.scene.labelmaps import SEGMENTATION_LABELMAP
from dinsegment_slicer.scene.nodes import checked_volume, original_of
from dinsegment_slicer.scene.sequences import phases, sequence_of
from dinsegment_slicer.scene.terminology import read_entry

PACKAGES = {"pydicom": Version("3.0.1"), "highdicom": Version("0.27")}
"""What the worker needs for it, and Slicer brings from 5.12 on; older ones need the pydicom that they have."""

SERIES_NUMBER = 300
LONG_STRING = 64
"""Characters of a DICOM LO value, a description."""

REFERENCE_ROLE = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
"""Role of the node reference from a segmentation to its image."""


@dataclass(frozen=True, eq=False)
class _Pair:
    """A segmentation and its image; of a cine those of a phase, which lie in scenes of their own."""

    segmentationNode: slicer.vtkMRMLSegmentationNode
    volumeNode: slicer.vtkMRMLScalarVolumeNode
    name: str


@dataclass(frozen=True, eq=False)
class _Result:
    """What one segmentation node in the scene shows: a segmentation, or one for each phase of a cine."""

    segmentationNode: slicer.vtkMRMLSegmentationNode
    volumeNode: slicer.vtkMRMLScalarVolumeNode
    sequenceNode: slicer.vtkMRMLSequenceNode | None
    pairs: Sequence[_Pair]


def seg_exports(
    segmentationNodes: Sequence[slicer.vtkMRMLSegmentationNode],
    folder: Path | None,
    database: DicomDatabase | None,
    source_folder: Path | None = None,
) -> list[SegExport]:
    """What is to be written: a DICOM SEG for each segmentation, and for each phase of a cine.

    The tags of the segments are brought up to date: SEMIAUTOMATIC where the user has changed something.

    Args:
        segmentationNodes: In the scene; of a cine the node that shows the phases.
        folder: Where to write; made if it is not there. No file in it is replaced.
        database: Knows the DICOM files.
        source_folder: Where the DICOM images are, if the database does not know.

    Raises:
        SourceUnknown: Nothing else is missing, but with `source_folder` it would do.
        InputError: Something is missing; there is a line for each thing.
        OutputError: `folder` cannot be written to.
    """
    _check_packages()
    results, problems = [], []
    present: dict[_Pair, list[str]] = {}
    if folder is None:
        problems.append(_("Choose the folder in which the DICOM SEG is saved."))
    for node in segmentationNodes:
        try:
            results.append(_result(node))
        except InputError as error:
            problems.append(str(error))
    for result in results:
        for pair in result.pairs:
            found = segment_fingerprints(pair.segmentationNode)
            mark_edited(pair.segmentationNode, found)
            present[pair] = [id for id, fingerprint in found.items() if fingerprint != EMPTY]
            problems += _problems(pair, result, present[pair])
    unknown: list[str] = []
    sources = [_sources(result, database, source_folder, unknown) for result in results]
    problems = list(dict.fromkeys(problems))  # Of a cine each phase says the same.
    if problems:
        raise InputError("\n".join([*problems, *unknown]))
    if unknown:
        raise SourceUnknown("\n".join(unknown))
    ensure_writable_folder(folder)
    exports = []
    for result, source in zip(results, sources, strict=True):
        exports += _exports(result, source, folder, present)
    return exports


def reference_image(segmentationNode: slicer.vtkMRMLSegmentationNode) -> slicer.vtkMRMLScalarVolumeNode:
    """The image on whose grid a segmentation was made; the original where it was set to be an enhanced one.

    Raises:
        InputError: There is none.
    """
    node = segmentationNode.GetNodeReference(REFERENCE_ROLE)
    node = original_of(node) or node
    if node is None:
        raise InputError(
            _(
                "The segmentation '{name}' has no reference image: open it in the Segment Editor and choose the image "
                "that it was made from as source volume."
            ).format(name=segmentationNode.GetName())
        )
    return checked_volume(node)


def _check_packages() -> None:
    for name, least in PACKAGES.items():
        try:
            there = Version(metadata.version(name)) >= least
        except metadata.PackageNotFoundError:
            there = False
        if not there:
            raise InputError(
                _(
                    "The export needs {name} {version} or newer, which Slicer brings from 5.12 on: update Slicer."
                ).format(name=name, version=least)
            )


def _result(segmentationNode: slicer.vtkMRMLSegmentationNode) -> _Result:
    volumeNode = reference_image(segmentationNode)
    segmentations, images = _phases_of(segmentationNode), sequence_of(volumeNode)
    if segmentations is None or images is None:
        pair = _Pair(segmentationNode, volumeNode, volumeNode.GetName())
        return _Result(segmentationNode, volumeNode, None, [pair])
    sequenceNode = images[1]
    nodes = phases(sequenceNode)
    names = phase_names(proxy_of(sequenceNode).GetName(), len(nodes))
    pairs = []
    for index, (node, name) in enumerate(zip(nodes, names, strict=True)):
        found = segmentations.GetDataNodeAtValue(sequenceNode.GetNthIndexValue(index))
        if found is not None:  # The user may have removed a phase.
            pairs.append(_Pair(found, node, name))
    return _Result(segmentationNode, volumeNode, sequenceNode, pairs)


def _phases_of(segmentationNode: slicer.vtkMRMLSegmentationNode) -> slicer.vtkMRMLSequenceNode | None:
    """The sequence of which `segmentationNode` shows the phases; None for a single segmentation."""
    scene = segmentationNode.GetScene()
    for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode") if scene else 0):
        sequenceNode = scene.GetNthNodeByClass(n, "vtkMRMLSequenceBrowserNode").GetSequenceNode(segmentationNode)
        if sequenceNode is not None:
            return sequenceNode
    return None


def _problems(pair: _Pair, result: _Result, present: Sequence[str]) -> Iterator[str]:
    """What is missing, a sentence each; `present` are the IDs of the segments that have voxels."""
    segmentation = pair.segmentationNode.GetSegmentation()
    name = result.segmentationNode.GetName()
    if result.segmentationNode.GetTransformNodeID() != result.volumeNode.GetTransformNodeID():
        yield _(
            "'{name}' lies under another transform than its image '{image}': put both under the same one or under none "
            "(module Transforms)."
        ).format(name=name, image=result.volumeNode.GetName())
    if segmentation.GetNumberOfSegments() and not segmentation.ContainsRepresentation(SEGMENTATION_LABELMAP):
        yield _(
            "'{name}' is no labelmap: create its representation 'Binary labelmap' (module Segmentations, section "
            "Representations)."
        ).format(name=name)
        return
    if not present and result.sequenceNode is None:
        yield _("'{name}' has no voxels: there is nothing to export.").format(name=name)
    for segment_id in present:
        segment = segmentation.GetSegment(segment_id)
        entry = read_entry(segment.GetTerminology())
        if entry.category is None or entry.type is None:
            yield _(
                "The segment '{segment}' of '{name}' has no code that says what it is: double-click its colour in the "
                "Segment Editor and choose a term."
            ).format(segment=segment.GetName(), name=name)
        algorithm = tag(segment, ALGORITHM_TYPE_TAG)
        if algorithm in (AUTOMATIC, SEMIAUTOMATIC) and not tag(segment, ALGORITHM_NAME_TAG):
            yield _(
                "The segment '{segment}' of '{name}' is marked as made by an algorithm, but does not name it: give it "
                "the tag {tag}."
            ).format(segment=segment.GetName(), name=name, tag=ALGORITHM_NAME_TAG)


def _sources(
    result: _Result, database: DicomDatabase | None, source_folder: Path | None, unknown: list[str]
) -> list[SourceFiles]:
    """The files of each phase; what is not known goes to `unknown`."""
    if source_folder is not None:
        return [SourceFiles((str(source_folder),), exact=False)] * len(result.pairs)
    proxyNode = result.volumeNode if result.sequenceNode is not None else None
    try:
        return [source_files(pair.volumeNode, database, proxyNode, result.sequenceNode) for pair in result.pairs]
    except SourceUnknown as error:
        unknown.append(str(error))
        return []


def _exports(
    result: _Result, sources: list[SourceFiles], folder: Path, present: Mapping[_Pair, Sequence[str]]
) -> list[SegExport]:
    title = result.segmentationNode.GetName()
    run = uuid.uuid4()
    several = len(result.pairs) > 1
    options: dict[str, Any] = {
        "series_number": SERIES_NUMBER,
        "series_description": _description(title),
        "common_grid": True,  # Slicer reads no other, where the patient has moved between the slices.
    }
    if several:
        options["series_uid"] = f"2.25.{run.int}"  # DICOM PS3.5 B.2: a UUID is a UID.
    names = phase_names(_file_name(title), len(result.pairs))
    exports = []
    for phase, (pair, source, path) in enumerate(zip(result.pairs, sources, _free(folder, names), strict=True)):
        if not (segments := _segments(pair.segmentationNode, present[pair])):
            continue  # A phase in which nothing was found.
        exports.append(
            SegExport(
                segmentationNode=pair.segmentationNode,
                volumeNode=pair.volumeNode,
                name=pair.name,
                segments=segments,
                source=source,
                path=path,
                run=run.hex,
                phase=phase,
                options={**options, "instance_number": phase + 1},
            )
        )
    if not exports:
        raise InputError(_("'{name}' has no voxels: there is nothing to export.").format(name=title))
    return exports


def _segments(segmentationNode: slicer.vtkMRMLSegmentationNode, present: Sequence[str]) -> list[ExportSegment]:
    segmentation = segmentationNode.GetSegmentation()
    return [_segment(segment_id, segmentation.GetSegment(segment_id)) for segment_id in present]


def _segment(segment_id: str, segment: slicer.vtkSegment) -> ExportSegment:
    entry = read_entry(segment.GetTerminology())
    algorithm_type = tag(segment, ALGORITHM_TYPE_TAG) or MANUAL  # As Slicer's own export takes it.
    by_hand = algorithm_type == MANUAL
    return ExportSegment(
        id=segment_id,
        name=segment.GetName() or entry.type.meaning,
        category=entry.category,
        type=entry.type,
        modifier=entry.modifier,
        region=entry.region,
        region_modifier=entry.region_modifier,
        color=tuple(round(255 * channel) for channel in segment.GetColor()),
        algorithm_type=algorithm_type,
        algorithm_name=None if by_hand else tag(segment, ALGORITHM_NAME_TAG),
        algorithm_version=None if by_hand else tag(segment, VERSION_TAG),
    )


def _description(name: str) -> str:
    """A name as a DICOM description, of printable characters, at most 64, without a backslash."""
    return "".join(c if c.isprintable() and c != "\\" else " " for c in name)[:LONG_STRING]


def _file_name(name: str) -> str:
    """A name as a file's on every system."""
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", name).strip(". ") or "segmentation"


def _free(folder: Path, names: list[str]) -> list[Path]:
    """Paths that are not there yet, with the same number where there has to be one."""
    number, suffix = 1, ""
    while any((folder / f"{name}{suffix}.dcm").exists() for name in names):
        number += 1
        suffix = f" ({number})"
    return [folder / f"{name}{suffix}.dcm" for name in names]
