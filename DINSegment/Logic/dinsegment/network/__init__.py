"""The Dual Interaction Network; importing this imports torch."""

from dinsegment.network.din import CONFIGS, DIN, DIN_BASE, DIN_SMALL, DINConfig, count_parameters

__all__ = ["CONFIGS", "DIN", "DIN_BASE", "DIN_SMALL", "DINConfig", "count_parameters"]
