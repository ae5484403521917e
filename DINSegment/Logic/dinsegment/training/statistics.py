"""How sure a mean over cases is, and how well two methods agree on a measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
SEED = 0


class PatientBootstrap:
    """Means over cases, had other patients of the same kind been examined.

    Patients are drawn with replacement, each with all of its cases, because the cases of one patient resemble each
    other (cluster bootstrap). The same draws serve every score, so that means of several can be combined.
    """

    def __init__(self, patients: Sequence[str], resamples: int = RESAMPLES, seed: int = SEED) -> None:
        """
        Args:
            patients: The patient of each case.
            resamples: How often as many patients as there are get drawn.
            seed: Equal seeds give equal intervals.
        """
        names, of_case = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
        count = len(names)
        drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
        self.patients = count
        self._weights = drawn[:, of_case].astype(float)

    def means(self, values: np.ndarray) -> np.ndarray:
        """Mean of every resample.

        Args:
            values: (cases,) or (cases, scores); NaN where a case has no value, which then counts in no mean.

        Returns:
            (resamples,) or (resamples, scores); NaN where no case drawn has a value.
        """
        values = np.asarray(values, dtype=float)
        known = ~np.isnan(values)
        sums, counts = self._weights @ np.where(known, values, 0.0), self._weights @ known.astype(float)
        return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)

    def interval(self, means: np.ndarray, level: float = 0.95) -> tuple[float, float]:
        """Percentile interval of resampled means (resamples,); NaN for fewer than two patients.

        Resamples without a value are left out. Of few patients such an interval is somewhat too narrow.
        """
        means = means[~np.isnan(means)]
        if self.patients < 2 or not len(means):
            return float("nan"), float("nan")
        tail = 50 * (1 - level)
        low, high = np.percentile(means, (tail, 100 - tail))
        return float(low), float(high)


def known_mean(values: np.ndarray) -> float:
    """Mean of what is not NaN; NaN if nothing is."""
    values = np.asarray(values, dtype=float)
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


@dataclass(frozen=True)
class Agreement:
    """Two methods that measure the same (J. M. Bland, D. G. Altman, Lancet 1986;327:307-310).

    Attributes:
        bias: Mean of their differences.
        lower_limit: Bias minus 1.96 standard deviations of the differences: with `upper_limit` the limits of
            agreement, between which 95 % of the differences of a normal distribution lie; NaN for fewer than two.
        upper_limit: Bias plus as much.
        count: Pairs in which both are known.
        undefined: Pairs in which one is not.
    """

    bias: float
    lower_limit: float
    upper_limit: float
    count: int
    undefined: int

    @classmethod
    def of(cls, differences: np.ndarray) -> Agreement:
        """Of the differences, one minus the other; NaN where one of them is not known."""
        differences = np.asarray(differences, dtype=float)
        known = differences[~np.isnan(differences)]
        bias = known_mean(differences)
        reach = 1.96 * float(known.std(ddof=1)) if len(known) > 1 else float("nan")
        return cls(bias, bias - reach, bias + reach, len(known), len(differences) - len(known))
