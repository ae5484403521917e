"""What a cDAL model consists of: condition, generator and schedule, from which samples of the mask are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinsegment.network.cdal.discriminator import Discriminator
from dinsegment.network.cdal.generator import Condition, Generator
from dinsegment.network.cdal.schedule import Schedule
from dinsegment.network.kinds import DIFFUSION, Draw, Kind


@dataclass(frozen=True)
class CDALConfig:
    """Everything that tells one cDAL from another, as JSON in a recipe and in weights.json.

    The defaults are those published for the hippocampus; docs/method.md says what the paper leaves open.

    Attributes:
        classes: Channels of the one-hot mask, background included.
        in_channels: Slices in an image: 1, as published, or an odd number, the slice between its neighbours.
        steps: T.
        samples: Drawn for an answer, which is their mean.
        width: Of the generator's finest level.
        multipliers: Of the width, one a level, finest first.
        blocks: Residual blocks a level.
        attention: Levels, 0 the finest, with self-attention.
        condition_blocks: Residual blocks that the image goes through.
        latent: Numbers in z.
        mapping: Width of the latent's mapping.
        discriminator_width: Of the discriminator, which is needed for training only.
        discriminator_multipliers: Of its width, one a block; every block but the first halves the resolution.
        attention_level: The discriminator's block, from 1, whose features make the spatial attention.
    """

    kind: ClassVar[Kind] = DIFFUSION

    classes: int = 3
    in_channels: int = 1
    steps: int = 4
    samples: int = 5
    width: int = 32
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    blocks: int = 2
    attention: tuple[int, ...] = (1, 2)
    condition_blocks: int = 2
    latent: int = 50
    mapping: int = 128
    discriminator_width: int = 64
    discriminator_multipliers: tuple[int, ...] = (2, 4, 8, 8)
    attention_level: int = 2

    def __post_init__(self) -> None:
        """Raises ValueError if an option has no such value."""
        for name in ("multipliers", "attention", "discriminator_multipliers"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        sizes = {f.name: getattr(self, f.name) for f in fields(self) if f.type == "int"}
        if wrong := [name for name, value in sizes.items() if value < 1]:
            raise ValueError(f"'{wrong[0]}' of cDAL is {sizes[wrong[0]]}, not a whole number above 0.")
        if self.in_channels % 2 == 0:
            raise ValueError(f"'in_channels' of cDAL is odd, a slice between its neighbours, not {self.in_channels}.")
        if not set(self.attention) <= set(range(len(self.multipliers))):
            raise ValueError(
                f"'attention' of cDAL names levels 0 to {len(self.multipliers) - 1}, not {self.attention}."
            )
        if self.attention_level > len(self.discriminator_multipliers):
            raise ValueError(
                f"'attention_level' of cDAL is a block of the discriminator, which has "
                f"{len(self.discriminator_multipliers)}, not {self.attention_level}."
            )

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> CDALConfig:
        """A configuration from JSON; an option that it does not have is an error."""
        chosen = {k: v for k, v in options.items() if k != "name"}
        if unknown := sorted(set(chosen) - {f.name for f in fields(cls)}):
            raise ValueError(f"cDAL has no option {', '.join(map(repr, unknown))}.")
        return cls(**chosen)

    def to_dict(self) -> dict[str, Any]:
        """The options as JSON takes them."""
        return {"name": "cdal", **{k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}}

    @property
    def stride(self) -> int:
        """Pixels that the sides of an input have to be a multiple of."""
        return 2 ** (len(self.multipliers) - 1)

    def discriminator(self) -> Discriminator:
        """The discriminator that such a network is trained with, with random weights."""
        sizes = self.discriminator_width, self.discriminator_multipliers, self.attention_level
        return Discriminator(self.classes, *sizes)


class CDAL(nn.Module):
    """Condition and generator of cDAL; any input size will do.

    It sees the original image alone: the enhanced one is DIN's.
    """

    kind: ClassVar[Kind] = DIFFUSION

    def __init__(self, config: CDALConfig) -> None:
        super().__init__()
        self.config = config
        self.schedule = Schedule(config.steps)
        self.condition = Condition(config.in_channels, config.width, config.condition_blocks)
        self.generator = Generator(
            config.classes,
            config.width,
            config.multipliers,
            config.blocks,
            config.attention,
            config.latent,
            config.mapping,
        )

    @property
    def values_per_pixel(self) -> float:
        """Peak of activations in numbers per pixel of a slice, with room to spare."""
        config = self.config
        levels = ((config.blocks + 1) * n / 4**level for level, n in enumerate(config.multipliers))
        return config.width * (2 * sum(levels) + 12 * max(config.multipliers[:2])) + 8 * config.classes

    def forward(self, noised: Tensor, t: Tensor, z: Tensor, image: Tensor) -> Tensor:
        """What training fits: x_0 in [-1, 1] from x_t, the step t (B,), 1 to T, a latent (B, latent) and the image."""
        return self.generator(noised, t, z, self.condition(image))

    def sample(self, image: Tensor, enhanced: Tensor, draw: Draw) -> Tensor:
        """One possible segmentation of each image.

        Everything random follows from the number of the draw alone: slices of one case, and its phases, that are shown
        with the same number get the same latents and the same noise, so that together they are one draw.

        Args:
            image: (B, in_channels, H, W) in [-1, 1].
            enhanced: Not looked at.
            draw: Which; its number counts.

        Returns:
            Shares of the classes (B, classes, H, W) float32, in sum 1.
        """
        return next(self._samples(image, [draw.number]))

    def probabilities(self, image: Tensor, enhanced: Tensor) -> Tensor:
        """The mean of as many samples as the configuration says, (B, classes, H, W) float32, in sum 1."""
        return sum(self._samples(image, range(self.config.samples))) / self.config.samples

    def _samples(self, image: Tensor, draws: range | list[int]) -> Iterator[Tensor]:
        config = self.config
        height, width = image.shape[-2:]
        pad = (0, -width % config.stride, 0, -height % config.stride)
        condition = self.condition(F.pad(image, pad, mode="replicate") if any(pad) else image)
        shape = (1, config.classes, *condition.shape[2:])
        for draw in draws:
            random = torch.Generator().manual_seed(draw)

            def normal(*size: int, random: torch.Generator = random) -> Tensor:
                """The same numbers for every image of the batch, drawn on the CPU, so that devices agree."""
                drawn = torch.randn(size, generator=random, device="cpu").to(image.device)
                return drawn.expand(len(image), *size[1:])

            x = normal(*shape)
            for step in range(config.steps, 0, -1):
                t = torch.full((len(image),), step, device=image.device)
                x_0 = self.generator(x, t, normal(1, config.latent), condition).float()
                x = self.schedule.back(x_0, x, t, normal(*shape))
            yield shares(x)[..., :height, :width]


def shares(x_0: Tensor) -> Tensor:
    """Shares of the classes, in sum 1, from a mask (B, classes, H, W) whose classes are -1 (none) to 1 (all)."""
    amount = (x_0 + 1).clamp(1e-6, 2)
    return amount / amount.sum(1, keepdim=True)
