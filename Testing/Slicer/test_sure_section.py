"""The panel's section that asks how sure the model is, clicked through on the Qt host."""

from __future__ import annotations

import dataclasses

import mrml
import numpy as np
import pytest
import slicer

pytest.importorskip("PySide6", reason="the panel needs PySide6")

from test_correction_section import Answers, message, segmented
from test_panel import rows, shown

from dinsegment.images.samples import Samples
from dinsegment.images.segmentation import Finding
from dinsegment.tasks import HEART
from dinsegment_slicer.panel.result import ResultNodes
from dinsegment_slicer.panel.texts import ZERO_WIDTH_SPACE
from dinsegment_slicer.running.messages import Severity
from dinsegment_slicer.running.samples_part import Drawn
from dinsegment_slicer.scene.layouts import ENHANCED_VIEW, ORIGINAL_VIEW
from dinsegment_slicer.scene.nodes import local_ijk_to_ras
from dinsegment_slicer.scene.sample_data import add_cine_phantom
from dinsegment_slicer.scene.sample_notes import sample_notes
from dinsegment_slicer.scene.sequences import hidden_inputs

SCALES = {"ml": 2.0, "%": 3.0, "g": 1.0}
LV = "Left ventricle"


def heart(volume, task, **options):
    """A ventricle inside of the stack, which no edge cuts; smaller in every phase."""
    labels = np.zeros(volume.shape, np.uint8)
    phase = int(volume.name.split()[-1]) if volume.name.split()[-1].isdecimal() else 1
    labels[2:-2, 40:80, 40:80], labels[2:-2, 50:70, 50 : 72 - 4 * phase] = task.muscle, task.chamber
    labels[2:-2, 82:86, 40:60] = task.right_chamber
    findings = tuple(
        Finding(f"Look at slice {n}.", (0.0, 0.0, 0.0), 3, f"LV, slice {n}", "unsure", "Doubtful", (n,), ml=1.0 / n)
        for n in (3, 4)
    )
    made = mrml.threshold(volume, task, **options)
    return dataclasses.replace(made, labels=labels, findings=findings, warnings=tuple(f.text for f in findings))


def drawn(part):
    """Ten draws or so around the labels; slice 4 is doubtful, others are not."""
    labels, ml = part._labels, abs(np.linalg.det(np.array(part.request()["volume"]["ijk_to_ras"])[:3, :3])) / 1000
    own = np.array([(labels == n).sum() * ml for n in (1, 2, 3)])
    steps = np.linspace(-1, 1, part.request()["draws"])[:, None]
    disagreement = np.zeros(labels.shape, np.uint8)
    disagreement[3, 45:75, 45:75] = 128
    return Drawn(Samples("heart-din-small", own + steps, np.zeros(0), SCALES, {}, 4, 22), disagreement, "")


@pytest.fixture
def segmenting():
    """Labels of a known shape, and draws of known volumes."""
    return Answers(heart, drawn)


def ask(host, panel, draws=4):
    panel.ui.drawsSpinBox.value = draws
    panel.ui.sureButton.click()
    host.wait_until(lambda: not panel.controller.busy, 20)
    host.pump(0.6)


def fronts():
    """What lies in front in the two views, and how opaque."""
    nodes = [
        slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLSliceCompositeNode") for tag in (ORIGINAL_VIEW, ENHANCED_VIEW)
    ]
    return [(node.GetForegroundVolumeID(), node.GetForegroundOpacity()) for node in nodes]


def said(panel):
    return panel.ui.sureLabel.text.replace(ZERO_WIDTH_SPACE, "")


def cell(table, name, column=1):
    return next(row for row in rows(table) if row[0] == name)[column]


class TestVolume:
    @pytest.fixture
    def result(self, host, panel):
        segmented(host, panel)
        return panel.parameters

    def test_it_shows_where_samples_differ_and_says_how_far_numbers_can_be_trusted(self, host, panel, result):
        ui = panel.ui
        assert shown(ui.sureSection) and ui.sureButton.enabled and not shown(ui.disagreementCheckBox)
        assert not said(panel) and "(" not in cell(ui.volumeTable, LV)
        ask(host, panel)
        (part,) = panel.logic.worker.parts
        assert part.request()["draws"] == 4 and part.request()["model"] == "heart-din-small"
        node = result.disagreementNode
        assert slicer.util.arrayFromVolume(node).max() == 128 and node.GetID() in hidden_inputs(slicer.mrmlScene)
        assert fronts() == [(node.GetID(), 0.6)] * 2 and result.secondDisagreementNode is None
        assert shown(ui.disagreementCheckBox) and shown(ui.disagreementSlider)
        value, interval = cell(ui.volumeTable, LV).split(" ", 1)
        low, high = map(float, interval.strip("()").split(" to "))
        half = 2 * np.linspace(-1, 1, 4).std(ddof=1)
        assert (low, high) == pytest.approx((float(value) - half, float(value) + half), abs=0.56)
        assert said(panel).startswith("4 samples of the model 'heart-din-small'. 90 % intervals from 4 samples,")
        assert "calibrated on 22 validation patients" in said(panel) and "corrected" not in said(panel)
        # Slice 4 is what the samples doubt, though the network itself doubts slice 3 more.
        assert [row[0] for row in rows(ui.findingsTable)] == ["LV, slice 4", "LV, slice 3"]
        assert result.tableNode.GetTable().GetNumberOfColumns() == 6

    def test_off_gives_the_views_back_what_they_had_in_front(self, host, panel, result):
        other = mrml.add_volume(slicer.mrmlScene, name="Other")
        composite = slicer.mrmlScene.GetSingletonNode(ORIGINAL_VIEW, "vtkMRMLSliceCompositeNode")
        composite.SetForegroundVolumeID(other.GetID())
        composite.SetForegroundOpacity(0.25)
        before = fronts()
        ask(host, panel)
        panel.ui.disagreementSlider.value = 0.3
        assert fronts() == [(result.disagreementNode.GetID(), pytest.approx(0.3))] * 2
        panel.ui.disagreementCheckBox.click()
        assert fronts() == before
        panel.ui.disagreementCheckBox.click()
        assert fronts() == [(result.disagreementNode.GetID(), pytest.approx(0.3))] * 2

    def test_what_is_corrected_has_no_interval_any_more(self, host, panel, result):
        ask(host, panel)
        node, image = result.segmentationNode, result.inputNode
        array = slicer.util.arrayFromSegmentBinaryLabelmap(node, LV, image).copy()
        array[4] = 0
        mrml.set_segment(node, LV, array, local_ijk_to_ras(image))
        host.pump(0.8)
        assert "(" not in cell(panel.ui.volumeTable, LV) and "(" in cell(panel.ui.volumeTable, "Right ventricle")
        assert said(panel).endswith("numbers of what a person has corrected have no interval.")

    def test_where_the_model_finds_no_anatomy_one_sentence_says_so(self, host, panel, result):
        ask(host, panel)
        before = result.disagreementNode
        panel.logic.worker.answer = lambda _part: Drawn(None, None, "No samples were drawn of 'x'.")
        ask(host, panel)
        assert message(panel) == "No samples were drawn of 'x'."
        assert panel.controller.message.severity is Severity.INFORMATION
        assert result.disagreementNode is before and said(panel)  # What was drawn before is still right.

    def test_it_goes_with_the_result(self, host, panel, result):
        ask(host, panel)
        node = result.disagreementNode
        segmented(host, panel, result.inputNode)
        assert node.GetScene() is None and result.disagreementNode is None and not said(panel)
        assert sample_notes(result.segmentationNode) is None and fronts() == [(None, 0.0)] * 2
        assert "(" not in cell(panel.ui.volumeTable, LV)
        ask(host, panel)
        node = result.disagreementNode
        slicer.mrmlScene.RemoveNode(result.segmentationNode)
        host.pump(0.6)
        assert node.GetScene() is None and {front for front, _opacity in fronts()} == {None}

    def test_a_model_that_is_gone_is_said(self, host, panel, result, monkeypatch):
        monkeypatch.setattr(panel.model, "named", lambda _name: None)
        ask(host, panel)
        assert "'heart-din-small', which made this result, is not there any more" in message(panel)
        assert not panel.logic.worker.parts

    def test_cancelling_leaves_nothing(self, host, panel, result, monkeypatch):
        before = slicer.mrmlScene.GetNumberOfNodes()
        monkeypatch.setattr("test_correction_section.AnswerJob.poll", lambda _job: False)
        panel.ui.sureButton.click()
        host.pump(0.2)
        assert panel.controller.busy and shown(panel.ui.progressFrame) and not panel.ui.sureButton.enabled
        panel.ui.cancelButton.click()
        assert not panel.controller.busy and panel.ui.sureButton.enabled
        assert slicer.mrmlScene.GetNumberOfNodes() == before and not said(panel)

    def test_the_report_has_the_samples_and_what_was_corrected(self, host, panel, result):
        assert [p.samples for p in panel.report._input().phases] == [None]
        ask(host, panel)
        (phase,) = panel.report._input().phases
        assert phase.samples["patients"] == 22 and len(phase.samples["volumes_ml"]) == 4 and phase.changed == ()
        node, image = result.segmentationNode, result.inputNode
        mrml.set_segment(node, LV, np.zeros(image.GetImageData().GetDimensions()[::-1]), local_ijk_to_ras(image))
        (phase,) = panel.report._input().phases
        assert phase.changed == (HEART.chamber,)


class TestCine:
    @pytest.fixture
    def result(self, host, panel):
        browser = add_cine_phantom(slicer.mrmlScene, phases=4)
        segmented(host, panel, browser.GetMasterSequenceNode())
        return panel.parameters

    def test_end_diastole_and_end_systole_are_asked_about_together(self, host, panel, result):
        nodes = ResultNodes(result)
        assert "(" not in cell(panel.ui.functionTable, "Ejection fraction")
        ask(host, panel)
        assert len(panel.logic.worker.parts) == 2
        assert said(panel).startswith(
            "4 samples of the model 'heart-din-small' at end diastole and end systole (phases 1, 4); of the other "
            "phases there are none."
        )
        for name in ("Ejection fraction", "End-diastolic volume", "End-systolic volume", "Myocardial mass"):
            assert " to " in cell(panel.ui.functionTable, name), name
        first, second = result.disagreementNode, result.secondDisagreementNode
        expected = {0: first, 1: None, 2: None, 3: second}
        for phase in (0, 1, 3, 2):
            nodes.showPhase(phase)
            host.pump()
            node = expected[phase]
            assert {front for front, _opacity in fronts()} == {node.GetID() if node is not None else None}, phase

    def test_where_one_of_two_has_none_the_other_stays(self, host, panel, result):
        panel.logic.worker.answer = lambda part: (
            Drawn(None, None, "No samples were drawn of 'ES'.") if part is panel.logic.worker.parts[1] else drawn(part)
        )
        ask(host, panel)
        assert message(panel) == "No samples were drawn of 'ES'." and result.secondDisagreementNode is None
        assert "in phase 1; of the other phases there are none" in said(panel)
        assert "(" not in cell(panel.ui.functionTable, "Ejection fraction")
