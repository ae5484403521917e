"""A model that says of slices that it has seen what it said before: for tests that look at the same ones in many ways.

It computes each batch once. What is drawn of it as samples, or learned from as corrections, it does not serve.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from types import MethodType

import torch
from torch import Tensor

from dinsegment.inference.model import Model
from dinsegment.network import Network


def remembered(model: Model) -> Model:
    """The same model, on the CPU, whose network keeps the probabilities of every batch that it was shown."""
    said: dict[bytes, Tensor] = {}

    def probabilities(network: Network, image: Tensor, enhanced: Tensor) -> Tensor:
        digest = hashlib.sha256(repr((image.shape, torch.is_autocast_enabled("cpu"))).encode())
        for one in (image, enhanced):
            digest.update(one.numpy().tobytes())
        key = digest.digest()
        if key not in said:
            said[key] = type(network).probabilities(network, image, enhanced)
        return said[key].clone()

    # A network of its own, with the same weights: others may hold the model's.
    network = type(model.network).__new__(type(model.network))
    network.__dict__.update(model.network.__dict__)
    network.probabilities = MethodType(probabilities, network)
    return replace(model, network=network)
