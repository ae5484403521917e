"""Probabilities that come true: how sure a network is, corrected by a temperature that belongs to the model."""

from __future__ import annotations

import numpy as np

LEAST = 0.01
"""Pixels in which the network gives less to all segments together are background, and stay as they are."""


def calibrated(foreground: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities at a temperature (C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017).

    The network's logits are divided by the temperature: above 1 it is less sure. The order of the classes, and so the
    most probable one, stays as it is.

    Args:
        foreground: Of the segments (segments, ...); what is left to 1 is background.
        temperature: Of the model.

    Returns:
        The same shape, float32.
    """
    out = np.array(foreground, np.float32)
    if temperature == 1.0:
        return out
    flat = out.reshape(len(out), -1)
    seen = np.flatnonzero(flat.sum(0) >= LEAST)
    every = np.concatenate((1 - flat[:, seen].sum(0, keepdims=True), flat[:, seen]))
    powers = np.clip(every, 0, 1) ** (1 / temperature)
    flat[:, seen] = powers[1:] / powers.sum(0)
    return out
