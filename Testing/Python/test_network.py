"""The Dual Interaction Network: its size as published, and each part against the paper's equations."""

from __future__ import annotations

import json
from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from dinsegment.network import CONFIGS, DIN, DIN_BASE, DIN_SMALL, DINConfig, build_network, count_parameters
from dinsegment.network.convnext import DropPath
from dinsegment.network.decoder import MLPDecoder
from dinsegment.network.emcad import (
    AttentionGate,
    ChannelAttention,
    EMCADDecoder,
    MultiScaleConvolution,
    SpatialAttention,
    UpConvolution,
)
from dinsegment.network.encoder import Encoder
from dinsegment.network.fusion import (
    DIFM,
    DualCrossAttention,
    FeatureMerging,
    GatedFeedForward,
    WindowGrid,
    global_spatial_attention,
)

TINY = DINConfig(
    classes=3,
    dims=(4, 8, 16, 32),
    depths=(1, 2, 1, 1),
    layer_scale=0.5,
    heads=(1, 2, 4, 4),
    window=3,
    decoder_dim=6,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def randomised(module, seed=0):
    """In double precision, with no weight left at a value that hides what it does."""
    random = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(0.4 * torch.randn(tensor.shape, generator=random, dtype=torch.float64))
            if name.endswith("running_var"):
                tensor.abs_().add_(0.5)
    return module


def noise(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.fixture(scope="module")
def base():
    """The published network without memory for its weights."""
    with torch.device("meta"):
        return DIN(DIN_BASE).eval()


# --- the paper's equations ------------------------------------------------------------------------


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / sqrt(2)))


def layer_norm(x, norm):
    """Over the channels of each pixel."""
    mean = x.mean(1, keepdim=True)
    variance = ((x - mean) ** 2).mean(1, keepdim=True)
    return (x - mean) / (variance + norm.eps).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]


def pixelwise(x, layer):
    """A linear layer, or a 1x1 convolution, of every pixel's channels."""
    weight = layer.weight.reshape(layer.weight.shape[:2])
    return torch.einsum("oc,bchw->bohw", weight, x) + layer.bias[:, None, None]


def convolution(x, layer, stride=1, padding=0, groups=1):
    return F.conv2d(x, layer.weight, layer.bias, stride, padding, groups=groups)


def convnext_block(x, block):
    """Eq. 13: 7x7 depthwise, LayerNorm, 1x1 to 4C, GELU, 1x1 to C, layer scale, residual."""
    y = layer_norm(convolution(x, block.conv_dw, padding=3, groups=x.shape[1]), block.norm)
    y = pixelwise(gelu(pixelwise(y, block.mlp.fc1)), block.mlp.fc2)
    return x + block.gamma[:, None, None] * y


def downsampled(x, layers, level, stem_stride):
    if level == 0:
        convolved, norm = layers
        return layer_norm(convolution(x, convolved, stem_stride, padding=1), norm)
    norm, convolved = layers
    return convolution(layer_norm(x, norm), convolved, stride=2)


def encoded(x, encoder, stem_stride=1):
    """Table 14: f_edge from one set of downsampling layers, f_shape from the blocks behind the other."""
    features = []
    for level in range(4):
        f_edge = downsampled(x, encoder.edge[level], level, stem_stride)
        x = downsampled(x, encoder.down[level], level, stem_stride)
        for block in encoder.blocks[level]:
            x = convnext_block(x, block)
        features.append((f_edge, x))
    return features


def merged(merging, low, high):
    """Eq. 1."""
    kernel = merging.conv.weight.shape[-1]
    return convolution(torch.cat((low, high), 1), merging.conv, padding=kernel // 2)


def attended(module, f_i, f_e):
    """Eq. 2 and 3, window by window and head by head; only real tokens are ever looked at."""
    size, heads = module.window, module.heads
    f_ie, f_ei = torch.empty_like(f_i), torch.empty_like(f_e)
    batch, channels, rows, columns = f_i.shape
    d = channels // heads
    for b in range(batch):
        for y in range(0, rows, size):
            for x in range(0, columns, size):
                place = (b, slice(None), slice(y, y + size), slice(x, x + size))
                tokens_i, tokens_e = (f[place].flatten(1).T for f in (f_i, f_e))
                q_i, k_i, v_i = (tokens_i @ module.qkv_i.weight.T + module.qkv_i.bias).chunk(3, 1)
                q_e, k_e, v_e = (tokens_e @ module.qkv_e.weight.T + module.qkv_e.bias).chunk(3, 1)
                for head in range(heads):
                    c = slice(head * d, (head + 1) * d)
                    for out, q, k, v in ((f_ie, q_i, k_e, v_e), (f_ei, q_e, k_i, v_i)):
                        attention = torch.softmax(q[:, c] @ k[:, c].T / sqrt(d), dim=1)
                        answer = attention @ v[:, c] + q[:, c]
                        window = out[place]
                        window[c] = answer.T.reshape(d, *window.shape[1:])
    return f_ie, f_ei


def fed_forward(module, f):
    """Eq. 4 and 5."""
    kernel = module.expand.weight.shape[-1]
    f1, f2 = convolution(layer_norm(f, module.norm), module.expand, padding=kernel // 2).chunk(2, 1)
    return pixelwise(gelu(f1) * f2, module.project) + f


def spatially_attended(f):
    """Eq. 6."""
    return f / (1 + torch.exp(-f.mean(1, keepdim=True)))


def fused(module, i, e):
    """Figure 3."""
    f_ie, f_ei = attended(module.attention, merged(module.merge_i, *i), merged(module.merge_e, *e))
    f_ie, f_ei = fed_forward(module.feed_forward_ie, f_ie), fed_forward(module.feed_forward_ei, f_ei)
    return spatially_attended(f_ie) + spatially_attended(f_ei)


def bilinear(n_in, n_out):
    """Matrix of linear interpolation between pixel centres, the outermost values held."""
    place = ((torch.arange(n_out, dtype=torch.float64) + 0.5) * n_in / n_out - 0.5).clamp(0, n_in - 1)
    distance = (place[:, None] - torch.arange(n_in, dtype=torch.float64)).abs()
    return (1 - distance).clamp(min=0)


def upsampled(x, size):
    return bilinear(x.shape[-2], size[0]) @ x @ bilinear(x.shape[-1], size[1]).T


def decoded(decoder, features):
    """Eq. 14: linear layers and upsampling per level, 3x3 convolution, BatchNorm, ReLU, classes."""
    size, levels = features[0].shape[-2:], []
    for linears, f in zip(decoder.linear, features, strict=True):
        for linear in linears:
            f = pixelwise(f, linear)
        levels.append(upsampled(f, size))
    x, norm = convolution(torch.cat(levels, 1), decoder.fuse, padding=1), decoder.norm
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    x = (x - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]
    return pixelwise(x.clamp(min=0), decoder.classify)


# --- published size -------------------------------------------------------------------------------


def test_parameters_of_the_base_network_are_the_published_ones(base):
    counts = count_parameters(base)
    assert counts["total"] == pytest.approx(323.31e6, rel=0.03)
    assert counts["encoders"] == pytest.approx(178e6, rel=0.10)
    assert counts["fusion"] == pytest.approx(119.94e6, rel=0.10)
    assert counts["decoder"] == pytest.approx(25.27e6, rel=0.10)


def test_parts_add_up_to_the_whole(base):
    counts = count_parameters(base)
    assert counts["total"] == sum(p.numel() for p in base.parameters())
    assert counts["total"] == counts["encoders"] + counts["fusion"] + counts["decoder"]


def test_multiply_accumulates_of_the_base_network_are_the_published_ones(base):
    counter = FlopCounterMode(display=False)
    image = torch.empty(1, 1, 224, 224, device="meta")
    with counter:
        logits = base(image, image)
    assert logits.shape == (1, 4, 224, 224)
    assert counter.get_total_flops() / 2 == pytest.approx(1860.09e9, rel=0.03)


def test_small_network_is_small():
    with torch.device("meta"):
        network = DIN(DIN_SMALL)
    assert count_parameters(network)["total"] <= 6e6
    assert CONFIGS == {"din-base": DIN_BASE, "din-small": DIN_SMALL}


# --- encoder --------------------------------------------------------------------------------------


def test_levels_are_those_of_table_14(base):
    features = base.encoder_i(torch.empty(1, 1, 224, 224, device="meta"))
    sizes = [(1, 128, 224, 224), (1, 256, 112, 112), (1, 512, 56, 56), (1, 1024, 28, 28)]
    assert [tuple(edge.shape) for edge, _ in features] == sizes
    assert [tuple(shape.shape) for _, shape in features] == sizes
    assert [len(blocks) for blocks in base.encoder_i.blocks] == [3, 3, 27, 3]
    with torch.device("meta"):
        encoder = Encoder()
    assert [p.shape for p in encoder.parameters()] == [p.shape for p in base.encoder_i.parameters()]


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_encoder_is_table_14_and_equation_13(stride):
    encoder = randomised(Encoder(2, (4, 6, 8, 10), (1, 2, 1, 1), stride, layer_scale=0.5))
    x = noise(2, 2, 8 * stride, 16 * stride)
    for got, expected in zip(encoder(x), encoded(x, encoder, stride), strict=True):
        for f, g in zip(got, expected, strict=True):
            close(f, g)


def test_blocks_and_downsampling_are_timms(base):
    """The weights of timm's ConvNeXt-base fit as they are."""
    with torch.device("meta"):
        published = timm.create_model("convnext_base", pretrained=False)
    for level, stage in enumerate(published.stages):
        base.encoder_i.blocks[level].load_state_dict(stage.blocks.state_dict(), strict=True)
        if level:
            base.encoder_i.down[level].load_state_dict(stage.downsample.state_dict(), strict=True)


def test_blocks_compute_what_timms_compute():
    theirs = randomised(timm.models.convnext.ConvNeXt(in_chans=1, dims=(4, 8, 12, 16), depths=(1, 1, 2, 1)))
    ours = randomised(Encoder(1, (4, 8, 12, 16), (1, 1, 2, 1)), seed=1)
    for level in range(4):
        ours.blocks[level].load_state_dict(theirs.stages[level].blocks.state_dict())
        if level:
            ours.down[level].load_state_dict(theirs.stages[level].downsample.state_dict())
    x = noise(1, 1, 16, 24)
    expected = theirs.stages[0](ours.down[0](x))
    for level in range(1, 4):
        expected = theirs.stages[level](expected)
    close(ours(x)[-1][1], expected)


def test_stochastic_depth_grows_to_the_last_block_and_is_off_in_evaluation():
    encoder = Encoder(1, (4, 4, 4, 4), (1, 2, 1, 1), drop_path=0.4)
    rates = [b.drop_path.drop_prob if isinstance(b.drop_path, DropPath) else 0.0 for s in encoder.blocks for b in s]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    plain = Encoder(1, (4, 4, 4, 4), (1, 2, 1, 1))
    plain.load_state_dict(encoder.state_dict())
    x = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(encoder.eval()(x)[-1][1], plain.eval()(x)[-1][1])


# --- fusion ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [1, 3])
def test_feature_merging_is_equation_1(kernel):
    merging = randomised(FeatureMerging(4, kernel))
    low, high = noise(2, 4, 5, 6), noise(2, 4, 5, 6, seed=2)
    assert merging(low, high).shape == (2, 4, 5, 6)
    close(merging(low, high), merged(merging, low, high))


@settings(max_examples=15, deadline=None)
@given(
    batch=st.integers(1, 2),
    heads=st.sampled_from((1, 2, 3)),
    window=st.integers(1, 4),
    rows=st.integers(1, 7),
    columns=st.integers(1, 7),
)
def test_cross_attention_is_equations_2_and_3_over_real_tokens(batch, heads, window, rows, columns):
    attention = randomised(DualCrossAttention(6, heads, window))
    f_i, f_e = noise(batch, 6, rows, columns), noise(batch, 6, rows, columns, seed=2)
    for got, expected in zip(attention(f_i, f_e), attended(attention, f_i, f_e), strict=True):
        close(got, expected)


def test_each_image_asks_the_other():
    attention = randomised(DualCrossAttention(4, 2, 4))
    f_i, f_e = noise(1, 4, 4, 4), noise(1, 4, 4, 4, seed=2)
    changed = attention.qkv_e.weight.clone()
    changed[4:] += 1  # keys and values of E
    ie, ei = attention(f_i, f_e)
    attention.qkv_e.weight.data = changed
    ie_changed, ei_changed = attention(f_i, f_e)
    assert not torch.allclose(ie, ie_changed) and torch.equal(ei, ei_changed)


def test_windows_do_not_see_each_other():
    attention = randomised(DualCrossAttention(4, 2, 3))
    f_i, f_e = noise(2, 4, 8, 7), noise(2, 4, 8, 7, seed=2)
    changed = f_i.clone()
    changed[1, :, 4, 5] += 3  # in the window of rows 3 to 5 and columns 3 to 5 of the second slice
    own = torch.zeros(2, 8, 7, dtype=torch.bool)
    own[1, 3:6, 3:6] = True
    for before, after in zip(attention(f_i, f_e), attention(changed, f_e), strict=True):
        differs = (before != after).any(1)
        assert differs.any() and not (differs & ~own).any()
    assert (attention(f_i, f_e)[1] != attention(changed, f_e)[1]).any(1)[own].all()  # keys reach all of it


@settings(max_examples=40, deadline=None)
@given(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)), st.integers(1, 5))
def test_window_grid_splits_into_windows_and_joins_them_again(shape, size):
    batch, _, rows, columns = shape
    x = noise(*shape)
    grid = WindowGrid(batch, rows, columns, size)
    windows = grid.split(x)
    assert torch.equal(grid.join(windows), x)
    assert windows.shape == (batch * -(-rows // size) * -(-columns // size), size**2, shape[1])
    first = F.pad(x, (0, size, 0, size))[0, :, :size, :size]
    assert torch.equal(windows[0], first.flatten(1).T)
    mask = grid.mask(x.device)
    if rows % size or columns % size:
        assert int(mask.sum()) == batch * rows * columns
        assert torch.equal(mask[:, 0, 0], grid.split(torch.ones(shape))[..., 0] > 0)
    else:
        assert mask is None


@pytest.mark.parametrize("kernel", [1, 3])
def test_gated_feed_forward_is_equations_4_and_5(kernel):
    module = randomised(GatedFeedForward(4, kernel))
    f = noise(2, 4, 5, 6)
    close(module(f), fed_forward(module, f))


def test_global_spatial_attention_is_equation_6():
    f = noise(2, 4, 5, 6)
    close(global_spatial_attention(f), spatially_attended(f))
    by_hand = torch.tensor([[[[2.0]], [[4.0]]]])
    weight = 1 / (1 + np.exp(-3.0))
    torch.testing.assert_close(global_spatial_attention(by_hand), by_hand * weight)


@pytest.mark.parametrize("kernels", [(1, 1), (3, 3), (3, 1)])
def test_fusion_module_is_figure_3(kernels):
    module = randomised(DIFM(4, 2, 3, *kernels))
    i, e = ((noise(2, 4, 5, 7, seed=s), noise(2, 4, 5, 7, seed=s + 1)) for s in (2, 4))
    assert module(i, e).shape == (2, 4, 5, 7)
    close(module(i, e), fused(module, i, e))


def test_swapping_images_and_weights_changes_nothing():
    module, swapped = randomised(DIFM(4, 2, 3)), randomised(DIFM(4, 2, 3), seed=1)
    other = {"merge_i": "merge_e", "qkv_i": "qkv_e", "feed_forward_ie": "feed_forward_ei"}
    other |= {b: a for a, b in other.items()}
    weights = {".".join(other.get(p, p) for p in k.split(".")): v for k, v in module.state_dict().items()}
    swapped.load_state_dict(weights)
    i, e = ((noise(1, 4, 5, 7, seed=s), noise(1, 4, 5, 7, seed=s + 1)) for s in (2, 4))
    close(swapped(e, i), module(i, e))
    assert not torch.allclose(module(e, i), module(i, e))


# --- decoder --------------------------------------------------------------------------------------


def level_features(seed, dims=(3, 5, 7, 9), size=(16, 24)):
    return [noise(2, c, size[0] >> n, size[1] >> n, seed=seed + n) for n, c in enumerate(dims)]


@pytest.mark.parametrize("layers", [1, 2])
def test_decoder_is_equation_14(layers):
    decoder = randomised(MLPDecoder((3, 5, 7, 9), dim=6, classes=4, layers=layers))
    features = level_features(1)
    logits = decoder(features)
    assert logits.shape == (2, 4, 16, 24)
    close(logits, decoded(decoder, features))


def test_decoder_is_linear_up_to_the_convolution_that_fuses_the_levels():
    decoder = randomised(MLPDecoder((3, 5, 7, 9), dim=6, classes=4, layers=2))
    seen = []
    decoder.fuse.register_forward_hook(lambda *call: seen.append(call[-1]))
    a, b = level_features(1), level_features(9)
    for features in (a, b, [x + y for x, y in zip(a, b, strict=True)], [0 * x for x in a]):
        decoder(features)
    of_a, of_b, of_sum, of_nothing = seen
    close(of_sum + of_nothing, of_a + of_b)


# --- the whole network ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny():
    return randomised(DIN(TINY))


def test_network_is_its_parts_put_together_as_the_paper_says(tiny):
    image, enhanced = noise(2, 1, 16, 24), noise(2, 1, 16, 24, seed=2)
    i, e = encoded(image, tiny.encoder_i), encoded(enhanced, tiny.encoder_e)
    features = [fused(*level) for level in zip(tiny.fusion, i, e, strict=True)]
    torch.testing.assert_close(tiny(image, enhanced), decoded(tiny.decoder, features), rtol=1e-7, atol=1e-7)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from((1, 2, 4)))
def test_any_size_goes_in_and_comes_out(rows, columns, stride):
    network = DIN(replace(TINY, depths=(1, 1, 1, 1), stem_stride=stride)).eval()
    assert network.stride == 8 * stride
    image, enhanced = torch.randn(2, 1, 1, rows, columns)
    with torch.no_grad():
        logits = network(image, enhanced)
        assert logits.shape == (1, 3, rows, columns)
        pad = ((0, 0), (0, 0), (0, -rows % network.stride), (0, -columns % network.stride))
        whole = network(*(torch.from_numpy(np.pad(x.numpy(), pad, "edge")) for x in (image, enhanced)))
    torch.testing.assert_close(logits, whole[..., :rows, :columns], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_stem_stride_is_undone_bilinearly(stride):
    network = randomised(DIN(replace(TINY, stem_stride=stride)))
    image, enhanced = noise(1, 1, 32, 32), noise(1, 1, 32, 32, seed=2)
    i, e = network.encoder_i(image), network.encoder_e(enhanced)
    coarse = network.decoder([fuse(*pair) for fuse, *pair in zip(network.fusion, i, e, strict=True)])
    assert coarse.shape[-1] == 32 // stride
    close(network(image, enhanced), upsampled(coarse, (32, 32)))


def test_colour_goes_in_too():
    network = DIN(replace(TINY, in_channels=3))
    assert network(*torch.randn(2, 1, 3, 16, 16)).shape == (1, 3, 16, 16)


def test_both_images_matter():
    network = randomised(DIN(TINY))
    inputs = [noise(1, 1, 16, 16, seed=s).requires_grad_() for s in (1, 2)]
    network(*inputs).square().sum().backward()
    for x in inputs:
        assert (x.grad.abs() > 0).float().mean() > 0.99
    image, enhanced = (x.detach() for x in inputs)
    assert not torch.allclose(network(image, enhanced), network(enhanced, image))


def test_edge_and_shape_features_of_all_levels_of_both_encoders_matter():
    network = randomised(DIN(TINY))
    network(noise(1, 1, 16, 16), noise(1, 1, 16, 16, seed=2)).square().sum().backward()
    for encoder in (network.encoder_i, network.encoder_e):
        for part in (encoder.edge, encoder.down, encoder.blocks):
            assert all(p.grad.abs().max() > 1e-9 for level in part for p in level.parameters())
    assert [n for n, p in network.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-9] == []


def test_shared_encoder_is_one_encoder_with_half_the_parameters():
    shared = randomised(DIN(replace(TINY, shared_encoder=True)))
    counts, separate = count_parameters(shared), count_parameters(DIN(TINY))
    assert counts["encoders"] == separate["encoders"] // 2
    assert counts["total"] == separate["total"] - counts["encoders"]
    image, enhanced = noise(1, 1, 16, 16), noise(1, 1, 16, 16, seed=2)
    seen = [encoder(image)[-1][1] for encoder in (shared.encoder_i, shared.encoder_e)]
    assert torch.equal(*seen)
    before = shared(image, enhanced)
    shared.encoder_e.down[0][1].weight.data += 1
    assert torch.equal(shared.encoder_i.down[0][1].weight, shared.encoder_e.down[0][1].weight)
    assert not torch.allclose(shared(image, enhanced), before)


def test_weights_travel_from_one_network_to_another(tiny):
    other = randomised(DIN(DINConfig.from_dict(json.loads(json.dumps(TINY.to_dict())))), seed=5)
    image, enhanced = noise(1, 1, 12, 20), noise(1, 1, 12, 20, seed=2)
    assert not torch.allclose(other(image, enhanced), tiny(image, enhanced))
    other.load_state_dict(tiny.state_dict(), strict=True)
    assert torch.equal(other(image, enhanced), tiny(image, enhanced))


def test_evaluation_says_the_same_each_time_and_slices_do_not_see_each_other():
    network = DIN(replace(TINY, drop_path=0.5)).eval()
    image, enhanced = torch.randn(2, 3, 1, 16, 16)
    with torch.no_grad():
        logits = network(image, enhanced)
        assert torch.equal(network(image, enhanced), logits)
        torch.testing.assert_close(network(image[1:2], enhanced[1:2]), logits[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_options_survive_json(config):
    assert DINConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_options_that_cannot_be_are_named():
    with pytest.raises(ValueError, match="no option 'depth', 'width'"):
        DINConfig.from_dict({"classes": 4, "width": 2, "depth": 1})
    for name in ("dims", "depths", "heads"):
        with pytest.raises(ValueError, match=f"'{name}'.*four values.*not 3"):
            DINConfig(**{name: (1, 2, 3)})
    with pytest.raises(ValueError, match="3 attention heads do not divide 4 channels"):
        DIN(replace(TINY, heads=(3, 2, 4, 4)))


# --- the paper's experiments ----------------------------------------------------------------------


def pair(seed, channels=4, size=(5, 7)):
    """f_edge and f_shape of one image."""
    return noise(2, channels, *size, seed=seed), noise(2, channels, *size, seed=seed + 1)


@pytest.mark.parametrize("merging", [True, False])
@pytest.mark.parametrize("cross_attention", [True, False])
@pytest.mark.parametrize("spatial_attention", [True, False])
def test_a_part_of_the_fusion_module_that_is_off_is_left_out(merging, cross_attention, spatial_attention):
    switches = {"merging": merging, "cross_attention": cross_attention, "spatial_attention": spatial_attention}
    module = randomised(DIFM(4, 2, 3, **switches))
    i, e = pair(2), pair(4)
    f_i, f_e = (merged(module.merge_i, *i), merged(module.merge_e, *e)) if merging else (i[1], e[1])
    f_ie, f_ei = attended(module.attention, f_i, f_e) if cross_attention else (f_i, f_e)
    f_ie, f_ei = fed_forward(module.feed_forward_ie, f_ie), fed_forward(module.feed_forward_ei, f_ei)
    if spatial_attention:
        f_ie, f_ei = spatially_attended(f_ie), spatially_attended(f_ei)
    close(module(i, e), f_ie + f_ei)
    names = {name.split(".")[0] for name, _ in module.named_parameters()}
    assert ("merge_i" in names) == merging and ("attention" in names) == cross_attention


@pytest.mark.parametrize(("direction", "way"), [("image-to-enhanced", 0), ("enhanced-to-image", 1)])
def test_one_way_attention_is_one_of_the_two_ways(direction, way):
    """With the weights of the other way left out, what is computed is the same."""
    both, one = randomised(DIFM(4, 2, 3)), randomised(DIFM(4, 2, 3, direction=direction), seed=1)
    asks, answers = ("qkv_i", "qkv_e") if way == 0 else ("qkv_e", "qkv_i")
    weights = {k: v for k, v in both.state_dict().items() if k in one.state_dict()}
    for kind in ("weight", "bias"):
        weights[f"attention.{asks}.{kind}"] = weights[f"attention.{asks}.{kind}"][:4]
        weights[f"attention.{answers}.{kind}"] = weights[f"attention.{answers}.{kind}"][4:]
    one.load_state_dict(weights)
    i, e = pair(2), pair(4)
    f = attended(both.attention, merged(both.merge_i, *i), merged(both.merge_e, *e))[way]
    feed_forward = (both.feed_forward_ie, both.feed_forward_ei)[way]
    close(one(i, e), spatially_attended(fed_forward(feed_forward, f)))


def images(size=(16, 24)):
    return noise(2, 1, *size), noise(2, 1, *size, seed=2)


def shapes(x, encoder):
    """f_shape of all levels of an encoder that gives no f_edge."""
    x_levels = []
    for level in range(4):
        x = downsampled(x, encoder.down[level], level, 1)
        for block in encoder.blocks[level]:
            x = convnext_block(x, block)
        x_levels.append(x)
    return x_levels


def matches(network, features):
    """Whether the network says what its decoder makes of those features."""
    expected = upsampled(decoded(network.decoder, features), (16, 24))
    torch.testing.assert_close(network(*images()), expected, rtol=1e-7, atol=1e-7)


def test_concatenation_of_both_encoders_features():
    network = randomised(DIN(replace(TINY, fusion="concatenation")))
    image, enhanced = images()
    levels = zip(network.fusion, shapes(image, network.encoder_i), shapes(enhanced, network.encoder_e), strict=True)
    matches(network, [pixelwise(torch.cat((i, e), 1), fuse.conv) for fuse, i, e in levels])


@pytest.mark.parametrize("inputs", ["image", "enhanced"])
def test_a_single_encoder_sees_one_image_only(inputs):
    network = randomised(DIN(replace(TINY, fusion="none", inputs=inputs)))
    image, enhanced = images()
    seen, encoder = (image, network.encoder_i) if inputs == "image" else (enhanced, network.encoder_e)
    matches(network, shapes(seen, encoder))
    counts = count_parameters(network)
    assert counts["fusion"] == 0 and counts["total"] == sum(p.numel() for p in network.parameters())


def test_both_images_as_channels_of_one_encoder():
    network = randomised(DIN(replace(TINY, fusion="input")))
    matches(network, shapes(torch.cat(images(), 1), network.encoder_i))
    assert network.encoder_e is None


@pytest.mark.parametrize("count", [1, 2, 3])
def test_finer_levels_than_those_with_a_fusion_module_are_left_out(count):
    network = randomised(DIN(replace(TINY, difm_levels=count)))
    image, enhanced = images()
    features = []
    for level in range(4 - count, 4):
        fuse = network.fusion[level - (4 - count)]
        features.append(fuse(network.encoder_i(image)[level], network.encoder_e(enhanced)[level]))
    matches(network, features)
    network(image, enhanced).square().sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


def test_finer_levels_than_those_with_a_fusion_module_can_be_concatenated():
    network = randomised(DIN(replace(TINY, difm_levels=1, levels_without_difm="concatenation")))
    image, enhanced = images()
    i, e = shapes(image, network.encoder_i), shapes(enhanced, network.encoder_e)
    fine = [pixelwise(torch.cat((i[n], e[n]), 1), network.fusion[n].conv) for n in range(3)]
    matches(network, [*fine, network.fusion[3](network.encoder_i(image)[3], network.encoder_e(enhanced)[3])])


# --- EMCAD ----------------------------------------------------------------------------------------


def batch_norm(x, norm):
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return (x - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]


def conv(x, layer):
    return F.conv2d(x, layer.weight, layer.bias, padding=layer.weight.shape[-1] // 2, groups=layer.groups)


def channel_attended(x, module):
    narrow, _, wide = module.mlp
    maximum, mean = (lambda f: F.adaptive_max_pool2d(f, 1)), (lambda f: F.adaptive_avg_pool2d(f, 1))
    weight = sum(conv(conv(f(x), narrow).clamp(min=0), wide) for f in (maximum, mean))
    return x * torch.sigmoid(weight)


def spatially_weighed(x, module):
    return x * torch.sigmoid(conv(torch.stack((x.max(1)[0], x.mean(1)), 1), module.conv))


def multi_scale(x, module):
    wide = batch_norm(conv(x, module.expand[0]), module.expand[1]).clamp(0, 6)
    y = sum(batch_norm(conv(wide, scale[0]), scale[1]).clamp(0, 6) for scale in module.scales)
    groups, channels = x.shape[1], y.shape[1]
    order = [g * (channels // groups) + n for n in range(channels // groups) for g in range(groups)]
    return x + batch_norm(conv(y[:, order], module.project[0]), module.project[1])


def refined(x, module):
    return multi_scale(spatially_weighed(channel_attended(x, module[0]), module[1]), module[2])


def brought_up(x, module):
    _, depthwise, norm, _, pointwise = module
    x = x.repeat_interleave(2, -1).repeat_interleave(2, -2)
    return conv(batch_norm(conv(x, depthwise), norm).clamp(min=0), pointwise)


def gated(g, x, module):
    of_g, of_x = (batch_norm(conv(f, part[0]), part[1]) for f, part in ((g, module.of_decoder), (x, module.of_level)))
    q = (of_g + of_x).clamp(min=0)
    return x * torch.sigmoid(batch_norm(conv(q, module.weigh[0]), module.weigh[1]))


def test_each_part_of_emcad_is_as_published():
    x, g = noise(2, 6, 5, 7), noise(2, 6, 5, 7, seed=2)
    for module, expected in (
        (ChannelAttention(6), channel_attended),
        (SpatialAttention(), spatially_weighed),
        (MultiScaleConvolution(6), multi_scale),
        (UpConvolution(6, 4), brought_up),
    ):
        module = randomised(module)
        close(module(x), expected(x, module))
    gate = randomised(AttentionGate(6))
    close(gate(g, x), gated(g, x, gate))


def test_emcad_goes_from_the_coarsest_level_to_the_finest():
    decoder = randomised(EMCADDecoder((4, 6, 8, 10), classes=3))
    features = level_features(1, dims=(4, 6, 8, 10))
    d = refined(features[3], decoder.refine[3])
    for level in (2, 1, 0):
        d = brought_up(d, decoder.up[level])
        d = refined(d + gated(d, features[level], decoder.gate[level]), decoder.refine[level])
    logits = decoder(features)
    assert logits.shape == (2, 3, 16, 24)
    torch.testing.assert_close(logits, pixelwise(d, decoder.classify), rtol=1e-6, atol=1e-6)


def test_emcad_in_place_of_the_mlp_decoder():
    network = randomised(DIN(replace(TINY, decoder="emcad", stem_stride=2)))
    image, enhanced = noise(1, 1, 19, 30), noise(1, 1, 19, 30, seed=2)
    assert isinstance(network.decoder, EMCADDecoder) and network(image, enhanced).shape == (1, 3, 19, 30)


# --- options --------------------------------------------------------------------------------------

EXPERIMENTS = [
    {"fusion": "concatenation"},
    {"fusion": "none", "inputs": "enhanced"},
    {"fusion": "input", "decoder": "emcad"},
    {"merging": False, "spatial_attention": False},
    {"attention": "image-to-enhanced", "shared_encoder": True},
    {"difm_levels": 2},
]


@pytest.mark.parametrize("changes", EXPERIMENTS, ids=str)
def test_every_experiment_survives_json_and_takes_any_size(changes):
    config = replace(TINY, **changes)
    network = build_network(json.loads(json.dumps(config.to_dict()))).eval()
    assert network.config == config
    assert network(*torch.randn(2, 1, 1, 21, 13)).shape == (1, 3, 21, 13)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"fusion": "sum"}, "'fusion' of a DIN is one of difm, concatenation, input, none, not 'sum'"),
        ({"decoder": "unet"}, "'decoder' of a DIN is one of mlp, emcad"),
        ({"difm_levels": 5}, "1 to 4 levels with a DIFM, not 5"),
        ({"fusion": "none"}, "needs 'inputs'"),
        ({"inputs": "image"}, "needs 'inputs'"),
        ({"attention": "image-to-enhanced", "cross_attention": False}, "'cross_attention' is off"),
        ({"fusion": "input", "shared_encoder": True}, "one encoder: none that could be shared"),
        ({"fusion": "concatenation", "merging": False}, "'merging' is an option of DIFM"),
    ],
    ids=str,
)
def test_experiments_that_contradict_themselves_are_named(changes, named):
    with pytest.raises(ValueError, match=named):
        replace(TINY, **changes)


def test_the_factory_knows_networks_by_name():
    with torch.device("meta"):
        assert build_network({"name": "din-small", "classes": 9}).config == replace(DIN_SMALL, classes=9)
        assert build_network({"classes": 9}).config == replace(DIN_BASE, classes=9)
    with pytest.raises(ValueError, match="no network 'din-huge'; there are: din-base, din-small, monai-unet"):
        build_network({"name": "din-huge"})
    with pytest.raises(ValueError, match="DIN has no option 'width'"):
        build_network({"name": "din-small", "width": 3})
