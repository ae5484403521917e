"""A late enhancement phantom: a short-axis stack of the resting heart after an infarct, with known truth.

The dead muscle is that of one of the three coronary arteries' territories, begins at the cavity, and has no-reflow in
its middle. What such an infarct looks like follows from how long an artery was closed: from the cavity outwards,
and always along its territory.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from dinsegment.phantom.contrasts import LATE_ENHANCEMENT
from dinsegment.phantom.heart import Phantom, heart_phantom
from dinsegment.phantom.heart_beat import INFARCT, LV, MYOCARDIUM, NO_REFLOW, Infarct

LABELS = {LV: 1, MYOCARDIUM: 2, INFARCT: 3, NO_REFLOW: 4}
"""Of the beating heart's phantom, and what they are here; the right ventricle is none."""

TERRITORIES = {"left anterior descending": 1.0, "right": -1.2, "circumflex": 2.9}
"""Coronary arteries, and the direction of the middle of what they supply: radians from the septum's middle on."""


def late_enhancement_phantom(*, seed: int = 0, slices: int = 10, **grid: Any) -> Phantom:
    """A stack of a heart with an infarct at end diastole.

    Args:
        seed: The patient; equal seeds give equal voxels.
        slices: Short-axis slices.
        grid: `spacing` and `size` of `heart_phantom`; slices are 8 mm thick without.

    Returns:
        The image, and labels (k, j, i), uint8: 1 left ventricle, 2 its normal myocardium, 3 infarct, 4 no-reflow.
    """
    infarct = draw_infarct(np.random.default_rng([seed, *b"infarct"]))
    phantom = heart_phantom(seed=seed, slices=slices, contrast=LATE_ENHANCEMENT, infarct=infarct, **grid)
    labels = np.zeros_like(phantom.labels)
    for of_heart, label in LABELS.items():
        labels[phantom.labels == of_heart] = label
    volume = replace(phantom.volume, name=f"late enhancement phantom {seed}")
    return Phantom(volume, labels)


def draw_infarct(rng: np.random.Generator) -> Infarct:
    """One of a territory, between a sixth and a third of the circumference wide."""
    u = rng.uniform
    return Infarct(
        towards=float(rng.choice(list(TERRITORIES.values())) + u(-0.2, 0.2)),
        width=u(1.1, 2.0),
        depth=u(0.6, 1.0),
        begins=u(0.15, 0.35),
        ends=u(0.7, 1.0),
        no_reflow=u(0.35, 0.55),
    )
