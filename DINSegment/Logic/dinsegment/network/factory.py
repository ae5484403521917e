"""From options, as they stand in recipes and in weights.json, to a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dinsegment.network.backbone import describe
from dinsegment.network.cdal.network import CDAL, CDALConfig
from dinsegment.network.comparators import DEFAULTS, Comparator, ComparatorConfig
from dinsegment.network.context import ContextConfig, ContextNetwork
from dinsegment.network.din import CONFIGS, DIN, DINConfig
from dinsegment.network.grcsf.autoencoder import AutoencoderConfig, MaskedAutoencoder
from dinsegment.network.grcsf.network import GRCSF, GRCSFConfig
from dinsegment.network.obelisk import Obelisk, ObeliskConfig

NetworkConfig = (
    DINConfig | ComparatorConfig | CDALConfig | ContextConfig | ObeliskConfig | GRCSFConfig | AutoencoderConfig
)
Network = DIN | Comparator | CDAL | ContextNetwork | Obelisk | GRCSF | MaskedAutoencoder


def _din(options: dict[str, Any]) -> DINConfig:
    chosen = {k: v for k, v in options.items() if k != "name"}
    DINConfig.check_names(chosen)
    if chosen.get("backbone"):
        about = describe(chosen["backbone"])
        own = {"dims": about.dims, "stem_stride": about.stem_stride}
        for key, value in own.items():
            given = chosen.get(key, value)
            if (tuple(given) if isinstance(given, list) else given) != value:
                raise ValueError(f"'{key}' of a DIN with the backbone '{chosen['backbone']}' is {value}, not {given}")
        chosen |= own
    return replace(CONFIGS[options.get("name", "din-base")], **chosen)


CONFIGURED: dict[str, Callable[[dict[str, Any]], NetworkConfig]] = {
    **dict.fromkeys(CONFIGS, _din),
    **dict.fromkeys(DEFAULTS, ComparatorConfig.from_dict),
    "cdal": CDALConfig.from_dict,
    "context": ContextConfig.from_dict,
    "grcsf": GRCSFConfig.from_dict,
    "obelisk": ObeliskConfig.from_dict,
    "masked-autoencoder": AutoencoderConfig.from_dict,
}
"""Name -> what makes a configuration of options."""

BUILT: dict[type[NetworkConfig], Callable[[Any], Network]] = {
    DINConfig: DIN,
    ComparatorConfig: Comparator,
    CDALConfig: CDAL,
    ContextConfig: ContextNetwork,
    GRCSFConfig: GRCSF,
    ObeliskConfig: Obelisk,
    AutoencoderConfig: MaskedAutoencoder,
}
"""Configuration -> the network that it describes."""


def network_config(options: dict[str, Any]) -> NetworkConfig:
    """The configuration that options describe.

    Args:
        options: `name`, and what differs from it: `din-base`, `din-small`, one of
            `dinsegment.network.comparators.DEFAULTS`, `cdal`, `context`, `grcsf`, `obelisk` or `masked-autoencoder`.
            Without a name they are those of a DIN, as weights.json has them.

    Raises:
        ValueError: There is no such network, or it has no such option.
    """
    name = options.get("name", "din-base")
    if name not in CONFIGURED:
        raise ValueError(f"There is no network '{name}'; there are: {', '.join(CONFIGURED)}.")
    return CONFIGURED[name](options)


def build_network(options: dict[str, Any] | NetworkConfig) -> Network:
    """A network with random weights: (image, enhanced), each (B, in_channels, H, W) in [-1, 1], to probabilities.

    Args:
        options: As `network_config` takes them, or what it gives.

    Returns:
        A module with the options as `config`, whose `kind` says how it learns and what it returns, `probabilities` to
        be asked and `values_per_pixel` for memory.

    Raises:
        ValueError: There is no such network, or it has no such option.
        InputError: It is one of MONAI's, which is not installed.
    """
    config = network_config(options) if isinstance(options, dict) else options
    return BUILT[type(config)](config)
