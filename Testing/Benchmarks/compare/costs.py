"""Multiply-accumulates and bytes that a network needs, counted, not measured."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from compare.passes import Shapes


@dataclass(frozen=True)
class Costs:
    """What calls of a network need at least.

    Attributes:
        macs: Multiply-accumulates of convolutions and matrix products.
        bytes: Of the weights, the inputs and the outputs, each read or written once a call, in the precision of the
            matrix products: what lies between stays in the caches of an ideal machine.
        parameters: Of the network.
    """

    macs: float
    bytes: float
    parameters: int


def count_costs(network: nn.Module, shapes: Counter[Shapes], precision: str) -> Costs:
    """Counts what a network needs for inputs of these shapes.

    Nothing is computed: the network is copied without its values.

    Args:
        network: Not changed.
        shapes: How often it is called with inputs of which shapes.
        precision: Name of the type of its matrix products.
    """
    size = torch.empty(0, dtype=getattr(torch, precision)).element_size()
    ghost = copy.deepcopy(network).to("meta", torch.float32).eval()
    weights = sum(p.numel() for p in ghost.parameters())
    macs = moved = 0.0
    with torch.no_grad():
        for inputs, count in shapes.items():
            with FlopCounterMode(display=False) as counter:
                outputs = ghost(*(torch.empty(shape, device="meta") for shape in inputs))
            values = weights + sum(torch.Size(s).numel() for s in inputs) + _numel(outputs)
            macs += count * counter.get_total_flops() / 2
            moved += count * values * size
    return Costs(macs, moved, weights)


def _numel(outputs: Tensor | list[Tensor] | tuple[Tensor, ...]) -> int:
    return outputs.numel() if isinstance(outputs, Tensor) else sum(o.numel() for o in outputs)
