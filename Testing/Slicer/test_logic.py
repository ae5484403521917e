"""DINSegmentLogic: what it adds to a scene, and that a run that fails adds nothing."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from types import CodeType

import mrml
import numpy as np
import pytest
import slicer

from dinsegment.errors import Cancelled, InputError, ModelError
from dinsegment.phantom.heart import heart_phantom
from dinsegment.tasks import HEART
from dinsegment_slicer.logic import DINSegmentLogic
from dinsegment_slicer.scene import changes as scene_module
from dinsegment_slicer.scene import nodes


@pytest.fixture
def volumeNode(scene):
    """In a study and under a transform, as a registered DICOM volume is."""
    node = mrml.add_volume(scene)
    mrml.add_study(scene, node)
    node.SetAndObserveTransformNodeID(mrml.add_linear_transform(scene, mrml.OBLIQUE).GetID())
    return node


@pytest.fixture
def logic():
    return DINSegmentLogic(mrml.InProcess())


def raising(error):
    def segmenter(volume, task, **options):
        raise error

    return segmenter


class TestResult:
    def test_nodes_and_segmentation(self, scene, volumeNode, logic):
        before = set(mrml.node_ids(scene))
        expected = mrml.threshold(nodes.volume_from_node(volumeNode))
        result = logic.segment(volumeNode, HEART)
        assert np.array_equal(mrml.exported_labels(result.segmentationNode, volumeNode), expected.labels)
        # The worker has float32 and this process int16, of which percentiles differ by rounding.
        np.testing.assert_allclose(
            slicer.util.arrayFromVolume(result.enhancedNode), expected.enhanced.array, rtol=1e-5, atol=1e-3
        )
        added = [result.enhancedNode, result.segmentationNode]
        expected_ids = {i for node in added for i in (node.GetID(), node.GetDisplayNodeID())}
        assert set(mrml.node_ids(scene)) - before == expected_ids
        assert (result.task, result.model, result.device, result.warnings) == (HEART, "threshold", "cpu", ())
        assert result.sequences is None and nodes.original_of(result.enhancedNode) is volumeNode

    def test_the_files_of_a_job_are_given_up(self, volumeNode):
        worker = mrml.InProcess()
        DINSegmentLogic(worker).segment(volumeNode, HEART)
        assert worker.jobs[0].closed

    def test_two_phases(self, scene, volumeNode, logic):
        second = mrml.add_volume(scene, mrml.random_image((3, 7, 8)), mrml.GEOMETRIES["flipped"], "ES")
        result = logic.segment(volumeNode, HEART, secondNode=second)
        for node, segmentationNode in zip((volumeNode, second), result.segmentationNodes, strict=True):
            expected = mrml.threshold(nodes.volume_from_node(node)).labels
            assert np.array_equal(mrml.exported_labels(segmentationNode, node), expected)
        assert [nodes.original_of(node) for node in result.enhancedNodes] == [volumeNode, second]

    def test_a_sequence(self, scene, logic):
        sequenceNode = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "Cine")
        sequenceNode.SetIndexName("phase")
        for phase in range(3):
            data = slicer.vtkMRMLScalarVolumeNode()
            slicer.util.updateVolumeFromArray(data, mrml.random_image() + phase)
            sequenceNode.SetDataNodeAtValue(data, str(phase))
        result = logic.segment(sequenceNode, HEART)
        assert result.sequences.segmentationSequenceNode.GetNumberOfDataNodes() == 3
        assert result.segmentationNode is result.sequences.segmentationNode

    def test_a_sequence_takes_no_second_phase(self, scene, volumeNode, logic):
        sequenceNode = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "Cine")
        with pytest.raises(InputError, match="'Cine' already has all phases"):
            logic.segment(sequenceNode, HEART, secondNode=volumeNode)

    def test_the_same_image_twice(self, volumeNode, logic):
        with pytest.raises(InputError, match="'Cine SAX' is chosen twice"):
            logic.segment(volumeNode, HEART, secondNode=volumeNode)

    def test_nothing_chosen(self, scene, logic):
        with pytest.raises(InputError, match="No volume is selected"):
            logic.segment(None, HEART)

    def test_the_input_stays_as_it_was(self, volumeNode, logic):
        before = slicer.util.arrayFromVolume(volumeNode).copy(), mrml.ijk_to_ras(volumeNode)
        transform = volumeNode.GetTransformNodeID()
        logic.segment(volumeNode, HEART)
        assert np.array_equal(slicer.util.arrayFromVolume(volumeNode), before[0])
        assert np.array_equal(mrml.ijk_to_ras(volumeNode), before[1])
        assert volumeNode.GetTransformNodeID() == transform

    def test_the_segmenter_is_given_everything(self, volumeNode):
        seen = {}

        def segmenter(volume, task, **options):
            seen.update(options, volume=volume, task=task)
            return mrml.threshold(volume)

        said = []
        DINSegmentLogic(mrml.InProcess(segmenter)).segment(
            volumeNode, "heart", "small", "cpu", progress=lambda *step: said.append(step)
        )
        volume = seen.pop("volume")
        assert np.allclose(volume.ijk_to_ras, mrml.OBLIQUE @ mrml.OBLIQUE, rtol=0, atol=1e-9)
        assert np.array_equal(volume.array, slicer.util.arrayFromVolume(volumeNode))
        assert seen == dict(task=HEART, model="small", device="cpu")
        assert said == [(1.0, "Segmenting")]

    def test_a_second_run_makes_new_nodes_with_names_of_their_own(self, scene, volumeNode, logic):
        results = [logic.segment(volumeNode, HEART) for _ in range(3)]
        added = [node for r in results for node in (r.segmentationNode, r.enhancedNode)]
        assert len({node.GetID() for node in added}) == 6
        assert len({node.GetName() for node in added}) == 6
        assert all(node.GetScene() is scene for node in added)

    def test_a_scene_without_subject_hierarchy(self):
        scene = slicer.vtkMRMLScene()
        volumeNode = mrml.add_volume(scene)
        result = DINSegmentLogic(mrml.InProcess()).segment(volumeNode, HEART)
        assert result.segmentationNode.GetScene() is scene
        assert scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode") is None


class TestNothingIsLeft:
    """After a run that ends in an error: the same nodes, the same text to save, the same hierarchy items."""

    @pytest.mark.parametrize(
        "error",
        [InputError("no heart"), ModelError("no weights"), Cancelled(), MemoryError(), KeyboardInterrupt()],
    )
    def test_the_segmenter_fails(self, scene, volumeNode, error):
        before = mrml.scene_state(scene)
        with pytest.raises(type(error)) as raised:
            DINSegmentLogic(mrml.InProcess(raising(error))).segment(volumeNode, HEART)
        assert raised.value is error
        assert mrml.scene_state(scene) == before

    def test_cancelled(self, scene, volumeNode):
        before = mrml.scene_state(scene)
        worker = mrml.InProcess()
        with pytest.raises(Cancelled):
            DINSegmentLogic(worker).segment(volumeNode, HEART, cancelled=lambda: True)
        assert mrml.scene_state(scene) == before
        assert worker.jobs[0].cancelled and worker.jobs[0].closed

    def test_an_error_in_any_line_while_nodes_are_made(self, scene, volumeNode, logic):
        """Runs as often as the node code has lines, and stops it with an error at each of them in turn."""
        segmentation = [mrml.threshold(nodes.volume_from_node(volumeNode))]
        before = mrml.scene_state(scene)
        partial = 0
        for line in range(1, 1000):
            stop = StopAtLine(line, scene)
            try:
                with stop:
                    logic.addToScene(volumeNode, segmentation)
            except Stopped:
                assert mrml.scene_state(scene) == before
                partial += stop.nodes > len(before[0])
            else:
                break
        assert line > 40
        assert partial > 20
        assert len(mrml.node_ids(scene)) == len(before[0]) + 4

    def test_given_up_after_any_step(self, scene, volumeNode, logic):
        second = mrml.add_volume(scene, mrml.random_image((3, 7, 8)), mrml.GEOMETRIES["flipped"], "ES")
        pair = volumeNode, second
        segmentations = [mrml.threshold(nodes.volume_from_node(node)) for node in pair]
        before, partial = mrml.scene_state(scene), 0
        for number in range(1, 1000):
            steps = logic.adding(volumeNode, segmentations, second)
            if len(list(itertools.islice(steps, number))) < number:
                break
            partial += scene.GetNumberOfNodes() > len(before[0])
            mine = scene.AddNewNodeByClass("vtkMRMLModelNode", "mine")
            steps.close()
            scene.RemoveNode(mine)  # It is still there.
            assert mrml.scene_state(scene) == before, number
        assert partial > 7

    def test_a_scene_without_subject_hierarchy(self):
        scene = slicer.vtkMRMLScene()
        volumeNode = mrml.add_volume(scene)
        before = mrml.node_ids(scene)
        with pytest.raises(Stopped), StopAtLine(60, scene):
            DINSegmentLogic(mrml.InProcess()).segment(volumeNode, HEART)
        assert mrml.node_ids(scene) == before

    def test_what_others_made_before_stays(self, scene, volumeNode, logic):
        first = logic.segment(volumeNode, HEART)
        before = mrml.scene_state(scene)
        with pytest.raises(Stopped), StopAtLine(60, scene):
            logic.addToScene(volumeNode, [mrml.threshold(nodes.volume_from_node(volumeNode))])
        assert mrml.scene_state(scene) == before
        assert len(mrml.segments(first.segmentationNode)) == 3


class TestTheVolumeGoesAway:
    def test_removed_during_the_run(self, scene, volumeNode):
        def segmenter(volume, task, **options):
            scene.RemoveNode(volumeNode)
            before.append(mrml.node_ids(scene))
            return mrml.threshold(volume)

        before = []
        with pytest.raises(InputError, match="'Cine SAX' is not in the scene"):
            DINSegmentLogic(mrml.InProcess(segmenter)).segment(volumeNode, HEART)
        assert [mrml.node_ids(scene)] == before

    def test_scene_closed_during_the_run(self, scene, volumeNode):
        def segmenter(volume, task, **options):
            scene.Clear(False)
            before.append(mrml.node_ids(scene))
            return mrml.threshold(volume)

        before = []
        with pytest.raises(InputError, match="is not in the scene"):
            DINSegmentLogic(mrml.InProcess(segmenter)).segment(volumeNode, HEART)
        assert [mrml.node_ids(scene)] == before

    def test_other_voxels_during_the_run(self, scene, volumeNode):
        def segmenter(volume, task, **options):
            slicer.util.updateVolumeFromArray(volumeNode, mrml.random_image((2, 5, 6)))
            before.append(mrml.scene_state(scene))
            return mrml.threshold(volume)

        before = []
        with pytest.raises(InputError, match="has changed"):
            DINSegmentLogic(mrml.InProcess(segmenter)).segment(volumeNode, HEART)
        assert [mrml.scene_state(scene)] == before

    def test_never_in_a_scene(self, logic):
        node = slicer.vtkMRMLScalarVolumeNode()
        slicer.util.updateVolumeFromArray(node, mrml.random_image())
        with pytest.raises(InputError, match="is not in the scene"):
            logic.segment(node, HEART)


class TestLibrary:
    def test_torch_is_never_loaded_in_this_process(self):
        code = (
            "import sys; from dinsegment_slicer.logic import DINSegmentLogic\n"
            "from dinsegment_slicer.running import controller\n"
            "from dinsegment_slicer.scene import preview, views, sequences\n"
            "from dinsegment_slicer.panel import result\n"
            "sys.exit('torch' in sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], cwd=Path(nodes.__file__).parents[2], check=True)

    def test_an_unknown_task_is_an_input_error(self, scene, volumeNode, logic):
        before = mrml.scene_state(scene)
        with pytest.raises(InputError, match="no task 'liver of a fish'"):
            logic.segment(volumeNode, "liver of a fish", device="cpu")
        assert mrml.scene_state(scene) == before

    def test_the_heart_of_a_phantom(self, scene, heart_logic):
        phantom = heart_phantom(slices=6, size=(150, 160))
        volumeNode = mrml.add_volume(scene, phantom.volume.array, phantom.volume.ijk_to_ras)
        said = []
        result = heart_logic.segment(volumeNode, "heart", device="cpu", progress=lambda *step: said.append(step))
        labels = mrml.exported_labels(result.segmentationNode, volumeNode)
        for segment in HEART.segments:
            truth, found = phantom.labels == segment.label, labels == segment.label
            assert 2 * (truth & found).sum() / (truth.sum() + found.sum()) > 0.5, segment.name
        assert said[-1][0] == 1.0

    def test_cancelling_the_network(self, scene, heart_logic):
        phantom = heart_phantom(slices=6, size=(150, 160))
        volumeNode = mrml.add_volume(scene, phantom.volume.array, phantom.volume.ijk_to_ras)
        before = mrml.scene_state(scene)
        said = []
        with pytest.raises(Cancelled):
            heart_logic.segment(
                volumeNode,
                "heart",
                device="cpu",
                progress=lambda *step: said.append(step),
                cancelled=lambda: bool(said) and said[-1][0] > 0.2,
            )
        assert mrml.scene_state(scene) == before
        assert heart_logic.worker.pid is None


@pytest.fixture
def heart_logic(worker):
    """With the worker's real process."""
    return DINSegmentLogic(worker)


FILES = {nodes.__file__, scene_module.__file__}
# Spared by StopAtLine: it is what is tested.
CLEAN_UP = set()
for function in (scene_module.all_or_nothing, scene_module.made, scene_module._node_ids, scene_module.remove_node):
    CLEAN_UP |= {function.__code__, *(c for c in function.__code__.co_consts if isinstance(c, CodeType))}


class Stopped(Exception):
    pass


class StopAtLine:
    """Raises Stopped when the n-th line of nodes.py, or of what it calls in scene.py, is about to run.

    Attributes:
        nodes: Nodes in the scene at that moment.
    """

    def __init__(self, line, scene):
        self.line, self.scene, self.nodes = line, scene, 0

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self.trace)

    def __exit__(self, *error):
        sys.settrace(self.before)

    def trace(self, frame, event, argument):
        code = frame.f_code
        if code.co_filename not in FILES or code in CLEAN_UP or self.line <= 0:
            return None
        if event == "line":
            self.line -= 1
            if self.line == 0:
                self.nodes = self.scene.GetNumberOfNodes()
                raise Stopped
        return self.trace
