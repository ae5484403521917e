"""One draw: what is varied for one possible segmentation of a whole case, all slices and phases alike."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.inference.view import View
from dinsegment.network.kinds import Draw, Returns


@dataclass(frozen=True)
class Variations:
    """How far a draw may go from the image as it is; standard deviations but for the last. 0 switches one off.

    Attributes:
        shift_mm: Of the box within the slices, along either axis.
        zoom: Of log2 of the box's pixel size.
        window: Of either end of the grey window, in units of its width.
        gamma: Of log2 of the enhancement's gamma, where it has one.
        dropout: Share of the features that the decoder does not see.
    """

    shift_mm: float = 0.0
    zoom: float = 0.0
    window: float = 0.0
    gamma: float = 0.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Raises ValueError if one is no number from 0, or the share no share."""
        for one in fields(self):
            value = getattr(self, one.name)
            if not isinstance(value, (int, float)) or not value >= 0:
                raise ValueError(f"'{one.name}' of the variations is {value}, not a number from 0")
        if self.dropout >= 1:
            raise ValueError(f"'dropout' of the variations is {self.dropout}, not a share below 1")


DEFAULTS: dict[Returns, Variations] = {
    "probabilities": Variations(shift_mm=2.0, zoom=0.05, window=0.02, gamma=0.2, dropout=0.1),
    "samples": Variations(),
    "maps": Variations(),
}
"""Without a word in weights.json: a network that draws samples itself, or none at all, is shown the image as it is."""


@dataclass(frozen=True)
class SampleOptions:
    """How samples are drawn from a model and what they are worth, as its entry `samples` in weights.json has it.

    Attributes:
        variations: What is varied.
        scales: As in `images.samples.Samples`; empty where nobody has looked.
        floors: Likewise.
        made: On which patients the scales were chosen, how many `patients` they were, and with how many `draws`.
    """

    variations: Variations
    scales: dict[str, float] = field(default_factory=dict)
    floors: dict[str, float] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def draws(self) -> int:
        """With how many the scales were chosen; 0 where that is not known."""
        return int(self.made.get("draws", 0))

    @property
    def patients(self) -> int:
        """On how many they were chosen; 0 where that is not known."""
        return int(self.made.get("patients", 0))

    @classmethod
    def from_dict(cls, options: dict[str, Any], returns: Returns) -> SampleOptions:
        """From JSON; what is missing is as for any network that returns this.

        Raises:
            ValueError: An option has no such value.
            TypeError: There is no such option.
        """
        varied = options.get("variations")
        scales, floors = ({u: float(v) for u, v in options.get(name, {}).items()} for name in ("scales", "floors"))
        if any(not value > 0 for value in scales.values()):
            raise ValueError(f"'scales' of the samples are {scales}, not numbers above 0")
        if any(not value >= 0 for value in floors.values()):
            raise ValueError(f"'floors' of the samples are {floors}, not numbers from 0")
        unknown = set(options) - {"variations", "scales", "floors", "made"}
        if unknown:
            raise TypeError(f"there is no option {sorted(unknown)}")
        variations = DEFAULTS[returns] if varied is None else Variations(**varied)
        return cls(variations, scales, floors, options.get("made", {}))


def vary(
    number: int, variations: Variations, preprocessing: Preprocessing, view: View
) -> tuple[Draw, Preprocessing, View]:
    """What is varied in a draw, the same for every image that it is asked for.

    Args:
        number: Of the draw, from 0.
        variations: How far.
        preprocessing: Of the model.
        view: The box that is segmented.

    Returns:
        What the network is told, how slices are prepared for it, and the box.
    """
    random = torch.Generator().manual_seed(number)
    y, x, zoom, low, high, gamma = torch.randn(6, generator=random).clamp(-2.5, 2.5).tolist()
    shift = variations.shift_mm
    moved = replace(
        view,
        center=(view.center[0] + shift * y, view.center[1] + shift * x),
        spacing=view.spacing * 2 ** (variations.zoom * zoom),
    )
    enhancement = preprocessing.enhancement
    if "gamma" in enhancement.parameters:
        value = enhancement.parameters["gamma"] * 2 ** (variations.gamma * gamma)
        enhancement = replace(enhancement, parameters={**enhancement.parameters, "gamma": value})
    below, above = (variations.window * n for n in (low, high))
    return (
        Draw(number, variations.dropout),
        replace(preprocessing, enhancement=enhancement, window_shift=(below, above)),
        moved,
    )
