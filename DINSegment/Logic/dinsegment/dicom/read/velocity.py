"""Magnitude images of a flow measurement, which look like a cine: their velocity images lie in the same place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dinsegment.dicom.read.kinds import LEAST_SLICES
from dinsegment.dicom.read.pieces import Piece, Take, parallel, same_spacing
from dinsegment.dicom.read.stack import CINE, FLOW, PHASE_IMAGES


def with_flow(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces; a cine of which there are phase images, acquired with it, is of flow.

    Where a scanner stores phase images of every cine, or of a whole stack of slices that has none without, they say
    nothing.
    """
    velocities = {_acquisition(take) for piece in pieces if piece.kind in (PHASE_IMAGES, FLOW) for take in piece.takes}
    cines = [piece for piece in pieces if piece.kind == CINE]
    paired = [piece for piece in cines if all(_acquisition(take) in velocities for take in piece.takes)]
    others = [piece for piece in cines if piece not in paired]
    flow = [
        piece
        for piece in paired
        if others and (_slices(piece, paired) < LEAST_SLICES or _slices(piece, others) >= LEAST_SLICES)
    ]
    return [replace(piece, kind=FLOW) if piece in flow else piece for piece in pieces]


def _acquisition(take: Take) -> tuple:
    """What magnitude and phase images of one acquisition have in common."""
    heart = tuple(one.heart_time_ms for one in take.pictures)
    clock = min((one.acquired for one in take.pictures if one.acquired is not None), default=None)
    return tuple(np.round(take.first.position, 1).tolist()), heart, clock


def _slices(piece: Piece, pieces: Sequence[Piece]) -> int:
    """How many slices of some pieces could be of one stack with a piece."""
    return sum(
        len(one.takes)
        for one in pieces
        if parallel(one.axes, piece.axes) and same_spacing(one.first.pixel_spacing, piece.first.pixel_spacing)
    )
