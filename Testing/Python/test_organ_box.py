"""A closer look: the box of the organs, what is seen of it, the network that sees it, and what it is worth."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from phantom_cases import write_abdomens
from safetensors.torch import save
from test_axial import stored
from test_memory import Allocated
from typer.testing import CliRunner

from dinsegment.cli import app
from dinsegment.errors import Cancelled, InputError, ModelError
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume
from dinsegment.inference import looking
from dinsegment.inference import runner as runner_module
from dinsegment.inference.anatomy import box_around_body
from dinsegment.inference.context import Closer, Context, ContextGrid, Expected, Pooling, Surroundings
from dinsegment.inference.looking import TOLD, look, look_at_segments
from dinsegment.inference.model import load_model
from dinsegment.inference.organ_box import (
    HU_RANGE,
    BoxGrid,
    OrganBox,
    to_left_anterior_inferior,
    to_superior_posterior_left,
)
from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.inference.runner import Runner
from dinsegment.inference.view import View
from dinsegment.models.entries import MODELS_VARIABLE
from dinsegment.network import DINConfig, build_network
from dinsegment.network.context import ContextConfig, ContextNetwork
from dinsegment.network.obelisk import Obelisk, ObeliskConfig
from dinsegment.phantom.ct import abdomen_phantom
from dinsegment.tasks import ABDOMEN, get_task
from dinsegment.training.context import organ_data
from dinsegment.training.context.loop import context_loss, train_context
from dinsegment.training.context.organ_data import Boxes, OrganLesson, Organs, whole
from dinsegment.training.context.published import CONVOLUTIONS, published_weights
from dinsegment.training.context.recipe import OrganRecipe

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
ORGANS, TRUNK = get_task("organs"), get_task("trunk")
PLAIN = BoxGrid(margins=(0.0,) * 6)
SPACING = (5.0, 2.0, 3.0)
TINY = ObeliskConfig(side=24, near=4, far=4)


def labels_with(*blocks):
    labels = np.zeros((20, 40, 30), np.uint8)
    for label, block in blocks:
        labels[block] = label
    return labels


# --- the box -------------------------------------------------------------------------------------------


def test_it_lies_around_the_largest_piece_of_each_organ():
    labels = labels_with((3, np.s_[0:19, 0:39, 0:29]), (1, np.s_[4:8, 10:20, 5:9]), (2, np.s_[6:14, 15:34, 7:20]))
    labels[18, 38, 28] = 1  # a stray voxel, far away
    box = PLAIN.box(labels, (1, 2), (100.0, -20.0, 7.0), SPACING)
    assert box.low == pytest.approx((100 + 3.5 * 5, -20 + 9.5 * 2, 7 + 4.5 * 3))
    assert box.high == pytest.approx((100 + 13.5 * 5, -20 + 33.5 * 2, 7 + 19.5 * 3))


def test_margins_move_its_faces():
    labels = labels_with((1, np.s_[4:14, 5:30, 4:20]))
    plain, other = (
        replace(PLAIN, margins=margins).box(labels, (1,), (0.0, 0.0, 0.0), SPACING)
        for margins in ((0.0,) * 6, (1.0, -2.0, 3.0, 4.0, -5.0, 6.0))
    )
    assert np.subtract(plain.low, other.low) == pytest.approx((1, 3, -5))
    assert np.subtract(other.high, plain.high) == pytest.approx((-2, 4, 6))


def test_without_organs_there_is_none():
    assert PLAIN.box(labels_with((3, np.s_[2:14, 2:30, 2:20])), (1, 2), (0.0, 0.0, 0.0), SPACING) is None


@pytest.mark.parametrize(("slices", "there"), [(8, False), (9, True)])
def test_of_a_slab_below_45_mm_there_is_none(slices, there):
    labels = labels_with((1, np.s_[2 : 2 + slices, 2:30, 2:20]))
    assert (PLAIN.box(labels, (1, 2), (0.0, 0.0, 0.0), SPACING) is not None) == there


@pytest.mark.parametrize("options", [{"around": []}, {"margins": [1.0]}, {"grey_window": [3, 1]}, {"pitch": 2}])
def test_a_grid_that_is_none(options):
    with pytest.raises((ValueError, TypeError)):
        BoxGrid.from_dict(options)


def test_it_comes_back_from_json():
    grid = BoxGrid(around=("Liver",), air=-900.0)
    assert BoxGrid.from_dict(json.loads(json.dumps(grid.to_dict()))) == grid


# --- what is seen of it --------------------------------------------------------------------------------


def ramp(shape=(12, 30, 26)):
    """A CT whose grey values are 40 plus 2 for each mm to superior, 0.5 to posterior and 0.1 to the left."""
    z, y, x = (np.arange(n) * step for n, step in zip(shape, SPACING, strict=True))
    array = 20 + 2 * z[:, None, None] + 0.5 * y[:, None] + 0.1 * x
    return Volume(array.astype(np.float32), np.diag([-SPACING[2], -SPACING[1], SPACING[0], 1.0]), "ramp", "CT")


def test_grey_values_lie_where_the_image_has_them_along_the_networks_axes():
    box, side = OrganBox((10.0, 6.0, 9.0), (40.0, 50.0, 60.0)), 8
    seen = PLAIN.channels(SliceStack.axial(ramp()), box, side)
    assert seen.shape == (1, side, side, side)
    z, y, x = (low + (np.arange(side) + 0.5) * (high - low) / side for low, high in zip(box.low, box.high, strict=True))
    hu = 20 + 2 * z[None, None, ::-1] + 0.5 * y[None, ::-1, None] + 0.1 * x[:, None, None]
    assert np.allclose(seen[0], hu / HU_RANGE + 1, atol=1e-5)


@pytest.mark.parametrize(("order", "flips"), [((0, 1, 2), (1, 0, 1)), ((2, 0, 1), (0, 1, 0)), ((1, 2, 0), (1, 1, 1))])
def test_however_an_image_is_stored_the_same_is_seen(order, flips):
    box = OrganBox((10.0, 6.0, 9.0), (40.0, 50.0, 60.0))
    plain = PLAIN.channels(SliceStack.axial(ramp()), box, 8)
    other = PLAIN.channels(SliceStack.axial(stored(ramp(), order, flips)), box, 8)
    assert torch.allclose(plain, other, atol=1e-4)


def test_beyond_the_image_it_goes_on_as_at_its_edge():
    seen = PLAIN.channels(SliceStack.axial(ramp()), OrganBox((-40.0, 6.0, 9.0), (40.0, 50.0, 60.0)), 8)
    inferior = seen[0, :, :, -3:]
    assert torch.allclose(inferior[..., 0], inferior[..., 2], atol=1e-6) and seen.isfinite().all()


def test_a_region_of_air_is_air_and_a_dark_pixel_is_none():
    array = np.full((3, 20, 20), -90.0, np.float32)
    array[:, 5, 5], array[:, 10:16, 10:16] = -300, -300
    volume = Volume(array, np.diag([-2.0, -2.0, 2.0, 1.0]), "fat", "CT")
    seen = PLAIN.channels(SliceStack.axial(volume), OrganBox((-1.0, -1.0, -1.0), (5.0, 39.0, 39.0)), 20)
    hu = to_superior_posterior_left((seen - 1) * HU_RANGE)[0, 9]
    assert hu[12, 12] == pytest.approx(-1000) and hu[5, 5] == pytest.approx(-125) and hu[2, 2] == pytest.approx(-90)


def test_axes_there_and_back():
    values = torch.rand(2, 3, 4, 5)
    assert to_left_anterior_inferior(values).shape == (2, 5, 4, 3)
    assert torch.equal(to_superior_posterior_left(to_left_anterior_inferior(values)), values)
    assert to_left_anterior_inferior(values)[0, 1, 0, 0] == values[0, 2, 3, 1]


# --- the network ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"side": 20}, {"classes": 1}, {"near": 3}, {"far": 6}, {"features": 0}])
def test_sizes_that_it_does_not_have(options):
    with pytest.raises(ValueError, match="OBELISK"):
        ObeliskConfig(**options)


def test_it_comes_from_options_and_says_what_it_is():
    network = build_network({"name": "obelisk", "side": 24, "near": 4, "far": 4})
    assert isinstance(network, Obelisk) and network.config == TINY and network.kind.returns == "context"
    with pytest.raises(ValueError, match="no option 'width'"):
        ObeliskConfig.from_dict({"name": "obelisk", "width": 3})
    with torch.no_grad():
        logits = network(torch.rand(1, 1, 24, 24, 24))
    assert [level.shape for level in logits] == [(1, 10, 24, 24, 24)]


def test_it_reads_where_its_offsets_say():
    """The one bright voxel is seen as far away as the offset is, in halves of the box."""
    torch.manual_seed(0)
    places = Obelisk(TINY).near
    with torch.no_grad():
        places.offset.zero_()
        places.offset[:, 2] = -0.5  # along the first axis, by a quarter of the box
    image = torch.zeros(1, 1, 24, 24, 24)
    image[..., :8, :, :] = 1.0
    read = []
    places.first.register_forward_pre_hook(lambda _layer, inputs: read.append(inputs[0]))
    places(image, (4, 4, 4))
    profile = read[0][0, 0, :, 3, 3]
    where = torch.linspace(-1, 1, 6) - 0.5
    assert torch.equal(profile > 0.5, (where >= -1) & (where < (7.5 / 23) * 2 - 1))


def test_it_learns_a_box_by_heart():
    """Two blocks that nothing tells apart but where they lie."""
    torch.manual_seed(0)
    labels = torch.zeros(1, 24, 24, 24, dtype=torch.int64)
    labels[:, 4:10, 6:18, 6:18], labels[:, 15:21, 6:18, 6:18] = 1, 2
    seen = (labels > 0).float()[:, None] + 0.05 * torch.randn(1, 1, 24, 24, 24)
    own = Obelisk(replace(TINY, classes=3))
    optimizer = torch.optim.AdamW(own.parameters(), lr=1e-2)
    for _ in range(60):
        loss = context_loss(own(seen), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = own(seen)[0].argmax(1)
    for label in (1, 2):
        a, b = found == label, labels == label
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.95
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in own.parameters())


# --- with the network of the trunk ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def phantom():
    return abdomen_phantom(slices=24, size=(72, 90), spacing=(12.0, 6.0, 6.0))


class Knows(ContextNetwork):
    """Says of a phantom's trunk what is there."""

    def __init__(self, labels):
        super().__init__(ContextConfig(classes=9, dims=(4, 8), depths=(1, 1)))
        self.labels = labels

    def probabilities(self, x):
        shares = torch.from_numpy(np.stack([self.labels == n for n in range(9)])).float()
        return torch.nn.functional.interpolate(shares[None], x.shape[1:], mode="nearest")[0] * 0.9 + 0.1 / 9


def closer_of(**options):
    torch.manual_seed(1)
    by_name = {s.name: s.label for s in ABDOMEN.segments}
    around = tuple(by_name[name] for name in PLAIN.around)
    labels = (0, *(by_name.get(s.name, 0) for s in ORGANS.segments))
    return Closer("closer", Obelisk(TINY).eval(), PLAIN, around, labels, **{"weight": 1.0, "floor": 0.01, **options})


def context_of(phantom, closer):
    stack = SliceStack.axial(phantom.volume)
    found = stack.like(phantom.labels).array
    grid, pooling = ContextGrid(spacing=6.0), Pooling(1.0, 0.01, 0.001)
    return stack, Context("trunk", Knows(found).eval(), grid, tuple(range(9)), 9, pooling, closer)


def test_what_looks_closer_is_asked_in_the_box_of_what_was_found(phantom):
    stack, context = context_of(phantom, closer_of())
    trunk, closer = context.surroundings(stack, CPU, lambda *_: None).expected
    own = stack.like(phantom.labels).array
    organs = np.isin(own, context.closer.around)
    spacings = (stack.slice_spacing, *stack.spacing)
    for axis in range(3):
        there = np.flatnonzero(organs.any(tuple(n for n in range(3) if n != axis))) * spacings[axis]
        first = closer.first[axis] - closer.spacing[axis] / 2
        last = first + 24 * closer.spacing[axis]
        assert first == pytest.approx(there[0], abs=1.5 * spacings[axis])
        assert last == pytest.approx(there[-1], abs=1.5 * spacings[axis])
    assert closer.logs.shape == (9, 24, 24, 24) and trunk.logs.shape[0] == 9
    assert float(closer.logs.max()) <= 0 and float(closer.logs.min()) >= np.log(0.01) - 1e-5


def test_where_nothing_was_found_it_is_not_asked(phantom):
    stack, context = context_of(replace(phantom, labels=np.zeros_like(phantom.labels)), closer_of())
    assert len(context.surroundings(stack, CPU, lambda *_: None).expected) == 1


def test_it_can_be_cancelled_between_its_layers(phantom):
    stack, context = context_of(phantom, closer_of())
    asked = []
    context.surroundings(stack, CPU, lambda *_: asked.append(1))
    layers = sum(not any(m.children()) for m in context.closer.network.modules())
    assert len(asked) > layers // 2

    def ask(_done, _text):
        asked.pop()
        if not asked:
            raise Cancelled

    with pytest.raises(Cancelled):
        context.surroundings(stack, CPU, ask)


def test_it_can_be_cancelled_after_each_slice_of_its_box(phantom, monkeypatch):
    """A thousand thin slices take longer than the network."""
    seen = []
    monkeypatch.setattr(BoxGrid, "is_air", lambda self, plane, own=BoxGrid.is_air: seen.append(1) or own(self, plane))
    stack, context = context_of(phantom, closer_of())
    context.surroundings(stack, CPU, lambda *_: None)
    assert len(seen) > 8
    seen.clear()

    def ask(_done, text):
        if "closer" in text:
            raise Cancelled

    with pytest.raises(Cancelled):
        context.surroundings(stack, CPU, ask)
    assert len(seen) == 1


@pytest.fixture(scope="module")
def slices():
    torch.manual_seed(0)
    return build_network(SLICES.to_dict()).eval()


def test_progress_moves_with_it(phantom, slices):
    stack, context = context_of(phantom, closer_of())
    told = []
    runner = Runner(slices, CPU, lambda done, text: told.append((done, text)), context=context)
    batches = look(runner, COARSE, box_around_body(COARSE, stack), "Segmenting", 0.25, 0.85)
    first = 0.25 + TOLD * 0.6
    shares = [done for done, _ in told]
    assert shares == sorted(shares) and shares[0] == 0.25 and shares[-1] <= first + 1e-9
    closer = [done for done, text in told if text == "Looking closer at the organs"]
    assert len(set(closer)) > 20 and closer[-1] - closer[0] > 0.8 * TOLD * 0.6
    told.clear()
    list(batches)
    assert told[0][0] == pytest.approx(first)
    told.clear()
    list(look(runner, COARSE, box_around_body(COARSE, stack), "Segmenting", 0.25, 0.85))
    assert told[0][0] == pytest.approx(0.25)  # what is known is not asked for again


# --- memory --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("features", [11, 24])
def test_the_networks_take_no_more_memory_than_they_are_counted_for(features):
    """By the sizes of all tensors; on a CPU oneDNN's copies in blocks of channels, up to a third, come on top."""
    with torch.device("meta"):
        closer, trunk = Obelisk(ObeliskConfig(features=features)), ContextNetwork(ContextConfig())
        images = torch.zeros(1, 144, 144, 144), torch.zeros(3, 56, 64, 64)
    for network, image in zip((closer, trunk), images, strict=True):
        with torch.inference_mode(), Allocated([*network.parameters(), image]) as allocated:
            network.probabilities(image)
        counted = 4 * image[0].numel() * network.values_per_voxel
        assert 0.4 * counted < allocated.most < 0.75 * counted


def test_what_is_expected_takes_no_more_memory_than_it_is_counted_for(phantom):
    closer = replace(closer_of(), network=Obelisk(ObeliskConfig(side=48)).eval())
    stack, context = context_of(phantom, closer)
    with torch.inference_mode(), Allocated([p for n in (closer, context) for p in n.network.parameters()]) as allocated:
        around = context.surroundings(stack, CPU, lambda *_: None)
    assert len(around.expected) == 2 and allocated.most < context.bytes_needed(stack)
    assert sum(one.logs.nbytes for one in around.expected) <= context.bytes_held(stack)
    assert context.bytes_needed(stack) > replace(context, closer=None).bytes_needed(stack)


def test_too_little_memory_for_it_is_said_before_it_is_taken(phantom, slices, monkeypatch):
    stack, context = context_of(phantom, closer_of())
    needed, asked = context.bytes_needed(stack), []
    monkeypatch.setattr(runner_module, "free_memory", lambda _device: needed - 1)
    monkeypatch.setattr(Obelisk, "probabilities", lambda *_: asked.append(1))
    with pytest.raises(InputError, match=r"The whole image at once needs about .* GB of memory, but only"):
        Runner(slices, CPU, context=context).surroundings(stack, 0.0, 1.0)
    assert not asked


def test_a_gpu_that_has_too_little_leaves_it_to_the_cpu_and_says_so(phantom, slices, monkeypatch):
    stack, context = context_of(phantom, closer_of())
    own, asked = Context.surroundings, []

    def surroundings(self, stack, device, tell):
        asked.append(device.type)
        if device.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB.")
        return own(self, stack, device, tell)

    monkeypatch.setattr(Context, "surroundings", surroundings)
    runner = Runner(slices, CPU, context=context)
    runner.device = torch.device("cuda")
    assert len(runner.surroundings(stack, 0.0, 1.0).expected) == 2
    assert asked == ["cuda", "cpu"] and "too little free memory for the whole image" in runner.warnings[0]


def test_what_is_held_of_it_counts_beside_labels(phantom, slices, monkeypatch):
    stack, context = context_of(phantom, closer_of())
    checked = []
    monkeypatch.setattr(looking, "check_memory", lambda _name, needed: checked.append(needed))
    for told in (None, context):
        look_at_segments(Runner(slices, CPU, context=told), COARSE, phantom.volume, box_around_body(COARSE, stack))
    assert checked[1] - checked[0] == context.bytes_held(stack) > 0


def test_opinions_are_multiplied_and_outside_of_its_box_it_has_none():
    stack = SliceStack(np.zeros((4, 10, 10), np.float32), (2.0, 2.0), 0, 2.0)
    view = View(stack, stack.middle_mm, (10, 10), 2.0)
    everywhere = Expected.on(torch.tensor([0.4, 0.6]).log()[:, None, None, None].expand(2, 4, 10, 10), view)
    half = Expected(
        torch.tensor([0.9, 0.1]).log()[:, None, None, None].expand(2, 4, 10, 5), (0.0, 0.0, 0.0), (2.0, 2.0, 2.0)
    )
    batch = torch.tensor([0.3, 0.7])[None, :, None, None].expand(1, 2, 10, 10)
    (pooled,) = Surroundings(stack, (everywhere, half), 1e-3).weigh([batch], view, np.array([1]))
    alone, both = 0.7 * 0.6 / (0.7 * 0.6 + 0.3 * 0.4), 0.7 * 0.6 * 0.1 / (0.7 * 0.6 * 0.1 + 0.3 * 0.4 * 0.9)
    assert torch.allclose(pooled[0, 1, :, :5], torch.tensor(both)) and torch.allclose(
        pooled[0, 1, :, 5:], torch.tensor(alone)
    )


# --- in weights.json -----------------------------------------------------------------------------------

SLICES = DINConfig(
    classes=9, in_channels=3, dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), stem_stride=2, layer_scale=0.1,
    heads=(1, 1, 1, 1), window=4, merge_kernel=1, expand_kernel=1, decoder_dim=8, decoder_layers=1,
)  # fmt: skip
COARSE = Preprocessing(
    spacing=9.0, box=(32, 48), overview_spacing=12.0, slice_spacing=9.0, locate="body", plane="axial",
    grey_window=(-125.0, 275.0),
)  # fmt: skip
TRUNK_NETWORK = ContextConfig(dims=(4, 8), depths=(1, 1))


@pytest.fixture
def listed(tmp_path):
    """A folder with a weights.json of three models, each of which is told by the next."""
    common = {"license": "CC0-1.0", "data": {"name": "none", "license": "none", "citation": "none", "split": "none"}}
    closer = {"model": "organs-tiny", "weight": 1.5, "floor": 0.05}
    context = {"model": "trunk-tiny", "weight": 1.0, "floor": 1e-3, "least": 1e-3, "closer": closer}
    models = [
        ("abdomen-tiny", "abdomen", SLICES, COARSE, {"context": context}),
        ("trunk-tiny", "trunk", TRUNK_NETWORK, ContextGrid(spacing=30.0), {}),
        ("organs-tiny", "organs", TINY, PLAIN, {}),
    ]
    entries = []
    for name, task, network, grid, more in models:
        content = save(dict(build_network(network).state_dict()))
        (tmp_path / f"{name}.safetensors").write_bytes(content)
        weights = {"file": f"{name}.safetensors", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        entries.append(
            {"name": name, "task": task, "description": name, "network": network.to_dict(), "weights": weights}
            | {"preprocessing": grid.to_dict(), **common, **more}
        )
    (tmp_path / "weights.json").write_text(json.dumps({"models": entries}), encoding="utf-8")
    return tmp_path


def test_a_model_is_loaded_with_what_looks_closer(listed):
    closer = load_model("abdomen-tiny", ABDOMEN, listed).context.closer
    by_name = {s.name: s.label for s in ABDOMEN.segments}
    assert (closer.name, closer.weight, closer.floor) == ("organs-tiny", 1.5, 0.05) and closer.grid == PLAIN
    assert closer.around == tuple(by_name[name] for name in PLAIN.around)
    assert closer.labels == (0, *(by_name.get(s.name, 0) for s in ORGANS.segments))


def test_who_fetches_a_model_has_both(listed, monkeypatch):
    monkeypatch.setenv(MODELS_VARIABLE, str(listed))
    done = CliRunner().invoke(app, ["models", "--fetch", "abdomen-tiny"])
    assert done.exit_code == 0 and all(f"{name}-tiny" in done.output for name in ("trunk", "organs"))


@pytest.mark.parametrize("own", [1, 2, 3])
def test_a_run_has_some_of_them_itself_and_those_that_ship_beside(listed, tmp_path, monkeypatch, own):
    monkeypatch.setenv(MODELS_VARIABLE, str(listed))
    run = tmp_path / "run"
    run.mkdir()
    models = json.loads((listed / "weights.json").read_text(encoding="utf-8"))["models"]
    (run / "weights.json").write_text(json.dumps({"models": models[:own]}), encoding="utf-8")
    for model in models[:own]:
        (listed / model["weights"]["file"]).rename(run / model["weights"]["file"])
    assert load_model(str(run), ABDOMEN).context.closer.name == "organs-tiny"
    done = CliRunner().invoke(app, ["models", "--fetch", str(run)])
    assert done.exit_code == 0 and done.output.count(str(run / "x")[:-1]) == own


@pytest.mark.parametrize("change", [{"weight": -1.0}, {"strength": 1.0}, {"model": "nobody"}])
def test_options_of_it_that_cannot_be(listed, change):
    path = listed / "weights.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["models"][0]["context"]["closer"] |= change
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ModelError, match=r"do not fit|no model 'nobody'"):
        load_model("abdomen-tiny", ABDOMEN, listed)


# --- training ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    written = write_abdomens(tmp_path_factory.mktemp("data") / "btcv", 2)
    return [replace(case, label_map=_as_organs()) for case in written]


def _as_organs():
    """The phantom's labels are BTCV's numbers."""
    by_name = {s.name: s.label for s in ORGANS.segments}
    return {s.label: by_name.get(s.name, 0) for s in TRUNK.segments}


RECIPE = OrganRecipe(network=TINY, minutes=0.03, warmup_steps=2)


def test_the_seed_alone_decides_what_is_drawn(cases):
    organs = [Organs.of(case, ORGANS, RECIPE.preprocessing) for case in cases]
    first, again, other = (Boxes(organs, RECIPE, seed).draw() for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == (1, 24, 24, 24) and first[1].shape == (24, 24, 24)
    assert set(first[1].unique().tolist()) > {0}


def test_boxes_show_the_labels_where_the_image_shows_the_organs(cases):
    """Organs are no air, however they were turned, bent and scaled; liver lies right of spleen."""
    boxes = Boxes([Organs.of(cases[0], ORGANS, RECIPE.preprocessing)], RECIPE, 5)
    solid, apart = [], []
    for _ in range(8):
        (seen,), labels = boxes.draw()
        solid.append(float((seen[(labels > 0) & (labels != 7)] > (-500 / HU_RANGE + 1)).float().mean()))
        liver, spleen = (torch.nonzero(labels == n)[:, 0].float().mean() for n in (6, 1))
        apart.append(float(spleen - liver))
    assert np.mean(solid) > 0.9 and np.nanmin(apart) > 0


def test_images_that_end_within_the_organs(cases, monkeypatch):
    """Below, above, to the sides: the box lies in what is shown, and nothing is seen of the rest."""
    monkeypatch.setattr(organ_data, "CUT", 1.0)
    organs = Organs.of(cases[0], ORGANS, RECIPE.preprocessing)
    everything, size = whole(organs), np.array(organs.grey.shape)
    kinds = set()
    for seed in range(40):
        shown, box = Boxes([organs], RECIPE, seed)._shown(organs)
        kinds.add(tuple(map(tuple, (shown != everything).tolist())))
        first, last = ((shown + np.array((-0.5, 0.5))) * np.array(organs.spacing)[:, None]).T
        assert (np.array(box.low) >= first - 10).all() and (np.array(box.high) <= last + 6).all()
        places = Boxes([organs], RECIPE, seed)._places(organs)[0].flatten(0, 2).flip(-1).numpy()
        voxels = ((places + 1) * size - 1) / 2
        assert (voxels.min(0) >= shown[:, 0] - 1e-3).all() and (voxels.max(0) <= shown[:, 1] + 1e-3).all()
    assert {z for z, _, _ in kinds} == {(False, False), (True, False), (False, True), (True, True)}
    assert not any(any(y) for _, y, _ in kinds) and any(any(x) for _, _, x in kinds)  # never in front or behind


def test_a_case_without_these_organs(cases):
    with pytest.raises(InputError, match="nothing to learn from"):
        Organs.of(replace(cases[0], label_map=dict.fromkeys(range(1, 14), 0)), ORGANS, PLAIN)


def test_a_training_writes_a_run_and_goes_on_where_it_stopped(cases, tmp_path):
    told = []
    done = train_context(OrganLesson(RECIPE), cases[:1], cases[1:], tmp_path / "run", CPU, told.append)
    assert done.step > 0 and 0 <= done.dice <= 1 and "validation Dice" in told[-1]
    entry = json.loads((tmp_path / "run" / "weights.json").read_text(encoding="utf-8"))["models"][0]
    assert entry["task"] == "organs" and ObeliskConfig.from_dict(entry["network"]) == TINY
    assert BoxGrid.from_dict(entry["preprocessing"]) == RECIPE.preprocessing
    longer = replace(RECIPE, minutes=2 * RECIPE.minutes)
    after = train_context(OrganLesson(longer), cases[:1], [], tmp_path / "run", CPU, told.append)
    assert after.step > done.step


def published(folder, config):
    """A file with published names, from a network of ours with the published sizes."""
    theirs = {v: k for k, v in CONVOLUTIONS.items()}
    tensors = {}
    for name, value in Obelisk(replace(config, classes=9, features=9)).state_dict().items():
        part, _, rest = name.partition(".")
        kind = name.rsplit(".", 1)[1]
        if part == "head":
            tensors[f"conv77U.{kind}"] = value
        elif part in ("near", "far"):
            number = {"near": 1, "far": 2}[part]
            if rest == "offset":
                tensors[f"offset{number}"] = value.reshape(1, -1, 1, 1, 3)
            elif rest.startswith("first"):
                tensors[f"linear{number}a.weight"] = value
            else:
                layer = int(rest.split(".")[1])
                letters = "bcde" if rest.startswith("layers") else "abcd"
                tensors[f"{'linear' if rest.startswith('layers') else 'batch'}{number}{letters[layer]}.{kind}"] = value
        else:
            module, what, _ = name.rsplit(".", 2)
            tensors[f"{'conv' if what == 'conv' else 'batch'}{theirs[module]}.{kind}"] = value
    tensors["batch0.running_mean"] = torch.zeros(4)
    torch.save(tensors, folder / "published.pth")
    return folder / "published.pth"


def test_published_weights_answer_as_they_did_and_new_classes_are_unlikely(tmp_path):
    torch.manual_seed(3)
    config = replace(TINY, near=128, far=512)
    path = published(tmp_path, config)
    before = Obelisk(replace(config, classes=9, features=9))
    torch.manual_seed(3)
    before.load_state_dict(Obelisk(replace(config, classes=9, features=9)).state_dict())
    own = Obelisk(config)
    own.load_state_dict(published_weights(path, config))
    x = torch.rand(1, 1, 24, 24, 24)
    with torch.no_grad():
        theirs, ours = before(x)[0], own(x)[0]
    assert torch.allclose(ours[:, :8], theirs[:, :8], atol=1e-5)
    assert float(ours[:, 8:].mean()) == pytest.approx(-3, abs=1)


def test_another_file_is_refused(tmp_path):
    torch.save({"conv0.weight": torch.zeros(3)}, tmp_path / "other.pth")
    for name in ("other.pth", "missing.pth"):
        with pytest.raises(InputError, match="no published weights"):
            published_weights(tmp_path / name, TINY)
