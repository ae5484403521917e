"""The AHA segments as nodes of their own, the anterior point, and the table of a report."""

from __future__ import annotations

import csv

import mrml
import numpy as np
import pytest
import slicer

from dinsegment.measurements.walls import aha_segments
from dinsegment_slicer.scene.aha import is_corrected, update_aha_node
from dinsegment_slicer.scene.anterior import add_point, place_of, start_placing, stop_placing
from dinsegment_slicer.scene.report_table import report_rows, update_report_table
from dinsegment_slicer.scene.tables import rows_text, write_rows
from dinsegment_slicer.scene.terminology import read_entry


def numbers(shape=(2, 6, 8)):
    return (np.arange(np.prod(shape)) % 17).reshape(shape).astype(np.uint8)


class TestAhaSegments:
    @pytest.fixture
    def volumeNode(self, scene):
        return mrml.add_volume(scene, mrml.random_image((5, 10, 12)))

    def test_names_codes_colours_and_voxels(self, scene, volumeNode):
        node = update_aha_node(numbers(), (1, 2, 3), volumeNode)
        segments = mrml.segments(node)
        assert [s.GetName() for s in segments] == [aha.name for aha in aha_segments()]
        for segment, aha in zip(segments, aha_segments(), strict=True):
            assert read_entry(segment.GetTerminology()).type == aha.code
            assert [round(255 * c) for c in segment.GetColor()] == list(aha.color)
        expected = np.zeros((5, 10, 12), np.uint8)
        expected[1:3, 2:8, 3:11] = numbers()
        assert np.array_equal(mrml.exported_labels(node, volumeNode), expected)
        assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volumeNode

    def test_colours_are_told_apart(self):
        assert len({aha.color for aha in aha_segments()}) == 16

    def test_it_lies_where_the_image_is(self, scene, volumeNode):
        volumeNode.SetAndObserveTransformNodeID(mrml.add_linear_transform(scene, mrml.OBLIQUE).GetID())
        node = update_aha_node(numbers(), (1, 2, 3), volumeNode)
        assert node.GetTransformNodeID() == volumeNode.GetTransformNodeID()

    def test_divided_anew_they_follow_an_image_that_was_moved(self, scene, volumeNode):
        node = update_aha_node(numbers(), (1, 2, 3), volumeNode)
        for transformNode in (mrml.add_linear_transform(scene, mrml.OBLIQUE), None):
            volumeNode.SetAndObserveTransformNodeID(transformNode.GetID() if transformNode else None)
            update_aha_node(numbers(), (1, 2, 3), volumeNode, node)
            assert node.GetParentTransformNode() is transformNode

    def test_with_one_removed_they_are_the_users(self, scene, volumeNode):
        node = update_aha_node(numbers(), (1, 2, 3), volumeNode)
        assert not is_corrected(node)
        node.GetSegmentation().RemoveSegment(node.GetSegmentation().GetNthSegmentID(3))
        assert is_corrected(node)

    def test_divided_anew_names_and_colours_are_the_users(self, scene, volumeNode):
        node = update_aha_node(numbers(), (1, 2, 3), volumeNode)
        mrml.segments(node)[0].SetName("front")
        mrml.segments(node)[0].SetColor(1, 0, 0)
        other = np.roll(numbers(), 1)
        assert update_aha_node(other, (0, 0, 0), volumeNode, node) is node
        assert mrml.segments(node)[0].GetName() == "front" and mrml.segments(node)[0].GetColor() == (1, 0, 0)
        expected = np.zeros((5, 10, 12), np.uint8)
        expected[0:2, 0:6, 0:8] = other
        assert np.array_equal(mrml.exported_labels(node, volumeNode), expected)
        assert not is_corrected(node)

    def test_what_the_user_changed_is_known(self, scene, volumeNode):
        node = update_aha_node(numbers(), (1, 2, 3), volumeNode)
        assert not is_corrected(node)
        mask = np.zeros((5, 10, 12), np.uint8)
        mask[4, 4, 4] = 1
        mrml.set_segment(node, "Basal anterior", mask, mrml.OBLIQUE)
        assert is_corrected(node)

    def test_a_segment_that_the_user_added_is_known(self, scene, volumeNode):
        node = update_aha_node(numbers(), (1, 2, 3), volumeNode)
        node.GetSegmentation().AddEmptySegment("scar", "scar")
        assert is_corrected(node)


class TestPoint:
    def test_where_it_is_in_the_world(self, scene):
        node = add_point(scene, (10.0, 20.0, 30.0))
        assert place_of(node) == (10.0, 20.0, 30.0) and node.GetName() == "Anterior insertion"
        shift = np.eye(4)
        shift[:3, 3] = (1, 2, 3)
        node.SetAndObserveTransformNodeID(mrml.add_linear_transform(scene, shift).GetID())
        assert place_of(node) == (11.0, 22.0, 33.0)

    def test_while_it_is_not_placed_there_is_none(self, scene):
        assert place_of(None) is None
        node = add_point(scene)
        assert place_of(node) is None
        node.AddControlPointWorld(1, 2, 3)
        assert place_of(node) == (1.0, 2.0, 3.0)
        node.UnsetNthControlPointPosition(0)
        assert place_of(node) is None

    @pytest.mark.vtk_says("more than maximum number of control points allowed (1)")
    def test_there_is_one_point_and_another_node_gets_another_name(self, scene):
        node = add_point(scene, (1.0, 2.0, 3.0))
        node.AddControlPointWorld(4, 5, 6)
        assert node.GetNumberOfControlPoints() == 1
        assert add_point(scene).GetName() == "Anterior insertion (2)"

    def test_the_next_click_places_it(self, scene):
        logic = slicer.vtkMRMLApplicationLogic()
        logic.SetMRMLScene(scene)
        node = add_point(scene)
        start_placing(node, logic)
        interaction, selection = logic.GetInteractionNode(), logic.GetSelectionNode()
        assert interaction.GetCurrentInteractionMode() == interaction.Place
        assert not interaction.GetPlaceModePersistence()
        assert selection.GetActivePlaceNodeID() == node.GetID()
        stop_placing(logic)
        assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform


MEASUREMENTS = [
    {
        "key": "lv_edv", "name": "Left ventricle: End-diastolic volume", "value": 141.23, "unit": "ml", "reason": "",
        "remark": "", "normal": {"low": 83.0, "high": 165.0, "place": "within", "source": "x"},
    },
    {
        "key": "cardiac_output", "name": "Left ventricle: Cardiac output", "value": None, "unit": "l/min",
        "reason": "The heart rate is not known.", "remark": "", "normal": None,
    },
    {
        "key": "lv_ef", "name": "Left ventricle: Ejection fraction, \"EF\"", "value": 58.4, "unit": "%", "reason": "",
        "remark": "It may be higher.", "normal": None,
    },
]  # fmt: skip
TEXTS = {"lv_edv": "141", "cardiac_output": "", "lv_ef": "58"}


class TestTable:
    def test_every_number_and_why_there_is_none(self):
        heading, *rows = report_rows(MEASUREMENTS, TEXTS)
        assert heading == ("Measurement", "Value", "Unit", "Normal from", "Normal to", "Place", "Note")
        assert rows[0] == ("Left ventricle: End-diastolic volume", "141", "ml", "83", "165", "within", "")
        assert rows[1][1:] == ("", "l/min", "", "", "", "The heart rate is not known.")
        assert rows[2][1:] == ("58", "%", "", "", "", "It may be higher.")

    def test_as_text_and_as_a_file_that_reads_back(self, tmp_path):
        rows = report_rows(MEASUREMENTS, TEXTS)
        assert rows_text(rows).splitlines()[1].split("\t")[:3] == ["Left ventricle: End-diastolic volume", "141", "ml"]
        write_rows(rows, tmp_path / "a.csv")
        assert (tmp_path / "a.csv").read_bytes().startswith(b"\xef\xbb\xbf")
        with (tmp_path / "a.csv").open(encoding="utf-8-sig", newline="") as file:
            assert [tuple(row) for row in csv.reader(file)] == rows

    def test_as_a_node_that_follows(self, scene):
        rows = report_rows(MEASUREMENTS, TEXTS)
        node = update_report_table(scene, "Report", rows)
        table = node.GetTable()
        assert [table.GetColumnName(n) for n in range(table.GetNumberOfColumns())] == list(rows[0])
        assert table.GetValueByName(0, "Value").ToString() == "141" and node.GetLocked()
        assert update_report_table(scene, "Report", rows[:2], node) is node
        assert node.GetTable().GetNumberOfRows() == 1
