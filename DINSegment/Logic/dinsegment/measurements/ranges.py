"""A range in which healthy people are, and where it was published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Place = Literal["below", "within", "above"]
"""Of a number in a range."""


@dataclass(frozen=True)
class Source:
    """A publication.

    Attributes:
        short: As it stands beside a number.
        citation: In full.
        doi: Its Digital Object Identifier.
        population: Whom the numbers are of; empty for a definition.
        convention: What was measured as what.
    """

    short: str
    citation: str
    doi: str
    population: str = ""
    convention: str = ""


@dataclass(frozen=True)
class NormalRange:
    """Where healthy people of the patient's sex and age are.

    Its ends have as many digits as the number is read with: one that is read as the end of the range is within it.

    Attributes:
        low: Mean less 1.96 standard deviations, rounded.
        high: Mean and 1.96 standard deviations, rounded.
        mean: The mean.
        source: Where it was published.
    """

    low: float
    high: float
    mean: float
    source: Source

    def place_of(self, read: float) -> Place:
        """Where a number is, as it is read (`Measurement.read`)."""
        return "below" if read < self.low else "above" if read > self.high else "within"

    def to_dict(self, read: float) -> dict[str, Any]:
        """A dictionary for JSON; `read` as in `place_of`."""
        return {"low": self.low, "high": self.high, "place": self.place_of(read), "source": self.source.short}
