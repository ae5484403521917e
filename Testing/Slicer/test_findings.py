"""Findings: kept at the segmentation, saved with the scene, and shown where they lie now."""

from __future__ import annotations

import dataclasses
import json

import mrml
import numpy as np
import pytest
import slicer
from test_sequences import Application, add_sequence

from dinsegment.images.segmentation import Finding
from dinsegment.images.volume import Volume, ras_of
from dinsegment.phantom.heart import cine_phantom
from dinsegment.tasks import HEART
from dinsegment.worker_exchange import ENHANCED, LABELS
from dinsegment_slicer.logic import DINSegmentLogic
from dinsegment_slicer.running.segment_part import JobImage, SegmentPart
from dinsegment_slicer.scene.changes import made
from dinsegment_slicer.scene.findings import FINDINGS_ATTRIBUTE, NotedFinding, findings_of, show_segment
from dinsegment_slicer.scene.nodes import parent_to_world, segmentation_node, volume_from_node
from dinsegment_slicer.scene.sequence_results import add_sequences_to_scene

TEXT = "Größe: \"50 %\" <of> 'SAX'; check & correct\\it."


def finding_at(volume, voxel):
    return Finding(TEXT, ras_of(volume, voxel), 3)


def segmented(volumeNode, *findings):
    segmentation = mrml.threshold(volume_from_node(volumeNode))
    made = [finding_at(segmentation.volume, f) if isinstance(f, tuple) else f for f in findings]
    return segmentation_node(dataclasses.replace(segmentation, findings=tuple(made)), volumeNode)


def test_a_finding_comes_back_with_its_place_and_segment(scene):
    volumeNode = mrml.add_volume(scene)
    node = segmented(volumeNode, (1, 2, 3), Finding("Nothing has a place."))
    first, second = findings_of(node)
    assert (first.text, first.segment) == (TEXT, HEART.segments[2].name)
    expected = mrml.world_positions(mrml.ijk_to_ras(volumeNode), [(1, 2, 3)])[0]
    assert first.place(np.eye(4)) == pytest.approx(expected, abs=1e-3)
    assert second == NotedFinding("Nothing has a place.") and second.place(np.eye(4)) is None


def test_it_is_saved_with_the_scene(scene):
    node = segmented(mrml.add_volume(scene), (1, 2, 3))
    scene.SetSaveToXMLString(1)
    scene.Commit()
    again = slicer.vtkMRMLScene()
    again.SetLoadFromXMLString(1)
    again.SetSceneXMLString(scene.GetSceneXMLString())
    again.Import()
    loaded = again.GetNodeByID(node.GetID())
    assert findings_of(loaded) == findings_of(node) != []
    again.Clear(True)


@pytest.mark.parametrize("moved", ["before", "after"])
def test_the_place_follows_the_parent_transform(scene, moved):
    volumeNode = mrml.add_volume(scene)
    transformNode = mrml.add_linear_transform(scene, mrml.affine(mrml.rotation(20, -30, 45), (1, 1, 1), (9, 8, 7)))
    if moved == "before":
        volumeNode.SetAndObserveTransformNodeID(transformNode.GetID())
    node = segmented(volumeNode, (1, 2, 3))
    if moved == "after":
        node.SetAndObserveTransformNodeID(transformNode.GetID())
    expected = mrml.world_positions(mrml.to_world(node) @ mrml.ijk_to_ras(volumeNode), [(1, 2, 3)])[0]
    assert findings_of(node)[0].place(parent_to_world(node)) == pytest.approx(expected, abs=2e-3)


def test_of_a_cine_each_phase_keeps_its_own(scene, tmp_path):
    application = Application(scene, tmp_path)
    beat = cine_phantom(3, slices=2, size=(40, 44), spacing=(20.0, 6.0, 6.0))
    sequenceNode = add_sequence(scene, [phantom.volume for phantom in beat])
    segmentations = [
        dataclasses.replace(mrml.threshold(phantom.volume), findings=(Finding(f"Phase {n}."),))
        for n, phantom in enumerate(beat)
    ]
    added = add_sequences_to_scene(sequenceNode, segmentations).segmentationSequenceNode
    texts = [finding.text for n in range(3) for finding in findings_of(added.GetNthDataNode(n))]
    assert texts == ["Phase 0.", "Phase 1.", "Phase 2."]
    application.close()


def test_the_worker_tells_them_with_the_result(tmp_path):
    volume = Volume(mrml.random_image(), mrml.OBLIQUE, "SAX", "MR")
    part = SegmentPart([JobImage(volume.array, volume.ijk_to_ras, "SAX", "MR")], "heart", None, "cpu")
    made(part.write(tmp_path))
    np.save(tmp_path / "phase 1" / LABELS, np.zeros(volume.shape, np.uint8))
    np.save(tmp_path / "phase 1" / ENHANCED, volume.array.astype(np.float32))
    findings = finding_at(volume, (1, 2, 3)), Finding("Nothing has a place.")
    event = {"model": "m", "device": "cpu", "seconds": 1, "warnings": []}
    said = json.loads(json.dumps([finding.to_dict(volume, "acquired") for finding in findings]))
    for told, expected in (({**event, "findings": said}, findings), (event, ())):
        (result,) = part.result(tmp_path, {"phases": [told]})
        assert result.findings == expected


@pytest.mark.parametrize("text", ["no JSON", '{"text": "no list"}', '[{"other": 1}]', "[3]"])
def test_what_another_program_wrote_there_is_passed_over(scene, text):
    node = segmented(mrml.add_volume(scene))
    assert node.GetAttribute(FINDINGS_ATTRIBUTE) is None
    node.SetAttribute(FINDINGS_ATTRIBUTE, text)
    assert findings_of(node) == []


def test_a_hidden_segment_is_shown(scene):
    node = segmented(mrml.add_volume(scene))
    displayNode, name = node.GetDisplayNode(), HEART.segments[1].name
    displayNode.SetVisibility(False)
    displayNode.SetSegmentVisibility(name, False)
    show_segment(node, name)
    assert displayNode.GetVisibility() and displayNode.GetSegmentVisibility(name)
    show_segment(node, "removed meanwhile")
    show_segment(node, None)


def test_a_failed_run_keeps_none(scene):
    volumeNode = mrml.add_volume(scene)
    before = mrml.scene_state(scene)
    segmentation = mrml.threshold(volume_from_node(volumeNode))
    steps = DINSegmentLogic(mrml.InProcess()).adding(volumeNode, [segmentation])
    next(steps)
    steps.close()
    assert mrml.scene_state(scene) == before
