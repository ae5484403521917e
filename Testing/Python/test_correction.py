"""Learning from corrected slices: what it must keep, what it may change, and when it lets well alone."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from dinsegment.correction import changed_slices, correct
from dinsegment.correction.features import Features
from dinsegment.correction.head import HeadOptions, fit_head
from dinsegment.correction.learn import Options, learn
from dinsegment.correction.neighbours import Kernel, carried
from dinsegment.correction.pipeline import FeaturesKept
from dinsegment.errors import Cancelled, InputError
from dinsegment.images.fingerprint import read_slices_tag, slice_prints, slices_tag
from dinsegment.images.slices import SliceStack
from dinsegment.inference import load_model, segment
from dinsegment.inference.cine import FEWEST_PHASES
from dinsegment.inference.phases import segment_phases
from dinsegment.inference.view import View
from dinsegment.phantom.heart import cine_phantom
from dinsegment.tasks import ABDOMEN, HEART
from dinsegment.training.cases import find_cases
from dinsegment.worker import answer
from dinsegment.worker_compute import Models
from dinsegment.worker_exchange import CORRECTED_OF, IMAGE_OF, LABELS_OF, Channel


@pytest.fixture(scope="module")
def model():
    return load_model(None, HEART)


@pytest.fixture(scope="module")
def kept():
    """One for all tests: the network looks at each image once."""
    return FeaturesKept(1 << 30)


@pytest.fixture(scope="module")
def apply(model, kept):
    return partial(correct, task=HEART, model=model, device="cpu", features=kept)


@pytest.fixture(scope="module")
def patient(acdc_folder, model):
    """End systole of a validation patient: image, experts' labels, the network's."""
    case = find_cases(acdc_folder, ["patient078"], HEART)[1]
    volume, truth = case.read(HEART)
    return volume, truth, segment(volume, HEART, model, "cpu").labels


def corrected(patient, slices):
    _, truth, labels = patient
    return np.where(np.isin(np.arange(len(truth)), slices)[:, None, None], truth, labels)


def wrong(labels, truth, without):
    return int((labels != truth)[np.setdiff1d(np.arange(len(truth)), without)].sum())


# --- what was corrected


def test_a_slice_differs_as_soon_as_a_voxel_does():
    made = np.zeros((4, 5, 6), np.uint8)
    now = made.copy()
    now[2, 4, 5] = 1
    now[3, 0, 0] = 2
    for before, axis, expected in ((made, 0, (2, 3)), (made, 1, (0, 4)), (made, 2, (0, 5))):
        assert changed_slices(before, now, axis) == expected
        assert changed_slices(slice_prints(before, axis), now, axis) == expected
    assert changed_slices(made, made.copy(), 0) == ()
    assert slice_prints(now, 0) == slice_prints(now.astype(np.int16), 0)
    with pytest.raises(ValueError, match="shape"):
        changed_slices(made, now[:3], 0)
    with pytest.raises(ValueError, match="3 slices"):
        changed_slices(slice_prints(made, 0), now[:3], 0)


def test_the_tag_of_a_file_says_what_each_slice_was():
    labels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    tag = slices_tag(labels, 1, (2, 0))
    assert not set(tag) & set(":|")
    assert read_slices_tag(tag) == (1, (0, 2), slice_prints(labels, 1))
    assert read_slices_tag("anything") is None


# --- hearts


def test_corrected_slices_stay_and_the_others_get_better(patient, apply):
    volume, truth, labels = patient
    seen = [0, 3]
    given = corrected(patient, seen)
    result = apply([volume], [given], [seen])
    assert result.applied
    new = result.labels[0]
    assert new.dtype == np.uint8
    assert np.array_equal(new[seen], truth[seen])
    assert wrong(new, truth, seen) < 0.97 * wrong(labels, truth, seen)
    assert result.seen == ((0, 3),)
    assert result.changed == (changed_slices(given, new, 0),)
    assert not set(result.changed[0]) & set(seen)
    assert result.first[0]
    assert not {one.slice for one in result.first[0]} & set(seen)
    assert "what you corrected stays" in result.text


def test_labels_of_slices_that_were_not_corrected_do_not_leak(patient, apply):
    """The experts' labels of the other slices are mixed up: what is predicted there is the same."""
    volume, truth, _ = patient
    seen, others = [0, 3], [1, 2, 4, 5, 6, 7]
    random = np.random.default_rng(0)
    mixed = truth.copy()
    mixed[others] = truth[random.permutation(others)][:, ::-1]
    results = [apply([volume], [array], [seen]).labels[0] for array in (truth, mixed)]
    assert np.array_equal(*results)


def test_the_same_again_and_from_the_original_weights(patient, apply, model):
    volume, _, _ = patient
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    first = apply([volume], [corrected(patient, [0, 3])], [[0, 3]])
    apply([volume], [corrected(patient, [1])], [[1]])
    again = correct([volume], [corrected(patient, [0, 3])], [(3, 0, 3)], "heart", model, "cpu")  # looks again
    assert np.array_equal(first.labels[0], again.labels[0])
    assert all(torch.equal(before[name], value) for name, value in model.network.state_dict().items())


def test_one_slice_changes_only_those_near_it(patient, apply):
    volume, _, labels = patient
    given = corrected(patient, [0])
    result = apply([volume], [given], [[0]])
    assert set(result.changed[0]) <= {1, 2}
    assert np.array_equal(result.labels[0][3:], labels[3:])


def test_corrections_that_contradict_one_another_are_not_applied(patient, apply):
    """In a slice the right ventricle is called the left one, in the next one the left the right."""
    volume, _, labels = patient
    given = labels.copy()
    given[3][labels[3] == 1] = 3
    given[4][labels[4] == 3] = 1
    result = apply([volume], [given], [[3, 4]])
    assert not result.applied
    assert np.array_equal(result.labels[0], given)
    assert result.changed == ((),)
    assert "left as they were: tried on the corrected slices" in result.text


def test_a_cine_is_corrected_in_one_phase_and_follows_in_all(apply, model):
    phantoms = cine_phantom(4, slices=6)
    volumes = [phantom.volume for phantom in phantoms]
    labels = [segment(volume, HEART, model, "cpu").labels for volume in volumes]
    given = [array.copy() for array in labels]
    for k in (1, 2, 3):  # The user counts the muscle to the cavity.
        given[0][k][given[0][k] == 2] = 3
    result = apply(volumes, given, [[1, 2, 3], [], [], ()])
    assert result.applied
    assert np.array_equal(result.labels[0][1:4], given[0][1:4])
    for new, old in zip(result.labels[1:], labels[1:], strict=True):
        assert (new == 3).sum() > 1.02 * (old == 3).sum()
    assert result.seen == ((1, 2, 3), (), (), ())
    assert "in all 4 phases" in result.text


def test_of_a_cine_as_one_thing_phases_that_are_not_reached_stay_voxel_for_voxel(apply, model):
    """Its labels are decided in one box, on probabilities that are smoothed in time."""
    phantoms = cine_phantom(FEWEST_PHASES, slices=1, size=(110, 120), spacing=(16.0, 1.6, 1.6))
    volumes = [phantom.volume for phantom in phantoms]
    made = list(segment_phases(volumes, HEART, model, "cpu"))
    labels = [phase.labels for phase in made]
    given = [array.copy() for array in labels]
    given[0][0][given[0][0] == 2] = 3  # The user counts the muscle to the cavity.
    result = apply(volumes, given, [[0], *[()] * (FEWEST_PHASES - 1)])
    assert result.applied
    assert np.array_equal(result.labels[0][0], given[0][0])
    assert (result.labels[1] != labels[1]).any()
    far = range(5, FEWEST_PHASES - 4)  # Farther in time than a correction reaches.
    assert [n for n in far if (result.labels[n] != labels[n]).any()] == []
    assert all(result.changed[n] == () for n in far)
    for n in far:  # How sure the network is, its own probabilities tell, then as before.
        told, before = ({(one.slice, one.segment): one.ml for one in some} for some in (result.first[n], made[n].first))
        assert told == pytest.approx(before, rel=0.02, abs=0.01)


def test_slices_are_counted_along_the_image_s_own_axis(patient, apply):
    """The image with its slices in the last axis, and the other way round."""
    volume, truth, _ = patient
    expected = apply([volume], [corrected(patient, [0, 3])], [[0, 3]]).labels[0]
    turned = np.ascontiguousarray(np.moveaxis(volume.array, 0, 2))
    swap = np.eye(4)[[2, 0, 1, 3]]  # (i, j, k) of the turned one are (k, i, j) of the other
    other = replace(volume, array=turned, ijk_to_ras=volume.ijk_to_ras @ swap.T @ np.eye(4), slice_axis=2)
    matrix = volume.ijk_to_ras[:, [2, 0, 1, 3]]
    other = replace(other, ijk_to_ras=matrix)
    given = np.ascontiguousarray(np.moveaxis(corrected(patient, [0, 3]), 0, 2))
    result = apply([other], [given], [[0, 3]])
    assert result.seen == ((0, 3),)
    assert np.array_equal(result.labels[0][..., [0, 3]], np.moveaxis(truth, 0, 2)[..., [0, 3]])
    assert (np.moveaxis(result.labels[0], 2, 0) != expected).mean() < 1e-3


@pytest.mark.parametrize(
    ("seen", "change", "sentence"),
    [
        ([[]], None, "No slice was corrected"),
        ([[99]], None, "slice 100 cannot"),
        ([[0], [1]], None, "corrected slices of 2"),
        ([[0]], "shape", "the shape"),
        ([[0]], "label", "the label 9"),
    ],
)
def test_what_cannot_be_used_is_said(patient, apply, seen, change, sentence):
    volume, _, labels = patient
    labels = labels[:-1] if change == "shape" else labels.copy()
    if change == "label":
        labels[0, 0, 0] = 9
    with pytest.raises(InputError, match=sentence):
        apply([volume], [labels], seen)


def test_cancel_stops_it(patient, model):
    volume, _, _ = patient
    asked = []

    def cancelled():
        asked.append(1)
        return len(asked) > 20

    with pytest.raises(Cancelled):
        correct([volume], [corrected(patient, [0, 3])], [[0, 3]], HEART, model, "cpu", cancelled=cancelled)
    assert len(asked) == 21


def test_an_image_without_anatomy_keeps_what_was_drawn(model):
    noise = np.random.default_rng(0).normal(size=(4, 64, 64)).astype(np.float32)
    volume = replace(cine_phantom(1, slices=4, size=(64, 64), spacing=(10.0, 3.0, 3.0))[0].volume, array=noise)
    labels = np.zeros(volume.shape, np.uint8)
    labels[1, 20:30, 20:30] = 3
    result = correct([volume], [labels], [[1]], HEART, model, "cpu")
    assert np.array_equal(result.labels[0][1], labels[1])
    if not result.applied:
        assert np.array_equal(result.labels[0], labels)


# --- the abdomen


def test_an_abdomen_follows_in_slices_beside_the_corrected_one(btcv_folder, kept):
    case = find_cases(btcv_folder, ["0031"], ABDOMEN)[0]
    volume, truth = case.read(ABDOMEN)
    part = slice(28, 58)  # axial slices around the stomach
    ijk_to_ras = volume.ijk_to_ras.copy()
    ijk_to_ras[:3, 3] += part.start * ijk_to_ras[:3, 2]
    volume, truth = replace(volume, array=volume.array[part], ijk_to_ras=ijk_to_ras), truth[part]
    model = load_model(None, ABDOMEN)
    labels = segment(volume, ABDOMEN, model, "cpu").labels
    worst = int((labels != truth).sum((1, 2)).argmax())
    given = labels.copy()
    given[worst] = truth[worst]
    result = correct([volume], [given], [[worst]], ABDOMEN, model, "cpu", features=kept)
    assert result.applied
    assert np.array_equal(result.labels[0][worst], truth[worst])
    assert wrong(result.labels[0], truth, [worst]) < wrong(labels, truth, [worst])
    assert result.first[0] == tuple(sorted(result.first[0], key=lambda one: -one.ml))


# --- how it is learned


def features(hidden, probabilities, step=3.0):
    stack = SliceStack(np.zeros((len(hidden), 8, 8), np.uint8), (1.0, 1.0), 0, step)
    return Features(View(stack, (3.5, 3.5), probabilities.shape[-2:], 1.0, step), probabilities, hidden)


def two_classes(first):
    return torch.stack((first, 1 - first), 1)


def test_a_correction_is_carried_to_what_looks_alike_nearby_and_nowhere_else():
    hidden = torch.zeros(5, 2, 8, 8)
    hidden[:, 0] = 1.0
    hidden[:, :, 2:4, 2:4] = torch.tensor([0.0, 1.0])[:, None, None]  # an organ that the network misses
    said = two_classes(torch.full((5, 8, 8), 0.8))
    right = torch.zeros(2, 8, 8)
    right[0] = 1.0
    right[:, 2:4, 2:4] = torch.tensor([0.0, 1.0])[:, None, None]
    kernel = Kernel(reach_mm=3.0)
    added = carried([features(hidden, said)], {(0, 2): right}, lambda p: said[p[1]], kernel)
    assert {n for _, n in added} == {0, 1, 3, 4}
    near = added[0, 1]
    assert (near[1] - near[0])[2:4, 2:4].min() > 2  # enough to be taken for the organ: 0.8 is 1.4 in logits
    assert (near[1] - near[0])[0, 0] <= 0
    assert near.abs().max() > added[0, 0].abs().max()
    assert carried([features(hidden, said)], {(0, 2): said[2]}, lambda p: said[p[1]], kernel) == {}


def test_the_patient_s_own_layer_learns_what_was_corrected_and_forgets_nothing():
    random = torch.Generator().manual_seed(1)
    hidden = torch.randn(10, 4, 8, 8, generator=random)
    truth = (hidden[:, 0] > 0).float()
    said = two_classes(torch.sigmoid(-2 * hidden[:, 1]))  # The network looks at the wrong thing.
    known = {(0, n): torch.stack((1 - truth[n], truth[n])) for n in (0, 1, 2, 3)}
    one = [features(hidden, said)]
    head = fit_head(one, known, lambda p: said[p[1]], HeadOptions(hold=0.01, ridge=1e-4))
    again = fit_head(one, known, lambda p: said[p[1]], HeadOptions(hold=0.01, ridge=1e-4))
    assert torch.equal(head.weights, again.weights)

    def right(n, head):
        logits = said[n].log() + (head(hidden[n]) if head else 0)
        return float((logits.argmax(0) == truth[n]).float().mean())

    assert np.mean([right(n, None) for n in range(4, 10)]) < 0.7
    assert np.mean([right(n, head) for n in range(4, 10)]) > 0.9
    held = fit_head(one, known, lambda p: said[p[1]], HeadOptions(hold=100.0, ridge=1e-4))
    assert held(hidden[5]).abs().mean() < 0.5 * head(hidden[5]).abs().mean()


def test_of_what_the_network_was_sure_only_what_was_changed_again_and_again_is_learned():
    random = torch.Generator().manual_seed(1)
    hidden = torch.randn(10, 4, 8, 8, generator=random)
    belongs, sure = hidden[:, 0] > 0, hidden[:, 1] > 0
    said = two_classes(torch.where(belongs, torch.where(sure, 0.98, 0.6), 0.02))
    one = [features(hidden, said)]

    careful = HeadOptions(ridge=1e-4, least=0.1)
    options = Options(head=careful, bold=replace(careful, least=0.0), both=False)
    doubt, all_of_it = (
        {(0, n): two_classes((belongs[n] & keep[n]).float()[None])[0] for n in (0, 1, 2, 3)}
        for keep in (sure, torch.zeros_like(sure))
    )
    learned = learn(one, doubt, options)
    assert learned.of((0, 6))[0][belongs[6] & sure[6]].min() > 0.5
    assert learned.of((0, 6))[0][belongs[6] & ~sure[6]].max() < 0.5
    once = {(0, n): two_classes((belongs[n] & (n < 3)).float()[None])[0] for n in (0, 1, 2, 3)}  # in one of four
    for way, least, most in ((careful, 0.0, 1.0), (options.bold, -3.0, -0.5)):
        added = fit_head(one, once, lambda p: said[p[1]], way)(hidden[6])
        assert least < float((added[0] - added[1])[belongs[6] & sure[6]].mean()) < most
    assert (learn(one, all_of_it, options).of((0, 6))[0][belongs[6]] < 0.5).float().mean() > 0.9


def test_a_task_says_how_is_learned():
    task = replace(HEART, correction={"kernel": {"reach_mm": 7.0}, "head": {"ridge": 0.5}, "both": False})
    options = Options.of(task)
    assert (options.kernel.reach_mm, options.head.ridge, options.bold, options.both) == (7.0, 0.5, None, False)
    with pytest.raises(InputError, match="'correction' of the task 'heart'"):
        Options.of(replace(HEART, correction={"kernel": {"reach": 7.0}}))


def test_what_was_seen_is_kept_as_long_as_there_is_room():
    one = features(torch.zeros(2, 2, 8, 8), torch.zeros(2, 2, 8, 8))
    kept, made = FeaturesKept(2 * one.bytes), []

    def make(name):
        made.append(name)
        return replace(one)

    for name in ("a", "b", "a", "c", "a", "b"):
        kept.get((name, ""), lambda name=name: make(name))
    assert made == ["a", "b", "c", "b"]
    made.clear()
    phases = [("a", "1"), ("a", "2"), ("a", "3")]  # more than there is room for, and all of them each time
    for _ in range(3):
        for key in phases:
            kept.get(key, lambda key=key: make(key), phases)
    assert made == [*phases, phases[2], phases[2]]


# --- the worker


def test_the_worker_does_the_same(patient, apply, model, tmp_path):
    volume, _, _ = patient
    given = corrected(patient, [0, 3])
    np.save(tmp_path / IMAGE_OF.format(1), volume.array)
    np.save(tmp_path / LABELS_OF.format(1), given)
    request = {
        "command": "correct", "id": 5, "folder": str(tmp_path), "task": "heart", "model": None, "device": "cpu",
        "volumes": [{"name": volume.name, "ijk_to_ras": volume.ijk_to_ras.tolist(), "modality": "MR"}],
        "seen": [[0, 3]],
    }  # fmt: skip
    said = io.BytesIO()
    models = Models()
    answer(request, models, Channel(said))
    events = [json.loads(line) for line in said.getvalue().splitlines()]
    done = events[-1]
    assert done["event"] == "done", done
    fractions = [event["fraction"] for event in events if event["event"] == "progress"]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    expected = apply([volume], [given], [[0, 3]])
    assert np.array_equal(np.load(tmp_path / CORRECTED_OF.format(1)), expected.labels[0])
    assert (done["applied"], done["text"], done["seen"]) == (True, expected.text, [[0, 3]])
    assert done["changed"] == [list(expected.changed[0])]
    assert [one["text"] for one in done["findings"][0]] == [one.text for one in expected.findings[0]]
    assert done["first"][0][0] == expected.first[0][0].to_dict()
    again = io.BytesIO()
    answer({**request, "seen": [[]]}, models, Channel(again))
    assert json.loads(again.getvalue().splitlines()[-1])["type"] == "InputError"
