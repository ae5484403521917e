"""Dual interactive fusion module, DIFM (DIN paper, section 3.1, figure 3, eq. 1 to 6)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinsegment.network.convnext import LayerNorm2d


class FeatureMerging(nn.Module):
    """f~ = conv(concat(f_low, f_high)) (eq. 1): (B, C, H, W) twice -> (B, C, H, W)."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * dim, dim, kernel, padding=kernel // 2)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        return self.conv(torch.cat((low, high), dim=1))


class WindowGrid:
    """Cuts feature maps into windows of `size` x `size` tokens and puts them together again.

    A map whose sides are no multiples of the window is padded below and to the right; `mask` keeps attention from
    looking at what was padded. Windows are counted into the batch, which is the form that fused attention takes.
    """

    def __init__(self, batch: int, height: int, width: int, size: int) -> None:
        self.batch, self.height, self.width, self.size = batch, height, width, size
        self.rows, self.columns = -(-height // size), -(-width // size)
        self.pad = (0, 0, 0, self.columns * size - width, 0, self.rows * size - height)

    def mask(self, device: torch.device) -> Tensor | None:
        """True where a key is a real token, (B * windows, 1, 1, size^2); None if nothing was padded."""
        if not any(self.pad):
            return None
        real = torch.ones(self.batch, 1, self.height, self.width, dtype=torch.bool, device=device)
        return self.split(real).transpose(-1, -2).unsqueeze(1)

    def split(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B * windows, size^2, C)."""
        x = x.permute(0, 2, 3, 1)
        x = F.pad(x, self.pad) if any(self.pad) else x
        x = x.reshape(self.batch, self.rows, self.size, self.columns, self.size, -1)
        return x.transpose(2, 3).reshape(self.batch * self.rows * self.columns, self.size**2, -1)

    def join(self, x: Tensor) -> Tensor:
        """(B * windows, size^2, C) -> (B, C, H, W), the inverse of `split`."""
        x = x.reshape(self.batch, self.rows, self.columns, self.size, self.size, -1).transpose(2, 3)
        x = x.reshape(self.batch, self.rows * self.size, self.columns * self.size, -1)
        return x[:, : self.height, : self.width].permute(0, 3, 1, 2)


class DualCrossAttention(nn.Module):
    """Cross-attention both ways inside windows (eq. 2, 3).

    f_IE = softmax(Q_I K_E^T / sqrt(d)) V_E + Q_I, and f_EI with the roles of I and E exchanged. The residual is the
    query, as the equation says, and there is no output projection.

    The paper gives no window size and no number of heads: 7 divides all four of its feature sizes (224, 112, 56, 28),
    and heads of 32 channels are what window attention commonly has.

    Args:
        dim: Channels C.
        heads: Attention heads.
        window: Side of an attention window in tokens.
        direction: `both`, or one way only (table 7): `image-to-enhanced`, where the queries are the original's, gives
            f_IE; `enhanced-to-image` gives f_EI. Of queries, keys and values only those are made that are then needed.
    """

    def __init__(self, dim: int, heads: int, window: int, direction: str = "both") -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} attention heads do not divide {dim} channels.")
        self.dim, self.heads, self.window, self.direction = dim, heads, window, direction
        of_i, of_e = {"both": (3, 3), "image-to-enhanced": (1, 2), "enhanced-to-image": (2, 1)}[direction]
        self.qkv_i = nn.Linear(dim, of_i * dim)
        self.qkv_e = nn.Linear(dim, of_e * dim)

    def forward(self, f_i: Tensor, f_e: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) twice -> f_IE, f_EI of the same shape, or the one of them that the direction asks for."""
        grid = WindowGrid(f_i.shape[0], *f_i.shape[-2:], self.window)
        mask = grid.mask(f_i.device)

        def project(qkv: nn.Linear, f: Tensor) -> tuple[Tensor, ...]:
            tokens = grid.split(f)
            x = qkv(tokens).reshape(*tokens.shape[:2], qkv.out_features // self.dim, self.heads, -1)
            return x.permute(2, 0, 3, 1, 4).unbind(0)

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask) + q
            return grid.join(x.transpose(1, 2).flatten(2))

        of_i, of_e = project(self.qkv_i, f_i), project(self.qkv_e, f_e)
        if self.direction == "image-to-enhanced":
            return (attend(*of_i, *of_e),)
        if self.direction == "enhanced-to-image":
            return (attend(*of_e, *of_i),)
        (q_i, k_i, v_i), (q_e, k_e, v_e) = of_i, of_e
        return attend(q_i, k_e, v_e), attend(q_e, k_i, v_i)


class GatedFeedForward(nn.Module):
    """f1, f2 = chunk(conv_{C->2C}(LayerNorm(f))); F = conv(GELU(f1) * f2) + f (eq. 4, 5)."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.norm = LayerNorm2d(dim)
        self.expand = nn.Conv2d(dim, 2 * dim, kernel, padding=kernel // 2)
        self.project = nn.Conv2d(dim, dim, 1)

    def forward(self, f: Tensor) -> Tensor:
        f1, f2 = self.expand(self.norm(f)).chunk(2, dim=1)
        return self.project(F.gelu(f1) * f2) + f


def global_spatial_attention(f: Tensor) -> Tensor:
    """F = sigmoid(mean over channels(f)) * f (eq. 6), (B, C, H, W) -> the same shape."""
    return torch.sigmoid(f.mean(dim=1, keepdim=True)) * f


class Concatenation(nn.Module):
    """What DIFM is compared with: both images' f_shape, concatenated, 1x1 convolution back to C channels.

    The kernel is open in the paper; 1x1 is the least that gives the decoder the width it has behind a DIFM.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * dim, dim, 1)

    def forward(self, i: tuple[Tensor | None, Tensor], e: tuple[Tensor | None, Tensor]) -> Tensor:
        """Pairs (f_edge, f_shape) of I and of E, f_shape (B, C, H, W) -> the fused feature (B, C, H, W)."""
        return self.conv(torch.cat((i[1], e[1]), dim=1))


class DIFM(nn.Module):
    """Fuses the features of the original (I) and of the enhanced slice (E) at one level.

    Merging, dual cross-attention, gated feed-forward, global spatial attention, sum (figure 3).

    Kernel sizes are open in the paper. 3x3 in the merging and in the first feed-forward convolution and 1x1 elsewhere
    give 80 C^2 parameters a level, 111 M for the four levels of the base network; 119.94 M is published. 3x3
    everywhere would be 134 M, 1x1 everywhere 22 M.

    Args:
        dim: Channels C of the level.
        heads: Attention heads.
        window: Side of an attention window in tokens.
        merge_kernel: Kernel of the merging convolution.
        expand_kernel: Kernel of the feed-forward's first convolution.
        merging: Whether f_edge and f_shape are merged (eq. 1); else f_shape alone goes on (ablation).
        cross_attention: Whether each image asks the other (eq. 2, 3); else each goes on by itself (ablation).
        spatial_attention: Whether global spatial attention weighs what is added (eq. 6); else it is added as it is.
        direction: Of the cross-attention, as `DualCrossAttention` takes it (table 7).
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        window: int = 7,
        merge_kernel: int = 3,
        expand_kernel: int = 3,
        *,
        merging: bool = True,
        cross_attention: bool = True,
        spatial_attention: bool = True,
        direction: str = "both",
    ) -> None:
        super().__init__()
        self.merge_i = FeatureMerging(dim, merge_kernel) if merging else None
        self.merge_e = FeatureMerging(dim, merge_kernel) if merging else None
        self.attention = DualCrossAttention(dim, heads, window, direction) if cross_attention else None
        self.spatial_attention, self.direction = spatial_attention, direction
        if direction != "enhanced-to-image":
            self.feed_forward_ie = GatedFeedForward(dim, expand_kernel)
        if direction != "image-to-enhanced":
            self.feed_forward_ei = GatedFeedForward(dim, expand_kernel)

    def _feed_forwards(self) -> list[GatedFeedForward]:
        """Those of the directions that there are, IE first."""
        names = ("feed_forward_ie", "feed_forward_ei")
        return [getattr(self, name) for name in names if hasattr(self, name)]

    def forward(self, i: tuple[Tensor | None, Tensor], e: tuple[Tensor | None, Tensor]) -> Tensor:
        """Pairs (f_edge, f_shape) of I and of E, each (B, C, H, W) -> the fused feature (B, C, H, W)."""
        features: tuple[Tensor, ...] = (self.merge_i(*i), self.merge_e(*e)) if self.merge_i else (i[1], e[1])
        if self.attention:
            features = self.attention(*features)
        features = tuple(forward(f) for forward, f in zip(self._feed_forwards(), features, strict=True))
        if self.spatial_attention:
            features = tuple(global_spatial_attention(f) for f in features)
        return features[0] + features[1] if len(features) == 2 else features[0]
