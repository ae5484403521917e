"""Training: cases and splits, recipes, and a real run of a tiny network that learns, stops and goes on."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from phantom_cases import write_patients
from safetensors.torch import load_file

from dinsegment.enhancement.grey import window_inside
from dinsegment.errors import InputError
from dinsegment.images import read_volume, write_volume
from dinsegment.images.slices import SliceStack
from dinsegment.inference.anatomy import box_around
from dinsegment.inference.prediction import predict
from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.inference.runner import Runner
from dinsegment.network import DIN, DIN_SMALL, DINConfig
from dinsegment.network.rewriting import for_inference
from dinsegment.tasks import HEART
from dinsegment.training.augmentation import Augmentation
from dinsegment.training.cases import Case, find_cases, read_split
from dinsegment.training.dataset import SliceSampler, TrainingStack, prepare
from dinsegment.training.label_names import DATASETS
from dinsegment.training.metrics import dice
from dinsegment.training.publish import all_data
from dinsegment.training.recipe import RECIPES, Recipe, load_recipe
from dinsegment.training.steps.descent import learning_rate
from dinsegment.training.trainer import Trainer, _moving_average

TINY = DINConfig(
    dims=(8, 16, 32, 64),
    depths=(1, 1, 1, 1),
    stem_stride=2,
    layer_scale=0.1,
    heads=(1, 1, 2, 2),
    window=4,
    merge_kernel=1,
    expand_kernel=1,
    decoder_dim=16,
    decoder_layers=1,
    drop_path=0.2,  # draws from torch's own random numbers
)
RECIPE = Recipe(
    name="tiny",
    task=HEART,
    network=TINY,
    preprocessing=Preprocessing(spacing=3.0, box=48, overview_spacing=4.5),
    augmentation=Augmentation(overview=0.2),
    learning_rate=8e-3,
    warmup_steps=3,
    batch=5,
    epochs=4,
    ema=0.8,
    validate_every=2,
)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Four images of two patients."""
    return write_patients(tmp_path_factory.mktemp("data"), 2)


def complaint(function, *arguments):
    """What the InputError of the call says, in one line."""
    with pytest.raises(InputError) as caught:
        function(*arguments)
    text = str(caught.value)
    assert text and "\n" not in text
    return text


# --- cases and splits -----------------------------------------------------------------------------


def test_a_split_is_a_name_a_line(tmp_path):
    path = tmp_path / "split.txt"
    path.write_text("patient007\r\npatient002\n\n", encoding="utf-8")
    assert read_split(path) == ["patient007", "patient002"]
    path.write_text("\n", encoding="utf-8")
    assert "names no patient" in complaint(read_split, path)
    path.write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in complaint(read_split, path)
    assert "cannot be read" in complaint(read_split, tmp_path)


def test_cases_are_found_with_their_phases(cases):
    assert [(c.patient, c.name, c.phase) for c in cases] == [
        ("patient001", "patient001_frame03", "ED"),
        ("patient001", "patient001_frame09", "ES"),
        ("patient002", "patient002_frame03", "ED"),
        ("patient002", "patient002_frame09", "ES"),
    ]
    assert all(c.image.exists() and c.labels.exists() and c.image != c.labels for c in cases)


def test_a_patient_without_labelled_images_is_named(tmp_path, cases):
    data = cases[0].image.parents[1]
    assert "patient077" in complaint(find_cases, data, ["patient001", "patient077"], HEART)
    (tmp_path / "patient001").mkdir()
    assert "PATIENT_frameFF_gt.nii.gz" in complaint(find_cases, tmp_path, ["patient001"], HEART)


def test_without_info_a_case_has_no_phase(tmp_path):
    write_patients(tmp_path)
    (tmp_path / "patient001" / "Info.cfg").unlink()
    assert [c.phase for c in find_cases(tmp_path, ["patient001"], HEART)] == ["", ""]


@pytest.mark.parametrize("text", ["ED: three\nES: 9\n", "ED: 3\nES: 9\nNote: seen at 12:30\n"])
def test_a_damaged_info_is_no_traceback(tmp_path, text):
    write_patients(tmp_path)
    (tmp_path / "patient001" / "Info.cfg").write_text(text, encoding="utf-8")
    try:
        assert find_cases(tmp_path, ["patient001"], HEART)[1].phase == "ES"
    except InputError as error:
        assert "Info.cfg" in str(error)


def test_a_case_is_its_image_and_its_labels(cases):
    volume, labels = cases[0].read(HEART)
    assert labels.dtype == np.uint8 and labels.shape == volume.shape == (5, 64, 80)
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(labels, read_volume(cases[0].labels).array)


def test_labels_on_another_grid_are_refused(tmp_path):
    case = write_patients(tmp_path)[0]
    truth = read_volume(case.labels)
    moved = truth.ijk_to_ras.copy()
    moved[0, 3] += 3
    write_volume(replace(truth, ijk_to_ras=moved), case.labels)
    assert case.labels.name in complaint(case.read, HEART)
    write_volume(replace(truth, array=truth.array[:-1]), case.labels)
    assert "does not lie on the grid" in complaint(case.read, HEART)


@pytest.mark.parametrize("value", [4.0, 1.5, -1.0])
def test_labels_that_the_task_does_not_have_are_refused(tmp_path, value):
    case = write_patients(tmp_path)[0]
    truth = read_volume(case.labels)
    array = truth.array.astype(np.float32)
    array[0, 0, 0] = value
    write_volume(truth.with_array(array), case.labels)
    assert f"{value:g}" in complaint(case.read, HEART)


def test_a_case_without_labels_teaches_nothing(tmp_path):
    case = write_patients(tmp_path)[0]
    truth = read_volume(case.labels)
    write_volume(truth.with_array(0 * truth.array), case.labels)
    assert "no label above 0" in complaint(prepare, case, HEART, RECIPE.preprocessing)


def test_validation_split_of_acdc_has_both_phases_of_ten_patients(acdc_folder):
    patients = read_split(acdc_folder / "split-val.txt")
    found = find_cases(acdc_folder, patients, HEART)
    assert len(patients) == 10 and len(found) == 20
    for patient in patients:
        phases = {c.phase: c.name for c in found if c.patient == patient}
        assert set(phases) == {"ED", "ES"} and len(set(phases.values())) == 2


def test_every_split_of_acdc_is_whole_and_they_do_not_overlap(acdc_folder):
    splits = [read_split(acdc_folder / f"split-{name}.txt") for name in ("train", "val", "test")]
    assert [len(s) for s in splits] == [70, 10, 20]
    found = find_cases(acdc_folder, [p for s in splits for p in s], HEART)
    assert len({c.image for c in found}) == 200
    assert sum(c.phase == "ED" for c in found) == sum(c.phase == "ES" for c in found) == 100


def test_end_diastole_is_not_always_the_first_frame(acdc_folder):
    names = {c.phase: c.name for c in find_cases(acdc_folder, ["patient090"], HEART)}
    assert names == {"ED": "patient090_frame04", "ES": "patient090_frame11"}


def test_a_real_case_is_read_with_its_spacing(acdc_folder):
    case = find_cases(acdc_folder, ["patient090"], HEART)[0]
    volume, labels = case.read(HEART)
    assert volume.spacing[0] > 4 and volume.spacing[1:].max() < 2  # which only pixdim tells
    assert set(np.unique(labels)) == {0, 1, 2, 3}


# --- what training draws from ---------------------------------------------------------------------


def test_a_prepared_case_is_the_image_at_the_box_spacing_in_units_of_its_window(cases):
    preprocessing = RECIPE.preprocessing
    stack = prepare(cases[0], HEART, preprocessing)
    volume, labels = cases[0].read(HEART)
    rows, columns = np.round(np.array([64 * 2.8, 80 * 2.5]) / preprocessing.spacing)
    assert stack.image.shape == stack.labels.shape == (5, rows, columns)
    assert stack.image.dtype == torch.float16 and stack.labels.dtype == torch.uint8
    middle = np.array([np.mean(x) for x in np.nonzero(labels)[1:]]) + 0.5  # from the image's edge
    np.testing.assert_allclose(np.array(stack.center) + 0.5, middle * (2.8, 2.5) / preprocessing.spacing, atol=0.6)
    heart = (labels > 0).mean()
    assert float((stack.labels > 0).float().mean()) == pytest.approx(heart, rel=0.05)
    # 0 and 1 are the percentiles of the box around the heart, as inference takes them.
    whole = SliceStack.of(volume)
    center = tuple(float(m) for m in (middle - 0.5) * (2.8, 2.5))
    low, high = window_inside(*box_around(preprocessing, whole, center).sample(), None, preprocessing.percentiles)
    assert float(stack.image.median()) == pytest.approx((np.median(volume.array) - low) / (high - low), abs=0.03)
    ends = np.percentile(volume.array, preprocessing.percentiles)
    np.testing.assert_allclose(stack.overview_window, (ends - low) / (high - low), atol=0.06)


def test_each_slice_is_drawn_once_an_epoch_in_an_order_of_its_own():
    shapes = [(n, 2, 2) for n in (3, 5, 4)]
    stacks = [TrainingStack(torch.zeros(s), torch.zeros(s[0], 3, 2, 2), (0, 0), (0, 1), 8.0, 2.0) for s in shapes]
    sampler = SliceSampler(stacks, batch=4, seed=1)
    everything = [(n, k) for n, stack in enumerate(stacks) for k in range(len(stack.image))]
    first, second = ([one for batch in sampler.epoch(e) for one in batch] for e in (0, 1))
    assert sorted(first) == sorted(second) == everything
    assert first != second and first != everything
    again = SliceSampler(stacks, batch=4, seed=1)
    assert again.epoch(1) == sampler.epoch(1)  # an epoch does not depend on those before it
    assert SliceSampler(stacks, batch=4, seed=2).epoch(0) != sampler.epoch(0)
    rest = SliceSampler(stacks, batch=5, seed=1)
    assert len(rest) == len(rest.epoch(0)) == 2 and all(len(b) == 5 for b in rest.epoch(0))


def striped_stacks():
    """40 and 20 slices, two segments: the first in every other slice of both, the second in two slices at all."""
    masks = torch.zeros(60, 2, 4, 4, dtype=torch.uint8)
    masks[::2, 0, 1, 1] = 255
    masks[[3, 50], 1, 2, 2] = 200
    masks[7, 1, 3, 3] = 100  # less than half of a pixel is no label
    whole = TrainingStack(torch.zeros(60, 4, 4), masks, (0, 0), (0, 1), 3.0, 2.0)
    parts = slice(0, 40), slice(40, 60)
    return [replace(whole, image=whole.image[part], masks=masks[part]) for part in parts]


def drawn(sampler, epochs):
    """How often each of the 60 slices came in so many epochs."""
    counts = np.zeros(60)
    for epoch in range(epochs):
        for stack, k in (one for batch in sampler.epoch(epoch) for one in batch):
            counts[40 * stack + k] += 1
    return counts


@pytest.mark.parametrize("balance", [0.0, 0.3, 1.0])
def test_balance_draws_rare_segments_more_often(balance):
    sampler = SliceSampler(striped_stacks(), batch=4, seed=1, balance=balance)
    assert len(sampler) == 15 and all(len(batch) == 4 for batch in sampler.epoch(0))
    # With balance 1 a third of the draws each goes to the first segment, the second, and the slices without any.
    first, second = np.arange(60) % 2 == 0, np.isin(np.arange(60), (3, 50))
    kinds = np.stack((first, second, ~(first | second)))
    share = balance * (kinds / kinds.sum(1, keepdims=True)).mean(0) + (1 - balance) / 60
    for epochs in (1, 20):
        assert (np.abs(drawn(sampler, epochs) - epochs * 60 * share) < epochs).all()  # less than one an epoch
    often = drawn(sampler, 200) / 200
    np.testing.assert_allclose(often, 60 * share, atol=0.12)
    assert often[[3, 50]].sum() == pytest.approx(60 * (balance * (1 / 3 + 1 / 90) + (1 - balance) / 30), rel=0.02)


def test_balanced_epochs_have_an_order_of_their_own_that_the_seed_decides():
    stacks = striped_stacks()
    sampler, again, other = (SliceSampler(stacks, batch=4, seed=seed, balance=0.7) for seed in (1, 1, 2))
    assert sampler.epoch(3) == again.epoch(3)
    assert sampler.epoch(3) != sampler.epoch(4) and sampler.epoch(3) != other.epoch(3)
    order = [one for batch in sampler.epoch(3) for one in batch]
    assert sum(a == b for a, b in pairwise(order)) < 8  # repeated slices are spread
    assert SliceSampler(stacks, 4, 1, 0.0).epoch(0) == SliceSampler(stacks, 4, 1).epoch(0)


def test_a_segment_that_no_case_has_takes_no_share():
    stacks = striped_stacks()
    empty = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    more = [replace(s, masks=torch.cat((s.masks, empty.expand(len(s.masks), -1, -1, -1)), 1)) for s in stacks]
    assert SliceSampler(more, 4, 1, 1.0).epoch(0) == SliceSampler(stacks, 4, 1, 1.0).epoch(0)


def test_dice_by_hand():
    labels, truth = np.array([[1, 1, 2], [0, 1, 2]]), np.array([[1, 0, 2], [1, 1, 0]])
    assert dice(labels, truth, 1) == pytest.approx(2 * 2 / (3 + 3))
    assert dice(labels, truth, 2) == pytest.approx(2 * 1 / (2 + 1))
    assert dice(labels, truth, 3) == 1.0  # neither has it
    assert dice(labels, 0 * truth, 1) == 0.0


# --- recipes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(p.stem for p in RECIPES.glob("*.json")))
def test_shipped_recipes_load(name):
    recipe = load_recipe(name)
    assert recipe.name == name and recipe.network.classes == recipe.task.classes


OPTIONS = {"name": "mine", "task": "heart", "network": {"name": "din-small"}, "preprocessing": {"box": 96}}


def write_recipe(folder, **changes):
    path = folder / "mine.json"
    path.write_text(json.dumps({k: v for k, v in {**OPTIONS, **changes}.items() if v is not None}), encoding="utf-8")
    return str(path)


def test_a_recipe_from_a_file(tmp_path):
    changed = {
        "network": {"name": "din-small", "window": 4},
        "augmentation": {"blur": [0.1, 2.0], "flip": 0.0},
    }
    recipe = load_recipe(write_recipe(tmp_path, batch=7, **changed))
    assert recipe.network == replace(DIN_SMALL, window=4) and recipe.task is HEART and recipe.batch == 7
    assert recipe.augmentation == Augmentation(blur=(0.1, 2.0), flip=0.0)
    assert recipe.preprocessing == Preprocessing(box=96)


def test_an_unknown_recipe_is_answered_with_the_known_ones():
    text = complaint(load_recipe, "hart-din-small")
    assert "'hart-din-small'" in text and "is it heart-din-small" in text and "`dinsegment recipes`" in text
    assert len(text) < 250 and "is it" not in complaint(load_recipe, "zzz")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"epoch": 3}, "epoch"),
        ({"network": {"name": "din-small", "width": 3}}, "width"),
        ({"network": {"name": "din-huge"}}, "din-huge"),
        ({"network": None}, "network"),
        ({"task": "lung"}, "lung"),
        ({"preprocessing": {"voxels": 3}}, "voxels"),
        ({"preprocessing": {"enhancement": {"method": "magic"}}}, "magic"),
        ({"augmentation": {"mirror": 1}}, "mirror"),
    ],
    ids=str,
)
def test_a_recipe_with_an_unknown_entry_names_it(tmp_path, changes, named):
    text = complaint(load_recipe, write_recipe(tmp_path, **changes))
    assert named in text and "mine.json" in text


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_damaged_recipe(tmp_path, content):
    path = tmp_path / "mine.json"
    path.write_bytes(content)
    assert "mine.json" in complaint(load_recipe, str(path))


# --- a real run -----------------------------------------------------------------------------------


class Stopped(Trainer):
    """A run that the user stops while the third epoch is under way."""

    def _epoch(self, *arguments):
        loss = super()._epoch(*arguments)
        if self.state.epoch == 2:
            raise KeyboardInterrupt
        return loss


def run(recipe, cases, output, kind=Trainer, resume=False):
    trainer = kind(recipe, cases, cases[:1], output, device="cpu")
    try:
        trainer.run(resume)
    except KeyboardInterrupt:
        assert kind is Stopped
    return trainer


def without_time(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


@pytest.fixture(scope="module")
def whole(cases, tmp_path_factory):
    """A run from the first to the last epoch."""
    return run(RECIPE, cases, tmp_path_factory.mktemp("whole"))


def test_the_loss_falls(whole):
    losses = [row["loss"] for row in whole.state.history]
    assert len(losses) == RECIPE.epochs and np.isfinite(losses).all()
    assert losses[-1] < 0.9 * losses[0]
    assert whole.state.step == RECIPE.epochs * (20 // RECIPE.batch)


def test_validation_comes_every_so_often_and_the_log_tells(whole):
    assert [row["epoch"] for row in whole.state.history if "dice" in row] == [2, 4]
    with (whole.output / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert [float(row["loss"]) for row in rows] == [row["loss"] for row in whole.state.history]
    segments = [row for row in whole.state.history if "dice" in row][-1]
    assert segments["dice"] == pytest.approx(np.mean([segments[f"dice {s.abbreviation}"] for s in HEART.segments]))


def test_the_best_weights_give_the_best_validation_dice(whole, cases):
    network = DIN(TINY)
    network.load_state_dict(load_file(whole.output / "best.safetensors"), strict=True)
    runner = Runner(for_inference(network), torch.device("cpu"))
    volume, truth = cases[0].read(HEART)
    labels = predict(runner, RECIPE.preprocessing, volume, HEART)
    best = max(row["dice"] for row in whole.state.history if "dice" in row)
    assert np.mean([dice(labels, truth, s.label) for s in HEART.segments]) == pytest.approx(best)
    assert whole.state.best == best


def test_the_average_follows_the_weights(whole):
    weights, average = whole.network.state_dict(), whole.average.module.state_dict()
    assert weights.keys() == average.keys()
    distances = [float((average[k] - v).norm() / v.norm()) for k, v in weights.items() if v.is_floating_point()]
    assert 0 < np.median(distances) < 0.5


def test_what_is_validated_and_kept_is_the_moving_average(cases, tmp_path):
    trainer = run(replace(RECIPE, epochs=1, validate_every=1), cases, tmp_path)
    kept = load_file(tmp_path / "best.safetensors")
    average, latest = trainer.average.module.state_dict(), trainer.network.state_dict()
    torch.manual_seed(RECIPE.seed)
    start = DIN(TINY).state_dict()
    for name, weights in kept.items():
        torch.testing.assert_close(weights, average[name], rtol=0, atol=0)
    name = "decoder.classify.weight"
    assert not torch.equal(kept[name], latest[name])
    assert (kept[name] - latest[name]).norm() < (start[name] - latest[name]).norm()


def test_every_step_draws_its_own_augmentation(cases, tmp_path):
    trainer = Trainer(RECIPE, cases, cases[:1], tmp_path, device="cpu")
    stacks = [prepare(cases[0], HEART, RECIPE.preprocessing)]
    first, again = (trainer._batch(stacks, [(0, 2)])[0] for _ in range(2))
    trainer.state.step += 1
    assert torch.equal(first, again)
    assert not torch.equal(first, trainer._batch(stacks, [(0, 2)])[0])


def test_the_moving_average_forgets_its_start_quickly():
    average = _moving_average(0.9)
    new, old = torch.ones(3), torch.zeros(3)
    for count, decay in ((1, 2 / 11), (4, 5 / 14), (1000, 0.9)):
        torch.testing.assert_close(average(old, new, count), torch.full((3,), 1 - decay))
    assert average(torch.tensor(3), torch.tensor(7), 5) == 7


def test_weights_that_are_no_better_do_not_replace_the_best(cases, tmp_path):
    trainer = Trainer(RECIPE, cases, cases[:1], tmp_path, device="cpu")
    trainer.state.best = 1.01
    trainer._validate()
    assert not (tmp_path / "best.safetensors").exists()
    assert trainer.state.best == 1.01


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(whole, cases, tmp_path):
    stopped = run(RECIPE, cases, tmp_path, Stopped)
    assert stopped.state.epoch == 2 and stopped.checkpoint.exists()
    torch.manual_seed(99)  # a new process would not have the old one's random numbers either
    resumed = run(RECIPE, cases, tmp_path, resume=True)
    assert without_time(resumed.state.history) == without_time(whole.state.history)
    assert resumed.state.step == whole.state.step
    for one, other in ((resumed.network, whole.network), (resumed.average, whole.average)):
        for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
            assert torch.equal(a, b), name
    digests = [hashlib.sha256((t.output / "best.safetensors").read_bytes()).hexdigest() for t in (resumed, whole)]
    assert digests[0] == digests[1]
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]  # nothing half-written is left


def test_the_balance_of_the_recipe_is_that_of_the_run(whole, cases, tmp_path):
    drawn = []

    class Noted(Trainer):
        def _batch(self, stacks, batch, first=0):
            drawn.extend(batch)
            return super()._batch(stacks, batch, first)

    recipe = replace(RECIPE, balance=1.0, epochs=1)
    run(recipe, cases, tmp_path, Noted)
    sampler = SliceSampler([prepare(case, HEART, RECIPE.preprocessing) for case in cases], RECIPE.batch, 1, 1.0)
    assert drawn == [one for batch in sampler.epoch(0) for one in batch]


def test_without_resume_a_run_starts_again_and_its_seed_decides_everything(whole, cases, tmp_path):
    other = run(replace(RECIPE, seed=2), cases, tmp_path, Stopped)
    assert other.state.history[0]["loss"] != whole.state.history[0]["loss"]
    again = run(RECIPE, cases, tmp_path)
    assert without_time(again.state.history) == without_time(whole.state.history)


def test_a_finished_run_has_nothing_left_to_do(whole, cases):
    before = whole.checkpoint.read_bytes()
    resumed = run(RECIPE, cases, whole.output, resume=True)
    assert without_time(resumed.state.history) == without_time(whole.state.history)
    assert whole.checkpoint.read_bytes() == before


def test_a_shared_encoder_trains_and_is_saved(cases, tmp_path):
    recipe = replace(RECIPE, network=replace(TINY, shared_encoder=True), epochs=1)
    trainer = run(recipe, cases[:1], tmp_path)
    network = DIN(recipe.network)
    network.load_state_dict(load_file(trainer.output / "best.safetensors"), strict=True)
    assert network.encoder_i is network.encoder_e


def test_learning_rate_warms_up_and_falls_to_zero():
    recipe = replace(RECIPE, warmup_steps=4)
    rates = [learning_rate(recipe, number, 20) for number in range(21)]
    assert rates[:4] == pytest.approx([0.002, 0.004, 0.006, 0.008])
    assert rates[4] == pytest.approx(RECIPE.learning_rate) and rates[12] == pytest.approx(0.004)
    assert rates[4:] == sorted(rates[4:], reverse=True) and rates[20] == pytest.approx(0, abs=1e-9)


def test_norms_and_biases_do_not_decay(cases, tmp_path):
    trainer = Trainer(RECIPE, cases, cases, tmp_path, device="cpu")
    decayed, others = trainer.step.optimizer.param_groups
    assert decayed["weight_decay"] == RECIPE.weight_decay and others["weight_decay"] == 0
    assert all(p.ndim > 1 for p in decayed["params"]) and all(p.ndim == 1 for p in others["params"])
    count = sum(len(g["params"]) for g in (decayed, others))
    assert count == len(list(trainer.network.parameters()))


def test_fewer_slices_than_a_batch_is_an_error(cases, tmp_path):
    trainer = Trainer(replace(RECIPE, batch=99), cases[:1], cases[:1], tmp_path, device="cpu")
    assert "99" in complaint(trainer.run)


def test_case_without_image_is_an_error(cases):
    gone = Case("patient009", "x", cases[0].image.with_name("gone.nii.gz"), cases[0].labels)
    assert "gone.nii.gz" in complaint(gone.read, HEART)


def test_a_model_names_all_data_that_it_learned_from():
    btcv, acdc = (json.loads((DATASETS / f"{name}.json").read_text(encoding="utf-8")) for name in ("btcv", "acdc"))
    assert all_data([btcv]) == {key: btcv[key] for key in ("name", "split", "license", "citation")}
    both = all_data([btcv, acdc, acdc])
    assert both["name"].startswith("BTCV") and "ACDC" in both["name"] and both["split"] == btcv["split"]
    for key in ("license", "citation"):
        assert both[key] == f"{btcv[key]}; {acdc[key]}"


def test_splits_of_btcv_are_of_its_training_cases_and_share_none(btcv_folder):
    train, validation = (read_split(DATASETS / f"btcv-{part}.txt") for part in ("train", "validation"))
    assert sorted(train + validation) == sorted(read_split(btcv_folder / "split-train.txt"))
    assert len(set(train + validation)) == len(train) + len(validation)
