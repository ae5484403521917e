from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from dinsegment.images import read_volume
from dinsegment.inference import devices, runner
from dinsegment.inference.devices import MATRIX_PRODUCTS, lowered
from dinsegment.inference.model import load_model
from dinsegment.inference.prediction import predict
from dinsegment.inference.runner import Runner
from dinsegment.models.entries import find_entry
from dinsegment.models.weights import read_weights
from dinsegment.network import DIN, DIN_BASE, DIN_SMALL, DINConfig, build_network, rewrite
from dinsegment.network.decoder import MLPDecoder
from dinsegment.network.rewritten_decoder import BAND, RewrittenMLPDecoder, add_upsampled
from dinsegment.network.sharing import shared
from dinsegment.tasks import get_task

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = DINConfig(
    classes=3, dims=(4, 8, 16, 32), depths=(1, 2, 1, 1), layer_scale=0.5, heads=(1, 2, 4, 4), window=3, decoder_dim=6
)

KINDS = {
    "small": replace(DIN_SMALL, depths=(1, 1, 1, 1)),
    "published kernels": TINY,
    "neighbours": replace(TINY, in_channels=3, stem_stride=2),
    "three linear layers": replace(TINY, decoder_layers=3),
    "shared encoder": replace(TINY, shared_encoder=True),
    "two levels": replace(TINY, difm_levels=2),
    "concatenation above two levels": replace(TINY, difm_levels=2, levels_without_difm="concatenation"),
    "one direction": replace(TINY, attention="enhanced-to-image"),
    "the other direction": replace(TINY, attention="image-to-enhanced"),
    "no merging": replace(TINY, merging=False),
    "concatenation": replace(TINY, fusion="concatenation"),
    "images as channels": replace(TINY, fusion="input"),
    "one image": replace(TINY, fusion="none", inputs="enhanced"),
    "EMCAD": replace(TINY, decoder="emcad"),
}


def trained(config: DINConfig) -> DIN:
    """A network with no weight left at a value that hides what it does; its logits are of the order of 10."""
    random = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        network = DIN(config).eval()
    weights = {}
    for name, like in network.state_dict().items():
        noise = torch.randn(like.shape, generator=random) if like.is_floating_point() else torch.zeros(like.shape)
        fan_in = max(1, like[0].numel()) if like.ndim > 1 else 10
        weights[name] = (noise.abs() + 0.5) if name.endswith("running_var") else 1.5 * noise / fan_in**0.5
    network.load_state_dict(weights, assign=True)
    return network.requires_grad_(False)


def slices(config: DINConfig, rows: int, columns: int, batch: int = 2, seed: int = 1) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    shape = (batch, config.in_channels, rows, columns)
    return [torch.rand(shape, generator=random) * 2 - 1 for _ in range(2)]


@pytest.mark.parametrize("kind", KINDS)
def test_rewritten_network_gives_the_same_logits(kind):
    plain = trained(KINDS[kind])
    rewritten = rewrite(plain)
    for rows, columns in ((32, 48), (37, 29)):
        images = slices(plain.config, rows, columns)
        expected = plain(*images)
        assert 0.1 < expected.std() < 100
        assert (rewritten(*images) - expected).abs().max() < 1e-4


def test_rewritten_network_shares_what_it_does_not_change_and_leaves_the_plain_one_alone():
    plain = trained(TINY).requires_grad_(True)
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    rewritten = rewrite(plain)
    places = [n.encoder_i.blocks[0][0].conv_dw.weight.data_ptr() for n in (plain, rewritten)]
    assert places[0] == places[1]
    assert isinstance(rewritten.decoder, RewrittenMLPDecoder) and isinstance(plain.decoder, MLPDecoder)
    after = plain.state_dict()
    assert list(before) == list(after) and all(torch.equal(before[name], after[name]) for name in before)
    assert not any(p.requires_grad for p in rewritten.parameters())
    assert all(p.requires_grad for p in plain.parameters())  # which may still be trained


class TestShared:
    def test_tensors_are_the_same_and_modules_are_not(self):
        plain = trained(TINY)
        again = shared(plain)
        assert not {id(m) for m in plain.modules()} & {id(m) for m in again.modules()}
        one, other = (dict(n.named_parameters()) | dict(n.named_buffers()) for n in (plain, again))
        assert list(one) == list(other) and all(one[name] is other[name] for name in one)
        images = slices(TINY, 32, 32)
        before = plain(*images)
        again.encoder_i.blocks[0] = torch.nn.Identity()
        again.register_forward_pre_hook(lambda *_: pytest.fail("The plain one has no hooks."))
        assert torch.equal(plain(*images), before)

    def test_what_is_one_stays_one(self):
        first = torch.nn.Linear(4, 4)
        second = torch.nn.Linear(4, 4)
        second.weight = first.weight
        asked = []
        again = shared(torch.nn.Sequential(first, second, first), lambda _, t: asked.append(t) or t.detach().clone())
        assert again[0] is again[2] and again[0].weight is again[1].weight and again[0].weight is not first.weight
        assert len(asked) == 3


@pytest.mark.parametrize("layers", [1, 2])
def test_borders_and_corners_are_exact(layers):
    """Where zeros stand beyond the border, the linear layers' biases must not reach, nor what is upsampled."""
    config = replace(TINY, decoder_layers=layers)
    decoder = trained(config).decoder.double()
    with torch.no_grad():
        for linear in decoder.linear:
            linear[-1].bias.fill_(3.0)
    random = torch.Generator().manual_seed(2)
    features = [torch.randn(1, c, 24 >> i, 16 >> i, generator=random).double() for i, c in enumerate(config.dims)]
    difference = (RewrittenMLPDecoder(decoder)(features) - decoder(features)).abs()
    assert difference.max() < 1e-9


@settings(deadline=None, max_examples=25)
@given(
    batch=st.integers(1, 2),
    channels=st.integers(1, 3),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    factors=st.tuples(st.sampled_from([1, 2, 3, 4, 8, 4 * BAND]), st.sampled_from([1, 2, 4, 8])),
)
def test_shifted_upsampling_is_upsampling_then_shifting_by_each_tap(batch, channels, size, factors):
    taps = torch.randn(batch, 3, 3, channels, *size, generator=torch.Generator().manual_seed(0)).double()
    height, width = (n * f for n, f in zip(size, factors, strict=True))
    expected = torch.zeros(batch, channels, height, width).double()
    for y, x in product(range(3), range(3)):
        up = torch.nn.functional.interpolate(taps[:, y, x], size=(height, width), mode="bilinear")
        padded = torch.nn.functional.pad(up, (1, 1, 1, 1))
        expected += padded[..., y : y + height, x : x + width]
    before = torch.randn(batch, channels, height, width).double().contiguous(memory_format=torch.channels_last)
    after = before.clone()
    for y in range(3):
        add_upsampled(taps[:, y].flatten(1, 2), y, after)
    torch.testing.assert_close(after - before, expected, rtol=1e-5, atol=1e-5)


def macs(network: DIN, side: int) -> float:
    images = torch.zeros(2, 1, network.config.in_channels, side, side, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*images)
    return counter.get_total_flops() / 2


@pytest.mark.parametrize(("config", "side", "share"), [(DIN_BASE, 224, 0.55), (DIN_SMALL, 112, 0.8)])
def test_rewritten_network_multiplies_less(config, side, share):
    with torch.device("meta"):
        plain = DIN(config).eval()
    assert macs(rewrite(plain), side) < share * macs(plain, side)


@pytest.mark.parametrize(
    ("task", "folder", "case"), [("heart", "acdc_folder", "patient002_frame01"), ("abdomen", "btcv_folder", "0006")]
)
def test_labels_of_a_real_volume_are_those_of_the_plain_network(task, folder, case, request, monkeypatch):
    """A validation patient, in single precision."""
    for module in (devices, runner):
        monkeypatch.setattr(module, "autocast_dtype", lambda _device: None)
    task = get_task(task)
    found = sorted(request.getfixturevalue(folder).rglob(f"*{case}*.nii.gz"))
    volume = read_volume(next(path for path in found if "label" not in path.name and "_gt" not in path.name))
    middle, few = len(volume.array) // 2, min(len(volume.array), 30) // 2
    thin = replace(volume, array=volume.array[middle - few : middle + few])
    entry = find_entry(None, task)
    plain = build_network(entry.network).eval().requires_grad_(False)
    plain.load_state_dict(read_weights(entry))
    model = load_model(None, task)
    labels = [
        predict(Runner(network, torch.device("cpu")), model.preprocessing, thin, task)
        for network in (plain, model.network)
    ]
    assert len(np.unique(labels[0])) >= 4
    np.testing.assert_array_equal(labels[0], labels[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lowered_weights_compute_what_autocast_computes(dtype, monkeypatch):
    for module in (devices, runner):
        monkeypatch.setattr(module, "autocast_dtype", lambda _device: dtype)
    network = rewrite(trained(TINY))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    low = lowered(network, torch.device("cpu"))
    images = slices(TINY, 32, 32)
    with torch.inference_mode(), torch.autocast("cpu", dtype):
        assert torch.equal(low(*images), network(*images))
    products = [m for m in low.modules() if isinstance(m, MATRIX_PRODUCTS)]
    assert products and all(p.dtype is dtype for m in products for p in m.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_nothing_is_copied_where_precision_stays_single(monkeypatch):
    for module in (devices, runner):
        monkeypatch.setattr(module, "autocast_dtype", lambda _device: None)
    network = rewrite(trained(TINY))
    low = lowered(network, torch.device("cpu"))
    for a, b in zip(network.parameters(), low.parameters(), strict=True):
        assert a.data_ptr() == b.data_ptr()
