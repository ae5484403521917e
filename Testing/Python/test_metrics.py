"""Scores by hand and against scipy's distance transforms; bootstrap intervals and limits of agreement."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage, stats

from dinsegment.training.metrics import dice, surface_distances
from dinsegment.training.statistics import Agreement, PatientBootstrap, known_mean


def box(shape, *corners):
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(a, b) for a, b in corners)] = 1
    return labels


def blobs(seed, shape=(7, 40, 36), threshold=0.55):
    """Smooth random pieces, some cut by the image's border."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    smooth = ndimage.gaussian_filter(noise, (0.7, 3, 3), mode="nearest")
    return (smooth > threshold * smooth.std()).astype(np.uint8)


def by_distance_transform(labels, truth, spacing):
    """The same two numbers the slow way: over the whole image, with scipy alone."""
    surfaces = [m & ~ndimage.binary_erosion(m) for m in (labels == 1, truth == 1)]
    a, b = (ndimage.distance_transform_edt(~other, sampling=spacing)[one] for one, other in (surfaces, surfaces[::-1]))
    return max(np.percentile(a, 95), np.percentile(b, 95)), np.concatenate([a, b]).mean()


# --- overlap --------------------------------------------------------------------------------------


def test_dice_of_boxes_by_hand():
    a, b = box((4, 10, 10), (0, 4), (0, 5), (0, 5)), box((4, 10, 10), (0, 4), (0, 5), (3, 8))
    assert dice(a, b, 1) == pytest.approx(2 * 40 / (100 + 100))
    assert dice(a, a, 1) == 1.0


def test_empty_segments_count_fully_in_dice_and_not_at_all_in_distances():
    nothing, something = np.zeros((3, 5, 5), np.uint8), box((3, 5, 5), (1, 2), (1, 3), (1, 3))
    assert dice(nothing, nothing, 1) == 1.0
    assert dice(nothing, something, 1) == dice(something, nothing, 1) == 0.0
    for pair in ((nothing, nothing), (nothing, something), (something, nothing)):
        assert all(math.isnan(d) for d in surface_distances(*pair, 1, (1, 1, 1)))


# --- distances ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("axis", "steps", "distance"), [(0, 2, 16.0), (1, 3, 4.5), (2, 4, 2.0)], ids=["k", "j", "i"])
def test_plates_apart_have_their_distance_in_mm_along_every_axis(axis, steps, distance):
    shape = [14, 14, 14]
    ranges = [(2, 12)] * 3
    first, second = list(ranges), list(ranges)
    first[axis], second[axis] = (4, 5), (4 + steps, 5 + steps)
    found = surface_distances(box(shape, *first), box(shape, *second), 1, (8.0, 1.5, 0.5))
    assert found == pytest.approx((distance, distance))


def test_two_single_voxels_are_as_far_apart_as_pythagoras_says():
    a, b = box((5, 9, 9), (1, 2), (2, 3), (3, 4)), box((5, 9, 9), (2, 3), (4, 5), (6, 7))
    expected = math.sqrt((1 * 10) ** 2 + (2 * 1.5) ** 2 + (3 * 2) ** 2)
    assert surface_distances(a, b, 1, (10, 1.5, 2)) == pytest.approx((expected, expected))


def test_one_of_two_pieces_missed_by_hand():
    """A rod of 10 voxels, of which the model has the first 5: distances 0 (5), 0 (5) and 1 to 5."""
    truth, model = box((3, 3, 16), (1, 2), (1, 2), (2, 12)), box((3, 3, 16), (1, 2), (1, 2), (2, 7))
    hd95, asd = surface_distances(model, truth, 1, (1, 1, 1))
    assert asd == pytest.approx((1 + 2 + 3 + 4 + 5) / 15)
    assert hd95 == pytest.approx(np.percentile([0, 0, 0, 0, 0, 1, 2, 3, 4, 5], 95)) and 4 < hd95 < 5


def test_equal_masks_are_at_no_distance():
    assert surface_distances(blobs(0), blobs(0), 1, (8, 1.4, 1.4)) == (0.0, 0.0)


@pytest.mark.parametrize("seed", range(4))
def test_distances_of_random_blobs_are_those_of_distance_transforms(seed):
    a, b, spacing = blobs(seed), blobs(seed + 100), (8.0, 1.25, 1.6)
    np.testing.assert_allclose(surface_distances(a, b, 1, spacing), by_distance_transform(a, b, spacing), rtol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_distances_do_not_depend_on_order_padding_flips_or_axes(seed):
    a, b, spacing = blobs(seed), blobs(seed + 50), (8.0, 1.25, 1.6)
    expected = surface_distances(a, b, 1, spacing)
    assert surface_distances(b, a, 1, spacing) == pytest.approx(expected)
    widths = [(3, 1), (0, 9), (20, 2)]
    assert surface_distances(np.pad(a, widths), np.pad(b, widths), 1, spacing) == pytest.approx(expected)
    for axis in range(3):
        flipped = surface_distances(np.flip(a, axis), np.flip(b, axis), 1, spacing)
        assert flipped == pytest.approx(expected)
    turned = surface_distances(a.transpose(2, 0, 1), b.transpose(2, 0, 1), 1, (1.6, 8.0, 1.25))
    assert turned == pytest.approx(expected)


def test_the_box_around_small_segments_changes_nothing():
    labels, truth = np.zeros((2, 9, 90, 80), np.uint8)
    labels[2:6, 30:45, 20:33] = blobs(3, (4, 15, 13))
    truth[3:7, 28:43, 22:35] = blobs(4, (4, 15, 13))
    spacing = (10.0, 1.5, 1.5)
    np.testing.assert_allclose(
        surface_distances(labels, truth, 1, spacing), by_distance_transform(labels, truth, spacing), rtol=1e-5
    )


def test_a_single_slice_has_distances():
    a, b = blobs(5, (1, 30, 30)), blobs(6, (1, 30, 30))
    np.testing.assert_allclose(surface_distances(a, b, 1, (8, 2, 1)), by_distance_transform(a, b, (8, 2, 1)), rtol=1e-5)


def test_only_the_segment_asked_for_counts():
    a, b = blobs(7), blobs(8)
    expected = surface_distances(a, b, 1, (8, 1, 1))
    others = [np.where(m == 1, 2, 3).astype(np.uint8) for m in (a, b)]
    assert surface_distances(*others, 2, (8, 1, 1)) == expected


# --- intervals ------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_intervals_and_others_do_not():
    values, patients = np.random.default_rng(0).normal(size=30), [f"p{n}" for n in range(30)]
    draws = [PatientBootstrap(patients, seed=seed).means(values) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    assert draws[0].shape == (2000,)


def test_an_interval_is_that_of_scipy_where_every_patient_has_one_case():
    values = np.random.default_rng(1).gamma(2.0, size=40)
    bootstrap = PatientBootstrap([f"p{n}" for n in range(40)], resamples=20_000)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", random_state=0
    ).confidence_interval
    assert bootstrap.interval(bootstrap.means(values)) == pytest.approx(tuple(expected), rel=0.02)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    patients = [f"p{n // 2}" for n in range(60)]  # two cases each, alike
    bootstrap = PatientBootstrap(patients, resamples=400)
    hits, hits_of_cases = 0, 0
    by_case = PatientBootstrap([str(n) for n in range(60)], resamples=400)
    for _ in range(300):
        values = np.repeat(rng.normal(5, 1, 30), 2) + rng.normal(0, 0.2, 60)
        low, high = bootstrap.interval(bootstrap.means(values))
        hits += low < 5 < high
        low, high = by_case.interval(by_case.means(values))
        hits_of_cases += low < 5 < high
    assert 0.89 < hits / 300 < 0.98
    assert hits_of_cases < 0.88 * 300  # what resampling cases instead of patients would claim


def test_a_patient_is_drawn_with_all_cases():
    bootstrap = PatientBootstrap(["a", "a", "a", "b"], resamples=500)
    found = set(np.round(bootstrap.means(np.array([0.0, 0.0, 0.0, 1.0])), 6))
    assert found == {0.0, 0.25, 1.0}  # twice a, one of each, twice b


def test_missing_values_count_in_no_mean():
    patients = ["a", "b", "c", "d"]
    bootstrap = PatientBootstrap(patients, resamples=500)
    values = np.array([[1.0, np.nan], [2.0, np.nan], [np.nan, np.nan], [3.0, 7.0]])
    means = bootstrap.means(values)
    assert means.shape == (500, 2)
    assert set(means[~np.isnan(means[:, 1]), 1]) == {7.0} and np.isnan(means[:, 1]).any()
    assert bootstrap.interval(means[:, 1]) == (7.0, 7.0)
    low, high = bootstrap.interval(means[:, 0])
    assert 1.0 <= low < 2.0 < high <= 3.0
    assert known_mean(values[:, 0]) == 2.0 and math.isnan(known_mean(np.array([np.nan])))
    assert all(math.isnan(v) for v in bootstrap.interval(bootstrap.means(np.full(4, np.nan))))


def test_of_one_patient_there_is_no_interval():
    bootstrap = PatientBootstrap(["a", "a"])
    assert all(math.isnan(v) for v in bootstrap.interval(bootstrap.means(np.array([0.8, 0.9]))))


def test_limits_of_agreement_by_hand():
    found = Agreement.of(np.array([1.0, 3.0, np.nan, 5.0]))
    assert (found.bias, found.count, found.undefined) == (3.0, 3, 1)
    assert (found.lower_limit, found.upper_limit) == pytest.approx((3 - 1.96 * 2, 3 + 1.96 * 2))
    alone = Agreement.of(np.array([2.0]))
    assert alone.bias == 2.0 and math.isnan(alone.lower_limit) and math.isnan(alone.upper_limit)
