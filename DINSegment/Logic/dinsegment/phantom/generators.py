"""The generators of phantoms by the names that tasks use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from dinsegment.errors import InputError
from dinsegment.images.volume import Volume
from dinsegment.phantom.ct import abdomen_phantom
from dinsegment.phantom.heart import cine_phantom
from dinsegment.phantom.late_enhancement import late_enhancement_phantom
from dinsegment.tasks import Task


class Generated(Protocol):
    """An image and its segments, labelled as the task says."""

    volume: Volume
    labels: np.ndarray


def hearts(images: int, **options: Any) -> Sequence[Generated]:
    """Phases of one beat; two are end diastole and end systole."""
    return cine_phantom(images, **options)


def infarcts(images: int, **options: Any) -> Sequence[Generated]:
    """Patients after an infarct."""
    return [late_enhancement_phantom(seed=n, **options) for n in range(images)]


def abdomens(images: int, **options: Any) -> Sequence[Generated]:
    """Patients."""
    return [abdomen_phantom(seed=n, **options) for n in range(images)]


GENERATORS: dict[str, Callable[..., Sequence[Generated]]] = {"heart": hearts, "infarct": infarcts, "abdomen": abdomens}


def phantoms_of(task: Task) -> Sequence[Generated]:
    """The generated images that show a task.

    Raises:
        InputError: There are none.
    """
    if task.phantom is None:
        raise InputError(f"The task '{task.name}' has no phantom: give an image to segment.")
    if task.phantom.generator not in GENERATORS:
        raise InputError(
            f"The task '{task.name}' names the phantom '{task.phantom.generator}', which nothing generates; there are: "
            f"{', '.join(GENERATORS)}."
        )
    return GENERATORS[task.phantom.generator](task.phantom.images, **task.phantom.options)
