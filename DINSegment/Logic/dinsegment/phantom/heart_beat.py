"""The beating part of the heart phantom: ventricles, atria and great arteries; and an infarct, where one is given.

Positions are (x, y, z) in mm: x along a slice's rows to the image's right (the patient's left and back), y down its
columns (mostly to the feet), z from the heart's base to its apex; the origin is the middle of the stack.
Volumes are in ml.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dinsegment.phantom.heart_patient import Patient
from dinsegment.phantom.heart_shapes import NOWHERE, Slices, ellipse

END_DIASTOLE_PHASE = 0.0
END_SYSTOLE_PHASE = 0.35  # cycles; systole takes about a third of a beat at rest

RV, MYOCARDIUM, LV, INFARCT, NO_REFLOW = 1, 2, 3, 4, 5

WALL_PROFILE = 2.5  # exponent of the ventricle's radius along its axis; 2 is an ellipsoid, more is blunter
PROFILE_FILL = 1 - 1 / (WALL_PROFILE + 1)  # its volume over that of the enclosing cylinder
LONG_AXIS_MM = 75.0  # from the base to the apex, about: what shares of the way are in mm


@dataclass(frozen=True)
class Infarct:
    """Dead muscle of the left ventricle, as occlusion of one artery leaves it: from the cavity outwards.

    Attributes:
        towards: Radians, the direction of its middle from the left ventricle's axis, from that of the septum on.
        width: Radians that it spans.
        depth: Share of the wall's thickness that is dead, from the cavity on.
        begins: Where it begins, as a share of the way from the base to the apex.
        ends: Where it ends.
        no_reflow: Share of `width` and of `depth` that blood does not reach, in the middle at the cavity; 0 for none.
    """

    towards: float
    width: float
    depth: float
    begins: float
    ends: float
    no_reflow: float = 0.0


def _contraction(phase: float) -> float:
    """0 at end diastole, 1 at end systole, smooth; filling takes longer than ejection."""
    skew = (0.5 - END_SYSTOLE_PHASE) / np.sin(np.pi * END_SYSTOLE_PHASE) ** 2
    return float(np.sin(np.pi * (phase + skew * np.sin(np.pi * phase) ** 2)) ** 2)


def paint_heart(heart: Slices, patient: Patient, phase: float, infarct: Infarct | None) -> None:
    """The beating part: ventricles up to the plane of the valves, atria and great arteries above it."""
    beat = _contraction(phase)
    z, tissue = heart.z, heart.contrast
    rough, fine = heart.texture("epicardial fat", 25.0), heart.texture("trabeculae", 5.5)

    # The apex stays, the valve plane comes down and the wall thickens, because its volume is kept.
    descent = 15 * beat
    base, length = patient.base + descent, patient.length - descent
    cavity = patient.edv * (1 - patient.ejection_fraction * beat)
    cavity_length = length - (6 + 2 * beat)
    x = heart.x - patient.centre[0] - 0.1 * z
    y = heart.y - patient.centre[1] - 0.15 * z
    outer, epicardium = _bullet(x, y, z - base, length, cavity + patient.myocardium)
    inner, endocardium = _bullet(x, y, z - base, cavity_length, cavity)

    # The right ventricle lies between its free wall and the left one; s points to it, t along the septum.
    cos, sin = np.cos(patient.septum), np.sin(patient.septum)
    s, t = cos * x + sin * y, cos * y - sin * x
    level = np.clip((z - base) / (0.93 * length), 0, 1)
    reach = (patient.rv_reach * (1 - 0.45 * beat)) * (1 - level) ** 0.6
    in_rv = (z > base) & (level < 1)
    width = np.maximum(outer, 1)
    rv = ellipse(s - 0.42 * (width + reach), t, 0.58 * (width + reach), (1.14 - 0.3 * level) * width)
    rv = np.where(in_rv, rv, NOWHERE)

    above = int(np.count_nonzero(z < base))
    _paint_atria(heart.first(above), s[:above], t[:above], rough[:above])
    heart.paint(np.minimum(rv - 7, epicardium - 3.5) - 3.5 * rough, tissue.deep_fat)  # epicardial fat
    heart.paint(np.minimum(rv - 3 - 0.5 * beat, epicardium), tissue.heart_muscle)
    trabeculae = np.clip(1.2 * fine + rv / 8 + 1.2 * level - 0.3, 0, 1)  # most at the wall and the apex
    flow = 1 + 0.05 * rough + 0.04 * heart.texture("flow", 10.0)
    heart.paint(rv, tissue.rv_blood * flow - 0.55 * tissue.blood * trabeculae, RV)
    heart.paint(epicardium, tissue.heart_muscle * (1 + 0.15 * beat) * (1 + 0.07 * fine), MYOCARDIUM)
    if infarct:
        around = np.arctan2(t, s)
        _paint_infarct(heart, infarct, around, level, (inner, outer), (endocardium, epicardium))
    trabeculae = np.clip(1.3 * fine + endocardium / 2.5 + level, 0, 1)
    heart.paint(endocardium, tissue.blood * flow - 0.55 * tissue.blood * trabeculae, LV)

    twist = np.radians(8 * beat * (2 * level - 1))  # the apex turns against the base
    for angle in (125, -130):  # anterolateral and posteromedial papillary muscle
        turn = np.radians(angle) + twist
        place = (0.68 + 0.12 * beat) * inner
        muscle = np.hypot(s - place * np.cos(turn), t - place * np.sin(turn)) - 4.6
        muscle = np.where((level > 0.3) & (level < 0.8), np.maximum(muscle, endocardium), NOWHERE)
        heart.paint(muscle, 1.2 * tissue.heart_muscle, LV)


def _paint_infarct(
    heart: Slices,
    infarct: Infarct,
    around: np.ndarray,
    level: np.ndarray,
    radii: tuple[np.ndarray, np.ndarray],
    surfaces: tuple[np.ndarray, np.ndarray],
) -> None:
    """Dead muscle in the wall between two surfaces; the cavity, which is painted later, covers what lies inside of it.

    Args:
        heart: What is painted.
        infarct: Where.
        around: Radians about the left ventricle's axis, from the septum on.
        level: Share of the way from the base to the apex.
        radii: Of the endocardium and the epicardium at each depth, in mm.
        surfaces: Signed distances to them in mm.
    """
    (inner, outer), (endocardium, epicardium) = radii, surfaces
    middle, thickness = (inner + outer) / 2, outer - inner
    off = np.abs((around - infarct.towards + np.pi) % (2 * np.pi) - np.pi)
    rough, fine = heart.texture("infarct", 12.0), heart.texture("tissue", 7.0)
    along = LONG_AXIS_MM * (np.abs(level - (infarct.begins + infarct.ends) / 2) - (infarct.ends - infarct.begins) / 2)
    parts = ((1.0, heart.contrast.infarct, INFARCT), (infarct.no_reflow, heart.contrast.no_reflow, NO_REFLOW))
    for share, grey, label in parts:
        if share:
            across = middle * (off - share * infarct.width / 2)
            outwards = endocardium - share * infarct.depth * thickness
            inside = np.maximum(np.maximum(across, outwards), along + 8 * (1 - share)) + 1.2 * rough
            heart.paint(np.maximum(inside, epicardium), grey * (1 + 0.06 * fine), label)


def _bullet(
    x: np.ndarray, y: np.ndarray, depth: np.ndarray, length: float, volume: float
) -> tuple[np.ndarray, np.ndarray]:
    """Radius at each depth below the base, and signed distance to the surface, of a slightly oval bullet."""
    widest = np.sqrt(1000 * volume / (np.pi * length * PROFILE_FILL))
    radius = widest * np.sqrt(np.maximum(1 - np.abs(depth / length) ** WALL_PROFILE, 0))
    taper = np.gradient(radius, depth.ravel(), axis=0)  # the normal leans where the bullet tapers
    distance = ellipse(x, y, 1.03 * radius, radius / 1.03) / np.sqrt(1 + taper**2)
    return radius, np.where((depth > 0) & (radius > 0), distance, NOWHERE)


def _paint_atria(above: Slices, s: np.ndarray, t: np.ndarray, rough: np.ndarray) -> None:
    """Left atrium, right atrium, ascending aorta and pulmonary trunk, in the frame of the septum."""
    tissue = above.contrast
    left, right = ellipse(s + 2, t + 27, 36, 14), ellipse(s - 48, t + 12, 13, 27)
    aorta, pulmonary = np.hypot(s - 12, t - 8) - 14, ellipse(s - 36, t - 28, 15, 13)
    vessels = (
        (left, tissue.atrial_blood),
        (right, tissue.atrial_blood),
        (pulmonary, tissue.rv_blood),
        (aorta, tissue.blood),
    )
    inside = np.minimum.reduce([distance for distance, _ in vessels])
    above.paint(inside - 6 - 4 * rough, tissue.deep_fat)
    for distance, grey in vessels:
        above.paint(distance - 2, tissue.heart_muscle)
        above.paint(distance, grey * (1 + 0.1 * rough))
