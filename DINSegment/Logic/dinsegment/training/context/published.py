"""The published weights that a network of organs begins with: those of OBELISK-Net, by its authors, MIT licence.

https://github.com/mattiaspaul/OBELISK, models/obeliskhybrid_tcia_foldN.pth: fitted to three quarters of 43 CTs of the
NIH Pancreas-CT collection, with eight organs. BTCV's cases are none of them.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from dinsegment.errors import InputError
from dinsegment.network.obelisk import Obelisk, ObeliskConfig

CONVOLUTIONS = {
    "0": "full",
    "1": "halved.0",
    "11": "halved.1",
    "2": "quartered.0",
    "22": "quartered.1",
    "3": "quartered.2",
    "6bU": "at_quarter",
    "6U": "at_half",
    "7U": "at_full",
}
"""Ours, by the published names."""

PLACES = {"1": "near", "2": "far"}

KEPT = 8
"""Classes that both have, in the same order: none, spleen, pancreas, left kidney, gallbladder, oesophagus, liver and
stomach. The duodenum, which comes next there, is not labelled in BTCV."""

UNLIKELY = -3.0
"""The logit of what the published network does not know."""


def published_weights(path: Path, config: ObeliskConfig, seed: int = 0) -> dict[str, Tensor]:
    """A state dict of ours with the published weights; what they do not have is random, and its classes are unlikely.

    Args:
        path: The published file.
        config: Of our network; its sizes but for classes and features are the published ones.
        seed: Of what is random.

    Raises:
        InputError: It is no such file.
    """
    torch.manual_seed(seed)
    weights = Obelisk(config).state_dict()
    try:
        given = {_ours(name): value for name, value in torch.load(path, "cpu", weights_only=True).items()}
        given.pop("", None)
        if set(given) != set(weights):
            raise ValueError("tensors are missing")
        for name, value in given.items():
            own = weights[name]
            value = value.reshape(own.shape) if name.endswith("offset") else value
            if name == "head.weight":
                own.zero_()[:KEPT, : value.shape[1]] = value[:KEPT]
            elif name == "head.bias":
                own.fill_(UNLIKELY)[:KEPT] = value[:KEPT]
            else:
                own[tuple(slice(0, n) for n in value.shape)] = value
    except (OSError, RuntimeError, KeyError, AttributeError, ValueError) as error:
        raise InputError(f"'{path}' has no published weights of an OBELISK-Net (obeliskhybrid_tcia).") from error
    for extra in range(config.classes - KEPT):  # each new class is a feature of its own
        weights["head.weight"][KEPT + extra, config.features - 1 - extra] = 1.0
    return weights


def _ours(name: str) -> str:
    """Our name of a published tensor; empty for what our norms do not keep."""
    if found := re.fullmatch(r"conv77U\.(weight|bias)", name):
        return f"head.{found[1]}"
    if found := re.fullmatch(r"(conv|batch)(\w+)\.(weight|bias)", name):
        if found[2] in CONVOLUTIONS:
            return f"{CONVOLUTIONS[found[2]]}.{'conv' if found[1] == 'conv' else 'norm'}.{found[3]}"
        return f"{PLACES[found[2][0]]}.norms.{'abcd'.index(found[2][1])}.{found[3]}"
    if found := re.fullmatch(r"linear([12])([a-e])\.weight", name):
        layer = "abcde".index(found[2])
        return f"{PLACES[found[1]]}.{f'layers.{layer - 1}' if layer else 'first'}.weight"
    if found := re.fullmatch(r"offset([12])", name):
        return f"{PLACES[found[1]]}.offset"
    return ""
