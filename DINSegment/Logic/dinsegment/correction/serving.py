"""Strokes, one request after the other, on the image that was looked at last: what the worker process does for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dinsegment.correction.single_slices import SingleSlices
from dinsegment.correction.strokes import Stroke, answer
from dinsegment.errors import OutputError
from dinsegment.images.volume import Volume
from dinsegment.inference.model import Model
from dinsegment.tasks import get_task

MASKS, BELONGS, OTHER, ANSWER = "masks.npy", "belongs.npy", "other.npy", "answer.npy"


class StrokeServer:
    """Remembers what the network made of one image.

    Args:
        load: What loads a model by its name, as `load_model`.
    """

    def __init__(self, load: Callable[..., Model]) -> None:
        self._load = load
        self._key: str | None = None
        self._slices: SingleSlices | None = None
        self._cancelled: Callable[[], bool] = lambda: False

    def look(self, request: dict[str, Any], image: Path, cancelled: Callable[[], bool]) -> dict[str, Any]:
        """Looks at slices of an image, so that strokes in them are answered at once.

        Args:
            request: `key` names the image, `slices` are their indices; for an image that is not the last one there are
                `volume`, `task`, `model` and `device`, as for segmenting it.
            image: The voxels (k, j, i) of an image that comes with the request.
            cancelled: Asked several times a second.

        Returns:
            Whether the image is `known`; without its voxels, one that is not is to be sent.

        Raises:
            DINSegmentError: As `SingleSlices`.
        """
        self._cancelled = cancelled
        if request.get("volume") is not None:
            self._key = self._slices = None  # What was there before may go first.
            task = get_task(request["task"])
            # A copy: the file goes with the request.
            volume = Volume(np.load(image), **request["volume"])
            model = self._load(request["model"], task, cancelled=cancelled)
            model.check_task(task)
            self._slices = SingleSlices(volume, model, request["device"], self._ask)
            self._key = request["key"]
        if not self._knows(request):
            return {"known": False}
        slices = self._slices
        slices.prepare(slices.place(n) for n in request["slices"] if 0 <= n < slices.count)
        return {"known": True}

    def answer(self, request: dict[str, Any], folder: Path, cancelled: Callable[[], bool]) -> dict[str, Any]:
        """Answers strokes of one slice.

        The folder holds what the segment covers, masks.npy (slices, ...), bool, from slice `first` on, and the strokes,
        belongs.npy and other.npy; the new masks come as answer.npy.

        Raises:
            InputError: As `dinsegment.correction.strokes.answer`.
            OutputError: The answer could not be written.
        """
        self._cancelled = cancelled
        if not self._knows(request):
            return {"known": False}
        masks = dict(enumerate(np.load(folder / MASKS), request["first"]))
        stroke = Stroke(request["slice"], np.load(folder / BELONGS), np.load(folder / OTHER))
        new = answer(self._slices, request["segment"], stroke, masks)
        try:
            np.save(folder / ANSWER, np.stack([new[n] for n in masks]))
        except OSError as error:
            raise OutputError(
                f"The answer could not be written to '{folder}' ({error.strerror or error}): make room there and draw "
                "again."
            ) from error
        return {"known": True}

    def _ask(self) -> bool:
        """The network outlives the request that it was first used for."""
        return self._cancelled()

    def _knows(self, request: dict[str, Any]) -> bool:
        return self._slices is not None and self._key == request["key"]
