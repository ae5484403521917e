"""Samples: several possible segmentations of one image, and where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class Samples:
    """What several possible segmentations of one image tell.

    A sample is one draw for the whole image, and draws of the same number for other phases of the same heart belong to
    it: what is measured in several phases can be measured of each draw.

    Attributes:
        model: Name of the model that was asked for them.
        volumes_ml: Volume of each segment in each draw, (draws, segments).
        disagreement: Mean over the draws of the probability of another label than the result's, (k, j, i) float32 in
            0..1 on the image's grid.
        scales: By how many standard deviations of the draws an interval reaches to either side, by unit (`ml`, `%`), so
            that it holds nine in ten values of experts; empty where no patients have been looked at for that.
        floors: What is added to a deviation, as the root of the sum of squares, by unit: draws that happen to agree
            are no proof that they are right. 0 for a unit that is not named.
        looked_at: How many draws there were when the scales were chosen; of fewer they promise nothing.
    """

    model: str
    volumes_ml: np.ndarray
    disagreement: np.ndarray
    scales: Mapping[str, float] = field(default_factory=dict)
    floors: Mapping[str, float] = field(default_factory=dict)
    looked_at: int = 0

    @property
    def draws(self) -> int:
        """How many there are."""
        return len(self.volumes_ml)
