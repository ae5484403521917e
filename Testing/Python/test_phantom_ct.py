"""The phantom abdomen: its anatomy, its truth, and that its image shows what the truth says."""

from __future__ import annotations

import numpy as np
import pytest
from phantom_cases import SMALL_ABDOMEN, write_abdomens
from scipy import ndimage

from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import check_voxels
from dinsegment.inference.body import find_body
from dinsegment.phantom.ct import CTPhantom, abdomen_phantom
from dinsegment.phantom.ct_patient import (
    AORTA,
    GALLBLADDER,
    LEFT_KIDNEY,
    LIVER,
    PANCREAS,
    RIGHT_KIDNEY,
    SPLEEN,
    STOMACH,
)
from dinsegment.phantom.ct_shapes import Canvas, smooth_path
from dinsegment.tasks import ABDOMEN

pytestmark = pytest.mark.usefixtures("phantoms_anew")

SEEDS = range(3)
COARSE = {"slices": 60, "size": (80, 112), "spacing": (5.0, 3.5, 3.5)}
ADULT_ML = {
    AORTA: (40, 130),
    GALLBLADDER: (12, 60),
    LEFT_KIDNEY: (110, 240),
    RIGHT_KIDNEY: (110, 240),
    LIVER: (1100, 2100),
    PANCREAS: (45, 125),
    SPLEEN: (90, 320),
    STOMACH: (150, 800),
}
PORTAL_VENOUS_HU = {
    AORTA: (120, 180),
    GALLBLADDER: (0, 25),
    LEFT_KIDNEY: (140, 220),
    RIGHT_KIDNEY: (140, 220),
    LIVER: (85, 125),
    PANCREAS: (75, 115),
    SPLEEN: (100, 135),
}


@pytest.fixture(scope="module")
def abdomens() -> list[CTPhantom]:
    return [abdomen_phantom(seed=seed, **COARSE) for seed in SEEDS]


def ml(phantom: CTPhantom, label: int) -> float:
    return np.count_nonzero(phantom.labels == label) * phantom.volume.voxel_volume_ml


def middle(phantom: CTPhantom, mask: np.ndarray) -> np.ndarray:
    """Centre (right, anterior, superior) in mm."""
    k, j, i = np.argwhere(mask).mean(axis=0)
    return (phantom.volume.ijk_to_ras @ (i, j, k, 1))[:3]


def body_of(phantom: CTPhantom) -> np.ndarray:
    """What the skin encloses, without the table: of all pieces of tissue the largest, in every slice filled."""
    components, _ = ndimage.label(phantom.volume.array > -400)
    body = components == np.bincount(components.ravel())[1:].argmax() + 1
    return np.stack([ndimage.binary_fill_holes(one) for one in body])


def test_labels_are_those_of_the_abdomen_task():
    labels = (AORTA, GALLBLADDER, LEFT_KIDNEY, RIGHT_KIDNEY, LIVER, PANCREAS, SPLEEN, STOMACH)
    names = ("Aorta", "Gallbladder", "Left kidney", "Right kidney", "Liver", "Pancreas", "Spleen", "Stomach")
    assert [(s.label, s.name) for s in ABDOMEN.segments] == list(zip(labels, names, strict=True))


def test_organs_are_as_large_as_an_adults(abdomens):
    for seed, phantom in enumerate(abdomens):
        for label, (low, high) in ADULT_ML.items():
            assert low <= ml(phantom, label) <= high, (seed, label)


def test_every_organ_is_one_piece(abdomens):
    for seed, phantom in enumerate(abdomens):
        for label in ADULT_ML:
            components, count = ndimage.label(phantom.labels == label, np.ones((3, 3, 3)))
            sizes = np.bincount(components.ravel())[1:]
            assert sizes.max() / sizes.sum() > 0.97, (seed, label, count)


def test_organs_have_the_density_of_the_portal_venous_phase(abdomens):
    for seed, phantom in enumerate(abdomens):
        for label, (low, high) in PORTAL_VENOUS_HU.items():
            organ = ndimage.binary_erosion(phantom.labels == label)
            assert low <= np.median(phantom.volume.array[organ]) <= high, (seed, label)
        stomach = phantom.volume.array[ndimage.binary_erosion(phantom.labels == STOMACH)]
        assert stomach.min() < -800 and 10 < np.median(stomach) < 60  # gas over fluid


def test_the_stomachs_gas_is_in_front_of_its_fluid(abdomens):
    for phantom in abdomens:
        inside = ndimage.binary_erosion(phantom.labels == STOMACH)
        gas, fluid = inside & (phantom.volume.array < -500), inside & (phantom.volume.array > 0)
        assert middle(phantom, gas)[1] > middle(phantom, fluid)[1] + 10


def test_organs_lie_in_the_body_and_not_at_its_skin(abdomens):
    for phantom in abdomens:
        body = body_of(phantom)
        assert 0.2 < body.mean() < 0.7
        deep = np.stack([ndimage.binary_erosion(one, iterations=3) for one in body])  # a centimetre
        assert not (phantom.labels[~deep] > 0).any()


def test_organs_are_on_their_sides(abdomens):
    for phantom in abdomens:
        place = {label: middle(phantom, phantom.labels == label) for label in ADULT_ML}
        right, left = (RIGHT_KIDNEY, LIVER, GALLBLADDER), (LEFT_KIDNEY, SPLEEN, STOMACH)
        spine = middle(phantom, phantom.volume.array > 350)
        assert all(place[label][0] > spine[0] + 20 for label in right)
        assert all(place[label][0] < spine[0] - 20 for label in left)
        assert all(place[label][1] > spine[1] + 15 for label in (AORTA, PANCREAS, LIVER, STOMACH))  # spine behind
        assert place[LEFT_KIDNEY][1] < place[PANCREAS][1] < place[STOMACH][1]
        assert place[GALLBLADDER][2] < place[LIVER][2]
        assert abs(place[AORTA][0] - spine[0]) < 30
        table = (phantom.volume.array > -960) & ~ndimage.binary_dilation(body_of(phantom), iterations=2)
        assert middle(phantom, table)[1] < spine[1] - 50


def test_axes_are_those_of_an_axial_scan(abdomens):
    volume = abdomens[0].volume
    np.testing.assert_allclose(np.diag(volume.ijk_to_ras)[:3], (-3.5, -3.5, 5.0))
    stack = SliceStack.axial(volume)
    assert (stack.axis, stack.transposed, stack.flipped) == (0, False, (False, False, False))


def test_lungs_are_above_and_hip_bones_below(abdomens):
    for phantom in abdomens:
        body, array = body_of(phantom), phantom.volume.array
        lung = (array < -700) & (array > -950) & body
        bone = (array > 300).sum(axis=(1, 2))
        assert lung[-4:].sum() > 0.3 * body[-4:].sum()
        assert lung[:30].sum() < 0.02 * body[:30].sum()  # bowel gas
        half = array.shape[2] // 2
        beside = [(array[k, :, [*range(half - 12), *range(half + 12, 2 * half)]] > 300).sum() for k in (3, 22)]
        assert beside[0] > 3 * beside[1]  # hip bones; between them and the ribs there is only the spine
        assert bone.min() > 0


def test_the_body_is_found_without_the_table(abdomens):
    for phantom in abdomens:
        tissue = ndimage.uniform_filter(phantom.volume.array, (1, 2, 2)) > -113  # as an overview shows it
        (y, x), (height, width) = find_body(tissue, tuple(phantom.volume.spacing))
        rows, columns = np.nonzero(body_of(phantom).any(axis=0))
        centre = [3.5 * (side.min() + side.max()) / 2 for side in (rows, columns)]
        np.testing.assert_allclose((y, x), centre, atol=12)
        assert (height, width) == pytest.approx((3.5 * np.ptp(rows), 3.5 * np.ptp(columns)), abs=25)


def test_truth_fits_the_image(abdomens):
    """Moved by a few millimetres, the liver and the kidneys agree with the image less."""
    for phantom in abdomens:
        array, labels = phantom.volume.array.clip(-125, 275), phantom.labels

        def spread(shift, array=array, labels=labels):
            moved = np.roll(labels, shift, axis=(0, 1, 2))
            return sum(array[moved == label].std() for label in (LIVER, LEFT_KIDNEY, RIGHT_KIDNEY, SPLEEN))

        here = spread((0, 0, 0))
        for axis in range(3):
            assert all(here < spread(tuple(np.eye(3, dtype=int)[axis] * step)) for step in (-2, 2))


def test_same_seed_same_voxels():
    first, second = (abdomen_phantom(seed=5, **SMALL_ABDOMEN) for _ in range(2))
    np.testing.assert_array_equal(first.volume.array, second.volume.array)
    np.testing.assert_array_equal(first.labels, second.labels)


def test_seeds_are_different_patients(abdomens):
    for label in (LIVER, SPLEEN, STOMACH, LEFT_KIDNEY):
        volumes = [ml(phantom, label) for phantom in abdomens]
        assert np.ptp(volumes) > 0.02 * np.mean(volumes), label
    widths = [body_of(phantom).any(axis=(0, 1)).sum() for phantom in abdomens]
    assert max(widths) > min(widths)


def test_the_grid_leaves_the_anatomy_where_it_is():
    usual = abdomen_phantom(seed=1, **COARSE)
    finer = abdomen_phantom(seed=1, slices=100, size=(120, 150), spacing=(3.0, 2.5, 2.5))
    for label in ADULT_ML:
        assert ml(finer, label) == pytest.approx(ml(usual, label), rel=0.08), label
        places = [middle(one, one.labels == label) for one in (usual, finer)]
        np.testing.assert_allclose(places[0], places[1], atol=2.0)


def test_a_smaller_field_of_view_cuts_the_same_patient():
    whole = abdomen_phantom(seed=2, noise=0, **COARSE)
    part = abdomen_phantom(seed=2, noise=0, **{**COARSE, "slices": 20, "size": (60, 90)})
    window = np.s_[20:40, 10:70, 11:101]
    np.testing.assert_array_equal(part.labels, whole.labels[window])
    np.testing.assert_allclose(part.volume.array, whole.volume.array[window], atol=1)
    np.testing.assert_allclose(
        part.volume.ijk_to_ras @ (0, 0, 0, 1), whole.volume.ijk_to_ras @ (11, 10, 20, 1), atol=1e-4
    )


@pytest.mark.parametrize("noise", (5.0, 12.0))
def test_noise_is_as_strong_as_asked_for_and_has_a_grain(noise):
    grid = {"slices": 6, "size": (100, 120), "spacing": (3.0, 1.0, 1.0)}
    noisy, clean = (abdomen_phantom(noise=level, **grid).volume.array for level in (noise, 0.0))
    difference = (noisy - clean)[clean > -900]
    assert difference.std() == pytest.approx(noise, rel=0.1)
    assert abs(difference.mean()) < 0.5
    pairs = (noisy - clean)[:, :, :-1].ravel(), (noisy - clean)[:, :, 1:].ravel()
    assert 0.3 < np.corrcoef(*pairs)[0, 1] < 0.9


def test_phantom_is_a_usable_volume(abdomens):
    volume, labels = abdomens[0].volume, abdomens[0].labels
    check_voxels(volume)
    assert volume.shape == labels.shape == (60, 80, 112)
    assert (volume.modality, labels.dtype) == ("CT", np.uint8)
    np.testing.assert_array_equal(volume.array, np.round(volume.array))
    assert -1024 <= volume.array.min() < -900 and 400 < volume.array.max() < 1500


def test_a_tube_has_its_radius_and_shares_its_border():
    axes = tuple(np.arange(-n, n, 1.5, dtype=np.float32) for n in (30, 24, 24))
    z, y, x = np.meshgrid(*axes, indexing="ij")
    nothing = np.zeros_like(x)
    canvas = Canvas(axes, x, y, z, nothing, nothing, nothing.copy(), np.zeros(x.shape, np.uint8), 1.5)
    part = canvas.box((-9, -9, -60), (9, 9, 60))
    part.paint(part.tube([(0, 0, -60), (0, 0, 60)], (9, 9)), 1.0, label=3)
    assert canvas.grey.sum() * 1.5**3 == pytest.approx(np.pi * 81 * 60, rel=0.02)
    assert (canvas.labels == 3).sum() * 1.5**3 == pytest.approx(np.pi * 81 * 60, rel=0.05)
    assert ((canvas.grey > 0.02) & (canvas.grey < 0.98)).any()


def test_a_path_goes_through_its_points():
    points = np.array([(0.0, 0, 0), (20, 10, 0), (25, 40, 10)])
    places, radii = smooth_path(points, (1, 2, 4))
    for point, radius in zip(points, (1, 2, 4), strict=True):
        near = np.linalg.norm(places - point, axis=1)
        assert near.min() < 1e-9 and radii[near.argmin()] == pytest.approx(radius)
    assert np.linalg.norm(np.diff(places, axis=0), axis=1).max() < 12


def test_cases_on_disk_are_read_with_the_labels_of_the_task(tmp_path):
    case = write_abdomens(tmp_path, 1, first=7)[0]
    volume, labels = case.read(ABDOMEN)
    truth = abdomen_phantom(seed=7, **SMALL_ABDOMEN)
    np.testing.assert_array_equal(labels, truth.labels)
    np.testing.assert_array_equal(volume.array, truth.volume.array)
    assert case.patient == "0007"
