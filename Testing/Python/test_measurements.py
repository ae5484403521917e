from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dinsegment.images.segmentation import Segmentation
from dinsegment.images.volume import Volume
from dinsegment.measurements.function import cardiac_function, function_from_volumes
from dinsegment.measurements.report import report
from dinsegment.measurements.volumes import segment_volumes
from dinsegment.tasks import HEART


def segmentation(labels: np.ndarray, spacing=(1.5, 1.25, 8.0), name: str = "patient") -> Segmentation:
    volume = Volume(labels.astype(np.float32), np.diag([*spacing, 1.0]), name=name)
    return Segmentation(volume, labels.astype(np.uint8), HEART, "model", volume, "cpu", 1.23456)


def cavity(voxels: int) -> np.ndarray:
    labels = np.zeros((4, 10, 10), np.uint8)
    labels[0] = 2
    labels.reshape(-1)[100 : 100 + voxels] = 3
    return labels


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
    function = cardiac_function([segmentation(cavity(n)) for n in (90, 120, 50, 48, 70)])
    assert (function.end_diastole, function.end_systole) == (1, 3)
    assert function.ejection_fraction_percent == pytest.approx(60.0)
    assert function.stroke_volume_ml == pytest.approx(72 * 0.015)
    assert function.end_diastolic_volume_ml - function.end_systolic_volume_ml == pytest.approx(
        function.stroke_volume_ml
    )
    assert function.myocardial_mass_g == pytest.approx(100 * 0.015 * 1.05)


def test_no_function_without_a_beat():
    assert cardiac_function([segmentation(cavity(50))]) is None
    assert cardiac_function([segmentation(cavity(0)), segmentation(cavity(0))]) is None
    still = replace(HEART, chamber=None)
    assert cardiac_function([replace(segmentation(cavity(n)), task=still) for n in (9, 5)]) is None


def test_function_from_measured_volumes():
    """As measured in segmentations that were edited, or of any other origin."""
    function = function_from_volumes([100.0, 132.5, 60.0, 53.0], [80.0, 84.0, 90.0, 95.0])
    assert (function.end_diastole, function.end_systole) == (1, 3)
    assert (function.end_diastolic_volume_ml, function.end_systolic_volume_ml) == (132.5, 53.0)
    assert function.stroke_volume_ml == pytest.approx(79.5)
    assert function.ejection_fraction_percent == pytest.approx(60.0)
    assert function.myocardial_mass_g == pytest.approx(84.0 * 1.05)


def test_function_from_volumes_is_that_of_the_segmentations():
    phases = [segmentation(cavity(n)) for n in (90, 120, 50, 48, 70)]
    volumes = [segment_volumes(phase) for phase in phases]
    found = function_from_volumes([v[2].volume_ml for v in volumes], [v[1].volume_ml for v in volumes])
    assert found == cardiac_function(phases)


def test_no_function_from_one_phase_or_empty_ones():
    assert function_from_volumes([], []) is None
    assert function_from_volumes([100.0], [80.0]) is None
    assert function_from_volumes([0.0, 0.0], [80.0, 80.0]) is None


def test_cavity_and_muscle_are_of_the_same_phases():
    with pytest.raises(ValueError, match="in 2 phases, the muscle in 3"):
        function_from_volumes([1.0, 2.0], [1.0, 2.0, 3.0])


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
