"""The slices that a network sees of a stack: on its grid, normalised and enhanced, with their neighbours.

The same `Preprocessing` serves training, evaluation and inference.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dinsegment.enhancement.grey import PERCENTILES, grey_window, to_unit_interval
from dinsegment.enhancement.methods import Enhancement
from dinsegment.images.slices import Plane, SliceStack
from dinsegment.inference.view import View
from dinsegment.tasks import Task

PATCH = 16
"""Sides of overviews are multiples of this many pixels, the stride of the coarsest level of `din-small`."""


@dataclass(frozen=True, eq=False)
class Slices:
    """What the network sees of a stack.

    Attributes:
        image: (slices, rows, columns) in [-1, 1].
        enhanced: The same slices, enhanced.
        view: The grid that they lie on.
        shown: (inputs, channels) int64. Each input of the network is a slice in the middle channel with its neighbours
            around it; these are their places in `image`, and -1, black, beyond the ends of the stack.
    """

    image: Tensor
    enhanced: Tensor
    view: View
    shown: Tensor

    def __len__(self) -> int:
        return len(self.shown)

    def inputs(self, part: slice) -> tuple[Tensor, Tensor]:
        """Original and enhanced inputs of a batch, each (B, channels, rows, columns)."""
        shown = self.shown[part]
        return tuple(black_where(shown < 0, images[shown]) for images in (self.image, self.enhanced))


def black_where(missing: Tensor, images: Tensor) -> Tensor:
    """Images (..., rows, columns) with those that are `missing` (...) black, which is -1."""
    return torch.where(missing[..., None, None], -1.0, images) if missing.any() else images


def neighbourhoods(chosen: np.ndarray, count: int, channels: int) -> np.ndarray:
    """Each chosen slice with its neighbours, (chosen, channels) int64, -1 beyond the ends of a stack of `count`."""
    around = np.asarray(chosen)[:, None] + np.arange(channels) - channels // 2
    return np.where((around >= 0) & (around < count), around, -1)


@dataclass(frozen=True)
class Preprocessing:
    """How slices are prepared for one model; stands as JSON in weights.json.

    What differs between images of one scanner's making and a standardised one is data here. A heart MR is taken in the
    slices it was acquired in, its anatomy is found by the network on an overview of the whole field of view, and grey
    values are normalised inside what is looked at, so neither padding nor cropping of the field of view changes what
    the network sees. A CT is taken in axial slices at a fixed distance around the patient's trunk, in a fixed window of
    Hounsfield units.

    Attributes:
        spacing: In-plane spacing of the box in mm.
        box: Sides (rows, columns) of the box in pixels, or one number for a square. Around a body that is larger, the
            box is larger.
        overview_spacing: In-plane spacing in mm of the overview that tells where the box lies.
        percentiles: Grey values at these percentiles become -1 and 1; beyond them they are clipped.
        enhancement: What makes the second image.
        mirror: Whether each slice of the box is also shown mirrored and both answers are averaged, which takes twice
            the time. Only for a model that was trained with mirrored slices.
        plane: Whether slices are looked at as they were `acquired`, or `axial` ones of the patient; the task's.
        slice_spacing: Distance in mm to which slices are resampled; None for the image's own.
        grey_window: Grey values that become -1 and 1 where they mean the same in every image, as Hounsfield units do;
            None where they do not, for `percentiles`; the task's.
        locate: What the box is centred on: the `anatomy`, as the network finds it on the overview, the `body`, or the
            `middle` of an image that was cut to what is looked for.
        window_shift: How far the ends of the window are moved, in units of its width, where samples vary it; no option
            of a model.
    """

    spacing: float = 1.5
    box: tuple[int, int] = (112, 112)
    overview_spacing: float = 3.0
    percentiles: tuple[float, float] = PERCENTILES
    enhancement: Enhancement = field(default_factory=Enhancement)
    mirror: bool = False
    plane: Plane = "acquired"
    slice_spacing: float | None = None
    grey_window: tuple[float, float] | None = None
    locate: Literal["anatomy", "body", "middle"] = "anatomy"
    window_shift: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        """Raises ValueError if an option has no such value."""
        box = tuple(self.box) if isinstance(self.box, (tuple, list)) else (self.box, self.box)
        if len(box) != 2 or not all(isinstance(n, int) and n > 0 for n in box):
            raise ValueError(f"'box' of the preprocessing is {self.box}, not one or two numbers of pixels")
        object.__setattr__(self, "box", box)
        for name in ("spacing", "overview_spacing", "slice_spacing"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"'{name}' of the preprocessing is {value}, not a length above 0 mm")
        if self.grey_window is not None and not self.grey_window[0] < self.grey_window[1]:
            raise ValueError(
                f"'grey_window' of the preprocessing is {self.grey_window}, not a lower and a higher value"
            )
        for name, known in (("plane", ("acquired", "axial")), ("locate", ("anatomy", "body", "middle"))):
            if getattr(self, name) not in known:
                raise ValueError(f"'{name}' of the preprocessing is '{getattr(self, name)}', not one of {known}")
        if self.locate == "body" and self.grey_window is None:
            raise ValueError("the preprocessing finds a body by grey values that are known: give 'grey_window'")

    @classmethod
    def from_dict(cls, options: dict[str, Any], task: Task | None = None) -> Preprocessing:
        """From JSON.

        Args:
            options: As `to_dict` gives them.
            task: Whose `plane` and `grey_window` are taken; without one, those of the options or the defaults.

        Raises:
            ValueError: An option has no such value, or is that of the task and another one there.
            TypeError: There is no such option.
        """
        options = dict(options)
        for name in ("plane", "grey_window") if task else ():
            own, of_task = options.get(name), getattr(task, name)
            if name in options and (tuple(own) if isinstance(own, list) else own) != of_task:
                raise ValueError(f"'{name}' of the preprocessing is {own}, but {of_task} in the task '{task.name}'")
            options[name] = of_task
        options["enhancement"] = Enhancement(**options.get("enhancement", {}))
        options["percentiles"] = tuple(options.get("percentiles", cls.percentiles))
        if options.get("grey_window") is not None:
            low, high = options["grey_window"]
            options["grey_window"] = float(low), float(high)
        return cls(**options)

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON, without the plane and the window, which are the task's."""
        own = {k: v for k, v in asdict(self).items() if k not in ("plane", "grey_window", "window_shift")}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in own.items()}

    def overview(self, stack: SliceStack) -> View:
        """The whole field of view at coarse spacing, at least as large as a box."""
        extent = stack.extent_mm
        size = np.maximum(self.box, np.ceil(extent / self.overview_spacing / PATCH) * PATCH).astype(int)
        return View(stack.middle_mm, tuple(size.tolist()), self.overview_spacing, self.slice_spacing)

    def box_around(self, center: tuple[float, float], size: tuple[int, int] | None = None) -> View:
        """The box around a place (y, x) in mm; of the usual size, or of another (rows, columns)."""
        return View(center, size or self.box, self.spacing, self.slice_spacing)

    def window(self, slices: Tensor, inside: Tensor) -> tuple[float, float]:
        """Grey values (low, high) that become -1 and 1: the fixed ones, or those at the percentiles.

        Args:
            slices: (slices, rows, columns).
            inside: (rows, columns), above 0.5 inside the field of view, whose pixels count.
        """
        low, high = self.grey_window or grey_window(slices[:, inside > 0.5].numpy(), self.percentiles)
        below, above = (shift * (high - low) for shift in self.window_shift)
        return low + below, high + above

    def slices(self, stack: SliceStack, view: View, channels: int = 1, chosen: np.ndarray | None = None) -> Slices:
        """What the network sees of the stack in a view. Outside the field of view it is black.

        Grey values are clipped at a fixed window before they are resampled: the air around a patient and metal inside
        would otherwise darken or brighten the pixels next to them, more so in a coarse image than in a fine one.

        Args:
            stack: The slices.
            view: Where to look.
            channels: Of the network: the slice and, for more than one, its neighbours.
            chosen: Slices of the view that are wanted; None for all of them. Without a fixed window their grey values
                and those of their neighbours decide what becomes black and white.
        """
        count = view.slices(stack)
        around = neighbourhoods(np.arange(count) if chosen is None else chosen, count, channels)
        used = np.unique(around[around >= 0])
        shown = np.where(around >= 0, np.searchsorted(used, around), -1)
        raw, inside = view.sample(stack, used, self.grey_window)
        image = to_unit_interval(raw, *self.window(raw, inside))
        image = torch.where(inside > 0.5, image, -1.0)
        return Slices(image, self.enhancement(image), view, torch.from_numpy(shown))
