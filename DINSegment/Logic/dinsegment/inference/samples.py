"""Several possible segmentations of an image that was segmented: where could it be otherwise, and by how much?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from torch import Tensor

from dinsegment.images.samples import Samples, check_draws
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.slices import SliceStack
from dinsegment.inference.anatomy import find_box
from dinsegment.inference.devices import choose_device
from dinsegment.inference.draws import DEFAULTS, SampleOptions, vary
from dinsegment.inference.looking import LOCATED, look
from dinsegment.inference.model import Model, load_model
from dinsegment.inference.postprocessing import postprocess
from dinsegment.inference.runner import Runner
from dinsegment.inference.view import decide
from dinsegment.memory import enough_memory
from dinsegment.models.entries import read_entries
from dinsegment.network import Network, NetworkConfig, network_config
from dinsegment.progress import Progress
from dinsegment.tasks import Task


def sampling_model(task: Task) -> str | None:
    """The first of the task's models that draws samples itself, in the order of weights.json; None if none does."""
    if "samples" not in task.kinds:
        return None
    own = (e.name for e in read_entries() if e.task == task.name and _draws_itself(network_config(e.network)))
    return next(own, None)


def _draws_itself(network: NetworkConfig | Network) -> bool:
    return network.kind.returns == "samples"


def with_samples(
    segmentation: Segmentation,
    draws: int,
    model: str | Model | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    load: Callable[..., Model] | None = None,
) -> Segmentation:
    """A segmentation with samples of what it could have been.

    The network is asked as often as there are draws: one that draws samples itself for its samples, any other for its
    answer with small variations of the image, the box and its own features. Each draw is one for the whole image, and
    is the same for every image that it is asked for, so that draws of end diastole and end systole belong together.
    Labels and findings stay as they are. Where the model finds no anatomy there are no samples, and a warning says so.

    Args:
        segmentation: What `segment` gives.
        draws: How many, 2 to 100.
        model: As in `segment`. Where it does not draw samples itself and another model of the task does, that is asked.
        device: As in `segment`.
        progress: Called with the fraction done and what is being done.
        cancelled: Asked several times a second; True stops the run.
        load: As in `segment`.

    Raises:
        InputError: So many cannot be drawn, or the device cannot be used.
        ModelError: As in `segment`.
        Cancelled: `cancelled` said so.
    """
    check_draws(draws)
    volume, task = segmentation.volume, segmentation.task
    with enough_memory(volume.name):
        load = load or load_model
        chosen = model if isinstance(model, Model) else load(model, task, cancelled=cancelled)
        if not _draws_itself(chosen.network) and (own := sampling_model(task)) is not None:
            chosen = load(own, task, cancelled=cancelled)
        chosen.check_task(task)
        runner = Runner(chosen.network, choose_device(device), progress, cancelled, chosen.context)
        samples = _samples(runner, chosen, segmentation, draws)
        runner.report(1.0, "Done")
    if samples is None:
        text = f"No samples were drawn of '{volume.name}': the model '{chosen.name}' finds no anatomy there."
        return replace(segmentation, warnings=(*segmentation.warnings, text))
    return replace(segmentation, samples=samples)


def _samples(runner: Runner, model: Model, segmentation: Segmentation, draws: int) -> Samples | None:
    """None where the model finds no anatomy: no draw would differ from another, which would look like certainty."""
    volume, task = segmentation.volume, segmentation.task
    stack = SliceStack.in_plane(volume, model.preprocessing.plane)
    result = stack.like(segmentation.labels).array
    doubt, counts = np.zeros(result.shape, np.float32), np.zeros((draws, task.classes - 1), np.int64)
    options = model.samples or SampleOptions(DEFAULTS[model.network.kind.returns])
    box = find_box(runner, model.preprocessing, stack)
    if box is None:
        return None
    for number in range(draws):
        draw, preprocessing, view = vary(number, options.variations, model.preprocessing, box)
        start, stop = (LOCATED + (1 - LOCATED) * n / draws for n in (number, number + 1))
        text = f"Drawing sample {number + 1} of {draws}"
        batches = look(runner, preprocessing, view, text, start, stop, draw=draw)
        labels = np.empty(result.shape, np.uint8)
        for k, shares in enumerate(view.values_back(one[1:] for batch in batches for one in batch)):
            runner.check_cancelled()
            labels[k] = decide(shares)
            doubt[k] += probability_of_another(shares, result[k])
        labels = postprocess(labels, task, stack)
        counts[number] = np.bincount(labels.ravel(), minlength=task.classes)[1:]
    volumes = counts * volume.voxel_volume_ml
    return Samples(
        model.name,
        volumes,
        stack.to_volume_axes(doubt / np.float32(draws)),
        options.scales,
        options.floors,
        options.draws,
        options.patients,
    )


def probability_of_another(shares: Tensor, labels: np.ndarray) -> np.ndarray:
    """The share of another label than the given one, (y, x) float32.

    Args:
        shares: Of the segments, (segments, y, x); what is left to 1 is background's.
        labels: (y, x) uint8.
    """
    given = np.concatenate((1 - shares.sum(0, keepdim=True).numpy(), shares.numpy()))
    return np.clip(1 - np.take_along_axis(given, labels[None].astype(np.intp), 0)[0], 0, 1)
