"""Volumes of segments as they are in the nodes, the function from them, plot and table."""

from __future__ import annotations

from dataclasses import asdict, replace

import mrml
import numpy as np
import pytest
import rendering
import slicer
import vtk

from dinsegment.errors import InputError
from dinsegment.images.segmentation import Segmentation
from dinsegment.measurements.function import beat_of as beat_of_images
from dinsegment.measurements.infarct import OTHER, SEVERAL, infarct_measurements
from dinsegment.measurements.volumes import segment_volumes
from dinsegment.phantom.heart import cine_phantom
from dinsegment.phantom.late_enhancement import late_enhancement_phantom
from dinsegment.tasks import ABDOMEN, HEART, get_task
from dinsegment_slicer.scene import measure as measure_module
from dinsegment_slicer.scene import plots
from dinsegment_slicer.scene.measure import (
    MeasuredSegment,
    beat_of,
    damage_of,
    function_of,
    measure,
    measure_phases,
    why_no_damage,
)
from dinsegment_slicer.scene.nodes import segmentation_node, volume_from_node
from dinsegment_slicer.scene.plots import show_legend_beside, update_volume_plot
from dinsegment_slicer.scene.tables import update_measurement_table

INFARCT = get_task("infarct")
STRETCH = np.diag([2.0, 1.5, -1.0, 1.0])
CLOSED_SURFACE = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()


@pytest.fixture(scope="module")
def beat():
    """Five phases of a heart with their truth as segmentations."""
    phases = cine_phantom(5, slices=6, size=(60, 64), spacing=(14.0, 4.0, 4.0))
    return [Segmentation(p.volume, p.labels, HEART, "truth", p.volume, "cpu", 0.0) for p in phases]


def add_segmentation(scene, segmentation):
    volumeNode = mrml.add_volume(scene, segmentation.volume.array, segmentation.volume.ijk_to_ras)
    return segmentation_node(segmentation, volumeNode)


@pytest.fixture
def segmentationNode(scene, beat):
    return add_segmentation(scene, beat[0])


@pytest.fixture
def measured(scene, beat):
    return measure_phases(add_segmentation(scene, segmentation) for segmentation in beat)


@pytest.fixture
def function(measured):
    return function_of(HEART, measured)


@pytest.fixture(scope="module")
def infarct():
    """A heart after an infarct, with its truth as segmentation."""
    phantom = late_enhancement_phantom(slices=5, size=(60, 64), spacing=(16.0, 3.0, 3.0))
    return Segmentation(phantom.volume, phantom.labels, INFARCT, "truth", phantom.volume, "cpu", 0.0)


def volumes(segmentation):
    return [s.volume_ml for s in segment_volumes(segmentation)]


def ml(segments):
    return [s.volume_ml for s in segments]


def add_sphere(segmentationNode, radius, name="Tumour"):
    sphere = vtk.vtkSphereSource()
    sphere.SetRadius(radius)
    sphere.SetThetaResolution(90)
    sphere.SetPhiResolution(90)
    sphere.Update()
    segment = slicer.vtkSegment()
    segment.SetName(name)
    segment.AddRepresentation(CLOSED_SURFACE, sphere.GetOutput())
    segmentationNode.GetSegmentation().AddSegment(segment, name)


class TestMeasure:
    def test_every_segment_in_order(self, segmentationNode, beat):
        segments = measure(segmentationNode)
        assert [s.id for s in segments] == [s.name for s in segments] == [s.name for s in HEART.segments]
        assert [s.color for s in segments] == [s.color for s in HEART.segments]
        assert [s.type for s in segments] == [s.type for s in HEART.segments]
        assert ml(segments) == pytest.approx(volumes(beat[0]))
        assert min(ml(segments)) > 20

    @pytest.mark.parametrize("matrix", mrml.GEOMETRIES.values(), ids=mrml.GEOMETRIES)
    def test_on_any_grid_and_under_transforms(self, scene, matrix):
        volumeNode = mrml.add_volume(scene, ijk_to_ras=matrix)
        inner = mrml.add_linear_transform(scene, mrml.OBLIQUE, mrml.add_linear_transform(scene, STRETCH))
        volumeNode.SetAndObserveTransformNodeID(inner.GetID())
        segmentation = mrml.threshold(volume_from_node(volumeNode))
        segments = measure(segmentation_node(segmentation, volumeNode))
        assert ml(segments) == pytest.approx(volumes(segmentation))

    def test_sheared_grid(self, scene):
        """With a gantry tilt a voxel is smaller than the product of its spacings."""
        labels = np.zeros((4, 5, 6), np.uint8)
        labels[1, 2, 1:4] = 3
        image = slicer.vtkOrientedImageData()
        image.SetExtent(0, 5, 0, 4, 0, 3)
        image.SetSpacing(1, 1, np.sqrt(5))
        image.SetDirections([[1, 0, 0], [0, 1, 1 / np.sqrt(5)], [0, 0, 2 / np.sqrt(5)]])
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())[:] = labels.ravel()
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "tilted")
        segment = slicer.vtkSegment()
        segment.SetLabelValue(3)
        segment.AddRepresentation(
            slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName(), image
        )
        node.GetSegmentation().AddSegment(segment, "LV")
        assert ml(measure(node)) == pytest.approx([3 * 2.0 / 1000])

    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
    def test_labelmaps_of_any_type(self, scene, dtype):
        labels = np.array([[[-1, 0, 3, 3, 3]]]).astype(dtype)
        labels[labels > 3] = 0
        image = slicer.vtkOrientedImageData()
        image.SetExtent(0, 4, 0, 0, 0, 0)
        kind = vtk.util.numpy_support.get_vtk_array_type(labels.dtype)
        image.AllocateScalars(kind, 1)
        vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())[:] = labels.ravel()
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "any type")
        for label in (1, 3, 9):
            segment = slicer.vtkSegment()
            segment.SetLabelValue(label)
            segment.AddRepresentation(
                slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName(), image
            )
            node.GetSegmentation().AddSegment(segment, str(label))
        assert ml(measure(node)) == pytest.approx([0, 3 / 1000, 0])

    def test_a_shared_labelmap_is_counted_once(self, monkeypatch, segmentationNode):
        real, seen = measure_module._voxels_per_label, []
        monkeypatch.setattr(measure_module, "_voxels_per_label", lambda image: seen.append(image) or real(image))
        measure(segmentationNode)
        assert len(seen) == segmentationNode.GetSegmentation().GetNumberOfLayers() == 1

    @pytest.mark.parametrize("absent", [(1,), (1, 2, 3)], ids=str)
    def test_empty_segments(self, scene, beat, absent):
        segmentation = mrml.without(beat[0], *absent)
        segments = measure(add_segmentation(scene, segmentation))
        assert ml(segments) == pytest.approx(volumes(segmentation))
        assert [s.volume_ml == 0 for s in segments] == [s.label in absent for s in HEART.segments]

    def test_a_segment_without_any_representation(self, segmentationNode, beat):
        segmentationNode.GetSegmentation().GetSegment("Right ventricle").RemoveAllRepresentations()
        assert ml(measure(segmentationNode)) == pytest.approx([0.0, *volumes(beat[0])[1:]])

    def test_what_the_user_changed(self, segmentationNode, beat):
        before = ml(measure(segmentationNode))
        image = segmentationNode.GetBinaryLabelmapInternalRepresentation("Left ventricle")
        array = slicer.util.arrayFromSegmentInternalBinaryLabelmap(segmentationNode, "Left ventricle")
        label = segmentationNode.GetSegmentation().GetSegment("Left ventricle").GetLabelValue()
        array[np.nonzero(array == label)[0].max()][...] = 0
        image.Modified()
        segment = segmentationNode.GetSegmentation().GetSegment("Left ventricle")
        segment.SetName("LV")
        segment.SetColor(1, 0.5, 0)
        found = measure(segmentationNode)
        assert (found[2].id, found[2].name, found[2].color) == ("Left ventricle", "LV", (255, 128, 0))
        assert 0 < found[2].volume_ml < before[2]

    def test_a_closed_surface_encloses_its_volume(self, scene):
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "surfaces")
        node.GetSegmentation().SetSourceRepresentationName(CLOSED_SURFACE)
        add_sphere(node, 20)
        sphere = 4 / 3 * np.pi * 20**3 / 1000
        assert ml(measure(node)) == pytest.approx([sphere], rel=0.01)
        node.SetAndObserveTransformNodeID(mrml.add_linear_transform(scene, STRETCH).GetID())
        assert ml(measure(node)) == pytest.approx([3 * sphere], rel=0.01)

    def test_an_empty_closed_surface(self, scene):
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "surfaces")
        node.GetSegmentation().SetSourceRepresentationName(CLOSED_SURFACE)
        segment = slicer.vtkSegment()
        segment.AddRepresentation(CLOSED_SURFACE, vtk.vtkPolyData())
        node.GetSegmentation().AddSegment(segment, "empty")
        assert ml(measure(node)) == [0]

    def test_a_surface_beside_the_labelmap_changes_nothing(self, segmentationNode, beat):
        sphere = vtk.vtkSphereSource()
        sphere.Update()
        for segment in mrml.segments(segmentationNode):
            segment.AddRepresentation(CLOSED_SURFACE, sphere.GetOutput())
        assert ml(measure(segmentationNode)) == pytest.approx(volumes(beat[0]))

    def test_contours_alone_cannot_be_measured(self, scene):
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "RT structures")
        node.GetSegmentation().SetSourceRepresentationName("Planar contour")
        segment = slicer.vtkSegment()
        segment.SetName("Heart")
        segment.AddRepresentation("Planar contour", vtk.vtkPolyData())
        node.GetSegmentation().AddSegment(segment, "heart")
        with pytest.raises(InputError, match=r"'Heart' of 'RT structures' is neither.*convert it"):
            measure(node)

    def test_a_non_linear_transform_is_refused(self, scene, segmentationNode):
        segmentationNode.SetAndObserveTransformNodeID(mrml.add_warp(scene).GetID())
        with pytest.raises(InputError, match=r"non-linear.*harden"):
            measure(segmentationNode)

    def test_a_phase_lies_where_its_proxy_does(self, scene, segmentationNode, beat):
        proxyNode = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "proxy")
        proxyNode.SetAndObserveTransformNodeID(mrml.add_linear_transform(scene, STRETCH).GetID())
        assert ml(measure(segmentationNode, proxyNode)) == pytest.approx([3 * v for v in volumes(beat[0])])

    def test_no_segments(self, scene):
        assert measure(scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "new")) == []

    def test_measuring_leaves_the_scene_alone(self, scene, segmentationNode):
        before = mrml.scene_state(scene)
        measure(segmentationNode)
        assert mrml.scene_state(scene) == before


class TestDamage:
    """How much of a wall is infarcted."""

    def test_is_that_of_the_library(self, scene, infarct):
        damage = damage_of(INFARCT, measure(add_segmentation(scene, infarct)))
        expected = {m.kind: m.value for m in infarct_measurements(infarct)}
        assert damage.percent == pytest.approx(expected["infarct_percent"])
        assert damage.percents == pytest.approx({kind: expected[kind] for kind in damage.percents})
        assert damage.percent > 4 and 0 < damage.percents["no_reflow_percent"] < damage.percent

    def test_without_an_infarct_it_is_0_and_without_muscle_nothing(self, scene, infarct):
        sound = replace(infarct, labels=np.where(infarct.labels > 2, 2, infarct.labels).astype(np.uint8))
        assert damage_of(INFARCT, measure(add_segmentation(scene, sound))).percent == 0
        assert damage_of(INFARCT, measure(add_segmentation(scene, mrml.without(infarct, 2, 3, 4)))) is None

    @pytest.mark.parametrize("removed", ["Normal myocardium", "Infarct", "No-reflow"])
    def test_none_where_a_part_was_removed(self, scene, infarct, removed):
        assert damage_of(INFARCT, [s for s in measure(add_segmentation(scene, infarct)) if s.name != removed]) is None

    def test_where_no_reflow_is_not_told_apart_there_is_no_number_of_it(self, scene, infarct):
        task = replace(INFARCT, wall=replace(INFARCT.wall, no_reflow=None))
        measured = measure(add_segmentation(scene, infarct))
        damage = damage_of(task, measured)
        assert set(damage.percents) == {"infarct_percent"} and 0 < damage.percent < damage_of(INFARCT, measured).percent
        table = update_measurement_table(scene, "table", [measured], None, damage=damage).GetTable()
        assert [table.GetValue(row, 0).ToString() for row in (0, 1)] == ["Infarct size", "Left ventricle"]

    @pytest.mark.parametrize(
        ("part", "said"),
        [
            (np.s_[:], ""),
            (np.s_[2:3], "A single slice"),
            (np.s_[:, 28:], "cut by the edge of the field of view"),
            (np.s_[1:3], "cut by the first slice and the last one"),
        ],
        ids=["whole", "one slice", "field of view", "stack"],
    )
    def test_none_is_told_of_a_ventricle_that_the_image_cuts(self, scene, infarct, part, said):
        volume = replace(infarct.volume, array=infarct.volume.array[part])
        shown = replace(infarct, volume=volume, enhanced=volume, labels=infarct.labels[part])
        node = add_segmentation(scene, shown)
        why = why_no_damage(INFARCT, [measure(node)], [node])
        assert (said in why) if said else why == ""
        assert {m.reason for m in infarct_measurements(shown) if m.kind == "infarct_percent"} == {why}

    def test_none_is_told_of_another_kind_of_image_or_of_several(self, scene, infarct):
        node = add_segmentation(scene, infarct)
        measured = measure(node)
        assert why_no_damage(INFARCT, [measured], [node], other_image=True) == OTHER
        assert why_no_damage(INFARCT, [measured] * 2, [node] * 2) == SEVERAL
        assert why_no_damage(HEART, [measured] * 2, [node] * 2) == ""

    def test_of_another_task_there_is_none(self, measured):
        assert damage_of(HEART, measured[0]) is None and damage_of(ABDOMEN, measured[0]) is None

    def test_it_is_in_the_table_before_the_segments(self, scene, infarct):
        measured = measure(add_segmentation(scene, infarct))
        damage = damage_of(INFARCT, measured)
        table = update_measurement_table(scene, "table", [measured], None, damage=damage).GetTable()
        found = [[table.GetValue(row, n).ToString() for n in (0, 1, 3)] for row in range(table.GetNumberOfRows())]
        assert found[:3] == [["Infarct size", "1", "%"], ["No-reflow", "1", "%"], ["Left ventricle", "1", "ml"]]
        assert table.GetValue(0, 2).ToDouble() == pytest.approx(damage.percent)
        assert len(found) == 2 + 4


class TestFunction:
    def test_is_that_of_the_library(self, measured, beat):
        assert asdict(function_of(HEART, measured)) == pytest.approx(asdict(beat_of_images(beat).function))

    def test_a_pair_of_nodes(self, scene, beat):
        pair = [add_segmentation(scene, beat[index]) for index in (2, 0)]
        function = function_of(HEART, measure_phases(pair))
        assert (function.end_diastole, function.end_systole) == (1, 0)
        assert asdict(function) == pytest.approx(asdict(beat_of_images([beat[2], beat[0]]).function))

    def test_names_are_the_users(self, measured, function):
        renamed = [[replace(s, name=f"my {n}") for n, s in enumerate(phase)] for phase in measured]
        assert function_of(HEART, renamed) == function

    def test_found_by_terminology_where_the_ids_are_others(self, measured, function):
        other = [[replace(s, id=f"Segment_{n}") for n, s in enumerate(phase)] for phase in measured]
        assert function_of(HEART, other) == function
        assert function_of(HEART, [[replace(s, type=None) for s in phase] for phase in other]) is None

    def test_found_by_id_where_the_terminology_was_changed(self, measured, function):
        other = [[replace(s, type=None) for s in phase] for phase in measured]
        assert function_of(HEART, other) == function

    def test_terminology_comes_before_the_id(self, measured, function):
        left, right = HEART.segments[2], HEART.segments[0]
        swapped = {left.name: right.name, right.name: left.name}
        other = [[replace(s, id=swapped.get(s.id, s.id)) for s in phase] for phase in measured]
        assert function_of(HEART, other) == function

    def test_of_two_of_a_type_the_tasks_own(self, measured, function):
        other = [[replace(phase[2], id="copy", volume_ml=1.0), *phase] for phase in measured]
        assert function_of(HEART, other) == function

    @pytest.mark.parametrize("removed", [1, 2])
    def test_none_where_a_phase_lacks_chamber_or_muscle(self, measured, removed):
        del measured[3][removed]
        assert function_of(HEART, measured) is None

    def test_none_for_one_phase_or_another_task(self, measured):
        assert function_of(HEART, measured[:1]) is None
        assert function_of(HEART, []) is None
        assert function_of(replace(HEART, chamber=None), measured) is None

    @pytest.mark.parametrize(
        ("slices", "why"),
        [
            (slice(2, 3), "a single slice does not show the whole left ventricle"),
            (slice(1, 3), "cut by the first slice and the last one in phase 1"),
            (slice(0, 6), ""),
        ],
    )
    def test_none_from_a_part_of_the_ventricle_and_why(self, scene, beat, slices, why):
        phases = []
        for phase in beat[:3]:
            volume = replace(phase.volume, array=phase.volume.array[slices])
            phases.append(replace(phase, volume=volume, enhanced=volume, labels=phase.labels[slices]))
        nodes = [add_segmentation(scene, phase) for phase in phases]
        told = beat_of(HEART, measure_phases(nodes), nodes)
        assert why in told.reason and bool(why) == bool(told.reason)
        assert told.reason == beat_of_images(phases).reason
        assert (told.function is None) == bool(why)
        assert function_of(HEART, measure_phases(nodes), nodes) == told.function

    def test_a_label_map_that_is_smaller_than_its_image(self, scene, beat):
        """As the Segment Editor leaves it: around what is segmented alone."""
        nodes = [add_segmentation(scene, phase) for phase in beat[:2]]
        whole = beat_of(HEART, measure_phases(nodes), nodes).areas
        for node in nodes:
            node.GetSegmentation().CollapseBinaryLabelmaps(False)
            for segment_id in node.GetSegmentation().GetSegmentIDs():
                labelmap = node.GetBinaryLabelmapInternalRepresentation(segment_id)
                extent = [0] * 6
                slicer.vtkOrientedImageDataResample.CalculateEffectiveExtent(labelmap, extent)
                slicer.vtkOrientedImageDataResample.PadImageToContainImage(labelmap, labelmap, labelmap)
                cropped = slicer.vtkOrientedImageData()
                slicer.vtkOrientedImageDataResample.CopyImage(labelmap, cropped, extent)
                labelmap.DeepCopy(cropped)
        parts = beat_of(HEART, measure_phases(nodes), nodes).areas
        for one, other in zip(whole, parts, strict=True):
            for a, b in zip(one, other, strict=True):
                np.testing.assert_allclose(a, b)

    def test_none_where_a_phase_was_missed_or_the_image_is_another(self, measured, beat):
        chamber = HEART.segments[2].name
        missed = [list(phase) for phase in measured]
        missed[3] = [replace(s, volume_ml=0.0) if s.id == chamber else s for s in missed[3]]
        assert "no left ventricle was found in phase 4 of 5" in beat_of(HEART, missed).reason
        assert function_of(HEART, missed) is None
        assert "does not look like" in beat_of(HEART, measured, other_image=True).reason

    def test_none_without_a_cavity(self, measured):
        assert function_of(HEART, [[replace(s, volume_ml=0.0) for s in phase] for phase in measured]) is None


def series_of(chartNode):
    nodes = [chartNode.GetNthPlotSeriesNode(n) for n in range(chartNode.GetNumberOfPlotSeriesNodes())]
    return {node.GetName(): node for node in nodes}


def points(seriesNode):
    """As the plot view reads them: columns of the table by name."""
    table = seriesNode.GetTableNode().GetTable()
    columns = [table.GetColumnByName(name) for name in (seriesNode.GetXColumnName(), seriesNode.GetYColumnName())]
    return [tuple(column.GetValue(row) for column in columns) for row in range(table.GetNumberOfRows())]


NAMES = [segment.name for segment in HEART.segments]


class TestPlot:
    def test_a_line_per_segment_in_its_colour(self, scene, measured, function):
        chartNode = update_volume_plot(scene, "Volumes", measured, None, function)
        series = series_of(chartNode)
        assert list(series) == [*NAMES, "End diastole", "End systole"]
        for number, segment in enumerate(HEART.segments):
            node = series[segment.name]
            assert np.allclose(np.multiply(node.GetColor(), 255), segment.color)
            assert points(node) == [(n + 1, phase[number].volume_ml) for n, phase in enumerate(measured)]
            assert node.IsXColumnRequired()
            assert node.GetLineStyle() == node.LineStyleSolid

    def test_titles_with_units(self, scene, measured, function):
        chartNode = update_volume_plot(scene, "Volumes", measured, None, function)
        assert (chartNode.GetTitle(), chartNode.GetName()) == ("Volumes", "Volumes")
        assert (chartNode.GetXAxisTitle(), chartNode.GetYAxisTitle()) == ("Phase", "Volume (ml)")

    def test_over_time(self, scene, measured, function):
        times = [0.0, 40.0, 80.5, 120.0, 160.0]
        chartNode = update_volume_plot(scene, "Volumes", measured, times, function)
        assert chartNode.GetXAxisTitle() == "Time (ms)"
        series = series_of(chartNode)
        assert [x for x, _y in points(series["Left ventricle"])] == times
        assert set(points(series["End systole"])) == {(times[function.end_systole], function.end_systolic_volume_ml)}

    def test_end_diastole_and_end_systole_are_marked(self, scene, measured, function):
        series = series_of(update_volume_plot(scene, "Volumes", measured, None, function))
        assert set(points(series["End diastole"])) == {(function.end_diastole + 1, function.end_diastolic_volume_ml)}
        assert set(points(series["End systole"])) == {(function.end_systole + 1, function.end_systolic_volume_ml)}
        assert function.end_diastole != function.end_systole
        line = points(series["Left ventricle"])
        for name in ("End diastole", "End systole"):
            node = series[name]
            assert points(node)[0] in line
            assert node.GetLineStyle() == node.LineStyleNone
            assert node.GetMarkerStyle() != node.MarkerStyleNone
        marks = [series[name].GetColor() for name in ("End diastole", "End systole")]
        colors = {*marks, *(series[name].GetColor() for name in NAMES)}
        assert len(colors) == 5 and set(marks) <= colors

    def test_the_volume_axis_begins_at_zero(self, scene, measured, function):
        chartNode = update_volume_plot(scene, "Volumes", measured, None, function)
        largest = max(s.volume_ml for phase in measured for s in phase)
        low, high = chartNode.GetYAxisRange()
        assert not chartNode.GetYAxisRangeAuto() and low == 0 and largest < high < 1.2 * largest
        twice = [[replace(s, volume_ml=2 * s.volume_ml) for s in phase] for phase in measured]
        update_volume_plot(scene, "Volumes", twice, None, function, chartNode)
        assert chartNode.GetYAxisRange() == pytest.approx((0, 2 * high))

    @pytest.mark.parametrize("automatic", [True, False])
    def test_a_range_that_the_user_chose_stays(self, scene, measured, function, automatic):
        chartNode = update_volume_plot(scene, "Volumes", measured, None, function)
        chartNode.SetYAxisRangeAuto(automatic)
        chartNode.SetYAxisRange(20, 50)
        update_volume_plot(scene, "Volumes", measured, None, function, chartNode)
        assert (chartNode.GetYAxisRangeAuto(), chartNode.GetYAxisRange()) == (automatic, (20, 50))

    def test_a_range_in_the_scene_of_an_older_version_stays_too(self, scene, measured, function):
        chartNode = update_volume_plot(scene, "Volumes", measured, None, function)
        chartNode.RemoveAttribute("DINSegment.VolumeRange")
        chartNode.SetYAxisRange(20, 50)
        update_volume_plot(scene, "Volumes", measured, None, function, chartNode)
        assert chartNode.GetYAxisRange() == (20, 50)

    @pytest.mark.skipif(not rendering.can_draw(), reason="VTK finds no OpenGL")
    @pytest.mark.parametrize("phases", [5, 1])
    def test_is_drawn_without_errors_and_with_the_legend_beside_the_curves(self, scene, measured, function, phases):
        """The scene fixture sees what VTK reports, as of a line with one point."""
        function = function if phases == 5 else None
        plot = rendering.Plot(update_volume_plot(scene, "Volumes", measured[:phases], None, function))
        over = plot.image()
        assert plot.left_of_legend() < plot.right_of_curves()
        show_legend_beside(plot.chart)
        beside = plot.image()
        assert plot.left_of_legend() > plot.right_of_curves()
        assert not np.array_equal(over, beside)

    def test_an_update_uses_the_same_nodes(self, scene, measured, function):
        chartNode = update_volume_plot(scene, "Volumes", measured, None, function)
        before = mrml.node_ids(scene)
        smaller = [[replace(s, volume_ml=s.volume_ml / 2) for s in phase] for phase in measured]
        again = update_volume_plot(scene, "Halves", smaller, None, function_of(HEART, smaller), chartNode)
        assert again is chartNode
        assert mrml.node_ids(scene) == before
        assert chartNode.GetTitle() == "Halves"
        series = series_of(chartNode)
        assert points(series["Left ventricle"])[0] == (1, measured[0][2].volume_ml / 2)
        assert points(series["End diastole"])[0][1] == function.end_diastolic_volume_ml / 2

    def test_an_update_follows_names_colours_and_segments(self, scene, measured, function):
        chartNode = update_volume_plot(scene, "Volumes", measured, None, function)
        changed = [[replace(phase[2], name="LV", color=(1, 2, 3)), phase[1]] for phase in measured]
        changed[1].append(MeasuredSegment("scar", "Scar", (9, 9, 9), 4.5))
        update_volume_plot(scene, "Volumes", changed, None, function, chartNode)
        series = series_of(chartNode)
        assert set(series) == {"LV", "Left ventricular myocardium", "Scar", "End diastole", "End systole"}
        assert np.allclose(np.multiply(series["LV"].GetColor(), 255), (1, 2, 3))
        assert points(series["Scar"]) == [(1, 0), (2, 4.5), (3, 0), (4, 0), (5, 0)]
        assert scene.GetNumberOfNodesByClass("vtkMRMLPlotSeriesNode") == 5
        assert scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 2

    def test_without_function_nothing_is_marked(self, scene, measured, function):
        chartNode = update_volume_plot(scene, "Volumes", measured, None, function)
        update_volume_plot(scene, "Volumes", measured, None, None, chartNode)
        assert list(series_of(chartNode)) == NAMES
        assert scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 1
        update_volume_plot(scene, "Volumes", measured, None, function, chartNode)
        assert list(series_of(chartNode)) == [*NAMES, "End diastole", "End systole"]

    def test_segments_with_equal_names_and_one_that_is_called_as_the_axis(self, scene, measured):
        same = [[replace(s, name="Phase (ml)" if s is phase[0] else "LV") for s in phase] for phase in measured]
        chartNode = update_volume_plot(scene, "Volumes", same, None, None)
        nodes = [chartNode.GetNthPlotSeriesNode(n) for n in range(3)]
        for number, node in enumerate(nodes):
            assert points(node) == [(n + 1, phase[number].volume_ml) for n, phase in enumerate(measured)]

    def test_the_users_series_and_styles_stay(self, scene, measured, function):
        chartNode = update_volume_plot(scene, "Volumes", measured, None, function)
        own = scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", "my own")
        chartNode.AddAndObservePlotSeriesNodeID(own.GetID())
        line = series_of(chartNode)["Left ventricle"]
        line.SetLineStyle(line.LineStyleDash)
        chartNode.SetLegendVisibility(False)
        update_volume_plot(scene, "Volumes", measured, None, None, chartNode)
        assert series_of(chartNode)["my own"] is own
        assert line.GetLineStyle() == line.LineStyleDash
        assert not chartNode.GetLegendVisibility()

    def test_a_table_or_series_that_the_user_removed_is_made_again(self, scene, measured, function):
        chartNode = update_volume_plot(scene, "Volumes", measured, None, function)
        scene.RemoveNode(series_of(chartNode)["Left ventricle"].GetTableNode())
        scene.RemoveNode(series_of(chartNode)["Right ventricle"])
        update_volume_plot(scene, "Volumes", measured, None, function, chartNode)
        series = series_of(chartNode)
        assert set(series) == {*NAMES, "End diastole", "End systole"}
        for number, name in enumerate(NAMES):
            assert points(series[name])[2] == (3, measured[2][number].volume_ml)

    def test_a_chart_that_was_removed_is_made_again(self, scene, measured, function):
        chartNode = update_volume_plot(scene, "Volumes", measured, None, function)
        scene.RemoveNode(chartNode)
        again = update_volume_plot(scene, "Volumes", measured, None, function, chartNode)
        assert again.GetScene() is scene
        assert list(series_of(again)) == [*NAMES, "End diastole", "End systole"]

    def test_an_error_leaves_no_nodes(self, scene, measured, function, monkeypatch):
        before = mrml.scene_state(scene)

        def stopping(*args):
            raise RuntimeError("stop")

        monkeypatch.setattr(plots, "_marks", stopping)
        with pytest.raises(RuntimeError, match="stop"):
            update_volume_plot(scene, "Volumes", measured, None, function)
        assert mrml.scene_state(scene) == before


def rows(tableNode):
    table = tableNode.GetTable()
    return [
        tuple(table.GetValue(row, column).ToString() for column in range(table.GetNumberOfColumns()))
        for row in range(table.GetNumberOfRows())
    ]


class TestTable:
    def test_function_and_segments(self, scene, measured, function):
        tableNode = update_measurement_table(scene, "Measurements", measured, function)
        table = tableNode.GetTable()
        assert [table.GetColumnName(n) for n in range(4)] == ["Measurement", "Phase", "Value", "Unit"]
        found = rows(tableNode)
        ed, es = str(function.end_diastole + 1), str(function.end_systole + 1)
        assert [row[:2] + row[3:] for row in found[:5]] == [
            ("End-diastolic volume (EDV)", ed, "ml"),
            ("End-systolic volume (ESV)", es, "ml"),
            ("Stroke volume (SV)", "", "ml"),
            ("Ejection fraction (EF)", "", "%"),
            ("Myocardial mass", ed, "g"),
        ]
        values = [table.GetValue(row, 2).ToDouble() for row in range(table.GetNumberOfRows())]
        assert values[:5] == [
            function.end_diastolic_volume_ml,
            function.end_systolic_volume_ml,
            function.stroke_volume_ml,
            function.ejection_fraction_percent,
            function.myocardial_mass_g,
        ]
        assert values[5:] == [s.volume_ml for phase in measured for s in phase]
        assert [row[0] for row in found[5:8]] == NAMES
        assert [row[1] for row in found[5:]] == [str(n) for n in range(1, 6) for _segment in NAMES]

    def test_a_single_volume(self, scene, measured):
        assert [row[:2] for row in rows(update_measurement_table(scene, "One", measured[:1], None))] == [
            (name, "1") for name in NAMES
        ]

    def test_an_update_uses_the_same_node(self, scene, measured, function):
        tableNode = update_measurement_table(scene, "Measurements", measured, function)
        before = mrml.node_ids(scene)
        assert update_measurement_table(scene, "Measurements", measured[:1], None, tableNode) is tableNode
        assert mrml.node_ids(scene) == before
        assert len(rows(tableNode)) == 3
        update_measurement_table(scene, "Measurements", [[]], None, tableNode)
        assert rows(tableNode) == []

    def test_is_saved_with_the_scene(self, scene, measured, function, tmp_path):
        tableNode = update_measurement_table(scene, "Measurements", measured, function)
        expected = rows(tableNode)
        (tmp_path / "saved").mkdir()
        assert scene.SaveSceneToSlicerDataBundleDirectory(str(tmp_path / "saved"))
        scene.Clear(True)
        scene.SetURL(str(tmp_path / "saved" / "saved.mrml"))
        assert scene.Connect()
        tableNode = scene.GetFirstNodeByClass("vtkMRMLTableNode")
        assert rows(tableNode) == expected
        assert tableNode.GetTable().GetColumn(2).IsA("vtkDoubleArray") or tableNode.GetTable().GetColumn(2).IsNumeric()
        before = mrml.node_ids(scene)
        update_measurement_table(scene, "Measurements", measured[:2], None, tableNode)
        assert mrml.node_ids(scene) == before
        assert len(rows(tableNode)) == 6
