"""Who the heart phantom's patient is: what differs between seeds, within what is normal in an adult.

Positions are (x, y, z) in mm: x along a slice's rows to the image's right (the patient's left and back), y down its
columns (mostly to the feet), z from the heart's base to its apex; the origin is the middle of the stack.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Patient:
    """What differs between seeds, within what is normal in an adult."""

    edv: float  # end-diastolic volume of the left ventricle
    ejection_fraction: float
    myocardium: float  # volume, the same all through the beat
    base: float  # z of the valve plane at end diastole
    length: float  # from there to the epicardial apex
    rv_reach: float  # septum to free wall at the base, at end diastole
    septum: float  # radians, direction from the left to the right ventricle
    centre: tuple[float, float]
    roll: float  # radians, of the body in the image
    fat: float  # under the skin
    texture_seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Patient:
        u = rng.uniform
        return cls(
            edv=u(122, 158),
            ejection_fraction=u(0.55, 0.61),
            myocardium=u(100, 125),
            base=u(-41, -39),
            length=u(78, 84),
            rv_reach=u(39, 44),
            septum=np.radians(u(190, 215)),
            centre=(u(0, 14), u(-27, -17)),
            roll=np.radians(u(-8, 8)),
            fat=u(6, 13),
            texture_seed=int(rng.integers(2**31)),
        )

    def texture(self, axes: list[np.ndarray], name: str, wavelength: float) -> np.ndarray:
        """Smooth noise (k, j, i) of mean 0 and variance about 1, fixed in the body whatever the grid."""
        rng = np.random.default_rng([self.texture_seed, *name.encode()])
        lattices = [
            np.arange(-reach, reach, max(wavelength, least) / 2) for reach, least in ((80, 12), (220, 0), (220, 0))
        ]
        field = rng.standard_normal([len(lattice) for lattice in lattices], dtype=np.float32)
        for axis, lattice in zip(axes, lattices, strict=True):  # each pass spreads one axis and moves it last
            width = lattice[1] - lattice[0]
            spread = np.exp(-(((axis[:, None] - lattice) / width) ** 2)).astype(np.float32)
            spread /= np.sqrt((spread**2).sum(axis=1, keepdims=True)) + 1e-6
            field = np.tensordot(field, spread, axes=(0, 1))
        return field
