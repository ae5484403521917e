"""Where in the image the anatomy lies: the box that is segmented."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dinsegment.images.pieces import largest_component
from dinsegment.images.slices import SliceStack
from dinsegment.inference.body import AIR, find_body
from dinsegment.inference.looking import LOCATED, look
from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.inference.runner import Runner
from dinsegment.inference.view import View

STRIDE = 16
"""Sides of overviews, and of boxes around a body, are multiples of this many pixels: the stride of the coarsest level
of `din-small`."""

OVERVIEW_SLICES = 2
"""Slices, spread over the stack, that are looked at first."""

SURE = 0.9
"""Mean probability of what is seen in them from which on no others are looked at. Of ACDC's validation patients two
slices had 0.92 to 0.97 and were less than 9 mm off; single slices that were more than 25 mm off had 0.82 at most."""


@dataclass(frozen=True)
class Anatomy:
    """The largest piece that is no background.

    Attributes:
        center: (row, column) in pixels of the overview.
        probability: Mean probability of the segments together in it.
    """

    center: tuple[float, float]
    probability: float


def find_box(runner: Runner, preprocessing: Preprocessing, stack: SliceStack) -> View | None:
    """The box that is looked at, or None if there is no anatomy.

    A body is found by its grey values; a heart by the network, on an overview of a few slices, or of all where these
    show nothing that it is sure of, as in a stack that goes far beyond the heart. Around the middle of the field of
    view lies the box of a model whose images were cut to what is looked for.
    """
    if preprocessing.locate == "body":
        runner.report(0.05, "Finding the body")
        return box_around_body(preprocessing, stack, runner.check_cancelled)
    if preprocessing.locate == "middle":
        return box_around(preprocessing, stack, stack.middle_mm)
    overview = overview_of(preprocessing, stack)
    few = np.unique(np.linspace(0, overview.count - 1, OVERVIEW_SLICES + 2).round().astype(int))
    few = few[1:-1] if len(few) > OVERVIEW_SLICES else few
    rest = np.setdiff1d(np.arange(overview.count), few)

    def looked(chosen: np.ndarray, start: float, stop: float) -> Tensor:
        return torch.cat(list(look(runner, preprocessing, overview, "Finding the anatomy", start, stop, chosen)))

    shown = looked(few, 0.05, 0.15)
    anatomy = find_anatomy(shown)
    if (anatomy is None or anatomy.probability < SURE) and len(rest):
        order = np.argsort(np.concatenate((few, rest)))
        anatomy = find_anatomy(torch.cat((shown, looked(rest, 0.15, LOCATED)))[order])
    if anatomy is None:
        return None
    y, x = (first + n * overview.spacing for first, n in zip(overview.first, anatomy.center, strict=True))
    return box_around(preprocessing, stack, (y, x))


def overview_of(preprocessing: Preprocessing, stack: SliceStack) -> View:
    """The whole field of view at coarse spacing, at least as large as a box."""
    size = np.ceil(stack.extent_mm / preprocessing.overview_spacing / STRIDE) * STRIDE
    rows, columns = np.maximum(preprocessing.box, size).astype(int).tolist()
    return View(stack, stack.middle_mm, (rows, columns), preprocessing.overview_spacing, preprocessing.slice_spacing)


def box_around(
    preprocessing: Preprocessing, stack: SliceStack, center: tuple[float, float], size: tuple[int, int] | None = None
) -> View:
    """The box around a place (y, x) in mm; of the model's size, or of another (rows, columns)."""
    return View(stack, center, size or preprocessing.box, preprocessing.spacing, preprocessing.slice_spacing)


def box_around_body(preprocessing: Preprocessing, stack: SliceStack, ask: Callable[[], None] = lambda: None) -> View:
    """The box around the patient's trunk, which is found by the grey values alone; large enough for all of it.

    Args:
        preprocessing: Of the model.
        stack: Axial slices.
        ask: As in `View.sample`.
    """
    if preprocessing.grey_window is None:
        raise ValueError("A body is found by grey values that are known: give 'grey_window'.")
    low, high = preprocessing.grey_window
    step = preprocessing.overview_spacing
    rows, columns = np.maximum(1, np.ceil(stack.extent_mm / step - 1e-6)).astype(int).tolist()
    view = View(stack, stack.middle_mm, (rows, columns), step, step)
    slices, inside = view.sample(clip=preprocessing.grey_window, ask=ask)
    tissue = (slices > low + AIR * (high - low)) & (inside > 0.5)
    (y, x), extent = find_body(tissue.numpy(), (step, step, step))
    needed = np.ceil(np.array(extent) / preprocessing.spacing / STRIDE) * STRIDE
    rows, columns = np.maximum(preprocessing.box, needed).astype(int).tolist()
    return box_around(preprocessing, stack, (view.first[0] + y, view.first[1] + x), (rows, columns))


def find_anatomy(probabilities: Tensor) -> Anatomy | None:
    """What an overview shows, (slices, classes, rows, columns), or None if there is nothing."""
    background = probabilities[:, 0].numpy()
    piece = largest_component(background < 0.5)
    if not piece.any():
        return None
    _, rows, columns = np.nonzero(piece)
    return Anatomy((float(rows.mean()), float(columns.mean())), 1.0 - float(background[piece].mean()))
