"""One training step for each way in which networks learn; the trainer asks the network's kind which one it is.

A step owns the optimizers and what else is trained beside the network, such as a discriminator. `step` says what every
step can do; `supervised` fits logits to labels and `reconstruction` an autoencoder to images without labels, both as
`descent` goes down a loss; `adversarial` fits a generator and a discriminator of masks in turn.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from dinsegment.network.kinds import Learns
from dinsegment.training.recipe import Recipe
from dinsegment.training.steps.adversarial import AdversarialDiffusionStep
from dinsegment.training.steps.reconstruction import ReconstructionStep
from dinsegment.training.steps.step import Step
from dinsegment.training.steps.supervised import SupervisedStep

STEPS: dict[Learns, Callable[[Recipe, nn.Module], Step]] = {
    "supervised": SupervisedStep,
    "adversarial-diffusion": AdversarialDiffusionStep,
    "reconstruction": ReconstructionStep,
}

__all__ = ["STEPS", "Step", "make_step"]


def make_step(recipe: Recipe, network: nn.Module) -> Step:
    """The step for a network of the recipe, which already lies on its device."""
    return STEPS[recipe.network.kind.learns](recipe, network)
