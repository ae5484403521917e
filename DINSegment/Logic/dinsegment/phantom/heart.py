"""A beating-heart phantom: short-axis cine MR with known truth, for demonstrations and tests without images.

Lengths are in mm, volumes in ml. Positions are (x, y, z): x along a slice's rows to the image's right (the
patient's left and back), y down its columns (mostly to the feet), z from the heart's base to its apex; the
origin is the middle of the stack. Greys are relative to left ventricular blood. Fat is negative: at the echo
time of balanced SSFP it opposes water, so voxels that share both turn dark (the India ink line).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from scipy import fft

from dinsegment.images.volume import Volume

END_DIASTOLE_PHASE = 0.0
END_SYSTOLE_PHASE = 0.35  # cycles; systole takes about a third of a beat at rest

RV, MYOCARDIUM, LV = 1, 2, 3

BLOOD, RV_BLOOD, ATRIAL_BLOOD, VESSEL = 1.0, 0.86, 0.68, 1.1
MUSCLE, LIVER, SPLEEN, STOMACH = 0.24, 0.24, 0.36, 0.42
HEART_MUSCLE = 0.32
LUNG, CORTICAL_BONE, MARROW, FLUID = 0.06, 0.05, 0.3, 1.4
FAT, DEEP_FAT = -0.95, -0.75
BLOOD_SIGNAL = 300.0  # scanner units of grey 1
SAMPLED = 0.8  # resolution acquired over resolution of the grid, as scanners interpolate
NOISE = 0.025  # of BLOOD, per receiver channel: a blood signal-to-noise ratio of 40

WALL_PROFILE = 2.5  # exponent of the ventricle's radius along its axis; 2 is an ellipsoid, more is blunter
PROFILE_FILL = 1 - 1 / (WALL_PROFILE + 1)  # its volume over that of the enclosing cylinder
SUBSLICES = 4  # samples through a slice's thickness
HEART_WINDOW = ((-115.0, 55.0), (-85.0, 85.0))  # range of y and of x that holds every patient's heart
NOWHERE = 1e3  # distance to a shape that this slice does not cut

LEFT_POSTERIOR = (-np.sqrt(0.5), -np.sqrt(0.5), 0.0)  # RAS direction of x
TO_APEX = (-0.6, 0.6, -0.53)  # of z: the long axis of the heart points left, forward and down
TO_FEET = np.cross(LEFT_POSTERIOR, TO_APEX)  # of y, with some of right and back

_Number = np.ndarray | float


@dataclass(frozen=True, eq=False)
class Phantom:
    """One cardiac phase and its truth.

    Attributes:
        volume: The image (k, j, i), float32 with whole numbers, base to apex along k; modality MR.
        labels: Truth (k, j, i), uint8: 1 right ventricle, 2 left ventricular myocardium, 3 left ventricle.
            Papillary muscles and trabeculae count as cavity, the convention of the ACDC challenge.
    """

    volume: Volume
    labels: np.ndarray


def heart_phantom(
    phase: float = END_DIASTOLE_PHASE,
    *,
    seed: int = 0,
    slices: int = 12,
    spacing: tuple[float, float, float] = (8.0, 1.4, 1.4),
    size: tuple[int, int] = (200, 224),
) -> Phantom:
    """One phase of a beating heart.

    Args:
        phase: In cycles: 0 is end diastole, END_SYSTOLE_PHASE end systole; smooth, and repeats at 1.
        seed: The patient. Equal seeds give equal voxels; phases of one seed share the anatomy, not the noise.
        slices: Short-axis slices, centred on the heart.
        spacing: Millimetres along (k, j, i).
        size: Rows and columns.
    """
    phase = round(phase % 1.0, 9) % 1.0  # 1.3 % 1.0 is not quite 0.3
    patient = _Patient.draw(np.random.default_rng(seed))
    axes = _axes(slices, size, spacing)
    grey = _still(seed, slices, tuple(spacing), tuple(size)).copy()
    labels = _insert_heart(grey, patient, axes, spacing[0], phase)
    noise = np.random.default_rng([seed, round(phase * 1e9)])
    array = _acquire(grey, patient, axes, noise)
    name = f"heart phantom {seed}, phase {phase:g}"
    return Phantom(Volume(array, _ijk_to_ras(axes, spacing), name, modality="MR", source="phantom"), labels)


def cine_phantom(phases: int = 2, *, seed: int = 0, **grid: Any) -> list[Phantom]:
    """The beat as a list of phases on one grid.

    Args:
        phases: 2 gives end diastole and end systole; any other number so many phases at equal intervals.
        seed: The patient.
        grid: `slices`, `spacing` and `size` of `heart_phantom`.
    """
    if phases < 1:
        raise ValueError(f"A cine has at least one phase, not {phases}.")
    times = (END_DIASTOLE_PHASE, END_SYSTOLE_PHASE) if phases == 2 else np.arange(phases) / phases
    return [heart_phantom(float(time), seed=seed, **grid) for time in times]


def _axes(slices: int, size: tuple[int, int], spacing: tuple[float, float, float]) -> list[np.ndarray]:
    """Positions (mm) of slices, rows and columns, about the middle."""
    return [(np.arange(n) - (n - 1) / 2) * step for n, step in zip((slices, *size), spacing, strict=True)]


def _contraction(phase: float) -> float:
    """0 at end diastole, 1 at end systole, smooth; filling takes longer than ejection."""
    skew = (0.5 - END_SYSTOLE_PHASE) / np.sin(np.pi * END_SYSTOLE_PHASE) ** 2
    return float(np.sin(np.pi * (phase + skew * np.sin(np.pi * phase) ** 2)) ** 2)


@dataclass(frozen=True)
class _Patient:
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
    def draw(cls, rng: np.random.Generator) -> _Patient:
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


@dataclass(eq=False)
class _Slices:
    """Slices being painted: positions in the body, greys, and how much of each voxel is which label."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    edge: float  # width over which a border is shared: a pixel
    grey: np.ndarray
    texture: Callable[[str, float], np.ndarray]  # name and wavelength: see `_Patient.texture`
    share: np.ndarray | None = None  # (label, k, j, i)

    @classmethod
    def of(cls, patient: _Patient, axes: list[np.ndarray], bend: float) -> _Slices:
        """Positions on a grid, bent by about so many mm: no organ is an ellipse."""
        z, y, x = np.meshgrid(*(axis.astype(np.float32) for axis in axes), indexing="ij", sparse=True)
        cos, sin = np.cos(patient.roll), np.sin(patient.roll)
        bend_x, bend_y = (bend * patient.texture(axes, name, 55.0) for name in ("bend x", "bend y"))
        x, y = cos * x + sin * y + bend_x, cos * y - sin * x + bend_y
        edge = float(axes[1][1] - axes[1][0])
        return cls(x, y, z, edge, np.zeros_like(x), partial(patient.texture, axes))

    def paint(self, distance: np.ndarray, grey: _Number, label: int = 0) -> None:
        """Covers what lies inside (negative distance), the border voxels in part."""
        cover = np.clip(0.5 - distance / self.edge, 0, 1)
        box = _box(cover > 0)  # Elsewhere nothing changes.
        cover, before = cover[box], self.grey[box]
        before += cover * (np.broadcast_to(grey, self.grey.shape)[box] - before)
        if self.share is not None:
            share = self.share[(slice(None), *box)]
            share *= 1 - cover
            share[label] += cover

    def first(self, count: int) -> _Slices:
        """So many of the slices: what is painted there is painted here."""
        share = None if self.share is None else self.share[:, :count]
        here = (array[:count] for array in (self.x, self.y, self.z))
        return _Slices(*here, self.edge, self.grey[:count], self.texture, share)

    def ellipse(self, x: _Number, y: _Number, a: _Number, b: _Number, degrees: float = 0) -> np.ndarray:
        """Signed distance to an ellipse, to first order: centre, semi-axes, turn towards y."""
        return _ellipse(self.x - x, self.y - y, a, b, np.radians(degrees))


def _box(inside: np.ndarray) -> tuple[slice, ...]:
    """The slices, rows and columns that hold all that is inside."""
    box = []
    for axis in range(inside.ndim):
        there = np.flatnonzero(inside.any(axis=tuple(n for n in range(inside.ndim) if n != axis)))
        box.append(slice(there[0], there[-1] + 1) if len(there) else slice(0))
    return tuple(box)


def _ellipse(x: np.ndarray, y: np.ndarray, a: _Number, b: _Number, turn: float = 0.0) -> np.ndarray:
    cos, sin = np.cos(turn), np.sin(turn)
    a, b = np.maximum(a, 1e-3), np.maximum(b, 1e-3)
    u, v = (cos * x + sin * y) / a, (cos * y - sin * x) / b
    r = np.sqrt(u * u + v * v)
    return (r - 1) * r / np.maximum(np.hypot(u / a, v / b), 1e-6)


@lru_cache(maxsize=1)
def _still(seed: int, slices: int, spacing: tuple[float, float, float], size: tuple[int, int]) -> np.ndarray:
    """Greys (k, j, i) of all that does not beat: painted once for the phases of a cine, which copy them."""
    patient = _Patient.draw(np.random.default_rng(seed))
    axes = _axes(slices, size, spacing)
    body = _Slices.of(patient, axes, bend=2.5)
    _paint_body(body, patient)
    body.grey.flags.writeable = False
    return body.grey


def _paint_body(body: _Slices, patient: _Patient) -> None:
    """Everything around the heart, as a short-axis plane cuts it, and all of it still."""
    z = body.z
    rough, fine = body.texture("outlines", 30.0), body.texture("tissue", 7.0)

    torso = body.ellipse(-12 + 0.2 * z, 45 + 0.4 * z, 150, 146, 12)
    muscle = torso + patient.fat + 3.5 * rough
    cage = torso + patient.fat + 18
    body.paint(torso, MUSCLE)  # skin
    body.paint(torso + 1.5, FAT * (1.05 + 0.08 * rough))
    body.paint(muscle, MUSCLE * (1 + 0.2 * fine))
    body.paint(np.maximum(muscle + 3, 6 * (1.0 - body.texture("chest wall fat", 28.0))), DEEP_FAT)
    along = 150 * np.arctan2(body.y - 45 - 0.4 * z, body.x + 12)
    ribs = 4 * (np.hypot((cage - 3) / 4.5, ((along + 0.8 * z + 6 * rough) % 38 - 19) / 9) - 1)
    body.paint(ribs, CORTICAL_BONE)
    body.paint(ribs + 1.8, MARROW)
    body.paint(cage, LUNG * (1 + 0.3 * fine))
    near_hilum = np.hypot(body.x - 40, body.y - 20) / 60
    body.paint(np.maximum(cage + 4, 2.5 * (1.1 + near_hilum - body.texture("lung vessels", 6.5))), VESSEL * 0.7)

    liver = np.maximum(cage, body.ellipse(-90, 73 - 0.35 * z, 110, 80, 8) + 2 * rough)
    left_dome = np.maximum(cage, body.ellipse(45, 98 - 0.65 * z, 95, 68, -10) + 2 * rough)
    body.paint(left_dome, MUSCLE * (1.3 + 0.25 * fine))
    bowel = body.texture("bowel", 22.0) + 0.4 * fine
    body.paint(np.maximum(left_dome + 1.5, 6 * (0.1 - bowel)), DEEP_FAT)
    body.paint(liver, LIVER * (1 + 0.06 * fine))
    body.paint(np.maximum(liver + 6, 3.0 * (1.75 - body.texture("liver vessels", 13.0))), VESSEL * 0.75)
    body.paint(body.ellipse(92, 100 - 0.5 * z, 36, 24, 50) + 2 * rough, SPLEEN * (1 + 0.05 * fine))
    stomach = body.ellipse(34, 82 - 0.6 * z, 34, 22, -25) + 3 * rough
    body.paint(stomach, MUSCLE)
    body.paint(stomach + 3.5, STOMACH * (1 + 0.25 * fine))

    growth = np.clip((z - 5) / 30, 0, 1)  # of the fat between the apex, the diaphragm and the chest wall
    pad = body.ellipse(patient.centre[0] + 4, patient.centre[1] + 22, 36 * growth, 14 * growth, 15)
    body.paint(pad + 5 * rough, DEEP_FAT * (0.7 + 0.15 * fine))

    spine = body.ellipse(-58, 108, 23, 19, -30)
    body.paint(spine - 12, MUSCLE * (1 + 0.2 * fine))
    body.paint(spine, CORTICAL_BONE)
    body.paint(spine + 1.5, MARROW * (1 + 0.15 * fine))
    canal = body.ellipse(-76, 131, 11, 9)
    body.paint(canal, FLUID)
    body.paint(canal + 4, MUSCLE * 1.6)
    body.paint(body.ellipse(-18 - 0.1 * z, 62 + 0.1 * z, 13, 12.5), MUSCLE)  # wall of the descending aorta
    body.paint(body.ellipse(-18 - 0.1 * z, 62 + 0.1 * z, 11, 10.5), VESSEL * (1.05 + 0.05 * fine))
    body.paint(body.ellipse(-62, 42 + 0.2 * z, 15, 9, -30), VESSEL)  # inferior vena cava
    body.paint(body.ellipse(-4, 52, 6, 4), MUSCLE)  # oesophagus
    sternum = body.ellipse(-66 + 0.2 * z, -69 + 0.4 * z, 17, 6, -32)
    body.paint(sternum, CORTICAL_BONE)
    body.paint(sternum + 1.6, MARROW * 1.3)
    arm = body.ellipse(172, 60, 34, 40)
    body.paint(arm, FAT)
    body.paint(arm + patient.fat, MUSCLE)


def _insert_heart(
    grey: np.ndarray, patient: _Patient, axes: list[np.ndarray], thickness: float, phase: float
) -> np.ndarray:
    """Paints the heart over the body's greys, averaged through the thickness of a slice; returns the labels."""
    rows, columns = (slice(*np.searchsorted(a, w)) for a, w in zip(axes[1:], HEART_WINDOW, strict=True))
    window = (slice(None), rows, columns)
    within = thickness * ((np.arange(SUBSLICES) + 0.5) / SUBSLICES - 0.5)
    depth = (axes[0][:, None] + within).ravel()
    heart = _Slices.of(patient, [depth, axes[1][rows], axes[2][columns]], bend=0.7)
    heart.grey = np.repeat(grey[window], SUBSLICES, axis=0)
    heart.share = np.zeros((4, *heart.grey.shape), np.float32)
    heart.share[0] = 1
    _paint_heart(heart, patient, phase)

    def through_plane(fine: np.ndarray) -> np.ndarray:
        return fine.reshape(*fine.shape[:-3], len(axes[0]), SUBSLICES, *fine.shape[-2:]).mean(axis=-3)

    grey[window] = through_plane(heart.grey)
    labels = np.zeros(grey.shape, np.uint8)
    labels[window] = through_plane(heart.share).argmax(axis=0)
    return labels


def _paint_heart(heart: _Slices, patient: _Patient, phase: float) -> None:
    """The beating part: ventricles up to the plane of the valves, atria and great arteries above it."""
    beat = _contraction(phase)
    z = heart.z
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
    rv = _ellipse(s - 0.42 * (width + reach), t, 0.58 * (width + reach), (1.14 - 0.3 * level) * width)
    rv = np.where(in_rv, rv, NOWHERE)

    above = int(np.count_nonzero(z < base))
    _paint_atria(heart.first(above), s[:above], t[:above], rough[:above])
    heart.paint(np.minimum(rv - 7, epicardium - 3.5) - 3.5 * rough, DEEP_FAT)  # epicardial fat
    heart.paint(np.minimum(rv - 3 - 0.5 * beat, epicardium), HEART_MUSCLE)
    trabeculae = np.clip(1.2 * fine + rv / 8 + 1.2 * level - 0.3, 0, 1)  # most at the wall and the apex
    flow = 1 + 0.05 * rough + 0.04 * heart.texture("flow", 10.0)
    heart.paint(rv, RV_BLOOD * flow - 0.55 * trabeculae, RV)
    heart.paint(epicardium, HEART_MUSCLE * (1 + 0.15 * beat) * (1 + 0.07 * fine), MYOCARDIUM)
    trabeculae = np.clip(1.3 * fine + endocardium / 2.5 + level, 0, 1)
    heart.paint(endocardium, BLOOD * flow - 0.55 * trabeculae, LV)

    twist = np.radians(8 * beat * (2 * level - 1))  # the apex turns against the base
    for angle in (125, -130):  # anterolateral and posteromedial papillary muscle
        turn = np.radians(angle) + twist
        place = (0.68 + 0.12 * beat) * inner
        muscle = np.hypot(s - place * np.cos(turn), t - place * np.sin(turn)) - 4.6
        muscle = np.where((level > 0.3) & (level < 0.8), np.maximum(muscle, endocardium), NOWHERE)
        heart.paint(muscle, 1.2 * HEART_MUSCLE, LV)


def _bullet(
    x: np.ndarray, y: np.ndarray, depth: np.ndarray, length: float, volume: float
) -> tuple[np.ndarray, np.ndarray]:
    """Radius at each depth below the base, and signed distance to the surface, of a slightly oval bullet."""
    widest = np.sqrt(1000 * volume / (np.pi * length * PROFILE_FILL))
    radius = widest * np.sqrt(np.maximum(1 - np.abs(depth / length) ** WALL_PROFILE, 0))
    taper = np.gradient(radius, depth.ravel(), axis=0)  # the normal leans where the bullet tapers
    distance = _ellipse(x, y, 1.03 * radius, radius / 1.03) / np.sqrt(1 + taper**2)
    return radius, np.where((depth > 0) & (radius > 0), distance, NOWHERE)


def _paint_atria(above: _Slices, s: np.ndarray, t: np.ndarray, rough: np.ndarray) -> None:
    """Left atrium, right atrium, ascending aorta and pulmonary trunk, in the frame of the septum."""
    left, right = _ellipse(s + 2, t + 27, 36, 14), _ellipse(s - 48, t + 12, 13, 27)
    aorta, pulmonary = np.hypot(s - 12, t - 8) - 14, _ellipse(s - 36, t - 28, 15, 13)
    vessels = ((left, ATRIAL_BLOOD), (right, ATRIAL_BLOOD), (pulmonary, RV_BLOOD), (aorta, BLOOD))
    inside = np.minimum.reduce([distance for distance, _ in vessels])
    above.paint(inside - 6 - 4 * rough, DEEP_FAT)
    for distance, grey in vessels:
        above.paint(distance - 2, HEART_MUSCLE)
        above.paint(distance, grey * (1 + 0.1 * rough))


def _acquire(grey: np.ndarray, patient: _Patient, axes: list[np.ndarray], noise: np.random.Generator) -> np.ndarray:
    """The scanner: coil shading, off-resonance bands, sampling and noise in k-space, magnitude."""
    _, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    coil = 0.62 + 0.75 * np.exp(-((x + 20) ** 2 + (y + 110) ** 2) / 2 / 95**2)
    coil = coil + 0.35 * np.exp(-((x - 150) ** 2 + (y - 40) ** 2) / 2 / 60**2)
    # Balanced SSFP passes |sin| of half the precession per repetition; shimming keeps it at pi in the heart.
    off_resonance = np.pi * (1 + (np.hypot(x + 10, y + 20) / 185) ** 6)
    bands = np.abs(np.sin(off_resonance / 2)) ** 0.6
    mottle = 1 + 0.03 * patient.texture(axes, "grain", 5.0) + 0.05 * patient.texture(axes, "shading", 40.0)
    gain = 1 + 0.03 * np.random.default_rng(patient.texture_seed).standard_normal((len(grey), 1, 1))  # of slices
    signal = (grey * mottle * coil * bands * gain).astype(np.complex64)
    signal += NOISE * (noise.standard_normal(grey.shape) + 1j * noise.standard_normal(grey.shape))

    # k-space was sampled to SAMPLED of this grid's resolution and tapered, which blurs and rings a little.
    rows, columns = (np.abs(2 * fft.fftfreq(n)) for n in grey.shape[1:])
    rows, columns = (np.where(f < SAMPLED, 0.54 + 0.46 * np.cos(np.pi * f / SAMPLED), 0) for f in (rows, columns))
    image = fft.ifft2(fft.fft2(signal) * np.sqrt(np.outer(rows, columns)).astype(np.float32))
    return np.rint(BLOOD_SIGNAL * np.abs(image)).astype(np.float32)


def _ijk_to_ras(axes: list[np.ndarray], spacing: tuple[float, float, float]) -> np.ndarray:
    """IJK-to-RAS (4, 4) of an oblique stack; left-handed, because its slices run from base to apex."""
    directions = np.column_stack([LEFT_POSTERIOR, TO_FEET, TO_APEX])
    matrix = np.eye(4)
    matrix[:3, :3] = directions / np.linalg.norm(directions, axis=0) * spacing[::-1]
    middle = [(len(axis) - 1) / 2 for axis in axes[::-1]]
    matrix[:3, 3] = -matrix[:3, :3] @ middle
    return matrix
