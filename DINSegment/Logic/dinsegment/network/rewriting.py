"""A trained DIN rewritten for inference: the same function of its inputs with fewer multiplications and passes.

Nothing is approximated: what is linear is composed, in double precision, and what then can be done at a coarser
resolution is done there. The logits of both forms differ by rounding only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinsegment.network.composed import Normalize, Pointwise, convolution
from dinsegment.network.convnext import ConvNeXtBlock
from dinsegment.network.decoder import MLPDecoder
from dinsegment.network.din import DIN
from dinsegment.network.encoder import Downsampling, Encoder
from dinsegment.network.fusion import DualCrossAttention, GatedFeedForward
from dinsegment.network.rewritten_attention import RewrittenAttention
from dinsegment.network.rewritten_decoder import RewrittenMLPDecoder
from dinsegment.network.sharing import shared

TOKENS = 8192
"""Tokens that a CPU takes through two linear layers at a time: fewer would spend the time on the weights."""


def rewrite(network: DIN) -> DIN:
    """The network for inference, on the same device.

    - Decoder: `RewrittenMLPDecoder`.
    - Cross-attention: `RewrittenAttention`.
    - ConvNeXt blocks: `RewrittenBlock`.
    - Encoders: the two downsampling layers of a level share one LayerNorm; what follows it is part of their weights.
    - Gated feed-forward: the convolution's two halves are two convolutions, so that neither is a strided view.

    Args:
        network: A trained network in evaluation mode, which stays as it is. What is not rewritten is shared with it.

    Returns:
        A network with the same `config`; it cannot be trained, nor its weights loaded into another one.
    """
    new = shared(network, lambda _module, tensor: _without_gradient(tensor))
    with torch.no_grad():
        for encoder in {e for e in (new.encoder_i, new.encoder_e) if e is not None}:
            if isinstance(encoder, Encoder):  # one of timm's stays as it is
                _rewrite_encoder(encoder)
        for difm in new.fusion:
            if isinstance(getattr(difm, "attention", None), DualCrossAttention):
                difm.attention = RewrittenAttention(difm.attention)
            for name in ("feed_forward_ie", "feed_forward_ei"):
                if hasattr(difm, name):
                    setattr(difm, name, RewrittenFeedForward(getattr(difm, name)))
        if isinstance(new.decoder, MLPDecoder):
            new.decoder = RewrittenMLPDecoder(new.decoder)
    return new.eval().requires_grad_(False)


def _without_gradient(tensor: Tensor) -> Tensor:
    """The same numbers, as a parameter of its own if it is one: the trained network's may still be trained."""
    return nn.Parameter(tensor.detach(), False) if isinstance(tensor, nn.Parameter) else tensor


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
    return convolution(weight * norm.weight.double()[:, None, None], bias, conv)


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
        """(B, C, H, W) -> the input itself with the branch added, if it lies channels last: nothing else needs it."""
        x = x.contiguous(memory_format=torch.channels_last)
        branch = self.norm(self.conv_dw(x).permute(0, 2, 3, 1)).flatten(0, 2)
        sums = x.permute(0, 2, 3, 1).view(branch.shape)
        part = TOKENS if x.device.type == "cpu" else len(branch)
        for b, s in zip(branch.split(part), sums.split(part), strict=True):
            s += self.narrow(F.gelu(self.widen(b)))
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
        self.expand = nn.ModuleList(convolution(w, b, expand, expand.padding[0]) for w, b in halves)

    def forward(self, f: Tensor) -> Tensor:
        x = self.norm(f)
        f1, f2 = (conv(x) for conv in self.expand)
        gated = F.gelu(f1)
        gated *= f2
        return self.project(gated) + f


def for_inference(network: nn.Module) -> nn.Module:
    """A trained network ready for inference: rewritten if it is a DIN, no gradients, channels last.

    A network of another kind is itself changed; a DIN stays as it is, but for its evaluation mode.
    """
    network = network.eval().requires_grad_(False)
    if isinstance(network, DIN):
        network = rewrite(network)
    return network.to(memory_format=torch.channels_last)
