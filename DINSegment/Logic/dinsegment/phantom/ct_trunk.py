"""The trunk of an abdomen phantom: wall, chest, muscles and bones, with the cavity that the organs lie in.

The origin is the middle of the body at the height of the kidneys. What is painted later covers what was there before.
"""

from __future__ import annotations

import numpy as np

from dinsegment.phantom.ct_patient import (
    CARTILAGE,
    CORTICAL_BONE,
    DEEP_FAT,
    DISC,
    FAT,
    HEART_MUSCLE,
    LUNG,
    MARROW,
    MUSCLE,
    NERVES,
    SKIN,
    VEIN,
    Patient,
    spine_y,
)
from dinsegment.phantom.ct_shapes import NOWHERE, Canvas, blend

VERTEBRA_MM = 34.0  # height of a lumbar vertebra and its disc
RIB_MM = 27.0  # distance of ribs


def paint_trunk(canvas: Canvas, patient: Patient) -> None:
    """Everything but what lies in the cavity of the abdomen."""
    _paint_wall(canvas, patient)
    _paint_chest(canvas)
    _paint_muscles(canvas)
    _paint_spine(canvas)
    _paint_ribs(canvas)
    _paint_pelvis(canvas)


def _oval(canvas: Canvas, center_y: float, a: float, b: float) -> np.ndarray:
    """Distance to an upright cylinder with semi-axes a along x and b along y, a little boxier than an ellipse."""
    x, y = canvas.x, canvas.y - center_y
    u, v = (x / a) ** 2, (y / b) ** 2
    square = u + v - 0.45 * u * v
    slope = np.hypot(x / a**2 * (1 - 0.45 * v), y / b**2 * (1 - 0.45 * u))
    radius = np.sqrt(np.maximum(square, 1e-6))
    return (radius - 1) * radius / np.maximum(slope, 1e-6)


def _paint_wall(canvas: Canvas, patient: Patient) -> None:
    """Skin, fat, the muscular wall and the cavity, which is full of fat at first."""
    rough, fine = canvas.rough, canvas.fine
    skin = _oval(canvas, -3, 152 + patient.fat, 104 + patient.fat)
    canvas.paint(skin, SKIN)
    canvas.paint(skin + 2, FAT + 5 * fine)
    wall = _oval(canvas, -3, 152, 104) + 0.8 * rough
    canvas.paint(wall, MUSCLE + 6 * fine)
    cavity = _oval(canvas, -11, 139, 87) + 0.8 * rough
    lateral = (np.abs(canvas.x) > 75) & (canvas.z < 30)
    for depth in (4.5, 8.5):  # fat between the three flat muscles
        canvas.paint(np.where(lateral, np.abs(wall + depth) - 0.5, 5), DEEP_FAT)
    canvas.paint(cavity, DEEP_FAT + 6 * fine)
    canvas.distances["cavity"] = cavity


def _paint_chest(canvas: Canvas) -> None:
    """Lungs, heart and what is between them, above the domes of the diaphragm."""
    canvas.distances["domes"] = np.full(canvas.x.shape, -NOWHERE, np.float32)
    part = canvas.box((-1e3, -1e3, 0), (1e3, 1e3, 1e3), 0)
    if part.empty:
        return
    right = part.ellipsoid((-70, -8, 25), (86, 92, 96))
    left = part.ellipsoid((66, 0, 15), (84, 86, 92))
    domes = part.distances["domes"]
    domes[...] = blend(right, left, 24)
    cavity = part.distances["cavity"]
    above = np.maximum(cavity, -domes)
    deepest = 24 + 75 * np.clip((40 - part.y) / 125, 0, 1) - part.z  # the lungs' lower border is lowest behind
    part.paint(np.maximum(above, deepest - 1) - 2, MUSCLE)  # the diaphragm
    lung = np.maximum(above, deepest)
    part.paint(lung, LUNG + 25 * part.fine)
    part.paint(np.maximum(lung + 3, 2.2 * (1.75 - part.fine)), MUSCLE)  # vessels
    mediastinum = part.ellipsoid((4, 10, 150), (30, 55, 110)) + 2 * part.rough
    part.paint(np.maximum(mediastinum, above), DEEP_FAT)
    heart = part.ellipsoid((30, -32, 152), (66, 46, 48), (20, 12, 0)) + 1.5 * part.rough
    part.paint(np.maximum(heart - 6, above), DEEP_FAT)
    part.paint(np.maximum(heart, above + 1), HEART_MUSCLE)
    for center, axes, turn in (
        ((48, -28, 152), (34, 22, 27), (25, 15, 0)),
        ((6, -50, 150), (38, 18, 32), (15, 10, 0)),
        ((-22, -25, 158), (20, 24, 30), (0, 0, 0)),
    ):
        chamber = np.maximum(part.ellipsoid(center, axes, turn), np.maximum(heart + 4, above + 5))
        part.paint(chamber, VEIN + 5 * part.fine)


def _paint_muscles(canvas: Canvas) -> None:
    for side in (-1, 1):
        psoas = [(side * x, y, z) for x, y, z in ((26, 36, 22), (34, 36, -20), (44, 34, -70), (54, 28, -180))]
        part = canvas.around(psoas, 24)
        part.paint(part.tube(psoas, (6, 14, 19, 23)), MUSCLE + 6 * part.fine)
        part = canvas.box((min(side * 40, side * 90), 45, -130), (max(side * 40, side * 90), 85, 20), 4)
        quadratus = part.ellipsoid((side * 62, 66, -55), (21, 9, 75), (side * -12, 0, 0))
        part.paint(quadratus, MUSCLE + 6 * part.fine)
        crus = [(side * x + 2, y, z) for x, y, z in ((15, 20, 85), (14, 14, 45), (11, 12, 5), (9, 14, -25))]
        part = canvas.around(crus, 8)
        part.paint(part.tube(crus, (5, 5, 4, 2)), MUSCLE)
    front = canvas.box((-40, -1e3, -1e3), (40, -80, 60), 0)
    gap = np.maximum(np.abs(front.x) - 4, -front.distances["cavity"])  # the linea alba, between the straight muscles
    front.paint(np.maximum(gap, front.distances["cavity"] - 8), DEEP_FAT * 0.7)
    back = canvas.box((-90, 62, -1e3), (90, 98, 1e3), 0)
    streaks = np.maximum(np.abs(back.rough - 0.3) * 6 - 0.7, -back.distances["cavity"] + 6)
    back.paint(np.maximum(streaks, np.abs(back.x) - 80), DEEP_FAT * 0.7)  # fat between the muscles of the back


def _paint_spine(canvas: Canvas) -> None:
    part = canvas.box((-60, 0, -1e3), (60, 105, 1e3), 0)
    if part.empty:
        return
    x, y, fine = part.x, part.y - spine_y(part.z), part.fine
    level = (part.z + 0.15 * y + VERTEBRA_MM / 2) % VERTEBRA_MM - VERTEBRA_MM / 2  # from a vertebra's middle
    waist = 1 + 1.5 * (level / 13) ** 2  # endplates are wider than the middle
    body = np.maximum(np.hypot(x / 23, y / 17) - 1, 0.6 * (y - 13) / 17) * 19 - waist
    disc = np.abs(level) - 12.5
    part.paint(body, DISC)
    bone = np.maximum(body, disc)
    part.paint(bone, CORTICAL_BONE * 0.75)
    part.paint(bone + 2.2, MARROW + 35 * fine)
    arch = np.maximum(np.hypot(x / 17, (y - 27) / 15) * 15 - 15, np.abs(level - 2) - 11)
    part.paint(arch, CORTICAL_BONE * 0.8)
    part.paint(arch + 3, MARROW + 50 * fine)
    spinous = np.maximum(np.maximum(np.abs(x) - 3.5, np.abs(y - 48) - 14), np.abs(level + 4) - 9)
    part.paint(spinous, CORTICAL_BONE * 0.7)
    part.paint(spinous + 2, MARROW)
    transverse = np.maximum(np.hypot(y - 22 - 0.12 * np.abs(x), level - 3) - 4.5, np.abs(x) - 42)
    part.paint(transverse, CORTICAL_BONE * 0.6)
    facet = np.hypot(np.hypot(np.abs(x) - 18, y - 32), 0.7 * (np.abs(level) - 15)) - 8
    part.paint(facet, CORTICAL_BONE * 0.8)
    canal = np.hypot(x / 11, (y - 23) / 8.5) * 9 - 9
    part.paint(canal, DEEP_FAT * 0.4)
    part.paint(canal + 2.5, NERVES)


def _paint_ribs(canvas: Canvas) -> None:
    """Ribs in the wall of the chest; they slope down to the front, where they end in cartilage."""
    part = canvas.box((-1e3, -1e3, -30), (1e3, 1e3, 1e3), 0)
    if part.empty:
        return
    shell = part.distances["cavity"] - 6.5
    front = np.clip(-(part.y + 10) / 80, 0, 1)
    margin = -12 + 75 * front**1.3 + 12 * np.clip(part.y / 70, 0, 1)  # z of the lowest rib's end
    slope = part.z - 0.75 * part.y
    across = (slope % RIB_MM) - RIB_MM / 2
    rib = (np.hypot(shell / 3.6, across / 7) - 1) * 3.6
    rib = np.maximum(rib, np.maximum(margin - part.z, 24 - np.abs(part.x)))
    bony = front < 0.72
    part.paint(np.where(bony, rib, 5), CORTICAL_BONE * 0.8)
    part.paint(np.where(bony, rib + 1.5, 5), MARROW)
    part.paint(np.where(bony, 5, rib), CARTILAGE)
    sternum = part.ellipsoid((0, -93, 160), (18, 6, 75))
    part.paint(sternum, CORTICAL_BONE * 0.5)
    part.paint(sternum + 2, MARROW * 0.8)


def _paint_pelvis(canvas: Canvas) -> None:
    for side in (-1, 1):
        low, high = sorted((side * 30, side * 150))
        part = canvas.box((low, -80, -1e3), (high, 110, -95), 0)
        if part.empty:
            continue
        bowl = part.ellipsoid((0, -10, -190), (136, 100, 85))
        top = part.z + 120 + ((part.y - 30) / 11) ** 2
        wing = np.maximum(np.abs(bowl) - 4, np.maximum(45 - side * part.x, top))
        outside = np.maximum(np.maximum(bowl - 14, 50 - side * part.x), np.maximum(top + 4, -part.distances["cavity"]))
        part.paint(outside, MUSCLE + 6 * part.fine)
        part.paint(wing, CORTICAL_BONE * 0.8)
        part.paint(wing + 2, MARROW + 40 * part.fine)
        iliacus = np.maximum(np.maximum(bowl + 4, -bowl - 14), np.maximum(45 - side * part.x, top + 6))
        part.paint(iliacus, MUSCLE)
