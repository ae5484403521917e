"""The masked autoencoder: an image from a few of its patches (K. He et al., CVPR 2022), small, and of any size."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinsegment.network.grcsf.attention import Block, positions
from dinsegment.network.grcsf.masks import hidden_under, partitions
from dinsegment.network.grcsf.residual import Residual, residual_of, to_image, to_patches
from dinsegment.network.kinds import RECONSTRUCTION, Kind


@dataclass(frozen=True)
class AutoencoderConfig:
    """Everything that tells one masked autoencoder from another, as JSON in a recipe and in weights.json.

    Attributes:
        classes: Of the task, background included; the autoencoder knows none of them.
        in_channels: Slices in an image: an odd number, of which the middle one alone is looked at. Its neighbours would
            show what is masked.
        patch: Pixels of a patch's side.
        ratio: Share of the patches that is masked.
        width: Of the encoder's tokens.
        depth: Blocks of the encoder, which sees only what is not masked.
        decoder_width: Of the decoder's tokens.
        decoder_depth: Blocks of the decoder, which sees all places.
        heads: Of attention, in both.
        rounds: How often all patches are cut into masks for a residual map.
        residuals: What a residual map consists of, a channel each; the first is what a user is shown.
    """

    kind: ClassVar[Kind] = RECONSTRUCTION
    has_maps: ClassVar[bool] = True

    classes: int = 2
    in_channels: int = 1
    patch: int = 8
    ratio: float = 0.75
    width: int = 96
    depth: int = 4
    decoder_width: int = 64
    decoder_depth: int = 1
    heads: int = 4
    rounds: int = 1
    residuals: tuple[Residual, ...] = ("absolute", "cosine")

    def __post_init__(self) -> None:
        """Raises ValueError if an option has no such value."""
        object.__setattr__(self, "residuals", tuple(self.residuals))
        sizes = {f.name: getattr(self, f.name) for f in fields(self) if f.type == "int"}
        if wrong := [name for name, value in sizes.items() if value < 1]:
            raise ValueError(f"'{wrong[0]}' of the autoencoder is {sizes[wrong[0]]}, not a whole number above 0.")
        if self.in_channels % 2 == 0:
            raise ValueError(f"'in_channels' of the autoencoder is odd, not {self.in_channels}.")
        if not 0 < self.ratio < 1:
            raise ValueError(f"'ratio' of the autoencoder is a share between 0 and 1, not {self.ratio}.")
        for name in ("width", "decoder_width"):
            if sizes[name] % 4 or sizes[name] % self.heads:
                raise ValueError(f"'{name}' of the autoencoder is a multiple of 4 and of the heads, not {sizes[name]}.")
        if not self.residuals or not set(self.residuals) <= {"cosine", "absolute"}:
            raise ValueError(f"'residuals' of the autoencoder are of cosine and absolute, not {list(self.residuals)}.")

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> AutoencoderConfig:
        """A configuration from JSON; an option that it does not have is an error."""
        chosen = {k: v for k, v in options.items() if k != "name"}
        if unknown := sorted(set(chosen) - {f.name for f in fields(cls)}):
            raise ValueError(f"The masked autoencoder has no option {', '.join(map(repr, unknown))}.")
        return cls(**chosen)

    def to_dict(self) -> dict[str, Any]:
        """The options as JSON takes them."""
        own = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {"name": "masked-autoencoder", **own}


class MaskedAutoencoder(nn.Module):
    """Reconstructs a slice from the patches that are not masked, and tells where that fails.

    It sees the original image alone: what it is to expect are images as they come.
    """

    kind: ClassVar[Kind] = RECONSTRUCTION
    has_maps: ClassVar[bool] = True

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        pixels = config.patch**2
        self.embed = nn.Linear(pixels, config.width)
        self.encoder = nn.Sequential(*(Block(config.width, config.heads) for _ in range(config.depth)))
        self.norm, self.narrow = nn.LayerNorm(config.width), nn.Linear(config.width, config.decoder_width)
        self.masked = nn.Parameter(torch.zeros(config.decoder_width))
        nn.init.normal_(self.masked, std=0.02)
        self.decoder = nn.Sequential(*(Block(config.decoder_width, config.heads) for _ in range(config.decoder_depth)))
        self.last = nn.Sequential(nn.LayerNorm(config.decoder_width), nn.Linear(config.decoder_width, pixels))

    @property
    def values_per_pixel(self) -> float:
        """Peak of activations in numbers per pixel of a slice, with room to spare."""
        config = self.config
        masks = config.rounds * (1 / (1 - config.ratio) + 1)
        return masks * (12 * max(config.width, config.decoder_width) / config.patch**2 + 4)

    def forward(self, patches: Tensor, visible: Tensor, rows: int, columns: int) -> Tensor:
        """What training fits: all patches from those that are seen.

        Args:
            patches: (B, patches, pixels) in [-1, 1]; those that are masked are not looked at.
            visible: (B, seen patches) int64, which of them are seen.
            rows: Of patches.
            columns: Of patches.

        Returns:
            (B, patches, pixels).
        """
        seen = _taken(patches, visible)
        place = positions(rows, columns, self.config.width, patches)
        tokens = self.norm(self.encoder(self.embed(seen) + place[visible]))
        narrow = self.narrow(tokens)
        everywhere = self.masked.to(narrow).expand(len(patches), rows * columns, -1)
        everywhere = everywhere.scatter(1, visible[..., None].expand(-1, -1, narrow.shape[2]), narrow)
        everywhere = everywhere + positions(rows, columns, self.config.decoder_width, narrow)
        return self.last(self.decoder(everywhere))

    def residual(self, image: Tensor) -> Tensor:
        """The residual map of each image (B, in_channels, H, W): (B, len(residuals), H, W) float32.

        Masks are drawn from a fixed seed, the same for every image, so that an image has one residual map.
        """
        config = self.config
        height, width = image.shape[-2:]
        patches, rows, columns = self.patches(image)
        made, hidden = self._reconstructed(patches, rows, columns)
        maps = (residual_of(patches.float(), made, hidden, how) for how in config.residuals)
        return torch.cat([to_image(one, config.patch, rows, columns) for one in maps], 1)[..., :height, :width]

    def explained(self, image: Tensor) -> float:
        """Share of the variance of masked pixels, of all images (B, in_channels, H, W), that is told from the others.

        1 is a perfect reconstruction; the mean grey value of all images alone explains 0.
        """
        patches, rows, columns = self.patches(image)
        made, hidden = self._reconstructed(patches, rows, columns)
        hides = hidden[None, :, :, None].expand_as(made)
        error = (made - patches[:, None].float())[hides].square().mean()
        return float(1 - error / patches.float().var(correction=0).clamp(min=1e-6))

    def _reconstructed(self, patches: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """Every image under every mask, (B, masks, patches, pixels) float32, and what is masked, (masks, patches)."""
        random = torch.Generator().manual_seed(0)
        visible = partitions(rows * columns, self.config.ratio, self.config.rounds, random).to(patches.device)
        count = len(visible)
        shown = patches.repeat_interleave(count, 0)
        made = self(shown, visible.repeat(len(patches), 1), rows, columns).float().unflatten(0, (-1, count))
        return made, hidden_under(visible, rows * columns)

    def maps(self, image: Tensor, enhanced: Tensor) -> Tensor:
        """What the autoencoder did not expect of each image: the first residual map, (B, 1, H, W) float32."""
        return self.residual(image)[:, :1]

    def patches(self, image: Tensor) -> tuple[Tensor, int, int]:
        """The middle slice of images (B, in_channels, H, W) as patches, edges repeated, and their rows and columns."""
        size, middle = self.config.patch, self.config.in_channels // 2
        image = image[:, middle : middle + 1]
        pad = (0, -image.shape[3] % size, 0, -image.shape[2] % size)
        image = F.pad(image, pad, mode="replicate") if any(pad) else image
        return to_patches(image, size), image.shape[2] // size, image.shape[3] // size


def _taken(patches: Tensor, places: Tensor) -> Tensor:
    """The patches (B, n, pixels) at those places (B, n)."""
    return patches.gather(1, places[..., None].expand(-1, -1, patches.shape[2]))
