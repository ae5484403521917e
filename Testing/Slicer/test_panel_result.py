"""What the panel shows of a result and offers around it: tables, views, structures, samples, the log."""

from __future__ import annotations

import dataclasses

import mrml
import numpy as np
import pytest
import slicer

pytest.importorskip("PySide6", reason="the panel needs PySide6")

from test_panel import add_small_ct, choose, plain, rows, shown, with_findings

from dinsegment.errors import InputError
from dinsegment.images.segmentation import Finding
from dinsegment.tasks import ABDOMEN, HEART, TASKS
from dinsegment_slicer.running.states import State
from dinsegment_slicer.scene import layouts
from dinsegment_slicer.scene.sample_data import add_cine_phantom, add_heart_phantom, phantoms
from dinsegment_slicer.scene.sequences import is_enhanced

pytestmark = pytest.mark.usefixtures("coarse_phantoms")

EYE, NAME = 0, 1


@pytest.fixture
def segmenting():
    return mrml.InProcess(with_findings)


def segment(host, panel, button="segmentHeartButton"):
    getattr(panel.ui, button).click()
    host.wait_until(lambda: not panel.controller.busy, 20)
    host.pump(0.5)


def of_bright_voxels(volume, task, **options):
    made = mrml.threshold(volume, task, **options)
    return dataclasses.replace(made, labels=(volume.array > 0).astype(np.uint8), findings=(), warnings=())


def whole_heart(volume, task, **options):
    """A ventricle inside of the stack, which no edge cuts."""
    labels = np.zeros(volume.shape, np.uint8)
    labels[2:-2, 40:80, 40:80], labels[2:-2, 50:70, 50:70] = task.muscle, task.chamber
    return dataclasses.replace(mrml.threshold(volume, task, **options), labels=labels, findings=(), warnings=())


def refused(volume, task, **options):
    raise InputError(f"'{volume.name}' is constant: choose another.")


def slice_node(tag=layouts.ORIGINAL_VIEW):
    return slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLSliceNode")


def slice_in_view(volumeNode, tag=layouts.ORIGINAL_VIEW):
    """Index k of the slice that a view shows."""
    to_ijk = np.linalg.inv(mrml.ijk_to_ras(volumeNode))
    return (to_ijk @ slicer.util.arrayFromVTKMatrix(slice_node(tag).GetSliceToRAS())[:, 3])[2]


def corner_text(tag=layouts.ORIGINAL_VIEW):
    view = slicer.app.layoutManager().sliceWidget(tag).sliceView()
    actors = view.renderWindow().GetRenderers().GetFirstRenderer().GetViewProps()
    texts = [actors.GetItemAsObject(n) for n in range(actors.GetNumberOfItems())]
    return [actor.GetInput() for actor in texts if actor.GetVisibility()]


class TestViews:
    def test_the_first_result_shows_the_middle_of_the_heart(self, host, panel, monkeypatch):
        """The bar of a new view sets its offset to 0 once the event loop runs, which is the lowest slice here."""
        array = np.zeros((12, 40, 40), np.int16)
        array[7:10, 10:30, 10:30] = 300
        node = mrml.add_volume(slicer.mrmlScene, array, mrml.affine(np.eye(3), (1.5, 1.5, 8), (0, 0, 0)), "Heart")
        monkeypatch.setattr(panel.logic, "worker", mrml.InProcess(of_bright_voxels))
        choose(panel, node)
        segment(host, panel)
        assert [slice_in_view(node, tag) for tag in (layouts.ORIGINAL_VIEW, layouts.ENHANCED_VIEW)] == [8.0, 8.0]

    def test_they_are_made_after_the_click_and_show_the_original(self, host, panel, monkeypatch):
        waiting, poll = [True], mrml.InProcessJob.poll
        monkeypatch.setattr(mrml.InProcessJob, "poll", lambda job: not waiting and poll(job))
        node = add_heart_phantom(slicer.mrmlScene)
        choose(panel, node)
        host.pump()
        assert slice_node() is None  # The layout is the user's until then.
        panel.ui.segmentHeartButton.click()
        host.wait_until(lambda: panel.views.visible, 10)
        assert panel.controller.busy
        composites = [
            slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLSliceCompositeNode")
            for tag in (layouts.ORIGINAL_VIEW, layouts.ENHANCED_VIEW)
        ]
        assert [c.GetBackgroundVolumeID() for c in composites] == [node.GetID(), None]
        waiting.clear()
        host.wait_until(lambda: not panel.controller.busy, 20)
        host.pump(0.5)
        assert composites[1].GetBackgroundVolumeID() == panel.parameters.enhancedNode.GetID()

    def test_a_cancelled_run_gives_the_layout_back(self, host, panel, monkeypatch):
        monkeypatch.setattr(mrml.InProcessJob, "poll", lambda job: False)  # As long as the user waits.
        before = slicer.app.layoutManager().layout
        choose(panel, add_heart_phantom(slicer.mrmlScene))
        panel.ui.segmentHeartButton.click()
        host.wait_until(lambda: panel.views.visible, 10)
        panel.ui.cancelButton.click()
        host.pump()
        assert panel.controller.state is State.READY and slicer.app.layoutManager().layout == before

    def test_none_are_made_for_who_does_not_want_them(self, host, panel):
        panel.ui.sideBySideCheckBox.click()
        choose(panel, add_heart_phantom(slicer.mrmlScene))
        segment(host, panel)
        assert slice_node() is None and not panel.views.visible

    def test_they_tell_the_number_of_the_slice(self, host, panel):
        node = add_heart_phantom(slicer.mrmlScene)
        choose(panel, node)
        segment(host, panel)
        count = node.GetImageData().GetDimensions()[2]
        for k in (2, 5):
            panel.views.jumpTo(tuple(mrml.world_positions(mrml.ijk_to_ras(node), [(k, 40, 40)])[0]))
            for tag, title in layouts.view_titles().items():
                assert corner_text(tag) == [f"{title}, slice {k + 1} of {count}"]
        slicer.util.selectModule("SegmentEditor")
        assert corner_text() == []


class TestTable:
    @pytest.fixture
    def ct(self, host, panel):
        node = add_small_ct()
        choose(panel, node)
        segment(host, panel, "segmentAbdomenButton")
        return node

    def test_the_eye_hides_and_shows_a_segment(self, host, ct, panel):
        display = panel.parameters.segmentationNode.GetDisplayNode()
        row = next(r for r, (name, _ml) in enumerate(rows(panel.ui.volumeTable)) if name == "Spleen")
        for expected in (False, True):
            panel.ui.volumeTable.cellClicked.emit(row, EYE)
            assert display.GetSegmentVisibility("Spleen") == expected
            assert panel.ui.volumeTable.item(row, EYE).toolTip() == ("Hide Spleen" if expected else "Show Spleen")
        panel.ui.volumeTable.cellClicked.emit(row, NAME)
        assert display.GetSegmentVisibility("Spleen")

    def test_a_double_click_leads_to_the_middle(self, host, ct, panel):
        row = next(r for r, (name, _ml) in enumerate(rows(panel.ui.volumeTable)) if name == "Spleen")
        panel.ui.volumeTable.cellDoubleClicked.emit(row, NAME)
        host.pump()
        labels = mrml.exported_labels(panel.parameters.segmentationNode, ct)
        (spleen,) = (s.label for s in ABDOMEN.segments if s.name == "Spleen")
        where = np.argwhere(labels == spleen)[:, 1]  # Its axial slices lie across j.
        to_ijk = np.linalg.inv(mrml.ijk_to_ras(ct))
        j = (to_ijk @ slicer.util.arrayFromVTKMatrix(slice_node().GetSliceToRAS())[:, 3])[1]
        assert where.min() < j < where.max()
        empty = next(r for r, (_name, ml) in enumerate(rows(panel.ui.volumeTable)) if float(ml) == 0)
        panel.ui.volumeTable.cellDoubleClicked.emit(empty, NAME)  # Nothing is there to be seen.

    def test_it_is_copied_and_saved_whole(self, host, ct, panel, tmp_path):
        panel.ui.copyButton.click()
        lines = slicer.app.clipboard().text().splitlines()
        assert lines[0] == "Measurement\tPhase\tValue\tUnit" and len(lines) == 1 + len(ABDOMEN.segments)
        path = tmp_path / "volumes.csv"
        host.answer(str(path))
        panel.ui.saveTableButton.click()
        saved = path.read_text(encoding="utf-8-sig").splitlines()
        assert saved == [line.replace("\t", ",") for line in lines]
        assert "Saved" in plain(panel.ui.messageLabel.text)
        host.answer(str(tmp_path / "nowhere" / "volumes.csv"))
        panel.ui.saveTableButton.click()
        assert "could not be written" in plain(panel.ui.messageLabel.text)

    def test_a_cine_is_saved_with_all_phases(self, host, panel, tmp_path, monkeypatch):
        monkeypatch.setattr(panel.logic, "worker", mrml.InProcess(whole_heart))
        choose(panel, add_cine_phantom(slicer.mrmlScene, phases=3).GetMasterSequenceNode())
        segment(host, panel)
        host.answer(str(tmp_path / "cine.csv"))
        panel.ui.saveTableButton.click()
        lines = (tmp_path / "cine.csv").read_text(encoding="utf-8-sig").splitlines()
        assert len(lines) == 1 + 5 + 3 * len(HEART.segments)

    def test_table_and_title_follow_while_a_cine_plays(self, host, panel):
        browser = add_cine_phantom(slicer.mrmlScene, phases=4)
        choose(panel, browser.GetMasterSequenceNode())
        segment(host, panel)
        seen = []
        for phase in (1, 2, 3, 0, 1):  # Faster than the volumes could be computed again.
            browser.SetSelectedItemNumber(phase)
            assert f"phase {phase + 1} of 4" in plain(panel.ui.resultLabel.text)
            assert panel.ui.volumeTable.horizontalHeaderItem(2).text() == f"Phase {phase + 1}"
            seen.append(rows(panel.ui.volumeTable)[2][1])
        expected = [f"{phase[2].volume_ml:.1f}" for phase in panel.result.measurement.phases]
        assert seen == [expected[phase] for phase in (1, 2, 3, 0, 1)] and len(set(expected)) > 1


class TestPatients:
    def test_the_result_of_another_patient_stays(self, host, panel):
        first, second = add_heart_phantom(slicer.mrmlScene), add_heart_phantom(slicer.mrmlScene)
        choose(panel, first)
        segment(host, panel)
        p = panel.parameters
        kept = [node.GetID() for node in (p.segmentationNode, p.enhancedNode, p.tableNode)]
        choose(panel, second)
        segment(host, panel)
        assert all(slicer.mrmlScene.GetNodeByID(node) is not None for node in kept)
        assert p.segmentationNode.GetID() not in kept and p.tableNode.GetID() not in kept

    def test_an_image_that_is_loaded_is_chosen_when_none_was(self, host, panel):
        assert panel.parameters.inputNode is None
        first = add_heart_phantom(slicer.mrmlScene)
        host.pump()
        assert panel.parameters.inputNode is first
        add_heart_phantom(slicer.mrmlScene)
        host.pump()
        assert panel.parameters.inputNode is first

    def test_enhanced_images_are_neither_offered_nor_chosen(self, host, panel):
        choose(panel, add_heart_phantom(slicer.mrmlScene))
        segment(host, panel)
        enhanced = panel.parameters.enhancedNode
        assert is_enhanced(enhanced)
        offered = panel.ui.inputSelector.sortFilterProxyModel().hiddenNodeIDs
        assert enhanced.GetID() in offered
        slicer.mrmlScene.RemoveNode(panel.parameters.inputNode)
        panel.input.chooseOne()
        assert panel.parameters.inputNode is None


class TestOutput:
    def corrected(self, host, panel, node):
        """The user takes half of a segment away."""
        segmentation = panel.parameters.segmentationNode
        labels = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "Left ventricle", node)
        labels[:, : labels.shape[1] // 2] = 0
        slicer.util.updateSegmentBinaryLabelmapFromArray(labels, segmentation, "Left ventricle", node)
        host.pump(0.6)
        return mrml.exported_labels(segmentation, node)

    def test_three_runs_fill_one_segmentation(self, host, panel):
        choose(panel, add_heart_phantom(slicer.mrmlScene))
        segment(host, panel)
        p = panel.parameters
        first = [node.GetID() for node in (p.segmentationNode, p.enhancedNode, p.tableNode)]
        for _ in range(2):
            segment(host, panel)
        assert [node.GetID() for node in (p.segmentationNode, p.enhancedNode, p.tableNode)] == first
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1
        assert (
            p.segmentationNode.GetName() == "HeartPhantom Heart" and p.segmentationNode.GetDisplayNode().GetVisibility()
        )
        assert host.messages == []

    def test_a_cine_too(self, host, panel):
        choose(panel, add_cine_phantom(slicer.mrmlScene, phases=2).GetMasterSequenceNode())
        segment(host, panel)
        p = panel.parameters
        first = [node.GetID() for node in (p.segmentationNode, p.segmentationSequenceNode, p.plotChartNode)]
        segment(host, panel)
        assert [node.GetID() for node in (p.segmentationNode, p.segmentationSequenceNode, p.plotChartNode)] == first

    def test_a_correction_is_replaced_only_after_a_question(self, host, panel):
        node = add_heart_phantom(slicer.mrmlScene)
        choose(panel, node)
        segment(host, panel)
        computed = mrml.exported_labels(panel.parameters.segmentationNode, node)
        mine = self.corrected(host, panel, node)
        assert (mine != computed).any()
        host.answer("Cancel")
        segment(host, panel)
        assert "corrected by hand: Left ventricle" in host.messages[-1].text
        np.testing.assert_array_equal(mrml.exported_labels(panel.parameters.segmentationNode, node), mine)
        host.answer("Ok")
        segment(host, panel)
        np.testing.assert_array_equal(mrml.exported_labels(panel.parameters.segmentationNode, node), computed)

    def test_a_correction_that_is_made_meanwhile_is_not_replaced(self, host, panel):
        node = add_heart_phantom(slicer.mrmlScene)
        choose(panel, node)
        segment(host, panel)
        first = panel.parameters.segmentationNode
        computed, mine = mrml.exported_labels(first, node), []

        def meanwhile(volume, task, **options):
            labels = slicer.util.arrayFromSegmentBinaryLabelmap(first, "Left ventricle", node)
            labels[:, : labels.shape[1] // 2] = 0
            slicer.util.updateSegmentBinaryLabelmapFromArray(labels, first, "Left ventricle", node)
            mine.append(mrml.exported_labels(first, node))
            return with_findings(volume, task, **options)

        panel.logic.worker.segmenter = meanwhile
        segment(host, panel)
        np.testing.assert_array_equal(mrml.exported_labels(first, node), mine[0])
        second = panel.parameters.segmentationNode
        assert second is not first
        np.testing.assert_array_equal(mrml.exported_labels(second, node), computed)
        assert f"meanwhile: '{first.GetName()}' stays as it is" in plain(panel.ui.messageLabel.text)
        panel.logic.worker.segmenter = with_findings
        segment(host, panel)
        assert panel.parameters.segmentationNode is second

    def test_another_image_gets_one_of_its_own(self, host, panel):
        choose(panel, add_heart_phantom(slicer.mrmlScene))
        segment(host, panel)
        first = panel.parameters.segmentationNode
        choose(panel, add_heart_phantom(slicer.mrmlScene))
        segment(host, panel)
        assert panel.parameters.segmentationNode is not first and host.messages == []


class TestStructures:
    def action(self, panel, name):
        return panel.structures._actions[name]

    def test_what_is_not_wanted_is_not_there(self, host, panel):
        choose(panel, add_small_ct())
        assert panel.ui.structuresButton.text == "All"
        total = len({segment.name for task in TASKS.values() for segment in task.segments})
        for name in ("Stomach", "Spleen"):
            self.action(panel, name).setChecked(False)
        assert panel.ui.structuresButton.text == f"{total - 2} of {total}"
        segment(host, panel, "segmentAbdomenButton")
        names = [name for name, _ml in rows(panel.ui.volumeTable)]
        assert names == [s.name for s in ABDOMEN.segments if s.name not in ("Stomach", "Spleen")]

    def test_a_task_without_any_says_so(self, host, panel):
        choose(panel, add_heart_phantom(slicer.mrmlScene))
        for segment_ in HEART.segments:
            self.action(panel, segment_.name).setChecked(False)
        assert not panel.ui.segmentHeartButton.enabled and panel.ui.segmentAbdomenButton.enabled
        assert "none of its structures is wanted" in panel.ui.reasonLabel.text
        panel.parameters.unwanted = []
        assert panel.ui.segmentHeartButton.enabled and self.action(panel, "Left ventricle").checked


class TestSamples:
    def test_one_is_added_and_chosen(self, host, panel):
        (phantom,) = (p for p in phantoms() if p.name == "HeartPhantom")
        panel.samples.begin(phantom)
        assert not panel.ui.sampleDataButton.enabled and "Generating" in panel.ui.sampleDataButton.text
        host.wait_until(lambda: not panel.samples.busy, 60)
        assert panel.parameters.inputNode.GetName() == "HeartPhantom"
        assert panel.ui.segmentHeartButton.enabled and panel.ui.sampleDataButton.enabled

    def test_all_are_offered(self, panel):
        titles = [action.text for action in panel.samples._menu.actions()]
        assert titles == [phantom.sample for phantom in phantoms()]

    def test_closing_the_scene_gives_it_up(self, host, panel):
        panel.samples.begin(phantoms()[0])
        slicer.mrmlScene.Clear()
        host.wait_until(lambda: not panel.samples.busy, 20)
        assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == []


class TestLog:
    def test_runs_and_errors_stand_in_it(self, host, panel, monkeypatch):
        choose(panel, add_heart_phantom(slicer.mrmlScene))
        segment(host, panel)
        text = panel.ui.logText.plainText
        assert "Segmenting 'HeartPhantom' (heart, 1 images)" in text and "Done in" in text
        assert "Look at all of it." in text
        monkeypatch.setattr(panel.logic, "worker", mrml.InProcess(refused))
        segment(host, panel)
        text = panel.ui.logText.plainText
        assert "'HeartPhantom' is constant" in text
        panel.ui.copyLogButton.click()
        assert slicer.app.clipboard().text() == text

    def test_it_ends_with_the_panel(self, host, panel):
        import logging

        handler = panel.log
        panel.cleanup()
        for name in ("dinsegment", "dinsegment_slicer"):
            assert handler not in logging.getLogger(name).handlers


def test_findings_of_a_phase_are_those_of_the_phase_in_view(host, panel, monkeypatch):
    def by_phase(volume, task, **options):
        made = mrml.threshold(volume, task, **options)
        number = volume.name[-1]
        return dataclasses.replace(made, findings=(Finding(f"Look at {number}.", short=f"In {number}"),))

    monkeypatch.setattr(panel.logic, "worker", mrml.InProcess(by_phase))
    browser = add_cine_phantom(slicer.mrmlScene, phases=2)
    choose(panel, browser.GetMasterSequenceNode())
    segment(host, panel)
    lines = []
    for phase in range(2):
        browser.SetSelectedItemNumber(phase)
        lines.append(rows(panel.ui.findingsTable))
    assert lines[0] != lines[1] and shown(panel.ui.findingsSection)


class TestTasks:
    """Nothing in the panel knows the tasks that ship: a third one is a JSON file."""

    @pytest.fixture
    def third(self, tmp_path, monkeypatch):
        import json

        from test_third_task import BLOOD

        (tmp_path / "tasks").mkdir()
        (tmp_path / "tasks" / "blood.json").write_text(json.dumps({**BLOOD, "key": "b"}), encoding="utf-8")
        monkeypatch.setenv("DINSEGMENT_TASKS", str(tmp_path / "tasks"))

    def test_each_has_its_button(self, third, host, panel):
        titles = [button.text.replace("&", "") for button in panel.run.buttons.values()]
        assert titles == ["Segment heart", "Segment abdomen", "Segment infarct", "Segment blood pools"]
        assert panel.ui.segmentBloodButton.text == "Segment &blood pools"
        assert all(not button.icon.isNull() for button in panel.run.buttons.values())
        titles = [action.text for action in panel.structures._menu.actions()]
        assert {"Right cavity", "Left cavity"} <= set(titles)

    def test_the_third_runs_with_a_model_from_a_folder(self, third, host, panel, tmp_path):
        import json

        from dinsegment.models.entries import read_entries

        entry = {**vars(read_entries()[0]), "name": "mine", "task": "blood", "scores": {}}
        run = tmp_path / "run"
        run.mkdir()
        choose(panel, add_heart_phantom(slicer.mrmlScene))
        assert not panel.ui.segmentBloodButton.enabled
        assert "blood pools: there is no model for it yet" in panel.ui.reasonLabel.text
        host.answer(str(run))
        panel.ui.modelFolderButton.click()
        assert "holds no model" in plain(panel.ui.messageLabel.text)
        (run / "weights.json").write_text(json.dumps({"models": [entry]}, default=str), encoding="utf-8")
        host.answer(str(run))
        panel.ui.modelFolderButton.click()
        assert panel.parameters.model == str(run) and panel.ui.modelComboBox.currentText == "mine"
        assert panel.ui.segmentBloodButton.enabled and "mine" not in panel.ui.reasonLabel.text
        segment(host, panel, "segmentBloodButton")
        assert [name for name, _ml in rows(panel.ui.volumeTable)] == ["Right cavity", "Left cavity"]
        assert panel.logic.worker.jobs[-1].model == str(run)
