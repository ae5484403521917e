"""Weights that a training starts with: ConvNeXt's of ImageNet, those of a model, or of what stays frozen in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dinsegment.errors import InputError, ModelError
from dinsegment.network import DIN, Network

SOURCES = {
    ((96, 192, 384, 768), (3, 3, 9, 3)): "convnext_tiny",
    ((96, 192, 384, 768), (3, 3, 27, 3)): "convnext_small",
    ((128, 256, 512, 1024), (3, 3, 27, 3)): "convnext_base",
    ((192, 384, 768, 1536), (3, 3, 27, 3)): "convnext_large",
}
"""Channels and blocks of the four levels -> timm's model with the same."""


def load_pretrained(network: Network) -> int:
    """Loads timm's weights into all blocks and downsampling layers of both encoders.

    Both sets of downsampling layers get the same; the stem is DIN's own (table 14) and stays as it is. On the first
    use timm downloads the weights.

    Returns:
        How many tensors of each encoder were loaded.

    Raises:
        InputError: It is no DIN, no ConvNeXt has these channels and blocks, or timm is not installed.
        ModelError: The weights can neither be found on this machine nor downloaded.
    """
    if not isinstance(network, DIN):
        raise InputError("There are pretrained weights only for a DIN's encoders: train this network without them.")
    config = network.config
    encoders = [encoder for encoder in (network.encoder_i, network.encoder_e) if encoder is not None]
    if config.backbone:
        with _downloading(config.backbone):
            counts = [encoder.load_pretrained(config.backbone, config.in_channels) for encoder in encoders]
        return counts[0]
    source = SOURCES.get((tuple(config.dims), tuple(config.depths)))
    if source is None:
        raise InputError(
            f"There are no pretrained weights for channels {list(config.dims)} and blocks {list(config.depths)}: "
            "train without them, or take the channels and blocks of din-base."
        )
    try:
        import timm  # here, since it takes seconds
    except ImportError as error:
        raise InputError(
            "Pretrained weights need the package 'timm', which is not installed: pip install 'dinsegment[train]'."
        ) from error
    with _downloading(source):
        weights = timm.create_model(source, pretrained=True).state_dict()
    fitting = _for_encoder(weights)
    for encoder in encoders:
        encoder.load_state_dict(fitting, strict=False)
    return len(fitting)


@contextmanager
def _downloading(source: str) -> Iterator[None]:
    """Turns whatever the hub's client and its transport raise into a ModelError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise ModelError(
            f"The pretrained weights of '{source}' could not be downloaded and are not on this machine: connect it to "
            "the network once, or train without them."
        ) from error


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


def load_start(network: Network, start: str) -> None:
    """Loads the weights of a model of the same network.

    Where that model sees a slice alone and the network its neighbours as well, the neighbours' weights start with 0:
    the network begins with what the model knows. Where it has other classes, as a model of another task has, the last
    layer starts with the network's own.

    Args:
        network: What is trained.
        start: A weights file (.safetensors), or the name of a model in weights.json.
    Raises:
        InputError: The file cannot be read, or its weights are not this network's.
        ModelError: There is no such model.
    """
    own = network.state_dict()
    weights = {k: _fitted(v, own[k], network.config.classes) if k in own else v for k, v in _weights(start).items()}
    differs = sorted(k for k in own.keys() | weights.keys() if k not in own or k not in weights)
    differs += [k for k in own if k in weights and own[k].shape != weights[k].shape]
    if differs:
        raise InputError(f"The weights '{start}' are another network's: '{differs[0]}' does not fit.")
    network.load_state_dict(weights)


BUILT_LIKE = ("patch", "ratio", "width", "depth", "decoder_width", "decoder_depth", "heads")
"""What an autoencoder was trained as; how it is asked afterwards is the network's that asks it."""


def load_autoencoders(network: Network, trained: Sequence[str]) -> None:
    """Loads the autoencoders that a network asks and that stay as they are, in the order of its mask ratios.

    Args:
        network: What is trained; its kind says that it has some.
        trained: Of each a folder that a run wrote, or a weights file (.safetensors), of which nobody knows the ratio.

    Raises:
        InputError: They are too few or too many, one cannot be read, or it is another one than the network asks.
    """
    wanted = [one.to_dict() for one in network.config.autoencoders]
    if len(trained) != len(wanted):
        ratios = ", ".join(f"{one['ratio']:g}" for one in wanted) or "none"
        raise InputError(
            f"The network asks {len(wanted)} trained autoencoders (mask ratios: {ratios}), but {len(trained)} were "
            "given: name the run of each, in this order, with --autoencoder."
        )
    for place, options in zip(trained, wanted, strict=True):
        _check_autoencoder(Path(place), options)
    files = [Path(place) / "best.safetensors" if Path(place).is_dir() else Path(place) for place in trained]
    try:
        network.load_autoencoders([_weights(str(file)) for file in files])
    except RuntimeError as error:
        names = ", ".join(f"'{place}'" for place in trained)
        raise InputError(f"The autoencoders {names} have other sizes than the recipe asks.") from error


def _check_autoencoder(folder: Path, wanted: Mapping[str, Any]) -> None:
    """Raises InputError if the run of that folder made another autoencoder than is wanted."""
    if not folder.is_dir():
        if not folder.is_file():
            raise InputError(f"There is no autoencoder '{folder}': give the folder of its run, or a .safetensors file.")
        return
    try:
        made = json.loads((folder / "weights.json").read_text(encoding="utf-8"))["models"][0]["network"]
    except (OSError, ValueError, LookupError) as error:
        raise InputError(f"'{folder}' has no trained autoencoder: train one into it first.") from error
    for name in ("name", *BUILT_LIKE):
        if made.get(name) != wanted[name]:
            raise InputError(
                f"The run '{folder}' made a network with {name} {made.get(name)}, but the recipe asks an autoencoder "
                f"with {name} {wanted[name]}: give the run of that one."
            )


def _weights(start: str) -> dict[str, Tensor]:
    from dinsegment.models.entries import choose_folder, find_entry
    from dinsegment.models.weights import read_weights

    if not Path(start).is_file():
        name, folder = choose_folder(start, None)
        return read_weights(find_entry(name, None, folder), folder)
    try:
        return {k: v.float() if v.is_floating_point() else v for k, v in load_file(start).items()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"The weights '{start}' cannot be read: give a .safetensors file.") from error


def _fitted(value: Tensor, own: Tensor, classes: int) -> Tensor:
    """A tensor as the network can take it: of its own classes, and with neighbours if it sees them."""
    if own.ndim and value.ndim == own.ndim and len(own) == classes != len(value) and value.shape[1:] == own.shape[1:]:
        return own
    return _with_neighbours(value, own)


def _with_neighbours(value: Tensor, own: Tensor) -> Tensor:
    """A first convolution (C, 1, h, w) with zeros for the neighbours if the network's has channels for them."""
    if value.ndim != 4 or own.ndim != 4 or value.shape[1] != 1 or own.shape[1] == 1 or len(value) != len(own):
        return value
    wide = torch.zeros(len(own), own.shape[1], *value.shape[2:], dtype=value.dtype, device=value.device)
    wide[:, own.shape[1] // 2] = value[:, 0]
    return wide
