"""The phantom heart: its anatomy, its truth, and that its image shows what the truth says."""

from __future__ import annotations

import numpy as np
import pytest

from dinsegment.images.volume import check_voxels
from dinsegment.phantom.contrasts import CINE
from dinsegment.phantom.heart import Phantom, cine_phantom, heart_phantom
from dinsegment.phantom.heart_beat import END_SYSTOLE_PHASE, LV, MYOCARDIUM, RV
from dinsegment.phantom.heart_patient import Patient
from dinsegment.phantom.heart_shapes import Slices
from dinsegment.tasks import HEART

pytestmark = pytest.mark.usefixtures("phantoms_anew")
SEEDS = range(6)
SMALL = {"slices": 6, "size": (96, 112), "spacing": (16.0, 2.8, 2.8)}
THIN = {"slices": 26, "size": (48, 48), "spacing": (4.0, 4.2, 4.2)}
"""For volumes: no steps of a slice's thickness at the valves."""


@pytest.fixture(scope="module")
def beats() -> dict[int, list[Phantom]]:
    """End diastole and end systole of each seed."""
    return {seed: cine_phantom(seed=seed) for seed in SEEDS}


def ml(phantom: Phantom, label: int) -> float:
    return np.count_nonzero(phantom.labels == label) * phantom.volume.voxel_volume_ml


def grey(phantom: Phantom, label: int) -> np.ndarray:
    return phantom.volume.array[phantom.labels == label]


def test_labels_are_those_of_the_heart_task():
    assert [segment.label for segment in HEART.segments] == [RV, MYOCARDIUM, LV]
    assert [segment.abbreviation for segment in HEART.segments] == ["RV", "Myo", "LV"]


def test_volumes_are_those_of_a_healthy_adult(beats):
    for seed, (diastole, systole) in beats.items():
        edv, esv = ml(diastole, LV), ml(systole, LV)
        assert 110 <= edv <= 180, seed
        assert 45 <= esv <= 80, seed
        assert 0.50 <= 1 - esv / edv <= 0.65, seed
        assert 110 <= ml(diastole, RV) <= 200, seed
        assert 0.40 <= 1 - ml(systole, RV) / ml(diastole, RV) <= 0.65, seed
        assert 90 <= ml(diastole, MYOCARDIUM) <= 135, seed


def test_myocardium_is_not_lost_over_the_beat():
    masses = [ml(heart_phantom(phase, **THIN), MYOCARDIUM) for phase in np.arange(8) / 8]
    assert max(masses) / min(masses) < 1.10


def test_myocardial_volume_of_every_seed_is_conserved(beats):
    for seed, (diastole, systole) in beats.items():
        assert ml(systole, MYOCARDIUM) == pytest.approx(ml(diastole, MYOCARDIUM), rel=0.10), seed


def wall_thickness(phantom: Phantom) -> float:
    """Mean thickness in mm in a mid-ventricular slice, of the ring with the areas of cavity and wall."""
    labels = phantom.labels[len(phantom.labels) // 2]
    pixel = np.prod(phantom.volume.spacing[1:])
    inner, outer = np.sqrt(np.array([np.sum(labels == LV), np.sum(labels >= MYOCARDIUM)]) * pixel / np.pi)
    return outer - inner


def test_wall_thickens(beats):
    for diastole, systole in beats.values():
        assert 7 <= wall_thickness(diastole) <= 10.5
        assert 1.2 <= wall_thickness(systole) / wall_thickness(diastole) <= 2.0


def test_valve_plane_descends_and_the_apex_stays(beats):
    for diastole, systole in beats.values():
        (first_d, last_d), (first_s, last_s) = (
            np.flatnonzero((p.labels >= MYOCARDIUM).any(axis=(1, 2)))[[0, -1]] for p in (diastole, systole)
        )
        assert first_s > first_d
        assert abs(last_s - last_d) <= 1


def test_stack_reaches_beyond_the_heart(beats):
    for diastole, systole in beats.values():
        assert len(diastole.labels) >= 10
        for phantom in (diastole, systole):
            areas = (phantom.labels > 0).sum(axis=(1, 2))
            assert areas[-1] < 0.1 * areas.max()  # below the apex
            assert not phantom.labels[0].any()  # above the valves
        assert (diastole.labels > 0).any(axis=(1, 2)).sum() >= 9


def test_myocardium_separates_the_ventricles_and_the_left_cavity_from_all_else(beats):
    diastole = beats[0][0].labels
    mid = diastole[5]
    beside = np.zeros_like(mid, dtype=bool)
    for axis in (0, 1):
        for step in (-1, 1):
            beside |= np.roll(mid == LV, step, axis)
    assert set(np.unique(mid[beside])) == {MYOCARDIUM, LV}


def test_contrast_is_that_of_balanced_ssfp(beats):
    for seed, beat in beats.items():
        for phantom in beat:
            blood, muscle = np.median(grey(phantom, LV)), np.median(grey(phantom, MYOCARDIUM))
            assert 0.25 < muscle / blood < 0.50, seed
            assert 0.70 < np.median(grey(phantom, RV)) / blood < 1.05, seed
            spread = np.hypot(*(np.std(grey(phantom, label)) for label in (LV, MYOCARDIUM)))
            assert (blood - muscle) / spread > 1.5, seed  # trabeculae and shared border voxels included


def test_truth_fits_the_image(beats):
    """Moved by a few millimetres, the labels agree with the image less."""
    for beat in beats.values():
        for phantom in beat:
            array, labels = phantom.volume.array, phantom.labels

            def contrast(shift, array=array, labels=labels):
                moved = np.roll(labels, shift, axis=(1, 2))
                return array[(moved == LV) | (moved == RV)].mean() - array[moved == MYOCARDIUM].mean()

            here = contrast((0, 0))
            assert all(here > contrast(shift) for shift in ((2, 0), (-2, 0), (0, 2), (0, -2)))


def test_borders_share_voxels():
    """A painted disc covers the border voxels in part, and in sum its area."""
    axes = [np.zeros(1), *[np.arange(-30, 30, 1.5)] * 2]
    patient = Patient.draw(np.random.default_rng(0))
    canvas = Slices.of(patient, axes, 0.0, CINE)
    canvas.paint(np.hypot(canvas.x - 0.4, canvas.y + 0.2) - 20, 1.0)
    shared = (canvas.grey > 0.02) & (canvas.grey < 0.98)
    assert shared.sum() == pytest.approx(2 * np.pi * 20 / 1.5, rel=0.3)  # as many as the circumference has
    assert canvas.grey.sum() * 1.5**2 == pytest.approx(np.pi * 20**2, rel=2e-3)


def test_tissues_around_the_heart(beats):
    array = beats[0][0].volume.array
    blood = np.median(grey(beats[0][0], LV))
    _, row, column = np.argwhere(beats[0][0].labels == LV).mean(axis=0).astype(int)
    assert np.median(array[4:7, row - 12 : row + 13, column + 38 : column + 58]) < 0.15 * blood  # left lung
    assert np.median(array[:, :10, :10]) < 0.05 * blood  # air
    assert np.percentile(array, 99.5) > blood  # fat under the skin, near the coil
    assert 0.1 < np.mean((array > 0.15 * blood) & (array < 0.45 * blood)) < 0.6  # liver, muscle


def test_noise_is_rician_and_new_in_every_phase():
    first, second = heart_phantom(0.0), heart_phantom(0.5)
    corner = np.s_[:, :12, :12]  # air
    a, b = first.volume.array[corner], second.volume.array[corner]
    assert a.min() >= 0
    assert a.mean() / a.std() == pytest.approx(1.91, abs=0.2)  # Rayleigh: sqrt(pi / 2) / sqrt(2 - pi / 2)
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.1


def test_only_the_heart_beats(beats):
    diastole, systole = beats[0]
    change = np.abs(diastole.volume.array - systole.volume.array) > 60
    rows, columns = np.nonzero((diastole.labels > 0).any(axis=0))
    heart = np.zeros(change.shape[1:], dtype=bool)
    heart[max(rows.min() - 16, 0) : rows.max() + 16, columns.min() - 16 : columns.max() + 16] = True
    assert change[:, heart].mean() > 0.02
    assert change[:, ~heart].mean() < 1e-3


def test_same_seed_same_voxels():
    first, second = heart_phantom(0.2, seed=5, **SMALL), heart_phantom(0.2, seed=5, **SMALL)
    np.testing.assert_array_equal(first.volume.array, second.volume.array)
    np.testing.assert_array_equal(first.labels, second.labels)


def test_beat_repeats():
    first = heart_phantom(0.3, **SMALL)
    for phase in (1.3, -0.7):
        again = heart_phantom(phase, **SMALL)
        np.testing.assert_array_equal(again.volume.array, first.volume.array)
        np.testing.assert_array_equal(again.labels, first.labels)


def test_beat_is_smooth_and_smallest_at_end_systole():
    phases = np.arange(20) / 20
    volumes = np.array([ml(heart_phantom(phase, **THIN), LV) for phase in phases])
    stroke = volumes.max() - volumes.min()
    assert phases[volumes.argmin()] == pytest.approx(END_SYSTOLE_PHASE)
    assert phases[volumes.argmax()] == 0
    steps = np.diff(np.append(volumes, volumes[0]))
    assert np.abs(steps).max() < 0.3 * stroke  # no jump, also not from the last phase to the first


def test_seeds_are_different_patients(beats):
    diastoles = [beat[0] for beat in beats.values()]
    edv = [ml(phantom, LV) for phantom in diastoles]
    centres = [np.argwhere(phantom.labels == LV).mean(axis=0)[1:] * 1.4 for phantom in diastoles]
    towards_rv = [
        np.argwhere(phantom.labels == RV).mean(axis=0) - np.argwhere(phantom.labels == LV).mean(axis=0)
        for phantom in diastoles
    ]
    angles = np.degrees([np.arctan2(v[1], v[2]) % (2 * np.pi) for v in towards_rv])
    assert np.ptp(edv) > 10
    assert np.ptp(centres, axis=0).min() > 3
    assert np.ptp(angles) > 12
    assert ((angles > 170) & (angles < 240)).all()  # the right ventricle lies left of the left one, and above


def test_phantom_is_a_usable_volume(beats):
    volume, labels = beats[0][0].volume, beats[0][0].labels
    check_voxels(volume)
    assert volume.shape == labels.shape == (12, 200, 224)
    assert volume.modality == "MR"
    assert labels.dtype == np.uint8
    np.testing.assert_allclose(volume.spacing, (8.0, 1.4, 1.4))
    np.testing.assert_array_equal(volume.array, np.round(volume.array))
    assert 300 < volume.array.max() < 1000


def test_orientation_is_an_oblique_short_axis():
    volume = heart_phantom(**SMALL).volume
    directions = volume.ijk_to_ras[:3, :3] / volume.spacing[::-1]
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-12)
    assert (np.abs(directions) < 0.9).all()  # along no axis of the body
    right, anterior, superior = directions[:, 2]
    assert right < 0 < anterior and superior < 0  # to the apex: left, forward, down
    middle = volume.ijk_to_ras @ [*((n - 1) / 2 for n in volume.shape[::-1]), 1]
    np.testing.assert_allclose(middle[:3], 0, atol=1e-9)


def test_anatomy_does_not_depend_on_the_grid():
    fine, coarse = heart_phantom(seed=2), heart_phantom(seed=2, spacing=(8.0, 2.0, 2.0), size=(140, 156))
    for label in (RV, MYOCARDIUM, LV):
        assert ml(coarse, label) == pytest.approx(ml(fine, label), rel=0.05)


def test_cine_phases():
    diastole, systole = cine_phantom(**SMALL)
    np.testing.assert_array_equal(systole.labels, heart_phantom(END_SYSTOLE_PHASE, **SMALL).labels)
    assert ml(systole, LV) < 0.7 * ml(diastole, LV)
    five = cine_phantom(5, seed=3, **SMALL)
    assert len(five) == 5
    np.testing.assert_array_equal(five[1].volume.array, heart_phantom(0.2, seed=3, **SMALL).volume.array)
    with pytest.raises(ValueError, match="at least one"):
        cine_phantom(0)
