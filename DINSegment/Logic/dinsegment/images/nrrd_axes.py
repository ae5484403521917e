"""The axes of a NRRD file: those of space, and the one along which the phases of a heart lie.

Source: the NRRD format's definition (teem, "Definition of NRRD File Format", sections 3 to 5).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dinsegment.errors import InputError
from dinsegment.geometry import RAS_FROM_LPS

_OF_PHASES = ("list", "time")
"""Kinds of an axis that is none of space, wherever it stands."""

_OF_PHASES_OUTSIDE = (*_OF_PHASES, "none", "???", "domain", "space", "")
"""Kinds of an axis of phases that has no direction in space."""

_TO_LPS = {"right": -1.0, "left": 1.0, "anterior": -1.0, "posterior": 1.0, "superior": 1.0, "inferior": -1.0}
"""Sign of a coordinate that grows towards there."""

_LETTERS = {"r": "right", "l": "left", "a": "anterior", "p": "posterior", "s": "superior", "i": "inferior"}


@dataclass(frozen=True)
class NrrdAxes:
    """The axes in the order of the file, the fastest first.

    Attributes:
        sizes: Samples along each.
        kinds: In small letters; "" where the file does not say it.
        units: "" where the file does not say it.
        spacings: NaN where the file does not say it.
        directions: From one sample to the next, as the file has it; None for an axis without one, and instead of all
            of them where the file has none.
        origin: The first sample, as the file has it; None where it does not say it.
        space: Name of the space.
    """

    sizes: tuple[int, ...]
    kinds: tuple[str, ...]
    units: tuple[str, ...]
    spacings: tuple[float, ...]
    directions: tuple[tuple[float, ...] | None, ...] | None
    origin: tuple[float, ...] | None
    space: str

    @property
    def outside(self) -> tuple[int, ...]:
        """The axes that lie nowhere in space, as far as the file tells them."""
        if self.directions is not None:
            return tuple(n for n, one in enumerate(self.directions) if one is None or _is_time(one))
        told = tuple(n for n, kind in enumerate(self.kinds) if kind in _OF_PHASES)
        without = tuple(n for n, one in enumerate(self.spacings) if math.isnan(one))
        return told or (without if len(without) < len(self.sizes) else ())

    def in_space(self, phase_axis: int) -> tuple[int, ...]:
        """The others."""
        return tuple(n for n in range(len(self.sizes)) if n != phase_axis)


def nrrd_axes(path: Path, fields: Mapping[str, str]) -> NrrdAxes | None:
    """The axes that a header describes; None if it does not say how many samples it has.

    Args:
        path: For messages.
        fields: Of the header, by their names in small letters.

    Raises:
        InputError: The header contradicts itself.
    """
    sizes = tuple(int(word) for word in fields.get("sizes", "").split() if word.isdigit())
    count = len(sizes)
    if not count:
        return None

    def words(field: str, found: list[str]) -> tuple[str, ...]:
        if len(found) not in (0, count):
            raise InputError(f"'{path}' is damaged, it has {count} axes and says of {len(found)} their {field}.")
        return tuple(found) or ("",) * count

    kinds = words("kinds", fields.get("kinds", "").lower().split())
    units = words("units", re.findall(r'"([^"]*)"', fields.get("units", "")) or fields.get("units", "").split())
    spacings = words("spacings", fields.get("spacings", "").split())
    text = fields.get("space directions", "")
    directions = words("space directions", re.findall(r"none|\([^)]*\)", text)) if text.strip() else None
    origin = _vector(fields["space origin"]) if fields.get("space origin", "").strip() else None
    return NrrdAxes(
        sizes,
        kinds,
        units,
        tuple(_number(word) for word in spacings),
        None if directions is None else tuple(None if one == "none" else _vector(one) for one in directions),
        origin,
        fields.get("space", "").strip().lower(),
    )


def phase_axis(path: Path, axes: NrrdAxes, is_sequence: bool) -> int | None:
    """The axis of phases where ITK does not know it as one: it knows the last one of a file without directions.

    Args:
        path: For messages.
        axes: Of the file.
        is_sequence: Whether the file says that it is a sequence, so that an axis of several values is one of phases,
            as older versions of 3D Slicer wrote it.

    Raises:
        InputError: There are more axes than those of space and one more.
    """
    outside, count = axes.outside, len(axes.sizes)
    if count < 4 or not outside:
        return None
    if count > 4 or len(outside) > 1:
        raise InputError(
            f"'{path}' has {count} axes, of which {len(outside)} lie nowhere in space, as those of colours and vectors "
            "do: give a grey image with three axes of space and one of phases."
        )
    (axis,) = outside
    kind = axes.kinds[axis]
    if kind in _OF_PHASES_OUTSIDE or axes.sizes[axis] == 1 or (is_sequence and kind == "vector"):
        return axis
    return None


def ijk_to_ras(path: Path, axes: NrrdAxes, phase_axis: int) -> np.ndarray:
    """Where the voxels of a phase lie, 4x4, millimetres if the file's unit is that.

    Raises:
        InputError: The axis of phases leans into space.
    """
    in_space = axes.in_space(phase_axis)
    signs = _signs(axes.space)
    ijk_to_lps = np.eye(4)
    if axes.directions is None:
        ijk_to_lps[:3, :3] = np.diag([axes.spacings[n] for n in in_space])
    else:
        vectors = np.array([axes.directions[n] for n in in_space])
        if vectors.shape[1] not in (3, 4) or (vectors.shape[1] == 4 and vectors[:, 3].any()):
            raise InputError(f"'{path}' has a time axis that leans into space: give each phase as a 3D image.")
        ijk_to_lps[:3, :3] = (vectors[:, :3] * signs).T
    if axes.origin is not None:
        ijk_to_lps[:3, 3] = np.array(axes.origin[:3]) * signs
    return RAS_FROM_LPS @ ijk_to_lps


def _signs(space: str) -> np.ndarray:
    """What coordinates of a space have to be multiplied by to be LPS; those of scanners are taken for it, as by ITK."""
    words = space.removesuffix("-time").split("-")
    if len(words) == 1 and len(words[0].removesuffix("t")) == 3:
        words = [_LETTERS.get(letter, "") for letter in words[0].removesuffix("t")]
    if len(words) == 3 and all(word in _TO_LPS for word in words):
        return np.array([_TO_LPS[word] for word in words])
    return np.ones(3)


def _is_time(direction: tuple[float, ...]) -> bool:
    """Whether a direction in space and time is along time alone."""
    return len(direction) == 4 and not any(direction[:3])


def _vector(text: str) -> tuple[float, ...]:
    return tuple(_number(word) for word in text.strip().strip("()").split(","))


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan
