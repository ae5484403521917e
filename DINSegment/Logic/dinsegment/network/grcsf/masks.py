"""Which patches a masked autoencoder sees: random parts of all, each of which is seen about as often as any other."""

from __future__ import annotations

import torch
from torch import Tensor


def visible_count(patches: int, ratio: float) -> int:
    """How many of so many patches are seen where a share `ratio` is masked; one at least, and not all."""
    return min(max(1, patches - round(ratio * patches)), max(1, patches - 1))


def partitions(patches: int, ratio: float, rounds: int, random: torch.Generator) -> Tensor:
    """The patches that are seen under each of several masks, so that every patch is masked in most of them.

    In a round all patches, in random order, are cut into parts of as many as are seen: masked at 50 % there are two
    masks, of which each shows what the other hides; at 75 % there are four. Where the parts do not come out even, the
    last one begins anew.

    Args:
        patches: How many there are.
        ratio: Share that is masked.
        rounds: How often all of them are cut into parts.
        random: What the order is drawn from, on the CPU.

    Returns:
        (masks, seen patches) int64 on the CPU.
    """
    seen = visible_count(patches, ratio)
    parts = -(-patches // seen)
    places = torch.arange(parts * seen).view(parts, seen) % patches
    orders = (torch.randperm(patches, generator=random, device="cpu") for _ in range(rounds))
    return torch.cat([order[places] for order in orders])


def hidden_under(visible: Tensor, patches: int) -> Tensor:
    """True where a patch is masked, (..., patches), from those that are seen (..., seen)."""
    hidden = torch.ones((*visible.shape[:-1], patches), dtype=torch.bool, device=visible.device)
    return hidden.scatter(-1, visible, False)
