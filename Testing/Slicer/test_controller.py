"""The controller: real jobs in a real worker, real scenes; what the user is told and what is left in the scene."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time

import numpy as np
import psutil
import pytest
import slicer
from mrml import InProcess, InProcessJob, add_volume, scene_state, threshold

from dinsegment.images.segmentation import Finding
from dinsegment.phantom.heart import heart_phantom
from dinsegment.tasks import ABDOMEN, HEART
from dinsegment_slicer.installing.dependencies import Dependencies
from dinsegment_slicer.logic import DINSegmentLogic
from dinsegment_slicer.running.controller import Controller
from dinsegment_slicer.running.messages import Message, Severity
from dinsegment_slicer.running.requests import Errand, Request
from dinsegment_slicer.running.states import State
from dinsegment_slicer.running.worker import Worker
from dinsegment_slicer.scene.findings import findings_of


@pytest.fixture
def volumeNode(scene):
    volume = heart_phantom(slices=6, size=(100, 112), spacing=(8.0, 2.8, 2.8)).volume
    return add_volume(scene, volume.array, volume.ijk_to_ras, "Phantom")


class Panel:
    """Stands where the panel does: keeps what it would show."""

    def __init__(self, worker, dependencies=None, answer=True):
        self.questions, self.results, self.seen = [], [], []
        self.controller = Controller(DINSegmentLogic(worker), dependencies or Dependencies(), self._ask)
        self._answer = answer
        self.controller.finished.connect(lambda request, result: self.results.append((request, result)))
        self.controller.changed.connect(self._see)

    def _ask(self, question):
        self.questions.append(question)
        return self._answer

    def _see(self):
        c = self.controller
        self.seen.append((c.state, round(c.fraction, 3), c.text))

    def begin(self, node, task=HEART, **options):
        self.controller.chooseInput(node)
        self.controller.segment(Request(task, node, **options))

    def wait(self, until=lambda controller: not controller.busy, seconds=600):
        end = time.monotonic() + seconds
        while not until(self.controller):
            assert time.monotonic() < end, self.seen[-3:]
            self.controller.tick()
            time.sleep(0.01)


@pytest.fixture
def panel(request):
    """With a small network in the process, or with those that ship for a test marked so."""
    shipped = request.node.get_closest_marker("shipped")
    panel = Panel(request.getfixturevalue("worker" if shipped else "tiny_worker"))
    yield panel
    panel.controller._dropJob()


def computing(controller):
    return controller.state is State.RUNNING and controller.fraction > 0


@pytest.mark.shipped
def test_a_volume_is_segmented_and_added(scene, volumeNode, panel):
    panel.begin(volumeNode)
    assert panel.controller.state is State.RUNNING
    panel.wait()
    assert panel.controller.state is State.READY
    ((request, result),) = panel.results
    assert request.inputNode is volumeNode and result.task is HEART
    assert result.segmentationNode.GetScene() is scene
    assert result.segmentationNode.GetSegmentation().GetNumberOfSegments() == 3
    fractions = [fraction for state, fraction, _text in panel.seen if state is State.RUNNING]
    assert fractions == sorted(fractions) and len(set(fractions)) > 3
    assert {state for state, *_ in panel.seen} == set(State) - {State.NO_INPUT}
    assert any("slice" in text for _state, _fraction, text in panel.seen)


def test_two_phases_of_one_heart_are_segmented_together(scene, volumeNode, panel):
    second = add_volume(scene, slicer.util.arrayFromVolume(volumeNode)[:5].copy(), np.diag([1.5, 1.5, 8, 1]), "ES")
    panel.begin(volumeNode, secondNode=second)
    panel.wait()
    ((_request, result),) = panel.results
    references = [n.GetNodeReference("referenceImageGeometryRef") for n in result.segmentationNodes]
    assert references == [volumeNode, second]
    assert len(result.enhancedNodes) == 2


def test_cancelling_leaves_the_scene_and_no_process(scene, volumeNode, panel, tiny_worker):
    panel.controller.chooseInput(volumeNode)
    before = scene_state(scene)
    panel.begin(volumeNode)
    panel.wait(computing)
    pid = tiny_worker.pid
    began = time.monotonic()
    panel.controller.cancel()
    assert time.monotonic() - began < 20  # How quickly is measured in segment_and_cancel.py.
    assert not psutil.pid_exists(pid) and tiny_worker.pid is None
    assert panel.controller.state is State.READY
    assert "Cancelled" in panel.controller.message.text
    assert panel.controller.message.severity is Severity.INFORMATION
    assert scene_state(scene) == before and not panel.results
    panel.begin(volumeNode)  # And it works again.
    panel.wait()
    assert len(panel.results) == 1


def test_an_image_removed_meanwhile_ends_the_run(scene, volumeNode, panel):
    panel.begin(volumeNode)
    panel.wait(computing)
    panel.controller.nodeRemoved(volumeNode)
    scene.RemoveNode(volumeNode)
    assert panel.controller.state is State.NO_INPUT
    assert "'Phantom' was removed" in panel.controller.message.text
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_another_node_that_is_removed_does_not_matter(scene, volumeNode, panel):
    other = add_volume(scene)
    panel.begin(volumeNode)
    panel.controller.nodeRemoved(other)
    panel.wait()
    assert len(panel.results) == 1


def test_closing_the_scene_ends_the_run(scene, volumeNode, panel):
    panel.begin(volumeNode)
    panel.wait(computing)
    panel.controller.sceneClosed()
    assert panel.controller.state is State.NO_INPUT and panel.controller.message is None
    assert panel.controller.logic.worker.pid is None


def test_a_killed_worker_gives_a_message_and_the_next_run_works(scene, volumeNode, panel, tiny_worker):
    before = scene_state(scene)
    panel.begin(volumeNode)
    panel.wait(computing)
    os.kill(tiny_worker.pid, signal.SIGKILL)
    panel.wait()
    assert panel.controller.state is State.READY
    assert panel.controller.message.severity is Severity.ERROR and "memory" in panel.controller.message.text
    assert scene_state(scene) == before
    panel.begin(volumeNode)
    panel.wait()
    assert len(panel.results) == 1


def test_a_worker_that_prints_rubbish_gives_a_message(scene, volumeNode):
    worker = Worker([sys.executable, "-c", "print('hello', flush=True); import time; time.sleep(60)"])
    panel = Panel(worker)
    panel.begin(volumeNode)
    panel.wait(seconds=20)
    assert panel.controller.message.severity is Severity.ERROR
    assert panel.controller.state is State.READY and worker.pid is None


def test_an_image_that_cannot_be_segmented_is_told_before_anything_starts(scene, panel):
    volumeNode = add_volume(scene, name="Empty")
    volumeNode.SetAndObserveImageData(None)
    panel.begin(volumeNode)
    assert panel.controller.state is State.READY
    assert panel.controller.message.text.startswith("'Empty' holds no image")


def test_a_constant_image_is_told_by_the_worker(scene, panel):
    panel.begin(add_volume(scene, np.full((3, 20, 20), 7, np.int16), name="Flat"))
    panel.wait()
    assert "'Flat' is constant" in panel.controller.message.text
    assert panel.controller.message.severity is Severity.ERROR


def test_a_task_without_a_model_is_told(scene, volumeNode, panel, heart_model_only):
    panel.begin(volumeNode, task=ABDOMEN)
    assert panel.controller.state is State.READY
    assert "no model for the task 'abdomen'" in panel.controller.message.text


def test_a_second_click_while_it_runs_does_nothing(scene, volumeNode, panel):
    panel.begin(volumeNode)
    panel.controller.segment(Request(HEART, volumeNode))
    panel.wait()
    assert len(panel.results) == 1


def test_the_user_may_decline_to_install(scene, volumeNode, tiny_worker, tmp_path):
    panel = Panel(tiny_worker, Dependencies(path=[str(tmp_path)]), answer=False)  # An empty Python has none of them.
    before = scene_state(scene)
    panel.begin(volumeNode)
    assert len(panel.questions) == 1 and "torch" in panel.questions[0]
    assert panel.controller.state is State.READY
    assert "Nothing was installed" in panel.controller.message.text
    assert scene_state(scene) == before


def test_without_the_pytorch_extension_the_message_says_what_to_do(scene, volumeNode, tiny_worker, tmp_path):
    panel = Panel(tiny_worker, Dependencies(path=[str(tmp_path)]))
    panel.begin(volumeNode)
    assert panel.controller.state is State.READY
    assert panel.controller.message.severity is Severity.ERROR
    assert "extension 'PyTorch'" in panel.controller.message.text


def with_findings(*phases, warnings=()):
    """A segmenter that needs no network and finds fault with the images, one after the other; it warns, too."""
    phases = iter(phases)

    def segmenter(volume, task, **options):
        findings = tuple(map(Finding, next(phases)))
        texts = (*(finding.text for finding in findings), *warnings)
        return dataclasses.replace(threshold(volume, task, **options), findings=findings, warnings=texts)

    return segmenter


def result_and_message(worker, volumeNode, secondNode=None):
    panel = Panel(worker)
    panel.begin(volumeNode, secondNode=secondNode)
    panel.wait()
    return panel.results[0][1], panel.controller.message


def test_a_finding_of_the_worker_is_kept_at_the_result(scene, volumeNode, panel):
    volumeNode.SetAttribute("DICOM.Modality", "CT")
    panel.begin(volumeNode)
    panel.wait()
    assert any("looks like CT" in f.text for f in findings_of(panel.results[0][1].segmentationNode))
    assert panel.controller.message is None


def test_what_is_a_finding_is_no_message_too(scene, volumeNode):
    segmenter = with_findings(["The liver is cut."], warnings=["The device ran out of memory."])
    result, message = result_and_message(InProcess(segmenter), volumeNode)
    assert message == Message(Severity.WARNING, "The device ran out of memory.")
    assert result.findings == ((Finding("The liver is cut."),),)
    assert [f.text for f in findings_of(result.segmentationNode)] == ["The liver is cut."]


def test_findings_alone_need_no_message(scene, volumeNode):
    _result, message = result_and_message(InProcess(with_findings(["The liver is cut."])), volumeNode)
    assert message is None


@pytest.mark.parametrize(("phases", "text"), [([[], []], None), ([[], ["It is cut."]], "in phase 2 of 2")])
def test_of_two_phases_the_message_says_that_one_has_findings(scene, volumeNode, phases, text):
    second = add_volume(scene, name="second")
    result, message = result_and_message(InProcess(with_findings(*phases)), volumeNode, second)
    assert [len(found) for found in result.findings] == [len(found) for found in phases]
    assert message is None if text is None else text in message.text and "It is cut." not in message.text


def test_a_slot_that_fails_is_told_and_the_panel_works_on(scene, volumeNode, panel):
    def broken(_request, _result):
        raise KeyError("oops")

    panel.controller.finished.connect(broken)
    panel.begin(volumeNode)
    panel.wait()
    assert panel.controller.state is State.READY
    assert panel.controller.message.severity is Severity.ERROR


class Waiting(InProcess):
    """A worker whose job ends when it is told to."""

    def begin(self, parts):
        self.ended = False
        self.jobs.append(InProcessJob(lambda *_a, **_o: None, [], HEART, None, "cpu"))
        self.jobs[-1].poll = self.poll
        return self.jobs[-1]

    def poll(self):
        self.jobs[-1].finished = self.ended
        return True


class TestWhatIsAboutNothingInTheScene:
    """A training, which takes hours."""

    @pytest.fixture
    def waiting(self):
        return Waiting()

    @pytest.fixture
    def training(self, waiting, volumeNode):
        panel = Panel(waiting)
        panel.controller.chooseInput(volumeNode)
        panel.controller.do(Errand(["cases"], lambda _results: Message(Severity.INFORMATION, "Trained.")))
        assert panel.controller.state is State.RUNNING
        return panel.controller

    @pytest.mark.parametrize("end", [lambda c: c.sceneClosed(), lambda c: c.chooseInput(None)])
    def test_goes_on_when_the_scene_is_closed_or_the_image_goes(self, training, waiting, end):
        end(training)
        training.tick()
        assert training.state is State.RUNNING and not waiting.jobs[-1].cancelled
        waiting.ended = True
        training.tick()
        assert training.message.text == "Trained."
        assert training.state is State.NO_INPUT

    def test_an_image_that_is_there_then_can_be_segmented(self, training, waiting, volumeNode):
        training.sceneClosed()
        training.chooseInput(volumeNode)
        waiting.ended = True
        training.tick()
        assert training.state is State.READY

    def test_ends_when_it_is_cancelled_and_with_the_panel(self, training, waiting):
        training.sceneClosed()
        training.cancel()
        assert training.state is State.NO_INPUT and waiting.jobs[-1].cancelled

    def test_what_is_about_nodes_ends_with_the_scene(self, waiting, volumeNode):
        controller = Panel(waiting).controller
        controller.chooseInput(volumeNode)
        controller.do(Errand(["corrections"], lambda _results: None, (volumeNode,)))
        controller.sceneClosed()
        assert controller.state is State.NO_INPUT and waiting.jobs[-1].cancelled
