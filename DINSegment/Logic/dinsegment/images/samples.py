"""Samples: several possible segmentations of one image, and where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dinsegment.errors import InputError

FEWEST, MOST = 2, 100
"""How many draws there can be: one has no spread."""


def check_draws(draws: int) -> None:
    """Raises InputError unless so many samples can be drawn."""
    if not FEWEST <= draws <= MOST:
        raise InputError(f"The number of samples cannot be {draws}: ask for {FEWEST} to {MOST}, such as 16.")


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
        scales: By how many standard deviations of the draws an interval reaches to either side, so that it holds nine
            in ten values of experts: by the key of a number (`lv_edv`), or by unit (`ml`, `%`) for all numbers without
            one of their own; empty where no patients have been looked at for that.
        floors: What is added to a deviation, as the root of the sum of squares, by the same names: draws that happen
            to agree are no proof that they are right. 0 for what is not named.
        looked_at: How many draws there were when the scales were chosen; of fewer they promise nothing.
        patients: On how many patients the scales were chosen; 0 where that is not known.
    """

    model: str
    volumes_ml: np.ndarray
    disagreement: np.ndarray
    scales: Mapping[str, float] = field(default_factory=dict)
    floors: Mapping[str, float] = field(default_factory=dict)
    looked_at: int = 0
    patients: int = 0

    @property
    def draws(self) -> int:
        """How many there are."""
        return len(self.volumes_ml)

    def scale_and_floor(self, key: str, unit: str) -> tuple[float, float] | None:
        """Those of a number; None where others have been looked at, and neither it nor its unit.

        Args:
            key: Of the number (`measurements.Measurement.key`).
            unit: Its unit.
        """
        name = next((name for name in (key, unit) if name in self.scales), None)
        return None if name is None else (self.scales[name], self.floors.get(name, 0.0))

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON, without the disagreement."""
        return {
            "model": self.model,
            "volumes_ml": self.volumes_ml.tolist(),
            "scales": dict(self.scales),
            "floors": dict(self.floors),
            "looked_at": self.looked_at,
            "patients": self.patients,
        }

    @classmethod
    def from_dict(cls, described: Mapping[str, Any], disagreement: np.ndarray) -> Samples:
        """What `to_dict` has described.

        Raises:
            KeyError, TypeError, ValueError: It is no such description.
        """
        volumes = np.array(described["volumes_ml"], float)
        if volumes.ndim != 2 or not np.isfinite(volumes).all():
            raise ValueError(f"volumes of shape {volumes.shape} are not those of draws")
        scales, floors = ({str(k): float(v) for k, v in described[name].items()} for name in ("scales", "floors"))
        counts = (int(described[name]) for name in ("looked_at", "patients"))
        return cls(str(described["model"]), volumes, disagreement, scales, floors, *counts)
