"""Abdominal CT from the Volume to its labels, and from a labelled case to what training draws from.

A network with random weights shows that it works for whatever a user has; the shipped model, that it finds organs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from remembered import remembered
from scipy.ndimage import map_coordinates
from test_axial import ORIENTATIONS, restored, rotated, stored
from test_body import AIR, CT, ct

from dinsegment.errors import Cancelled, InputError, ModelError
from dinsegment.images import read_volume, write_volume
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume
from dinsegment.inference import segment
from dinsegment.inference.anatomy import box_around_body
from dinsegment.inference.looking import look
from dinsegment.inference.model import Model, load_model
from dinsegment.inference.postprocessing import postprocess
from dinsegment.inference.prediction import predict
from dinsegment.inference.runner import Runner
from dinsegment.inference.view import View
from dinsegment.models.entries import read_entries
from dinsegment.network import DIN, DINConfig
from dinsegment.network.rewriting import for_inference
from dinsegment.phantom.heart import heart_phantom
from dinsegment.tasks import ABDOMEN, HEART
from dinsegment.training.augmentation import Augmentation
from dinsegment.training.cases import find_cases, read_split
from dinsegment.training.dataset import prepare
from dinsegment.training.metrics import dice
from dinsegment.training.pack import read_pack, write_pack

COARSE = replace(CT, spacing=12.0, box=(32, 48), overview_spacing=12.0, slice_spacing=8.0)
"""As CT, at a resolution that a test can afford."""

TINY = DINConfig(
    dims=(8, 8, 16, 16),
    depths=(1, 1, 1, 1),
    stem_stride=2,
    layer_scale=0.5,
    heads=(1, 1, 1, 1),
    window=4,
    merge_kernel=1,
    expand_kernel=1,
    decoder_dim=16,
    decoder_layers=1,
    classes=ABDOMEN.classes,
    in_channels=3,
)
LABELS = {0} | {s.label for s in ABDOMEN.segments}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def untrained():
    """A model with random weights whose classes all come about equally often."""
    torch.manual_seed(0)
    network = DIN(TINY).eval()
    stack = SliceStack.in_plane(spotted(), COARSE.plane)
    with torch.no_grad():
        logits = network(*COARSE.slices(box_around_body(COARSE, stack), 3).inputs(slice(None))).transpose(0, 1)
        mean, deviation = logits.flatten(1).mean(1), logits.flatten(1).std(1)
        last = network.decoder.classify
        last.weight /= deviation[:, None, None, None]
        last.bias.copy_((last.bias - mean) / deviation)
    return Model("random", "abdomen", for_inference(network), COARSE)


def labels_of(model, volume):
    """Labels (k, j, i) as `segment` finds them."""
    return predict(Runner(model.network, torch.device("cpu")), model.preprocessing, volume, ABDOMEN)


def spotted(shape=(7, 30, 36), spacing=(9.0, 13.0, 14.0), seed=0):
    """A trunk with spots that differ everywhere."""
    volume = ct(shape, spacing, seed=seed)
    random = np.random.default_rng(seed)
    coarse = random.normal(0, 150, [-(-n // 3) for n in shape])
    spots = coarse.repeat(3, 0).repeat(3, 1).repeat(3, 2)[tuple(map(slice, shape))]
    return volume.with_array(np.where(volume.array > -113, volume.array + spots, volume.array))


# --- however the image is stored ------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(untrained):
    volume = spotted()
    labels = labels_of(untrained, volume)
    assert len(np.unique(labels)) >= 4  # otherwise equal labels would show nothing
    return volume, labels


@pytest.mark.parametrize("order", sorted({order for order, _ in ORIENTATIONS}), ids=str)
def test_however_an_image_is_stored_its_labels_are_the_same(order, plain, untrained):
    volume, expected = plain
    for flips in (flips for o, flips in ORIENTATIONS if o == order):
        labels = labels_of(untrained, stored(volume, order, flips))
        np.testing.assert_array_equal(restored(labels, order, flips), expected)


def test_labels_lie_where_the_network_saw_what_they_are_of(plain, untrained):
    """Brought back here by looking up the probabilities at the place of every voxel."""
    volume, labels = plain
    preprocessing = untrained.preprocessing
    stack = SliceStack.in_plane(volume, preprocessing.plane)
    box = box_around_body(preprocessing, stack)
    runner = Runner(untrained.network, torch.device("cpu"))
    seen = torch.cat(list(look(runner, preprocessing, box, "", 0, 1))).numpy()
    middle = (np.array(volume.shape) - 1) / 2 * volume.spacing  # of the slices; of rows and columns the box says it
    centers = np.array((middle[0], *box.center))
    steps = np.array((box.slice_spacing, box.spacing, box.spacing))
    last = (np.array((len(seen), *box.size)) - 1) / 2
    places = np.indices(volume.shape).reshape(3, -1).T * volume.spacing
    index = ((places - centers) / steps + last).T
    looked_up = [map_coordinates(p, index, order=1, mode="nearest") for p in seen.swapaxes(0, 1)]
    expected = postprocess(np.argmax(looked_up, axis=0).reshape(volume.shape).astype(np.uint8), ABDOMEN, stack)
    assert (labels == expected).mean() > 0.9
    for axis in range(3):
        assert (np.flip(labels, axis) == expected).mean() < 0.7


def test_an_oblique_image_is_seen_along_its_closest_axes(plain, untrained):
    volume, expected = plain
    np.testing.assert_array_equal(labels_of(untrained, rotated(volume, 25, (1, 2, 3))), expected)


def test_a_mirrored_patient_is_not_taken_for_the_same(plain, untrained):
    """An affine that is mirrored without its voxels shows the organs of the other side."""
    volume, expected = plain
    mirrored = replace(volume, ijk_to_ras=np.diag([-1.0, 1, 1, 1]) @ volume.ijk_to_ras)
    labels = labels_of(untrained, mirrored)
    assert (labels != expected).any()
    np.testing.assert_array_equal(labels, labels_of(untrained, volume.with_array(volume.array[:, :, ::-1]))[:, :, ::-1])


def test_hounsfield_units_beyond_the_window_make_no_difference(plain, untrained):
    volume, expected = plain
    stretched = np.where(volume.array < -125, -3024, volume.array)
    stretched = np.where(stretched > 275, 30000, stretched)
    for array in (stretched, volume.array.clip(-125, 275)):
        np.testing.assert_array_equal(labels_of(untrained, volume.with_array(array)), expected)


# --- whatever a user has --------------------------------------------------------------------------

GRIDS = {
    "chest, abdomen and pelvis": ((80, 24, 30), (9.0, 16.0, 16.0)),
    "three slices": ((3, 40, 50), (5.0, 10.0, 10.0)),
    "one slice": ((1, 40, 50), (5.0, 10.0, 10.0)),
    "thick slices": ((5, 40, 50), (20.0, 10.0, 10.0)),
    "thin slices": ((40, 24, 30), (0.5, 16.0, 16.0)),
    "coronal slices": ((30, 8, 40), (10.0, 40.0, 12.0)),
    "sagittal slices": ((30, 36, 10), (10.0, 10.0, 45.0)),
    "one sagittal slice": ((30, 36, 1), (10.0, 10.0, 5.0)),
    "one coronal slice": ((30, 1, 36), (10.0, 5.0, 10.0)),
    "a field of view smaller than the box": ((4, 25, 27), (6.0, 4.0, 4.0)),
    "unequal pixels": ((4, 100, 30), (7.3, 4.1, 15.7)),
    "a large matrix": ((2, 1024, 1024), (1.0, 0.45, 0.45)),
    "a large patient": ((3, 40, 50), (8.0, 16.0, 16.0)),
}


@pytest.mark.parametrize(("shape", "spacing"), GRIDS.values(), ids=GRIDS)
def test_every_grid_has_labels(shape, spacing, untrained):
    half = (300.0, 380.0) if spacing == (8.0, 16.0, 16.0) else (110.0, 165.0)
    volume = stored(ct(shape, spacing, half), (0, 1, 2), (True, False, True))
    result = segment(volume, ABDOMEN, untrained, "cpu")
    assert result.labels.shape == volume.shape and result.labels.dtype == np.uint8
    assert set(np.unique(result.labels)) <= LABELS
    assert result.labels.any() or min(shape[1:]) == 1
    assert result.enhanced.shape == volume.shape and np.isfinite(result.enhanced.array).all()


def of_values(array, modality=None):
    return Volume(array, np.diag([-12.0, -12.0, 8.0, 1.0]), "image", modality)


def test_images_of_nothing_are_no_error(untrained):
    noise = np.random.default_rng(1).normal(0, 15, (4, 30, 36))
    y, x = np.mgrid[:30, :36]
    water = np.where((y - 15) ** 2 + (x - 18) ** 2 < 80, 0.0, AIR)
    for array in (AIR + noise, water + noise, 0.01 * noise, 5e4 * (noise > 0)):
        result = segment(of_values(array), ABDOMEN, untrained, "cpu")
        assert set(np.unique(result.labels)) <= LABELS and np.isfinite(result.enhanced.array).all()


def test_a_heart_mr_runs_with_a_warning(untrained):
    volume = heart_phantom(slices=3, size=(60, 70), spacing=(10.0, 4.5, 4.5)).volume
    result = segment(volume, ABDOMEN, untrained, "cpu")
    assert result.labels.shape == volume.shape
    assert any("looks like MR" in warning for warning in result.warnings)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_voxels_that_are_no_numbers_are_refused(bad, untrained):
    array = spotted().array.copy()
    array[1, 2, 3] = bad
    with pytest.raises(InputError, match="1 voxels that are NaN or infinite"):
        segment(of_values(array), ABDOMEN, untrained, "cpu")


def test_real_slices_with_rescaled_pixels_have_labels(dcmqi_folder, untrained):
    """512 x 512 pixels, stored as 16 bit integers from which the header makes Hounsfield units."""
    volume = read_volume(next(p for p in sorted(dcmqi_folder.glob("*.dcm")) if "SEG" not in p.name).parent)
    assert volume.shape[1:] == (512, 512) and volume.modality == "CT" and volume.array.min() <= -1000
    result = segment(volume, ABDOMEN, untrained, "cpu")
    assert result.labels.shape == volume.shape and result.labels.any()


def test_progress_rises_from_zero_to_one(untrained):
    seen = []
    segment(spotted(), ABDOMEN, untrained, "cpu", progress=lambda fraction, text: seen.append((fraction, text)))
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions) and (fractions[0], fractions[-1]) == (0.0, 1.0)
    steps = {text.split(":")[0] for _, text in seen}
    assert {"Finding the body", "Segmenting", "Correcting the labels by what is known of the anatomy"} <= steps


@pytest.mark.parametrize("step", ["Finding the body", "Segmenting", "Correcting"])
def test_cancel_is_heard_at_every_step(step, untrained):
    texts = [""]
    with pytest.raises(Cancelled):
        predict(
            Runner(
                untrained.network,
                torch.device("cpu"),
                lambda _, text: texts.append(text),
                lambda: texts[-1].startswith(step),
            ),
            untrained.preprocessing,
            spotted(),
            ABDOMEN,
        )
    assert texts[-1].startswith(step)


# --- what training draws from ---------------------------------------------------------------------

BTCV_NUMBERS = {"SP": 1, "KR": 2, "KL": 3, "GB": 4, "Liver": 6, "SM": 7, "Aorta": 8, "PC": 11}
ORGANS = {  # centre (y, x) and half size (y, x) in mm, x to the patient's left
    "Liver": ((-10, -80), (60, 55)),
    "SP": ((30, 110), (35, 25)),
    "KR": ((60, -45), (22, 20)),
    "KL": ((60, 45), (22, 20)),
    "SM": ((-40, 50), (30, 35)),
    "PC": ((0, 15), (10, 25)),
    "Aorta": ((35, 8), (9, 9)),
    "GB": ((-70, -30), (14, 12)),
}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A CT with eight organs in BTCV's layout, its voxels along Left, Anterior and Superior."""
    volume = ct((9, 80, 100), (5.0, 4.0, 4.0), center=(12.0, -20.0))
    y, x = ((np.arange(n) - (n - 1) / 2) * 4.0 - c for n, c in zip((80, 100), (12.0, -20.0), strict=True))
    labels, image = np.zeros(volume.shape), volume.array.copy()
    for name, (middle, half) in ORGANS.items():
        inside = ((y[:, None] - middle[0]) / half[0]) ** 2 + ((x - middle[1]) / half[1]) ** 2 < 1
        labels[1:-1, inside] = BTCV_NUMBERS[name]
        image[1:-1, inside] += 15.0 * BTCV_NUMBERS[name]
    folder = tmp_path_factory.mktemp("btcv")
    for array, name in ((image, "img0001.nii.gz"), (labels, "label0001.nii.gz")):
        written = stored(volume.with_array(array), (0, 1, 2), (False, True, False))
        write_volume(written, folder / name, np.int16)
    return find_cases(folder, None, ABDOMEN)[0]


PREPARED = replace(CT, spacing=4.5, box=(64, 80), slice_spacing=4.0)


def crop_of_both(case, preprocessing):
    """Grey values and soft masks as prepared, and as inference samples them in the same rectangle."""
    volume, labels = case.read(ABDOMEN)
    stack, prepared = SliceStack.in_plane(volume, preprocessing.plane), prepare(case, ABDOMEN, preprocessing)
    size = prepared.image.shape[1:]
    first = np.maximum(0, (np.array(size) - preprocessing.box) // 2)
    rows, columns = (slice(f, f + n) for f, n in zip(first, preprocessing.box, strict=True))
    spacing = preprocessing.spacing
    corner = (stack.extent_mm - stack.spacing) / 2 - 0.5 * (np.array(size) - 1) * spacing
    middle = corner + (first + 0.5 * (np.minimum(preprocessing.box, size) - 1)) * spacing
    shape = tuple(int(n) for n in np.minimum(preprocessing.box, size))
    view = View(stack, (float(middle[0]), float(middle[1])), shape, spacing, preprocessing.slice_spacing)
    low, high = preprocessing.grey_window
    grey = prepared.image[:, rows, columns].float() * (high - low) + low
    masks = prepared.masks[:, :, rows, columns].float() / 255
    truth = stack.like(labels)
    sampled = [view.on(replace(truth, array=truth.array == s.label)).sample()[0] for s in ABDOMEN.segments]
    return (grey, masks), (view.sample(clip=preprocessing.grey_window)[0], torch.stack(sampled, 1))


def test_training_sees_the_grey_values_that_inference_sees(case):
    (grey, masks), (expected, truth) = crop_of_both(case, PREPARED)
    assert grey.shape == expected.shape and grey.std() > 50
    torch.testing.assert_close(grey, expected, rtol=0, atol=0.3)  # half precision of a window 400 HU wide
    torch.testing.assert_close(masks, truth, rtol=0, atol=0.5 / 255 + 1e-4)


def test_masks_of_a_prepared_case_are_soft_and_hold_the_organs_volume(case):
    volume, labels = case.read(ABDOMEN)
    stack = prepare(case, ABDOMEN, PREPARED)
    voxel = PREPARED.slice_spacing * PREPARED.spacing**2 / 1000
    assert stack.slice_spacing == PREPARED.slice_spacing and stack.spacing == PREPARED.spacing
    assert len(stack.image) == 12  # 9 slices of 5 mm
    for segment_ in ABDOMEN.segments:
        mask = stack.masks[:, segment_.label - 1].float() / 255
        expected = (labels == segment_.label).sum() * volume.voxel_volume_ml
        assert expected > 5 and float(mask.sum()) * voxel == pytest.approx(expected, rel=0.06)
        assert ((mask > 0.1) & (mask < 0.9)).any()
    assert stack.overview_window == (0.0, 1.0)
    assert stack.image.min() == 0 and stack.image.max() <= 1.001


def test_training_looks_where_inference_looks(case):
    """Without augmentation: the same box around the body, and the same slices in it with their neighbours."""
    off = Augmentation(*[0.0] * 6, (0.0, 0.0), 0.0, 0.0, (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), 0.0, 0.0, 0.0)
    volume, _ = case.read(ABDOMEN)
    stack = SliceStack.in_plane(volume, PREPARED.plane)
    seen = PREPARED.slices(box_around_body(PREPARED, stack), 3)
    prepared = prepare(case, ABDOMEN, PREPARED)
    assert seen.view.size == PREPARED.box and len(prepared.image) == len(seen)
    for k in (0, 5, 11):
        image, labels = off(prepared, k, PREPARED, torch.Generator().manual_seed(0), 3)
        expected = seen.inputs(slice(k, k + 1))[0][0]
        assert image.shape == expected.shape and labels.shape == PREPARED.box
        torch.testing.assert_close((image < -0.999).all((1, 2)), (expected < -0.999).all((1, 2)))
        # Training interpolates twice.
        assert (image - expected).abs().mean() < 0.4 * (image - expected.roll(2, 2)).abs().mean()
    assert {int(n) for n in prepared.labels.unique()} == LABELS


def test_a_packed_ct_is_a_volume_of_hounsfield_units(case, tmp_path):
    write_pack([case], [], ABDOMEN, PREPARED, tmp_path / "pack")
    pack = read_pack(tmp_path / "pack")
    volume, labels = pack.train[0].read(ABDOMEN)
    stack = prepare(case, ABDOMEN, PREPARED)
    np.testing.assert_allclose(volume.spacing, (4.0, 4.5, 4.5))
    np.testing.assert_array_equal(labels, stack.labels)
    assert volume.array.min() == pytest.approx(-125, abs=3) and 250 < volume.array.max() < 278
    np.testing.assert_allclose(volume.array, stack.image.float() * 400 - 125, atol=400 * 1.6 / 255)
    # Its axial slices are those that were packed, and what is looked at stays the same.
    seen = SliceStack.in_plane(volume, PREPARED.plane)
    np.testing.assert_array_equal(seen.array, volume.array)
    unpacked = SliceStack.in_plane(case.read(ABDOMEN)[0], PREPARED.plane)
    box, original = (box_around_body(PREPARED, one) for one in (seen, unpacked))
    assert box.size == original.size and box.count == len(volume.array)
    shift = np.subtract(box.center, original.center) - (np.array((80, 100)) * 4 - np.array(volume.shape[1:]) * 4.5) / 2
    assert np.abs(shift).max() < 8


@pytest.mark.parametrize(
    ("name", "value"),
    [("slice_spacing", 5.0), ("grey_window", (-100.0, 240.0)), ("plane", "acquired"), ("box", (64, 96))],
)
def test_a_pack_of_another_window_or_grid_is_refused(case, tmp_path, name, value):
    write_pack([case], [], ABDOMEN, PREPARED, tmp_path / "pack")
    pack = read_pack(tmp_path / "pack")
    pack.check(ABDOMEN, PREPARED)
    with pytest.raises(InputError, match=f"with {name} "):
        pack.check(ABDOMEN, replace(PREPARED, **{name: value}))


# --- the model that is shipped --------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    if not any(entry.task == ABDOMEN.name for entry in read_entries()):
        pytest.skip("weights.json has no model for the abdomen.")
    return remembered(load_model(None, ABDOMEN))


@pytest.fixture(scope="module")
def real(btcv_folder):
    """60 mm of a training patient with all eight organs, and the experts' labels."""
    case = find_cases(btcv_folder, read_split(btcv_folder / "split-train.txt")[:1], ABDOMEN)[0]
    volume, labels = case.read(ABDOMEN)
    organs = [np.flatnonzero((labels == s.label).any((1, 2))) for s in ABDOMEN.segments]
    low, high = max(o[0] for o in organs), min(o[-1] for o in organs)
    half = round(30 / volume.spacing[0])
    part = slice(max(0, (low + high) // 2 - half), (low + high) // 2 + half)
    matrix = volume.ijk_to_ras.copy()
    matrix[:3, 3] += matrix[:3, 2] * part.start
    return replace(volume, array=volume.array[part], ijk_to_ras=matrix), labels[part]


@pytest.fixture(scope="module")
def found(model, real):
    return labels_of(model, real[0])


def scores(labels, truth):
    return {s.abbreviation: dice(labels, truth, s.label) for s in ABDOMEN.segments}


def test_finds_the_organs_of_a_patient_it_learned_from(found, real):
    score = scores(found, real[1])
    assert min(score[name] for name in ("Liver", "SP", "KL", "KR")) > 0.7 and np.mean(list(score.values())) > 0.6, score


def test_a_model_finds_the_same_however_the_image_is_stored(found, real, model):
    for order, flips in (ORIENTATIONS[13], ORIENTATIONS[46]):
        labels = labels_of(model, stored(real[0], order, flips))
        np.testing.assert_array_equal(restored(labels, order, flips), found)


def test_every_way_to_store_a_real_image_shows_the_network_the_same(model, real):
    preprocessing, volume = model.preprocessing, real[0]
    few = replace(volume, array=volume.array[:4])

    def seen(volume):
        stack = SliceStack.in_plane(volume, preprocessing.plane)
        return preprocessing.slices(box_around_body(preprocessing, stack)).image

    expected = seen(few)
    assert expected.std() > 0.3
    for orientation in ORIENTATIONS:
        assert torch.equal(seen(stored(few, *orientation)), expected), orientation


def middle(labels, label, volume):
    """Where a segment is in the patient: right, anterior, superior in mm."""
    index = np.argwhere(labels == label).mean(axis=0)[::-1]
    return (volume.ijk_to_ras @ [*index, 1])[:3]


def test_kidneys_lie_on_their_sides_whatever_the_affine_says(found, real, model):
    """Also in a patient whose image was mirrored, whose liver then lies on the left."""
    mirrored = replace(real[0], ijk_to_ras=np.diag([-1.0, 1, 1, 1]) @ real[0].ijk_to_ras)
    left, right = ABDOMEN.pairs[0]
    for labels, volume in ((found, real[0]), (labels_of(model, mirrored), mirrored)):
        assert (labels == left).any() and (labels == right).any()
        assert middle(labels, left, volume)[0] < middle(labels, right, volume)[0]


def test_more_air_around_the_patient_changes_little(found, real, model):
    volume = real[0]
    width = ((0, 0), (20, 45), (60, 10))
    array = np.pad(volume.array, width, constant_values=-1024.0)
    labels = labels_of(model, replace(volume, array=array))[:, 20:-45, 60:-10]
    score = scores(labels, found)
    assert np.mean(list(score.values())) > 0.93, score


def test_a_heart_model_is_not_taken_for_the_abdomen():
    with pytest.raises(ModelError, match="trained for the task 'heart', not 'abdomen'"):
        segment(spotted(), ABDOMEN, load_model(None, HEART), "cpu")
