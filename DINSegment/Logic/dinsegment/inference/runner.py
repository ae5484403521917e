"""Slices through a network: batch after batch on one device, with progress, cancel and out-of-memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dinsegment.errors import Cancelled, InputError
from dinsegment.images.slices import SliceStack
from dinsegment.inference.context import Context, Surroundings
from dinsegment.inference.devices import (
    asking,
    autocast_dtype,
    free_memory,
    is_out_of_memory,
    keep_freed_memory,
    layers_of,
    lowered,
)
from dinsegment.inference.view import View
from dinsegment.network import Network
from dinsegment.network.kinds import Draw
from dinsegment.progress import Progress

MAX_BATCH = {"cpu": 16, "cuda": 64, "mps": 16}
"""Images in one pass, mirrored ones too: a CPU gains nothing beyond, and cancelling waits for a layer of one batch."""


def last_layer(network: nn.Module) -> nn.Conv2d | None:
    """The layer that makes the classes' logits of what the network has seen; None where there is no convolution."""
    classes = network.config.classes
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.out_channels == classes]
    return layers[-1] if layers else None


def bytes_per_slice(network: Network, view: View) -> int:
    """Peak activation memory of one slice, in float32, with room to spare."""
    return int(4 * view.size[0] * view.size[1] * network.values_per_pixel)


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


class Runner:
    """Runs slices through a network in batches on one device, and on the CPU when the device has no memory left.

    Args:
        network: Stays where it is; the device gets a copy.
        device: Where to compute.
        progress: Told how far it is.
        cancelled: Asked several times a second; True stops the run.
        context: What else knows the image as a whole.
    """

    def __init__(
        self,
        network: Network,
        device: torch.device,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
        context: Context | None = None,
    ) -> None:
        self._given, self._context = network, context
        self._around: Surroundings | None = None
        self._use(device)
        self.warnings: list[str] = []
        self.tell(progress)
        self._cancelled = cancelled or (lambda: False)

    def _use(self, device: torch.device) -> None:
        if device.type == "cpu":
            keep_freed_memory()
        self.device, self.network = device, lowered(self._given, device)
        self._layers = layers_of(self.network)
        self._batch = MAX_BATCH[device.type]

    def tell(self, progress: Progress | None) -> None:
        """From now on `progress` is told how far it is."""
        self._progress = progress or (lambda _fraction, _text: None)

    def check_cancelled(self) -> None:
        """Raises Cancelled if the user has asked for it."""
        if self._cancelled():
            raise Cancelled

    def report(self, fraction: float, text: str) -> None:
        """Tells the user, and stops if the user says so."""
        self.check_cancelled()
        self._progress(fraction, text)

    def surroundings(self, stack: SliceStack, start: float, stop: float) -> Surroundings | None:
        """What the context expects in a stack, asked for once; None without a context.

        Args:
            stack: The slices.
            start: Progress by then.
            stop: Progress after it, if it has to be asked for.

        Raises:
            InputError: There is too little memory.
        """
        if self._context is not None and not self.knows(stack):

            def tell(share: float, text: str) -> None:
                self.report(start + (stop - start) * share, text)

            self._around = self._look_around(self._context, stack, tell)
        return self._around

    def knows(self, stack: SliceStack) -> bool:
        """Whether what is expected in a stack is known, or nothing is."""
        return self._context is None or (self._around is not None and self._around.stack is stack)

    def bytes_around(self, stack: SliceStack) -> int:
        """Memory of what is expected in a stack, where it has still to be asked for."""
        return 0 if self._context is None or self.knows(stack) else self._context.bytes_held(stack)

    def _look_around(self, context: Context, stack: SliceStack, tell: Progress) -> Surroundings:
        self._around = None  # what was expected in another stack may go first
        if self.device.type != "cpu":
            try:
                return context.surroundings(stack, self.device, tell)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self._warn(
                    f"The device '{self.device}' has too little free memory for the whole image; the CPU saw it."
                )
        cpu = torch.device("cpu")
        needed, free = context.bytes_needed(stack), free_memory(cpu)
        if needed > free:
            raise _too_little("The whole image at once", needed, free)
        return context.surroundings(stack, cpu, tell)

    def batches(
        self,
        blocks: Iterable[Slices],
        count: int,
        text: str,
        start: float,
        stop: float,
        mirror: bool = False,
        draw: Draw | None = None,
        hidden: list[Tensor] | None = None,
    ) -> Iterator[Tensor]:
        """Probabilities of the inputs of one block after the other, which are asked for as they are needed.

        Args:
            blocks: What is shown to the network.
            count: Inputs of all blocks.
            text: What is being done.
            start: Progress at the first input.
            stop: Progress after the last one.
            mirror: Gives the mean of each input's and its mirror image's.
            draw: Gives this draw's sample instead of the network's answer; None for the answer.
            hidden: A list to which what the network's last layer is given is added for each batch, (inputs, channels,
                rows, columns) float16 on the CPU; None where nobody needs it.

        Yields:
            Batch after batch, (inputs, classes, rows, columns) float32 on the CPU. On a GPU the next one is being
            computed meanwhile.
        """
        waiting: Tensor | None = None
        before, images = 0, 2 if mirror else 1
        for slices in blocks:
            done, batch = 0, self._inputs_at_a_time(slices, images)
            while done < len(slices):
                number = before + done
                self.report(start + (stop - start) * number / count, f"{text}: slice {number + 1} of {count}")
                part = slice(done, min(done + batch, len(slices)))
                try:
                    with asking(self._layers, self.check_cancelled):
                        out = self._forward(slices, part, mirror, draw, hidden)
                except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error):
                        raise
                    self._after_out_of_memory(batch * images, images)
                    batch = self._inputs_at_a_time(slices, images)
                    continue
                if waiting is not None:
                    yield waiting.cpu()
                waiting, done = out, part.stop
            before += len(slices)
        if waiting is not None:
            yield waiting.cpu()

    def _inputs_at_a_time(self, slices: Slices, images: int) -> int:
        """How many inputs go through the network together; each shows it so many images, its mirror image for one."""
        one, free = bytes_per_slice(self.network, slices.view), free_memory(self.device)
        if self.device.type == "cpu" and one > free:
            raise _too_little("A single slice", one, free)
        return evenly(len(slices), max(1, min(self._batch, int(0.5 * free / one)) // images))

    def _forward(
        self, slices: Slices, part: slice, mirror: bool, draw: Draw | None = None, hidden: list[Tensor] | None = None
    ) -> Tensor:
        layer = None if hidden is None else last_layer(self.network)
        if layer is None:
            return self._probabilities(slices, part, mirror, draw)
        given: list[Tensor] = []
        hook = layer.register_forward_pre_hook(lambda _layer, inputs: given.append(inputs[0].detach()))
        try:
            out = self._probabilities(slices, part, mirror, draw)
        finally:
            hook.remove()
        seen = given[-1] if given else None  # of a network that looks several times, what it made its answer from
        if seen is None or len(seen) != len(out) * (2 if mirror else 1):
            return out
        if mirror:
            straight, mirrored = seen.chunk(2)
            seen = (straight + mirrored.flip(-1)) / 2
        hidden.append(seen.half().cpu().contiguous().clone())
        return out

    def _probabilities(self, slices: Slices, part: slice, mirror: bool, draw: Draw | None = None) -> Tensor:
        dtype = autocast_dtype(self.device)
        inputs = slices.inputs(part)
        if mirror:
            inputs = tuple(torch.cat((x, x.flip(-1))) for x in inputs)
        with torch.inference_mode(), torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            image, enhanced = (self._to_device(x) for x in inputs)
            if draw is None:
                out = self.network.probabilities(image, enhanced)
            else:
                out = self.network.sample(image, enhanced, draw)
        if mirror:
            straight, mirrored = out.chunk(2)
            out = (straight + mirrored.flip(-1)) / 2
        return out

    def _to_device(self, x: Tensor) -> Tensor:
        """Inputs (B, channels, rows, columns) on the device, channels last; a GPU copies pinned memory by itself."""
        x = x.pin_memory() if self.device.type == "cuda" else x
        return x.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)

    def _after_out_of_memory(self, batch: int, images: int = 1) -> None:
        """Goes on with half the batch, or from a single slice on a device to the CPU.

        Args:
            batch: Images that were too many.
            images: Of each slice: two where it is shown mirrored, too.
        """
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if batch > images:
            slices = batch // images // 2
            self._batch = slices * images
            self._warn(f"The device '{self.device}' ran out of memory; slices were computed {slices} at a time.")
        elif self.device.type != "cpu":
            self._warn(
                f"The device '{self.device}' has too little free memory for one slice; the CPU was used instead."
            )
            self._use(torch.device("cpu"))
        else:
            raise InputError("There is too little memory for a single slice: close other programs and try again.")

    def _warn(self, text: str) -> None:
        self.warnings = [w for w in self.warnings if w.split(";")[0] != text.split(";")[0]] + [text]


def _too_little(what: str, needed: int, free: int) -> InputError:
    return InputError(
        f"{what} needs about {needed / 1e9:.2g} GB of memory, but only {free / 1e9:.2g} GB are free: close "
        "other programs or use a larger machine."
    )


def evenly(count: int, most: int) -> int:
    """The batch that divides `count` slices into as few parts as batches of `most` do, and these into like sizes."""
    return max(1, math.ceil(count / max(1, math.ceil(count / most))))
