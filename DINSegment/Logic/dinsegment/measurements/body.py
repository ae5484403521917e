"""Body size, by which the heart's numbers are indexed."""

from __future__ import annotations

import math
from typing import Literal

SurfaceFormula = Literal["mosteller", "dubois"]


def body_surface_area(height_m: float, weight_kg: float, formula: SurfaceFormula = "mosteller") -> float:
    """Body surface area in m2.

    Args:
        height_m: Height in metres.
        weight_kg: Weight in kilograms.
        formula: `mosteller` (R. D. Mosteller, N Engl J Med 317:1098, 1987) or `dubois` (D. Du Bois and E. F. Du Bois,
            Arch Intern Med 17:863, 1916).
    """
    height_cm = 100 * height_m
    if formula == "dubois":
        return 0.007184 * weight_kg**0.425 * height_cm**0.725
    return math.sqrt(height_cm * weight_kg / 3600)
