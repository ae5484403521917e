"""A real cine series of a patient that no model was trained on, from DICOM to the volume curve."""

from __future__ import annotations

import numpy as np
import pytest
from remembered import remembered
from sunnybrook_contours import ENDOCARDIUM, EPICARDIUM, compare, read_contours

from dinsegment.images import read_volumes
from dinsegment.inference import phases as phases_module
from dinsegment.inference import segment_phases
from dinsegment.inference.model import load_model
from dinsegment.measurements.volumes import segment_volumes
from dinsegment.tasks import HEART


@pytest.fixture(scope="module")
def volumes(sunnybrook_folder):
    return read_volumes(sunnybrook_folder)


@pytest.fixture(scope="module")
def contours(sunnybrook_folder, volumes):
    """End diastole and end systole."""
    return read_contours(sunnybrook_folder / "contours", volumes)


@pytest.fixture(scope="module")
def model():
    return remembered(load_model(None, HEART))


@pytest.fixture(scope="module")
def segmented(volumes, model):
    return list(segment_phases(volumes, HEART, model, "cpu"))


@pytest.fixture(scope="module")
def jumping(volumes, model):
    """The same phases in the same box, not smoothed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phases_module, "consistent", lambda probabilities: probabilities)
        return list(segment_phases(volumes, HEART, model, "cpu"))


def curve(phases):
    """Volumes of the left ventricle in ml."""
    return np.array([segment_volumes(one)[HEART.chamber - 1].volume_ml for one in phases])


def test_the_contours_are_of_two_phases_and_nine_slices(contours):
    diastole, systole = contours
    assert (diastole.phase, systole.phase) == (18, 7)
    assert sorted(diastole.endocardium) == sorted(systole.endocardium) == sorted(diastole.epicardium)
    assert len(diastole.endocardium) == 9 and not systole.epicardium
    assert diastole.voxels > systole.voxels
    for k, mask in diastole.endocardium.items():
        assert (mask & diastole.epicardium[k]).sum() > 0.95 * mask.sum()  # where they touch, they cross a little


def test_cavity_and_muscle_agree_with_the_expert(contours, segmented):
    diastole, systole = contours
    cavity = compare(segmented[diastole.phase], diastole.endocardium, ENDOCARDIUM)
    smallest = compare(segmented[systole.phase], systole.endocardium, ENDOCARDIUM)
    outside = compare(segmented[diastole.phase], diastole.epicardium, EPICARDIUM)
    assert cavity.dice > 0.90 and min(cavity.by_slice.values()) > 0.70
    assert smallest.dice > 0.86
    assert sorted(smallest.by_slice.values())[1] > 0.70  # of the most basal slice the network draws nothing
    assert outside.dice > 0.93
    assert abs(cavity.segmented_ml / cavity.expert_ml - 1) < 0.15


def test_the_left_ventricle_is_smallest_at_end_systole(contours, segmented):
    diastole, systole = contours
    volumes = curve(segmented)
    assert volumes.argmin() == systole.phase
    assert volumes[diastole.phase] > volumes.max() - 2


def test_its_curve_is_smoother_and_its_ends_stay(segmented, jumping):
    after, before = curve(segmented), curve(jumping)
    rough = [np.abs(v - (np.roll(v, 1) + np.roll(v, -1)) / 2).mean() for v in (after, before)]
    assert rough[0] < rough[1]
    assert after.max() == pytest.approx(before.max(), abs=1)
    assert after.min() == pytest.approx(before.min(), abs=1)


def test_labels_jump_less_and_flicker_much_less(segmented, jumping):
    counts = []
    for phases in (segmented, jumping):
        labels = np.stack([one.labels for one in phases])
        before, after = np.roll(labels, 1, axis=0), np.roll(labels, -1, axis=0)
        counts.append(((labels != before).sum(), ((before == after) & (labels != before)).sum()))
    assert counts[0][0] < 0.95 * counts[1][0] and counts[0][1] < 0.7 * counts[1][1]
