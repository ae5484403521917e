"""Probabilities that come true: a temperature that changes how sure the network is, and no label."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dinsegment.errors import ModelError
from dinsegment.inference.calibration import LEAST, calibrated
from dinsegment.inference.model import build_model, load_model
from dinsegment.inference.plausible import checked_image
from dinsegment.inference.prediction import predict_with_confidence
from dinsegment.inference.runner import Runner
from dinsegment.inference.view import decide
from dinsegment.models.entries import find_entry
from dinsegment.models.weights import read_weights
from dinsegment.phantom.heart import heart_phantom
from dinsegment.quality.kind import kind_of
from dinsegment.tasks import HEART

BENCHMARK = Path(__file__).parents[1] / "Benchmarks" / "calibration.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("calibration_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(0))
    return (powers / powers.sum(0)).astype(np.float32)


@pytest.fixture(scope="module")
def logits():
    return np.random.default_rng(4).normal(0, 2.5, (4, 50, 60))


class TestCalibrated:
    @pytest.mark.parametrize("temperature", [0.6, 1.0, 2.1, 4.0])
    def test_it_divides_the_logits(self, logits, temperature):
        given, expected = softmax(logits)[1:], softmax(logits / temperature)[1:]
        seen = given.sum(0) >= LEAST
        assert 0 < (~seen).sum() < seen.sum()
        out = calibrated(given, temperature)
        np.testing.assert_allclose(out[:, seen], expected[:, seen], atol=2e-4)
        np.testing.assert_array_equal(out[:, ~seen], given[:, ~seen])

    @pytest.mark.parametrize("temperature", [0.6, 2.1, 4.0])
    def test_no_label_changes(self, logits, temperature):
        given = softmax(logits)[1:]
        before, after = (decide(torch.from_numpy(p)).numpy() for p in (given, calibrated(given, temperature)))
        np.testing.assert_array_equal(before, after)

    def test_what_is_given_stays_and_certainty_is_no_division_by_zero(self):
        given = np.zeros((3, 2, 2), np.float32)
        given[1] = 1.0
        kept = given.copy()
        np.testing.assert_array_equal(calibrated(given, 2.0), kept)
        np.testing.assert_array_equal(given, kept)


class TestConfidence:
    def test_it_is_calibrated_but_not_what_the_estimator_and_the_limits_of_other_images_see(self):
        model, volume = load_model(None, HEART), heart_phantom(slices=4, size=(120, 130)).volume
        image = checked_image(volume, HEART)
        runner = Runner(model.network, torch.device("cpu"))
        cold, warm = (
            predict_with_confidence(runner, model.preprocessing, image, HEART, model.estimator, temperature)
            for temperature in (1.0, 2.5)
        )
        np.testing.assert_array_equal(cold.labels, warm.labels)
        one, other = cold.confidence, warm.confidence
        drawn = (one.area_cm2 > 2) & (one.overlap < 1)
        assert drawn.any() and (other.overlap[drawn] < one.overlap[drawn]).all()
        np.testing.assert_allclose(one.said, one.overlap, rtol=1e-6)  # sums of float32, in another order
        for name in ("said", "said_area_cm2", "bad", "told"):
            np.testing.assert_array_equal(getattr(other, name), getattr(one, name))
        assert other.certainty == one.certainty
        kinds = [kind_of(volume, p.labels, HEART, 0, p.confidence) for p in (cold, warm)]
        assert kinds[0] == pytest.approx(kinds[1])


class TestModel:
    def test_the_temperature_is_of_the_model(self):
        entry = find_entry(None, HEART)
        weights = read_weights(entry, None)
        assert build_model(replace(entry, calibration={"temperature": 1.7}), weights).temperature == 1.7
        assert build_model(replace(entry, calibration={}), weights).temperature == 1.0
        for damaged in (0, -1, "warm", float("nan")):
            with pytest.raises(ModelError):
                build_model(replace(entry, calibration={"temperature": damaged}), weights)


class TestBenchmark:
    @pytest.mark.parametrize("true", [0.8, 2.2])
    def test_it_finds_the_temperature_that_labels_were_drawn_at(self, benchmark, true):
        rng = np.random.default_rng(5)
        logits = rng.normal(0, 4, (4, 60_000))
        drawn = (rng.random(60_000) < softmax(logits / true).cumsum(0)).argmax(0)
        given = softmax(logits)[1:]
        seen = given.sum(0) >= LEAST
        found = [benchmark.Seen("a", given[:, seen], drawn[seen])]
        assert benchmark.best_temperature(found) == pytest.approx(true, abs=0.05)
        errors = [benchmark.calibration_error(benchmark.bins_of(*benchmark.joined(found), t)) for t in (1.0, true)]
        assert errors[1] < 0.012 < errors[0]

    def test_the_error_is_what_the_mean_is_off(self, benchmark):
        given = np.full((1, 1000), 0.9, np.float32)
        truth = (np.arange(1000) < 700).astype(int)
        assert benchmark.calibration_error(benchmark.bins_of(given, truth, 1.0)) == pytest.approx(0.2, abs=1e-5)
