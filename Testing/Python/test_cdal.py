"""cDAL against its equations: schedule, posterior, penalty, attention, samples, one batch learned, a run resumed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from phantom_cases import write_patients
from safetensors.torch import load_file

from dinsegment.inference.model import load_model
from dinsegment.inference.prediction import predict
from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.inference.runner import Runner
from dinsegment.network import CDALConfig, build_network, network_config
from dinsegment.network.cdal.attention import attention_map
from dinsegment.network.cdal.blocks import Block, resample, time_embedding
from dinsegment.network.cdal.discriminator import with_deviation
from dinsegment.network.cdal.latent import LatentMapping
from dinsegment.network.cdal.network import shares
from dinsegment.network.cdal.schedule import Schedule
from dinsegment.network.kinds import Draw
from dinsegment.tasks import HEART
from dinsegment.training.augmentation import Augmentation
from dinsegment.training.recipe import Adversarial, Recipe
from dinsegment.training.run_options import RunOptions
from dinsegment.training.steps import adversarial, make_step
from dinsegment.training.steps.adversarial import AdversarialDiffusionStep, annealed, masks, r1_penalty
from dinsegment.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = CDALConfig(
    classes=4,
    steps=4,
    samples=3,
    width=16,
    multipliers=(1, 2, 2),
    blocks=1,
    attention=(2,),
    condition_blocks=2,
    latent=8,
    mapping=16,
    discriminator_width=8,
    discriminator_multipliers=(1, 2, 2),
    attention_level=2,
)
RECIPE = Recipe(
    name="tiny-cdal",
    task=HEART,
    network=TINY,
    preprocessing=Preprocessing(spacing=4.0, box=32, overview_spacing=6.0),
    augmentation=Augmentation(overview=0.2),
    learning_rate=2e-3,
    batch=4,
    epochs=2,
    ema=0.8,
    validate_every=1,
    adversarial=Adversarial(discriminator_learning_rate=1e-3, r1_every=2),
)


def beta(u):
    return 0.1 + u * (20.0 - 0.1)


def kept(t, steps):
    """abar_t by adding up beta along the continuous process."""
    times = np.linspace(0, t / steps, 20001)
    return math.exp(-np.trapezoid(beta(times), times)) if t else 1.0


# --- schedule -------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_forward_process_has_the_moments_of_its_equation(steps):
    schedule, random = Schedule(steps), torch.Generator().manual_seed(0)
    assert schedule.signal == pytest.approx([kept(t, steps) for t in range(steps + 1)], rel=1e-4)
    x_0 = torch.full((1, 1, 400, 500), 0.7, dtype=torch.float64)

    def noise():
        return torch.randn(x_0.shape, generator=random, dtype=x_0.dtype)

    error = 5 / math.sqrt(x_0.numel())
    for t in range(steps):
        x = schedule.diffuse(x_0, torch.tensor([t]), noise())
        later = schedule.advance(x, torch.tensor([t]), noise())
        for values, step in ((x, t), (later, t + 1)):  # one step after t is as far as t + 1 at once
            assert float(values.mean()) == pytest.approx(0.7 * math.sqrt(kept(step, steps)), abs=error)
            assert float(values.var()) == pytest.approx(1 - kept(step, steps), abs=2 * error)


@pytest.mark.parametrize("t", [2, 3, 4])
def test_the_posterior_is_that_of_bayes(t):
    schedule, x_0, x_t = Schedule(4), -1.0, 0.4
    before, alpha = kept(t - 1, 4), kept(t, 4) / kept(t - 1, 4)
    x = np.linspace(-12, 12, 400001)
    density = np.exp(
        -((x - math.sqrt(before) * x_0) ** 2) / (2 * (1 - before))
        - (x_t - math.sqrt(alpha) * x) ** 2 / (2 * (1 - alpha))
    )
    density /= density.sum()
    mean = float((x * density).sum())
    variance = float(((x - mean) ** 2 * density).sum())
    a, b = (torch.full((1, 1, 1, 1), v, dtype=torch.float64) for v in (x_0, x_t))
    given = schedule.posterior(a, b, torch.tensor([t]))
    assert [float(v) for v in given] == pytest.approx([mean, variance], rel=1e-3)


@pytest.mark.parametrize("steps", [1, 4])
def test_the_last_step_back_is_the_mask_itself(steps):
    x_0, x_1, noise = (torch.randn(2, 3, 4, 4) for _ in range(3))
    assert torch.allclose(Schedule(steps).back(x_0, x_1, torch.tensor([1, 1]), noise), x_0, atol=1e-6)


def test_with_one_step_a_sample_is_what_is_made_of_noise_alone():
    assert Schedule(1).signal[1] < 1e-4  # nothing of the mask is left
    network = build_network(replace(TINY, steps=1)).eval()
    image = torch.randn(2, 1, 16, 16)
    random = torch.Generator().manual_seed(5)
    noise, z = (torch.randn(size, generator=random) for size in ((1, 4, 16, 16), (1, 8)))
    with torch.no_grad():
        made = network(noise.expand(2, -1, -1, -1), torch.tensor([1, 1]), z.expand(2, -1), image)
        assert torch.allclose(network.sample(image, image, Draw(5)), shares(made), atol=1e-6)


# --- parts ----------------------------------------------------------------------------------------


def test_the_filter_keeps_what_is_flat_and_smooths_what_alternates():
    flat = torch.full((1, 2, 16, 16), 3.0)
    assert torch.allclose(resample(flat, "down")[..., 1:-1, 1:-1], torch.tensor(3.0))
    assert torch.allclose(resample(flat, "up")[..., 2:-2, 2:-2], torch.tensor(3.0))
    stripes = torch.tensor([1.0, -1.0]).repeat(8).expand(1, 1, 16, 16)
    assert resample(stripes, "down")[..., 1:-1].abs().max() < 1e-6
    assert resample(flat, "none") is flat


def test_resampling_is_a_convolution_with_the_filter():
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    kernel, x = torch.outer(taps, taps).expand(3, 1, 4, 4), torch.randn(2, 3, 8, 6)
    down = torch.nn.functional.conv2d(x, kernel, stride=2, padding=1, groups=3)
    up = torch.nn.functional.conv_transpose2d(x, 4 * kernel, stride=2, padding=1, groups=3)  # with zeros in between
    assert torch.allclose(resample(x, "down"), down, atol=1e-6)
    assert torch.allclose(resample(x, "up"), up, atol=1e-6)


def test_a_latent_is_normed_before_it_is_mapped():
    mapping, z = LatentMapping(8, 16), torch.randn(3, 8)
    assert torch.allclose(mapping(z), mapping(7 * z), atol=1e-5)
    assert sum(isinstance(layer, torch.nn.Linear) for layer in mapping) == 4
    assert mapping[0](z).square().mean(1) == pytest.approx(torch.ones(3))


@pytest.mark.parametrize("what", ["time", "latent"])
def test_every_block_is_modulated(what):
    block = Block(8, 8, 16, 12)
    given = {"time": time_embedding(torch.tensor([1]), 16), "latent": torch.randn(1, 12)}
    x = torch.randn(1, 8, 8, 8)
    with torch.no_grad():
        before = block(x, **given)
        assert not torch.allclose(before, block(x, **given | {what: given[what] + 1}))


def test_steps_are_told_apart():
    embedded = time_embedding(torch.arange(5), 16)
    assert embedded.shape == (5, 16) and torch.cdist(embedded, embedded)[0, 1:].min() > 0.5


def test_a_batch_that_is_all_alike_is_seen():
    alike = torch.ones(4, 2, 3, 3)
    assert with_deviation(alike).shape == (4, 3, 3, 3)
    assert with_deviation(alike)[:, 2].max() < 1e-3 < with_deviation(torch.randn(4, 2, 3, 3))[:, 2].min()
    assert with_deviation(torch.randn(3, 2, 3, 3)).shape == (3, 3, 3, 3)  # whatever the batch


def test_the_penalty_is_that_of_finite_differences():
    torch.manual_seed(0)
    judge = TINY.discriminator().double()
    x, later = (torch.randn(2, 4, 4, 4, dtype=torch.float64) for _ in range(2))
    t, small = torch.tensor([0, 2]), 1e-5

    def score(values):
        with torch.no_grad():
            return judge(values, later, t)[0].sum()

    squared = 0.0
    for place in range(x.numel()):
        step = torch.zeros(x.numel(), dtype=x.dtype)
        step[place] = small
        step = step.view_as(x)
        squared += float((score(x + step) - score(x - step)) / (2 * small)) ** 2
    wanted = x.clone().requires_grad_()
    given = r1_penalty(judge(wanted, later, t)[0], wanted)
    assert float(given.detach()) == pytest.approx(squared / len(x), rel=1e-5) and given.requires_grad


def test_attention_that_sees_the_same_everywhere_changes_nothing():
    features = torch.full((2, 3, 4, 4), 5.0)
    assert torch.allclose(attention_map(features, (16, 16)), torch.ones(2, 1, 16, 16))
    features[:, :, 1, 1] += 3
    seen = attention_map(features, (16, 16))
    assert seen[:, 0, 6, 6].min() > 1 > seen[:, 0, 15, 15].max() and seen.min() > 0 and seen.max() < 2


# --- samples --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    return build_network(TINY).eval()


def test_a_draw_is_one_for_all_slices(network):
    slices = torch.rand(5, 1, 30, 22)
    with torch.no_grad():
        together = network.sample(slices, slices, Draw(2))
        alone = torch.cat([network.sample(one[None], one[None], Draw(2)) for one in slices])
        same = network.sample(slices[:1].expand(2, -1, -1, -1), slices, Draw(2))
        other = network.sample(slices, slices, Draw(3))
    assert together.shape == (5, 4, 30, 22) and torch.allclose(together.sum(1), torch.ones(5, 30, 22), atol=1e-5)
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(same[0], same[1], atol=1e-6)
    assert not torch.allclose(together, other, atol=1e-2)


def test_the_answer_is_the_mean_of_the_samples(network):
    slices = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        samples = torch.stack([network.sample(slices, slices, Draw(draw)) for draw in range(TINY.samples)])
        assert torch.allclose(network.probabilities(slices, slices), samples.mean(0), atol=1e-6)


def test_nothing_is_attended_to_when_samples_are_drawn(network, monkeypatch):
    def refuse(*_):
        raise AssertionError("attention")

    monkeypatch.setattr(adversarial, "attention_map", refuse)
    slices = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        network.probabilities(slices, slices)
    assert not any("discriminator" in name for name in network.state_dict())
    step = ready(RECIPE, build_network(TINY))
    with pytest.raises(AssertionError, match="attention"):  # it is what training asks
        step(slices, slices, torch.zeros(2, 16, 16, dtype=torch.long), 0, 1)


# --- training -------------------------------------------------------------------------------------


def ready(recipe, network):
    step = make_step(recipe, network)
    step.set_up(Fabric(accelerator="cpu", devices=1, precision="32-true"), network)
    return step


def discs(count=4, side=32):
    random = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    radius = torch.stack([((y * 32 / side - 12 - 2 * n) ** 2 + (x * 32 / side - 17) ** 2).sqrt() for n in range(count)])
    labels = (radius < 11).long() + (radius < 8) + (radius < 4)
    image = labels / 2 - 0.8 + 0.1 * torch.randn(labels.shape, generator=random)
    return image.clamp(-1, 1)[:, None], labels


def test_one_batch_is_learned():
    torch.manual_seed(0)
    network = build_network(replace(TINY, multipliers=(1, 2), attention=(1,)))
    recipe = replace(RECIPE, learning_rate=5e-3, adversarial=replace(RECIPE.adversarial, final_learning_rate=1e-4))
    step = ready(recipe, network)
    image, labels = discs(2, side=16)
    before = {name: value.clone() for name, value in step.discriminator.state_dict().items()}
    losses = [float(step(image, image, labels, number, 60)) for number in range(60)]
    network.eval()
    with torch.no_grad():
        for draw in range(2):
            made = network.sample(image, image, Draw(draw)).argmax(1)
            for label in (1, 2, 3):
                a, b = made == label, labels == label
                assert 2 * float((a & b).sum()) / float(a.sum() + b.sum()) > 0.95, (draw, label, losses[-1])
    moved = [name for name, value in step.discriminator.state_dict().items() if not torch.equal(value, before[name])]
    assert len(moved) == len(before)
    assert step.rate == pytest.approx(annealed(5e-3, 1e-4, 59 / 60))


def test_the_penalty_counts_every_so_many_steps(monkeypatch):
    seen = []
    monkeypatch.setattr(
        adversarial, "r1_penalty", lambda score, x: seen.append(x.requires_grad) or r1_penalty(score, x)
    )
    step = ready(replace(RECIPE, adversarial=Adversarial(r1_every=3)), build_network(TINY))
    image, labels = discs(2, 16)
    for number in range(7):
        step(image, image, labels, number, 7)
    assert seen == [True] * 3


def test_masks_are_one_hot_between_minus_one_and_one():
    made = masks(torch.tensor([[[0, 2]]]), 3)
    assert made[0, :, 0].T.tolist() == [[1, -1, -1], [-1, -1, 1]]
    assert shares(made)[0, :, 0, 1].tolist() == pytest.approx([0, 0, 1], abs=1e-5)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return write_patients(tmp_path_factory.mktemp("data"), 2)


def test_a_stopped_run_goes_on_as_if_it_had_not_been_and_is_a_model(cases, tmp_path):
    class Stopped(Trainer):
        def _step(self, *batch):
            if self.state.step == 7:
                raise KeyboardInterrupt
            return super()._step(*batch)

    cpu = RunOptions(device="cpu", checkpoint_minutes=0.0)
    network = replace(TINY, width=8, multipliers=(1, 2), attention=(1,), steps=2, samples=1)
    recipe = replace(RECIPE, network=network)
    whole = Trainer(recipe, cases, cases[:1], tmp_path / "whole", options=cpu)
    whole.run()
    with pytest.raises(KeyboardInterrupt):
        Stopped(recipe, cases, cases[:1], tmp_path / "two", options=cpu).run()
    torch.manual_seed(99)
    resumed = Trainer(recipe, cases, cases[:1], tmp_path / "two", options=cpu)
    resumed.run(resume=True)
    for one, other in (
        (resumed.network, whole.network),
        (resumed.average, whole.average),
        (resumed.step.discriminator, whole.step.discriminator),
    ):
        for name, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name
    assert isinstance(whole.step, AdversarialDiffusionStep)
    last = load_file(tmp_path / "whole" / "last.safetensors")
    assert not any("discriminator" in name for name in last)
    model = load_model(str(tmp_path / "whole"), HEART)
    assert network_config(model.network.config.to_dict()) == network
    volume, _ = cases[0].read(HEART)
    runner = Runner(model.network, torch.device("cpu"))
    labels = [predict(runner, model.preprocessing, volume, HEART) for _ in range(2)]
    assert labels[0].shape == volume.shape and np.array_equal(*labels)  # the same input, the same labels


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"widht": 3}, "no option 'widht'"),
        ({"width": 0}, "'width' of cDAL is 0"),
        ({"in_channels": 2}, "odd"),
        ({"attention": [9]}, "levels 0 to 3"),
        ({"attention_level": 7}, "which has 4"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        network_config({"name": "cdal", **options})
