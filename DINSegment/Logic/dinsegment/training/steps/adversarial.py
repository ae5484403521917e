"""The step of a conditional diffusion of masks: a discriminator, then the generator (cDAL, arXiv 2502.06997)."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from dinsegment.network.cdal.attention import attention_map
from dinsegment.training.recipe import Recipe


class AdversarialDiffusionStep:
    """Fits the discriminator to tell real steps from made ones, and the generator to the masks.

    One pair (x_t, x_(t+1)) of each mask shows the discriminator what is real; where it looks weighs the mask that is
    noised for the generator. What the generator makes of it is the fake step, and its distance from the mask is the
    generator's loss: the discriminator acts on it through the attention alone.

    Attributes:
        discriminator: Beside the network, on its device.
        optimizer: Adam, of the network.
        discriminator_optimizer: Adam, of the discriminator.
    """

    def __init__(self, recipe: Recipe, network: nn.Module) -> None:
        self._recipe, self._options, self._schedule = recipe, recipe.adversarial, network.schedule
        self._latent = recipe.network.latent
        device = next(network.parameters()).device
        self.discriminator = recipe.network.discriminator().to(device, memory_format=torch.channels_last)
        options = self._options
        self.optimizer = torch.optim.Adam(network.parameters(), recipe.learning_rate, options.betas)
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), options.discriminator_learning_rate, options.betas
        )

    def set_up(self, fabric: Fabric, module: nn.Module) -> None:
        """As `Step`."""
        self._fabric = fabric
        self._network, self._optimizer = fabric.setup(module, self.optimizer)
        self._judge, self._judge_optimizer = fabric.setup(self.discriminator, self.discriminator_optimizer)

    def __call__(self, image: Tensor, enhanced: Tensor, labels: Tensor, number: int, of: int) -> Tensor:
        """As `Step`; the loss is the generator's."""
        self._set_rates(number, of)
        x_0 = masks(labels, self._recipe.network.classes)
        t = torch.randint(self._schedule.steps, (len(x_0),), device=x_0.device)
        due = number % self._options.r1_every == 0
        x_t, x_next = self._pair(x_0, t)
        real, features = self._judge(x_t, x_next, t)
        penalty = self._penalty(x_t, x_next, t) if due else 0.0
        weight = attention_map(features.detach().float(), x_0.shape[2:])
        _, x_next = self._pair(weight * x_0, t)
        z = torch.randn(len(x_0), self._latent, device=x_0.device)
        predicted = self._network(x_next, t + 1, z, image).float()
        made = self._schedule.back(predicted.detach(), x_next, t + 1, torch.randn_like(x_0))
        fake, _ = self._judge(made, x_next, t)
        loss = F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean() + penalty
        self._judge_optimizer.zero_grad(set_to_none=True)
        self._fabric.backward(loss)
        self._judge_optimizer.step()
        distance = F.mse_loss(predicted, x_0)
        self._optimizer.zero_grad(set_to_none=True)
        self._fabric.backward(distance)
        self._optimizer.step()
        return distance.detach()

    def _pair(self, x_0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """x_t and x_(t+1) of masks."""
        x_t = self._schedule.diffuse(x_0, t, torch.randn_like(x_0))
        return x_t, self._schedule.advance(x_t, t, torch.randn_like(x_0))

    def _penalty(self, x_t: Tensor, x_next: Tensor, t: Tensor) -> Tensor:
        """Half gamma times R1, in single precision whatever the run's: it is a gradient that is derived once more."""
        wanted = x_t.detach().requires_grad_()
        score, _ = self.discriminator(wanted, x_next, t)
        return self._options.r1_gamma / 2 * r1_penalty(score, wanted)

    def _set_rates(self, number: int, of: int) -> None:
        options = self._options
        rates = self._recipe.learning_rate, options.discriminator_learning_rate
        for optimizer, rate in zip((self.optimizer, self.discriminator_optimizer), rates, strict=True):
            if options.final_learning_rate is not None:
                rate = annealed(rate, options.final_learning_rate, number / of)
            for group in optimizer.param_groups:
                group["lr"] = rate

    @property
    def rate(self) -> float:
        """As `Step`."""
        return self.optimizer.param_groups[0]["lr"]

    def state_dict(self) -> dict[str, Any]:
        """As `Step`."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Step`."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])


def masks(labels: Tensor, classes: int) -> Tensor:
    """Labels (B, rows, columns) as one-hot masks (B, classes, rows, columns) of -1 and 1."""
    return 2 * F.one_hot(labels, classes).movedim(-1, 1).float() - 1


def r1_penalty(score: Tensor, x: Tensor) -> Tensor:
    """Mean over the batch of the squared length of the scores' gradient at real masks x (B, ...)."""
    (gradient,) = torch.autograd.grad(score.sum(), x, create_graph=True)
    return gradient.float().square().flatten(1).sum(1).mean()


def annealed(first: float, last: float, done: float) -> float:
    """Half a cosine from the first rate to the last."""
    return last + 0.5 * (first - last) * (1 + math.cos(math.pi * done))
