"""What a report is made of: the result as the user has left it, its image, and what is known of the patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from dinsegment.errors import InputError
from dinsegment.tasks import TASKS, Task
from dinsegment_slicer.dicom.instances import SourceUnknown, application_database, is_from_dicom, source_files
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.running.report_part import ReportInput, ReportPhase
from dinsegment_slicer.scene.anterior import place_of
from dinsegment_slicer.scene.corrections import corrected_slices
from dinsegment_slicer.scene.edits import ALGORITHM_NAME_TAG, ALGORITHM_TYPE_TAG, SEMIAUTOMATIC, tag
from dinsegment_slicer.scene.findings import findings_of
from dinsegment_slicer.scene.nodes import (
    checked_volume,
    local_ijk_to_ras,
    modality_of,
    original_of,
    parent_to_world,
    voxel_ml,
)
from dinsegment_slicer.scene.sample_notes import sample_notes
from dinsegment_slicer.scene.sequences import phases as phases_of
from dinsegment_slicer.scene.sequences import sequence_of, times_ms
from dinsegment_slicer.scene.task_labels import TaskLabels, changed_labels, task_labels

if TYPE_CHECKING:  # The application alone has what it is made of.
    from dinsegment_slicer.panel.parameters import DINSegmentParameters

SAME_GRID_MM = 0.1
"""Two phases are on one grid where no voxel of theirs lies farther apart."""

MADE_WITH = "DINSegment "
"""Before the model's name in the tag of a segment."""


@dataclass(frozen=True)
class ImageSource:
    """Which image a result is of, and where that comes from.

    Attributes:
        volumeNode: In the scene; of a cine the proxy.
        sequenceNode: The cine; None for volumes.
        phases: Image of each phase, and the segmentation that the user has left of it.
    """

    volumeNode: slicer.vtkMRMLScalarVolumeNode
    sequenceNode: slicer.vtkMRMLSequenceNode | None
    phases: Sequence[tuple[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLSegmentationNode]]


def image_source(parameters: DINSegmentParameters) -> ImageSource | None:
    """Of the result that the parameters know; None without one.

    Raises:
        InputError: Its image is not there any more, or does not go with it.
    """
    p = parameters
    if p.segmentationNode is None or p.task not in TASKS:
        return None
    volumeNode = original_of(p.enhancedNode)
    if volumeNode is None:
        raise InputError(
            _("The image of '{name}' is not in the scene any more: its report needs it.").format(
                name=p.segmentationNode.GetName()
            )
        )
    checked_volume(volumeNode)
    if p.segmentationSequenceNode is None:
        pairs = [(volumeNode, p.segmentationNode)]
        second = original_of(p.secondEnhancedNode) if p.secondSegmentationNode is not None else None
        if second is not None:
            pairs.append((checked_volume(second), p.secondSegmentationNode))
            _check_same_grid(volumeNode, second)
        return ImageSource(volumeNode, None, pairs)
    found = sequence_of(volumeNode)
    if found is None:
        raise InputError(
            _("'{name}' belongs to no sequence any more: its report needs all phases.").format(
                name=volumeNode.GetName()
            )
        )
    sequenceNode, pairs = found[1], []
    for index, image in enumerate(phases_of(sequenceNode)):
        segmentationNode = p.segmentationSequenceNode.GetDataNodeAtValue(sequenceNode.GetNthIndexValue(index))
        if segmentationNode is None:
            raise InputError(
                _("Phase {number} of '{name}' has no segmentation any more: segment it again.").format(
                    number=index + 1, name=volumeNode.GetName()
                )
            )
        pairs.append((image, segmentationNode))
    return ImageSource(volumeNode, sequenceNode, pairs)


def report_input(parameters: DINSegmentParameters, patient: Mapping[str, Any], dicom: DicomFiles) -> ReportInput | None:
    """All that the worker needs for a report; None without a result.

    Args:
        parameters: Know the result and the anterior point.
        patient: What the user says.
        dicom: Knows the files of the image.

    Raises:
        InputError: Something does not go together, or is not there any more.
    """
    source = image_source(parameters)
    if source is None:
        return None
    task = TASKS[parameters.task]
    first = source.phases[0][0]
    times = times_ms(parameters.segmentationSequenceNode) if source.sequenceNode is not None else None
    sampled, ml = [sample_notes(node) for _image, node in source.phases], voxel_ml(source.volumeNode)
    sampled = [notes if notes is not None and notes.fits(ml) else None for notes in sampled]
    phases, model, corrected = [], "", False
    for number, (image, segmentationNode) in enumerate(source.phases):
        labels = task_labels(segmentationNode, image, task)
        said = _made_by(segmentationNode, labels)
        model, corrected = model or said[0], corrected or said[1]
        phases.append(
            ReportPhase(
                labels.part,
                labels.first,
                None if times is None else times[number],
                tuple(_findings(segmentationNode, labels)),
                slicer.util.arrayFromVolume(image),
                corrected_slices(segmentationNode, image, task) if said[1] else (),
                # Only samples need to know: telling what was changed takes a while in each phase.
                tuple(sorted(changed_labels(segmentationNode, task))) if any(sampled) else (),
                sampled[number].samples.to_dict() if sampled[number] is not None else None,
            )
        )
    from_dicom, files = dicom.of(source)
    return ReportInput(
        name=source.volumeNode.GetName() or _("image"),
        ijk_to_ras=parent_to_world(source.volumeNode) @ local_ijk_to_ras(first),
        modality=modality_of(source.volumeNode),
        task=task.name,
        model=_("{model}, corrected by hand").format(model=model) if corrected and model else model or _("By hand"),
        phases=phases,
        from_dicom=from_dicom,
        files=files,
        patient=patient,
        anterior=place_of(parameters.anteriorNode),
        needs_images=_needs_images(task, len(phases)),
    )


class DicomFiles:
    """Where images come from, looked up once for each."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[bool, tuple[str, ...]]] = {}

    def of(self, source: ImageSource) -> tuple[bool, tuple[str, ...]]:
        """Whether an image is from DICOM, and the files of its first phase, as far as they are known."""
        proxyNode = source.volumeNode if source.sequenceNode is not None else None
        image = source.phases[0][0]
        key = source.volumeNode.GetID()
        if key not in self._known:
            from_dicom = is_from_dicom(image, proxyNode, source.sequenceNode)
            files: tuple[str, ...] = ()
            if from_dicom:
                try:
                    files = source_files(image, application_database(), proxyNode, source.sequenceNode).paths
                except SourceUnknown:
                    files = ()
            self._known[key] = from_dicom, files
        return self._known[key]

    def forget(self) -> None:
        """Another result, or another scene: nodes of other images may have the same IDs."""
        self._known.clear()


def _needs_images(task: Task, phases: int) -> bool:
    return phases == 1 and any(segment.measures for segment in task.segments)


def _made_by(segmentationNode: slicer.vtkMRMLSegmentationNode, labels: TaskLabels) -> tuple[str, bool]:
    """The model, and whether somebody has corrected what it made."""
    model, corrected = "", False
    for segment_id in labels.segment_ids.values():
        segment = segmentationNode.GetSegmentation().GetSegment(segment_id)
        name = tag(segment, ALGORITHM_NAME_TAG) or ""
        model = model or name.removeprefix(MADE_WITH)
        corrected = corrected or tag(segment, ALGORITHM_TYPE_TAG) == SEMIAUTOMATIC
    return model, corrected


def _findings(segmentationNode: slicer.vtkMRMLSegmentationNode, labels: TaskLabels) -> list[dict[str, Any]]:
    label_of = {segment_id: label for label, segment_id in labels.segment_ids.items()}
    return [
        {
            "text": noted.text,
            "segment": label_of.get(noted.segment),
            "kind": noted.kind,
            "topic": noted.topic,
            "slices": list(noted.slices),
            "advice": noted.advice,
        }
        for noted in findings_of(segmentationNode)
    ]


def _check_same_grid(one: slicer.vtkMRMLScalarVolumeNode, other: slicer.vtkMRMLScalarVolumeNode) -> None:
    shapes = [node.GetImageData().GetDimensions() for node in (one, other)]
    corners = np.array([(i, j, k, 1) for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    corners[:, :3] *= np.subtract(shapes[0], 1)
    places = [(parent_to_world(node) @ local_ijk_to_ras(node) @ corners.T).T for node in (one, other)]
    if shapes[0] != shapes[1] or np.abs(places[0] - places[1]).max() > SAME_GRID_MM:
        raise InputError(
            _(
                "'{one}' and '{other}' do not lie on one grid, so that they cannot be measured as two phases of one "
                "beat: resample one to the other (module Resample Image) and segment again."
            ).format(one=one.GetName(), other=other.GetName())
        )
