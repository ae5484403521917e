"""DINSegmentLogic: a volume or a sequence in; segmentations and enhanced images out, in the same scene or as DICOM."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
import vtk

from dinsegment.errors import Cancelled, InputError
from dinsegment.images.segmentation import Finding, Segmentation
from dinsegment.tasks import Segment, Task, get_task
from dinsegment_slicer.dicom.export import seg_exports
from dinsegment_slicer.dicom.export_part import Exported, ExportPart, SegExport, place
from dinsegment_slicer.dicom.instances import add_to_database, application_database
from dinsegment_slicer.running.job import Job
from dinsegment_slicer.running.segment_part import JobImage
from dinsegment_slicer.running.worker import Worker
from dinsegment_slicer.scene.changes import Steps, all_or_nothing, made
from dinsegment_slicer.scene.content import LabelContent, grey_image, label_content
from dinsegment_slicer.scene.edits import network_voxels
from dinsegment_slicer.scene.nodes import (
    adding_enhanced,
    adding_segmentation,
    check_in_scene,
    check_takes_segments,
    content_restored_on_error,
    fill_enhanced,
    fill_segmentation,
    findings_about,
    image_of,
    local_ijk_to_ras,
)
from dinsegment_slicer.scene.segment_display import has_surfaces, show_3d
from dinsegment_slicer.scene.segments import wanted_segments
from dinsegment_slicer.scene.sequence_results import SequenceResult, adding_sequences, refilling_sequences
from dinsegment_slicer.scene.sequences import phase_images

Progress = Callable[[float, str], None]
"""Is called with the fraction that is done, 0..1, and what is being done."""

POLL_S = 0.02
"""Seconds between two looks at a job that is waited for."""


@dataclass(frozen=True, eq=False)
class Output:
    """Nodes of an earlier result, which a new one fills instead of adding its own.

    Attributes:
        segmentationNodes: One per volume; none for a sequence.
        enhancedNodes: The enhanced images, in the same order; None where one is to be added.
        segmentationSequenceNode: Of a sequence, as `SequenceResult` says.
        enhancedSequenceNode: Likewise.
    """

    segmentationNodes: tuple[slicer.vtkMRMLSegmentationNode, ...] = ()
    enhancedNodes: tuple[slicer.vtkMRMLScalarVolumeNode | None, ...] = ()
    segmentationSequenceNode: slicer.vtkMRMLSequenceNode | None = None
    enhancedSequenceNode: slicer.vtkMRMLSequenceNode | None = None

    @property
    def name(self) -> str:
        """Of what is filled."""
        return (self.segmentationSequenceNode or self.segmentationNodes[0]).GetName()

    def networkVoxels(self) -> list[dict[str, str]]:
        """Of each phase the segments that would be replaced, as they are now: to tell whether they were corrected."""
        sequenceNode = self.segmentationSequenceNode
        if sequenceNode is None:
            return [network_voxels(node) for node in self.segmentationNodes]
        return [network_voxels(sequenceNode.GetNthDataNode(n)) for n in range(sequenceNode.GetNumberOfDataNodes())]


@dataclass(frozen=True, eq=False)
class Result:
    """What a run added to the scene.

    Attributes:
        segmentationNodes: One per volume; of a sequence the proxy of the phase in view.
        enhancedNodes: The enhanced images, in the same order.
        sequences: What was added for a sequence, None for volumes.
        task: What was segmented.
        model: Name of the model.
        device: Where it was computed.
        seconds: Time of the computation, all volumes together.
        findings: What looks wrong, of each volume, or each phase of a sequence.
        warnings: What else there is to say to the user, each sentence once.
    """

    segmentationNodes: tuple[slicer.vtkMRMLSegmentationNode, ...]
    enhancedNodes: tuple[slicer.vtkMRMLScalarVolumeNode, ...]
    sequences: SequenceResult | None
    task: Task
    model: str
    device: str
    seconds: float
    findings: tuple[tuple[Finding, ...], ...]
    warnings: tuple[str, ...]

    @property
    def segmentationNode(self) -> slicer.vtkMRMLSegmentationNode:
        """The segmentation of the first volume, or of the phase in view."""
        return self.segmentationNodes[0]

    @property
    def enhancedNode(self) -> slicer.vtkMRMLScalarVolumeNode:
        """The enhanced image of the first volume, or of the phase in view."""
        return self.enhancedNodes[0]


class DINSegmentLogic:
    """Segments volume nodes and sequences. A run that fails or is cancelled leaves the scene as it was.

    The network runs in a process of its own, which stays warm between runs until `close`.

    Example, in Slicer's Python console:
        >>> result = DINSegmentLogic().segment(slicer.util.getNode("patient001_frame01"), "heart")

    Args:
        worker: What runs the jobs; by default a process of its own, started at the first run.
    """

    def __init__(self, worker: Worker | None = None) -> None:
        self.worker = worker or Worker()

    def images(
        self, inputNode: slicer.vtkMRMLNode, secondNode: slicer.vtkMRMLScalarVolumeNode | None = None
    ) -> list[JobImage]:
        """The images to segment: one of a volume, one of each phase of a sequence.

        Args:
            inputNode: Grey image or sequence of grey images in a scene; linear parent transforms are honoured.
            secondNode: Another phase of the same patient, beside a volume.

        Raises:
            InputError: One of them cannot be segmented, or the two do not go together.
        """
        if inputNode is not None and inputNode.IsA("vtkMRMLSequenceNode"):
            if secondNode is not None:
                raise InputError(
                    f"The sequence '{inputNode.GetName()}' already has all phases: choose no second phase beside it."
                )
            return phase_images(inputNode)
        nodes = [inputNode] if secondNode is None else [inputNode, secondNode]
        if inputNode is not None and inputNode is secondNode:
            raise InputError(f"'{inputNode.GetName()}' is chosen twice: choose another image as the second phase.")
        images = [image_of(node) for node in nodes]
        for node in nodes:
            check_in_scene(node)
        return images

    def start(
        self, images: Sequence[JobImage], task: Task | str, model: str | None = None, device: str = "auto"
    ) -> Job:
        """Begins to segment; the job is to be polled, and closed in the end.

        Args:
            images: As `images` gives them.
            task: A task or its name, as in `dinsegment.tasks.TASKS`.
            model: Name of a model in weights.json; by default the first one for the task.
            device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        """
        return self.worker.start(images, task if isinstance(task, str) else task.name, model, device)

    def segment(
        self,
        inputNode: slicer.vtkMRMLNode,
        task: Task | str,
        model: str | None = None,
        device: str = "auto",
        secondNode: slicer.vtkMRMLScalarVolumeNode | None = None,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
        wanted: Collection[str] | None = None,
    ) -> Result:
        """Segments and adds the result to the scene; returns when it is done. The window stays live meanwhile.

        Args:
            inputNode: As in `images`.
            task: As in `start`.
            model: As in `start`.
            device: As in `start`.
            secondNode: As in `images`.
            progress: Told how far the computation is.
            cancelled: Asked now and then; True ends the run.
            wanted: As in `addToScene`.

        Raises:
            InputError: The image cannot be segmented, or was removed or changed meanwhile; or nothing is wanted.
            ModelError: The model is unknown, missing, damaged, or does not fit the task.
            WorkerError: The process that computes could not be started, or broke.
            Cancelled: `cancelled` said so.
        """
        wanted_segments(get_task(task) if isinstance(task, str) else task, wanted)
        with _finished(self.start(self.images(inputNode, secondNode), task, model, device), progress, cancelled) as job:
            return self.addToScene(inputNode, job.results, secondNode, wanted)

    def addToScene(
        self,
        inputNode: slicer.vtkMRMLNode,
        segmentations: Sequence[Segmentation],
        secondNode: slicer.vtkMRMLScalarVolumeNode | None = None,
        wanted: Collection[str] | None = None,
        into: Output | None = None,
    ) -> Result:
        """Adds finished segmentations to the scene: all of them or, with an error, nothing.

        Args:
            inputNode: The volume or sequence that was segmented.
            segmentations: One per image, in the order of `images`.
            secondNode: The second phase, beside a volume.
            wanted: Names of the task's segments that are added; None for all.
            into: Nodes to fill; None adds new ones. Segments of the task that a network made are replaced, whether or
                not they were corrected since; the user's own stay, and so do names, colours and what is shown.

        Raises:
            InputError: A node is in no scene any more, or has another grid than its segmentation; nothing is wanted; or
                the nodes to fill do not go with the input.
            DINSegmentError: Slicer did not take the labels.
        """
        return made(self.adding(inputNode, segmentations, secondNode, wanted, into))

    def adding(
        self,
        inputNode: slicer.vtkMRMLNode,
        segmentations: Sequence[Segmentation],
        secondNode: slicer.vtkMRMLScalarVolumeNode | None = None,
        wanted: Collection[str] | None = None,
        into: Output | None = None,
    ) -> Steps[Result]:
        """The steps of `addToScene`, a generator that returns the result and may be given up before.

        The scene changes in the last few steps; those before make what the nodes will hold. Where it is given up or
        fails, what it has added is taken away; what the user does between two steps stays.
        """
        check_in_scene(inputNode)
        segments = wanted_segments(segmentations[0].task, wanted)
        said = _what_was_said(segmentations, segments)
        if inputNode.IsA("vtkMRMLSequenceNode"):
            if into is None:
                added = yield from adding_sequences(inputNode, segmentations, wanted)
            else:
                sequences = into.segmentationSequenceNode, into.enhancedSequenceNode
                added = yield from refilling_sequences(inputNode, segmentations, *sequences, wanted)
            return Result((added.segmentationNode,), (added.enhancedNode,), added, **said)
        nodes = [inputNode] if secondNode is None else [inputNode, secondNode]
        pairs = list(zip(segmentations, nodes, strict=True))
        images, contents = [], []
        for segmentation, node in pairs:
            images.append((yield from grey_image(segmentation.enhanced.array)))
            contents.append((yield from label_content(segmentation.labels, segments, local_ijk_to_ras(node))))
        for node in nodes:
            check_in_scene(node)
        steps = _adding_nodes(pairs, images, contents, segments, into)
        enhanced, segmented = yield from all_or_nothing(inputNode.GetScene(), steps)
        return Result(segmented, enhanced, None, **said)

    def exports(
        self,
        segmentationNodes: Sequence[slicer.vtkMRMLSegmentationNode],
        folder: Path | None,
        sourceFolder: Path | None = None,
    ) -> list[SegExport]:
        """What is to be written as DICOM SEG, one of a segmentation, one of each phase of a sequence.

        Args:
            segmentationNodes: As the user left them; of a sequence the node that shows the phases.
            folder: Where to write.
            sourceFolder: Where the DICOM images are; by default Slicer's DICOM database knows.

        Raises:
            SourceUnknown: It is not known where the DICOM images are.
            InputError: Something else is missing; each thing is named.
            OutputError: The folder cannot be written to.
        """
        return seg_exports(segmentationNodes, folder, application_database(), sourceFolder)

    def startExport(self, exports: Sequence[SegExport]) -> Job:
        """Begins to write what `exports` gave; the job's results are the files. It is to be polled and closed."""
        return self.worker.begin([ExportPart(export) for export in exports])

    def placeExports(self, exported: Sequence[Exported]) -> None:
        """Moves what a finished job has written to where it belongs, before the job is closed.

        Raises:
            OutputError: A file could not be moved; none is there then.
        """
        place(exported)

    def addToDatabase(self, exported: Sequence[Exported]) -> None:
        """Copies placed files into Slicer's DICOM database.

        Raises:
            InputError: It is not open or did not take them.
        """
        add_to_database([e.path for e in exported], [e.uid for e in exported], application_database())

    def exportDicomSeg(
        self,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        folder: Path | str,
        sourceFolder: Path | str | None = None,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> tuple[Path, ...]:
        """Writes a segmentation as DICOM SEG, each phase of a sequence in a file of its own; returns when it is done.

        Example, in Slicer's Python console:
            >>> DINSegmentLogic().exportDicomSeg(slicer.util.getNode("CT Abdomen"), "/home/me/seg")

        Raises:
            InputError, OutputError: As `exports`, or no DICOM SEG can be made of the DICOM images.
            WorkerError: The process that writes could not be started, or broke.
            Cancelled: `cancelled` said so.
        """
        exports = self.exports([segmentationNode], Path(folder), Path(sourceFolder) if sourceFolder else None)
        with _finished(self.startExport(exports), progress, cancelled) as job:
            self.placeExports(job.results)
            return tuple(exported.path for exported in job.results)

    def close(self) -> None:
        """Ends the process that computes. It starts again by itself when it is needed."""
        self.worker.close()


def _adding_nodes(
    pairs: Sequence[tuple[Segmentation, slicer.vtkMRMLScalarVolumeNode]],
    images: Sequence[vtk.vtkImageData],
    contents: Sequence[LabelContent],
    segments: Sequence[Segment],
    into: Output | None,
) -> Steps[tuple[tuple[slicer.vtkMRMLScalarVolumeNode, ...], tuple[slicer.vtkMRMLSegmentationNode, ...]]]:
    """The nodes of the enhanced images, and of the segmentations: new ones, or those to fill."""
    enhanced, segmented = [], []
    for n, (pair, image) in enumerate(zip(pairs, images, strict=True)):
        node = into.enhancedNodes[n] if into is not None and into.enhancedNodes else None
        enhanced.append(node or (yield from adding_enhanced(*pair, image)))
        yield
    if into is not None:
        for (_segmentation, volumeNode), node in zip(pairs, into.segmentationNodes, strict=True):
            check_takes_segments(node, volumeNode)
        for node in enhanced:
            check_in_scene(node)
        solid = [node for node in into.segmentationNodes if has_surfaces(node)]
        with content_restored_on_error([*enhanced, *into.segmentationNodes]):
            for (_segmentation, volumeNode), image, node in zip(pairs, images, enhanced, strict=True):
                fill_enhanced(node, image, volumeNode)
            for pair, content, node in zip(pairs, contents, into.segmentationNodes, strict=True):
                fill_segmentation(node, *pair, segments, content)
                node.SetReferenceImageGeometryParameterFromVolumeNode(pair[1])
            for node in solid:
                show_3d(node, True)
            return tuple(enhanced), into.segmentationNodes
    for pair, content in zip(pairs, contents, strict=True):
        segmented.append((yield from adding_segmentation(*pair, segments, content)))
    for node in (*enhanced, *segmented):
        check_in_scene(node)
    return tuple(enhanced), tuple(segmented)


def _what_was_said(segmentations: Sequence[Segmentation], segments: Sequence[Segment]) -> dict[str, Any]:
    """What a result says beside its nodes."""
    first = segmentations[0]
    return {
        "task": first.task,
        "model": first.model,
        "device": first.device,
        "seconds": sum(s.seconds for s in segmentations),
        "findings": tuple(findings_about(s, segments) for s in segmentations),
        # The same is often said of every phase.
        "warnings": tuple(dict.fromkeys(warning for s in segmentations for warning in _beside_findings(s))),
    }


def _beside_findings(segmentation: Segmentation) -> Iterator[str]:
    """The warnings without those that are findings."""
    texts = {finding.text for finding in segmentation.findings}
    return (warning for warning in segmentation.warnings if warning not in texts)


@contextmanager
def _finished(job: Job, progress: Progress | None, cancelled: Callable[[], bool] | None) -> Iterator[Job]:
    """The job once it is done; it is given up afterwards, and at every error."""
    try:
        while not job.finished:
            if cancelled is not None and cancelled():
                raise Cancelled
            if job.poll() and progress is not None:
                progress(job.fraction, job.text)
            _let_the_window_live()
        if job.error is not None:
            raise job.error
        yield job
    finally:
        job.cancel()
        job.close()


def _let_the_window_live() -> None:
    """Lets the application handle what the user does; outside it there is no window."""
    application = getattr(slicer, "app", None)
    if application is not None:
        application.processEvents()
    time.sleep(POLL_S)
