"""The step of a network that gives logits: the loss that the recipe names, of DIN or of GRCSF."""

from __future__ import annotations

from torch import Tensor

from dinsegment.training.losses import dice_focal_loss, din_loss, focal_loss
from dinsegment.training.steps.descent import DescentStep


class SupervisedStep(DescentStep):
    """Fits logits to labels."""

    def _loss(self, image: Tensor, enhanced: Tensor, labels: Tensor) -> Tensor:
        logits = self._network(image, enhanced)
        if self._recipe.loss == "din":
            return din_loss(logits, labels, self._recipe.boundary_weight)
        return {"dice-focal": dice_focal_loss, "focal": focal_loss}[self._recipe.loss](logits, labels)
