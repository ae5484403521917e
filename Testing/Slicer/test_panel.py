"""The panel, clicked through: the real .ui, the real worker, the real MRML, on the Qt host."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys

import mrml
import numpy as np
import psutil
import pytest
import slicer

pytest.importorskip("PySide6", reason="the panel needs PySide6")

from host import MODULE
from host.api import Api, check_forms, check_sources

from dinsegment.enhancement.displayed import enhanced_slices
from dinsegment.enhancement.methods import Enhancement
from dinsegment.images.segmentation import Finding
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import ras_of
from dinsegment.models.entries import find_entry, read_entries
from dinsegment.models.settings import WeightsSettings
from dinsegment.phantom.ct import abdomen_phantom
from dinsegment.tasks import ABDOMEN, HEART, TASKS
from dinsegment_slicer.installing.dependencies import Dependencies
from dinsegment_slicer.panel.model_card import model_card
from dinsegment_slicer.panel.texts import ZERO_WIDTH_SPACE
from dinsegment_slicer.running import controller as controller_module
from dinsegment_slicer.running.states import State
from dinsegment_slicer.running.worker import Worker
from dinsegment_slicer.scene import layouts
from dinsegment_slicer.scene.nodes import volume_from_node
from dinsegment_slicer.scene.sample_data import add_cine_phantom, add_heart_phantom

pytestmark = pytest.mark.usefixtures("coarse_phantoms")


@pytest.fixture
def panel(request, host, monkeypatch):
    """The panel, open, with a process that segments by a small network, or by those that ship for a test marked so."""
    shipped = request.node.get_closest_marker("shipped")
    worker = request.getfixturevalue("worker" if shipped else "tiny_worker")
    widget = host.open_module("DINSegment")
    monkeypatch.setattr(widget.logic, "worker", worker)
    monkeypatch.setattr(widget.logic, "close", lambda: None)
    host.pump()
    return widget


@pytest.fixture
def phantom(host):
    return add_heart_phantom(slicer.mrmlScene)


def segment(host, panel, seconds=90):
    panel.ui.segmentHeartButton.click()
    host.wait_until(lambda: not panel.controller.busy, seconds)
    host.pump(0.5)


def choose(panel, node):
    panel.ui.inputSelector.setCurrentNode(node)


def rows(table):
    """Texts, row by row, without columns that have icons alone."""
    return [
        [table.item(r, c).text() for c in range(table.columnCount) if heading(table, c)] for r in range(table.rowCount)
    ]


def heading(table, column):
    item = table.horizontalHeaderItem(column)
    return item is None or item.text()


def data_nodes():
    """IDs of all nodes but those of views and what Slicer hides with them, which it keeps once they were made."""
    scene = slicer.mrmlScene
    nodes = [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]
    of_views = ("AbstractView", "SliceComposite", "SliceDisplay", "Camera")
    return [
        node.GetID()
        for node in nodes
        if not node.GetHideFromEditors() and not any(node.IsA(f"vtkMRML{name}Node") for name in of_views)
    ]


def plain(text):
    """A label's text without the places where a line may end."""
    return text.replace(ZERO_WIDTH_SPACE, "")


def shown(widget):
    return widget.isVisibleTo(widget.window())


class TestWithoutAnImage:
    def test_the_buttons_say_why_they_cannot_run(self, panel):
        for button in (panel.ui.segmentHeartButton, panel.ui.segmentAbdomenButton):
            assert not button.enabled
        assert "Choose an image first." in panel.ui.reasonLabel.text
        assert "Choose an image" in panel.ui.segmentHeartButton.toolTip

    def test_nothing_is_shown_that_is_not_there(self, panel):
        for widget in (panel.ui.progressFrame, panel.ui.messageFrame, panel.ui.resultSection):
            assert not shown(widget)
        assert shown(panel.ui.noteLabel) and "not a medical device" in panel.ui.noteLabel.text

    def test_the_image_that_comes_can_be_segmented(self, host, panel):
        choose(panel, add_heart_phantom(slicer.mrmlScene))
        assert panel.ui.segmentHeartButton.enabled

    @pytest.mark.shipped
    def test_a_task_without_a_model(self, heart_model_only, host, panel):
        choose(panel, add_heart_phantom(slicer.mrmlScene))
        assert panel.ui.segmentHeartButton.enabled and not panel.ui.segmentAbdomenButton.enabled
        reasons = [f"Segment {name}: there is no model for it yet." for name in ("abdomen", "infarct")]
        assert panel.ui.reasonLabel.text == "\n".join(reasons)


class TestWarmUp:
    """What segments is started before the click: it takes seconds to load."""

    @pytest.fixture
    def panel(self, host):
        """With a process that only waits."""
        widget = host.open_module("DINSegment")
        widget.run._warmUpTimer.setInterval(1)
        host.pump()  # The application knows its Python by then.
        widget.logic.worker = Worker([sys.executable, "-c", "import sys; sys.stdin.read()"])
        yield widget
        widget.logic.worker.close()

    def test_once_an_image_is_chosen_and_not_before(self, host, panel):
        host.pump(0.2)
        assert panel.logic.worker.pid is None
        choose(panel, add_heart_phantom(slicer.mrmlScene))
        host.wait_until(lambda: panel.logic.worker.pid, 5)
        panel.controller.close()
        panel.parameters.gamma = 2.0  # Another parameter is no reason to start it again.
        host.pump(0.2)
        assert panel.logic.worker.pid is None

    def test_with_the_settings_of_the_first_run(self, host, panel, phantom):
        choose(panel, phantom)
        host.wait_until(lambda: panel.logic.worker.pid, 5)
        pid = panel.logic.worker.pid
        panel.ui.segmentHeartButton.click()
        host.pump(0.2)
        assert panel.controller.busy and panel.logic.worker.pid == pid
        panel.ui.cancelButton.click()
        assert not psutil.pid_exists(pid)

    def test_not_while_packages_are_missing_or_another_module_is_open(self, host, panel):
        panel.run.missing = Dependencies(path=[]).missing()
        choose(panel, add_heart_phantom(slicer.mrmlScene))
        host.pump(0.2)
        assert panel.logic.worker.pid is None
        panel.run.missing = []
        slicer.util.selectModule("SegmentEditor")
        choose(panel, add_heart_phantom(slicer.mrmlScene))
        host.pump(0.2)
        assert panel.logic.worker.pid is None
        slicer.util.selectModule("DINSegment")
        host.wait_until(lambda: panel.logic.worker.pid, 5)

    def test_it_ends_with_the_panel(self, host, panel, phantom):
        choose(panel, phantom)
        host.wait_until(lambda: panel.logic.worker.pid, 5)
        pid = panel.logic.worker.pid
        panel.cleanup()
        assert not psutil.pid_exists(pid)


class TestHeart:
    @pytest.mark.shipped
    def test_from_the_click_to_the_volumes(self, host, phantom, panel):
        choose(panel, phantom)
        before = slicer.util.arrayFromVolume(phantom).copy()
        panel.ui.segmentHeartButton.click()
        assert not panel.ui.segmentHeartButton.enabled and not panel.ui.inputSelector.enabled
        assert shown(panel.ui.progressFrame)
        assert panel.ui.progressBar.maximum == 0  # Nothing is known yet: no "0 %".
        host.wait_until(lambda: "slice" in panel.ui.progressLabel.text, 60)
        assert panel.ui.cancelButton.enabled and 0 < panel.ui.progressBar.value < 1000 == panel.ui.progressBar.maximum
        host.wait_until(lambda: not panel.controller.busy, 60)
        host.pump(0.5)
        assert not shown(panel.ui.progressFrame) and shown(panel.ui.resultSection)
        names, volumes = zip(*rows(panel.ui.volumeTable), strict=True)
        assert names == ("Right ventricle", "Left ventricular myocardium", "Left ventricle")
        assert all(20 < float(v) < 400 for v in volumes)
        assert not shown(panel.ui.functionTable) and not shown(panel.ui.phaseFrame)
        assert panel.views.visible
        assert panel.parameters.tableNode.GetTable().GetNumberOfRows() == 3
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(phantom), before)

    def test_the_users_layout_comes_back(self, host, phantom, panel):
        layout = slicer.app.layoutManager()
        own = layout.layout
        choose(panel, phantom)
        segment(host, panel)
        assert layout.layout > 500
        panel.ui.sideBySideCheckBox.click()
        assert layout.layout == own
        panel.ui.sideBySideCheckBox.click()
        assert layout.layout > 500
        slicer.util.selectModule("SegmentEditor")
        host.pump()
        assert layout.layout == own
        slicer.util.selectModule("DINSegment")
        host.pump()
        assert layout.layout > 500

    def test_outline_fill_and_3d(self, host, phantom, panel):
        choose(panel, phantom)
        segment(host, panel)
        display = panel.parameters.segmentationNode.GetDisplayNode()
        assert display.GetVisibility2DOutline() and not display.GetVisibility2DFill()
        panel.ui.outlineCheckBox.click()
        assert display.GetVisibility2DFill()
        panel.ui.threeDCheckBox.click()
        assert panel.parameters.segmentationNode.GetSegmentation().ContainsRepresentation("Closed surface")
        panel.ui.threeDCheckBox.click()
        assert not panel.parameters.segmentationNode.GetSegmentation().ContainsRepresentation("Closed surface")

    def test_the_volumes_follow_corrections(self, host, phantom, panel):
        choose(panel, phantom)
        segment(host, panel)
        node = panel.parameters.segmentationNode
        before = float(rows(panel.ui.volumeTable)[2][1])
        labels = slicer.util.arrayFromSegmentBinaryLabelmap(node, "Left ventricle", phantom)
        labels[:, : labels.shape[1] // 2] = 0
        slicer.util.updateSegmentBinaryLabelmapFromArray(labels, node, "Left ventricle", phantom)
        host.pump(0.6)
        voxel_ml = np.prod(phantom.GetSpacing()) / 1000
        after = float(rows(panel.ui.volumeTable)[2][1])
        assert after == pytest.approx(labels.sum() * voxel_ml, abs=0.06) and after < before
        node.GetSegmentation().GetSegment("Left ventricle").SetName("My LV")
        host.pump(0.6)
        assert rows(panel.ui.volumeTable)[2][0] == "My LV"

    def test_editing_opens_the_segment_editor_with_the_right_nodes(self, host, phantom, panel):
        choose(panel, phantom)
        segment(host, panel)
        panel.ui.editButton.click()
        host.pump()
        assert slicer.util.selectedModule() == "SegmentEditor"
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        assert editor.segmentationNode() is panel.parameters.segmentationNode
        assert editor.sourceVolumeNode() is phantom

    def test_a_new_segmentation_keeps_the_one_before_and_hides_it(self, host, phantom, panel):
        choose(panel, phantom)
        panel.ui.outputComboBox.setCurrentIndex(panel.ui.outputComboBox.findData("new"))
        segment(host, panel)
        first, enhanced = panel.parameters.segmentationNode, panel.parameters.enhancedNode.GetID()
        segment(host, panel)
        assert panel.parameters.segmentationNode is not first
        assert first.GetScene() is slicer.mrmlScene and not first.GetDisplayNode().GetVisibility()
        assert slicer.mrmlScene.GetNodeByID(enhanced) is None  # It holds no work of the user's.
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 1

    @pytest.mark.shipped
    def test_an_acdc_image(self, host, panel, acdc_folder):
        from mrml import add_volume

        from dinsegment.images import read_volume

        volume = read_volume(acdc_folder / "patient001" / "patient001_frame01.nii.gz")
        node = add_volume(slicer.mrmlScene, volume.array.astype(np.int16), volume.ijk_to_ras, "patient001")
        choose(panel, node)
        segment(host, panel)
        truth = read_volume(acdc_folder / "patient001" / "patient001_frame01_gt.nii.gz").array
        found = slicer.util.arrayFromSegmentBinaryLabelmap(panel.parameters.segmentationNode, "Left ventricle", node)
        assert 2 * (found.astype(bool) & (truth == 3)).sum() / (found.sum() + (truth == 3).sum()) > 0.9

    @pytest.mark.shipped
    def test_the_panel_answers_all_the_time(self, host, phantom, panel):
        choose(panel, phantom)
        segment(host, panel)
        with host.responsiveness() as probe:
            segment(host, panel)
        # Seconds are measured in Testing/Benchmarks/panel.py; here only that nothing waits for the run.
        assert probe.longest < probe.total / 3


CORONAL = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])


def add_small_ct(directions=CORONAL):
    """Organs of plain shape in a body in air, 8 of them; k, j, i are where `directions` lead."""
    array = np.full((14, 24, 30), -1000, np.int16)
    array[1:-1, 2:-2, 2:-2] = -80
    array[3:-3, 4:-4, 4:-4] = np.linspace(0, 200, 8 * 16 * 22).reshape(8, 16, 22)
    return mrml.add_volume(slicer.mrmlScene, array, mrml.affine(directions, (2, 2, 5), (10, 20, 30)), "CT")


def with_findings(volume, task, **options):
    """A segmenter that needs no network, and finds fault with what it did."""
    made = mrml.threshold(volume, task, **options)
    kidney = Finding("Look at the right kidney.", ras_of(volume, (9, 5, 25)), 4, "Right kidney, slice 10: look")
    found = kidney, Finding("Look at all of it.")
    return dataclasses.replace(made, findings=found, warnings=tuple(f.text for f in found))


@pytest.mark.usefixtures("models_of_both_tasks")
class TestAbdomen:
    """What a run leads to; its network is not looked at, so a threshold stands for it."""

    @pytest.fixture
    def panel(self, models_of_both_tasks, host, monkeypatch):
        widget = host.open_module("DINSegment")
        monkeypatch.setattr(widget.logic, "worker", mrml.InProcess(with_findings))
        host.pump()
        return widget

    @pytest.fixture
    def ct(self, host, panel):
        node = add_small_ct()
        choose(panel, node)
        return node

    def segment(self, host, panel):
        panel.ui.segmentAbdomenButton.click()
        host.wait_until(lambda: not panel.controller.busy, 20)
        host.pump(0.5)

    def test_eight_organs_with_their_volumes(self, host, ct, panel):
        assert panel.ui.segmentAbdomenButton.enabled and "abdomen" not in panel.ui.reasonLabel.text
        assert "pancreas" in panel.ui.segmentAbdomenButton.toolTip
        self.segment(host, panel)
        names, volumes = zip(*rows(panel.ui.volumeTable), strict=True)
        assert names == tuple(segment.name for segment in ABDOMEN.segments)
        voxels = mrml.exported_labels(panel.parameters.segmentationNode, ct)
        expected = [(voxels == segment.label).sum() * 2 * 2 * 5 / 1000 for segment in ABDOMEN.segments]
        assert [float(v) for v in volumes] == pytest.approx(expected, abs=0.06)
        for widget in (panel.ui.functionTable, panel.ui.phaseFrame, panel.ui.plotCheckBox):
            assert not shown(widget)
        assert panel.parameters.tableNode.GetTable().GetNumberOfRows() == 8

    def test_original_and_enhanced_axial_in_the_window_of_soft_tissue(self, host, ct, panel):
        self.segment(host, panel)
        assert panel.views.visible
        for tag in (layouts.ORIGINAL_VIEW, layouts.ENHANCED_VIEW):
            node = slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLSliceNode")
            normal = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())[:3, 2]
            assert np.allclose(normal, (0, 0, 1), atol=1e-6)  # It was acquired in coronal slices.
        for node in (ct, panel.parameters.enhancedNode):
            display = node.GetDisplayNode()
            assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == ABDOMEN.grey_window

    def test_the_enhanced_image_follows_the_parameters_in_that_window(self, host, ct, panel):
        self.segment(host, panel)
        panel.ui.gammaSlider.value = 3.0
        self.assert_enhanced(host, ct, panel, 3.0)

    def test_the_enhanced_image_of_a_ct_without_segmenting(self, host, ct, panel):
        panel.ui.showEnhancedButton.click()
        self.assert_enhanced(host, ct, panel, 1.0)
        assert panel.views.visible

    def assert_enhanced(self, host, ct, panel, gamma):
        """In axial slices, and of soft tissue."""
        stack = SliceStack.axial(volume_from_node(ct))
        wanted = Enhancement("fuzzy", {"m": 2, "n": 2, "gamma": gamma})
        expected = [enhanced_slices(s[None], ABDOMEN.grey_window, wanted)[0] for s in stack.array]
        expected = stack.to_volume_axes(np.stack(expected))

        def done():
            node = panel.parameters.enhancedNode
            return node is not None and np.array_equal(slicer.util.arrayFromVolume(node), expected)

        host.wait_until(done, 20)

    def test_a_heart_after_an_abdomen(self, host, ct, panel):
        self.segment(host, panel)
        choose(panel, add_heart_phantom(slicer.mrmlScene))
        segment(host, panel)
        assert [row[0] for row in rows(panel.ui.volumeTable)] == [s.name for s in HEART.segments]
        display = panel.parameters.enhancedNode.GetDisplayNode()
        assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) != ABDOMEN.grey_window

    def test_colours_and_codes_tell_left_from_right(self, host, ct, panel):
        self.segment(host, panel)
        kidneys = {s.GetName(): s.GetTerminology() for s in mrml.segments(panel.parameters.segmentationNode)[2:4]}
        assert "7771000^Left" in kidneys["Left kidney"] and "24028007^Right" in kidneys["Right kidney"]

    def test_surfaces_of_all_organs(self, host, ct, panel):
        self.segment(host, panel)
        panel.ui.threeDCheckBox.click()
        surfaces = [s.GetRepresentation("Closed surface") for s in mrml.segments(panel.parameters.segmentationNode)]
        volumes = [float(row[1]) for row in rows(panel.ui.volumeTable)]
        assert [surface.GetNumberOfPoints() > 0 for surface in surfaces] == [volume > 0 for volume in volumes]
        assert sum(volume > 0 for volume in volumes) > 3
        assert slicer.app.layoutManager().layout == layouts.WITH_3D

    def test_the_card_names_data_licence_and_scores_by_organ(self, panel):
        entry = read_entries()[1]
        text = model_card(dataclasses.replace(entry, scores=SCORES), WeightsSettings.from_environment())
        for words in ("mean Dice 0.800", "left kidney 0.900", "gallbladder 0.500", "12.5 mm", "over 6 volumes"):
            assert words in text
        assert "left kidney" in panel.ui.modelCard.text

    def test_the_card_counts_what_tells_the_model_and_does_without_it(self):
        entry, settings = read_entries()[1], WeightsSettings.from_environment()
        told, alone, lost = (
            model_card(dataclasses.replace(entry, context=context), settings)
            for context in (entry.context, {}, {**entry.context, "model": "nobody"})
        )
        assert "18.5 MB" in told and "11.6 MB" in alone and "11.6 MB" in lost
        for name in (
            "abdomen-context",
            "abdomen-organs",
            "NIH Pancreas-CT",
            "MIT licence",
            "10.1016/j.media.2019.02.006",
        ):
            assert name in told and name not in alone

    def test_what_only_tells_another_model_is_no_choice_and_stands_in_that_ones_card(self, panel):
        combo = panel.ui.modelComboBox
        names = [combo.itemText(n) for n in range(combo.count)]
        assert "abdomen-din-small" in names and not {"abdomen-context", "abdomen-organs"} & set(names)
        shown = {entry.task for entry in read_entries()} & set(TASKS)
        assert panel.ui.modelCard.text.count("<p>") == len(shown)
        assert "Told by</b></td><td>abdomen-context" in panel.ui.modelCard.text

    def test_cancelling_while_the_result_is_added(self, host, ct, panel, monkeypatch):
        monkeypatch.setattr(controller_module, "ADDING_S", 0.0)
        before, layout = data_nodes(), slicer.app.layoutManager().layout
        panel.ui.segmentAbdomenButton.click()
        host.wait_until(lambda: panel.controller.state is State.ADDING, 20)
        assert panel.ui.cancelButton.enabled
        panel.ui.cancelButton.click()
        host.pump(0.2)
        assert slicer.app.layoutManager().layout == layout
        assert data_nodes() == before and "Cancelled" in plain(panel.ui.messageLabel.text)


@pytest.mark.usefixtures("models_of_both_tasks")
class TestFindings:
    panel, ct, segment = TestAbdomen.panel, TestAbdomen.ct, TestAbdomen.segment

    def place(self, ct):
        return mrml.world_positions(mrml.ijk_to_ras(ct), [(9, 5, 25)])[0]

    def assert_in_view(self, place):
        for n in range(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSliceNode")):
            node = slicer.mrmlScene.GetNthNodeByClass(n, "vtkMRMLSliceNode")
            to_slice = np.linalg.inv(slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS()))
            assert (to_slice @ (*place, 1.0))[2] == pytest.approx(0, abs=1e-3)

    def test_they_are_listed_under_the_result(self, host, ct, panel):
        assert not shown(panel.ui.findingsTable)
        self.segment(host, panel)
        table = panel.ui.findingsTable
        assert shown(table) and rows(table) == [["Right kidney, slice 10: look"], ["Look at all of it."]]
        assert [table.item(row, 0).font().underline() for row in range(2)] == [True, False]
        assert table.item(0, 0).toolTip() == "Look at the right kidney."
        assert panel.ui.findingsSection.text == "To check (2)"
        assert not shown(panel.ui.messageFrame)  # They stand here alone.

    def test_a_click_shows_the_place_and_the_segment(self, host, ct, panel):
        self.segment(host, panel)
        display = panel.parameters.segmentationNode.GetDisplayNode()
        display.SetSegmentVisibility("Right kidney", False)
        panel.ui.findingsTable.cellClicked.emit(0, 0)
        host.pump()
        self.assert_in_view(self.place(ct))
        assert display.GetSegmentVisibility("Right kidney")
        panel.ui.findingsTable.cellActivated.emit(1, 0)  # It has no place.
        host.pump()
        self.assert_in_view(self.place(ct))

    def test_they_are_saved_with_the_scene(self, host, ct, panel, tmp_path):
        self.segment(host, panel)
        folder = tmp_path / "scene"
        folder.mkdir()
        save_scene(folder)
        slicer.mrmlScene.Clear()
        host.pump()
        assert not shown(panel.ui.findingsTable)
        load_scene(folder)
        host.pump(0.5)
        lines = [row[0] for row in rows(panel.ui.findingsTable)]
        assert lines == ["Right kidney, slice 10: look", "Look at all of it."]
        panel.ui.findingsTable.cellClicked.emit(0, 0)
        host.pump()
        self.assert_in_view(self.place(panel.parameters.inputNode))

    def test_a_result_without_any_lists_none(self, host, ct, panel, monkeypatch):
        self.segment(host, panel)
        monkeypatch.setattr(panel.logic, "worker", mrml.InProcess(mrml.threshold))
        self.segment(host, panel)
        assert not shown(panel.ui.findingsTable)


class TestAbdomenModel:
    """The shipped network, in its process."""

    @pytest.mark.shipped
    def test_a_ct_phantom(self, abdomen_model, host, panel):
        phantom = abdomen_phantom(slices=26, spacing=(8.0, 3.0, 3.0), size=(128, 128))
        volume = phantom.volume
        node = mrml.add_volume(slicer.mrmlScene, volume.array.astype(np.int16), volume.ijk_to_ras, "Phantom")
        node.SetAttribute("DICOM.Modality", "CT")
        choose(panel, node)
        panel.ui.segmentAbdomenButton.click()
        host.wait_until(lambda: not panel.controller.busy, 240)
        host.pump(0.5)
        assert shown(panel.ui.resultSection), plain(panel.ui.messageLabel.text)
        found = mrml.exported_labels(panel.parameters.segmentationNode, node)
        liver = next(s.label for s in ABDOMEN.segments if s.name == "Liver")
        overlap = 2 * ((found == liver) & (phantom.labels == liver)).sum()
        assert overlap / ((found == liver).sum() + (phantom.labels == liver).sum()) > 0.5
        algorithm = mrml.tag(mrml.segments(panel.parameters.segmentationNode)[0], "DICOM.SegmentAlgorithmName")
        assert algorithm == f"DINSegment {abdomen_model}"


SCORES = {
    "dice": {"mean": 0.8, "GB": 0.5, "KL": 0.9},
    "hd95_mm": {"mean": 12.5},
    "cases": 6,
}


class TestPhases:
    @pytest.mark.shipped
    def test_a_cine_sequence(self, host, panel):
        browser = add_cine_phantom(slicer.mrmlScene, phases=3)
        sequence = browser.GetMasterSequenceNode()
        choose(panel, sequence)
        segment(host, panel)
        p = panel.parameters
        assert p.segmentationSequenceNode.GetNumberOfDataNodes() == 3
        assert browser.IsSynchronizedSequenceNode(p.segmentationSequenceNode, True)
        function = dict(rows(panel.ui.functionTable))
        edv, esv = (float(function[f"End-{name} volume"].split()[0]) for name in ("diastolic", "systolic"))
        assert edv > esv and float(function["Stroke volume"].split()[0]) == pytest.approx(edv - esv, abs=0.11)
        assert "phase 1 of 3" in panel.ui.resultLabel.text
        assert p.plotChartNode.GetNumberOfPlotSeriesNodes() == 5
        layout = slicer.app.layoutManager()
        assert layout.layout == layouts.WITH_PLOT
        panel.ui.plotCheckBox.click()
        assert layout.layout == layouts.TWO_VIEWS
        panel.ui.endSystoleButton.click()
        host.pump(0.5)
        es = browser.GetSelectedItemNumber()
        assert es != 0 and f"phase {es + 1} of 3" in panel.ui.resultLabel.text
        current, _ed, systole = (float(v) for v in rows(panel.ui.volumeTable)[2][1:])
        assert current == systole == pytest.approx(esv)
        panel.ui.endDiastoleButton.click()
        host.pump(0.5)
        assert browser.GetSelectedItemNumber() == 0

    def test_a_phase_of_a_cine_offers_the_whole_sequence(self, host, panel):
        browser = add_cine_phantom(slicer.mrmlScene, phases=3)
        sequence = browser.GetMasterSequenceNode()
        choose(panel, browser.GetProxyNode(sequence))
        assert shown(panel.ui.wholeSequenceButton) and "all 3 phases" in panel.ui.wholeSequenceButton.text
        panel.ui.wholeSequenceButton.click()
        assert panel.parameters.inputNode is sequence and panel.ui.inputSelector.currentNode() is sequence
        assert not shown(panel.ui.wholeSequenceButton)

    @pytest.mark.shipped
    def test_end_diastole_and_end_systole_as_two_images(self, host, panel):
        from mrml import add_volume

        from dinsegment.phantom.heart import cine_phantom

        ed, es = (
            add_volume(slicer.mrmlScene, p.volume.array, p.volume.ijk_to_ras, name)
            for p, name in zip(cine_phantom(2, slices=6), ("ED", "ES"), strict=True)
        )
        choose(panel, ed)
        panel.ui.secondSelector.setCurrentNode(es)
        segment(host, panel)
        assert len(rows(panel.ui.functionTable)) == 5
        assert [panel.ui.volumeTable.horizontalHeaderItem(c).text() for c in (2, 3)] == ["ED", "ES"]
        panel.ui.endSystoleButton.click()
        original = slicer.mrmlScene.GetSingletonNode("DINOriginal", "vtkMRMLSliceCompositeNode")
        assert original.GetBackgroundVolumeID() == es.GetID()
        nodes = (panel.parameters.segmentationNode, panel.parameters.secondSegmentationNode)
        assert [node.GetDisplayNode().GetVisibility() for node in nodes] == [0, 1]
        panel.ui.editButton.click()
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        assert editor.segmentationNode() is nodes[1] and editor.sourceVolumeNode() is es
        slicer.util.selectModule("DINSegment")
        panel.ui.endDiastoleButton.click()
        assert original.GetBackgroundVolumeID() == ed.GetID()
        assert [node.GetDisplayNode().GetVisibility() for node in nodes] == [1, 0]


class TestWhenSomethingGoesWrong:
    def test_cancel(self, host, phantom, panel):
        choose(panel, phantom)
        before = data_nodes()
        panel.ui.segmentHeartButton.click()
        host.wait_until(lambda: panel.controller.fraction > 0, 60)
        pid = panel.logic.worker.pid
        panel.ui.cancelButton.click()
        host.pump()
        assert not psutil.pid_exists(pid)
        assert data_nodes() == before
        assert "Cancelled" in plain(panel.ui.messageLabel.text) and panel.ui.segmentHeartButton.enabled
        panel.ui.messageCloseButton.click()
        assert not shown(panel.ui.messageFrame)

    def test_a_killed_worker(self, host, phantom, panel, from_scratch):
        choose(panel, phantom)
        panel.ui.segmentHeartButton.click()
        host.wait_until(lambda: panel.controller.fraction > 0, 60)
        os.kill(panel.logic.worker.pid, signal.SIGKILL)
        host.wait_until(lambda: not panel.controller.busy, 20)
        assert shown(panel.ui.messageFrame) and "memory" in plain(panel.ui.messageLabel.text)
        with from_scratch():
            segment(host, panel, 300)
        assert shown(panel.ui.resultSection) and not shown(panel.ui.messageFrame)

    def test_the_image_is_deleted_meanwhile(self, host, phantom, panel):
        choose(panel, phantom)
        panel.ui.segmentHeartButton.click()
        host.pump(0.05)
        assert panel.controller.busy
        slicer.mrmlScene.RemoveNode(phantom)
        host.pump()
        assert not panel.controller.busy and "was removed" in plain(panel.ui.messageLabel.text)
        assert not panel.ui.segmentHeartButton.enabled

    def test_the_scene_is_closed_meanwhile(self, host, phantom, panel):
        choose(panel, phantom)
        panel.ui.segmentHeartButton.click()
        host.pump(0.05)
        assert panel.controller.busy
        slicer.mrmlScene.Clear()
        host.pump()
        assert not panel.controller.busy and not panel.ui.segmentHeartButton.enabled
        assert panel.logic.worker.pid is None
        assert panel.parameters.inputNode is None

    def test_an_image_that_cannot_be_segmented(self, host, panel):
        from mrml import add_volume

        choose(panel, add_volume(slicer.mrmlScene, np.full((3, 20, 20), 7, np.int16), name="Flat"))
        segment(host, panel)
        assert "'Flat' is constant" in plain(panel.ui.messageLabel.text)
        assert not shown(panel.ui.resultSection)

    def test_missing_packages_and_a_no(self, host, phantom, panel, tmp_path):
        panel.controller.dependencies = Dependencies(path=[str(tmp_path)])
        host.answer("Cancel")
        choose(panel, phantom)
        panel.ui.segmentHeartButton.click()
        host.pump()
        assert len(host.messages) == 1 and "torch" in host.messages[0].text
        assert "Nothing was installed" in plain(panel.ui.messageLabel.text)
        assert panel.ui.segmentHeartButton.enabled

    def test_the_result_is_deleted(self, host, phantom, panel):
        choose(panel, phantom)
        segment(host, panel)
        slicer.mrmlScene.RemoveNode(panel.parameters.segmentationNode)
        host.pump(0.6)
        assert not shown(panel.ui.resultSection)
        segment(host, panel)
        assert shown(panel.ui.resultSection)


class TestScenes:
    def test_a_saved_scene_brings_everything_back(self, host, phantom, panel, tmp_path):
        choose(panel, phantom)
        segment(host, panel)
        before = rows(panel.ui.volumeTable)
        panel.ui.outlineCheckBox.click()
        panel.ui.windowsXSpinBox.setValue(5)
        host.pump(0.2)
        save_scene(tmp_path)
        slicer.mrmlScene.Clear()
        host.pump()
        assert not shown(panel.ui.resultSection) and panel.ui.outlineCheckBox.checked
        load_scene(tmp_path)
        host.pump(0.5)
        p = panel.parameters
        assert p.inputNode.GetName() == "HeartPhantom" and p.segmentationNode is not None
        assert not panel.ui.outlineCheckBox.checked and panel.ui.windowsXSpinBox.value == 5
        assert rows(panel.ui.volumeTable) == before and shown(panel.ui.resultSection)
        assert panel.views.visible

    def test_two_scenes_in_turn(self, host, phantom, panel, tmp_path):
        choose(panel, phantom)
        segment(host, panel)
        save_scene(tmp_path)
        slicer.mrmlScene.Clear()
        other = add_heart_phantom(slicer.mrmlScene)
        choose(panel, other)
        segment(host, panel)
        slicer.mrmlScene.Clear()
        load_scene(tmp_path)
        host.pump(0.5)
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1
        assert shown(panel.ui.resultSection)

    def test_a_scene_that_is_closed_while_another_module_is_open(self, host, phantom, panel):
        choose(panel, phantom)
        segment(host, panel)
        slicer.util.selectModule("SegmentEditor")
        slicer.mrmlScene.Clear()
        host.pump(0.5)
        slicer.util.selectModule("DINSegment")
        host.pump(0.5)
        assert not shown(panel.ui.resultSection) and not panel.ui.segmentHeartButton.enabled
        choose(panel, add_heart_phantom(slicer.mrmlScene))
        segment(host, panel)
        assert shown(panel.ui.resultSection)

    def test_reload(self, host, with_tiny_models, phantom):
        panel = host.open_module("DINSegment")
        choose(panel, phantom)
        segment(host, panel)
        pid, before = panel.logic.worker.pid, rows(panel.ui.volumeTable)
        panel.onReload()
        host.pump()
        assert not psutil.pid_exists(pid)
        again = slicer.util.getModuleWidget("DINSegment")
        assert again is not panel
        again.enter()
        host.pump(0.5)
        assert again.parameters.inputNode is phantom and rows(again.ui.volumeTable) == before


def save_scene(folder):
    """As Slicer saves: every storable node into a file, then the scene."""
    scene = slicer.mrmlScene
    scene.SetRootDirectory(str(folder))
    for index in range(scene.GetNumberOfNodes()):
        node = scene.GetNthNode(index)
        if not node.IsA("vtkMRMLStorableNode") or not node.GetSaveWithScene() or node.IsA("vtkMRMLColorNode"):
            continue
        if node.GetStorageNode() is None:
            node.AddDefaultStorageNode()
        storage = node.GetStorageNode()
        if storage is None:
            continue
        storage.SetFileName(str(folder / f"{node.GetID()}.{storage.GetDefaultWriteFileExtension()}"))
        assert storage.WriteData(node), node.GetName()
    scene.SetURL(str(folder / "scene.mrml"))
    assert scene.Commit()


def load_scene(folder):
    slicer.mrmlScene.SetURL(str(folder / "scene.mrml"))
    assert slicer.mrmlScene.Connect()


class TestEnhancement:
    def test_the_enhanced_image_without_segmenting(self, host, phantom, panel):
        choose(panel, phantom)
        panel.ui.showEnhancedButton.click()
        host.pump(0.5)
        from dinsegment.enhancement.displayed import enhanced_volume
        from dinsegment_slicer.panel.enhancement_section import PUBLISHED
        from dinsegment_slicer.scene.nodes import volume_from_node

        expected = enhanced_volume(volume_from_node(phantom), PUBLISHED).array
        shown_array = slicer.util.arrayFromVolume(panel.parameters.enhancedNode)
        np.testing.assert_array_equal(shown_array, expected)
        assert panel.views.visible and not shown(panel.ui.resultSection)

    def test_the_image_follows_the_parameters(self, host, phantom, panel):
        choose(panel, phantom)
        segment(host, panel)
        array = slicer.util.arrayFromVolume(panel.parameters.enhancedNode)
        published = array.copy()
        panel.ui.gammaSlider.value = 3.0
        host.pump(0.5)
        assert np.abs(array - published).max() > 10
        panel.ui.resetEnhancementButton.click()
        host.pump(0.5)
        np.testing.assert_allclose(array, published, atol=1e-3)

    def test_all_phases_of_a_cine_follow(self, host, panel):
        browser = add_cine_phantom(slicer.mrmlScene, phases=2)
        choose(panel, browser.GetMasterSequenceNode())
        segment(host, panel)
        sequence = panel.parameters.enhancedSequenceNode
        before = [slicer.util.arrayFromVolume(sequence.GetNthDataNode(n)).copy() for n in range(2)]
        proxy = slicer.util.arrayFromVolume(panel.parameters.enhancedNode).copy()
        panel.ui.methodComboBox.setCurrentIndex(panel.ui.methodComboBox.findData("none"))
        host.pump(0.8)
        for n in range(2):
            assert np.abs(slicer.util.arrayFromVolume(sequence.GetNthDataNode(n)) - before[n]).max() > 10
        assert np.abs(slicer.util.arrayFromVolume(panel.parameters.enhancedNode) - proxy).max() > 10

    def test_parameters_that_mean_nothing_are_off(self, panel):
        panel.ui.methodComboBox.setCurrentIndex(panel.ui.methodComboBox.findData("none"))
        assert not panel.ui.gammaSlider.enabled and not panel.ui.windowsXSpinBox.enabled


class TestModel:
    @pytest.mark.shipped
    def test_the_card_names_scores_data_and_licence(self, panel):
        text, scores = panel.ui.modelCard.text, find_entry(None, HEART).scores
        numbers = f"Dice {scores['dice']['mean']:.3f}", f"ejection fraction off by {scores['ef_mae']:.1f} points"
        for words in (*numbers, "ACDC", "10.1109/TMI.2018.2837502", "CC BY-NC-SA 4.0", "on this machine"):
            assert words in text

    @pytest.mark.shipped
    def test_choices_are_kept_in_the_parameter_node(self, panel):
        panel.ui.deviceComboBox.setCurrentIndex(panel.ui.deviceComboBox.findData("cpu"))
        panel.ui.modelComboBox.setCurrentIndex(panel.ui.modelComboBox.findData("heart-din-small"))
        assert panel.parameters.device == "cpu" and panel.parameters.model == "heart-din-small"

    def test_settings_reach_the_worker_and_outlive_the_panel(self, host, panel):
        panel.ui.mirrorEdit.setText("http://mirror.hospital ")
        panel.ui.mirrorEdit.editingFinished.emit()
        panel.ui.offlineCheckBox.click()
        panel.ui.cacheEdit.setCurrentPath("cache")
        assert panel.model.environment() == {
            "DINSEGMENT_HUB": "http://mirror.hospital",
            "DINSEGMENT_CACHE": "cache",
            "DINSEGMENT_OFFLINE": "1",
        }
        panel.onReload()
        host.pump()
        again = slicer.util.getModuleWidget("DINSegment")
        assert again.ui.mirrorEdit.text == "http://mirror.hospital" and again.ui.offlineCheckBox.checked

    @pytest.mark.shipped
    def test_importing_weights_that_belong_to_no_model(self, host, panel, tmp_path):
        path = tmp_path / "other.safetensors"
        path.write_bytes(b"not these")
        host.answer(str(path))
        panel.ui.importWeightsButton.click()
        host.pump()
        assert shown(panel.ui.messageFrame) and "other.safetensors" in plain(panel.ui.messageLabel.text)

    @pytest.mark.shipped
    def test_importing_the_right_weights(self, host, panel):
        host.answer(str(MODULE.parent / "Resources" / "Models" / "heart-din-small.safetensors"))
        panel.ui.importWeightsButton.click()
        host.pump()
        assert "'heart-din-small' were imported" in plain(panel.ui.messageLabel.text)


class TestForEverybody:
    def test_every_control_has_a_tool_tip_and_can_be_reached_by_keyboard(self, panel):
        import qt

        controls = [
            widget
            for name, widget in vars(panel.ui).items()
            if name.endswith(("Button", "Selector", "ComboBox", "CheckBox", "SpinBox", "Slider", "Edit", "Table"))
        ]
        assert len(controls) > 25
        for widget in controls:
            assert widget.toolTip, widget.objectName
            # Of a composite control, what it consists of takes the focus.
            parts = [widget, *widget.findChildren(qt.QWidget)]
            assert any(int(part.focusPolicy) & int(qt.Qt.TabFocus) for part in parts), widget.objectName

    def test_the_keys_after_alt_are_each_for_one_thing_and_none_of_slicers_menus(self, panel):
        texts = [widget.text for widget in vars(panel.ui).values() if hasattr(widget, "text")]
        texts = [text for text in texts if not text.startswith("<")]  # rich text, in which & begins a character
        keys = [text[text.index("&") + 1].upper() for text in texts if "&" in text]
        assert len(keys) > 12 and len(set(keys)) == len(keys), " ".join(sorted(keys))
        assert not set(keys) & set("FEVH")  # File, Edit, View, Help

    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_no_colour_is_fixed(self, host, panel, theme, tmp_path):
        host.set_theme(theme)
        for widget in vars(panel.ui).values():
            if widget.inherits("QWidget"):
                assert not widget.styleSheet, widget.objectName
        assert host.grab(panel.parent, tmp_path / "panel.png").stat().st_size > 10_000


def test_every_name_that_the_code_uses_exists_in_slicer():
    api = Api()
    if not api.known:
        pytest.skip("the names of the real application (slicer-api.json) are not at hand")
    folder = MODULE.parent
    assert (
        check_sources(
            [
                *folder.glob("DINSegment*.py"),
                *folder.glob("DINSegmentEditorEffect/*.py"),
                *(folder / "Logic" / "dinsegment_slicer").rglob("*.py"),
            ],
            api,
        )
        == []
    )
    assert check_forms([folder / "Resources" / "UI" / "DINSegment.ui"]) == []


class TestExport:
    """Of a result that is there already; what is written is tested in test_dicom_export.py."""

    @pytest.fixture
    def result(self, host, panel, tmp_path, monkeypatch):
        from dicom_cases import SERIES, write_series
        from host.dicom_database import DicomDatabase
        from mrml import threshold
        from test_dicom_export import imported, load

        from dinsegment_slicer.scene.nodes import enhanced_node, segmentation_node, volume_from_node

        folder = tmp_path / "series"
        write_series(folder, SERIES["oblique"])
        database = imported(DicomDatabase(tmp_path / "database"), folder)
        monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
        node = load(slicer.mrmlScene, folder)
        choose(panel, node)
        segmentation = threshold(volume_from_node(node))
        p = panel.parameters
        p.task = "heart"
        p.segmentationNode = segmentation_node(segmentation, node)
        p.enhancedNode = enhanced_node(segmentation, node)
        host.pump(0.5)
        return p.segmentationNode

    def export(self, host, panel):
        panel.ui.exportButton.click()
        host.wait_until(lambda: not panel.controller.busy, 60)
        host.pump()
        return plain(panel.ui.messageLabel.text)

    def test_without_a_folder_it_says_what_to_do(self, host, panel, result):
        assert panel.ui.exportButton.enabled
        assert "Choose the folder" in self.export(host, panel)

    def test_the_file_and_its_copy(self, host, panel, result, tmp_path):
        import pydicom

        panel.ui.exportFolderEdit.setCurrentPath(str(tmp_path / "out"))
        assert panel.ui.exportDatabaseCheckBox.checked
        assert "DICOM database has a copy" in self.export(host, panel)
        (path,) = (tmp_path / "out").iterdir()
        assert len(pydicom.dcmread(path).SegmentSequence) == 3
        panel.ui.exportDatabaseCheckBox.click()
        assert "database" not in self.export(host, panel)

    def test_nothing_else_can_be_begun_meanwhile(self, host, panel, result, tmp_path):
        panel.ui.exportFolderEdit.setCurrentPath(str(tmp_path / "out"))
        panel.ui.exportButton.click()
        assert shown(panel.ui.progressFrame) and panel.ui.cancelButton.enabled
        for widget in (panel.ui.exportButton, panel.ui.segmentHeartButton, panel.ui.exportFolderEdit):
            assert not widget.enabled
        panel.ui.cancelButton.click()
        host.pump()
        assert "Cancelled" in plain(panel.ui.messageLabel.text) and panel.ui.exportButton.enabled
        assert list((tmp_path / "out").iterdir()) == []

    def test_the_folder_of_the_images_is_asked_for(self, host, panel, result, tmp_path):
        result.GetNodeReference("referenceImageGeometryRef").RemoveAttribute("DICOM.instanceUIDs")
        panel.ui.exportFolderEdit.setCurrentPath(str(tmp_path / "out"))
        host.answer("Ok", str(tmp_path / "series"))
        assert "Saved" in self.export(host, panel)
        assert "not known which DICOM images 'SAX'" in host.messages[0].text
        host.answer("Cancel")
        assert "not known" in self.export(host, panel)

    def test_the_folder_is_remembered(self, host, panel, result, tmp_path):
        panel.ui.exportFolderEdit.setCurrentPath(str(tmp_path))
        assert slicer.util.settingsValue("DINSegment/ExportFolder", "") == str(tmp_path)

    def test_a_correction_is_marked_for_slicers_own_export_at_once(self, host, panel, result):
        from mrml import segments, tag
        from test_dicom_export import edit

        edit(result)
        host.pump(0.6)
        found = [tag(segment, "DICOM.SegmentAlgorithmType") for segment in segments(result)]
        assert found == ["AUTOMATIC", "AUTOMATIC", "SEMIAUTOMATIC"]
