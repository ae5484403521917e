"""The Dual Interaction Network and what it is compared with; importing this imports torch."""

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
