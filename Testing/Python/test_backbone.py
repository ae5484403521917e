"""timm's networks as the encoders of a DIN."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from dinsegment.errors import InputError
from dinsegment.network import DIN, build_network, network_config, rewrite
from dinsegment.network import backbone as backbones
from dinsegment.network.rewriting import for_inference
from dinsegment.training.losses import din_loss
from dinsegment.training.recipe import load_recipe

pytest.importorskip("timm", reason="timm is not installed.")

OPTIONS = {"name": "din-small", "classes": 3, "heads": [2, 4, 8, 16], "decoder_dim": 16, "window": 4}


def images(config, height=50, width=70, seed=0):
    random = torch.Generator().manual_seed(seed)
    return tuple(torch.rand(2, config.in_channels, height, width, generator=random) * 2 - 1 for _ in range(2))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("name", "dims", "stride"),
    [("convnextv2_atto", (40, 80, 160, 320), 4), ("resnet18", (64, 128, 256, 512), 4)],
)
def test_widths_and_stride_are_the_networks_own(name, dims, stride, one_thread):
    config = network_config({**OPTIONS, "backbone": name, "in_channels": 3})
    assert (config.dims, config.stem_stride) == (dims, stride)
    assert network_config(json.loads(json.dumps(config.to_dict()))) == config
    network = build_network(config)
    logits = network.eval()(*images(config))
    assert logits.shape == (2, 3, 50, 70)
    features = network.encoder_i(images(config, 64, 96)[0])
    assert [tuple(shape.shape) for _, shape in features] == [
        (2, d, 64 // (stride * 2**n), 96 // (stride * 2**n)) for n, d in enumerate(dims)
    ]
    assert all(edge.shape == shape.shape for edge, shape in features)


def test_for_inference_it_computes_the_same(one_thread):
    """The fusion and the decoder are rewritten, the encoder is not."""
    config = network_config({**OPTIONS, "backbone": "convnextv2_atto"})
    network = build_network(config).eval()
    fast = for_inference(network)
    assert type(fast.encoder_i) is type(network.encoder_i) and type(fast.decoder) is not type(network.decoder)
    with torch.inference_mode():
        torch.testing.assert_close(fast(*images(config)), network(*images(config)), atol=1e-4, rtol=1e-3)


def test_a_recipe_with_it_learns(one_thread):
    recipe = load_recipe("small-backbone-convnextv2-atto")
    network = build_network(recipe.network)
    assert isinstance(network, DIN) and network.config.backbone == "convnextv2_atto"
    image, enhanced = images(network.config, 64, 64)
    labels = torch.zeros(2, 64, 64, dtype=torch.long)
    labels[:, 16:48, 16:48] = 1
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        loss = din_loss(network(image, enhanced), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for encoder in (network.encoder_i, network.encoder_e):
        assert any(p.grad.abs().sum() > 0 for p in encoder.backbone.parameters())
    assert network.encoder_i is not network.encoder_e


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vit_tiny_patch16_224", "vit_tiny_patch16_224"),
        ("no-such-network", "no-such-network"),
        ("swin_tiny_patch4_window7_224", "swin_tiny"),
    ],
)
def test_others_are_refused_in_words(name, words):
    with pytest.raises(ValueError, match="'backbone' of a DIN") as caught:
        network_config({**OPTIONS, "backbone": name})
    assert words in str(caught.value)


def test_other_widths_than_its_own_are_refused():
    with pytest.raises(ValueError, match=r"'dims'.*40, 80, 160, 320"):
        network_config({**OPTIONS, "backbone": "convnextv2_atto", "dims": [32, 64, 128, 256]})


def test_without_timm_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    backbones.describe.cache_clear()
    with pytest.raises(InputError, match=r"'timm'.*pip install"):
        network_config({**OPTIONS, "backbone": "resnet18"})


def test_a_network_without_it_says_nothing_of_it():
    assert "backbone" not in network_config({"name": "din-small"}).to_dict()
    assert isinstance(rewrite(build_network({**OPTIONS, "decoder_dim": 8}).eval()), DIN)
