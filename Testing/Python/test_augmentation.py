"""Augmentation: labels stay on their image, and without it training sees what inference sees."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from phantom_cases import write_patients
from scipy import ndimage

from dinsegment.images import write_volume
from dinsegment.images.slices import SliceStack
from dinsegment.inference.anatomy import box_around, overview_of
from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.inference.view import decide
from dinsegment.tasks import HEART
from dinsegment.training.augmentation import Augmentation
from dinsegment.training.cases import find_cases, read_split
from dinsegment.training.dataset import TrainingStack, prepare

OFF = Augmentation(**{f.name: (0.0, 0.0) if isinstance(f.default, tuple) else 0.0 for f in fields(Augmentation)})
GEOMETRIC = {
    "overview": 1.0,
    "quarter_turn": 1.0,
    "flip": 1.0,
    "rotation": 20.0,
    "scale": 0.3,
    "shift": 8.0,
    "elastic": (1.0, 3.0),
}
INTENSITY = {"window": 0.1, "gamma": 0.5, "noise": (1.0, 0.1), "blur": (1.0, 3.0), "bias": (1.0, 0.4)}
PREPROCESSING = Preprocessing(spacing=2.0, box=64, overview_spacing=4.0)
each = pytest.mark.parametrize


def generator(seed):
    return torch.Generator().manual_seed(seed)


def augmented(stack, augmentation=OFF, seed=0, k=0, preprocessing=PREPROCESSING):
    image, labels = augmentation(stack, k, preprocessing, generator(seed))
    return image[0], labels


def masks_of(labels):
    """Labels as masks with sharp edges."""
    return torch.stack([255 * (labels == c).to(torch.uint8) for c in (1, 2, 3)], 1)


def drawn_heart():
    """A stack whose image tells the label of every pixel: 0, 1/3, 2/3, 1 for 0 to 3."""
    y, x = torch.meshgrid(torch.arange(110.0), torch.arange(120.0), indexing="ij")
    labels = torch.zeros(1, 110, 120, dtype=torch.uint8)
    labels[0, (y - 52) ** 2 / 1.4 + (x - 66) ** 2 < 27**2] = 2
    labels[0, (y - 52) ** 2 / 1.4 + (x - 66) ** 2 < 14**2] = 3
    labels[0, (y - 60) ** 2 + (x - 26) ** 2 < 14**2] = 1
    return TrainingStack(labels.float().div(3).half(), masks_of(labels), (52.3, 56.8), (0.0, 1.0), 10.0, 2.0)


def textured():
    """A stack with structure everywhere, 0 to 1, and a heart in it."""
    plain = drawn_heart()
    texture = torch.from_numpy(ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(110, 120)), 3))
    image = (0.5 + 0.15 * texture / texture.std()).clamp(0.02, 0.98)
    return replace(plain, image=image[None].half())


def assert_aligned(image, labels, reach=4):
    """The image says the same as the labels, away from the edges between them."""
    one = labels[None, None].float()
    size = 2 * reach + 1
    flat = (F.max_pool2d(one, size, 1) == -F.max_pool2d(-one, size, 1))[0, 0]
    assert flat.float().mean() > 0.2
    inner = (slice(reach, -reach), slice(reach, -reach))
    shown = ((image[inner] + 1) * 1.5).round().long()
    assert torch.equal(shown[flat], labels[inner][flat])


@each("step", [*GEOMETRIC, "crop", "all"])
def test_labels_stay_on_their_image(step):
    steps = {**GEOMETRIC, "overview": 0.3, "crop": 0.5} if step == "all" else {step: {**GEOMETRIC, "crop": 1.0}[step]}
    stack, found = drawn_heart(), set()
    for seed in range(12):
        image, labels = augmented(stack, replace(OFF, **steps), seed)
        assert labels.dtype == torch.int64 and labels.shape == image.shape == (64, 64)
        assert_aligned(image, labels)
        found |= set(labels.unique().tolist())
    assert found == {0, 1, 2, 3}


def test_a_box_that_is_no_square_is_filled_by_every_step():
    stack, wide = drawn_heart(), replace(PREPROCESSING, box=(48, 80))
    plain, truth = augmented(stack, preprocessing=wide)
    assert plain.shape == truth.shape == (48, 80)
    square, labels = augmented(stack, preprocessing=replace(PREPROCESSING, box=(48, 48)))
    assert torch.equal(truth[:, 16:-16], labels)  # the same middle
    torch.testing.assert_close(plain[:, 16:-16], square, rtol=0, atol=1e-5)
    everything = Augmentation(**{**GEOMETRIC, "overview": 0.3}, **INTENSITY, crop=0.5)
    for seed in range(6):
        image, labels = augmented(stack, replace(OFF, **GEOMETRIC | {"overview": 0.3}), seed, preprocessing=wide)
        assert_aligned(image, labels)
        image, labels = augmented(stack, everything, seed, preprocessing=wide)
        assert image.shape == labels.shape == (48, 80) and image.isfinite().all()


@each("step", GEOMETRIC)
def test_each_geometric_step_moves_the_labels(step):
    stack = drawn_heart()
    _, plain = augmented(stack)
    _, labels = augmented(stack, replace(OFF, **{step: GEOMETRIC[step]}))
    assert (labels != plain).float().mean() > 0.01


@each("step", INTENSITY)
def test_each_intensity_step_changes_the_image_and_no_label(step):
    stack = textured()
    plain, truth = augmented(stack)
    for seed in range(4):
        image, labels = augmented(stack, replace(OFF, **{step: INTENSITY[step]}), seed)
        assert torch.equal(labels, truth)
        assert (image - plain).abs().mean() > 0.003


@each("seed", range(3))
def test_a_seed_decides_everything(seed):
    stack, everything = textured(), Augmentation(**{**GEOMETRIC, "overview": 0.3}, **INTENSITY, crop=1.0)
    before = torch.get_rng_state()
    once, again = (augmented(stack, everything, seed) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)  # nothing is drawn from anywhere else
    assert torch.equal(once[0], again[0]) and torch.equal(once[1], again[1])
    other = augmented(stack, everything, seed + 100)
    assert not torch.equal(once[0], other[0])


def test_the_stack_is_not_changed():
    stack, untouched = textured(), textured()
    for seed in range(8):
        augmented(stack, Augmentation(), seed)
    assert torch.equal(stack.image, untouched.image) and torch.equal(stack.masks, untouched.masks)


def test_grey_values_stay_in_the_unit_interval():
    strong = replace(Augmentation(**GEOMETRIC), **INTENSITY, overview=0.3, crop=0.5)
    stack = textured()
    wild = replace(stack, image=(stack.image.float() * 8 - 3).half())  # far beyond the window on both sides
    for seed in range(30):
        image, labels = augmented(wild, strong, seed)
        assert image.isfinite().all() and image.min() >= -1 and image.max() <= 1
        assert set(labels.unique().tolist()) <= {0, 1, 2, 3}


def test_quarter_turns_turn_image_and_labels():
    stack = textured()
    plain, truth = augmented(stack)
    turns = set()
    for seed in range(12):
        image, labels = augmented(stack, replace(OFF, quarter_turn=1.0), seed)
        distances = [float((torch.rot90(plain, n) - image).abs().mean()) for n in range(4)]
        turn = int(np.argmin(distances))
        assert distances[turn] < 1e-3
        assert (torch.rot90(truth, turn) != labels).float().mean() < 0.01
        turns.add(turn)
    assert turns == {1, 2, 3}


def test_flips_mirror_both_axes_independently():
    stack = textured()
    plain, truth = augmented(stack)
    image, labels = augmented(stack, replace(OFF, flip=1.0))
    torch.testing.assert_close(image, plain.flip(0, 1), rtol=0, atol=1e-3)
    assert (labels != truth.flip(0, 1)).float().mean() < 0.01
    seen = set()
    for seed in range(24):
        image, _ = augmented(stack, replace(OFF, flip=0.5), seed)
        mirrored = [plain, plain.flip(0), plain.flip(1), plain.flip(0, 1)]
        seen.add(int(np.argmin([float((m - image).abs().mean()) for m in mirrored])))
    assert seen == {0, 1, 2, 3}


def test_shifts_are_millimetres():
    stack = drawn_heart()

    def middle(labels):
        return torch.nonzero(labels == 3).float().mean(0)

    for spacing in (1.0, 2.0):
        preprocessing = replace(PREPROCESSING, spacing=spacing, box=100)
        plain = middle(augmented(stack, preprocessing=preprocessing)[1])
        moved = [middle(augmented(stack, replace(OFF, shift=4.0), s, 0, preprocessing)[1]) for s in range(60)]
        spread = (torch.stack(moved) - plain) * spacing
        assert float(spread.std()) == pytest.approx(4.0, rel=0.25)


def test_magnification_goes_both_ways():
    stack = drawn_heart()
    plain = int((augmented(stack)[1] == 3).sum())
    areas = [int((augmented(stack, replace(OFF, scale=0.3), s)[1] == 3).sum()) for s in range(40)]
    logarithms = np.log2(np.array(areas) / plain) / 2
    assert logarithms.std() == pytest.approx(0.3, rel=0.3) and abs(logarithms.mean()) < 0.15


@each("step", ["gamma", "window"])
def test_gamma_and_window_keep_the_order_of_grey_values(step):
    stack = textured()
    plain, _ = augmented(stack)
    for seed in range(6):
        image, _ = augmented(stack, replace(OFF, **{step: INTENSITY[step]}), seed)
        rising = image.flatten()[plain.flatten().argsort()]
        assert (rising.diff() >= -1e-6).all()


def test_gamma_keeps_black_and_white():
    stack = drawn_heart()
    plain, truth = augmented(stack)
    image, _ = augmented(stack, replace(OFF, gamma=1.0), 3)
    for value in (-1.0, 1.0):
        torch.testing.assert_close(image[plain == value], plain[plain == value])
    assert (image[truth == 2] - plain[truth == 2]).abs().mean() > 0.05


def roughness(image):
    return float(image.diff(dim=0).square().mean() + image.diff(dim=1).square().mean())


def test_noise_roughens_and_blur_smooths():
    stack = drawn_heart()
    plain, _ = augmented(stack)
    for seed in range(4):
        assert roughness(augmented(stack, replace(OFF, noise=(1.0, 0.2)), seed)[0]) > roughness(plain)
        assert roughness(augmented(stack, replace(OFF, blur=(1.0, 3.0)), seed)[0]) < roughness(plain)


def test_a_bias_field_is_smooth():
    grey = replace(drawn_heart(), image=torch.full((1, 110, 120), 0.3).half())
    plain, _ = augmented(grey)
    image, _ = augmented(grey, replace(OFF, bias=(1.0, 0.3)), 1)
    assert image.std() > 0.02 and plain.std() < 1e-3
    assert image.diff(dim=0).abs().max() < 0.05 and image.diff(dim=1).abs().max() < 0.05


def test_a_cropped_field_of_view_is_black_outside_and_unlabelled():
    stack = replace(drawn_heart(), image=torch.full((1, 110, 120), 0.5).half())
    _, truth = augmented(stack)
    cut = 0
    for seed in range(8):
        image, labels = augmented(stack, replace(OFF, crop=1.0), seed)
        inside = image > -1
        rows, columns = inside.any(1), inside.any(0)
        assert torch.equal(inside, rows[:, None] & columns)  # a rectangle
        assert rows.sum() >= 32 and columns.sum() >= 32
        assert torch.equal(labels, truth * inside)
        cut += int((truth * ~inside).count_nonzero())
    assert cut > 0


def test_beyond_the_field_of_view_it_is_black_even_with_every_step_on():
    stack = replace(drawn_heart(), image=torch.full((1, 110, 120), 0.6).half())
    wide = replace(PREPROCESSING, box=200)  # more than the stack
    for seed in range(4):
        image, labels = augmented(stack, replace(OFF, **INTENSITY), seed, 0, wide)
        rows, columns = (image > -1).any(1), (image > -1).any(0)
        assert 108 <= rows.sum() <= 112 and 118 <= columns.sum() <= 122
        assert not labels[~rows].any() and not labels[:, ~columns].any()


# --- the same as at inference ---------------------------------------------------------------------


def inference_sees(case, preprocessing, overview=False):
    """Image (slices, rows, columns) and labels as `Preprocessing` gives them, around the experts' anatomy."""
    volume, labels = case.read(HEART)
    stack = SliceStack.of(volume)
    truth = np.moveaxis(labels, stack.axis, 0)
    center = [np.mean(x) * s for x, s in zip(np.nonzero(truth)[1:], stack.spacing, strict=True)]
    whole, box = overview_of(preprocessing, stack), box_around(preprocessing, stack, tuple(map(float, center)))
    view = whole if overview else box
    masks = [SliceStack((truth == s.label).astype(np.float32), stack.spacing, 0) for s in HEART.segments]
    return preprocessing.slices(view).image, decide(torch.stack([view.on(m).sample()[0] for m in masks]))


def training_sees(case, preprocessing, augmentation=OFF):
    stack = prepare(case, HEART, preprocessing)
    seen = [augmented(stack, augmentation, k=k, preprocessing=preprocessing) for k in range(len(stack.image))]
    return tuple(torch.stack(x) for x in zip(*seen, strict=True))


def assert_the_same(seen, expected, tolerance):
    """Images differ by no more, labels only along edges, both by more if moved by a pixel anywhere."""
    (image, labels), (other, truth) = seen, expected
    assert image.shape == other.shape
    assert (image - other).abs().mean() < tolerance
    for label in (1, 2, 3):
        a, b = labels == label, truth == label
        assert 2 * int((a & b).sum()) > 0.88 * int(a.sum() + b.sum())
    for x, y, factor in ((image, other, 3), (labels.float(), truth.float(), 1.2)):
        for step, axis in ((1, 1), (-1, 1), (1, 2), (-1, 2)):
            moved = (x - y.roll(step, axis)).abs()[:, 2:-2, 2:-2].mean()
            assert moved > factor * (x - y).abs()[:, 2:-2, 2:-2].mean()


@pytest.fixture(scope="module", params=[(96, 120), (120, 96)], ids=("wide", "high"))
def smooth_case(request, tmp_path_factory):
    """A heart whose image is so smooth that interpolating it twice changes little.

    Black is not 0, and the whole field of view is brighter than the heart's box: each has a window of its own.
    """
    case = write_patients(tmp_path_factory.mktemp("smooth"), size=request.param, spacing=(16.0, 2.1, 1.9))[0]
    volume, _ = case.read(HEART)
    smooth = ndimage.gaussian_filter(volume.array, (0, 2.5, 2.5))
    ramp = np.linspace(-1, 1, smooth.shape[2]) ** 2 * smooth.max() / 2
    write_volume(volume.with_array(smooth + ramp + 400), case.image)
    return case


@each("preprocessing", [PREPROCESSING, Preprocessing(spacing=3.1, box=40)], ids=("finer", "coarser"))
def test_without_augmentation_training_sees_what_inference_sees(smooth_case, preprocessing):
    seen, expected = training_sees(smooth_case, preprocessing), inference_sees(smooth_case, preprocessing)
    assert_the_same(seen, expected, 0.01)
    assert (seen[0] - expected[0]).abs().max() < 0.1


def test_without_augmentation_the_overview_is_that_of_inference(smooth_case):
    seen = training_sees(smooth_case, PREPROCESSING, replace(OFF, overview=1.0))
    # Only the outermost pixels differ: training blends them with what lies outside.
    assert_the_same(seen, inference_sees(smooth_case, PREPROCESSING, overview=True), 0.02)


def test_on_a_real_heart_training_sees_what_inference_sees(acdc_folder):
    """Training interpolates twice, so its images are a little softer; nothing else differs."""
    case = find_cases(acdc_folder, read_split(acdc_folder / "split-train.txt")[:1], HEART)[0]
    assert_the_same(training_sees(case, Preprocessing()), inference_sees(case, Preprocessing()), 0.02)


def test_the_overview_shows_the_whole_field_of_view():
    corners = torch.zeros(1, 100, 120)
    for y in (slice(0, 6), slice(-6, None)):
        for x in (slice(0, 6), slice(-6, None)):
            corners[0, y, x] = 1.0
    unlabelled = torch.zeros(1, 100, 120, dtype=torch.uint8)
    stack = replace(drawn_heart(), image=corners.half(), masks=masks_of(unlabelled))
    image, _ = augmented(stack, replace(OFF, overview=1.0))
    bright, pieces = ndimage.label((image > 0).numpy())
    assert pieces == 4  # at half the resolution, 50 x 60 pixels in the middle of 64 x 64
    places = sorted(tuple(map(round, c)) for c in ndimage.center_of_mass(bright, bright, range(1, 5)))
    np.testing.assert_allclose(places, [(8, 3), (8, 60), (55, 3), (55, 60)], atol=1)


def three_slices():
    """Slices of different greys, 0.3, 0.6 and 0.9, without labels but in the middle one."""
    one = drawn_heart()
    image = torch.tensor([0.3, 0.6, 0.9])[:, None, None].expand(3, 110, 120)
    masks = one.masks.repeat(3, 1, 1, 1)
    masks[0] = masks[2] = 0
    return replace(one, image=image.half(), masks=masks)


def test_neighbours_lie_around_their_slice_and_are_black_beyond_the_ends():
    stack, off = three_slices(), replace(OFF, reverse=0.0, missing=0.0)
    image, labels = off(stack, 1, PREPROCESSING, generator(0), 3)
    assert image.shape == (3, 64, 64) and labels.any()
    torch.testing.assert_close(image[:, 32, 32], torch.tensor([-0.4, 0.2, 0.8]), rtol=0, atol=2e-3)
    image, labels = off(stack, 0, PREPROCESSING, generator(0), 3)
    torch.testing.assert_close(image[:, 32, 32], torch.tensor([-1.0, -0.4, 0.2]), rtol=0, atol=2e-3)
    assert (image[0] == -1).all() and not labels.any()


def test_neighbours_change_sides_or_are_missing():
    stack = three_slices()
    image, _ = replace(OFF, reverse=1.0, missing=0.0)(stack, 1, PREPROCESSING, generator(0), 3)
    torch.testing.assert_close(image[:, 32, 32], torch.tensor([0.8, 0.2, -0.4]), rtol=0, atol=2e-3)
    image, _ = replace(OFF, reverse=0.0, missing=1.0)(stack, 1, PREPROCESSING, generator(0), 3)
    assert (image[[0, 2]] == -1).all() and image[1].max() > 0


def test_every_step_takes_neighbours():
    stack = three_slices()
    for seed in range(6):
        image, labels = Augmentation(overview=0.3)(stack, 1, PREPROCESSING, generator(seed), 3)
        assert image.shape == (3, *labels.shape) and image.isfinite().all() and image.abs().max() <= 1
