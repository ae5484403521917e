"""ConvNeXt weights trained on ImageNet, for both encoders of a DIN."""

from __future__ import annotations

import timm
from torch import Tensor

from dinsegment.errors import InputError, ModelError
from dinsegment.network import DIN, Comparator

SOURCES = {
    ((96, 192, 384, 768), (3, 3, 9, 3)): "convnext_tiny",
    ((96, 192, 384, 768), (3, 3, 27, 3)): "convnext_small",
    ((128, 256, 512, 1024), (3, 3, 27, 3)): "convnext_base",
    ((192, 384, 768, 1536), (3, 3, 27, 3)): "convnext_large",
}
"""Channels and blocks of the four levels -> timm's model with the same."""


def load_pretrained(network: DIN | Comparator) -> int:
    """Loads timm's weights into all blocks and downsampling layers of both encoders.

    Both sets of downsampling layers get the same; the stem is DIN's own (table 14) and stays as it is. On the first
    use timm downloads the weights.

    Returns:
        How many tensors of each encoder were loaded.

    Raises:
        InputError: It is no DIN, or no ConvNeXt has these channels and blocks.
        ModelError: The weights can neither be found on this machine nor downloaded.
    """
    if not isinstance(network, DIN):
        raise InputError("There are pretrained weights only for a DIN's encoders: train this network without them.")
    config = network.config
    source = SOURCES.get((tuple(config.dims), tuple(config.depths)))
    if source is None:
        raise InputError(
            f"There are no pretrained weights for channels {list(config.dims)} and blocks {list(config.depths)}: "
            "train without them, or take the channels and blocks of din-base."
        )
    try:
        weights = timm.create_model(source, pretrained=True).state_dict()
    except Exception as error:  # whatever the hub's client and its transport raise
        raise ModelError(
            f"The pretrained weights of '{source}' could not be downloaded and are not on this machine: connect it to "
            "the network once, or train without them."
        ) from error
    fitting = _for_encoder(weights)
    for encoder in filter(None, (network.encoder_i, network.encoder_e)):
        encoder.load_state_dict(fitting, strict=False)
    return len(fitting)


def _for_encoder(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's names -> those of an `Encoder`; what it does not have is left out."""
    renamed = {}
    for name, value in weights.items():
        place, level, part, rest = (name.split(".", 3) + [""] * 3)[:4]
        if place == "stages" and part == "blocks":
            renamed[f"blocks.{level}.{rest}"] = value
        elif place == "stages" and part == "downsample" and level != "0":
            renamed[f"down.{level}.{rest}"] = value
            renamed[f"edge.{level}.{rest}"] = value
    return renamed
