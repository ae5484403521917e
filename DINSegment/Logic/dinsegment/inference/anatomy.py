"""Where in the image the anatomy lies: the box that is segmented."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dinsegment.images.pieces import largest_component
from dinsegment.images.slices import SliceStack
from dinsegment.inference.body import box_around_body
from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.inference.view import View

if TYPE_CHECKING:
    from dinsegment.inference.runner import Runner

OVERVIEW_SLICES = 2
"""Slices, spread over the stack, that are looked at first."""

SURE = 0.9
"""Mean probability of what is seen in them from which on no others are looked at. Of ACDC's validation patients two
slices had 0.92 to 0.97 and were less than 9 mm off; single slices that were more than 25 mm off had 0.82 at most."""


@dataclass(frozen=True)
class Anatomy:
    """The largest piece that is no background.

    Attributes:
        center: (y, x) in mm.
        probability: Mean probability in it that it is none.
    """

    center: tuple[float, float]
    probability: float


def find_anatomy(probabilities: Tensor, view: View) -> Anatomy | None:
    """What an overview shows, or None if there is nothing.

    Args:
        probabilities: (slices, classes, rows, columns) on the view's grid.
        view: The overview.
    """
    background = probabilities[:, 0].numpy()
    piece = largest_component(background < 0.5)
    if not piece.any():
        return None
    _, rows, columns = np.nonzero(piece)
    y, x = (f + c.mean() * view.spacing for f, c in zip(view.first, (rows, columns), strict=True))
    return Anatomy((float(y), float(x)), 1.0 - float(background[piece].mean()))


def find_box(runner: Runner, preprocessing: Preprocessing, stack: SliceStack) -> View | None:
    """The box that is looked at, or None if there is no anatomy.

    A body is found by its grey values; a heart by the network, on an overview of a few slices, or of all where these
    show nothing that it is sure of, as in a stack that goes far beyond the heart.
    """
    if preprocessing.locate == "body":
        runner.report(0.05, "Finding the body")
        return box_around_body(preprocessing, stack)
    if preprocessing.locate == "middle":
        return preprocessing.box_around(stack.middle_mm)
    overview = preprocessing.overview(stack)
    count = overview.slices(stack)
    few = np.unique(np.linspace(0, count - 1, OVERVIEW_SLICES + 2).round().astype(int))
    few = few[1:-1] if len(few) > OVERVIEW_SLICES else few
    rest = np.setdiff1d(np.arange(count), few)

    def look(chosen: np.ndarray, start: float, stop: float) -> Tensor:
        text = "Finding the anatomy"
        return torch.cat(list(runner.look(preprocessing, stack, overview, text, start, stop, chosen)))

    shown = look(few, 0.05, 0.15)
    anatomy = find_anatomy(shown, overview)
    if (anatomy is None or anatomy.probability < SURE) and len(rest):
        order = np.argsort(np.concatenate((few, rest)))
        shown = torch.cat((shown, look(rest, 0.15, 0.25)))[order]
        anatomy = find_anatomy(shown, overview)
    return None if anatomy is None else preprocessing.box_around(anatomy.center)
