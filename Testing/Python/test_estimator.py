"""How likely a segment in a slice is to be corrected: facts, what a model's estimator makes of them, the finding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dinsegment.errors import ModelError
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume
from dinsegment.inference.confidence import Evidence
from dinsegment.inference.model import build_model, load_model
from dinsegment.inference.view import View
from dinsegment.models.entries import find_entry
from dinsegment.models.weights import read_weights
from dinsegment.quality.estimator import Curve, Estimator
from dinsegment.quality.facts import facts_of, known_facts
from dinsegment.quality.shape import shapes_of
from dinsegment.quality.unsure import Confidence, unsure_findings
from dinsegment.tasks import HEART

RV, MYO, LV = 1, 2, 3


def heart(slices: int = 6, size: int = 64) -> np.ndarray:
    """Labels (slices, rows, columns), smaller from the base, which is the first slice, to the apex."""
    y, x = np.mgrid[:size, :size]
    labels = np.zeros((slices, size, size), np.uint8)
    for k in range(slices):
        radius = 14 - 1.5 * k
        labels[k][np.hypot(y - 32, x - 18) < radius] = RV
        labels[k][np.hypot(y - 32, x - 38) < radius] = MYO
        labels[k][np.hypot(y - 32, x - 38) < radius - 4] = LV
    return labels


def promised(labels: np.ndarray, sure: np.ndarray) -> torch.Tensor:
    """Probabilities (slices, segments, rows, columns): `sure` (slices) inside of labels, nothing elsewhere."""
    masks = labels[:, None] == np.arange(1, 4)[:, None, None]
    return torch.from_numpy((masks * sure[:, None, None, None]).astype(np.float32))


def confidence_of(labels: np.ndarray, sure: np.ndarray, estimator: Estimator | None) -> tuple[Volume, Confidence]:
    volume = Volume(np.zeros(labels.shape, np.float32), np.diag([1.5, 1.5, 10.0, 1.0]))
    stack = SliceStack.of(volume)
    view = View(stack, tuple(0.75 * (n - 1) for n in labels.shape[1:]), labels.shape[1:], 1.5)
    evidence = Evidence(view)
    for _ in evidence.labels(promised(labels, sure), given=dict(enumerate(labels))):
        pass
    return volume, evidence.confidence(labels, volume, HEART, estimator)


def facts(labels: np.ndarray, sure: float = 0.9) -> dict[str, np.ndarray]:
    kept = [(np.arange(one[0].numel()), one.flatten(1).numpy()) for one in promised(labels, np.full(len(labels), sure))]
    totals = np.stack([values.sum(1) for _, values in kept])
    expected = np.full((len(labels), 3), 0.8)
    return facts_of(labels, expected, totals, kept, HEART)


class TestFacts:
    def test_of_a_whole_heart(self):
        labels = heart()
        found = facts(labels)
        assert found.keys() == known_facts(HEART)
        assert all(values.shape == (6, 3) and not np.isnan(values).any() for values in found.values())
        assert np.allclose(found["mean"], 0.9)
        assert np.allclose(found["inner"], 0.9)
        assert np.allclose(found["outside"], 0, atol=1e-6)
        assert np.allclose(found["pieces"], 0)
        assert np.allclose(found["ring"], 1)
        assert found["base end"][:, 0].tolist() == [1, 0, 0, 0, 0, 0]
        assert np.allclose(found["share RV"][0], 1)
        assert (found["apex area"][:-1] < 1).all()
        here, next_one = (labels[k] == LV for k in (0, 1))  # one lies inside of the other
        overlap = 2 * next_one.sum() / (here.sum() + next_one.sum())
        assert np.isclose(found["base overlap"][1, 2], overlap)
        assert np.isclose(found["apex overlap"][0, 2], overlap)
        assert found["apex area"][5, 0] == found["apex expected"][5, 0] == found["base overlap"][0, 0] == 0

    def test_the_base_may_be_the_last_slice(self):
        one, other = facts(heart()), facts(np.ascontiguousarray(heart()[::-1]))
        for name in one:
            assert np.allclose(one[name], other[name][::-1]), name

    def test_what_is_not_drawn_has_none(self):
        labels = heart()
        labels[2][labels[2] == RV] = 0
        found = facts(labels)
        assert all(np.isnan(values[2, 0]) and not np.isnan(values[2, 1:]).any() for values in found.values())
        assert found["expected RV"][2, 1] == 0
        assert np.isnan(facts(np.zeros_like(labels))["mean"]).all()

    def test_pieces_and_an_open_ring(self):
        labels = heart()
        labels[0, 2:5, 2:5] = RV
        labels[1, 32:][labels[1, 32:] == MYO] = 0
        found = facts(labels)
        assert np.isclose(found["pieces"][0, 0], 9 / (labels[0] == RV).sum())
        assert 0.3 < found["ring"][1, 2] < 0.7


def simple(told: float = 0.9) -> Estimator:
    """One that knows the mean probability alone: 0.5 at 0.6, about 0.95 at 0.5, falling."""
    curve = Curve((0.0, 1.0), (), ((-30.0,),) * 3)
    return Estimator({"mean": curve}, (18.0,) * 3, told)


class TestEstimator:
    def test_curves_bend_at_knots_and_end_at_limits(self):
        curve = Curve((0.0, 1.0), (0.5,), ((2.0, -1.0), (0.0, 0.0)))
        values = np.array([[-1.0, 7.0], [0.5, 7.0], [0.75, 7.0], [9.0, 7.0]])
        assert curve.adds(values).tolist() == [[0, 0], [1, 0], [1.25, 0], [1.5, 0]]

    def test_it_is_data(self):
        estimator = simple()
        assert Estimator.from_dict(estimator.to_dict(), HEART) == estimator
        for change in ({"curves": {"colour": estimator.to_dict()["curves"]["mean"]}}, {"smell": 1}):
            with pytest.raises((ValueError, TypeError)):
                Estimator.from_dict(estimator.to_dict() | change, HEART)
        with pytest.raises(ValueError, match="slope"):
            Curve((0.0, 1.0), (0.5,), ((1.0,),))

    def test_slices_more_likely_bad_than_not_are_named_with_one_that_is_told(self):
        bad = np.array([[0.95, 0.7, 0.2], [0.6, 0.6, 0.2], [0.4, 0.3, 0.2]])
        area = np.ones((3, 3))
        assert simple().told_in(bad, area).tolist() == [[True, False, False], [True, False, False], [False] * 3]

    def test_a_segment_may_be_told_for_its_mean(self):
        bad = np.array([[0.45, 0.7, 0.3], [0.4, 0.1, 0.2], [0.0, 0.6, 0.2]])
        area = np.array([[2.0, 1.0, 3.0], [1.0, 8.0, 3.0], [0.0, 1.0, 3.0]])
        told = replace(simple(), whole=0.35).told_in(bad, area)
        assert told.tolist() == [[True, False, False], [False, False, False], [False, False, False]]

    def test_nothing_is_said_of_small_areas(self):
        labels = heart()
        _, confidence = confidence_of(labels, np.full(6, 0.5), simple())
        cm2 = np.stack([(labels == n).sum((1, 2)) for n in (1, 2, 3)], 1) * 0.0225
        assert (cm2 < 1).any()
        assert np.allclose(confidence.bad[cm2 >= 1], 0.9526, atol=1e-3)
        assert (confidence.bad[cm2 < 1] == 0).all()

    def test_a_damaged_one_is_no_model(self):
        entry = find_entry(None, HEART)
        weights = read_weights(entry, None)
        assert build_model(replace(entry, estimator=simple().to_dict()), weights).estimator == simple()
        with pytest.raises(ModelError):
            build_model(replace(entry, estimator={"told": 0.9}), weights)


class TestFinding:
    def test_the_worst_slice_is_the_one_to_look_at(self):
        labels, sure = heart(), np.array([0.58, 0.5, 0.7, 0.9, 0.9, 0.9])
        volume, confidence = confidence_of(labels, sure, simple())
        found = unsure_findings(shapes_of(volume, labels, HEART, 0), HEART, confidence)
        assert {one.segment for one in found} == {RV, MYO, LV}
        for one in found:
            assert one.slices == (1, 2)
            assert one.text.endswith("in slices 1 and 2.")
            assert one.place[2] == pytest.approx(10)

    def test_nothing_is_told_of_a_sure_network(self):
        labels = heart()
        volume, confidence = confidence_of(labels, np.full(6, 0.6), simple())
        assert unsure_findings(shapes_of(volume, labels, HEART, 0), HEART, confidence) == []

    def test_without_estimator_the_limits_of_the_task_hold(self):
        labels = heart()
        volume, confidence = confidence_of(labels, np.full(6, 0.4), None)  # a Dice of 0.57 is to be expected
        assert confidence.told is None
        assert {one.segment for one in unsure_findings(shapes_of(volume, labels, HEART, 0), HEART, confidence)} == {
            1,
            2,
            3,
        }


class TestShipped:
    def test_hearts_have_one_that_says_where_it_comes_from(self):
        estimator = load_model(None, HEART).estimator
        assert estimator is not None
        assert 0.5 < estimator.told < 1
        assert estimator.made.keys() >= {"fitted", "command", "validation"}

    def test_it_doubts_what_a_network_is_unsure_of(self):
        estimator = load_model(None, HEART).estimator
        labels = heart()
        _, sure = confidence_of(labels, np.full(6, 0.98), estimator)
        _, less = confidence_of(labels, np.array([0.7, *[0.98] * 5]), estimator)
        assert (sure.bad[1:3] < 0.3).all()
        assert (less.bad[0] > sure.bad[0] + 0.2).all()
