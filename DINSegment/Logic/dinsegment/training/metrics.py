"""Scores of labels against the experts'."""

from __future__ import annotations

import numpy as np


def dice(labels: np.ndarray, truth: np.ndarray, label: int) -> float:
    """Dice of one segment over a whole volume, 0..1; 1 where neither has it."""
    a, b = labels == label, truth == label
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / total if total else 1.0
