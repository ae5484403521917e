"""The organs of an abdomen phantom, and bowel and vessels between them.

What is painted later covers what was there before: bowel, then the organs and, last, the vessels.
"""

from __future__ import annotations

import numpy as np

from dinsegment.phantom.ct_patient import (
    AIR,
    AORTA,
    ARTERY,
    BILE,
    BOWEL_CONTENT,
    BOWEL_WALL,
    CHYME,
    CORTEX,
    DEEP_FAT,
    FAECES,
    GALLBLADDER,
    HEPATIC_VESSEL,
    LEFT_KIDNEY,
    LIVER,
    LIVER_HU,
    MEDULLA,
    MUSCLE,
    PANCREAS,
    PANCREAS_HU,
    RIGHT_KIDNEY,
    SPLEEN,
    SPLEEN_HU,
    STOMACH,
    STOMACH_WALL,
    VEIN,
    Patient,
    spine_y,
)
from dinsegment.phantom.ct_shapes import Canvas, Point, blend

KIDNEY_X, KIDNEY_Y = 68.0, 38.0

HEPATIC_TREE = (
    ([(-22, 4, 104), (-48, 10, 90), (-84, 24, 62), (-108, 30, 30)], (7, 6, 4.5, 2.5)),  # right hepatic vein
    ([(-22, 2, 106), (-42, -22, 92), (-66, -50, 66), (-78, -60, 36)], (6, 5, 4, 2)),  # middle
    ([(-20, 0, 106), (-4, -24, 94), (18, -46, 80), (40, -52, 70)], (6, 5, 3.5, 2)),  # left
    ([(-30, -12, 46), (-58, -8, 46), (-84, -20, 38), (-108, -24, 22)], (7, 6.5, 4.5, 2.5)),  # right portal branch
    ([(-62, -8, 46), (-86, 14, 52), (-110, 20, 58)], (5, 4, 2.5)),
    ([(-62, -8, 46), (-84, -30, 60), (-100, -40, 74)], (5, 3.5, 2)),
    ([(-30, -12, 46), (-20, -34, 58), (-4, -48, 62), (26, -52, 64)], (6.5, 5.5, 4.5, 2.5)),  # left portal branch
)
"""Vessels in the liver: points (x, y, z) and radii."""


def paint_organs(canvas: Canvas, patient: Patient) -> None:
    """Everything in the cavity of the abdomen, with the labels of the organs."""
    _paint_bowel(canvas, patient)
    _paint_kidneys(canvas, patient)
    _paint_spleen(canvas, patient)
    _paint_stomach(canvas, patient)
    _paint_liver(canvas, patient)
    _paint_gallbladder(canvas, patient)
    _paint_veins(canvas)
    _paint_pancreas(canvas)
    _paint_arteries(canvas)


def _paint_bowel(canvas: Canvas, patient: Patient) -> None:
    rng = np.random.default_rng([patient.seed, 1])
    for number in range(22):  # small bowel: loops that wander through the middle of the lower abdomen
        place = np.array([rng.uniform(-70, 75), rng.uniform(-70, -20), -150 + 5.5 * number])
        points = [place]
        heading = rng.uniform(0, 2 * np.pi)
        for _ in range(9):
            heading += rng.uniform(-1.5, 1.5)
            step = 27 * np.array([np.cos(heading), 0.55 * np.sin(heading), rng.uniform(-0.5, 0.5)])
            place = np.clip(place + step, (-82, -76, -180), (90, -12, -22))
            points.append(place + rng.uniform(-4, 4, 3))
        radii = rng.uniform(8.5, 12.5, len(points))
        part = canvas.around(points, 13)
        bright = rng.uniform(-10, 45)
        gas = part.y - min(p[1] for p in points) + 4 if number % 5 == 0 else np.full_like(part.y, 5)
        _paint_gut(part, part.tube(points, radii) + 0.8 * part.rough, 2.2, BOWEL_CONTENT + bright + 8 * part.fine, gas)
    mesentery = canvas.box((-70, -70, -150), (75, -5, 10), 0)
    mesentery.paint(np.where(mesentery.grey < -60, 2.0 * (1.6 - mesentery.fine), 5), VEIN - 30)
    colon = (
        ([(-98, 5, -185), (-100, 10, -110), (-103, 8, -70), (-96, -18, -48)], (28, 25, 24, 22)),
        ([(-96, -18, -48), (-72, -58, -58), (-20, -74, -66), (40, -72, -48), (88, -50, -15), (108, -5, 18)],
         (22, 19, 17, 17, 18, 17)),
        ([(108, -5, 18), (116, 18, 10), (114, 22, -30), (108, 20, -90), (104, 5, -185)], (17, 16, 14, 13, 14)),
    )  # fmt: skip
    for points, radii in colon:
        part = canvas.around(points, 30)
        haustra = 1.6 * np.sin((part.x + part.y + part.z) / 5.5) + part.rough
        tube = part.tube(points, radii) + haustra
        mottled = FAECES + 30 * part.rough - 160 * (part.fine > 1.1)
        gas = part.y + 13 + 4 * part.rough
        _paint_gut(part, tube, 2.0, mottled, gas)
    duodenum = [
        (-32, -32, 22), (-50, -18, 14), (-54, 0, -8), (-48, 8, -34), (-20, 2, -44), (14, -16, -42), (40, -10, -22)
    ]  # fmt: skip
    part = canvas.around(duodenum, 14)
    tube = part.tube(duodenum, (11, 12.5, 13, 13, 11, 10, 11)) + 0.8 * part.rough
    _paint_gut(part, tube, 2.5, CHYME + 8 * part.fine, np.full_like(part.y, 5))


def _paint_gut(part: Canvas, tube: np.ndarray, wall: float, content: np.ndarray, gas: np.ndarray) -> None:
    """A piece of bowel in its fat: wall, content and, where that is negative, gas."""
    part.paint(tube - 2, DEEP_FAT)
    part.paint(tube, BOWEL_WALL)
    part.paint(tube + wall, content)
    part.paint(np.maximum(tube + wall, gas), AIR + 40)


def _kidney(part: Canvas, patient: Patient, side: int) -> np.ndarray:
    """Distance to the kidney on the left (1) or on the right (-1)."""
    center = (side * KIDNEY_X, KIDNEY_Y, patient.kidney_heights[side < 0])
    size = patient.kidneys
    semi_axes = (31 * size, 26 * size, 56 * size)
    return part.ellipsoid(center, semi_axes, (side * 30, side * 14, 8)) + 0.8 * part.rough


def _paint_kidneys(canvas: Canvas, patient: Patient) -> None:
    for side, label, height in zip((1, -1), (LEFT_KIDNEY, RIGHT_KIDNEY), patient.kidney_heights, strict=True):
        center = (side * KIDNEY_X, KIDNEY_Y, height)
        part = canvas.around([center], 70)
        if part.empty:
            continue
        kidney = _kidney(part, patient, side)
        hilum = (center[0] - side * 30, center[1] - 17, center[2])
        sinus = part.ellipsoid(hilum, (22, 13, 21), (side * 30, side * 14, 0)) + part.rough
        part.paint(kidney - 2.5, DEEP_FAT)
        part.paint(kidney, CORTEX + 5 * part.fine, label)
        inner = np.maximum(kidney + 8, 3 * (0.1 - part.fine - 0.6 * part.rough))
        part.paint(inner, MEDULLA, label)
        part.paint(sinus, DEEP_FAT + 10)
        part.paint(np.maximum(sinus + 5, 2 * (0.7 - part.fine)), VEIN - 20)
        _paint_vessel(part, [hilum, (hilum[0] + side * 14, hilum[1] + 8, hilum[2])], (4, 3), VEIN)


def _paint_spleen(canvas: Canvas, patient: Patient) -> None:
    center, size = (98, 40, 66), patient.spleen
    part = canvas.around([center], 60)
    spleen = part.ellipsoid(center, (34 * size, 52 * size, 56 * size), (28, 12, -20)) + 1.2 * part.rough
    hollow = blend(part.ellipsoid((58, -14, 70), (45, 46, 60)), _kidney(part, patient, 1) - 5, 10)
    spleen = np.maximum(np.maximum(spleen, part.distances["domes"] + 3), -hollow)
    part.paint(spleen - 3, DEEP_FAT)
    part.paint(spleen, SPLEEN_HU + 3 * part.fine, SPLEEN)


def _paint_stomach(canvas: Canvas, patient: Patient) -> None:
    """Fluid behind, gas in front, as in a patient who lies on the back."""
    size = patient.stomach
    points = [(56, 6, 96), (60, -12, 84), (64, -38, 58), (50, -56, 30), (16, -58, 10), (-14, -46, 12), (-34, -30, 22)]
    radii = [r * size for r in (28, 34, 33, 27, 21, 16, 7)]
    oesophagus = [(16, -2, 160), (18, 2, 120), (24, 4, 98), (36, 4, 90)]
    _paint_vessel(canvas, oesophagus, (8, 8, 8, 8), MUSCLE)
    part = canvas.around(points, max(radii))
    stomach = np.maximum(part.tube(points, radii) + 1.5 * part.rough, part.distances["domes"] + 4)
    part.paint(stomach - 3, DEEP_FAT)
    part.paint(stomach, STOMACH_WALL, STOMACH)
    wall = 3.5 + 1.5 * np.clip(part.fine, 0, 2) + 2.5 * np.clip(-part.x / 30, 0, 1)
    part.paint(stomach + wall, CHYME + 8 * part.rough + 8 * part.fine, STOMACH)
    part.paint(np.maximum(stomach + wall, part.y + 60), AIR + 30, STOMACH)


def _paint_liver(canvas: Canvas, patient: Patient) -> None:
    part, size = canvas.box((-170, -110, -90), (110, 100, 140), 0), patient.liver
    if part.empty:
        return
    x, y, z = part.x, part.y, part.z
    right = part.ellipsoid((-76, -6, 30), (66 * size, 80 * size, 92 * size))
    right = np.maximum(right, 0.60 * (x + 58) + 0.30 * (y - 8) - 0.74 * (z - 6) + 3 * part.rough)
    shift = patient.left_lobe
    left = part.ellipsoid((shift, -50, 64), (70 * size, 38 * size, 42 * size), (-8, 0, 0))
    left = np.maximum(left, 0.45 * (x - shift) + 0.25 * (y + 40) - 0.86 * (z - 46) + 2 * part.rough)
    caudate = part.ellipsoid((-14, -4, 62), (20, 14, 28))
    liver = blend(blend(right, left, 22), caudate, 10)
    cava = part.tube([(-26, 12, 0), (-26, 12, 50), (-26, 12, 80), (-20, 0, 128)], (12, 13, 14, 14))
    behind = part.ellipsoid((-60, 64, patient.kidney_heights[1] - 4), (46, 54, 66), (0, -14, 8))  # the kidney's place
    ligament = np.maximum(np.abs(x + 22) - 2.5, np.maximum(y + 62, z - 62))
    for outside in (-cava, -ligament, -behind, part.distances["domes"] + 2.5):
        liver = np.maximum(liver, outside)
    part.paint(liver - 2, DEEP_FAT)
    part.paint(liver, LIVER_HU + 3 * part.fine + 2 * part.rough, LIVER)
    part.distances["liver"] = liver
    for points, radii in HEPATIC_TREE:
        near = part.around(points, max(radii))
        vessel = np.maximum(near.tube(points, radii), near.distances["liver"] + 3)
        near.paint(vessel, HEPATIC_VESSEL, LIVER)


def _paint_gallbladder(canvas: Canvas, patient: Patient) -> None:
    size = patient.gallbladder
    points = [(-34, -22, 22), (-44, -36, 8), (-54, -52, -8), (-58, -60, -16)]
    part = canvas.around(points, 20)
    gallbladder = part.tube(points, [r * size for r in (4, 10, 14.5, 12.5)])
    part.paint(gallbladder - 1, 45.0)
    part.paint(gallbladder, BILE + 2 * part.fine, GALLBLADDER)


def _paint_pancreas(canvas: Canvas) -> None:
    """The head in the arch of the duodenum, the body in front of the splenic vein, the tail at the spleen."""
    points = [(-32, -8, -20), (-33, -12, 0), (-22, -22, 16), (2, -28, 24), (28, -16, 33), (52, 0, 45), (75, 12, 57)]
    radii = (9, 17, 12.5, 11, 12, 12.5, 9)
    part = canvas.around(points, 18)
    pancreas = part.tube(points, radii) + 1.1 * part.fine + 0.8 * part.rough
    part.paint(pancreas - 2.5, DEEP_FAT)
    part.paint(pancreas, PANCREAS_HU + 5 * part.fine, PANCREAS)
    splenic = [(92, 30, 62), (62, 16, 50), (34, -2, 36), (8, -16, 24), (-8, -14, 22)]
    _paint_vessel(canvas, splenic, (4, 4.5, 5, 5.5, 6.5), VEIN)
    _paint_vessel(canvas, [(-8, -14, 20), (-16, -10, 34), (-30, -12, 46)], (7, 7, 7), VEIN)


def _paint_vessel(canvas: Canvas, points: list[Point], radii: tuple[float, ...], grey: float, label: int = 0) -> None:
    part = canvas.around(points, max(radii))
    part.paint(part.tube(points, radii), grey + 3 * part.fine, label)


def _paint_veins(canvas: Canvas) -> None:
    """The inferior vena cava, the veins of the kidneys and those of the mesentery."""
    cava = [(-24, spine_y(z) - 30, z) for z in (-95, -60, -20, 20)] + [(-26, 12, 50), (-26, 12, 80), (-20, 0, 128)]
    _paint_vessel(canvas, cava, (10, 11, 11, 12, 13, 14, 14), VEIN - 12)
    for side in (-1, 1):
        iliac = [(-24, 0, -95), (side * 32 - 6, 12, -130), (side * 48, 20, -185)]
        _paint_vessel(canvas, iliac, (10, 8, 8), VEIN - 15)
    _paint_vessel(canvas, [(-24, 4, 8), (8, -9, 12), (30, 4, 14), (46, 20, 14)], (5, 4.5, 5, 6), VEIN)
    _paint_vessel(canvas, [(-30, 8, 0), (-46, 22, -2)], (5, 6), VEIN)
    _paint_vessel(canvas, [(-8, -14, 20), (-8, -20, 0), (-10, -24, -40), (-18, -34, -90)], (6.5, 6, 5, 3), VEIN)


def _paint_arteries(canvas: Canvas) -> None:
    """The aorta down to its bifurcation, which is what its label holds, and its branches."""
    _paint_vessel(canvas, [(8, 2, 10), (28, 14, 12), (44, 24, 14)], (3, 3, 3), ARTERY)
    _paint_vessel(canvas, [(8, 2, 8), (-20, 18, 4), (-44, 26, 2)], (3, 3, 3), ARTERY)
    _paint_vessel(canvas, [(8, -4, 32), (6, -18, 16), (6, -22, -20), (0, -30, -80)], (4, 4, 4, 2.5), ARTERY)
    _paint_vessel(canvas, [(12, 0, 46), (10, -16, 48), (-14, -20, 48), (-26, -18, 46)], (4, 3.5, 3, 3), ARTERY)
    _paint_vessel(canvas, [(10, -16, 48), (40, 4, 48), (84, 30, 62)], (3, 2.5, 2.5), ARTERY)
    heights = np.array([190, 120, 80, 40, 0, -40, -75, -98])
    points = np.stack([np.interp(heights, [-98, 60, 190], [7, 14, 24]), spine_y(heights) - 31, heights], axis=1)
    part = canvas.around(points, 14)
    aorta = part.tube(points, (12, 11.5, 11, 10, 9.5, 9, 8.5, 8.5))
    part.paint(aorta - 1, DEEP_FAT)
    for side in (-1, 1):
        _paint_vessel(canvas, [(7, -1, -97), (side * 24 + 4, 6, -125), (side * 42, 10, -185)], (7, 6.5, 6), ARTERY)
    part.paint(np.maximum(aorta, -99 - part.z), ARTERY + 2 * part.fine, AORTA)
