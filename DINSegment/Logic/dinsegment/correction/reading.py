"""A corrected segmentation in a file: its labels on the image's grid, and which slices a person has corrected."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dinsegment.dicom.write.export import check_layers, read_segments, read_tag
from dinsegment.dicom.write.grid import put_on_grid
from dinsegment.errors import InputError
from dinsegment.files import check_name
from dinsegment.images.fingerprint import SLICES_TAG, changed_slices, read_slices_tag
from dinsegment.images.reading import grid_text, read_volume
from dinsegment.images.slices import slice_axis
from dinsegment.images.volume import Volume
from dinsegment.tasks import Task

MOST = 0.5
"""Share of the slices that somebody may have corrected by hand; where more differ, the labels are of another origin."""


@dataclass(frozen=True, eq=False)
class Corrected:
    """A corrected segmentation.

    Attributes:
        labels: (k, j, i) uint8 on the image's grid.
        slices: That a person has corrected, counted from 0 along the image's slice axis; None where the file does not
            tell, as it does not know what the tool had made.
        other: Names of segments that the task does not have; they count as background.
    """

    labels: np.ndarray
    slices: tuple[int, ...] | None
    other: tuple[str, ...] = ()


def read_corrected(path: Path, volume: Volume, task: Task) -> Corrected:
    """Reads a `.seg.nrrd` file, as this program or 3D Slicer writes it, or a labelmap with the task's own labels.

    What this program writes says of each slice what it was. 3D Slicer keeps that when it saves a segmentation, and so
    shows which slices were changed since.

    Args:
        path: The file.
        volume: The image that was segmented.
        task: What is segmented.

    Raises:
        InputError: It cannot be read, lies on another grid, or has none of the task's segments.
    """
    check_name(path)
    check_layers(path)
    found = read_volume(path)
    raw = found.array.astype(np.uint16)
    if not np.array_equal(raw, found.array):
        raise InputError(f"'{path}' has voxels that are no labels: give a segmentation, not an image.")
    other: list[str] = []
    if path.name.endswith(".seg.nrrd"):
        mapping, other = _mapping(path, found, task)
    else:
        mapping = {segment.label: segment.label for segment in task.segments}
        if unknown := sorted(set(np.unique(raw).tolist()) - {0, *mapping}):
            raise InputError(f"'{path}' has the label {unknown[0]}, which the task '{task.name}' does not have.")
    table = np.zeros(max(int(raw.max()), *mapping) + 1, np.uint8)
    for label, own in mapping.items():
        table[label] = own
    labels = np.zeros(volume.shape, np.uint8)
    if not put_on_grid(table[raw], found.ijk_to_ras, volume, labels):
        raise InputError(
            f"'{path}' ({grid_text(found)}) does not lie on the grid of '{volume.name}' ({grid_text(volume)}): give "
            "the image that was segmented."
        )
    return Corrected(labels, _told(path, labels, slice_axis(volume, task.plane)), tuple(other))


def _mapping(path: Path, found: Volume, task: Task) -> tuple[dict[int, int], list[str]]:
    """The task's label of each label in the file, and names of segments that are none of the task's."""
    mapping, other = {}, []
    by_name = {segment.name: segment.label for segment in task.segments}
    by_code = {
        (segment.type.value, segment.modifier and segment.modifier.value): segment.label for segment in task.segments
    }
    segments = read_segments(path, found)
    if unknown := sorted(set(np.unique(found.array).tolist()) - {0, *segments}):
        raise InputError(
            f"'{path}' has the label {unknown[0]:g}, which none of its segments has: save it again from 3D Slicer."
        )
    for label, described in segments.items():
        code = described.type.value, described.modifier and described.modifier.value
        own = by_name.get(described.name, by_code.get(code))
        if own is None:
            other.append(described.name)
        else:
            mapping[label] = own
    if not mapping:
        raise InputError(f"'{path}' has no segment of the task '{task.name}': give what was segmented by this program.")
    return mapping, other


def _told(path: Path, labels: np.ndarray, axis: int) -> tuple[int, ...] | None:
    """The corrected slices, where the file says what they were."""
    tag = read_tag(path, SLICES_TAG) if path.name.endswith(".seg.nrrd") else None
    told = read_slices_tag(tag) if tag else None
    if told is None or told[0] != axis or len(told[2]) != labels.shape[axis]:
        return None
    return tuple(sorted({*told[1], *changed_slices(told[2], labels, axis)}))


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
