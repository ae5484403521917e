"""The residual map: how far an image is from what a masked autoencoder makes of the rest of it."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Residual = Literal["cosine", "absolute"]
"""How far: 1 less the cosine similarity of a patch and its reconstruction, or the absolute difference of each pixel."""

BLACK = 1e-3
"""Grey value of black, which is counted from 0 here, so that a black patch has a direction, too."""


def to_patches(image: Tensor, patch: int) -> Tensor:
    """(B, 1, H, W), whose sides are multiples of the patch's, -> (B, patches, patch * patch)."""
    return F.pixel_unshuffle(image, patch).flatten(2).transpose(1, 2)


def to_image(patches: Tensor, patch: int, rows: int, columns: int) -> Tensor:
    """(B, patches, patch * patch) of rows by columns of patches -> (B, 1, H, W)."""
    return F.pixel_shuffle(patches.transpose(1, 2).unflatten(2, (rows, columns)), patch)


def residual_of(patches: Tensor, reconstructed: Tensor, hidden: Tensor, how: Residual) -> Tensor:
    """The residual of each patch, averaged over the masks that hide it: (B, patches, patch * patch).

    Of `cosine`, all pixels of a patch have the same value; it is 0 to 1, `absolute` 0 to 2. A perfect reconstruction
    leaves 0.

    Args:
        patches: (B, patches, pixels) in [-1, 1].
        reconstructed: (B, masks, patches, pixels).
        hidden: (masks, patches), True where a mask hides a patch.
        how: What is taken for a distance.
    """
    patches = patches[:, None]
    if how == "absolute":
        distance = (patches - reconstructed).abs()
    else:
        counted = ((x.clamp(-1, 1) + 1 + BLACK).expand_as(reconstructed) for x in (patches, reconstructed))
        distance = (1 - F.cosine_similarity(*counted, dim=3)).clamp(0, 1)[..., None].expand_as(reconstructed)
    hides = hidden.to(distance)[None, :, :, None]
    return (distance * hides).sum(1) / hides.sum(1).clamp(min=1)
