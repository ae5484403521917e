"""DINSegmentLogic: a volume node in, a segmentation node and an enhanced volume node out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import slicer

from dinsegment.errors import Cancelled, InputError
from dinsegment.segmentation import Segmentation
from dinsegment.tasks import Task
from dinsegment.volume import Volume
from dinsegment_slicer.nodes import enhanced_node, segmentation_node, volume_from_node
from dinsegment_slicer.scene import restored_on_error

Progress = Callable[[float, str], None]
"""Is called with the fraction that is done, 0..1, and what is being done."""


class Segmenter(Protocol):
    """What segments: `dinsegment.inference.segment`, or what stands in for it."""

    def __call__(
        self,
        volume: Volume,
        task: Task | str,
        model: str | None = None,
        device: str = "auto",
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Segmentation: ...


@dataclass(frozen=True, eq=False)
class SegmentationResult:
    """What a run added to the scene, and what it was made from."""

    segmentationNode: slicer.vtkMRMLSegmentationNode
    enhancedNode: slicer.vtkMRMLScalarVolumeNode
    segmentation: Segmentation


class DINSegmentLogic:
    """Segments volume nodes. A run that fails or is cancelled leaves the scene as it was.

    Example, in Slicer's Python console:
        >>> result = DINSegmentLogic().segment(slicer.util.getNode("MRHead"), "heart")

    Args:
        segmenter: What segments; by default the library, which is loaded at the first run.
    """

    def __init__(self, segmenter: Segmenter | None = None) -> None:
        self._segmenter = segmenter

    def segment(
        self,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        task: Task | str,
        model: str | None = None,
        device: str = "auto",
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> SegmentationResult:
        """Segments the image of `volumeNode` and adds the result to its scene; returns when it is done.

        Args:
            volumeNode: Grey image in a scene; a linear parent transform is honoured.
            task: A task or its name, as in `dinsegment.tasks.TASKS`.
            model: Name of a model in weights.json; by default the one for the task.
            device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
            progress: Told how far the computation is.
            cancelled: Asked now and then; True ends the run.

        Raises:
            InputError: The image cannot be segmented, or was removed or changed meanwhile.
            ModelError: The model is unknown, missing, damaged, or does not fit the task.
            Cancelled: `cancelled` said so.
        """
        volume = volume_from_node(volumeNode)
        _check_in_scene(volumeNode)
        segmenter = self._segmenter or _library_segmenter()
        segmentation = segmenter(volume, task, model=model, device=device, progress=progress, cancelled=cancelled)
        if cancelled is not None and cancelled():
            raise Cancelled
        return self.addToScene(volumeNode, segmentation)

    def addToScene(self, volumeNode: slicer.vtkMRMLScalarVolumeNode, segmentation: Segmentation) -> SegmentationResult:
        """Adds a finished segmentation of `volumeNode` to its scene: all of it or, with an error, nothing.

        Raises:
            InputError: `volumeNode` is in no scene any more, or has another grid than the segmentation.
            DINSegmentError: Slicer did not take the labels.
        """
        _check_in_scene(volumeNode)
        with restored_on_error(volumeNode.GetScene()):
            return SegmentationResult(
                enhancedNode=enhanced_node(segmentation, volumeNode),
                segmentationNode=segmentation_node(segmentation, volumeNode),
                segmentation=segmentation,
            )


def _check_in_scene(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> None:
    # A removed node lives on while Python holds it, without a scene.
    if volumeNode.GetScene() is None:
        raise InputError(
            f"'{volumeNode.GetName()}' is not in the scene, or was removed from it: load it, then segment it."
        )


def _library_segmenter() -> Segmenter:
    # Imported here because it imports torch, which a fresh Slicer does not have.
    from dinsegment.inference import segment

    return segment
