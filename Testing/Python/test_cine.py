"""The phases of a cine as one thing: smoothed in time, the ends of the curve as they were, from whatever phase on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from remembered import remembered
from scipy.signal import savgol_coeffs

from dinsegment.errors import Cancelled, InputError
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.slices import SliceStack
from dinsegment.inference import phases as phases_module
from dinsegment.inference import segment, segment_phases
from dinsegment.inference.cine import CERTAIN, FEWEST_PHASES, FIT, common_box, consistent, is_cine
from dinsegment.inference.model import load_model
from dinsegment.inference.view import View
from dinsegment.measurements.volumes import segment_volumes
from dinsegment.phantom.heart import cine_phantom
from dinsegment.studies.study import compute_study
from dinsegment.tasks import ABDOMEN, HEART
from dinsegment.training.metrics import dice

LV = HEART.chamber


@pytest.fixture(scope="module")
def model():
    return remembered(load_model(None, HEART))


@pytest.fixture(scope="module")
def beat():
    return cine_phantom(20, slices=4, size=(110, 120), spacing=(20.0, 1.6, 1.6))


@pytest.fixture(scope="module")
def jumping(beat, model):
    """The same phases in the same box, not smoothed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phases_module, "consistent", lambda probabilities: probabilities)
        return list(segment_phases([phantom.volume for phantom in beat], HEART, model, "cpu"))


@pytest.fixture(scope="module")
def as_one(beat, model):
    """As the command line has it."""
    return compute_study([phantom.volume for phantom in beat], HEART, model, "cpu")


@pytest.fixture(scope="module")
def volumes():
    """Two slices, and as few phases as a cine may have."""
    beat = cine_phantom(FEWEST_PHASES, slices=2, size=(110, 120), spacing=(16.0, 1.6, 1.6))
    return [phantom.volume for phantom in beat]


@pytest.fixture(scope="module")
def told():
    """What was told of progress while `small` was made."""
    return []


@pytest.fixture(scope="module")
def small(volumes, model, told):
    return list(segment_phases(volumes, HEART, model, "cpu", lambda *said: told.append(said)))


def labels_of(phases: Sequence[Segmentation]) -> np.ndarray:
    return np.stack([phase.labels for phase in phases])


def jumps(labels: np.ndarray) -> float:
    """Voxels whose label is another one than a phase before, the beat being a circle; the mean over phases."""
    return float((labels != np.roll(labels, 1, axis=0)).sum() / len(labels))


def flickers(labels: np.ndarray) -> float:
    """Voxels whose label is another one than before and after, where these are the same."""
    before, after = np.roll(labels, 1, axis=0), np.roll(labels, -1, axis=0)
    return float(((before == after) & (labels != before)).sum() / len(labels))


def curve(phases: Sequence[Segmentation]) -> np.ndarray:
    """Volumes of the left ventricle in ml."""
    return np.array([segment_volumes(phase)[LV - 1].volume_ml for phase in phases])


class TestSmoothing:
    @staticmethod
    def course(values: Sequence[float], segments: int = 3) -> np.ndarray:
        """Probabilities of one pixel over the beat, of the last segment; beside it a pixel of nothing."""
        out = np.zeros((len(values), 1, segments, 1, 2), np.float16)
        out[:, 0, -1, 0, 0] = values
        return out

    @staticmethod
    def beating(phases: int = 20, seed: int = 0) -> np.ndarray:
        """Probabilities of a disc that shrinks and grows, with noise."""
        rng, y = np.random.default_rng(seed), np.arange(24) - 11.5
        radius = 7 + 3 * np.cos(2 * np.pi * np.arange(phases) / phases)
        inside = radius[:, None, None] - np.hypot(y[:, None], y)
        logits = 2 * inside[:, None] + rng.normal(0, 1.5, (phases, 2, 24, 24))
        segment = 1 / (1 + np.exp(-logits))
        return np.stack((segment * 0.1, segment * 0.1, segment * 0.8), 2).astype(np.float16)

    def test_the_weights_are_those_of_a_parabola(self):
        for place, weights in enumerate(FIT):
            np.testing.assert_allclose(weights, savgol_coeffs(5, 2, pos=place, use="dot"), atol=1e-12)

    def test_a_phase_that_is_unlike_all_others_goes_with_them(self):
        values = [0.9] * 16
        values[5] = 0.3
        smoothed = consistent(self.course(values))[:, 0, -1, 0, 0]
        assert (smoothed > 0.5).all()
        assert (consistent(self.course([0.1] * 5 + [0.7] + [0.1] * 10))[:, 0, -1, 0, 0] < 0.5).all()

    def test_what_moves_steadily_moves_at_the_same_time(self):
        values = np.array([0.95, 0.95, 0.9, 0.8, 0.6, 0.4, 0.2, 0.1, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95])
        smoothed = consistent(self.course(values))[:, 0, -1, 0, 0]
        assert ((smoothed > 0.5) == (values > 0.5)).all()

    def test_noise_is_less_and_the_ends_of_the_curve_stay(self):
        noisy, clean = self.beating(), self.beating(seed=1)
        smoothed = consistent(noisy)
        areas, before = ((p[:, :, -1] > 0.5).sum((1, 2, 3)) for p in (smoothed, noisy))
        assert flickers(smoothed[:, :, -1] > 0.5) < 0.5 * flickers(noisy[:, :, -1] > 0.5)
        assert abs(int(areas.max()) - int(before.max())) < 0.03 * before.max()
        assert abs(int(areas.min()) - int(before.min())) < 0.06 * before.max()
        assert smoothed.dtype == np.float16 and smoothed.shape == noisy.shape
        assert not np.array_equal(smoothed, consistent(clean))

    def test_what_the_network_is_certain_of_in_all_phases_is_not_touched(self):
        p = self.beating()
        certain = (p.sum(2) <= 1 - CERTAIN).all(0)
        assert certain.sum() > 100
        np.testing.assert_array_equal(np.moveaxis(consistent(p), 2, -1)[:, certain], np.moveaxis(p, 2, -1)[:, certain])

    @pytest.mark.parametrize("shift", [1, 7, 13])
    def test_a_beat_may_begin_anywhere(self, shift):
        p = self.beating()
        np.testing.assert_array_equal(consistent(np.roll(p, shift, axis=0)), np.roll(consistent(p), shift, axis=0))

    def test_of_a_part_of_a_beat_the_last_phase_does_not_touch_the_first(self):
        p = self.beating(24)[:13]  # from end diastole to end systole
        changed = p.copy()
        changed[-1] = p[0]  # as if the beat went on
        smoothed = consistent(p)
        np.testing.assert_array_equal(consistent(p[:-1])[:5], smoothed[:5])
        assert not np.array_equal(consistent(changed)[0], smoothed[0])

    def test_only_many_phases_of_one_grid_and_of_what_beats_are_a_cine(self, volumes):
        assert is_cine(volumes, HEART) and is_cine(volumes[:FEWEST_PHASES], HEART)
        assert not is_cine(volumes[: FEWEST_PHASES - 1], HEART)
        assert not is_cine(volumes, ABDOMEN)
        moved = replace(volumes[3], ijk_to_ras=volumes[3].ijk_to_ras + np.eye(4, k=3))
        assert not is_cine([*volumes[:3], moved, *volumes[4:]], HEART)
        smaller = replace(volumes[3], array=volumes[3].array[1:])
        assert not is_cine([*volumes[:3], smaller, *volumes[4:]], HEART)

    def test_the_box_is_where_most_phases_show_the_heart(self, volumes):
        def box(y: float, x: float) -> View:
            return View(SliceStack.of(volumes[0]), (y, x), (96, 96), 1.5)

        boxes = [box(50, 60), None, box(52, 61), box(90, 10), box(51, 62)]
        assert common_box(boxes).center == (51.5, 60.5)
        assert common_box([None, None]) is None


class TestPhantom:
    def test_labels_jump_less(self, jumping, as_one):
        before, after = labels_of(jumping), labels_of(as_one)
        assert jumps(after) < 0.97 * jumps(before)
        assert flickers(after) < 0.7 * flickers(before)

    def test_both_ends_of_the_curve_stay_within_a_millilitre(self, jumping, as_one):
        before, after = curve(jumping), curve(as_one)
        assert after.max() == pytest.approx(before.max(), abs=1.0)
        assert after.min() == pytest.approx(before.min(), abs=1.0)
        assert abs(int(after.argmin()) - int(before.argmin())) <= 1

    def test_every_phase_is_as_true_as_before(self, beat, jumping, as_one):
        for label in (1, 2, 3):
            before, after = (
                np.mean([dice(one.labels, phantom.labels, label) for one, phantom in zip(phases, beat, strict=True)])
                for phases in (jumping, as_one)
            )
            assert after > before - 0.006, label

    def test_each_has_its_own_enhanced_image_and_time(self, jumping, as_one):
        for one, other in zip(jumping, as_one, strict=True):
            assert np.array_equal(one.enhanced.array, other.enhanced.array)
            assert other.enhanced.name == f"{other.volume.name} fuzzy-enhanced" and other.seconds > 0


class TestPhases:
    def test_given_from_another_phase_on_they_are_the_same(self, volumes, model, small):
        rolled = list(segment_phases([*volumes[-3:], *volumes[:-3]], HEART, model, "cpu"))
        np.testing.assert_array_equal(labels_of(rolled), np.roll(labels_of(small), 3, axis=0))
        assert [one.findings for one in rolled] == [small[n - 3].findings for n in range(len(volumes))]

    def test_progress_rises_over_all(self, volumes, small, told):
        fractions = [fraction for _, fraction, _ in told]
        assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] == pytest.approx(1)
        assert {number for number, _, _ in told} == set(range(len(volumes)))
        assert any("Segmenting: slice 1 of" in text for number, _, text in told if number == len(volumes) - 1)

    def test_a_pair_of_phases_is_two_images(self, volumes, model):
        pair = list(segment_phases(volumes[:2], HEART, model, "cpu"))
        np.testing.assert_array_equal(
            labels_of(pair), labels_of([segment(v, HEART, model, "cpu") for v in volumes[:2]])
        )

    def test_a_phase_that_shows_nothing_does_not_stop_it(self, volumes, model, small):
        dark = volumes[4].with_array(np.random.default_rng(0).normal(50, 5, volumes[4].shape).astype(np.float32))
        phases = list(segment_phases([*volumes[:4], dark, *volumes[5:]], HEART, model, "cpu"))
        assert dice(phases[9].labels, small[9].labels, LV) > 0.98
        assert dice(phases[3].labels, small[3].labels, LV) > 0.9

    def test_bad_voxels_are_refused_before_anything_is_looked_at(self, volumes, model):
        array = volumes[-1].array.copy()
        array[0, 0, 0] = np.nan
        said = []
        with pytest.raises(InputError, match="NaN"):
            bad = [*volumes[:-1], volumes[-1].with_array(array)]
            list(segment_phases(bad, HEART, model, "cpu", lambda *told: said.append(told)))
        assert said == []

    @pytest.mark.parametrize("word", ["Finding", "Segmenting", "Enhancing"])
    def test_they_can_be_cancelled_in_each_pass(self, volumes, model, word):
        seen = [""]
        with pytest.raises(Cancelled):
            list(
                segment_phases(
                    volumes, HEART, model, "cpu", lambda *said: seen.append(said[2]), lambda: word in seen[-1]
                )
            )
        assert word in seen[-1]
