"""How a network is validated while it is trained: by what its kind returns, case after case."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from dinsegment.images.slices import SliceStack
from dinsegment.inference.anatomy import box_around
from dinsegment.inference.prediction import predict
from dinsegment.inference.runner import Runner
from dinsegment.network.kinds import Returns
from dinsegment.training.cases import Case
from dinsegment.training.metrics import dice
from dinsegment.training.pack import PackedCase
from dinsegment.training.recipe import Recipe


def segmentation_scores(runner: Runner, recipe: Recipe, case: Case | PackedCase) -> dict[str, float]:
    """Dice through the whole inference: `dice`, the mean, and `dice ABBREVIATION` of each segment."""
    volume, truth = case.read(recipe.task)
    labels = predict(runner, recipe.preprocessing, volume, recipe.task)
    own = {f"dice {s.abbreviation}": dice(labels, truth, s.label) for s in recipe.task.segments}
    return {"dice": float(np.mean(list(own.values()))), **own}


def reconstruction_scores(runner: Runner, recipe: Recipe, case: Case | PackedCase) -> dict[str, float]:
    """`explained`: which share of the variance of masked pixels an autoencoder explains, in the box around the experts'
    segments, as in training."""
    volume, truth = case.read(recipe.task)
    preprocessing = recipe.preprocessing
    stack = SliceStack.in_plane(volume, preprocessing.plane)
    _, rows, columns = np.nonzero(stack.like(truth).array)
    center = (float(rows.mean()) * stack.spacing[0], float(columns.mean()) * stack.spacing[1])
    slices = preprocessing.slices(box_around(preprocessing, stack, center), recipe.network.in_channels)
    image, _ = slices.inputs(slice(None))
    with torch.inference_mode():
        return {"explained": runner.network.explained(image.to(runner.device))}


VALIDATIONS: dict[Returns, Callable[[Runner, Recipe, Case | PackedCase], dict[str, float]]] = {
    "probabilities": segmentation_scores,
    "samples": segmentation_scores,
    "maps": reconstruction_scores,
}
"""Scores of one case by name; of the first one, a higher mean is better."""

SCORE_NAMES: dict[Returns, str] = {"probabilities": "Dice", "samples": "Dice", "maps": "share of variance explained"}
"""What that first score is, as a user reads it."""
