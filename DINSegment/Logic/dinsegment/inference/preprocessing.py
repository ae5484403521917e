"""The slices that a network sees of a stack: on its grid, normalised and enhanced, with their neighbours.

The same `Preprocessing` serves training, evaluation and inference.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from dinsegment.enhancement.grey import PERCENTILES, to_unit_interval, window_inside
from dinsegment.enhancement.methods import Enhancement
from dinsegment.images.slices import Plane
from dinsegment.inference.runner import Slices
from dinsegment.inference.view import View
from dinsegment.tasks import Task


def neighbourhoods(chosen: np.ndarray, count: int, channels: int) -> np.ndarray:
    """Each chosen slice with its neighbours, (chosen, channels) int64, -1 beyond the ends of a stack of `count`."""
    around = np.asarray(chosen)[:, None] + np.arange(channels) - channels // 2
    return np.where((around >= 0) & (around < count), around, -1)


@dataclass(frozen=True)
class Preprocessing:
    """How slices are prepared for one model; stands as JSON in weights.json.

    What differs between kinds of images is data here. A heart MR is taken in the
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

    def slices(self, view: View, channels: int = 1, chosen: np.ndarray | None = None) -> Slices:
        """What the network sees in a view. Outside the field of view it is black.

        Grey values are clipped at a fixed window before they are resampled: the air around a patient and metal inside
        would otherwise darken or brighten the pixels next to them, more so in a coarse image than in a fine one.

        Args:
            view: Where to look.
            channels: Of the network: the slice and, for more than one, its neighbours.
            chosen: Slices of the view that are wanted; None for all of them. Without a fixed window their grey values
                and those of their neighbours decide what becomes black and white.
        """
        around = neighbourhoods(np.arange(view.count) if chosen is None else chosen, view.count, channels)
        used = np.unique(around[around >= 0])
        shown = np.where(around >= 0, np.searchsorted(used, around), -1)
        raw, inside = view.sample(used, self.grey_window)
        window = window_inside(raw, inside, self.grey_window, self.percentiles, self.window_shift)
        image = torch.where(inside > 0.5, to_unit_interval(raw, *window), -1.0)
        return Slices(image, self.enhancement(image), view, torch.from_numpy(shown))
