"""What lies around the heart in the short-axis slices of the heart phantom, all of it still."""

from __future__ import annotations

import numpy as np

from dinsegment.phantom.heart_patient import Patient
from dinsegment.phantom.heart_shapes import Slices


def paint_chest(body: Slices, patient: Patient) -> None:
    """Everything around the heart, as a short-axis plane cuts it, and all of it still."""
    z, tissue = body.z, body.contrast
    rough, fine = body.texture("outlines", 30.0), body.texture("tissue", 7.0)

    torso = body.ellipse(-12 + 0.2 * z, 45 + 0.4 * z, 150, 146, 12)
    muscle = torso + patient.fat + 3.5 * rough
    cage = torso + patient.fat + 18
    body.paint(torso, tissue.muscle)  # skin
    body.paint(torso + 1.5, tissue.fat * (1.05 + 0.08 * rough))
    body.paint(muscle, tissue.muscle * (1 + 0.2 * fine))
    body.paint(np.maximum(muscle + 3, 6 * (1.0 - body.texture("chest wall fat", 28.0))), tissue.deep_fat)
    along = 150 * np.arctan2(body.y - 45 - 0.4 * z, body.x + 12)
    ribs = 4 * (np.hypot((cage - 3) / 4.5, ((along + 0.8 * z + 6 * rough) % 38 - 19) / 9) - 1)
    body.paint(ribs, tissue.bone)
    body.paint(ribs + 1.8, tissue.marrow)
    body.paint(cage, tissue.lung * (1 + 0.3 * fine))
    near_hilum = np.hypot(body.x - 40, body.y - 20) / 60
    body.paint(np.maximum(cage + 4, 2.5 * (1.1 + near_hilum - body.texture("lung vessels", 6.5))), tissue.vessel * 0.7)

    liver = np.maximum(cage, body.ellipse(-90, 73 - 0.35 * z, 110, 80, 8) + 2 * rough)
    left_dome = np.maximum(cage, body.ellipse(45, 98 - 0.65 * z, 95, 68, -10) + 2 * rough)
    body.paint(left_dome, tissue.muscle * (1.3 + 0.25 * fine))
    bowel = body.texture("bowel", 22.0) + 0.4 * fine
    body.paint(np.maximum(left_dome + 1.5, 6 * (0.1 - bowel)), tissue.deep_fat)
    body.paint(liver, tissue.liver * (1 + 0.06 * fine))
    body.paint(np.maximum(liver + 6, 3.0 * (1.75 - body.texture("liver vessels", 13.0))), tissue.vessel * 0.75)
    body.paint(body.ellipse(92, 100 - 0.5 * z, 36, 24, 50) + 2 * rough, tissue.spleen * (1 + 0.05 * fine))
    stomach = body.ellipse(34, 82 - 0.6 * z, 34, 22, -25) + 3 * rough
    body.paint(stomach, tissue.muscle)
    body.paint(stomach + 3.5, tissue.stomach * (1 + 0.25 * fine))

    growth = np.clip((z - 5) / 30, 0, 1)  # of the fat between the apex, the diaphragm and the chest wall
    pad = body.ellipse(patient.centre[0] + 4, patient.centre[1] + 22, 36 * growth, 14 * growth, 15)
    body.paint(pad + 5 * rough, tissue.deep_fat * (0.7 + 0.15 * fine))

    spine = body.ellipse(-58, 108, 23, 19, -30)
    body.paint(spine - 12, tissue.muscle * (1 + 0.2 * fine))
    body.paint(spine, tissue.bone)
    body.paint(spine + 1.5, tissue.marrow * (1 + 0.15 * fine))
    canal = body.ellipse(-76, 131, 11, 9)
    body.paint(canal, tissue.fluid)
    body.paint(canal + 4, tissue.muscle * 1.6)
    body.paint(body.ellipse(-18 - 0.1 * z, 62 + 0.1 * z, 13, 12.5), tissue.muscle)  # wall of the descending aorta
    body.paint(body.ellipse(-18 - 0.1 * z, 62 + 0.1 * z, 11, 10.5), tissue.vessel * (1.05 + 0.05 * fine))
    body.paint(body.ellipse(-62, 42 + 0.2 * z, 15, 9, -30), tissue.vessel)  # inferior vena cava
    body.paint(body.ellipse(-4, 52, 6, 4), tissue.muscle)  # oesophagus
    sternum = body.ellipse(-66 + 0.2 * z, -69 + 0.4 * z, 17, 6, -32)
    body.paint(sternum, tissue.bone)
    body.paint(sternum + 1.6, tissue.marrow * 1.3)
    arm = body.ellipse(172, 60, 34, 40)
    body.paint(arm, tissue.fat)
    body.paint(arm + patient.fat, tissue.muscle)
