"""What the self test does with its hands, and what it looks at: events, strokes, voxels and geometry of nodes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk

from dinsegment.tasks import HEART, Segment
from dinsegment_slicer.scene.sample_data import add_heart_phantom

FAR = (60.0, -90.0, 300.0)
"""Millimetres in RAS, by which the heart is moved."""


def turn(seconds: float) -> None:
    """Lets the application go on for a while, as when nobody clicks."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        slicer.app.processEvents()
        time.sleep(0.01)


def wait_for(condition: Callable[[], bool], seconds: float, doing: Callable[[], str]) -> None:
    """Lets the application go on until `condition` holds.

    Raises:
        TimeoutError: It does not after so many seconds; `doing` says what went on.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"Not done after {seconds:g} s: {doing()}")
        turn(0.02)


def draw(view: Any, places: np.ndarray) -> None:
    """Draws what does not belong through places (mm RAS) in a slice view: the left button, with Ctrl."""
    interactor = view.sliceView().interactor()
    to_view = np.linalg.inv(slicer.util.arrayFromVTKMatrix(view.mrmlSliceNode().GetXYToRAS()))
    way = [tuple(map(round, (to_view @ (*place, 1.0))[:2])) for place in places]
    for event, (x, y) in [("LeftButtonPressEvent", way[0]), *(("MouseMoveEvent", at) for at in way)]:
        interactor.SetEventInformation(x, y, 1, 0, "\0", 0, None)
        interactor.InvokeEvent(event)
    interactor.InvokeEvent("LeftButtonReleaseEvent")


def press(view: Any, key: str) -> None:
    """Presses a key over a slice view, and lets the application go on."""
    interactor = view.sliceView().interactor()
    interactor.SetKeySym(key)
    interactor.InvokeEvent("KeyPressEvent")
    turn(0.2)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder; on Windows what is still open stays in it."""
    with tempfile.TemporaryDirectory(prefix="DINSegment-test-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def far_phantom() -> slicer.vtkMRMLScalarVolumeNode:
    """The heart, away from the origin, on which Slicer's views are centred before they are placed."""
    node = add_heart_phantom(slicer.mrmlScene)
    origin = np.add(node.GetOrigin(), FAR)
    node.SetOrigin(*origin)
    return node


def chamber() -> Segment:
    """The segment of the heart that is looked at: the left ventricle."""
    return next(segment for segment in HEART.segments if segment.label == HEART.chamber)


def segment_names(segmentationNode: slicer.vtkMRMLSegmentationNode) -> list[str]:
    """In the order in which they are."""
    segmentation = segmentationNode.GetSegmentation()
    return [segmentation.GetNthSegment(n).GetName() for n in range(segmentation.GetNumberOfSegments())]


def voxels_of(
    segmentationNode: slicer.vtkMRMLSegmentationNode, name: str, volumeNode: slicer.vtkMRMLScalarVolumeNode
) -> np.ndarray:
    """A segment on the grid of an image, (k, j, i), bool."""
    segment_id = segmentationNode.GetSegmentation().GetSegmentIdBySegmentName(name)
    return slicer.util.arrayFromSegmentBinaryLabelmap(segmentationNode, segment_id, volumeNode) > 0


def ijk_to_ras_of(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> np.ndarray:
    """Of a volume, (4, 4), millimetres; transforms above it are not in it."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def in_order_of(array: np.ndarray, ijk_to_ras: np.ndarray, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> np.ndarray:
    """Voxels (k, j, i) in the order of slices that an image has after it was read: readers turn left-handed stacks."""
    return array[::-1] if ijk_to_ras[:3, 2] @ ijk_to_ras_of(volumeNode)[:3, 2] < 0 else array


def geometry(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> tuple[Any, ...]:
    """Dimensions and IJK-to-RAS."""
    return volumeNode.GetImageData().GetDimensions(), ijk_to_ras_of(volumeNode).tolist()


def corners(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> np.ndarray:
    """Millimetres in RAS of the centres of the eight voxels at the corners: (8, 3)."""
    last = np.subtract(volumeNode.GetImageData().GetDimensions(), 1)
    ijk = [(i, j, k, 1) for i in (0, last[0]) for j in (0, last[1]) for k in (0, last[2])]
    return (ijk_to_ras_of(volumeNode) @ np.transpose(ijk)).T[:, :3]


def visible_nodes() -> list[str]:
    """IDs of what the user sees in the Data module; views bring nodes of their own, which are hidden."""
    nodes = slicer.util.getNodesByClass("vtkMRMLDisplayableNode")
    return [node.GetID() for node in nodes if not node.GetHideFromEditors()]
