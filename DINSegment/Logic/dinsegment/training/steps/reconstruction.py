"""The step of a masked autoencoder: what is masked is told from what is not, without labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dinsegment.network.grcsf.masks import hidden_under, visible_count
from dinsegment.training.recipe import Recipe
from dinsegment.training.steps.descent import DescentStep


class ReconstructionStep(DescentStep):
    """Fits masked patches: the mean square error of their grey values, of which -1 is black and 1 white.

    Every image of a batch has a random mask of its own. Labels are not looked at.
    """

    def __init__(self, recipe: Recipe, network: nn.Module) -> None:
        super().__init__(recipe, network)
        self._patches, self._ratio = network.patches, network.config.ratio

    def _loss(self, image: Tensor, enhanced: Tensor, labels: Tensor) -> Tensor:
        patches, rows, columns = self._patches(image)
        count = rows * columns
        # On the CPU, so that every device draws the same.
        order = torch.rand(len(patches), count, device="cpu").argsort(1).to(patches.device)
        visible = order[:, : visible_count(count, self._ratio)]
        made = self._network(patches, visible, rows, columns).float()
        return (made - patches)[hidden_under(visible, count)].square().mean()
