"""How bright tissues of the chest are in the images of two sequences.

Greys are relative to the brightest tissue of the heart. They follow what the sequences are known to show: in a balanced
cine, blood is bright and muscle dark, and fat, which opposes water at the echo time, is negative, so that voxels
that share both turn dark (the India ink line). In late enhancement, some ten minutes after a gadolinium contrast agent,
an inversion pulse makes normal muscle black; an infarct, which keeps the agent, is bright, no-reflow in it, which the
agent does not reach, black, and blood in between.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Contrast:
    """Greys of tissues.

    Attributes:
        blood: In the left ventricle and the aorta's root.
        rv_blood: In the right ventricle and the pulmonary trunk.
        atrial_blood: In both atria.
        vessel: Blood in other vessels.
        heart_muscle: Normal muscle of the heart.
        infarct: Dead muscle that blood reaches.
        no_reflow: Dead muscle that it does not reach.
        muscle: Muscle of the trunk, skin, and walls of hollow organs.
        liver, spleen, stomach: Those organs; of the last one, what it holds.
        lung: The lungs.
        bone: Cortical bone.
        marrow: Bone marrow.
        fluid: Cerebrospinal fluid.
        fat, deep_fat: Under the skin, and elsewhere.
        noise: Of each receiver channel.
        balanced: Whether off-resonance makes bands, as in balanced steady-state free precession.
    """

    blood: float
    rv_blood: float
    atrial_blood: float
    vessel: float
    heart_muscle: float
    infarct: float
    no_reflow: float
    muscle: float
    liver: float
    spleen: float
    stomach: float
    lung: float
    bone: float
    marrow: float
    fluid: float
    fat: float
    deep_fat: float
    noise: float
    balanced: bool


CINE = Contrast(
    blood=1.0,
    rv_blood=0.86,
    atrial_blood=0.68,
    vessel=1.1,
    heart_muscle=0.32,
    infarct=0.36,
    no_reflow=0.30,
    muscle=0.24,
    liver=0.24,
    spleen=0.36,
    stomach=0.42,
    lung=0.06,
    bone=0.05,
    marrow=0.3,
    fluid=1.4,
    fat=-0.95,
    deep_fat=-0.75,
    noise=0.025,
    balanced=True,
)
"""Balanced cine; of blood at a signal-to-noise ratio of 40."""

LATE_ENHANCEMENT = Contrast(
    blood=0.72,
    rv_blood=0.7,
    atrial_blood=0.68,
    vessel=0.7,
    heart_muscle=0.14,
    infarct=1.0,
    no_reflow=0.16,
    muscle=0.3,
    liver=0.42,
    spleen=0.5,
    stomach=0.2,
    lung=0.06,
    bone=0.05,
    marrow=0.5,
    fluid=0.25,
    fat=0.9,
    deep_fat=0.8,
    noise=0.035,
    balanced=False,
)
"""Inversion-recovery gradient echo, after contrast agent."""
