from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dinsegment.images.segmentation import OTHER_IMAGE, Finding, Segmentation
from dinsegment.images.volume import Volume
from dinsegment.measurements.function import (
    Beat,
    beat_of,
    outliers,
)
from dinsegment.measurements.report import report
from dinsegment.measurements.volumes import segment_volumes
from dinsegment.quality.beat import with_outliers
from dinsegment.quality.gather import CHECK, gathered
from dinsegment.tasks import HEART


def segmentation(labels: np.ndarray, spacing=(1.5, 1.25, 8.0), name: str = "patient") -> Segmentation:
    volume = Volume(labels.astype(np.float32), np.diag([*spacing, 1.0]), name=name)
    return Segmentation(volume, labels.astype(np.uint8), HEART, "model", volume, "cpu", 1.23456)


def cavity(voxels: int) -> np.ndarray:
    """A cavity with a muscle of 100 voxels, in two of four slices and away from the edges."""
    labels = np.zeros((4, 14, 14), np.uint8)
    labels[1, 2:12, 2:12] = 2
    inside = np.zeros((2, 10, 10), np.uint8)
    inside.reshape(-1)[:voxels] = 3
    labels[2:4, 2:12, 2:12] = inside
    return labels


def ventricle(areas: list[int], **more) -> Segmentation:
    """A segmentation with so many voxels of cavity in each slice, in a corner that lies away from the edges."""
    labels = np.zeros((len(areas), 24, 24), np.uint8)
    for k, voxels in enumerate(areas):
        inside = np.full(324, 2, np.uint8)
        inside[:voxels] = 3
        labels[k, 3:21, 3:21] = inside.reshape(18, 18)
    return segmentation(labels, **more)


def test_volumes_in_millilitres():
    labels = cavity(60)
    labels[3, 0, :7] = 1
    rv, myo, lv = segment_volumes(segmentation(labels))
    assert [s.voxels for s in (rv, myo, lv)] == [7, 100, 60]
    assert [s.volume_ml for s in (rv, myo, lv)] == pytest.approx([7 * 0.015, 100 * 0.015, 60 * 0.015])


def test_absent_segment_has_no_volume():
    assert segment_volumes(segmentation(cavity(0)))[2].voxels == 0


def test_sheared_grid():
    """With a gantry tilt a voxel is smaller than the product of its spacings."""
    tilted = segmentation(cavity(10))
    matrix = np.diag([1.0, 1.0, 2.0, 1.0])
    matrix[1, 2] = 1.0
    volume = replace(tilted.volume, ijk_to_ras=matrix)
    assert segment_volumes(replace(tilted, volume=volume))[2].volume_ml == pytest.approx(10 * 2.0 / 1000)


def test_ejection_fraction_and_mass():
    function = beat_of([segmentation(cavity(n)) for n in (90, 120, 50, 48, 70)]).function
    assert (function.end_diastole, function.end_systole) == (1, 3)
    assert function.ejection_fraction_percent == pytest.approx(60.0)
    assert function.stroke_volume_ml == pytest.approx(72 * 0.015)
    assert function.end_diastolic_volume_ml - function.end_systolic_volume_ml == pytest.approx(
        function.stroke_volume_ml
    )
    assert function.myocardial_mass_g == pytest.approx(100 * 0.015 * 1.05)


def test_no_function_without_a_beat():
    assert beat_of([segmentation(cavity(50))]).function is None
    assert beat_of([segmentation(cavity(0)), segmentation(cavity(0))]).function is None
    still = replace(HEART, chamber=None)
    assert beat_of([replace(segmentation(cavity(n)), task=still) for n in (9, 5)]) is None


def test_function_from_measured_volumes():
    """As measured in segmentations that were edited, or of any other origin."""
    function = Beat([100.0, 132.5, 60.0, 53.0], [80.0, 84.0, 90.0, 95.0]).function
    assert (function.end_diastole, function.end_systole) == (1, 3)
    assert (function.end_diastolic_volume_ml, function.end_systolic_volume_ml) == (132.5, 53.0)
    assert function.stroke_volume_ml == pytest.approx(79.5)
    assert function.ejection_fraction_percent == pytest.approx(60.0)
    assert function.myocardial_mass_g == pytest.approx(84.0 * 1.05)


def test_function_of_volumes_is_that_of_the_segmentations():
    phases = [segmentation(cavity(n)) for n in (90, 120, 50, 48, 70)]
    volumes = [segment_volumes(phase) for phase in phases]
    found = Beat([v[2].volume_ml for v in volumes], [v[1].volume_ml for v in volumes]).function
    assert found == beat_of(phases).function


def test_no_function_from_one_phase_or_empty_ones():
    assert Beat([], []).function is None
    assert Beat([100.0], [80.0]).function is None
    assert Beat([0.0, 0.0], [80.0, 80.0]).function is None
    assert Beat([100.0], [80.0]).reason == ""


def test_a_ventricle_that_was_missed_in_a_phase_is_no_end_systole():
    beat = Beat([120.0, 80.0, 0.0, 90.0], [80.0] * 4)
    assert beat.function is None
    assert beat.reason == ("No ejection fraction and no myocardial mass: no left ventricle was found in phase 3 of 4.")
    assert "in phase 1 and 1 more of 3" in Beat([0.0, 50.0, 0.0], [80.0] * 3).reason
    assert "no left ventricular myocardium was found in phase 2 of 2" in Beat([90.0, 50.0], [80.0, 0.0]).reason
    assert Beat([120.0, 80.0, 40.0, 90.0], [80.0] * 4).function.ejection_fraction_percent == pytest.approx(200 / 3)


def test_no_function_from_a_single_slice():
    phases = [ventricle([n]) for n in (200, 90)]
    assert beat_of(phases).function is None
    assert "a single slice does not show the whole left ventricle" in beat_of(phases).reason
    assert beat_of(phases[:1]).reason == ""


def test_no_function_from_a_ventricle_that_is_cut_at_more_than_its_base():
    """Long-axis slices cut it at both ends, too; a base that the stack begins in is usual."""
    base_only = [ventricle([n, n, n // 2, 0]) for n in (200, 90)]
    assert beat_of(base_only).function.ejection_fraction_percent == pytest.approx(55.0)
    assert beat_of(base_only).reason == ""
    small_apex = [ventricle([n, n, int(0.6 * n)]) for n in (200, 90)]
    assert beat_of(small_apex).function is not None
    cut = [ventricle([n, n, int(0.8 * n)]) for n in (200, 90)]
    assert beat_of(cut).function is None
    assert "cut by the first slice and the last one in phase 1" in beat_of(cut).reason
    turned = [replace(s, labels=np.ascontiguousarray(s.labels[::-1])) for s in cut]
    assert beat_of(turned).reason == beat_of(cut).reason


def test_no_function_from_a_ventricle_at_the_edge_of_the_field_of_view():
    phases = [ventricle([0, n, n, 0]) for n in (200, 90)]
    assert beat_of(phases).function is not None
    for axis in (1, 2):
        cropped = [np.ascontiguousarray(np.take(s.labels, range(5, 24), axis)) for s in phases]
        assert "the edge of the field of view in phase 1" in beat_of([segmentation(one) for one in cropped]).reason


def test_the_stacks_axis_is_that_of_its_slices():
    """Slices across i, in which k is not the axis with few voxels."""
    phases = [ventricle([n, n, int(0.8 * n)]) for n in (200, 90)]
    turned = []
    for one in phases:
        labels = np.ascontiguousarray(one.labels.transpose(1, 2, 0))
        turned.append(segmentation(labels, spacing=(8.0, 1.5, 1.25)))
    assert beat_of(turned).reason == beat_of(phases).reason != ""


def test_the_stacks_axis_is_the_one_that_the_source_tells():
    """Of voxels that do not tell it, and of an ellipsoid that is cut across that axis alone."""
    for axis in (0, 2):
        phases = []
        for n in (200, 90):
            one = ventricle([n, n, n, int(0.8 * n)], spacing=(2.0, 2.0, 2.0))
            labels = np.ascontiguousarray(np.moveaxis(one.labels, 0, axis))
            turned = segmentation(labels, spacing=(2.0, 2.0, 2.0))
            phases.append(replace(turned, volume=replace(turned.volume, slice_axis=axis)))
        assert "cut by the first slice and the last one in phase 1" in beat_of(phases).reason


def test_no_function_of_an_image_of_another_kind():
    phases = [ventricle([0, n, n, 0]) for n in (200, 90)]
    strange = replace(phases[1], findings=(Finding("It does not look like a heart.", kind=OTHER_IMAGE),))
    assert "does not look like what the network is made for" in beat_of([phases[0], strange]).reason
    assert beat_of([phases[0], strange]).function is None


BEAT = [120.0, 118, 108, 92, 74, 60, 52, 50, 56, 68, 82, 94, 100, 103, 105, 108, 112, 117]


@pytest.mark.parametrize(("phase", "ml"), [(6, 90.0), (7, 20.0), (2, 60.0), (14, 60.0), (0, 70.0), (12, 140.0)])
def test_a_phase_that_does_not_go_with_its_neighbours(phase, ml):
    wrong = [*BEAT[:phase], ml, *BEAT[phase + 1 :]]
    assert outliers(wrong) == [phase]
    assert (Beat(wrong, [80.0] * len(BEAT)).function is None) == (ml in (20.0, 140.0))


def test_a_beat_as_it_is_has_no_outlier():
    assert outliers(BEAT) == outliers(BEAT[::2]) == outliers(BEAT[1::2]) == outliers(BEAT[::3]) == []
    assert outliers([120.0, 40.0, 110.0, 45.0]) == []
    assert outliers([*BEAT[:5], 0.0, *BEAT[6:]]) == []
    assert outliers([120.0, 95, 55, 30, 50, 85, 100, 112]) == []


@pytest.mark.parametrize("phases", [6, 7, 8, 10, 12, 16, 20, 30])
@pytest.mark.parametrize("ejection_fraction", [0.3, 0.5, 0.65, 0.8])
def test_a_beat_of_few_phases_has_no_outlier(phases, ejection_fraction):
    """End systole lies far below the phases beside it where these are a sixth of the beat away."""
    for first in np.linspace(0, 1, 11)[:-1] / phases:
        t = first + np.arange(phases) / phases
        emptied = np.where(t < 0.35, t / 0.35, np.maximum(1 - (t - 0.35) / 0.4, 0))
        volumes = 150 * (1 - ejection_fraction * emptied)
        assert outliers(volumes) == []
        assert Beat(volumes, [90.0] * phases).function is not None


def test_an_outlier_of_few_phases():
    assert outliers([149.0, 121, 78, 104, 120, 140]) == []
    assert outliers([149.0, 148, 60, 147, 148, 149]) == [2]


def test_an_outlier_is_a_finding_of_its_phase():
    volumes = [200, 190, 150, 110, 95, 190, 120, 150, 180, 195]
    phases = [replace(ventricle([0, n, n, 0]), warnings=("Memory was short.",)) for n in volumes]
    beat = beat_of(phases)
    assert outliers(beat.chamber_ml) == [5]
    told = with_outliers(phases, beat.chamber_ml, outliers(beat.chamber_ml))
    assert [len(phase.findings) for phase in told] == [0] * 5 + [1] + [0] * 4
    (found,) = told[5].findings
    assert found.text == (
        "The volume of the left ventricle (6 ml) does not go with those of the phases before and after (3 and 4 ml) in "
        "phase 6."
    )
    assert found.segment == 3
    assert told[5].warnings == (found.text, "Memory was short.")
    assert gathered(told) == (found.text, CHECK, "Memory was short.")


def test_cavity_and_muscle_are_of_the_same_phases():
    with pytest.raises(ValueError, match="in 2 phases, the muscle in 3"):
        Beat([1.0, 2.0], [1.0, 2.0, 3.0])


def test_report_is_what_measurements_json_has():
    content = report(segmentation(cavity(50), name="patient001"))
    assert [s["name"] for s in content["segments"]] == [s.name for s in HEART.segments]
    assert content["segments"][2] == {"name": "Left ventricle", "voxels": 50, "volume_ml": pytest.approx(0.75)}
    assert content["input"] == "patient001"
    assert content["seconds"] == 1.235
    assert "not a medical device" in content["note"]


def test_labels_have_to_be_the_tasks():
    with pytest.raises(ValueError, match="no label 4"):
        segmentation(cavity(5) + np.uint8(1) * (cavity(5) == 3))
    with pytest.raises(ValueError, match="do not fit the grid"):
        replace(segmentation(cavity(5)), labels=np.zeros((1, 2, 3), np.uint8))
