"""Volume and model to Segmentation: batches, devices, precision, progress, cancel, out-of-memory."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from dinsegment.enhancement.displayed import enhanced_volume
from dinsegment.errors import Cancelled, InputError
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.volume import Volume, check_voxels
from dinsegment.inference.anatomy import find_box
from dinsegment.inference.confidence import Confidence, Evidence
from dinsegment.inference.heap import keep_freed_memory
from dinsegment.inference.postprocessing import postprocess
from dinsegment.inference.preprocessing import Preprocessing, Slices, View
from dinsegment.models.weights import Model, load_model
from dinsegment.network import DIN, Comparator, rewrite
from dinsegment.quality.findings import findings
from dinsegment.tasks import Task, get_task

Progress = Callable[[float, str], None]
"""Called with the done fraction in 0..1 and what is being done."""

MAX_BATCH = {"cpu": 16, "cuda": 64, "mps": 16}
"""Images in one pass, mirrored ones too: a CPU gains nothing beyond, and cancelling waits for a layer of one batch."""

MATRIX_PRODUCTS = (nn.Linear, nn.modules.conv._ConvNd)
"""Layers whose weights autocast converts."""

PREPARED = 64
"""Slices that are prepared for the network at a time: a whole number of batches, whatever the device."""


def choose_device(device: str) -> torch.device:
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps` -> a device that is there.

    Raises:
        InputError: No such device on this machine.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    kind, _, index = device.partition(":")
    there = {"cpu": True, "cuda": cuda and int(index or 0) < torch.cuda.device_count(), "mps": mps}
    if kind not in there or (index and not index.isdigit()):
        raise InputError(f"There is no device '{device}'; choose auto, cpu, cuda or mps.")
    if not there[kind]:
        raise InputError(f"This machine has no device '{device}' that PyTorch can use; choose 'auto' or 'cpu'.")
    return torch.device(device)


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Precision of matrix products: bfloat16 or float16 where the device computes it, None for float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if device.type == "cpu" and _cpu_has_bf16() else None


def _cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 itself; emulated it would be slower than float32."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def free_memory(device: torch.device) -> int:
    """Bytes that can still be had on the device."""
    if device.type == "cuda":
        reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reusable
    return psutil.virtual_memory().available


def bytes_per_slice(network: DIN | Comparator, view: View) -> int:
    """Peak activation memory of one slice, in float32, with room to spare."""
    return int(4 * view.size[0] * view.size[1] * network.values_per_pixel)


class Runner:
    """Runs slices through a network in batches on one device, and on the CPU when the device has no memory left."""

    def __init__(
        self,
        network: DIN | Comparator,
        device: torch.device,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self._given = network
        self._use(device)
        self.warnings: list[str] = []
        self._progress = progress or (lambda _fraction, _text: None)
        self._cancelled = cancelled or (lambda: False)

    def _use(self, device: torch.device) -> None:
        if device.type == "cpu":
            keep_freed_memory()
        self.device, self.network = device, lowered(self._given, device)
        self._layers = [m for m in self.network.modules() if not any(m.children())]
        self._batch = MAX_BATCH[device.type]

    def check_cancelled(self) -> None:
        """Raises Cancelled if the user has asked for it."""
        if self._cancelled():
            raise Cancelled

    def report(self, fraction: float, text: str) -> None:
        """Tells the user, and stops if the user says so."""
        self.check_cancelled()
        self._progress(fraction, text)

    @contextmanager
    def _cancellable(self) -> Iterator[None]:
        """Asks before every layer whether to go on, so that a slow network on a CPU stops within a layer."""
        hooks = [m.register_forward_pre_hook(lambda *_: self.check_cancelled()) for m in self._layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def probabilities(self, slices: Slices, text: str, start: float, stop: float, mirror: bool = False) -> Tensor:
        """Softmax of every input, (inputs, classes, rows, columns) float32 on the CPU; as `batches`, at once."""
        return torch.cat(list(self.batches([slices], len(slices), text, start, stop, mirror)))

    def batches(
        self, blocks: Iterable[Slices], count: int, text: str, start: float, stop: float, mirror: bool = False
    ) -> Iterator[Tensor]:
        """Softmax of the inputs of one block after the other, which are asked for as they are needed.

        Args:
            blocks: What is shown to the network.
            count: Inputs of all blocks.
            text: What is being done.
            start: Progress at the first input.
            stop: Progress after the last one.
            mirror: Gives the mean of each input's and its mirror image's.

        Yields:
            Batch after batch, (inputs, classes, rows, columns) float32 on the CPU. On a GPU the next one is being
            computed meanwhile.
        """
        waiting: Tensor | None = None
        before, images = 0, 2 if mirror else 1
        for slices in blocks:
            done, fit = 0, int(0.5 * free_memory(self.device) / bytes_per_slice(self.network, slices.view))
            batch = evenly(len(slices), max(1, min(self._batch, fit) // images))
            while done < len(slices):
                number = before + done
                self.report(start + (stop - start) * number / count, f"{text}: slice {number + 1} of {count}")
                part = slice(done, min(done + batch, len(slices)))
                try:
                    with self._cancellable():
                        inputs = slices.inputs(part)
                        if mirror:
                            inputs = tuple(torch.cat((x, x.flip(-1))) for x in inputs)
                        out = self._forward(*inputs)
                        if mirror:
                            straight, mirrored = out.chunk(2)
                            out = (straight + mirrored.flip(-1)) / 2
                except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                    if not _out_of_memory(error):
                        raise
                    batch = self._after_out_of_memory(batch)
                    continue
                if waiting is not None:
                    yield waiting.cpu()
                waiting, done = out, part.stop
            before += len(slices)
        if waiting is not None:
            yield waiting.cpu()

    def _forward(self, image: Tensor, enhanced: Tensor) -> Tensor:
        dtype = autocast_dtype(self.device)
        with torch.inference_mode(), torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            i, e = (self._to_device(x) for x in (image, enhanced))
            return self.network(i, e).float().softmax(1)

    def _to_device(self, x: Tensor) -> Tensor:
        """Inputs (B, channels, rows, columns) on the device, channels last; a GPU copies pinned memory by itself."""
        x = x.pin_memory() if self.device.type == "cuda" else x
        return x.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)

    def _after_out_of_memory(self, batch: int) -> int:
        """Half the batch; from a single slice on a device to the CPU."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if batch > 1:
            self._batch = batch // 2
            self._warn(f"The device '{self.device}' ran out of memory; slices were computed {self._batch} at a time.")
        elif self.device.type != "cpu":
            self._warn(
                f"The device '{self.device}' has too little free memory for one slice; the CPU was used instead."
            )
            self._use(torch.device("cpu"))
        else:
            raise InputError("There is too little memory for a single slice; close other programs and try again.")
        return self._batch

    def _warn(self, text: str) -> None:
        self.warnings = [w for w in self.warnings if w.split(";")[0] != text.split(";")[0]] + [text]


def evenly(count: int, most: int) -> int:
    """The batch that divides `count` slices into as few parts as batches of `most` do, and these into like sizes."""
    return max(1, math.ceil(count / max(1, math.ceil(count / most))))


def _out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return (
        isinstance(error, (torch.OutOfMemoryError, MemoryError))
        or "out of memory" in text
        or "can't allocate memory" in text
        or "not enough memory" in text
    )


@dataclass(frozen=True, eq=False)
class Prediction:
    """Labels (k, j, i) uint8 on the Volume's grid, and how sure the network is; None where it saw no anatomy."""

    labels: np.ndarray
    confidence: Confidence | None = None


def predict(runner: Runner, preprocessing: Preprocessing, volume: Volume, task: Task) -> np.ndarray:
    """Labels (k, j, i) uint8 on the Volume's grid, before the user sees anything else of the result.

    The box around the anatomy is segmented in every slice; the probabilities are brought back to the Volume's grid and
    only there decided, batch after batch, so that those of a whole CT are never held.
    """
    return predict_with_confidence(runner, preprocessing, volume, task).labels


def predict_with_confidence(runner: Runner, preprocessing: Preprocessing, volume: Volume, task: Task) -> Prediction:
    """As `predict`, with what the same probabilities say of how sure the network is."""
    stack = preprocessing.stack(volume)
    box = find_box(runner, preprocessing, stack)
    if box is None:
        return Prediction(np.zeros(volume.shape, np.uint8))
    count, window = box.slices(stack), preprocessing.window_in(stack, box)
    channels = runner.network.config.in_channels
    blocks = (
        preprocessing.slices(stack, box, channels, np.arange(first, min(first + PREPARED, count)), window)
        for first in range(0, count, PREPARED)
    )
    batches = runner.batches(blocks, count, "Segmenting", 0.25, 0.85, preprocessing.mirror)
    evidence = Evidence(box, stack, volume)
    foreground = evidence.see(one[1:] for batch in batches for one in batch)
    labels = np.empty(stack.array.shape, np.uint8)
    for k, decided in enumerate(box.labels_back(foreground, stack)):
        runner.check_cancelled()
        labels[k] = decided
        evidence.labelled(k, decided)
    runner.report(0.85, "Correcting the labels by what is known of the anatomy")
    labels = postprocess(labels, task, stack)
    runner.check_cancelled()
    return Prediction(stack.to_volume_axes(labels), evidence.confidence(labels))


def segment(
    volume: Volume,
    task: Task | str,
    model: str | Model | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    load: Callable[..., Model] | None = None,
) -> Segmentation:
    """Segments a volume.

    Args:
        volume: The image; its array is not changed.
        task: A task or its name.
        model: A model or its name in weights.json; the task's first one if None.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        progress: Called with the fraction done and what is being done.
        cancelled: Asked several times a second; True stops the run.
        load: What loads a model by its name, like `load_model`, which it is by default; one that remembers models
            serves who segments often.

    Returns:
        Labels on exactly the volume's grid, the enhanced volume, and how it went. The same input gives the same
        labels on the same machine.

    Raises:
        InputError: The volume, the task or the device cannot be used.
        ModelError: The model is unknown, missing or damaged, or made for another task.
        Cancelled: `cancelled` said so.
    """
    started = time.perf_counter()
    task = get_task(task) if isinstance(task, str) else task
    check_voxels(volume)
    chosen_device = choose_device(device)
    if progress:
        progress(0.0, "Loading the model")
    downloading = progress and (lambda fraction, text: progress(0.05 * fraction, text))
    load = load or load_model
    loaded = model if isinstance(model, Model) else load(model, task, progress=downloading, cancelled=cancelled)
    loaded.check_task(task)
    runner = Runner(loaded.network, chosen_device, progress, cancelled)
    runner.check_cancelled()
    prediction = predict_with_confidence(runner, loaded.preprocessing, volume, task)
    runner.report(0.9, "Enhancing the image")
    prepared = loaded.preprocessing
    enhanced = enhanced_volume(
        volume, prepared.enhancement, prepared.percentiles, prepared.grey_window, prepared.stack(volume)
    )
    runner.report(0.98, "Looking for what may be wrong")
    found = findings(volume, prediction.labels, task, prediction.confidence)
    runner.report(1.0, "Done")
    return Segmentation(
        volume=volume,
        labels=prediction.labels,
        task=task,
        model=loaded.name,
        enhanced=enhanced,
        device=str(runner.device),
        seconds=time.perf_counter() - started,
        warnings=(*(finding.text for finding in found), *runner.warnings),
        findings=found,
    )


def for_inference(network: DIN | Comparator) -> DIN | Comparator:
    """A trained network ready for inference: rewritten if it is a DIN, no gradients, channels last.

    A network of another kind is itself changed; a DIN stays as it is, but for its evaluation mode.
    """
    network = network.eval().requires_grad_(False)
    if isinstance(network, DIN):
        network = rewrite(network)
    return network.to(memory_format=torch.channels_last)


_LOWERED: WeakKeyDictionary[nn.Module, dict[tuple[torch.device, torch.dtype | None], nn.Module]] = WeakKeyDictionary()


def lowered(network: nn.Module, device: torch.device) -> nn.Module:
    """The network on a device, with the weights of matrix products and convolutions in the device's precision.

    Autocast computes the same from weights in single precision, but converts them for every batch. It is made once for
    each network and device: its weights must not change afterwards.

    Returns:
        A copy that shares what need not be converted, so that the network can still go to another device.
    """
    dtype = autocast_dtype(device)
    known = _LOWERED.setdefault(network, {})
    if (device, dtype) not in known:
        known[device, dtype] = _on_device(network, device, dtype)
    return known[device, dtype]


def _on_device(network: nn.Module, device: torch.device, dtype: torch.dtype | None) -> nn.Module:
    new: dict[int, Tensor] = {id(b): b.to(device) for b in network.buffers()}
    for module in network.modules():
        to = dtype if isinstance(module, MATRIX_PRODUCTS) else None
        new.update({id(p): nn.Parameter(p.to(device, to), False) for p in module.parameters(recurse=False)})
    return copy.deepcopy(network, new)
