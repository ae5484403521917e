"""The Dual Interaction Network and what it is compared with; importing this imports torch.

`factory` builds a network from its options. A DIN (`din`) takes the original and the enhanced slices through two
encoders (`encoder`, of ConvNeXt blocks), which meet at every level in a Dual Interaction Fusion Module (`fusion`); a
`decoder` makes logits of the fused levels. For inference `rewriting` composes what is linear, so that the same function
takes fewer steps. `comparators` are networks of other makers with the same inputs and outputs.
"""

from dinsegment.network.comparators import Comparator, ComparatorConfig
from dinsegment.network.din import CONFIGS, DIN, DIN_BASE, DIN_SMALL, DINConfig, count_parameters
from dinsegment.network.factory import NetworkConfig, build_network, network_config
from dinsegment.network.rewriting import rewrite

__all__ = [
    "CONFIGS",
    "DIN",
    "DIN_BASE",
    "DIN_SMALL",
    "Comparator",
    "ComparatorConfig",
    "DINConfig",
    "NetworkConfig",
    "build_network",
    "count_parameters",
    "network_config",
    "rewrite",
]
