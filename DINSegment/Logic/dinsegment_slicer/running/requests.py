"""What the user asks a run for: a segmentation, an export, or something else that the worker does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer

from dinsegment.tasks import Task
from dinsegment_slicer.dicom.export import REFERENCE_ROLE
from dinsegment_slicer.logic import Output
from dinsegment_slicer.running.job import Part
from dinsegment_slicer.running.messages import Message


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        task: What to segment.
        inputNode: A volume, or a sequence of volumes.
        secondNode: Another phase of the same patient, or None.
        model: Name of a model, or None for the task's first.
        device: `auto`, `cpu`, `cuda`, `mps`.
        wanted: Names of the segments that are wanted; None for all.
        into: The nodes of an earlier result that the new one fills; None for new ones.
    """

    task: Task
    inputNode: slicer.vtkMRMLNode
    secondNode: slicer.vtkMRMLNode | None = None
    model: str | None = None
    device: str = "auto"
    wanted: Collection[str] | None = None
    into: Output | None = None


@dataclass(frozen=True)
class ExportRequest:
    """What the user asked to be written as DICOM SEG.

    Attributes:
        segmentationNodes: As the user left them; of a sequence the node that shows the phases.
        folder: Where to write; None if none is chosen.
        addToDatabase: Whether Slicer's DICOM database gets a copy.
    """

    segmentationNodes: Sequence[slicer.vtkMRMLSegmentationNode]
    folder: Path | None
    addToDatabase: bool = False


@dataclass(frozen=True, eq=False)
class Errand:
    """Something else that the worker is asked for.

    Attributes:
        parts: What it is asked.
        deliver: Takes the parts' results, and says what the user is told.
        nodes: What it is about: if one of them is removed, the run ends. Without any it is about nothing in the scene,
            and goes on when that is closed.
        preparing: What is being done before it begins.
        delivering: What is being done at its end.
        failed: What is said of an error that nobody expected, with {error} in it.
        cancelled: Asked once it was cancelled what is said then; None for that nothing was changed.
    """

    parts: Sequence[Part]
    deliver: Callable[[Sequence[Any]], Message | None]
    nodes: Sequence[slicer.vtkMRMLNode] = ()
    preparing: str = ""
    delivering: str = ""
    failed: str = ""
    cancelled: Callable[[], str] | None = None


def nodes_of(request: Request | ExportRequest | Errand | None) -> list[slicer.vtkMRMLNode | None]:
    """What is being segmented or exported, or what else a run is about."""
    if isinstance(request, Errand):
        return list(request.nodes)
    if isinstance(request, Request):
        return [request.inputNode, request.secondNode]
    segmentationNodes = request.segmentationNodes if request is not None else ()
    return [*segmentationNodes, *(node.GetNodeReference(REFERENCE_ROLE) for node in segmentationNodes)]
