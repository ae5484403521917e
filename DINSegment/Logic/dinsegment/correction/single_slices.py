"""What a network says of single slices, each computed when it is first asked for, and kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from dinsegment.errors import InputError
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume, check_voxels
from dinsegment.inference.anatomy import find_box
from dinsegment.inference.devices import choose_device
from dinsegment.inference.model import Model
from dinsegment.inference.runner import Runner
from dinsegment.inference.view import View
from dinsegment.tasks import get_task

KEPT = 64
"""Slices of the network's grid that stay in memory, of a CT some 90 MB."""


@dataclass(frozen=True, eq=False)
class SliceView:
    """One slice as the network sees it, on its own grid.

    Attributes:
        image: Grey values, -1 to 1, (rows, columns).
        probabilities: Of background and segments, (classes, rows, columns).
        hidden: What the network's last layer makes logits of, (channels, rows, columns) float16, on the coarser grid of
            the decoder; None where the network does not tell.
    """

    image: np.ndarray
    probabilities: np.ndarray
    hidden: np.ndarray | None = None

    def features(self) -> np.ndarray:
        """What tells pixels apart, beside the logit: grey value and features, (features, rows, columns)."""
        if self.hidden is None:
            return self.image[None]
        hidden = torch.from_numpy(self.hidden.astype(np.float32))[None]
        # As the network brings its logits to the grid: by a whole factor, then cropped.
        factor = max(1, round(max(n / m for n, m in zip(self.image.shape, hidden.shape[-2:], strict=True))))
        if factor > 1:
            hidden = F.interpolate(hidden, scale_factor=float(factor), mode="bilinear", align_corners=False)
        rows, columns = self.image.shape
        return np.concatenate((self.image[None], hidden[0, :, :rows, :columns].numpy()))


class SingleSlices:
    """The slices of one image, each computed when it is first asked for.

    The image's anatomy is found at once, as for a segmentation; then a slice takes one pass through the network.

    Args:
        volume: The image.
        model: What looks at it.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        cancelled: Asked several times a second; True stops what goes on.

    Attributes:
        stack: The image's slices, as the task looks at them.
        box: The network's grid.
        flat: The same grid in each slice of the stack, without its own slice spacing.

    Raises:
        InputError: The image cannot be used, or shows no anatomy of the task.
        Cancelled: `cancelled` said so.
    """

    def __init__(
        self, volume: Volume, model: Model, device: str = "auto", cancelled: Callable[[], bool] | None = None
    ) -> None:
        check_voxels(volume)
        self.volume, self.model, self.task = volume, model, get_task(model.task)
        self.stack = SliceStack.in_plane(volume, model.preprocessing.plane)
        self._runner = Runner(model.network, choose_device(device), None, cancelled, model.context)
        box = find_box(self._runner, model.preprocessing, self.stack)
        if box is None:
            raise InputError(
                f"In '{volume.name}' the model '{model.name}' finds nothing of the task '{self.task.name}': "
                "strokes need an image of that anatomy."
            )
        self.box: View = box
        self.flat: View = replace(box, slice_spacing=None)
        self._seen: dict[int, SliceView] = {}
        # Without a fixed window the grey values of the whole stack make it; a heart's slices are few.
        fixed = model.preprocessing.grey_window is not None
        self._all = None if fixed else model.preprocessing.slices(box, self._channels)

    @property
    def _channels(self) -> int:
        return self.model.network.config.in_channels

    def prepare(self, slices: Iterable[int]) -> None:
        """Computes those slices of the stack that are not there yet, in as few passes as possible."""
        count = self.box.count
        wanted = sorted({n for k in slices for n, _weight in self._blend(k) if 0 <= n < count})
        missing = np.array([n for n in wanted if n not in self._seen], int)
        if not len(missing):
            return
        far = sorted(set(self._seen) - set(wanted), key=lambda n: -abs(n - wanted[0]))
        for n in far[: max(0, len(self._seen) + len(missing) - KEPT)]:
            del self._seen[n]
        self._look(missing)

    def of_slice(self, k: int) -> SliceView:
        """Slice k of the stack."""
        self.prepare([k])
        parts = [(self._seen[n], weight) for n, weight in self._blend(k)]
        if len(parts) == 1:
            return parts[0][0]

        def blended(name: str) -> np.ndarray:
            return sum(weight * getattr(seen, name) for seen, weight in parts)

        told = all(seen.hidden is not None for seen, _weight in parts)
        return SliceView(blended("image"), blended("probabilities"), blended("hidden") if told else None)

    @property
    def count(self) -> int:
        """How many slices the image has."""
        return len(self.stack.array)

    @property
    def slice_shape(self) -> tuple[int, int]:
        """Pixels of a slice, its axes in the order of the volume's (k, j, i)."""
        a, b = (n for axis, n in enumerate(self.volume.shape) if axis != self.stack.axis)
        return a, b

    def place(self, n: int) -> int:
        """Where the stack has slice n of the image's own order, and the other way round."""
        return self.count - 1 - n if self.stack.flipped[0] else n

    def to_stack(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels of a slice, its axes in the order of the volume's, as the stack has them: (y, x)."""
        return self.stack.like(np.expand_dims(pixels, self.stack.axis)).array[0]

    def from_stack(self, pixels: np.ndarray) -> np.ndarray:
        """The inverse of `to_stack`."""
        return self.stack.to_volume_axes(pixels[None]).squeeze(self.stack.axis)

    def on_grid(self, mask: np.ndarray) -> np.ndarray:
        """A mask (y, x) of a slice of the stack on the network's grid: the share of each pixel, (rows, columns)."""
        one = replace(self.stack, array=mask[None].astype(np.float32))
        return self.flat.on(one).sample()[0][0].numpy()

    def back(self, probability: np.ndarray) -> np.ndarray:
        """Where a probability (rows, columns) on the network's grid is above 0.5 in a slice of the stack, (y, x)."""
        one = replace(self.stack, array=self.stack.array[:1])
        return next(iter(self.flat.on(one).labels_back([torch.from_numpy(probability[None])]))).astype(bool)

    def _blend(self, k: int) -> list[tuple[int, float]]:
        """Slices of the network's grid that slice k of the stack lies at or between, and their weights."""
        if self.box.slice_spacing is None:
            return [(k, 1.0)]
        places = self.box.places[0]
        at = float(np.interp(k, places, np.arange(len(places))))
        low, share = int(at), at - int(at)
        return [(n, w) for n, w in ((low, 1.0 - share), (low + 1, share)) if w > 1e-6]

    def _look(self, chosen: np.ndarray) -> None:
        if self._all is None:
            slices = self.model.preprocessing.slices(self.box, self._channels, chosen)
        else:
            slices = replace(self._all, shown=self._all.shown[torch.from_numpy(chosen)])
        told: list[torch.Tensor] = []
        around = self._runner.surroundings(self.stack, 0.0, 0.0)
        batches = self._runner.batches(
            [slices], len(chosen), "", 0.0, 1.0, self.model.preprocessing.mirror, hidden=told
        )
        batches = batches if around is None else around.weigh(batches, self.box, chosen)
        probabilities = torch.cat(list(batches)).numpy()
        hidden = torch.cat(told).numpy() if told else None
        middle = slices.shown[:, slices.shown.shape[1] // 2]
        for n, (k, place) in enumerate(zip(chosen.tolist(), middle.tolist(), strict=True)):
            kept = hidden[n].copy() if hidden is not None else None
            self._seen[k] = SliceView(slices.image[place].numpy().copy(), probabilities[n].copy(), kept)
