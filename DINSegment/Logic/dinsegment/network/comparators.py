"""Networks that DIN is compared with, from MONAI: the same recipe, images and loss, another network."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from importlib.util import find_spec
from math import prod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dinsegment.errors import InputError
from dinsegment.network.kinds import SEGMENTER, Kind, Segmenter

DEFAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "monai-unet": (
        "UNet",
        {"channels": [32, 64, 128, 256, 512], "strides": [2, 2, 2, 2], "num_res_units": 2},
    ),
    "monai-attention-unet": (
        "AttentionUnet",
        {"channels": [32, 64, 128, 256, 512], "strides": [2, 2, 2, 2]},
    ),
    "monai-swin-unetr": ("SwinUNETR", {"feature_size": 48}),
    "monai-segresnet": (
        "SegResNet",
        {"init_filters": 32, "blocks_down": [1, 2, 2, 4], "blocks_up": [1, 1, 1]},
    ),
    # nnU-Net's 2D shape: two 3x3 convolutions a stage, instance norm, leaky ReLU, channels doubled from 32 up to 512.
    "monai-nnunet": (
        "DynUNet",
        {"filters": [32, 64, 128, 256, 512, 512], "strides": [1, 2, 2, 2, 2, 2]},
    ),
}
"""Name -> the class in monai.networks.nets and its sizes; a recipe's `options` go before these."""

PACKAGES = {"SwinUNETR": ("einops",)}
"""What a class needs beside MONAI itself, which imports it only when it is used."""


@dataclass(frozen=True)
class ComparatorConfig:
    """A network of MONAI, as JSON in a recipe or in weights.json.

    Attributes:
        name: One of `DEFAULTS`.
        classes: Classes, background included.
        inputs: `image`, `enhanced`, or `both` one after the other.
        in_channels: Slices in each image: 1, or an odd number, the slice between its neighbours.
        options: Further arguments of the MONAI class, such as `channels`, before the defaults.

    Raises:
        ValueError: There is no such network, or no such inputs.
    """

    kind: ClassVar[Kind] = SEGMENTER

    name: str
    classes: int = 4
    inputs: str = "image"
    in_channels: int = 1
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in DEFAULTS:
            raise ValueError(f"There is no network '{self.name}'; of MONAI there are: {', '.join(DEFAULTS)}.")
        if self.inputs not in ("image", "enhanced", "both"):
            raise ValueError(f"'inputs' of '{self.name}' is one of image, enhanced, both, not '{self.inputs}'.")
        if self.in_channels < 1 or self.in_channels % 2 == 0:
            raise ValueError(f"'in_channels' of '{self.name}' is odd, not {self.in_channels}.")

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> ComparatorConfig:
        """A configuration from JSON; an option that it does not have is an error."""
        unknown = sorted(set(options) - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(f"'{options['name']}' has no option {', '.join(map(repr, unknown))}.")
        return cls(**options)

    def to_dict(self) -> dict[str, Any]:
        """The options as JSON takes them."""
        return asdict(self)

    @property
    def sizes(self) -> dict[str, Any]:
        """The defaults with the options before them."""
        return {**DEFAULTS[self.name][1], **self.options}


class Comparator(Segmenter):
    """A network of MONAI with DIN's inputs and output, so that it takes DIN's place anywhere.

    Any input size will do: it is padded with its edge values to a multiple of the network's stride and the logits are
    cropped again.

    Raises:
        InputError: MONAI, or what it needs, is missing, or has no such option.
    """

    def __init__(self, config: ComparatorConfig) -> None:
        super().__init__()
        self.config = config
        kind, _ = DEFAULTS[config.name]
        missing = [p for p in ("monai", *PACKAGES.get(kind, ())) if find_spec(p) is None]
        if missing:
            raise InputError(
                f"The network '{config.name}' needs the package {missing[0]}: pip install 'dinsegment[train]' has it."
            )
        from monai.networks import nets

        sizes = config.sizes
        if kind == "DynUNet":
            strides = sizes["strides"]
            sizes = {"kernel_size": [3] * len(strides), "upsample_kernel_size": strides[1:], **sizes}
        arguments = {"in_channels": config.in_channels * (2 if config.inputs == "both" else 1), **sizes}
        arguments["out_channels"] = config.classes
        device = torch.get_default_device()
        try:
            with torch.device("cpu"):  # SwinUNETR computes with tensors while it is built, which 'meta' has not
                self.network = getattr(nets, kind)(spatial_dims=2, **arguments).to(device)
        except (TypeError, ValueError, AssertionError) as error:
            raise InputError(f"The network '{config.name}' cannot have these options: {error}.") from error

    @property
    def stride(self) -> int:
        """Pixels that the sides of an input have to be a multiple of."""
        sizes = self.config.sizes
        if "strides" in sizes:
            return prod(sizes["strides"])
        if "blocks_down" in sizes:
            return 2 ** (len(sizes["blocks_down"]) - 1)
        return sizes.get("patch_size", 2) ** 5

    @property
    def values_per_pixel(self) -> float:
        """Peak of activations in numbers per pixel of a slice, with room to spare."""
        sizes = self.config.sizes
        widths = [sizes[k] for k in ("feature_size", "init_filters") if k in sizes]
        width = widths[0] if widths else sizes.get("channels", sizes.get("filters"))[0]
        return 16 * width + 2 * self.config.classes

    def forward(self, image: Tensor, enhanced: Tensor) -> Tensor:
        """Original and enhanced slices, each (B, in_channels, H, W) -> class logits (B, classes, H, W)."""
        x = {"image": (image,), "enhanced": (enhanced,), "both": (image, enhanced)}[self.config.inputs]
        height, width = image.shape[-2:]
        pad = (0, -width % self.stride, 0, -height % self.stride)
        logits = self.network(F.pad(torch.cat(x, dim=1), pad, mode="replicate"))
        return logits[..., :height, :width]
