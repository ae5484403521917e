"""What samples have told, in the scene: kept at segmentations, laid over images, told of numbers and findings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import slicer
from mrml import add_linear_transform, add_volume, exported_labels, set_segment, threshold

from dinsegment.images.samples import Samples
from dinsegment.images.segmentation import OTHER_IMAGE, Finding, Segmentation
from dinsegment.measurements.function import Beat
from dinsegment.phantom.late_enhancement import late_enhancement_phantom
from dinsegment.tasks import HEART, get_task
from dinsegment_slicer.scene.changes import made
from dinsegment_slicer.scene.content import label_content
from dinsegment_slicer.scene.findings import NotedFinding, note_findings
from dinsegment_slicer.scene.measure import beat_of, damage_of, measure_phases
from dinsegment_slicer.scene.nodes import (
    fill_segmentation,
    local_ijk_to_ras,
    segmentation_node,
    volume_from_node,
    voxel_ml,
)
from dinsegment_slicer.scene.overlay import (
    COLORS,
    DISAGREEMENT,
    UNEXPECTED,
    add_overlay,
    hide_overlay,
    phase_of,
    show_overlay,
)
from dinsegment_slicer.scene.report_table import report_rows
from dinsegment_slicer.scene.sample_intervals import sample_intervals
from dinsegment_slicer.scene.sample_notes import SampleNotes, note_samples, sample_notes, with_doubtful
from dinsegment_slicer.scene.sequences import hidden_inputs, is_enhanced
from dinsegment_slicer.scene.tables import update_measurement_table

RV, LV = "Right ventricle", "Left ventricle"
SCALES = {"ml": 2.0, "%": 3.0, "g": 1.0}


@pytest.fixture
def volume(scene):
    return add_volume(scene, np.random.default_rng(0).integers(0, 500, (5, 24, 26)).astype(np.int16))


def segmented(volumeNode, spread, draws=4, scales=SCALES):
    """A segmentation of noise, and samples whose volumes are its own and so many ml more or less."""
    node = segmentation_node(threshold(volume_from_node(volumeNode)), volumeNode)
    ml = [s.volume_ml for s in measure_phases([node])[0]]
    steps = np.linspace(-1, 1, draws)[:, None] * np.asarray(spread)
    note_samples(node, SampleNotes(Samples("m", ml + steps, np.zeros(0), scales, {}, draws, 22), voxel_ml(volumeNode)))
    return node


def intervals(node, volumeNode, beat=None):
    return sample_intervals(HEART, measure_phases([node]), [node], beat, None, voxel_ml(volumeNode))


class TestNotes:
    def test_they_are_saved_with_the_scene(self, scene, volume):
        node = segmented(volume, 1.0)
        scene.SetSaveToXMLString(1)
        scene.Commit()
        other = slicer.vtkMRMLScene()
        other.SetLoadFromXMLString(1)
        other.SetSceneXMLString(scene.GetSceneXMLString())
        other.Import()
        loaded = other.GetFirstNodeByClass("vtkMRMLSegmentationNode")
        assert loaded is not node
        notes = sample_notes(loaded)
        assert notes.samples.draws == 4 and notes.samples.scales == SCALES and notes.samples.patients == 22
        assert notes.fits(voxel_ml(volume)) and not notes.fits(1.01 * voxel_ml(volume))

    @pytest.mark.parametrize(
        "text", ["", "[]", '{"samples": 1}', '{"samples": {}, "voxel_ml": 1, "doubtful_ml": {}}', "x"]
    )
    def test_what_another_program_wrote_there_is_none(self, scene, volume, text):
        node = segmented(volume, 1.0)
        node.SetAttribute("DINSegment.Samples", text)
        assert sample_notes(node) is None and intervals(node, volume) is None

    def test_another_result_has_none_of_them(self, scene, volume):
        node = segmented(volume, 1.0)
        segmentation = threshold(volume_from_node(volume))
        content = made(label_content(segmentation.labels, HEART.segments, local_ijk_to_ras(volume)))
        fill_segmentation(node, segmentation, volume, HEART.segments, content)
        assert sample_notes(node) is None


class TestIntervals:
    def test_each_segment_has_one(self, scene, volume):
        node = segmented(volume, [1.0, 2.0, 3.0])
        found = intervals(node, volume)
        deviation = np.linspace(-1, 1, 4).std(ddof=1)
        for n, segment in enumerate(measure_phases([node])[0], start=1):
            one = found.volumes[0, segment.id]
            assert one.measurement.value == segment.volume_ml
            assert one.high - segment.volume_ml == pytest.approx(2 * n * deviation)
        assert "calibrated on 22 validation patients" in found.remark and found.sampled == (0,)

    def test_what_was_corrected_has_none_and_comes_back_with_its_voxels(self, scene, volume):
        node = segmented(volume, 1.0)
        before = (exported_labels(node, volume) == HEART.chamber).astype(np.uint8)
        changed = before.copy()
        changed[2, :12] = 1 - changed[2, :12]
        set_segment(node, LV, changed, local_ijk_to_ras(volume))
        found = intervals(node, volume)
        assert set(found.volumes) == {(0, s.name) for s in HEART.segments if s.name != LV}
        assert found.remark.endswith("numbers of what a person has corrected have no interval.")
        set_segment(node, LV, before, local_ijk_to_ras(volume))
        assert (0, LV) in intervals(node, volume).volumes

    def test_of_an_image_that_was_scaled_since_there_are_none(self, scene, volume):
        node = segmented(volume, 1.0)
        transform = add_linear_transform(scene, np.diag([1.0, 1.0, 1.3, 1.0]))
        for one in (volume, node):
            one.SetAndObserveTransformNodeID(transform.GetID())
        assert intervals(node, volume) is None
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([-1.0, 1.0, 1.0, 1.0])))
        assert intervals(node, volume).volumes

    def test_in_an_image_of_another_kind_nothing_has_one(self, scene, volume):
        node = segmented(volume, 1.0)
        finding = Finding("It does not look like a heart.", kind=OTHER_IMAGE)
        note_findings(node, [finding], HEART.segments, np.eye(4))
        found = intervals(node, volume)
        assert not found.volumes and found.remark.startswith("Numbers have no interval: the image does not look like")

    def test_of_a_heart_that_is_not_shown_whole_nothing_has_one(self, scene, volume):
        node = segmented(volume, 1.0)
        whole = Beat([100.0], [90.0])
        assert intervals(node, volume, whole).volumes
        one_slice = replace(whole, areas=[(np.array([9.0]), np.ones(3), np.ones(3))])
        found = intervals(node, volume, one_slice)
        assert not found.volumes
        assert found.remark == "Numbers have no interval: a single slice does not show the whole left ventricle."

    @pytest.fixture
    def beat(self, scene):
        """End diastole and end systole: the second has half of the left ventricle."""
        nodes = []
        for share in (1.0, 0.5):
            array = np.zeros((6, 40, 40), np.uint8)
            array[1:-1, 8:32, 8:32] = HEART.muscle
            array[1:-1, 12:28, 12 : 12 + round(16 * share)] = HEART.chamber
            array[1:-1, 33:38, 8 : 8 + round(24 * share)] = HEART.right_chamber
            image = add_volume(scene, array.astype(np.int16))
            segmentation = threshold(volume_from_node(image))
            object.__setattr__(segmentation, "labels", array)
            node = segmentation_node(segmentation, image)
            ml = [s.volume_ml for s in measure_phases([node])[0]]
            draws = ml + np.array([-1.0, 0.0, 1.0])[:, None] * np.array([3.0, 2.0, 4.0 if share == 1 else 1.0])
            samples = Samples("m", draws, np.zeros(0), {**SCALES, "lv_edv": 0.5}, {}, 3, 22)
            note_samples(node, SampleNotes(samples, voxel_ml(image)))
            nodes.append((node, image))
        return nodes

    def test_function_has_those_of_end_diastole_and_end_systole(self, scene, beat):
        nodes = [node for node, _image in beat]
        measured = measure_phases(nodes)
        of_beat = beat_of(HEART, measured, nodes)
        function = of_beat.function
        found = sample_intervals(HEART, measured, nodes, of_beat, None, voxel_ml(beat[0][1]))
        edv, esv = found.numbers["lv_edv"], found.numbers["lv_esv"]
        assert edv.high - edv.measurement.value == pytest.approx(0.5 * 4) and found.volumes[0, LV] is edv
        assert esv.high - esv.measurement.value == pytest.approx(2 * 1) and found.volumes[1, LV] is esv
        assert edv.measurement.value == function.end_diastolic_volume_ml
        ef = found.numbers["lv_ef"]
        assert ef.low < function.ejection_fraction_percent < ef.high
        table = update_measurement_table(scene, "t", measured, function, None, found).GetTable()
        assert [table.GetColumnName(n) for n in (4, 5)] == ["90 % interval from", "90 % interval to"]
        assert float(table.GetValue(0, 4).ToString()) == pytest.approx(edv.low, abs=1e-3)
        assert table.GetValue(3, 5).ToString() == f"{ef.high:.3f}"

    def test_a_correction_of_end_systole_takes_what_is_made_of_it(self, scene, beat):
        (diastole, _), (systole, image) = beat
        array = (exported_labels(systole, image) == HEART.chamber).astype(np.uint8)
        array[3] = 0
        set_segment(systole, LV, array, local_ijk_to_ras(image))
        measured = measure_phases([diastole, systole])
        of_beat = beat_of(HEART, measured, [diastole, systole])
        found = sample_intervals(HEART, measured, [diastole, systole], of_beat, None, voxel_ml(image))
        assert "lv_edv" in found.numbers and "lv_mass_ed" in found.numbers
        assert not {"lv_esv", "lv_ef", "lv_sv"} & set(found.numbers) and (1, LV) not in found.volumes
        assert "no interval" in found.remark


class TestDamage:
    TASK = get_task("infarct")

    @pytest.fixture
    def late(self, scene):
        """An infarct of a third of the wall, and samples of which each has another one."""
        phantom = late_enhancement_phantom(slices=5, size=(60, 64), spacing=(16.0, 3.0, 3.0))
        image = add_volume(scene, phantom.volume.array, phantom.volume.ijk_to_ras)
        node = segmentation_node(
            Segmentation(phantom.volume, phantom.labels, self.TASK, "truth", phantom.volume, "cpu", 0.0), image
        )
        ml = np.array([s.volume_ml for s in measure_phases([node])[0]])
        draws = ml + np.array([-1.0, 0.0, 1.0])[:, None] * np.array([0, 0, 2.0, 0])
        samples = Samples("m", draws, np.zeros(0), {"infarct_percent": 2.0}, {}, 3, 9)
        note_samples(node, SampleNotes(samples, voxel_ml(image)))
        return node, image

    def test_its_size_has_one_and_so_has_the_table(self, scene, late):
        node, image = late
        measured = measure_phases([node])
        damage = damage_of(self.TASK, measured[0])
        found = sample_intervals(self.TASK, measured, [node], None, damage, voxel_ml(image))
        assert set(found.numbers) == {"infarct_percent"} and not found.volumes
        one = found.numbers["infarct_percent"]
        assert one.low < damage.percent < one.high and one.high - one.low > 1
        assert "9 validation patients" in found.remark
        table = update_measurement_table(scene, "t", measured, None, None, found, damage).GetTable()
        ends = [[table.GetValue(row, n).ToString() for n in (4, 5)] for row in range(table.GetNumberOfRows())]
        assert ends == [[f"{one.low:.3f}", f"{one.high:.3f}"], *[["", ""]] * 5]
        assert not sample_intervals(self.TASK, measured, [node], None, None, voxel_ml(image)).numbers

    def test_a_corrected_infarct_has_none(self, scene, late):
        node, image = late
        array = exported_labels(node, image)
        set_segment(node, "Infarct", (array == 3)[:2].astype(np.uint8), local_ijk_to_ras(image))
        measured = measure_phases([node])
        damage = damage_of(self.TASK, measured[0])
        found = sample_intervals(self.TASK, measured, [node], None, damage, voxel_ml(image))
        assert not found.numbers and "no interval" in found.remark


def test_rows_of_a_report_have_columns_for_intervals_where_there_are_any():
    one = {"key": "lv_edv", "name": "EDV", "unit": "ml", "normal": None, "reason": "", "remark": ""}
    other = {**one, "key": "lv_esv"}
    texts = {"lv_edv": "142", "lv_esv": "60"}
    plain = report_rows([one, other], texts)
    assert len(plain[0]) == 7 and report_rows([one, other], texts, {}) == plain
    rows = report_rows([one, other], texts, {"lv_edv": ["131", "155"]})
    assert rows[0][3:5] == ("90 % interval from", "90 % interval to")
    assert rows[1][:5] == ("EDV", "142", "ml", "131", "155") and rows[2][3:5] == ("", "")
    assert rows[1][5:] == plain[1][3:]


def test_findings_have_what_the_samples_draw_otherwise_in_their_slices():
    labels, disagreement = np.zeros((4, 30, 30), np.uint8), np.zeros((4, 30, 30), np.uint8)
    labels[:, 10:20, 10:20] = 3
    disagreement[1, 10:20, 20:22] = 51  # a fifth, beside the segment
    disagreement[1, 0, 0] = 255  # far away
    disagreement[2, 12, 12] = 255
    findings = [
        NotedFinding("a", segment=LV, slices=(2,)),
        NotedFinding("b", segment=LV, slices=(3, 4)),
        NotedFinding("whole"),
        NotedFinding("missing", segment=RV, slices=(2,)),
        NotedFinding("outside", segment=LV, slices=(9,)),
    ]
    notes = SampleNotes(Samples("m", np.ones((2, 3)), np.zeros(0)), 0.1)
    found = with_doubtful(notes, disagreement, labels, 0, (8, 1.5, 1.5), findings, {1: RV, 3: LV}).doubtful_ml
    assert found == {"a": pytest.approx(0.4), "b": pytest.approx(0.1), "missing": pytest.approx(0.5)}


class TestOverlay:
    @pytest.fixture
    def views(self, scene, volume):
        """Three slice views: two show the image, one of them with something in front, the third another image."""
        other = add_volume(scene, name="Other")
        composites = []
        for background, front in ((volume, None), (volume, other), (other, None)):
            node = scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
            node.SetBackgroundVolumeID(background.GetID())
            node.SetForegroundVolumeID(front.GetID() if front else None)
            node.SetForegroundOpacity(0.3 if front else 0.0)
            composites.append(node)
        return composites, other

    @pytest.fixture
    def overlay(self, scene, volume):
        array = np.random.default_rng(1).integers(0, 256, (5, 24, 26)).astype(np.uint8)
        node = add_overlay(DISAGREEMENT, array, 7, volume)
        shown = slicer.util.arrayFromVolume(node)
        assert shown.dtype == np.uint8 and np.array_equal(shown, array)
        return node

    def test_it_lies_on_the_image_and_is_no_input(self, scene, volume, overlay):
        assert np.allclose(local_ijk_to_ras(overlay), local_ijk_to_ras(volume)) and phase_of(overlay) == 7
        display = overlay.GetDisplayNode()
        assert display.GetColorNode().GetID() == COLORS and display.GetApplyThreshold()
        assert display.GetLowerThreshold() == pytest.approx(25.5)
        assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == pytest.approx((25.5, 153.0))
        assert overlay.GetVoxelValueUnits().GetCodeValue() == "/255" and "255 is 1" in overlay.GetDescription()
        other = add_overlay(UNEXPECTED, np.zeros((5, 24, 26), np.uint8), 3, volume)
        assert phase_of(other) == 3 and other.GetID() in hidden_inputs(scene) and "grey range" in other.GetDescription()
        assert overlay.GetID() in hidden_inputs(scene) and volume.GetID() not in hidden_inputs(scene)
        assert not is_enhanced(overlay)

    def test_views_show_it_and_get_back_what_they_had(self, scene, volume, overlay, views):
        composites, _other = views
        before = [(c.GetForegroundVolumeID(), c.GetForegroundOpacity()) for c in composites]
        show_overlay(overlay, [volume, None], 0.5)
        assert [c.GetForegroundVolumeID() for c in composites] == [overlay.GetID(), overlay.GetID(), None]
        assert [c.GetForegroundOpacity() for c in composites[:2]] == [0.5, 0.5]
        show_overlay(overlay, [volume, None], 0.8)  # Again: what was in front before is still known.
        assert composites[1].GetForegroundOpacity() == 0.8
        hide_overlay(scene)
        assert [(c.GetForegroundVolumeID(), c.GetForegroundOpacity()) for c in composites] == before
        hide_overlay(scene)
        assert [(c.GetForegroundVolumeID(), c.GetForegroundOpacity()) for c in composites] == before

    def test_what_the_user_chooses_meanwhile_stays(self, scene, volume, overlay, views):
        composites, other = views
        show_overlay(overlay, [volume], 0.5)
        composites[0].SetForegroundVolumeID(other.GetID())
        composites[0].SetForegroundOpacity(0.9)
        show_overlay(overlay, [volume], 0.5)
        assert (composites[0].GetForegroundVolumeID(), composites[0].GetForegroundOpacity()) == (other.GetID(), 0.9)
        hide_overlay(scene)
        assert (composites[0].GetForegroundVolumeID(), composites[0].GetForegroundOpacity()) == (other.GetID(), 0.9)
        assert composites[1].GetForegroundVolumeID() == other.GetID()

    def test_a_view_that_shows_another_image_meanwhile_gets_its_own_back(self, scene, volume, overlay, views):
        composites, other = views
        show_overlay(overlay, [volume], 0.5)
        composites[1].SetBackgroundVolumeID(other.GetID())
        show_overlay(overlay, [volume], 0.5)
        assert (composites[1].GetForegroundVolumeID(), composites[1].GetForegroundOpacity()) == (other.GetID(), 0.3)

    def test_if_it_was_removed_the_views_get_back_what_they_had(self, scene, volume, overlay, views):
        composites, other = views
        show_overlay(overlay, [volume], 0.5)
        scene.RemoveNode(overlay)
        hide_overlay(scene)
        assert [c.GetForegroundVolumeID() for c in composites] == [None, other.GetID(), None]
