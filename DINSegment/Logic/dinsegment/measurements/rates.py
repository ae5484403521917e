"""How fast a ventricle empties and fills, from the smoothed curve of its volume over one beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST_PHASES = 18
"""Of fewer phases there are too few harmonics for how fast a healthy ventricle fills: of 18, a tenth too slow at most,
of 15, a quarter, of 12, more than a third."""

MOST_HARMONICS = 6
"""Of the curve's Fourier series; a third of the phases at most, so that what is not of the heart is smoothed away."""

LONGEST_GAP = 2.0
"""A curve with a step longer than so many times the median one is not of the whole beat."""

LONGEST_BEAT = 1.25
"""Phases that span more than so many heartbeats are not of one, or the heart rate is not theirs."""

SAMPLES = 1000
"""Of the smoothed curve, over the beat."""


NO_TIMES = "The images do not say when their phases were taken."


@dataclass(frozen=True, eq=False)
class Rates:
    """The smoothed curve of one beat and its steepest places.

    Attributes:
        times_ms: Of the samples of the smoothed curve.
        volume_ml: The smoothed volume at each of them.
        peak_ejection_ml_s: Greatest loss of volume, above zero.
        peak_filling_ml_s: Greatest gain of volume between end systole and the next end diastole.
        time_to_peak_ejection_ms: From end diastole, the largest smoothed volume, to it.
        time_to_peak_filling_ms: From end systole, the smallest smoothed volume, to it.
    """

    times_ms: np.ndarray
    volume_ml: np.ndarray
    peak_ejection_ml_s: float
    peak_filling_ml_s: float
    time_to_peak_ejection_ms: float
    time_to_peak_filling_ms: float


def why_no_rates(times_ms: Sequence[float] | None, heart_rate_bpm: float | None = None) -> str:
    """Why phases with these times tell no rates, in a sentence; empty where they do.

    Args:
        times_ms: When each phase was taken after the R wave; None where the images do not say it.
        heart_rate_bpm: Where it is known.
    """
    if times_ms is None:
        return NO_TIMES
    if len(times_ms) < FEWEST_PHASES:
        return f"{len(times_ms)} phases are too few for rates: it takes {FEWEST_PHASES}."
    steps = np.diff(times_ms)
    if steps.min() <= 0 or steps.max() > LONGEST_GAP * np.median(steps):
        return "The phases are not taken at even intervals."
    if heart_rate_bpm and _beat_ms(times_ms) < 60_000 / heart_rate_bpm - LONGEST_GAP * np.median(steps):
        return "The phases do not cover the whole beat."
    if heart_rate_bpm and _beat_ms(times_ms) > LONGEST_BEAT * 60_000 / heart_rate_bpm:
        return f"The phases span {_beat_ms(times_ms):.0f} ms, longer than a heartbeat at {heart_rate_bpm:.0f}/min."
    return ""


def rates_or_reason(
    times_ms: Sequence[float] | None, volume_ml: Sequence[float], heart_rate_bpm: float | None = None
) -> Rates | str:
    """The rates of a ventricle's volume, or why there are none, a sentence; arguments as below and above."""
    reason = why_no_rates(times_ms, heart_rate_bpm)
    return reason if reason or times_ms is None else rates_of(times_ms, volume_ml)


def rates_of(times_ms: Sequence[float], volume_ml: Sequence[float]) -> Rates:
    """The smoothed curve of a ventricle's volume, the beat being a circle, and its steepest places.

    The curve is a Fourier series of few harmonics, fitted to the volumes by least squares. Ask `why_no_rates` before.
    """
    times, volumes = np.asarray(times_ms, dtype=float), np.asarray(volume_ml, dtype=float)
    beat = _beat_ms(times_ms)
    harmonics = np.arange(1, min(MOST_HARMONICS, (len(times) - 1) // 3) + 1)
    angular = 2 * np.pi * harmonics / beat

    def basis(t: np.ndarray) -> np.ndarray:
        phase = np.outer(t, angular)
        return np.hstack([np.ones((len(t), 1)), np.cos(phase), np.sin(phase)])

    coefficients = np.linalg.lstsq(basis(times), volumes, rcond=None)[0]
    t = times[0] + beat * np.arange(SAMPLES) / SAMPLES
    smooth = basis(t) @ coefficients
    phase = np.outer(t, angular)
    cosines, sines = coefficients[1 : len(harmonics) + 1], coefficients[len(harmonics) + 1 :]
    slope = 1000 * (np.cos(phase) @ (angular * sines) - np.sin(phase) @ (angular * cosines))  # ml a second

    ed, es = int(smooth.argmax()), int(smooth.argmin())
    systole, diastole = (es - ed) % SAMPLES, (ed - es) % SAMPLES
    ejection = int(slope[(ed + np.arange(systole + 1)) % SAMPLES].argmin())
    filling = int(slope[(es + np.arange(diastole + 1)) % SAMPLES].argmax())
    step = beat / SAMPLES
    return Rates(
        times_ms=t,
        volume_ml=smooth,
        peak_ejection_ml_s=float(-slope[(ed + ejection) % SAMPLES]),
        peak_filling_ml_s=float(slope[(es + filling) % SAMPLES]),
        time_to_peak_ejection_ms=ejection * step,
        time_to_peak_filling_ms=filling * step,
    )


def _beat_ms(times_ms: Sequence[float]) -> float:
    """How long the beat is that these phases cover: the step after the last is as long as the others."""
    return float(times_ms[-1] - times_ms[0] + np.median(np.diff(times_ms)))
