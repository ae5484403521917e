"""What an abdomen phantom is made of: labels, portal venous Hounsfield units, and what patients differ in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dinsegment.phantom.ct_shapes import Texture

AORTA, GALLBLADDER, LEFT_KIDNEY, RIGHT_KIDNEY, LIVER, PANCREAS, SPLEEN, STOMACH = range(1, 9)

AIR, LUNG, FAT, DEEP_FAT, SKIN, MUSCLE = -1000.0, -850.0, -104.0, -98.0, 20.0, 58.0
CORTICAL_BONE, MARROW, CARTILAGE, DISC, NERVES = 650.0, 190.0, 95.0, 85.0, 30.0
ARTERY, VEIN, HEPATIC_VESSEL, HEART_MUSCLE = 150.0, 150.0, 150.0, 110.0
LIVER_HU, SPLEEN_HU, CORTEX, MEDULLA, PANCREAS_HU, BILE = 106.0, 118.0, 185.0, 160.0, 96.0, 9.0
STOMACH_WALL, CHYME, BOWEL_WALL, BOWEL_CONTENT, FAECES = 80.0, 28.0, 78.0, 22.0, 10.0

REACH_MM = 260.0  # of textures, from the origin


@dataclass(frozen=True)
class Patient:
    """What differs between seeds, within what is normal in an adult."""

    seed: int
    width: float  # relative to the usual adult's, as are the next two
    depth: float
    height: float
    fat: float  # under the skin, in mm
    liver: float  # relative size, as are the next four
    spleen: float
    kidneys: float
    stomach: float
    gallbladder: float
    left_lobe: float  # mm to the left
    kidney_heights: tuple[float, float]  # mm, of the left and the right one

    @classmethod
    def draw(cls, seed: int) -> Patient:
        """The patient of a seed."""
        u = np.random.default_rng(seed).uniform
        return cls(
            seed=seed,
            width=u(0.96, 1.06),
            depth=u(0.96, 1.06),
            height=u(0.96, 1.04),
            fat=u(10, 20),
            liver=u(0.94, 1.04),
            spleen=u(0.88, 1.14),
            kidneys=u(0.96, 1.05),
            stomach=u(0.92, 1.06),
            gallbladder=u(0.9, 1.15),
            left_lobe=u(-10, 10),
            kidney_heights=(u(0, 12), u(-12, 2)),
        )

    def texture(self, name: str, wavelength: float) -> Texture:
        """One of the patient's textures."""
        return Texture([self.seed, *name.encode()], wavelength, REACH_MM)


def spine_y(z: np.ndarray | float) -> np.ndarray | float:
    """Middle (y) of the vertebral bodies: the lumbar spine is bent forward."""
    return 42 - 14 * np.exp(-(((z + 55) / 75) ** 2))
