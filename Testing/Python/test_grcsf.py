"""GRCSF against its equations: units, masks, residual maps, frozen autoencoders, one batch learned, runs resumed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from phantom_cases import write_patients
from safetensors.torch import load_file

from dinsegment.errors import InputError
from dinsegment.images import read_volume
from dinsegment.images.segmentation import Segmentation
from dinsegment.inference.maps import with_unexpected
from dinsegment.inference.model import load_model
from dinsegment.inference.prediction import predict
from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.inference.runner import Runner, last_layer
from dinsegment.network import AutoencoderConfig, GRCSFConfig, build_network, network_config
from dinsegment.network.grcsf.attention import Attention, positions
from dinsegment.network.grcsf.gcu import GlobalCompensationUnit, SqueezeExcitation
from dinsegment.network.grcsf.masks import hidden_under, partitions, visible_count
from dinsegment.network.grcsf.rcu import RegionCompensationUnit
from dinsegment.network.grcsf.residual import residual_of, to_image, to_patches
from dinsegment.tasks import HEART
from dinsegment.training.augmentation import Augmentation
from dinsegment.training.losses import dice_focal_loss, dice_loss, focal_loss
from dinsegment.training.recipe import Recipe
from dinsegment.training.run_options import RunOptions
from dinsegment.training.steps import make_step
from dinsegment.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = {"patch": 4, "width": 16, "depth": 1, "decoder_width": 16, "decoder_depth": 1, "heads": 2}
AUTOENCODER = AutoencoderConfig(classes=4, ratio=0.75, **SIZES)
TINY = GRCSFConfig(
    classes=4, width=8, multipliers=(1, 2, 4), rcu=(0, 1), autoencoder=SIZES, token_width=16, heads=4, reduction=2
)
RECIPE = Recipe(
    name="tiny-grcsf",
    task=replace(HEART, kinds=("probabilities", "maps")),
    network=TINY,
    preprocessing=Preprocessing(spacing=4.0, box=32, overview_spacing=6.0),
    augmentation=Augmentation(overview=0.2),
    learning_rate=2e-3,
    warmup_steps=2,
    batch=4,
    epochs=2,
    ema=0.8,
    validate_every=1,
    loss="dice-focal",
)
CPU = RunOptions(device="cpu", checkpoint_minutes=0.0)


def discs(count=4, side=32):
    random = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    radius = torch.stack([((y * 32 / side - 12 - 2 * n) ** 2 + (x * 32 / side - 17) ** 2).sqrt() for n in range(count)])
    labels = (radius < 11).long() + (radius < 8) + (radius < 4)
    image = labels / 2 - 0.8 + 0.1 * torch.randn(labels.shape, generator=random)
    return image.clamp(-1, 1)[:, None], labels


def ready(recipe, network):
    step = make_step(recipe, network)
    step.set_up(Fabric(accelerator="cpu", devices=1, precision="32-true"), network)
    return step


# --- Global Compensation Unit ---------------------------------------------------------------------


def test_a_skip_is_compensated_by_the_cosine_similarity_of_each_pixel():
    torch.manual_seed(0)
    unit = GlobalCompensationUnit(6, 10, 2)
    skip, below = torch.randn(2, 6, 8, 12), torch.randn(2, 10, 4, 6)
    up = F.interpolate(unit.match(below), scale_factor=2, mode="bilinear", align_corners=False)
    a, b = unit.excite_fine(skip), unit.excite_coarse(up)
    expected = torch.empty(2, 1, 8, 12)
    for n, y, x in np.ndindex(2, 8, 12):
        u, v = a[n, :, y, x], b[n, :, y, x]
        expected[n, 0, y, x] = (u @ v) / (u.norm() * v.norm())
    assert torch.allclose(unit.similarity(skip, below), expected, atol=1e-5)
    assert torch.allclose(unit(skip, below), skip + expected * skip, atol=1e-5)


@pytest.mark.parametrize(("factor", "similarity"), [(2.0, 1.0), (-3.0, -1.0)])
def test_what_agrees_is_doubled_and_what_is_opposite_vanishes(factor, similarity):
    unit = GlobalCompensationUnit(3, 3, 1)
    for excite in (unit.excite_fine, unit.excite_coarse):
        excite.weigh = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Sigmoid())
        excite.forward = lambda x: x  # the channels as they are
    with torch.no_grad():
        unit.match.weight.copy_(torch.eye(3)[..., None, None])
        unit.match.bias.zero_()
    skip = torch.tensor([0.3, -1.0, 2.0])[None, :, None, None].expand(1, 3, 4, 4)
    below = factor * skip[..., ::2, ::2]
    assert torch.allclose(unit.similarity(skip, below), torch.tensor(similarity))
    assert torch.allclose(unit(skip, below), (1 + similarity) * skip, atol=1e-5)


def test_squeeze_and_excitation_weighs_whole_channels():
    torch.manual_seed(0)
    unit, x = SqueezeExcitation(5, 2), torch.randn(2, 5, 4, 4)
    weights = unit(x) / x
    assert torch.allclose(weights, weights[..., :1, :1].expand_as(x), atol=1e-5)
    assert weights.min() > 0 and weights.max() < 1


# --- masks and residual maps ----------------------------------------------------------------------


@pytest.mark.parametrize(("ratio", "masks"), [(0.5, 2), (0.75, 4)])
@pytest.mark.parametrize("rounds", [1, 3])
def test_mask_ratios_are_exact_and_every_patch_is_masked_as_often(ratio, masks, rounds):
    visible = partitions(144, ratio, rounds, torch.Generator().manual_seed(2))
    hidden = hidden_under(visible, 144)
    assert hidden.shape == (masks * rounds, 144)
    assert hidden.float().mean(1).tolist() == [ratio] * len(hidden)
    assert set(hidden.sum(0).tolist()) == {(masks - 1) * rounds}
    assert not torch.equal(hidden, hidden_under(partitions(144, ratio, rounds, torch.Generator().manual_seed(3)), 144))


@pytest.mark.parametrize("patches", [2, 5, 49])
def test_masks_that_do_not_come_out_even_hide_every_patch_all_the_same(patches):
    hidden = hidden_under(partitions(patches, 0.75, 1, torch.Generator()), patches)
    assert set((~hidden).sum(1).tolist()) == {visible_count(patches, 0.75)}
    assert hidden.sum(0).min() >= 1 and (~hidden).sum(0).min() >= 1


def test_patches_are_squares_of_the_image():
    image = torch.randn(2, 1, 8, 12)
    patches = to_patches(image, 4)
    assert torch.equal(patches[1, 4], image[1, 0, 4:8, 4:8].flatten())
    assert torch.equal(to_image(patches, 4, 2, 3), image)


@pytest.mark.parametrize("how", ["cosine", "absolute"])
def test_the_residual_is_the_mean_over_the_masks_that_hide_a_patch(how):
    random = torch.Generator().manual_seed(0)
    patches = torch.rand(2, 6, 16, generator=random) * 2 - 1
    made = torch.rand(2, 3, 6, 16, generator=random) * 2 - 1
    hidden = torch.tensor([[1, 1, 0, 0, 1, 0], [0, 1, 1, 0, 1, 0], [1, 0, 1, 1, 1, 0]], dtype=torch.bool)
    found = residual_of(patches, made, hidden, how)
    for n, k in np.ndindex(2, 6):
        each = []
        for m in range(3):
            if hidden[m, k]:
                a, b = patches[n, k], made[n, m, k]
                if how == "absolute":
                    each.append((a - b).abs())
                else:
                    a, b = a + 1.001, b + 1.001
                    each.append((1 - (a @ b) / (a.norm() * b.norm())).expand(16))
        expected = torch.stack(each).mean(0) if each else torch.zeros(16)
        assert torch.allclose(found[n, k], expected, atol=1e-5), (n, k)


@pytest.mark.parametrize("how", ["cosine", "absolute"])
@pytest.mark.parametrize("grey", [-1.0, 0.0, 0.4])
def test_a_perfect_reconstruction_leaves_nothing(how, grey):
    patches = torch.full((1, 4, 9), grey)
    patches[:, 2] += torch.linspace(0, 0.5, 9)
    made = patches[:, None].expand(1, 2, 4, 9)
    assert residual_of(patches, made, torch.ones(2, 4, dtype=torch.bool), how).abs().max() < 1e-6


# --- the autoencoder ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def autoencoder():
    torch.manual_seed(1)
    return build_network(AUTOENCODER).eval()


def test_what_is_masked_is_not_looked_at(autoencoder):
    patches, visible = torch.rand(1, 16, 16), torch.tensor([[3, 7, 8, 12]])
    other = patches.clone()
    other[:, [0, 1, 5, 15]] += 1
    with torch.no_grad():
        assert torch.equal(autoencoder(patches, visible, 4, 4), autoencoder(other, visible, 4, 4))
        other[:, 7] += 1
        assert not torch.allclose(autoencoder(patches, visible, 4, 4), autoencoder(other, visible, 4, 4), atol=1e-4)


def test_places_are_told_apart():
    place = positions(5, 7, 16, torch.zeros(1))
    assert place.shape == (35, 16) and (torch.cdist(place, place) + 9 * torch.eye(35)).min() > 0.1


def test_a_residual_map_is_one_for_an_image_of_any_size(autoencoder):
    image = torch.rand(3, 1, 22, 30) * 2 - 1
    with torch.no_grad():
        together = autoencoder.residual(image)
        alone = torch.cat([autoencoder.residual(one[None]) for one in image])
        torch.manual_seed(99)
        assert torch.equal(autoencoder.residual(image), together)
    assert together.shape == (3, 2, 22, 30) and torch.allclose(together, alone, atol=1e-5)
    assert together.min() >= 0
    with torch.no_grad():
        assert torch.equal(autoencoder.maps(image, image), together[:, :1])


def test_of_neighbours_only_the_middle_slice_is_reconstructed():
    torch.manual_seed(1)
    three = build_network(replace(AUTOENCODER, in_channels=3)).eval()
    image = torch.rand(1, 3, 16, 16)
    other = image.clone()
    other[:, [0, 2]] = 1
    with torch.no_grad():
        assert torch.equal(three.residual(image), three.residual(other))


def test_a_spot_that_nobody_expects_stands_out():
    torch.manual_seed(0)
    network = build_network(replace(AUTOENCODER, width=32, decoder_width=32))
    recipe = replace(RECIPE, network=network.config, learning_rate=5e-3)
    step, random = ready(recipe, network), torch.Generator().manual_seed(0)
    usual = discs(1)[0].expand(8, -1, -1, -1)

    def images():
        return (usual + 0.05 * torch.randn(usual.shape, generator=random)).clamp(-1, 1)

    nothing = torch.zeros(8, 32, 32, dtype=torch.long)
    losses = [float(step(batch, batch, nothing, n, 60)) for n, batch in enumerate(images() for _ in range(60))]
    assert losses[-1] < 0.1 * losses[0]
    network.eval()
    seen, spot = images(), images()
    spot[:, :, 12:16, 20:24] = -spot[:, :, 12:16, 20:24].sign()
    with torch.no_grad():
        assert network.explained(seen) > 0.75 > network.explained(spot)
        found = network.maps(spot, spot)
    inside = found[:, :, 12:16, 20:24].mean((1, 2, 3))
    found[:, :, 8:20, 16:28] = 0  # beside it, the spot is what is looked at
    assert (inside > 2 * found.flatten(1).quantile(0.95, 1)).all()


def test_labels_change_nothing_of_an_autoencoder():
    image, labels = discs()
    found = []
    for given in (labels, torch.zeros_like(labels)):
        torch.manual_seed(3)
        network = build_network(AUTOENCODER)
        step = ready(replace(RECIPE, network=AUTOENCODER), network)
        for number in range(3):
            torch.manual_seed(number)
            step(image, image, given, number, 3)
        found.append(network.state_dict())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


# --- Region Compensation Unit ---------------------------------------------------------------------


@pytest.fixture
def unit():
    torch.manual_seed(2)
    return RegionCompensationUnit(channels=6, context=5, residuals=2, ratios=2, patch=4, stride=2, width=16, heads=4)


@pytest.fixture
def given():
    random = torch.Generator().manual_seed(4)
    maps = [torch.rand(2, 2, 16, 24, generator=random) for _ in range(2)]
    return torch.randn(2, 6, 8, 12, generator=random), torch.randn(2, 5, 3, 4, generator=random), maps


def test_attention_is_that_of_its_equation():
    torch.manual_seed(0)
    attention, queries, seen = Attention(8, 2), torch.randn(1, 3, 8), torch.randn(1, 5, 8)
    q, k, v = attention.query(queries)[0], attention.key(seen)[0], attention.value(seen)[0]
    heads = [((q[:, h] @ k[:, h].T) / 2).softmax(1) @ v[:, h] for h in (slice(0, 4), slice(4, 8))]
    assert torch.allclose(attention(queries, seen)[0], attention.project(torch.cat(heads, 1)), atol=1e-5)


def test_the_unit_is_a_convolution_of_the_decoder_and_the_weighted_answers(unit, given):
    decoded, context, maps = given
    place = positions(4, 6, 16, decoded)
    queries = unit.norm_asked(unit.ask(decoded).flatten(2).transpose(1, 2) + place)
    score = unit.importance(context, 4, 6).repeat_interleave(2, 2).repeat_interleave(2, 3)
    total = decoded
    for weight, residual in zip((0.5, 0.5), maps, strict=True):
        seen = unit.norm_seen(unit.embed(residual).flatten(2).transpose(1, 2) + place)
        looked = unit.attention(queries, seen).transpose(1, 2).reshape(2, 16, 4, 6)
        total = total + weight * score * unit.answer(looked)
    assert torch.allclose(unit(decoded, context, maps), unit.last(total), atol=1e-5)


def test_importance_is_a_score_of_each_patch_between_0_and_1(unit, given):
    decoded, context, maps = given
    scores = unit.importance(10 * context, 4, 6)
    assert scores.shape == (2, 1, 4, 6) and scores.min() > 0 and scores.max() < 1
    assert scores.std() > 0.1
    with torch.no_grad():
        unit.score.weight.zero_()
        unit.score.bias.fill_(-60.0)  # nothing is important
        assert torch.allclose(unit(decoded, context, maps), unit.last(decoded), atol=1e-5)


def test_the_weights_of_both_ratios_learn(unit, given):
    decoded, context, maps = given
    assert unit.weights.tolist() == [0.5, 0.5]
    optimizer = torch.optim.SGD(unit.parameters(), 0.1)
    unit(decoded, context, maps).square().sum().backward()
    assert (unit.weights.grad != 0).all() and unit.weights.grad[0] != unit.weights.grad[1]
    optimizer.step()
    assert (unit.weights != 0.5).all()
    with torch.no_grad():
        unit.weights.zero_()
        assert torch.allclose(unit(decoded, context, maps), unit.last(decoded), atol=1e-6)


# --- the network ----------------------------------------------------------------------------------


def test_one_batch_is_learned_and_the_autoencoders_stay():
    torch.manual_seed(0)
    network = build_network(TINY)
    step = ready(replace(RECIPE, learning_rate=1e-2), network)
    image, labels = discs(2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    losses = [float(step(image, image, labels, number, 60)) for number in range(60)]
    network.eval()
    with torch.no_grad():
        made = network.probabilities(image, image)
    assert torch.allclose(made.sum(1), torch.ones(2, 32, 32), atol=1e-5)
    for label in (1, 2, 3):
        a, b = made.argmax(1) == label, labels == label
        assert 2 * float((a & b).sum()) / float(a.sum() + b.sum()) > 0.95, (label, losses[-1])
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("autoencoders."), name
    assert all(p.grad is None and not p.requires_grad for p in network.autoencoders.parameters())
    weights = [unit.weights for unit in network.rcu.values()]
    assert len(weights) == 2 and all((w != 0.5).all() for w in weights)


@pytest.mark.parametrize(
    ("change", "gone", "autoencoders"),
    [({"gcu": False}, "gcu", 2), ({"rcu": ()}, "rcu", 0), ({"ratios": (0.75,)}, None, 1)],
    ids=["without GCU", "without RCU", "one ratio"],
)
def test_gradients_reach_every_weight_that_learns_with_and_without_its_units(change, gone, autoencoders):
    for config in (TINY, replace(TINY, **change)):
        torch.manual_seed(0)  # with others a ReLU between four channels may be dead
        network = build_network(config)
        image, labels = discs(2)
        dice_focal_loss(network(image, image), labels).backward()
        missing = [n for n, p in network.named_parameters() if p.grad is None]
        assert all(n.startswith("autoencoders.") for n in missing)
        without = [n for n, p in network.named_parameters() if p.ndim > 1 and p.grad is not None and not p.grad.any()]
        assert without == []
    assert len(network.autoencoders) == autoencoders
    assert not any(name.startswith(f"{gone}.") for name in network.state_dict())


def test_residual_maps_reach_the_answer_and_sizes_are_free():
    torch.manual_seed(0)
    network = build_network(replace(TINY, in_channels=3)).eval()
    image = torch.rand(2, 3, 21, 30)
    with torch.no_grad():
        logits = network(image, image)
        assert logits.shape == (2, 4, 21, 30)
        assert torch.equal(network(image, torch.zeros_like(image)), logits)  # the enhanced image is another network's
        assert network.maps(image, image).shape == (2, 1, 21, 30)
        for one in network.autoencoders:
            one.last[1].bias += 0.5
        assert not torch.allclose(network(image, image), logits, atol=1e-4)
    assert last_layer(network) is network.last


def test_losses_are_those_of_their_equations():
    logits, labels = torch.randn(2, 3, 4, 5), torch.randint(3, (2, 4, 5))
    p = logits.softmax(1).gather(1, labels[:, None])
    assert torch.allclose(focal_loss(logits, labels), (-((1 - p) ** 2) * p.log()).mean(), atol=1e-6)
    assert torch.allclose(focal_loss(logits, labels, 0.0), F.cross_entropy(logits, labels), atol=1e-6)
    target = F.one_hot(labels, 3).movedim(-1, 1).float()
    both = dice_loss(logits.softmax(1), target) + focal_loss(logits, labels)
    assert torch.allclose(dice_focal_loss(logits, labels), both, atol=1e-6)


@pytest.mark.parametrize("loss", ["dice-focal", "focal", "din"])
def test_the_step_takes_the_loss_of_its_recipe(loss):
    from dinsegment.training.losses import din_loss

    torch.manual_seed(0)
    network = build_network(replace(TINY, rcu=()))
    image, labels = discs(2)
    logits = network.train()(image, image)
    expected = {"dice-focal": dice_focal_loss, "focal": focal_loss, "din": din_loss}[loss](logits, labels)
    assert float(ready(replace(RECIPE, loss=loss), network)(image, image, labels, 0, 1)) == pytest.approx(
        float(expected.detach()), rel=1e-5
    )


# --- runs -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return write_patients(tmp_path_factory.mktemp("data"), 2)


@pytest.fixture(scope="module")
def trained(cases, tmp_path_factory):
    """Runs of two autoencoders, for 50 % and for 75 %."""
    folders = []
    for ratio in (0.5, 0.75):
        folder = tmp_path_factory.mktemp("autoencoder") / f"at-{ratio}"
        recipe = replace(RECIPE, name="tiny-autoencoder", network=replace(AUTOENCODER, ratio=ratio), epochs=1)
        Trainer(recipe, cases, cases[:1], folder, options=CPU).run()
        folders.append(str(folder))
    return folders


class Stopped(Trainer):
    def _step(self, *batch):
        if self.state.step == 7:
            raise KeyboardInterrupt
        return super()._step(*batch)


def assert_same(one, other):
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize("what", ["autoencoder", "GRCSF"])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(what, cases, trained, tmp_path):
    network = AUTOENCODER if what == "autoencoder" else TINY
    recipe = replace(RECIPE, network=network)
    cpu = CPU if what == "autoencoder" else replace(CPU, autoencoders=tuple(trained))
    whole = Trainer(recipe, cases, cases[:1], tmp_path / "whole", options=cpu)
    whole.run()
    with pytest.raises(KeyboardInterrupt):
        Stopped(recipe, cases, cases[:1], tmp_path / "two", options=cpu).run()
    torch.manual_seed(99)
    resumed = Trainer(recipe, cases, cases[:1], tmp_path / "two", options=CPU)  # what is frozen is in the checkpoint
    resumed.run(resume=True)
    assert_same(resumed.network, whole.network)
    assert_same(resumed.average, whole.average)
    log = (tmp_path / "whole" / "log.csv").read_text(encoding="utf-8")
    assert ("explained" if what == "autoencoder" else "dice LV") in log.splitlines()[0]


def test_a_run_is_a_model_with_the_autoencoders_that_it_was_given(cases, trained, tmp_path):
    options = replace(CPU, autoencoders=(trained[0], f"{trained[1]}/best.safetensors"))
    Trainer(replace(RECIPE, epochs=1), cases, cases[:1], tmp_path / "run", options=options).run()
    weights = load_file(tmp_path / "run" / "best.safetensors")
    for number, folder in enumerate(trained):
        for name, value in load_file(f"{folder}/best.safetensors").items():
            assert torch.equal(weights[f"autoencoders.{number}.{name}"], value), name
    model = load_model(str(tmp_path / "run"), HEART)
    assert network_config(model.network.config.to_dict()) == TINY
    volume, _ = cases[0].read(HEART)
    assert predict(Runner(model.network, torch.device("cpu")), model.preprocessing, volume, HEART).shape == volume.shape


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "asks 2 trained autoencoders (mask ratios: 0.5, 0.75), but 0 were given"),
        ((1, 0), "with ratio 0.75, but the recipe asks an autoencoder with ratio 0.5"),
        ((0, "nowhere"), "There is no autoencoder 'nowhere'"),
        ((0, "empty"), "has no trained autoencoder"),
    ],
    ids=["none", "in the wrong order", "missing", "not trained"],
)
def test_autoencoders_that_do_not_fit_are_told_of(given, said, cases, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    options = replace(CPU, autoencoders=tuple(trained[n] if isinstance(n, int) else n for n in given))
    with pytest.raises(InputError) as caught:
        Trainer(RECIPE, cases, cases[:1], tmp_path / "run", options=options).run()
    assert said in str(caught.value)


def test_a_network_that_asks_none_takes_none(cases, trained, tmp_path):
    recipe = replace(RECIPE, network=AUTOENCODER)
    with pytest.raises(InputError, match="asks no autoencoder"):
        Trainer(recipe, cases, cases[:1], tmp_path, options=replace(CPU, autoencoders=tuple(trained))).run()


# --- maps -----------------------------------------------------------------------------------------


def test_what_was_not_expected_lies_on_the_image(cases, trained):
    volume, truth = cases[0].read(HEART)
    spot = volume.array.copy()
    k = len(spot) // 2
    j, i = (int(np.median(axis)) for axis in np.nonzero(truth[k]))
    spot[k, j - 2 : j + 3, i - 2 : i + 3] = spot.max() * 3
    model = load_model(trained[1], HEART)
    maps = []
    for array in (volume.array, spot):
        shown = volume.with_array(array)
        one = with_unexpected(Segmentation(shown, truth, HEART, "truth", shown, "cpu", 0.0), model, "cpu")
        assert one.unexpected.shape == volume.shape and one.unexpected.min() >= 0
        assert not one.unexpected[:, 0, 0].any()  # beyond the box nobody looked
        maps.append(one.unexpected)
    assert maps[1][k, j, i] > maps[0][k, j, i] + 0.1
    nothing = Segmentation(volume, np.zeros_like(truth), HEART, "truth", volume, "cpu", 0.0)
    told = with_unexpected(nothing, model, "cpu")
    assert told.unexpected is None and "Nothing was segmented" in told.warnings[-1]


def test_the_command_line_writes_the_map_beside_the_segmentation(cases, trained, tmp_path, run):
    image = cases[0].image
    segment = ("segment", image, "--task", "heart", "--device", "cpu", "--output")
    code, printed, errors = run(*segment, tmp_path / "out", "--unexpected", trained[0])
    assert code == 0, printed + errors
    found = read_volume(tmp_path / "out" / "unexpected.nrrd")
    assert found.shape == read_volume(image).shape and found.array.max() > 0
    code, _, errors = run(*segment, tmp_path / "other", "--unexpected", "heart-din-small")
    assert code == 2 and "does not tell what it did not expect" in errors
    assert not (tmp_path / "other").exists()
    code, _, errors = run(*segment, tmp_path / "other", "--model", trained[0])
    assert code == 2 and "segments nothing" in errors and "--unexpected" in errors


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "grcsf", "widht": 3}, "no option 'widht'"),
        ({"name": "grcsf", "width": 0}, "'width' of GRCSF is 0"),
        ({"name": "grcsf", "in_channels": 2}, "odd"),
        ({"name": "grcsf", "multipliers": [1]}, "two levels"),
        ({"name": "grcsf", "rcu": [4]}, "levels 0 to 3"),
        ({"name": "grcsf", "ratios": []}, "mask ratio"),
        ({"name": "grcsf", "token_width": 60}, "multiple of 4 and of the heads"),
        ({"name": "grcsf", "autoencoder": {"patch": 6}}, "multiple of 8, not 6"),
        ({"name": "grcsf", "autoencoder": {"depht": 6}}, "no option 'depht'"),
        ({"name": "masked-autoencoder", "ratio": 1.0}, "between 0 and 1"),
        ({"name": "masked-autoencoder", "heads": 5}, "multiple of 4 and of the heads"),
        ({"name": "masked-autoencoder", "residuals": ["l2"]}, "cosine and absolute"),
    ],
)
def test_an_option_that_cannot_be_is_told_of(options, said):
    with pytest.raises(ValueError, match=r"GRCSF|autoencoder") as caught:
        network_config(options)
    assert said in str(caught.value)
