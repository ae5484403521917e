"""The methods of enhancement by their names, as recipes and weights.json have them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from dinsegment.enhancement.comparators import clahe, histogram_equalization, identity
from dinsegment.enhancement.fuzzy import fuzzy
from dinsegment.enhancement.grey import Array
from dinsegment.errors import InputError

METHODS: dict[str, Callable[..., Any]] = {
    "fuzzy": fuzzy,
    "histogram-equalization": histogram_equalization,
    "clahe": clahe,
    "none": identity,
}


PACKAGES = {"histogram-equalization": "skimage", "clahe": "skimage"}
"""What a method needs beside numpy; it is imported when the method is used."""


def available_methods() -> list[str]:
    """Methods that can be used here: Slicer, for one, comes without scikit-image."""
    return [method for method in METHODS if method not in PACKAGES or find_spec(PACKAGES[method])]


@dataclass(frozen=True)
class Enhancement:
    """A method and its parameters, as weights.json names them.

    Raises:
        InputError: There is no such method.
    """

    method: str = "fuzzy"
    parameters: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"There is no enhancement '{self.method}'; there are: {', '.join(METHODS)}.")

    def __call__(self, v: Array) -> Array:
        """Slices (..., H, W) with grey values in [-1, 1] -> enhanced slices of the same shape in [-1, 1]."""
        return METHODS[self.method](v, **self.parameters)
