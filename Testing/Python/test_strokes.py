"""Strokes in a slice: what they change there and beside it, and what they leave alone."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from dinsegment.correction.features import features_of
from dinsegment.correction.serving import ANSWER, BELONGS, MASKS, OTHER, StrokeServer
from dinsegment.correction.single_slices import SingleSlices
from dinsegment.correction.strokes import Stroke, answer, cut, head
from dinsegment.errors import InputError
from dinsegment.images.volume import Volume
from dinsegment.inference import segment
from dinsegment.inference.model import load_model
from dinsegment.inference.runner import Runner
from dinsegment.phantom.ct import abdomen_phantom
from dinsegment.phantom.heart import heart_phantom
from dinsegment.tasks import ABDOMEN, HEART
from dinsegment.worker import answer as worker_answer
from dinsegment.worker_compute import Models
from dinsegment.worker_exchange import IMAGE

LV, MIDDLE = 3, 3


@pytest.fixture(scope="module")
def volume():
    return heart_phantom(slices=6).volume


@pytest.fixture(scope="module")
def model():
    return load_model(None, HEART)


@pytest.fixture(scope="module")
def labels(volume, model):
    return segment(volume, HEART, model, "cpu").labels


@pytest.fixture(scope="module")
def slices(volume, model):
    return SingleSlices(volume, model, "cpu")


@pytest.fixture
def masks(labels):
    return {k: labels[k] == LV for k in range(len(labels))}


def halves(mask):
    """The rows and columns of a mask: which of its pixels lie right of its middle."""
    columns = np.flatnonzero(mask.any(0))
    right = np.zeros_like(mask)
    right[:, int(columns.mean()) :] = True
    return mask & right


def line_in(mask):
    """A stroke of one pixel's width down the middle of a mask, away from its ends."""
    rows, columns = np.nonzero(mask)
    line = np.zeros_like(mask)
    line[rows.min() + 2 : rows.max() - 1, round(columns.mean())] = True
    return line & mask


def nothing(mask):
    return np.zeros_like(mask)


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_a_stroke_brings_back_what_was_missed(slices, masks):
    whole = masks[MIDDLE]
    missed = halves(whole)
    stroke = Stroke(MIDDLE, line_in(missed), nothing(whole))
    after = answer(slices, LV, stroke, {MIDDLE: whole & ~missed})[MIDDLE]
    assert dice(whole & ~missed, whole) < 0.75
    assert dice(after, whole) > 0.88
    assert after[stroke.belongs].all()


def test_a_stroke_takes_away_what_does_not_belong(slices, masks):
    whole = masks[MIDDLE]
    rows, columns = np.nonzero(whole)
    wrong = nothing(whole)
    wrong[int(rows.mean()) - 4 : int(rows.mean()) + 4, columns.max() - 2 : columns.max() + 12] = True
    stroke = Stroke(MIDDLE, nothing(whole), line_in(wrong & ~whole))
    after = answer(slices, LV, stroke, {MIDDLE: whole | wrong})[MIDDLE]
    assert dice(whole | wrong, whole) < 0.96
    assert dice(after, whole) > 0.97
    assert not after[stroke.other].any()


def test_what_belongs_takes_nothing_away_and_what_does_not_adds_nothing(slices, masks):
    whole = masks[MIDDLE]
    half = whole & ~halves(whole)
    added = answer(slices, LV, Stroke(MIDDLE, line_in(halves(whole)), nothing(whole)), {MIDDLE: half})[MIDDLE]
    assert not (half & ~added).any()
    removed = answer(slices, LV, Stroke(MIDDLE, nothing(whole), line_in(halves(whole))), {MIDDLE: whole})[MIDDLE]
    assert not (removed & ~whole).any()


def test_another_piece_far_away_stays(slices, masks):
    whole = masks[MIDDLE]
    island = nothing(whole)
    island[5:12, 5:12] = True
    missed = halves(whole)
    stroke = Stroke(MIDDLE, line_in(missed), nothing(whole))
    after = answer(slices, LV, stroke, {MIDDLE: (whole & ~missed) | island})[MIDDLE]
    assert after[island].all()


def test_the_slices_beside_it_follow_where_they_are_given_and_near(slices, masks, monkeypatch):
    missing = {k: masks[k] & ~halves(masks[k]) for k in (MIDDLE - 1, MIDDLE, MIDDLE + 1)}
    stroke = Stroke(MIDDLE, line_in(halves(masks[MIDDLE])), nothing(masks[MIDDLE]))
    alone = answer(slices, LV, stroke, {MIDDLE: missing[MIDDLE]})
    assert set(alone) == {MIDDLE}
    far = answer(slices, LV, stroke, missing)
    assert all(np.array_equal(far[k], missing[k]) for k in (MIDDLE - 1, MIDDLE + 1))
    monkeypatch.setattr("dinsegment.correction.strokes.NEAR_MM", 20.0)
    after = answer(slices, LV, stroke, missing)
    assert np.array_equal(after[MIDDLE], alone[MIDDLE])
    for k in (MIDDLE - 1, MIDDLE + 1):
        assert dice(after[k], masks[k]) > dice(missing[k], masks[k]) + 0.1
        assert not (missing[k] & ~after[k]).any()


def test_slices_beside_one_that_does_not_change_stay(slices, masks, monkeypatch):
    monkeypatch.setattr("dinsegment.correction.strokes.NEAR_MM", 20.0)
    whole = masks[MIDDLE]
    stroke = Stroke(MIDDLE, line_in(whole), nothing(whole))
    beside = masks[MIDDLE + 1] & ~halves(masks[MIDDLE + 1])
    after = answer(slices, LV, stroke, {MIDDLE: whole, MIDDLE + 1: beside})
    assert np.array_equal(after[MIDDLE], whole)
    assert np.array_equal(after[MIDDLE + 1], beside)


def test_given_masks_are_not_changed(slices, masks):
    whole = masks[MIDDLE].copy()
    given = {MIDDLE: whole & ~halves(whole)}
    kept = given[MIDDLE].copy()
    answer(slices, LV, Stroke(MIDDLE, line_in(halves(whole)), nothing(whole)), given)
    assert np.array_equal(given[MIDDLE], kept)


@pytest.mark.parametrize("axes", [(0, 2, 1), (2, 1, 0), (1, 0, 2)])
@pytest.mark.parametrize("flipped", [(), (0,), (1, 2)])
def test_the_order_of_the_axes_does_not_matter(volume, model, slices, masks, axes, flipped):
    """The same image with its voxels stored otherwise; the answer is the same there, but for the rounding of grids."""
    array = np.flip(volume.array.transpose(axes), flipped)
    step = np.zeros((4, 4))  # From the indices of the other array to those of this one.
    step[3, 3] = 1.0
    for new, old in enumerate(axes):
        back = new in flipped
        step[2 - old, 2 - new] = -1.0 if back else 1.0
        step[2 - old, 3] = array.shape[new] - 1 if back else 0.0
    other = SingleSlices(Volume(array, volume.ijk_to_ras @ step, volume.name, volume.modality), model, "cpu")
    axis = axes.index(0)
    n = array.shape[axis] - 1 - MIDDLE if axis in flipped else MIDDLE

    def stored(mask):
        whole = np.zeros(volume.shape, bool)
        whole[MIDDLE] = mask
        return np.take(np.flip(whole.transpose(axes), flipped), n, axis)

    whole = masks[MIDDLE]
    missed = halves(whole)
    line = line_in(missed)
    here = answer(slices, LV, Stroke(MIDDLE, line, nothing(line)), {MIDDLE: whole & ~missed})[MIDDLE]
    there = answer(other, LV, Stroke(n, stored(line), stored(nothing(line))), {n: stored(whole & ~missed)})[n]
    assert dice(there, stored(here)) > 0.95  # The network sees the image turned.


def test_outside_of_what_the_network_sees_a_stroke_paints(slices, masks):
    line = nothing(masks[MIDDLE])
    line[2, 2:9] = True
    after = answer(slices, LV, Stroke(MIDDLE, line, nothing(line)), {MIDDLE: masks[MIDDLE]})[MIDDLE]
    assert np.array_equal(after, masks[MIDDLE] | line)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segment": 4}, "has no segment 4: it has 1 to 3"),
        ({"segment": 0}, "has no segment 0"),
        ({"slice": 9}, "slice 10, in which the stroke lies, is missing"),
        ({"belongs": np.zeros((3, 4), bool)}, "A slice 4 of (3, 4) pixels is none of"),
        ({"belongs": None}, "Nothing was drawn"),
    ],
)
def test_says_what_cannot_be_answered(slices, masks, changes, message):
    line = line_in(masks[MIDDLE])
    stroke = Stroke(changes.get("slice", MIDDLE), line, nothing(line))
    if "belongs" in changes:
        stroke = replace(stroke, belongs=nothing(line) if changes["belongs"] is None else changes["belongs"])
    with pytest.raises(InputError, match=re.escape(message)):
        answer(slices, changes.get("segment", LV), stroke, {MIDDLE: masks[MIDDLE]})


def test_an_image_without_the_anatomy_is_refused(model, monkeypatch):
    noise = np.random.default_rng(0).normal(size=(4, 64, 64)).astype(np.float32)
    monkeypatch.setattr("dinsegment.correction.single_slices.find_box", lambda *_: None)
    with pytest.raises(InputError, match="finds nothing of the task 'heart'"):
        SingleSlices(Volume(noise, np.diag([1.5, 1.5, 8.0, 1.0]), "noise"), model, "cpu")


def test_slices_are_computed_once_and_the_farthest_forgotten_first(volume, model, monkeypatch):
    monkeypatch.setattr("dinsegment.correction.single_slices.KEPT", 3)
    slices = SingleSlices(volume, model, "cpu")
    looked = []
    look = slices._look
    monkeypatch.setattr(slices, "_look", lambda chosen: (looked.append(chosen.tolist()), look(chosen)))
    slices.prepare([0, 1, 2])
    first = slices.of_slice(2)
    assert looked == [[0, 1, 2]]
    slices.prepare([3])
    assert looked == [[0, 1, 2], [3]]
    assert set(slices._seen) == {1, 2, 3}
    assert slices.of_slice(2) is first


def test_what_is_seen_of_a_slice_is_what_segmenting_sees(volume, model, slices, labels):
    """Alone or with the others: the same probabilities, and so the same labels before postprocessing."""
    alone = slices.of_slice(MIDDLE).probabilities
    assert np.abs(alone.sum(0) - 1).max() < 1e-4
    assert dice(slices.back(alone[LV]), labels[MIDDLE] == LV) > 0.98


def test_strokes_in_a_ct_know_what_the_whole_trunk_tells():
    """A slice is seen with it as segmenting sees it: else what it has changed would be taken for a correction."""
    ct = abdomen_phantom(slices=6, size=(96, 112), spacing=(12.0, 4.0, 4.0)).volume
    of_ct = load_model(None, ABDOMEN)
    runner = Runner(of_ct.network, torch.device("cpu"), context=of_ct.context)
    seen = features_of(runner, of_ct.preprocessing, ct, ABDOMEN)
    by_model = {}
    for told in (of_ct, replace(of_ct, context=None)):
        slices = SingleSlices(ct, told, "cpu")
        slices.prepare([2])
        by_model[told] = slices._seen
    for n, of_slice in by_model[of_ct].items():
        assert np.abs(of_slice.probabilities - seen.probabilities[n].numpy()).max() < 1e-3
        assert np.array_equal(of_slice.hidden, seen.hidden[n].numpy())
    untold = by_model[slices.model]
    assert max(np.abs(untold[n].probabilities - seen.probabilities[n].numpy()).max() for n in untold) > 0.1


def test_a_network_that_does_not_tell_its_features_is_answered_by_grey_values(volume, model, masks, monkeypatch):
    monkeypatch.setattr("dinsegment.inference.runner.last_layer", lambda _network: None)
    slices = SingleSlices(volume, model, "cpu")
    assert len(slices.of_slice(MIDDLE).features()) == 1
    whole, missed = masks[MIDDLE], halves(masks[MIDDLE])
    stroke = Stroke(MIDDLE, line_in(missed), nothing(whole))
    after = answer(slices, LV, stroke, {MIDDLE: whole & ~missed})[MIDDLE]
    assert dice(after, whole) > dice(whole & ~missed, whole) + 0.05


def test_features_are_what_the_last_layer_makes_the_logits_of(slices, model):
    """The last layer, applied to what was kept, gives the network's probabilities again."""
    seen = slices.of_slice(MIDDLE)
    hidden = torch.from_numpy(seen.features()[1:])[None]
    with torch.inference_mode():
        probabilities = model.network.decoder.classify(hidden).softmax(1)[0].numpy()
    assert np.abs(probabilities - seen.probabilities).max() < 0.02


# --- the head


def parted(rows=20, columns=30):
    """Two kinds of pixels, told apart by one feature beside a useless one; and nothing known of either."""
    kind = np.zeros((rows, columns))
    kind[:, columns // 2 :] = 1.0
    noise = np.random.default_rng(0).normal(size=(rows, columns))
    return np.stack((kind, noise)), np.zeros((rows, columns))


def distance_to(mask):
    from scipy import ndimage

    return ndimage.distance_transform_edt(~mask)


def test_the_head_carries_what_is_like_a_stroke_and_near_it():
    features, logits = parted()
    belongs = np.zeros(logits.shape, bool)
    belongs[10, 18:22] = True
    added = head(features, logits, belongs, belongs & False, distance_to(belongs))
    assert added[10, 20] > 1.5
    assert added[12, 20] > added[12, 13] + 0.5  # As near, but of the other kind.
    assert abs(added[10, 0]) < 0.2


def test_the_head_adds_nothing_where_the_logits_say_it_already():
    features, logits = parted()
    belongs = np.zeros(logits.shape, bool)
    belongs[10, 18:22] = True
    added = head(features, logits + 5.0, belongs, belongs & False, distance_to(belongs))
    assert np.abs(added).max() < 1e-9


# --- the cut itself


def test_a_cut_without_borders_in_the_way_is_the_sign():
    logits = np.full((6, 7), -50.0)
    logits[2:4, 2:5] = 50.0
    assert np.array_equal(cut(logits, np.zeros((6, 7))), logits > 0)


def test_a_cut_runs_along_the_edge_of_the_image():
    image = np.zeros((20, 20))
    image[5:15, 5:15] = 1.0
    logits = np.zeros((20, 20))
    logits[10, 10], logits[0] = np.inf, -np.inf
    logits[:, (0, -1)] = logits[-1] = -1.0
    assert np.array_equal(cut(logits, image), image > 0)


def test_what_is_certain_is_cut_so():
    logits = np.full((9, 9), -4.0)
    logits[4, 4] = np.inf
    assert cut(logits, np.zeros((9, 9)))[4, 4]
    assert not cut(-logits, np.zeros((9, 9)))[4, 4]


# --- the worker's side


@pytest.fixture
def events():
    class Channel:
        def __init__(self):
            self.sent = []
            self.lives = []

        def send(self, event, **content):
            self.sent.append({"event": event, **content})

        def alive(self, request_id):
            self.lives.append(request_id)

    return Channel()


def ask(models, channel, folder, **request):
    worker_answer({"id": 1, "folder": str(folder)} | request, models, channel)
    return channel.sent[-1]


def test_the_worker_gives_what_the_library_gives(volume, slices, masks, events, tmp_path, monkeypatch):
    monkeypatch.setattr("dinsegment.correction.strokes.NEAR_MM", 20.0)
    models = Models()
    whole, missed = masks[MIDDLE], halves(masks[MIDDLE])
    line = line_in(missed)
    given = {k: masks[k] & ~halves(masks[k]) for k in (MIDDLE - 1, MIDDLE, MIDDLE + 1)}
    for name, array in ((MASKS, np.stack(list(given.values()))), (BELONGS, line), (OTHER, nothing(line))):
        np.save(tmp_path / name, array)
    stroke = {"command": "stroke", "key": "a", "segment": LV, "slice": MIDDLE, "first": MIDDLE - 1}
    assert ask(models, events, tmp_path, **stroke)["known"] is False
    np.save(tmp_path / IMAGE, volume.array)
    grid = {"name": volume.name, "ijk_to_ras": volume.ijk_to_ras.tolist(), "modality": volume.modality}
    look = {"command": "look", "key": "a", "slices": [MIDDLE, 99]}
    about = {"task": "heart", "model": None, "device": "cpu", "volume": grid}
    assert ask(models, events, tmp_path, **look)["known"] is False
    assert ask(models, events, tmp_path, **look, **about)["known"] is True
    (tmp_path / IMAGE).unlink()  # It is remembered.
    assert ask(models, events, tmp_path, **look)["known"] is True
    assert ask(models, events, tmp_path, **stroke)["known"] is True
    expected = answer(slices, LV, Stroke(MIDDLE, line, nothing(line)), given)
    assert np.array_equal(np.load(tmp_path / ANSWER), np.stack([expected[k] for k in given]))
    assert ask(models, events, tmp_path, **{**stroke, "key": "b"})["known"] is False
    assert dice(np.load(tmp_path / ANSWER)[1], whole) > 0.88


def test_signs_of_life_are_those_of_the_request(volume, events, tmp_path):
    """The network asks whether to go on; it must not be the first request that it asks."""
    models = Models()
    np.save(tmp_path / IMAGE, volume.array)
    grid = {"name": volume.name, "ijk_to_ras": volume.ijk_to_ras.tolist(), "modality": volume.modality}
    look = {"command": "look", "key": "a"}
    about = {"task": "heart", "model": None, "device": "cpu", "volume": grid}
    ask(models, events, tmp_path, **look, **about, slices=[0])
    assert set(events.lives) == {1}
    events.lives.clear()
    ask(models, events, tmp_path, **look, slices=[1], id=2)
    assert set(events.lives) == {2}
    mask = np.zeros((1, *volume.shape[1:]), bool)
    mask[0, 90:110, 100:120] = True
    for name, array in ((MASKS, mask), (BELONGS, mask[0]), (OTHER, ~mask[0] & False)):
        np.save(tmp_path / name, array)
    events.lives.clear()
    ask(models, events, tmp_path, command="stroke", key="a", segment=LV, slice=4, first=4, id=3)
    assert set(events.lives) == {3}


def test_an_image_that_fails_is_not_taken_for_the_one_before(volume, tmp_path):
    server = StrokeServer(load_model)
    grid = {"name": "x", "ijk_to_ras": volume.ijk_to_ras.tolist(), "modality": "MR"}
    about = {"task": "heart", "model": None, "device": "cpu", "volume": grid, "slices": []}
    np.save(tmp_path / IMAGE, volume.array)
    assert server.look({"key": "a", **about}, tmp_path / IMAGE, lambda: False) == {"known": True}
    np.save(tmp_path / IMAGE, np.zeros((2, 8, 8), np.float32))
    with pytest.raises(InputError, match="constant"):
        server.look({"key": "b", **about}, tmp_path / IMAGE, lambda: False)
    assert server.look({"key": "a", "slices": []}, tmp_path / IMAGE, lambda: False) == {"known": False}
