"""A trained DIN rewritten for inference: the same function of its inputs with fewer multiplications and passes.

Nothing is approximated: what is linear is composed, in double precision, and what then can be done at a coarser
resolution is done there. The logits of both forms differ by rounding only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinsegment.network.convnext import ConvNeXtBlock
from dinsegment.network.decoder import MLPDecoder
from dinsegment.network.din import DIN
from dinsegment.network.encoder import Downsampling, Encoder
from dinsegment.network.fusion import GatedFeedForward

TOKENS = 8192
"""Tokens that a CPU takes through two linear layers at a time: fewer would spend the time on the weights."""

BAND = 32
"""Places that are upsampled at a time; many more multiply by zeros, many fewer are slow products."""


def rewrite(network: DIN) -> DIN:
    """The network for inference, on the same device.

    - Decoder: `RewrittenMLPDecoder`.
    - ConvNeXt blocks: `RewrittenBlock`.
    - Encoders: the two downsampling layers of a level share one LayerNorm; what follows it is part of their weights.
    - Gated feed-forward: the convolution's two halves are two convolutions, so that neither is a strided view.

    Args:
        network: A trained network in evaluation mode, which stays as it is. What is not rewritten is shared with it.

    Returns:
        A network with the same `config`; it cannot be trained, nor its weights loaded into another one.
    """
    with torch.device("meta"):
        new = DIN(network.config)
    new.load_state_dict(network.state_dict(), assign=True)
    with torch.no_grad():
        for encoder in {e for e in (new.encoder_i, new.encoder_e) if e is not None}:
            _rewrite_encoder(encoder)
        for difm in new.fusion:
            for name in ("feed_forward_ie", "feed_forward_ei"):
                if hasattr(difm, name):
                    setattr(difm, name, RewrittenFeedForward(getattr(difm, name)))
        if isinstance(new.decoder, MLPDecoder):
            new.decoder = RewrittenMLPDecoder(new.decoder)
    return new.eval().requires_grad_(False)


def _rewrite_encoder(encoder: Encoder) -> None:
    for level, blocks in enumerate(encoder.blocks):
        encoder.blocks[level] = nn.Sequential(*map(RewrittenBlock, blocks))
    for level, (edge, down) in enumerate(zip(encoder.edge, encoder.down, strict=True)):
        if isinstance(edge, Downsampling):
            encoder.edge[level], encoder.down[level] = _without_norm(edge), _without_norm(down)
            encoder.norm[level] = Normalize(edge[0].eps)


def _without_norm(layers: Downsampling) -> nn.Conv2d:
    """The convolution of what LayerNorm scales and shifts, from what it has only normalised; there is no padding."""
    norm, conv = layers
    weight = conv.weight.double()
    bias = conv.bias.double() + torch.einsum("oihw,i->o", weight, norm.bias.double())
    return _convolution(weight * norm.weight.double()[:, None, None], bias, conv)


def _convolution(weight: Tensor, bias: Tensor | None, like: nn.Conv2d, padding: int = 0) -> nn.Conv2d:
    """A convolution with these weights (out, in, rows, columns), of the stride, precision and device of another."""
    conv = nn.Conv2d(*weight.shape[1::-1], weight.shape[2:], like.stride, padding, bias=bias is not None, device="meta")
    conv.weight = _parameter(weight, like.weight)
    if bias is not None:
        conv.bias = _parameter(bias, like.weight)
    return conv


def _parameter(value: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(value.to(like), requires_grad=False)


class Normalize(nn.Module):
    """LayerNorm over channels without weights: (B, C, H, W) -> the same shape."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], eps=self.eps).permute(0, 3, 1, 2)


class Pointwise(nn.Module):
    """A linear layer, (N, C_in) -> (N, C_out).

    On a CPU it is computed as a 1x1 convolution, which oneDNN does up to a quarter faster than the matrix product.
    """

    def __init__(self, weight: Tensor, bias: Tensor, like: nn.Linear) -> None:
        super().__init__()
        self.layer = nn.Conv2d(weight.shape[1], weight.shape[0], 1, device="meta")
        self.layer.weight = _parameter(weight[..., None, None], like.weight)
        self.layer.bias = _parameter(bias, like.weight)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return F.linear(x, self.layer.weight[..., 0, 0], self.layer.bias)
        image = x.view(1, len(x), 1, -1).permute(0, 3, 1, 2)
        return self.layer(image).permute(0, 2, 3, 1).flatten(0, 2)


class RewrittenBlock(nn.Module):
    """ConvNeXt's block (eq. 13) with layer scale in its last layer: gamma * (W x + b) = (gamma * W) x + gamma * b.

    On a CPU the four times wider layer between its linear layers is computed a part at a time. It then stays in the
    cache, and there is no large tensor for which the system would have to find memory.
    """

    def __init__(self, plain: ConvNeXtBlock) -> None:
        super().__init__()
        self.conv_dw, self.norm = plain.conv_dw, plain.norm
        widen, narrow = plain.mlp.fc1, plain.mlp.fc2
        scale = plain.gamma.double()
        self.widen = Pointwise(widen.weight, widen.bias, widen)
        self.narrow = Pointwise((narrow.weight.double().T * scale).T, narrow.bias.double() * scale, narrow)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same tensor, to which the branch was added: nothing else needs a block's input."""
        tokens = self.norm(self.conv_dw(x).permute(0, 2, 3, 1))
        shape, tokens = tokens.shape, tokens.flatten(0, 2)
        parts = tokens.split(TOKENS) if tokens.device.type == "cpu" else (tokens,)
        done = [self.narrow(F.gelu(self.widen(part))) for part in parts]
        out = torch.cat(done) if len(done) > 1 else done[0]
        x += out.view(shape).permute(0, 3, 1, 2)
        return x


class RewrittenFeedForward(nn.Module):
    """`GatedFeedForward` (eq. 4, 5) with f1 and f2 from a convolution each.

    GELU of one half of a tensor that lies channels-last takes ten times as long on a CPU as of a tensor of its own.
    """

    def __init__(self, plain: GatedFeedForward) -> None:
        super().__init__()
        self.norm, self.project = plain.norm, plain.project
        expand = plain.expand
        halves = zip(expand.weight.chunk(2), expand.bias.chunk(2), strict=True)
        self.expand = nn.ModuleList(_convolution(w, b, expand, expand.padding[0]) for w, b in halves)

    def forward(self, f: Tensor) -> Tensor:
        x = self.norm(f)
        f1, f2 = (conv(x) for conv in self.expand)
        gated = F.gelu(f1)
        gated *= f2
        return self.project(gated) + f


class RewrittenMLPDecoder(nn.Module):
    """`MLPDecoder` (eq. 14) without its wide 3x3 convolution at full resolution.

    From the features to the ReLU the decoder is affine: linear layers, bilinear upsampling, concatenation, 3x3
    convolution, BatchNorm. So a level's linear layers and BatchNorm's scale go into its share of the 3x3 convolution,
    which then has the level's C channels as input. The finest level has it as it is. At a coarser one it comes before
    the upsampling: a 3x3 convolution is nine channel mixings, shifted and added, and mixing channels commutes with
    upsampling. `ShiftedUpsampling` does the rest.

    At din-base's published size, 1114 G of its 1880 G multiply-accumulates become 93 G.
    """

    def __init__(self, plain: MLPDecoder) -> None:
        super().__init__()
        norm, fuse = plain.norm, plain.fuse
        scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        shares = (scale[:, None, None, None] * fuse.weight.double()).chunk(len(plain.linear), dim=1)
        composed = [_compose(share, linear) for share, linear in zip(shares, plain.linear, strict=True)]
        (finest, _), *coarser = composed
        self.finest = _convolution(finest, norm.bias.double() - scale * norm.running_mean.double(), fuse, padding=1)
        # Output channels (tap along y, tap along x, channel).
        self.mixings = nn.ModuleList(
            _convolution(w.permute(2, 3, 0, 1).flatten(0, 2)[..., None, None], None, fuse) for w, _ in coarser
        )
        self.upsampling = ShiftedUpsampling()
        # The linear layers' biases are zero beyond the border, as all is that the 3x3 convolution sees there.
        self.border = _convolution(sum(bias for _, bias in composed)[:, None], None, fuse, padding=1)
        self.classify = plain.classify

    def forward(self, features: list[Tensor]) -> Tensor:
        """(B, C_l, H_l, W_l) of the levels, finest first -> logits (B, classes, H_1, W_1)."""
        x = self.finest(features[0]).contiguous(memory_format=torch.channels_last)
        x += self.border(x.new_ones(1, 1, *x.shape[-2:]))
        for mix, feature in zip(self.mixings, features[1:], strict=True):
            self.upsampling(mix(feature), x)
        return self.classify(F.relu_(x))


def _compose(share: Tensor, linear: nn.Sequential) -> tuple[Tensor, Tensor]:
    """A level's share of a 3x3 convolution, (out, dim, 3, 3), after its linear layers: one from the level's channels.

    Returns:
        Its weights (out, C, 3, 3), and what the linear layers' biases add at each tap, (out, 3, 3).
    """
    weight, bias = None, None
    for layer in linear:
        w, b = layer.weight.double()[:, :, 0, 0], layer.bias.double()
        weight, bias = (w, b) if weight is None else (w @ weight, w @ bias + b)
    return torch.einsum("odyx,di->oiyx", share, weight), torch.einsum("odyx,d->oyx", share, bias)


class ShiftedUpsampling(nn.Module):
    """Nine maps, upsampled bilinearly, shifted by one pixel each way, and added: what is left of a 3x3 convolution.

    Upsampling and shifting are linear along each axis, so both are one matrix per tap, and all taps along an axis one
    matrix product.
    """

    def forward(self, x: Tensor, onto: Tensor) -> None:
        """Adds (B, 3 * 3 * C, h, w), taps along y first, then along x, to `onto`, (B, C, H, W), channels last."""
        batch, channels, h, w = x.shape
        height, width = onto.shape[-2:]
        # (B, h, y tap, w, x tap, C): each product takes a place and its taps together.
        taps = x.permute(0, 2, 3, 1).reshape(batch, h, w, 3, 3, channels // 9).transpose(2, 3)
        rows = x.new_zeros(batch * h * 3, width, channels // 9)
        _add_along(taps.reshape(batch * h * 3, w * 3, -1), w, rows)
        _add_along(rows.view(batch, h * 3, -1), h, onto.permute(0, 2, 3, 1).view(batch, height, -1))


def _add_along(x: Tensor, n: int, onto: Tensor) -> None:
    """Adds the taps (N, n * 3, K) along an axis, upsampled from n places and shifted, to `onto`, (N, n_out, K)."""
    n_out = onto.shape[1]
    matrix = shifted_upsampling(n, n_out).to(x)
    # The matrix is banded: a part of the output needs a part of the input only.
    step = BAND if n_out >= 4 * BAND else n_out
    for start in range(0, n_out, step):
        stop = min(start + step, n_out)
        first, last = max(0, start * n // n_out - 2), min(n, -(-stop * n // n_out) + 2)
        band = matrix[start:stop, first:last].flatten(1).expand(len(x), -1, -1)
        onto[:, start:stop] += torch.bmm(band, x[:, 3 * first : 3 * last])


def shifted_upsampling(n: int, n_out: int) -> Tensor:
    """(n_out, n, 3): what bilinear upsampling gives one place before, at, and one after each place; 0 beyond the ends.

    The network's own upsampling makes it, so that the weights are the same at the ends, too.
    """
    matrix = F.interpolate(torch.eye(n)[None, None], size=(n_out, n), mode="bilinear", align_corners=False)[0, 0]
    padded = F.pad(matrix, (0, 0, 1, 1))
    return torch.stack([padded[tap : tap + n_out] for tap in range(3)], dim=-1)
