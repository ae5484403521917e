"""Results into segmentations that are there, and results of only some structures."""

from __future__ import annotations

from dataclasses import replace

import mrml
import numpy as np
import pytest
import slicer
import vtk
from test_sequences import Application, add_browser, add_sequence, data_nodes, labels_of, paint, segmented

from dinsegment.errors import DINSegmentError, InputError
from dinsegment.images.segmentation import Finding
from dinsegment.phantom.heart import cine_phantom
from dinsegment.tasks import ABDOMEN, HEART
from dinsegment_slicer import logic as logic_module
from dinsegment_slicer.logic import DINSegmentLogic, Output
from dinsegment_slicer.scene import sequence_results
from dinsegment_slicer.scene.browsers import select_phase
from dinsegment_slicer.scene.edits import corrected_segments
from dinsegment_slicer.scene.findings import findings_of
from dinsegment_slicer.scene.measure import function_of, measure, measure_phases
from dinsegment_slicer.scene.nodes import segmentation_node, volume_from_node
from dinsegment_slicer.scene.segments import wanted_segments
from dinsegment_slicer.scene.sequence_results import add_sequences_to_scene

RV, MYO, LV = (segment.name for segment in HEART.segments)


@pytest.fixture
def application(scene, tmp_path):
    (tmp_path / "cache").mkdir()
    application = Application(scene, tmp_path / "cache")
    yield application
    application.close()


@pytest.fixture
def logic():
    return DINSegmentLogic(mrml.InProcess())


@pytest.fixture
def volumeNode(scene):
    node = mrml.add_volume(scene)
    node.SetAndObserveTransformNodeID(mrml.add_linear_transform(scene, mrml.OBLIQUE).GetID())
    return node


@pytest.fixture
def segmentation(volumeNode):
    return mrml.threshold(volume_from_node(volumeNode))


@pytest.fixture
def other(segmentation):
    """Another result on the same grid."""
    turned = np.flip(segmentation.labels, axis=2).copy()
    enhanced = segmentation.enhanced.with_array(segmentation.enhanced.array + 1)
    return replace(segmentation, labels=turned, enhanced=enhanced, model="other")


def with_findings(segmentation):
    texts = [("No right ventricle", 1), ("Odd muscle", 2), ("Blurred", None)]
    findings = tuple(Finding(text, (1.0, 2.0, 3.0), label) for text, label in texts)
    return replace(segmentation, findings=findings, warnings=("Slow", *(text for text, _label in texts)))


class TestWanted:
    def test_only_those_are_added(self, volumeNode, logic, segmentation):
        result = logic.addToScene(volumeNode, [segmentation], wanted=[LV, MYO, "Liver"])
        assert [s.GetName() for s in mrml.segments(result.segmentationNode)] == [MYO, LV]
        expected = np.where(segmentation.labels == 1, 0, segmentation.labels)
        shape = segmentation.labels.shape
        assert np.array_equal(labels_of(result.segmentationNode, shape), np.maximum(expected, 1) - 1)
        image = result.segmentationNode.GetBinaryLabelmapInternalRepresentation(LV)
        found = slicer.util.arrayFromSegmentInternalBinaryLabelmap(result.segmentationNode, LV)
        assert image.GetScalarRange() == (0, 3) and 1 not in found

    def test_findings_about_others_are_left_out(self, volumeNode, logic, segmentation):
        result = logic.addToScene(volumeNode, [with_findings(segmentation)], wanted=[LV, MYO])
        assert [f.text for f in result.findings[0]] == ["Odd muscle", "Blurred"]
        assert [f.text for f in findings_of(result.segmentationNode)] == ["Odd muscle", "Blurred"]
        assert result.warnings == ("Slow",)

    @pytest.mark.parametrize("wanted", [[], ["Liver"]])
    def test_nothing_is_wanted(self, scene, volumeNode, logic, segmentation, wanted):
        before = mrml.scene_state(scene)
        with pytest.raises(InputError, match="No structure is chosen"):
            logic.addToScene(volumeNode, [segmentation], wanted=wanted)
        with pytest.raises(InputError, match="No structure is chosen"):
            logic.segment(volumeNode, HEART, wanted=wanted)
        assert logic.worker.jobs == [] and mrml.scene_state(scene) == before
        assert wanted_segments(ABDOMEN, None) == ABDOMEN.segments

    def test_of_a_cine(self, scene, application):
        cine = [phantom.volume for phantom in cine_phantom(3, slices=4, size=(40, 44), spacing=(20.0, 6.0, 6.0))]
        sequenceNode = add_sequence(scene, cine)
        add_browser(scene, sequenceNode)
        nodes = data_nodes(add_sequences_to_scene(sequenceNode, segmented(sequenceNode), [LV]).segmentationSequenceNode)
        assert [[s.GetName() for s in mrml.segments(node)] for node in nodes] == [[LV]] * 3
        assert function_of(HEART, measure_phases(nodes)) is None
        both = data_nodes(
            add_sequences_to_scene(sequenceNode, segmented(sequenceNode), [MYO, LV]).segmentationSequenceNode
        )
        assert function_of(HEART, measure_phases(both)) is not None


class TestInto:
    @pytest.fixture
    def first(self, volumeNode, logic, segmentation):
        return logic.addToScene(volumeNode, [with_findings(segmentation)])

    @pytest.fixture
    def output(self, first):
        return Output(first.segmentationNodes, first.enhancedNodes)

    def test_the_nodes_that_are_there_hold_the_new_result(self, scene, volumeNode, logic, other, first, output):
        before = mrml.node_ids(scene)
        result = logic.addToScene(volumeNode, [other], into=output)
        assert mrml.node_ids(scene) == before
        assert result.segmentationNode is first.segmentationNode and result.enhancedNode is first.enhancedNode
        assert np.array_equal(mrml.exported_labels(result.segmentationNode, volumeNode), other.labels)
        assert np.array_equal(slicer.util.arrayFromVolume(result.enhancedNode), other.enhanced.array)
        assert {mrml.tag(s, "DICOM.SegmentAlgorithmName") for s in mrml.segments(result.segmentationNode)} == {
            "DINSegment other"
        }
        assert findings_of(result.segmentationNode) == []
        assert corrected_segments([result.segmentationNode]) == []

    def test_what_the_user_added_named_and_chose_stays(self, volumeNode, logic, segmentation, other, first, output):
        node = first.segmentationNode
        display = node.GetDisplayNode()
        node.GetSegmentation().AddEmptySegment("scar", "Scar")
        where = tuple(np.argwhere(segmentation.labels == 0)[3])
        paint(node, "scar", where)
        node.GetSegmentation().GetSegment(LV).SetName("my LV")
        node.GetSegmentation().GetSegment(LV).SetColor(0.2, 0.4, 0.6)
        display.SetSegmentVisibility(MYO, False)
        display.SetOpacity(0.3)
        logic.addToScene(volumeNode, [other], into=output)
        assert [s.GetName() for s in mrml.segments(node)] == [RV, MYO, "my LV", "Scar"]
        assert np.allclose(node.GetSegmentation().GetSegment(LV).GetColor(), (0.2, 0.4, 0.6))
        assert node.GetDisplayNode() is display and display.GetOpacity() == 0.3
        assert not display.GetSegmentVisibility(MYO) and display.GetSegmentVisibility(LV)
        volumes = {s.id: s.volume_ml for s in measure(node)}
        voxel = abs(np.linalg.det(segmentation.volume.ijk_to_ras[:3, :3])) / 1000
        expected = {s.name: (other.labels == s.label).sum() * voxel for s in HEART.segments}
        assert volumes == pytest.approx({**expected, "scar": voxel})
        assert np.allclose(
            mrml.segment_world_positions(node, "scar"),
            mrml.world_positions(segmentation.volume.ijk_to_ras, [where]),
        )
        found = slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, "scar")
        label = node.GetSegmentation().GetSegment("scar").GetLabelValue()
        assert set(np.unique(found)) <= {0, label}  # Nothing is left of what was replaced.

    def test_only_what_is_wanted_is_put_back(self, volumeNode, logic, other, first, output):
        first.segmentationNode.GetSegmentation().RemoveSegment(LV)
        logic.addToScene(volumeNode, [other], into=output, wanted=[LV, RV])
        assert [s.GetName() for s in mrml.segments(first.segmentationNode)] == [RV, LV]
        assert set(first.segmentationNode.GetDisplayNode().GetVisibleSegmentIDs()) == {RV, LV}

    def test_a_segment_of_the_users_with_the_name_of_one_of_the_task(
        self, scene, application, volumeNode, logic, segmentation
    ):
        own = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "my own")
        own.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        own.GetSegmentation().AddEmptySegment(LV, LV)
        result = logic.addToScene(volumeNode, [with_findings(segmentation)], into=Output((own,)))
        ids = list(own.GetSegmentation().GetSegmentIDs())
        assert ids == [LV, RV, MYO, f"{LV}_1"]
        assert result.enhancedNode.GetName() == "Cine SAX fuzzy-enhanced"
        assert measure(own)[0].volume_ml == 0 and measure(own)[3].volume_ml > 0
        assert (
            own.GetNodeReference(slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()) is volumeNode
        )

    def test_surfaces_in_3d_are_made_anew(self, application, volumeNode, logic, other, first, output):
        first.segmentationNode.CreateClosedSurfaceRepresentation()
        before = first.segmentationNode.GetClosedSurfaceInternalRepresentation(LV).GetBounds()
        logic.addToScene(volumeNode, [other], into=output)
        after = first.segmentationNode.GetClosedSurfaceInternalRepresentation(LV).GetBounds()
        assert not np.allclose(before, after)

    def test_two_phases(self, scene, volumeNode, logic, segmentation, other):
        second = mrml.add_volume(scene, ijk_to_ras=mrml.GEOMETRIES["flipped"], name="ES")
        pair = [segmentation, mrml.threshold(volume_from_node(second))]
        first = logic.addToScene(volumeNode, pair, second)
        output = Output(first.segmentationNodes, first.enhancedNodes)
        logic.addToScene(volumeNode, [other, replace(pair[1], labels=other.labels)], second, into=output)
        for node, image in zip(first.segmentationNodes, (volumeNode, second), strict=True):
            assert np.array_equal(mrml.exported_labels(node, image), other.labels)

    def test_segments_made_of_surfaces_are_refused(self, scene, volumeNode, logic, other):
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "RT structures")
        node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
        node.GetSegmentation().SetSourceRepresentationName(surface)
        segment = slicer.vtkSegment()
        segment.AddRepresentation(surface, vtk.vtkPolyData())
        node.GetSegmentation().AddSegment(segment, "heart")
        self.refused(scene, logic, volumeNode, other, Output((node,)), "'RT structures' is made of surfaces")

    def test_another_transform_is_refused(self, scene, volumeNode, logic, other, output):
        output.segmentationNodes[0].SetAndObserveTransformNodeID(None)
        self.refused(scene, logic, volumeNode, other, output, "'Cine SAX Heart' and 'Cine SAX' lie under different")

    def test_a_node_that_was_removed_is_refused(self, scene, volumeNode, logic, other, output):
        scene.RemoveNode(output.segmentationNodes[0])
        self.refused(scene, logic, volumeNode, other, output, "'Cine SAX Heart' is not in the scene")

    def refused(self, scene, logic, volumeNode, segmentation, output, text):
        before = mrml.scene_state(scene)
        with pytest.raises(InputError, match=text):
            logic.addToScene(volumeNode, [segmentation], into=output)
        assert mrml.scene_state(scene) == before

    @pytest.mark.parametrize("step", ["fill_enhanced", "fill_segmentation"])
    def test_an_error_leaves_what_was_there(
        self, scene, volumeNode, logic, segmentation, other, first, step, monkeypatch
    ):
        node, output = first.segmentationNode, Output(first.segmentationNodes, (None,))
        findings, before = findings_of(node), mrml.scene_state(scene)
        real = getattr(logic_module, step)

        def stopping(*arguments):
            real(*arguments)
            raise DINSegmentError("stop")

        monkeypatch.setattr(logic_module, step, stopping)
        with pytest.raises(DINSegmentError, match="stop"):
            logic.addToScene(volumeNode, [other], into=output)
        assert mrml.scene_state(scene) == before
        assert np.array_equal(mrml.exported_labels(node, volumeNode), segmentation.labels)
        assert findings_of(node) == findings and len(findings) == 3
        assert np.array_equal(slicer.util.arrayFromVolume(first.enhancedNode), segmentation.enhanced.array)


class TestIntoACine:
    @pytest.fixture
    def sequenceNode(self, scene, application):
        cine = [phantom.volume for phantom in cine_phantom(3, slices=4, size=(40, 44), spacing=(20.0, 6.0, 6.0))]
        return add_sequence(scene, cine)

    @pytest.fixture
    def first(self, scene, sequenceNode):
        add_browser(scene, sequenceNode)
        return add_sequences_to_scene(sequenceNode, [with_findings(s) for s in segmented(sequenceNode)])

    @pytest.fixture
    def output(self, first):
        return Output((), (), first.segmentationSequenceNode, first.enhancedSequenceNode)

    @pytest.fixture
    def others(self, first):
        return [replace(s, labels=np.flip(s.labels, axis=2).copy(), findings=()) for s in first.segmentations]

    def test_all_phases_hold_the_new_result(self, scene, sequenceNode, logic, first, output, others):
        select_phase(first.browserNode, 1)
        first.segmentationNode.GetSegmentation().AddEmptySegment("scar", "Scar")
        before = mrml.node_ids(scene)
        result = logic.addToScene(sequenceNode, others, into=output)
        assert mrml.node_ids(scene) == before and result.segmentationNode is first.segmentationNode
        for index in (1, 2, 0):
            select_phase(first.browserNode, index)
            shape = others[index].labels.shape
            found = labels_of(first.segmentationNode, shape)
            assert np.array_equal(found, others[index].labels)
            names = [s.GetName() for s in mrml.segments(first.segmentationNode)]
            assert names == [RV, MYO, LV, *(["Scar"] if index == 1 else [])]
        nodes = data_nodes(first.segmentationSequenceNode)
        assert [findings_of(node) for node in nodes] == [[], [], []]

    def test_edits_afterwards_stay_with_their_phase(self, sequenceNode, logic, first, output, others):
        logic.addToScene(sequenceNode, others, into=output)
        select_phase(first.browserNode, 2)
        where = tuple(np.argwhere(others[2].labels == 0)[7])
        paint(first.segmentationNode, LV, where)
        expected = others[2].labels.copy()
        expected[where] = 3
        select_phase(first.browserNode, 0)
        phase = first.segmentationSequenceNode.GetNthDataNode(2)
        assert np.array_equal(labels_of(phase, expected.shape), expected)
        assert corrected_segments(data_nodes(first.segmentationSequenceNode)) == [LV]

    @pytest.mark.parametrize("call", [1, 3])
    def test_an_error_leaves_what_was_there(self, scene, sequenceNode, logic, first, output, others, call, monkeypatch):
        before, real, calls = mrml.scene_state(scene), sequence_results.fill_enhanced, []

        def stopping(*arguments):
            real(*arguments)
            calls.append(1)
            if len(calls) == call:
                raise DINSegmentError("stop")

        monkeypatch.setattr(sequence_results, "fill_enhanced", stopping)
        with pytest.raises(DINSegmentError, match="stop"):
            logic.addToScene(sequenceNode, others, into=output)
        assert mrml.scene_state(scene) == before
        for index in (0, 1, 2):
            select_phase(first.browserNode, index)
            old = first.segmentations[index]
            assert np.array_equal(labels_of(first.segmentationNode, old.labels.shape), old.labels)
            assert np.array_equal(slicer.util.arrayFromVolume(first.enhancedNode), old.enhanced.array)
            assert len(findings_of(first.segmentationSequenceNode.GetNthDataNode(index))) == 3

    def test_sequences_of_another_cine_are_refused(self, scene, sequenceNode, logic, output, others):
        cine = [s.volume for s in others]
        apart = add_sequence(scene, cine, "Apart")
        add_browser(scene, apart)
        with pytest.raises(InputError, match="is not shown together with 'Apart'"):
            logic.addToScene(apart, others, into=output)
        sequenceNode.UpdateIndexValue(sequenceNode.GetNthIndexValue(2), "99.0")
        with pytest.raises(InputError, match="has other phases than 'Cine SAX'"):
            logic.addToScene(sequenceNode, others, into=output)


class TestCorrected:
    def test_segments_that_were_changed_are_named_once(self, scene, volumeNode, segmentation):
        pair = [segmentation_node(segmentation, volumeNode) for _ in range(2)]
        assert corrected_segments(pair) == []
        for node in pair:
            node.GetSegmentation().GetSegment(LV).SetName("my LV")
            node.GetSegmentation().GetSegment(RV).SetColor(0, 0, 1)
            node.GetSegmentation().AddEmptySegment("scar", "Scar")
            assert corrected_segments([node]) == []
            paint(node, LV, tuple(np.argwhere(segmentation.labels == 0)[0]))
        tags = [mrml.tag(s, "DICOM.SegmentAlgorithmType") for s in mrml.segments(pair[0])]
        assert corrected_segments(pair) == ["my LV"]
        assert [mrml.tag(s, "DICOM.SegmentAlgorithmType") for s in mrml.segments(pair[0])] == tags
        assert corrected_segments([]) == []
