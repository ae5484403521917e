"""A real cine series of a patient that no model was trained on, from DICOM to the volume curve."""

from __future__ import annotations

import pytest
from sunnybrook_contours import ENDOCARDIUM, EPICARDIUM, compare, read_contours

from dinsegment.images import read_volumes
from dinsegment.inference import segment
from dinsegment.inference.model import load_model
from dinsegment.measurements.volumes import segment_volumes
from dinsegment.tasks import HEART

CURVE = (2, 7, 12)
"""Phases beside end diastole: before, at and after end systole."""


@pytest.fixture(scope="module")
def volumes(sunnybrook_folder):
    return read_volumes(sunnybrook_folder)


@pytest.fixture(scope="module")
def contours(sunnybrook_folder, volumes):
    """End diastole and end systole."""
    return read_contours(sunnybrook_folder / "contours", volumes)


@pytest.fixture(scope="module")
def segmented(volumes, contours):
    """The phases that the tests look at."""
    model = load_model(None, HEART)
    wanted = sorted({*CURVE, *(one.phase for one in contours)})
    return {phase: segment(volumes[phase], HEART, model, "cpu") for phase in wanted}


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
    assert cavity.dice > 0.90 and min(cavity.by_slice.values()) > 0.75
    assert smallest.dice > 0.87 and min(smallest.by_slice.values()) > 0.70
    assert outside.dice > 0.93
    assert abs(cavity.segmented_ml / cavity.expert_ml - 1) < 0.15


def test_the_left_ventricle_is_smallest_at_end_systole(contours, segmented):
    diastole, systole = contours
    volumes = {phase: segment_volumes(one)[HEART.chamber - 1].volume_ml for phase, one in segmented.items()}
    assert min(volumes, key=volumes.get) == systole.phase
    assert max(volumes, key=volumes.get) == diastole.phase
