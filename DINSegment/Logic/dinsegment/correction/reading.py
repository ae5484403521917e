"""A corrected segmentation in a file: its labels on the image's grid, and which slices a person has corrected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dinsegment.correction.told import slices_told
from dinsegment.dicom.write.export import read_tag, segment_fields, tags_of, type_of
from dinsegment.dicom.write.grid import put_on_grid
from dinsegment.errors import InputError
from dinsegment.images.fingerprint import IMAGE_TAG, changed_slices
from dinsegment.images.reading import grid_text, read_layers, read_volume, read_volumes
from dinsegment.images.slices import slice_axis
from dinsegment.images.volume import Volume
from dinsegment.manifest import PROGRAM
from dinsegment.quality.words import counted
from dinsegment.tasks import Segment, Task

MOST = 0.5
"""Share of the slices that somebody may have corrected by hand; where more differ, the labels are of another origin."""

Fields = Mapping[tuple[int, int], Mapping[str, str]]
"""What a file says of its segments, as `segment_fields` gives it."""


@dataclass(frozen=True, eq=False)
class Corrected:
    """A corrected segmentation.

    Attributes:
        labels: (k, j, i) uint8 on the image's grid.
        slices: That a person has corrected, counted from 0 along the image's slice axis; None where the file does not
            tell, as it does not know what the tool had made.
        remarks: Sentences for the user: what had to be decided, and what is left out.
        models: Names of those that made the segments, as far as the file tells them.
        image: Which image they were made of, as `grey_print` has it; empty where the file does not tell.
    """

    labels: np.ndarray
    slices: tuple[int, ...] | None
    remarks: tuple[str, ...] = ()
    models: frozenset[str] = frozenset()
    image: str = ""


def read_corrected(path: Path, volume: Volume, task: Task) -> Corrected:
    """Reads a `.seg.nrrd` file, as this program or 3D Slicer writes it, or a labelmap with the task's own labels.

    What this program writes says of each slice what it was. 3D Slicer keeps that when it saves a segmentation, and so
    shows which slices were changed since. Where segments overlap, a voxel belongs to the last one, as in the panel.

    Args:
        path: The file.
        volume: The image that was segmented.
        task: What is segmented.

    Raises:
        InputError: It cannot be read, lies on another grid, or has none of the task's segments.
    """
    is_nrrd = path.name.lower().endswith((".nrrd", ".nhdr"))
    layers = read_layers(path) if is_nrrd else [read_volume(path)]
    return _corrected(path, layers, segment_fields(path) if is_nrrd else {}, volume, task)


def read_corrected_phases(path: Path, volumes: Sequence[Volume], task: Task) -> list[Corrected]:
    """Reads a 4D labelmap with the task's own labels, a 3D one for each phase of a cine.

    Raises:
        InputError: As `read_corrected`, or it has another number of phases.
    """
    found = [] if path.name.lower().endswith(".seg.nrrd") else read_volumes(path)
    if len(found) != len(volumes):
        raise InputError(
            f"There is 1 segmentation of {counted(len(volumes), 'phase')}, '{path}': give one for each phase, in their "
            "order, a 4D labelmap, or the folder with the results."
        )
    return [_corrected(path, [one], {}, volume, task) for one, volume in zip(found, volumes, strict=True)]


def _corrected(path: Path, layers: Sequence[Volume], fields: Fields, volume: Volume, task: Task) -> Corrected:
    """What layers of a file have on the grid of an image."""
    values = [_whole_numbers(path, layer) for layer in layers]
    if fields:
        found, remarks = _of_segments(path, values, fields, task)
    elif len(layers) > 1:
        raise InputError(f"'{path}' does not say what its {len(layers)} layers mean: save it again from 3D Slicer.")
    else:
        found, remarks = _of_labels(path, values[0], layers[0], volume, task)
    labels = np.zeros(volume.shape, np.uint8)
    if not put_on_grid(found, layers[0].ijk_to_ras, volume, labels):
        raise InputError(
            f"'{path}' ({grid_text(layers[0])}) does not lie on the grid of '{volume.name}' ({grid_text(volume)}): "
            "give the image that was segmented, or bring the segmentation to its grid (in 3D Slicer's Segment Editor, "
            "Specify geometry)."
        )
    told = slices_told(path, labels, volume, slice_axis(volume, task.plane)) if fields else None
    models = frozenset(filter(None, map(_model_of, fields.values())))
    return Corrected(labels, told, tuple(remarks), models, (fields and read_tag(path, IMAGE_TAG)) or "")


def _whole_numbers(path: Path, layer: Volume) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # What NaN becomes is not equal to it.
        raw = layer.array.astype(np.uint16)
    if not np.array_equal(raw, layer.array):
        raise InputError(f"'{path}' has voxels that are no labels: give a segmentation, not an image.")
    return raw


def _of_labels(path: Path, raw: np.ndarray, layer: Volume, volume: Volume, task: Task) -> tuple[np.ndarray, list[str]]:
    """The labels of a labelmap, which are the task's, and what they are taken for."""
    known = {segment.label: segment.name for segment in task.segments}
    if unknown := sorted(set(np.unique(raw).tolist()) - {0, *known}):
        raise InputError(
            f"'{path}' has the label {unknown[0]}, which the task '{task.name}' does not have: give a labelmap of it, "
            "not the image."
        )
    remarks = [f"Labels are taken for {', '.join(f'{label} {name}' for label, name in known.items())}."]
    if layer.array.size < volume.array.size:
        remarks.append(f"'{path.name}' covers a part of '{volume.name}'; nothing counts as segmented elsewhere.")
    return raw.astype(np.uint8), remarks


def _of_segments(path: Path, values: Sequence[np.ndarray], fields: Fields, task: Task) -> tuple[np.ndarray, list[str]]:
    """The task's labels of a file that describes its segments, and what is left out of them."""
    if max(layer for layer, _label in fields) >= len(values):
        raise InputError(f"'{path}' lacks voxels of segments that it describes: save it again from 3D Slicer.")
    for layer, raw in enumerate(values):
        known = {label for where, label in fields if where == layer}
        if unknown := sorted(set(np.unique(raw).tolist()) - {0, *known}):
            raise InputError(
                f"'{path}' has the label {unknown[0]:g}, which none of its segments has: save it again from 3D Slicer."
            )
    chosen = _chosen(fields, task)
    if not chosen:
        raise InputError(f"'{path}' has no segment of the task '{task.name}': give what was segmented by this program.")
    labels, remarks = np.zeros(values[0].shape, np.uint8), []
    names = {place: own.get("Name") or own["ID"] for place, own in fields.items()}
    for place, segment in chosen.items():
        layer, label = place
        mask = values[layer] == label
        for under in sorted(set(np.unique(labels[mask]).tolist()) - {0}):
            remarks.append(f"Where {task.segments[under - 1].name} and {names[place]} overlap, the latter counts.")
        labels[mask] = segment.label
    if other := sorted(name for place, name in names.items() if place not in chosen):
        remarks.append(f"Segments that are none of the task's count as background: {', '.join(other)}.")
    if missing := [segment.name for segment in task.segments if segment not in chosen.values()]:
        remarks.append(f"'{path.name}' has no segment {', '.join(missing)}: in corrected slices there is none.")
    return labels, remarks


def _chosen(fields: Fields, task: Task) -> dict[tuple[int, int], Segment]:
    """Which of a file's segments are the task's, in their order there.

    A segment is told by its name or abbreviation, and where it was renamed, by type and modifier of its terminology. Of
    several that are alike the one that is told by both counts, else the first: a copy, which a user keeps, is no part
    of it.
    """
    left, chosen = dict(fields), {}
    for by_name in (True, False):
        for segment in task.segments:
            if segment in chosen.values():
                continue
            alike = [place for place, own in left.items() if (_is_called if by_name else _is_coded)(own, segment)]
            both = [place for place in alike if _is_coded(left[place], segment)]
            if alike:
                place = (both or alike)[0]
                chosen[place] = segment
                del left[place]
    return {place: chosen[place] for place in fields if place in chosen}


def _model_of(fields: Mapping[str, str]) -> str:
    """The model that made a segment; empty where none did."""
    name = tags_of(fields).get("DICOM.SegmentAlgorithmName", "")
    return name.removeprefix(f"{PROGRAM} ") if name.startswith(f"{PROGRAM} ") else ""


def _is_called(fields: Mapping[str, str], segment: Segment) -> bool:
    name = (fields.get("Name") or fields["ID"]).strip().casefold()
    return name in (segment.name.casefold(), segment.abbreviation.casefold())


def _is_coded(fields: Mapping[str, str], segment: Segment) -> bool:
    kind, modifier = type_of(fields)
    if kind is None or kind.value != segment.type.value:
        return False
    return (modifier and modifier.value) == (segment.modifier and segment.modifier.value)


def against(made: np.ndarray, corrected: Corrected, volume: Volume, task: Task) -> tuple[int, ...]:
    """The corrected slices of a file that does not tell them: those that differ from what the tool now makes.

    Args:
        made: What it makes of the image, (k, j, i).
        corrected: What the file has.
        volume: The image.
        task: What is segmented.

    Raises:
        InputError: So many differ that the file was not made of this by hand.
    """
    axis = slice_axis(volume, task.plane)
    slices = changed_slices(made, corrected.labels, axis)
    if len(slices) > max(1.0, MOST * volume.shape[axis]):
        raise InputError(
            f"{len(slices)} of {volume.shape[axis]} slices differ from what the model makes of '{volume.name}': it is "
            "not known which were corrected by hand. Name them with --slices, or give the model that made the others."
        )
    return slices
