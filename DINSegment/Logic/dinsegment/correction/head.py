"""A last layer of the patient's own: logistic regression on the features that the network's last layer sees.

It is added to the network's logits. Fitted to the slices that the user has corrected, it is held to the network's own
answer in slices that the user has not touched, so that it forgets nothing, and to small weights by a ridge penalty. The
problem is convex and small, so that Newton-like steps solve it in a tenth of a second, always with the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from dinsegment.correction.features import LEAST, Features
from dinsegment.correction.neighbours import Place

UNTOUCHED = 8
"""Slices, spread over all that the user has not corrected, in which the network's own answer is learned, too."""

PIXELS = 6000
"""Of corrected slices, and of the others, that are learned from at most."""

PLAIN = 0.05
"""Share of the pixels learned from among those that plainly are background."""


@dataclass(frozen=True)
class HeadOptions:
    """How the patient's own layer is fitted.

    Attributes:
        hold: Weight of the network's own answer in untouched slices, beside that of the corrected ones.
        ridge: Weight of the squared weights.
        steps: Of L-BFGS at most.
        least: Corrected pixels whose class the network has given less than this are not learned from: what it was so
            sure of, such as a chamber at the base that the user has drawn or removed, is that slice's, and learned
            from it would move borders in all others.
    """

    hold: float = 1.0
    ridge: float = 1e-2
    steps: int = 40
    least: float = 0.0


@dataclass(frozen=True, eq=False)
class Head:
    """What is added to the logits: weights (classes, channels) times the features, and an offset (classes, 1)."""

    weights: Tensor
    offset: Tensor

    @classmethod
    def of(cls, weights: Tensor, mean: Tensor, deviation: Tensor) -> Head:
        """From weights (classes, channels + 1) on features that were brought to mean 0 and standard deviation 1."""
        scaled = weights[:, :-1] / deviation
        return cls(scaled, weights[:, -1:] - (scaled @ mean)[:, None])

    def __call__(self, hidden: Tensor) -> Tensor:
        """(channels, h, w) -> what is added to the logits, (classes, h, w) float32."""
        added = torch.addmm(self.offset, self.weights, hidden.float().flatten(1))
        return added.reshape(-1, *hidden.shape[1:])


def fit_head(
    phases: Sequence[Features],
    known: Mapping[Place, Tensor],
    coarse: Callable[[Place], Tensor],
    options: HeadOptions,
    leave_out: Place | None = None,
    check_cancelled: Callable[[], None] = lambda: None,
) -> Head:
    """Fits the layer.

    Args:
        phases: What the network saw of each phase.
        known: The share of each class in corrected slices, (classes, h, w) on the features' pixels.
        coarse: Gives what the network said of a slice, (classes, h, w), probabilities.
        options: How it is fitted.
        leave_out: A corrected slice of which nothing is learned, to judge by.
        check_cancelled: Raises if the user has asked for it.
    """
    random = torch.Generator().manual_seed(0)
    others = [(p, n) for p, f in enumerate(phases) for n in range(len(f.hidden)) if (p, n) not in known]
    spread = np.unique(np.linspace(0, len(others) - 1, UNTOUCHED).round().astype(int)) if others else []
    learned = [place for place in known if place != leave_out]
    right = [_samples(phases, place, coarse(place), known[place], options.least) for place in learned]
    held = [_samples(phases, others[int(i)], coarse(others[int(i)]), None) for i in spread]
    groups = [_drawn(group, random) for group in (right, held) if group]
    x, logits, target = (torch.cat(parts) for parts in zip(*groups, strict=True))
    share = [1.0, options.hold]
    weight = torch.cat([torch.full((len(g[0]),), s / max(1, len(g[0]))) for g, s in zip(groups, share, strict=False)])
    mean, deviation = x.mean(0), x.std(0) + 1e-3
    # One row a channel and a class: along pixels each step is three times faster than across classes.
    x = torch.cat(((x - mean) / deviation, torch.ones(len(x), 1)), 1)
    logits, wanted = logits.T.contiguous(), (weight[:, None] * target).T.contiguous()
    total = wanted.sum(0)
    across = x.T.contiguous()
    shape = len(logits), len(across)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        """Cross entropy and penalty, and their derivatives."""
        check_cancelled()
        weights = torch.from_numpy(values).float().reshape(shape)
        logs = torch.addmm(logits, weights, across).log_softmax(0)
        slope = (logs.exp() * total - wanted) @ x
        slope[:, :-1] += 2 * options.ridge * weights[:, :-1]
        value = options.ridge * (weights[:, :-1] ** 2).sum() - (wanted * logs).sum()
        return float(value), slope.double().numpy().ravel()

    # Not torch.optim: it loads PyTorch's compiler, which takes longer than all that is computed here.
    found = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": options.steps})
    return Head.of(torch.from_numpy(found.x).float().reshape(shape), mean, deviation)


Samples = tuple[Tensor, Tensor, Tensor]
"""Features (pixels, channels), logits and what is right (pixels, classes)."""


def _samples(
    phases: Sequence[Features], place: Place, said: Tensor, right: Tensor | None, least: float = 0.0
) -> Samples:
    said = said.flatten(1).T
    target = said if right is None else right.flatten(1).T
    hidden = phases[place[0]].hidden[place[1]].float().flatten(1).T
    possible = ((said * target).sum(1) >= least) | (target.amax(1) <= 0.5)
    return hidden[possible], said[possible].clamp(min=LEAST).log(), target[possible]


def _drawn(group: Sequence[Samples], random: torch.Generator) -> Samples:
    """At most so many pixels, among them few of those that plainly are background."""
    x, logits, target = (torch.cat(parts) for parts in zip(*group, strict=True))
    plain = (logits[:, 0] > -0.005) & (target[:, 0] > 0.99)
    wanted = torch.nonzero(~plain | (torch.rand(len(x), generator=random) < PLAIN))[:, 0]
    chosen = wanted[torch.randperm(len(wanted), generator=random)[:PIXELS]]
    return x[chosen], logits[chosen], target[chosen]
