"""What a network that sees the whole trunk tells one that sees slices: on its grid, pooled, loaded, learned."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from phantom_cases import write_abdomens
from safetensors.torch import save
from test_axial import each_orientation, stored
from test_body import CT, ct
from torch import nn
from typer.testing import CliRunner

from dinsegment.cli import app
from dinsegment.errors import Cancelled, InputError, ModelError
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume
from dinsegment.inference.anatomy import box_around_body, find_box
from dinsegment.inference.context import Context, ContextGrid, Expected, Pooling, Surroundings
from dinsegment.inference.looking import look
from dinsegment.inference.model import load_model
from dinsegment.inference.prediction import predict
from dinsegment.inference.runner import Runner
from dinsegment.inference.view import AT_A_TIME, View
from dinsegment.models.entries import MODELS_VARIABLE
from dinsegment.network import DIN, DINConfig, build_network
from dinsegment.network.context import ContextConfig, ContextNetwork
from dinsegment.phantom.ct import abdomen_phantom
from dinsegment.tasks import ABDOMEN, get_task
from dinsegment.training.context.data import FieldsOfView, Trunk, TrunkLesson
from dinsegment.training.context.loop import context_loss, train_context
from dinsegment.training.context.recipe import ContextRecipe
from dinsegment.training.recipe import load_recipe

TRUNK = get_task("trunk")
TINY = ContextConfig(dims=(4, 8, 8), depths=(1, 1, 1))
GRID = ContextGrid(spacing=8.0)
POOLING = Pooling(weight=1.0, floor=1e-3, least=1e-3)
SLICES = DINConfig(
    dims=(4, 8, 8, 8), depths=(1, 1, 1, 1), heads=(1, 2, 2, 2), window=4, decoder_dim=8,
    classes=ABDOMEN.classes, in_channels=3,
)  # fmt: skip
COARSE = replace(CT, spacing=12.0, box=(32, 48), overview_spacing=12.0, slice_spacing=8.0)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def phantom():
    return abdomen_phantom(slices=30, size=(60, 80), spacing=(10.0, 5.0, 5.0), seed=3)


@pytest.fixture(scope="module")
def slices():
    torch.manual_seed(1)
    return DIN(SLICES).eval()


def network(seed=0, config=TINY):
    torch.manual_seed(seed)
    return ContextNetwork(config).eval()


def context(pooling=POOLING, seed=0):
    labels = tuple({s.name: s.label for s in ABDOMEN.segments}.get(s.name, 0) for s in TRUNK.segments)
    return Context("tiny", network(seed), GRID, (0, *labels), ABDOMEN.classes, pooling)


# --- the network -----------------------------------------------------------------------------------------


def test_every_level_gives_logits_of_its_own():
    levels = network()(torch.randn(2, 3, 16, 8, 24))
    assert [tuple(one.shape) for one in levels] == [(2, 14, 16, 8, 24), (2, 14, 8, 4, 12)]


@pytest.mark.parametrize("sides", [(16, 8, 24), (5, 7, 9), (1, 1, 1)])
def test_probabilities_of_any_size(sides):
    found = network().probabilities(torch.randn(3, *sides))
    assert found.shape == (14, *sides)
    assert torch.allclose(found.sum(0), torch.ones(sides), atol=1e-5)


def test_it_sees_far_along_all_axes():
    """With three levels a voxel is told of others more than ten voxels away."""
    seen, own = torch.zeros(1, 3, 48, 48, 48), network()
    seen.requires_grad_()
    own(seen)[0][0, :, 24, 24, 24].sum().backward()
    reached = seen.grad.abs().sum((0, 1)).nonzero()
    assert (reached.amin(0) < 12).all() and (reached.amax(0) > 36).all()


@pytest.mark.parametrize(
    "options",
    [{"dims": [4, 8]}, {"classes": 1}, {"dims": [4], "depths": [1]}, {"dims": [4, 0], "depths": [1, 1]}, {"width": 3}],
)
def test_sizes_that_are_none(options):
    with pytest.raises(ValueError):
        ContextConfig.from_dict(options)


def test_its_options_survive_json():
    options = json.loads(json.dumps(TINY.to_dict()))
    assert ContextConfig.from_dict(options) == TINY
    assert isinstance(build_network(options), ContextNetwork)


# --- the grid --------------------------------------------------------------------------------------------


@each_orientation
def test_what_it_sees_does_not_depend_on_how_the_image_is_stored(order, flips):
    volume = ct(shape=(5, 40, 50), spacing=(9.0, 9.0, 9.0), half=(100.0, 150.0))
    seen = GRID.channels(SliceStack.axial(volume))
    again = GRID.channels(SliceStack.axial(stored(volume, order, flips)))
    assert torch.allclose(seen, again, atol=1e-4)


def test_black_lies_outside_of_the_image_and_places_are_those_from_the_body():
    volume = ct(shape=(6, 60, 70), spacing=(10.0, 6.0, 6.0), half=(90.0, 130.0), center=(-24.0, 30.0))
    stack = SliceStack.axial(volume)
    grey, behind, left = GRID.channels(stack)
    assert float(grey.min()) >= 0 and float(grey.max()) <= 1
    assert float(grey[:, 0, 0].max()) == 0
    inside = grey > 0.04
    rows, columns = behind[inside] * GRID.reach, left[inside] * GRID.reach
    assert abs(float(rows.min() + rows.max())) < 2 * GRID.spacing
    assert abs(float(columns.min() + columns.max())) < 2 * GRID.spacing
    assert float(rows.max()) == pytest.approx(90, abs=12) and float(columns.max()) == pytest.approx(130, abs=12)


def test_a_table_does_not_move_the_body():
    plain, lying = (GRID.channels(SliceStack.axial(ct(table=table))) for table in (None, 4.0))
    assert torch.allclose(plain[1:], lying[1:], atol=2 * GRID.spacing / GRID.reach)


def test_an_image_of_one_slice_and_a_huge_voxel():
    flat = ct(shape=(1, 110, 130))
    (only,) = context().surroundings(SliceStack.axial(flat), torch.device("cpu"), lambda *_: None).expected
    assert only.logs.shape[1] == 1
    one = Volume(np.zeros((1, 1, 1), np.float32), np.diag([3.0, 3.0, 3.0, 1.0]), "one", "CT")
    assert GRID.channels(SliceStack.axial(one)).shape == (3, 1, 1, 1)


@pytest.mark.parametrize("options", [{"spacing": 0.0}, {"grey_window": [3, 1]}, {"reach": -1.0}, {"pitch": 2}])
def test_a_grid_that_is_none(options):
    with pytest.raises((ValueError, TypeError)):
        ContextGrid.from_dict(options)


# --- pooling ---------------------------------------------------------------------------------------------


def expected(stack, places, probability=0.999):
    """Label 1 is expected within 20 mm of a place (z, y, x), in mm from the stack's first voxel."""
    view = GRID.view(stack)
    axes = [p * s for p, s in zip(view.places, (stack.slice_spacing, *stack.spacing), strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    near = np.sqrt((z - places[0]) ** 2 + (y - places[1]) ** 2 + (x - places[2]) ** 2) < 20
    one = torch.from_numpy(np.where(near, probability, 1 - probability)).float()
    return Surroundings(stack, (Expected.on(torch.stack((1 - one, one)).log(), view),), 1e-3)


@settings(max_examples=20, deadline=None)
@given(st.floats(2, 12), st.floats(0.7, 6), st.floats(1, 9), st.tuples(*[st.floats(0.3, 0.7)] * 3))
def test_what_is_expected_somewhere_is_weighed_in_there(slice_spacing, pixel, spacing, share):
    """However the stack and the view are sampled, the middle of what is won lies where it was expected."""
    count, side = int(160 / slice_spacing) + 1, int(200 / pixel) + 1
    stack = SliceStack(np.zeros((count, side, side), np.float32), (pixel, pixel), 0, slice_spacing)
    place = np.array(share) * (160, 200, 200)
    view = View(stack, (100.0, 100.0), (int(190 / spacing), int(190 / spacing)), spacing, 4.0)
    chosen = np.arange(view.count)
    unsure = torch.full((len(chosen), 2, *view.size), 0.5)
    won = torch.cat(list(expected(stack, place).weigh(unsure.split(7), view, chosen)))[:, 1] > 0.5
    axes = [p * s for p, s in zip(view.places, (slice_spacing, pixel, pixel), strict=True)]
    middle = [axis[indices].mean() for axis, indices in zip(axes, np.nonzero(won.numpy()), strict=True)]
    assert np.allclose(middle, place, atol=max(spacing, GRID.spacing) * 0.75)


def test_no_expectation_changes_nothing_but_what_was_ruled_out():
    stack = SliceStack.axial(ct())
    view = View(stack, stack.middle_mm, (8, 9), 6.0, 6.0)
    chosen = np.array([1, 3])
    batch = torch.rand(2, 4, 8, 9).softmax(1)
    flat = torch.full((4, *np.array(GRID.channels(stack).shape[1:])), -1.3)
    none = Surroundings(stack, (Expected.on(flat, GRID.view(stack)),), 1e-6)
    (same,) = none.weigh([batch], view, chosen)
    assert torch.allclose(same, batch, atol=1e-5)


def test_a_sure_expectation_wins_over_an_unsure_slice_and_loses_to_a_sure_one():
    stack = SliceStack.axial(ct())
    view = View(stack, stack.middle_mm, (4, 4), 6.0, 6.0)
    around = expected(stack, np.array([15.0, *stack.middle_mm]), probability=0.99)
    against = torch.tensor([0.8, 0.2])[None, :, None, None].expand(1, 2, 4, 4)
    sure = torch.tensor([0.9995, 0.0005])[None, :, None, None].expand(1, 2, 4, 4)
    middle = np.array([view.count // 2])
    assert (next(around.weigh([against], view, middle))[:, 1] > 0.5).all()
    assert (next(around.weigh([sure], view, middle))[:, 1] < 0.5).all()


@pytest.mark.parametrize("options", [{"weight": 0.0}, {"floor": 0.0}, {"least": 1.0}])
def test_opinions_that_cannot_be_pooled(options):
    with pytest.raises(ValueError):
        Pooling(**{"weight": 1.0, "floor": 0.1, "least": 0.1, **options})


# --- with the runner -------------------------------------------------------------------------------------


def test_labels_change_and_the_image_is_looked_at_once(phantom, slices, monkeypatch):
    asked = []
    monkeypatch.setattr(
        ContextNetwork, "probabilities",
        lambda self, x, given=ContextNetwork.probabilities: asked.append(x.shape) or given(self, x),
    )  # fmt: skip
    plain = predict(Runner(slices, torch.device("cpu")), COARSE, phantom.volume, ABDOMEN)
    assert not asked
    strong = context(Pooling(weight=10.0, floor=1e-6, least=0.1))
    told = predict(Runner(slices, torch.device("cpu"), context=strong), COARSE, phantom.volume, ABDOMEN)
    assert len(asked) == 1
    assert told.shape == plain.shape and (told != plain).any()


def test_chosen_slices_are_told_what_all_are_told(phantom, slices):
    stack = SliceStack.axial(phantom.volume)
    view = box_around_body(COARSE, stack)
    runner = Runner(slices, torch.device("cpu"), context=context())
    every = torch.cat(list(look(runner, COARSE, view, "", 0, 1)))
    few = torch.cat(list(look(runner, COARSE, view, "", 0, 1, np.array([2, 5, 11]))))
    assert torch.allclose(few, every[[2, 5, 11]], atol=1e-5)
    assert torch.allclose(every.sum(1), torch.ones_like(every[:, 0]), atol=1e-5)


def test_it_can_be_cancelled_between_its_layers(phantom):
    asked = iter(range(100))

    def ask(_done, _text):
        if next(asked) == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        context().surroundings(SliceStack.axial(phantom.volume), torch.device("cpu"), ask)


def test_an_image_of_many_slices_can_be_cancelled_while_they_are_brought_to_a_coarse_grid(slices):
    """A thousand of them take seconds."""
    parts, asked = 6, []
    stack = SliceStack(np.zeros((parts * AT_A_TIME, 8, 8), np.int16), (40.0, 40.0), 0, 1.0)
    runner = Runner(slices, torch.device("cpu"), cancelled=lambda: bool(asked.append(1)), context=context())
    find_box(runner, COARSE, stack)
    assert len(asked) >= parts
    asked.clear()
    GRID.channels(stack, lambda: asked.append(1))
    assert len(asked) >= parts

    def stop(*_):
        raise Cancelled

    with pytest.raises(Cancelled):
        context().surroundings(stack, torch.device("cpu"), stop)


# --- in weights.json -------------------------------------------------------------------------------------


def entries(told="trunk-tiny", **options):
    common = {"license": "CC0-1.0", "data": {"name": "none", "license": "none", "citation": "none", "split": "none"}}
    return [
        {
            "name": "abdomen-tiny", "task": "abdomen", "description": "A tiny one.", "network": SLICES.to_dict(),
            "preprocessing": COARSE.to_dict(), "weights": {"file": "a.safetensors"}, **common,
            "context": {"model": told, "weight": 1.0, "floor": 1e-3, "least": 1e-3, **options},
        },
        {
            "name": "trunk-tiny", "task": "trunk", "description": "It tells the other.", "network": TINY.to_dict(),
            "preprocessing": GRID.to_dict(), "weights": {"file": "b.safetensors"}, **common,
        },
    ]  # fmt: skip


def publish(folder, slices, models):
    for model, own in zip(models, (slices, network()), strict=True):
        content = save({k: v.clone() for k, v in own.state_dict().items()})
        (folder / model["weights"]["file"]).write_bytes(content)
        model["weights"] |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "weights.json").write_text(json.dumps({"models": models}), encoding="utf-8")


def test_a_model_is_loaded_with_what_tells_it(tmp_path, slices):
    publish(tmp_path, slices, entries())
    loaded = load_model(None, ABDOMEN, tmp_path).context
    assert loaded.name == "trunk-tiny" and loaded.grid == GRID and loaded.pooling == POOLING
    by_name = {s.name: s.label for s in ABDOMEN.segments}
    assert loaded.labels == (0, *(by_name.get(s.name, 0) for s in TRUNK.segments))
    for name, value in network().state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], value)


def test_what_tells_others_is_no_model_to_segment_with(tmp_path, slices):
    publish(tmp_path, slices, entries())
    with pytest.raises(ModelError, match="segments nothing itself"):
        load_model("trunk-tiny", None, tmp_path)


def test_one_that_there_is_not(tmp_path, slices):
    publish(tmp_path, slices, entries(told="nobody"))
    with pytest.raises(ModelError, match="no model 'nobody'"):
        load_model("abdomen-tiny", ABDOMEN, tmp_path)


def test_who_fetches_a_model_has_what_tells_it_too(tmp_path, slices, monkeypatch):
    publish(tmp_path, slices, entries())
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    done = CliRunner().invoke(app, ["models", "--fetch", "abdomen-tiny"])
    assert done.exit_code == 0 and "a.safetensors" in done.output and "b.safetensors" in done.output


def test_the_folder_of_a_run_is_told_by_a_model_that_ships(tmp_path, slices, monkeypatch):
    run, shipped = tmp_path / "run", tmp_path / "shipped"
    for folder in (run, shipped):
        folder.mkdir()
        publish(folder, slices, entries())
    (run / "b.safetensors").unlink()  # which the run does not list below, and no run has
    listed = json.loads((run / "weights.json").read_text(encoding="utf-8"))
    (run / "weights.json").write_text(json.dumps({"models": listed["models"][:1]}), encoding="utf-8")
    monkeypatch.setenv(MODELS_VARIABLE, str(shipped))
    assert load_model(str(run), ABDOMEN).context.name == "trunk-tiny"


@pytest.mark.parametrize("options", [{"weight": -1.0}, {"strength": 1.0}])
def test_options_that_it_does_not_have(tmp_path, slices, options):
    publish(tmp_path, slices, entries(**options))
    with pytest.raises(ModelError, match="do not fit"):
        load_model("abdomen-tiny", ABDOMEN, tmp_path)


def test_damaged_weights_of_it(tmp_path, slices):
    publish(tmp_path, slices, entries())
    content = bytearray((tmp_path / "b.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "b.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        load_model("abdomen-tiny", ABDOMEN, tmp_path)


# --- how it learns ---------------------------------------------------------------------------------------


def test_loss_of_what_is_right_and_of_organs_that_are_not_there():
    labels = torch.zeros(1, 8, 8, 8, dtype=torch.int64)
    labels[:, 2:6, 2:6, 2:6] = 3
    right = nn.functional.one_hot(labels, 5).movedim(-1, 1).float() * 40
    assert float(context_loss([right], labels)) < 1e-3
    wrong = right.roll(1, 1)
    assert float(context_loss([wrong], labels)) > 1
    half = context_loss([right, wrong[:, :, ::2, ::2, ::2]], labels)
    assert float(half) == pytest.approx(
        float(context_loss([wrong[:, :, ::2, ::2, ::2]], labels[:, ::2, ::2, ::2])) / 3, rel=0.02
    )


def test_loss_is_cross_entropy_and_one_minus_dice():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 4, 4, 4), torch.randint(0, 2, (2, 4, 4, 4))
    p = logits.softmax(1)[:, 1]
    truth = (labels == 1).float()
    dice = (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)
    by_hand = nn.functional.cross_entropy(logits, labels) + 1 - dice
    assert float(context_loss([logits], labels)) == pytest.approx(float(by_hand), rel=1e-5)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    written = write_abdomens(tmp_path_factory.mktemp("data") / "btcv", 2)
    names = {s.name: s.label for s in TRUNK.segments}
    return [replace(case, label_map={n: n for n in names.values()}) for case in written]


RECIPE = ContextRecipe(network=TINY, preprocessing=GRID, patch=(16, 24, 32), minutes=0.05, warmup_steps=5)


def test_a_case_is_kept_with_its_labels_where_they_are(cases):
    trunk = Trunk.of(cases[0], TRUNK, GRID)
    volume, labels = cases[0].read(TRUNK)
    assert trunk.spacing == GRID.spacing / 2 and trunk.grey.shape == trunk.labels.shape
    for segment in TRUNK.segments:
        ml = float((trunk.labels == segment.label).sum()) * trunk.spacing**3 / 1000
        assert ml == pytest.approx((labels == segment.label).sum() * volume.voxel_volume_ml, rel=0.15, abs=3)


def test_a_case_without_labels(cases):
    with pytest.raises(InputError, match="nothing to learn from"):
        Trunk.of(replace(cases[0], label_map=dict.fromkeys(range(1, 14), 0)), TRUNK, GRID)


def test_the_seed_alone_decides_what_is_drawn(cases):
    trunks = [Trunk.of(case, TRUNK, GRID) for case in cases]
    first, again, other = (FieldsOfView(trunks, RECIPE, seed).draw() for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == (3, *RECIPE.patch) and first[1].shape == RECIPE.patch


def test_fields_of_view_show_the_labels_where_the_image_shows_the_organs(cases):
    """Bones and organs are brighter than air, however they were turned, bent and scaled."""
    fields = FieldsOfView([Trunk.of(cases[0], TRUNK, GRID)], RECIPE, 5)
    brighter = []
    for _ in range(12):
        (grey, *_), labels = fields.draw()
        organs = (labels > 0) & (labels != 7)
        if organs.sum() > 50:
            brighter.append(float((grey[organs] > 0.15).float().mean()))
    assert len(brighter) > 6 and np.mean(brighter) > 0.9


def test_a_training_writes_a_run_and_goes_on_where_it_stopped(cases, tmp_path):
    told = []
    device = torch.device("cpu")
    done = train_context(TrunkLesson(RECIPE), cases[:1], cases[1:], tmp_path / "run", device, told.append)
    assert done.step > 0 and done.seconds >= 60 * RECIPE.minutes and 0 <= done.dice <= 1
    assert {"checkpoint.pt", "best.safetensors", "weights.json"} == {p.name for p in (tmp_path / "run").iterdir()}
    assert "Step" in told[-1] and "validation Dice" in told[-1]
    entry = json.loads((tmp_path / "run" / "weights.json").read_text(encoding="utf-8"))["models"][0]
    assert entry["task"] == "trunk" and ContextConfig.from_dict(entry["network"]) == TINY
    longer = replace(RECIPE, minutes=2 * RECIPE.minutes)
    after = train_context(TrunkLesson(longer), cases[:1], [], tmp_path / "run", device, told.append)
    assert after.step > done.step and after.seconds > done.seconds
    with pytest.raises(InputError, match="another recipe"):
        train_context(TrunkLesson(replace(RECIPE, seed=4)), cases[:1], [], tmp_path / "run", device, told.append)


def test_it_learns_a_trunk_by_heart():
    """Two organs that nothing tells apart but the side of the body on which they lie, from nothing."""
    torch.manual_seed(0)
    labels = torch.zeros(1, 8, 16, 24, dtype=torch.int64)
    labels[:, 2:6, 4:10, 3:9], labels[:, 2:6, 4:10, 15:21] = 1, 2
    left = torch.linspace(-1, 1, 24).expand(1, 8, 16, 24)
    seen = torch.stack(((labels > 0) * 0.8, torch.zeros_like(left), left), 1).float()
    own = ContextNetwork(replace(TINY, classes=3))
    optimizer = torch.optim.AdamW(own.parameters(), lr=1e-2)
    for _ in range(60):
        loss = context_loss(own(seen), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = own(seen)[0].argmax(1)
    for label in (1, 2):
        a, b = found == label, labels == label
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.9


def test_a_recipe_of_slices_has_no_such_network(tmp_path):
    path = tmp_path / "r.json"
    options = {"name": "r", "task": "trunk", "network": {"name": "context"}, "preprocessing": {"spacing": 3.0}}
    path.write_text(json.dumps(options), encoding="utf-8")
    with pytest.raises(InputError, match="whole volumes"):
        load_recipe(str(path))
