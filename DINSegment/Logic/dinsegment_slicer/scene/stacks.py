"""A stack of slices from many DICOM series, or from many nodes, as one image sequence: a volume for each phase."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import slicer

from dinsegment.dicom.read.stack import Stack, StackSlice, overlap
from dinsegment.errors import InputError
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene.changes import new_node, restored_on_error, unique_name
from dinsegment_slicer.scene.nodes import MODALITY_ATTRIBUTE
from dinsegment_slicer.scene.sequences import show_in_browser

INSTANCE_UIDS_ATTRIBUTE = "DICOM.instanceUIDs"
"""Where Slicer keeps which DICOM images a volume was loaded from: SOP Instance UIDs, one for each slice."""

Plane = Callable[[Hashable], np.ndarray]
"""Gives a picture of a stack by its key: grey values (rows, columns)."""

InstanceUID = Callable[[Hashable], str]
"""Gives the SOP Instance UID of a picture by its key; "" where it is not known."""


def add_stack(
    scene: slicer.vtkMRMLScene, name: str, stack: Stack, plane: Plane, instance_uid: InstanceUID
) -> slicer.vtkMRMLSequenceNode:
    """Adds a stack as one sequence, with a browser and the volume that shows its phases: all of it or, with an error,
    nothing.

    The index is the time of each phase after the R wave in milliseconds, or its number where the headers do not say
    it. Each phase knows the instances of its slices. The grid has the smallest value of a phase where no slice shows
    anything.

    Args:
        scene: Where it is added.
        name: Of the sequence and of the volume; a number is added where it is taken.
        stack: Which picture is where.
        plane: Gives the pictures.
        instance_uid: Gives the instances that they are from.

    Raises:
        InputError: A picture has another size than its header says.
    """
    node = new_node(scene, "vtkMRMLSequenceNode", unique_name(scene, name))
    times = _index_times(stack.times_ms)
    node.SetIndexName("trigger time" if times else "phase")
    node.SetIndexUnit("ms" if times else "")
    values = times or [str(number) for number in range(1, stack.phases + 1)]
    matrix = slicer.util.vtkMatrixFromArray(stack.ijk_to_ras)
    for value, array, uids in zip(values, _phases(stack, plane), _instances(stack, instance_uid), strict=True):
        phase = slicer.vtkMRMLScalarVolumeNode()  # The sequence takes a copy, into a scene of its own.
        phase.SetName(node.GetName())
        slicer.util.updateVolumeFromArray(phase, array)
        phase.SetIJKToRASMatrix(matrix)
        if stack.modality:
            phase.SetAttribute(MODALITY_ATTRIBUTE, stack.modality)
        if all(uids):
            phase.SetAttribute(INSTANCE_UIDS_ATTRIBUTE, " ".join(uids))
        node.SetDataNodeAtValue(phase, value)
    with restored_on_error(scene):
        scene.AddNode(node)
        show_in_browser(node)
    return node


def dimensions(stack: Stack) -> str:
    """How large a stack is, for the user."""
    return _("{slices} slices x {phases} phases").format(slices=len(stack.slices), phases=stack.phases)


def _index_times(times_ms: Sequence[float | None]) -> list[str]:
    """Times as index values; none where they are not all known, or do not tell the phases apart."""
    values = [f"{time:.6g}" for time in times_ms if time is not None]
    numbers = [float(value) for value in values]
    # Slicer takes values that are closer than its tolerance, 0.001, for one.
    apart = all(later - earlier > 0.01 for earlier, later in pairwise(numbers))
    return values if apart and len(values) == len(times_ms) else []


def _instances(stack: Stack, instance_uid: InstanceUID) -> Iterator[list[str]]:
    """The instances of each phase, one for each slice."""
    for phase in range(stack.phases):
        yield [instance_uid(one.keys[phase]) for one in stack.slices]


def _phases(stack: Stack, plane: Plane) -> Iterator[np.ndarray]:
    """Voxels (k, j, i) of each phase, all of one type."""
    planes = {key: _checked(one, plane(key)) for one in stack.slices for key in one.keys}
    dtype = np.result_type(*{values.dtype for values in planes.values()})
    for phase in range(stack.phases):
        of_phase = [planes[one.keys[phase]] for one in stack.slices]
        fill = min(values.min() for values in of_phase)
        array = np.full(stack.shape, fill, np.float32 if dtype == np.float64 else dtype)
        for one, values, target in zip(stack.slices, of_phase, array, strict=True):
            there, part = overlap(target.shape, one.size, one.offset)
            target[there] = values[part]
        yield array


def _checked(one: StackSlice, values: np.ndarray) -> np.ndarray:
    if values.shape != one.size:
        raise InputError(
            _(
                "An image of the series {series} has {found} pixels where its header says {expected}: import the "
                "series again."
            ).format(series=one.series, found=_times(values.shape), expected=_times(one.size))
        )
    return values


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, reversed(shape)))
