"""The late enhancement phantom, and what is said of the infarct that is found in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from dinsegment.images.segmentation import OTHER_IMAGE
from dinsegment.images.slices import SliceStack
from dinsegment.inference import segment
from dinsegment.inference.cine import FEWEST_PHASES
from dinsegment.inference.phases import segment_phases
from dinsegment.inference.postprocessing import postprocess, remove_traces
from dinsegment.phantom.heart import heart_phantom
from dinsegment.phantom.late_enhancement import late_enhancement_phantom
from dinsegment.quality.findings import findings
from dinsegment.quality.wall import several_findings
from dinsegment.tasks import get_task
from dinsegment.training.metrics import dice

TASK = get_task("infarct")
LV, MYO, INFARCT, NO_REFLOW = range(1, 5)
GRID = {"slices": 10, "size": (120, 128), "spacing": (8.0, 1.8, 1.8)}
SEEDS = range(5)


@pytest.fixture(scope="module")
def phantoms():
    return [late_enhancement_phantom(seed=seed, **GRID) for seed in SEEDS]


@pytest.fixture
def phantom(phantoms):
    return phantoms[0]


def percent(labels):
    sound, damaged = np.count_nonzero(labels == MYO), np.count_nonzero(np.isin(labels, (INFARCT, NO_REFLOW)))
    return 100 * damaged / (sound + damaged)


def overlap(one, other):
    """Dice of two masks."""
    return dice(one.astype(np.uint8), other.astype(np.uint8), 1)


def test_the_infarct_lies_in_the_wall_of_the_same_heart(phantoms):
    for seed, phantom in zip(SEEDS, phantoms, strict=True):
        cine = heart_phantom(seed=seed, **GRID)
        np.testing.assert_array_equal(phantom.volume.ijk_to_ras, cine.volume.ijk_to_ras)
        wall = np.isin(phantom.labels, (MYO, INFARCT, NO_REFLOW))
        assert overlap(wall, cine.labels == 2) > 0.99 and overlap(phantom.labels == LV, cine.labels == 3) > 0.99


def test_it_is_one_piece_of_a_part_of_the_wall_with_no_reflow_inside(phantoms):
    for phantom in phantoms:
        assert 4 < percent(phantom.labels) < 35
        damaged = np.isin(phantom.labels, (INFARCT, NO_REFLOW))
        sizes = np.bincount(ndimage.label(damaged, np.ones((3, 3, 3)))[0].ravel())[1:]
        assert sizes.max() > 0.95 * sizes.sum()
        core = np.count_nonzero(phantom.labels == NO_REFLOW)
        assert 0 < core < np.count_nonzero(phantom.labels == INFARCT)


def test_patients_differ_in_where_and_how_large_it_is(phantoms):
    assert len({round(percent(phantom.labels), 1) for phantom in phantoms}) == len(phantoms)


def test_an_infarct_is_bright_beside_blood_and_sound_muscle_is_black(phantoms):
    for phantom in phantoms:
        grey = [np.median(phantom.volume.array[phantom.labels == label]) for label in range(5)]
        assert min(grey[LV], grey[INFARCT]) > 2.5 * grey[MYO] and grey[INFARCT] > 0.9 * grey[LV]
        assert grey[NO_REFLOW] < 0.7 * grey[INFARCT]


def test_equal_seeds_give_equal_voxels(phantom):
    again = late_enhancement_phantom(seed=0, **GRID)
    np.testing.assert_array_equal(again.volume.array, phantom.volume.array)
    np.testing.assert_array_equal(again.labels, phantom.labels)


def test_the_model_that_ships_finds_it():
    phantom = late_enhancement_phantom(seed=0, slices=10, size=(160, 176))
    result = segment(phantom.volume, TASK, device="cpu")
    damaged = [np.isin(labels, (INFARCT, NO_REFLOW)) for labels in (result.labels, phantom.labels)]
    assert overlap(*damaged) > 0.5
    assert overlap(result.labels == LV, phantom.labels == LV) > 0.9


# What is said of it.


def said(phantom, labels):
    return {(found.kind, found.text) for found in findings(phantom.volume, labels, TASK)}


def test_of_an_infarct_in_pieces_and_of_a_wall_that_is_all_infarct_nothing_is_said(phantom):
    labels = phantom.labels.copy()
    middle = labels.shape[0] // 2
    labels[middle][np.isin(labels[middle], (INFARCT, NO_REFLOW))] = MYO  # a slice without any
    labels[middle + 2][labels[middle + 2] == MYO] = INFARCT  # and one without sound muscle
    assert said(phantom, labels) == said(phantom, phantom.labels) == set()


def test_of_a_wall_with_a_gap_it_is_said(phantom):
    labels = phantom.labels.copy()
    middle = labels.shape[0] // 2
    labels[middle][labels[middle] > LV] = 0
    ((kind, text),) = said(phantom, labels)
    assert (
        kind == "gap"
        and text == f"The left ventricular wall is missing in slice {middle + 1}, between slices that have it."
    )


def test_a_wall_without_a_name_has_that_of_its_muscle(phantom):
    task = replace(TASK, wall=replace(TASK.wall, name=""))
    labels = phantom.labels.copy()
    labels[labels.shape[0] // 2][labels[labels.shape[0] // 2] > LV] = 0
    (found,) = findings(phantom.volume, labels, task)
    assert found.text.startswith("The normal myocardium is missing")


def test_without_an_infarct_a_small_one_may_have_been_missed(phantom):
    labels = np.where(phantom.labels > MYO, MYO, phantom.labels).astype(np.uint8)
    ((kind, text),) = said(phantom, labels)
    assert kind == "missing" and text.startswith("No infarct was found (many patients have none)") and "missed" in text


def test_a_smaller_one_than_in_any_training_patient_is_told_with_its_size(phantom):
    labels = np.where(phantom.labels > MYO, MYO, phantom.labels).astype(np.uint8)
    inside = np.argwhere(labels == MYO)
    few = inside[: round(0.03 * len(inside))]
    labels[tuple(few.T)] = INFARCT
    ((kind, text),) = said(phantom, labels)
    assert kind == "volume" and "it has 3.0 %" in text and "4 % of the muscle or more" in text


def test_of_a_wall_that_is_cut_no_share_is_told(phantom):
    labels = np.where(phantom.labels > MYO, MYO, phantom.labels).astype(np.uint8)
    inside = np.argwhere(labels == MYO)
    labels[tuple(inside[len(inside) // 2 :][: round(0.01 * len(inside))].T)] = INFARCT
    columns = np.flatnonzero((labels == LV).any((0, 1)))
    part = np.s_[:, :, (columns[0] + columns[-1]) // 2 :]
    cut = replace(phantom, volume=replace(phantom.volume, array=phantom.volume.array[part]))
    assert any("% of the muscle" in text for _kind, text in said(phantom, labels))
    texts = [text for _kind, text in said(cut, labels[part])]
    assert any("cut by the edge of the field of view" in text for text in texts)
    assert not any("% of the muscle" in text for text in texts)


def test_of_labels_without_a_wall_the_infarct_says_nothing(phantom):
    assert not any(
        "infarct" in text for _kind, text in said(phantom, np.where(phantom.labels == LV, LV, 0).astype(np.uint8))
    )


@pytest.mark.parametrize("count", [3, FEWEST_PHASES])
def test_several_phases_are_no_late_enhancement_and_it_is_said_of_each(count):
    phantom = late_enhancement_phantom(slices=2, size=(64, 64), spacing=(30.0, 3.5, 3.5))
    several = list(segment_phases([phantom.volume] * count, TASK, "infarct-din-small", "cpu"))
    for one in several:
        text = one.findings[0].text
        assert (
            text.startswith(f"There are {count} phases, but a short-axis late enhancement") and one.warnings[0] == text
        )
        assert one.findings[0].kind == OTHER_IMAGE
    (alone,) = segment_phases([phantom.volume], TASK, "infarct-din-small", "cpu")
    assert "phases" not in " ".join(alone.warnings)


def test_phases_of_a_beating_heart_are_what_its_task_is_for():
    assert several_findings(get_task("heart"), 20) == []


# Traces of one.


@pytest.mark.parametrize("label", [INFARCT, NO_REFLOW])
def test_traces_become_muscle_and_more_stays_whatever_the_spacing(label):
    labels = np.zeros((4, 20, 20), np.uint8)
    labels[:, 5:15, 5:15] = MYO  # 400 voxels of muscle
    labels[:, 8:12, 8:12] = LV
    wall = np.argwhere(labels == MYO)
    for count in range(0, 14):
        drawn = labels.copy()
        drawn[tuple(wall[:count].T)] = label
        kept = remove_traces(drawn, replace(TASK.wall, least_percent=2.0))
        expected = drawn if 100 * count >= 2.0 * len(wall) else labels
        np.testing.assert_array_equal(kept, expected)
        np.testing.assert_array_equal(remove_traces(drawn, replace(TASK.wall, least_percent=0.0)), drawn)


def test_the_task_does_without_them(phantom):
    labels = np.where(phantom.labels > MYO, MYO, phantom.labels).astype(np.uint8)
    labels[tuple(np.argwhere(labels == MYO)[:3].T)] = INFARCT
    stack = SliceStack.in_plane(phantom.volume, "acquired")
    assert TASK.wall.least_percent > 0
    assert set(np.unique(postprocess(stack.like(labels).array, TASK, stack))) == {0, LV, MYO}
    whole = stack.like(phantom.labels).array
    np.testing.assert_array_equal(postprocess(whole, TASK, stack), whole)
