"""A segmentation in a file to a DICOM SEG of the series that it was made from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from dinsegment.dicom.write.grid import put_on_grid
from dinsegment.dicom.write.save import save_dicom
from dinsegment.dicom.write.seg import SegOptions, SegSegment, make_dicom_seg, seg_warnings, task_segments
from dinsegment.errors import InputError
from dinsegment.files import check_name
from dinsegment.images.fingerprint import FINGERPRINT_TAG, VERSION_TAG, fingerprints, same_voxels
from dinsegment.images.reading import grid_text, itk_warnings_off, read_volume, read_volumes
from dinsegment.images.volume import Volume
from dinsegment.tasks import Code, Task

LARGEST_LABEL = 65535
"""Labels are looked at as unsigned numbers of 16 bits."""


def export_dicom_seg(
    path: Path,
    source: Path,
    output: Path,
    options: SegOptions,
    series_uid: str | None = None,
    phase: int | None = None,
    task: Task | None = None,
    model: str | None = None,
    warn: Callable[[str], object] = lambda _text: None,
) -> list[SegSegment]:
    """Writes a DICOM SEG of a segmentation file.

    Args:
        path: A `.seg.nrrd` file, or a labelmap in NRRD, NIfTI or MetaImage; its axes may be in another order or
            direction than those of the images, and it may cover only a part of them.
        source: The DICOM images it was made from.
        output: The file to write.
        options: Descriptions, numbers and UIDs.
        series_uid: Series Instance UID, where `source` has several series.
        phase: Which phase was segmented, counted from 1, where `source` is a cine.
        task: What the labels mean; needed unless the file says so itself.
        model: Model that made a labelmap; without it, its segments count as drawn by hand.
        warn: Called with a sentence for each thing that had to be decided.

    Returns:
        The segments that were written: those with voxels.

    Raises:
        InputError: A file cannot be read, its labels or its grid do not fit, or as `make_dicom_seg`.
        OutputError: As `save_dicom`.
    """
    check_name(path)
    check_layers(path)
    labels = read_volume(path)
    described = _task_labels(task, model) if task else read_segments(path, labels)
    _check_labels(path, labels, described)
    reference = _phase(source, read_volumes(source, series_uid, task), phase)
    if reference.dicom is None:
        raise InputError(f"'{source}' is not DICOM: give the images that were segmented, as the scanner wrote them.")
    on_grid = np.zeros(reference.shape, dtype=np.uint16)
    if not put_on_grid(labels.array.astype(np.uint16), labels.ijk_to_ras, reference, on_grid):
        raise InputError(
            f"'{path}' ({grid_text(labels)}) does not lie on the grid of '{source}' ({grid_text(reference)}): give the "
            "series that was segmented."
        )
    said = seg_warnings(reference, options)
    instances, ijk_to_ras = reference.dicom, reference.ijk_to_ras
    del labels, reference  # a CT and its masks are large
    masks = [on_grid == label for label in described]
    seg = make_dicom_seg(masks, list(described.values()), instances, options, ijk_to_ras)
    save_dicom(seg, output)
    for text in said:
        warn(text)
    return [segment for segment, mask in zip(described.values(), masks, strict=True) if mask.any()]


def read_segments(path: Path, labels: Volume) -> dict[int, SegSegment]:
    """What a `.seg.nrrd` file, of this library or of 3D Slicer, says of its segments, by their labels.

    A segment that is no longer what the network made is SEMIAUTOMATIC, where the file tells that.

    Args:
        path: The file.
        labels: Its labelmap.

    Raises:
        InputError: It says nothing, or of a segment not what it is.
    """
    fields = segment_fields(path)
    by_label = {label: own for (_layer, label), own in fields.items()}
    if len(by_label) < len(fields):
        raise InputError(f"'{path}' lacks voxels of segments that it describes: save it again from 3D Slicer.")
    if not by_label:
        raise InputError(f"'{path}' does not say what its labels mean: give the task, or a .seg.nrrd file.")
    present = fingerprints(labels.array.astype(np.uint16), by_label, labels.ijk_to_ras)
    return {label: _segment(path, own, present[label]) for label, own in by_label.items()}


def segment_fields(path: Path) -> dict[tuple[int, int], dict[str, str]]:
    """What a `.seg.nrrd` file says of each segment, by its layer and its label there: fields such as `Name` and `Tags`.

    Empty where it says nothing. Source of the fields: Slicer's vtkMRMLSegmentationStorageNode.

    Raises:
        InputError: It says that a segment has a label that cannot be, or that two have the same.
    """
    header = _header(path)
    fields = {key: header.GetMetaData(key) for key in header.GetMetaDataKeys()}
    found: dict[tuple[int, int], dict[str, str]] = {}
    number = 0
    while f"Segment{number}_ID" in fields:
        own = {key.partition("_")[2]: value for key, value in fields.items() if key.startswith(f"Segment{number}_")}
        label, layer = _label(path, own, number), own.get("Layer", "0").strip()
        place = int(layer) if layer.isdecimal() else 0, label
        if place in found:
            raise InputError(f"'{path}' has two segments with the label {label}: save it again from 3D Slicer.")
        found[place] = own
        number += 1
    return found


def tags_of(fields: Mapping[str, str]) -> dict[str, str]:
    """The tags of a segment, of what `segment_fields` gives."""
    return dict(tag.split(":", 1) for tag in fields.get("Tags", "").split("|") if ":" in tag)


def type_of(fields: Mapping[str, str]) -> tuple[Code | None, Code | None]:
    """What a segment is by its terminology, and what modifies that; None for what it does not say."""
    parts = [*tags_of(fields).get("TerminologyEntry", "").split("~"), *[""] * 4]
    return _code(parts[2]), _code(parts[3])


def read_tag(path: Path, name: str) -> str | None:
    """The first tag of that name that a `.seg.nrrd` file has at one of its segments; None without one."""
    header = _header(path)
    for key in sorted(header.GetMetaDataKeys()):
        if key.startswith("Segment") and key.endswith("_Tags"):
            for tag in header.GetMetaData(key).split("|"):
                found, _, value = tag.partition(":")
                if found == name:
                    return value
    return None


def read_key(path: Path, name: str) -> str:
    """What a NRRD file says under a key that is none of a segment's; empty where it says nothing."""
    header = _header(path)
    return header.GetMetaData(name) if header.HasMetaDataKey(name) else ""


def _label(path: Path, fields: Mapping[str, str], number: int) -> int:
    """The value that marks a segment's voxels; without one, Slicer counts from 1."""
    text = fields.get("LabelValue", str(number + 1)).strip()
    if not re.fullmatch(r"0*[1-9][0-9]{0,4}", text) or int(text) > LARGEST_LABEL:
        raise InputError(
            f"'{path}' marks the segment '{fields.get('Name') or fields['ID']}' with the label '{text}', which is none "
            f"from 1 to {LARGEST_LABEL}: save it again from 3D Slicer."
        )
    return int(text)


def _color(path: Path, name: str, fields: Mapping[str, str]) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255; grey without a colour."""
    text = fields.get("Color", "0.5 0.5 0.5")
    try:
        red, green, blue = (float(channel) for channel in text.split())
        if not all(0 <= channel <= 1 for channel in (red, green, blue)):  # nor NaN
            raise ValueError(text)
    except ValueError as error:
        raise InputError(
            f"'{path}' gives '{name}' the colour '{text}', which is no three numbers from 0 to 1: save it again from "
            "3D Slicer."
        ) from error
    return round(255 * red), round(255 * green), round(255 * blue)


def _header(path: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with itk_warnings_off():
        reader.ReadImageInformation()
    return reader


def check_layers(path: Path) -> None:
    """Refuses what 3D Slicer saves of segments that overlap: several labelmaps as values of one voxel."""
    if path.name.endswith(".seg.nrrd") and path.exists():
        try:
            layers = _header(path).GetNumberOfComponents()
        except RuntimeError:
            return  # reading it says what is wrong
        if layers > 1:
            raise InputError(f"'{path}' has segments that overlap: export them from 3D Slicer with this extension.")


def _segment(path: Path, fields: Mapping[str, str], fingerprint: str) -> SegSegment:
    name = fields.get("Name") or fields["ID"]
    tags = tags_of(fields)
    algorithm_type = tags.get("DICOM.SegmentAlgorithmType", "MANUAL")
    if algorithm_type == "AUTOMATIC" and not same_voxels(tags.get(FINGERPRINT_TAG, fingerprint), fingerprint):
        algorithm_type = "SEMIAUTOMATIC"
    parts = [*tags.get("TerminologyEntry", "").split("~"), *[""] * 7]
    category, kind, modifier, region, region_modifier = (_code(parts[n]) for n in (1, 2, 3, 5, 6))
    if category is None or kind is None:
        raise InputError(f"'{path}' does not say what '{name}' is: choose its terminology in 3D Slicer.")
    return SegSegment(
        name=name,
        category=category,
        type=kind,
        modifier=modifier,
        region=region,
        region_modifier=region_modifier,
        color=_color(path, name, fields),
        algorithm_type=algorithm_type,
        algorithm_name=tags.get("DICOM.SegmentAlgorithmName"),
        algorithm_version=tags.get(VERSION_TAG),
    )


def _code(text: str) -> Code | None:
    """A code as 3D Slicer's terminology entries have it: scheme^value^meaning."""
    parts = text.split("^")
    return Code(*parts) if len(parts) == 3 and all(parts) else None


def _task_labels(task: Task, model: str | None) -> dict[int, SegSegment]:
    segments: Sequence[SegSegment] = task_segments(task, model or "")
    if model is None:
        by_hand = {"algorithm_type": "MANUAL", "algorithm_name": None, "algorithm_version": None}
        segments = [replace(segment, **by_hand) for segment in segments]
    return {known.label: segment for known, segment in zip(task.segments, segments, strict=True)}


def _check_labels(path: Path, labels: Volume, described: Mapping[int, SegSegment]) -> None:
    unknown = [f"{value:g}" for value in np.unique(labels.array) if value not in (0, *described)]
    if unknown:
        shown = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        raise InputError(f"'{path}' has labels that nothing is known of ({shown}): give a labelmap of the task.")


def _phase(source: Path, volumes: list[Volume], phase: int | None) -> Volume:
    if phase is None and len(volumes) == 1:
        return volumes[0]
    if phase is None:
        raise InputError(f"'{source}' has {len(volumes)} phases: say which one was segmented, from 1 on.")
    if not 1 <= phase <= len(volumes):
        raise InputError(f"'{source}' has no phase {phase}: it has {len(volumes)}.")
    return volumes[phase - 1]
