"""The phases of a heart beat to Segmentations, the phases of a cine as one thing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from dinsegment.images.segmentation import Segmentation
from dinsegment.images.volume import Volume, check_volume
from dinsegment.inference.anatomy import find_box
from dinsegment.inference.cine import common_box, consistent, is_cine
from dinsegment.inference.labelling import Prediction, label
from dinsegment.inference.looking import LOCATED, LOOKED, look_at_segments
from dinsegment.inference.model import Model
from dinsegment.inference.pipeline import finish, prepare, segment
from dinsegment.inference.plausible import Image, checked_image
from dinsegment.inference.runner import Runner
from dinsegment.memory import check_memory, enough_memory
from dinsegment.progress import Progress
from dinsegment.quality.wall import several_findings
from dinsegment.tasks import Task, get_task

PhaseProgress = Callable[[int, float, str], None]
"""Called with the number of a phase, from 0, the fraction that is done of all, 0 to 1, and what is being done."""

CINE_LOCATED, CINE_LOOKED = 0.2, 0.8
"""Parts of a cine: where the heart is found in all phases, and where the network has seen all of them."""

_PASSES = (
    ((0.0, LOCATED), (0.0, CINE_LOCATED)),
    ((LOCATED, LOOKED), (CINE_LOCATED, CINE_LOOKED)),
    ((LOOKED, 1.0), (CINE_LOOKED, 1.0)),
)
"""Which part of an image's run each pass over the phases is, and which part of the whole cine it takes."""


def segment_phases(
    volumes: Sequence[Volume],
    task: Task | str,
    model: str | Model | None = None,
    device: str = "auto",
    progress: PhaseProgress | None = None,
    cancelled: Callable[[], bool] | None = None,
    load: Callable[..., Model] | None = None,
) -> Iterator[Segmentation]:
    """Segments the phases of one heart, or any images; those of a cine as one thing.

    In a cine (`cine.is_cine`) all phases are looked at in one box, and their probabilities are smoothed in time. Other
    images, such as end diastole and end systole alone, are segmented each as `segment` does.

    Args:
        volumes: The phases, in the order of time; or other images.
        task: A task or its name.
        model: As `segment` takes it.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        progress: Called with the number of the phase, the fraction done of all, and what is being done.
        cancelled: Asked several times a second; True stops the run.
        load: As `segment` takes it.

    Yields:
        The Segmentation of one phase after the other.

    Raises:
        DINSegmentError: As `segment`.
    """
    for volume in volumes:
        check_volume(volume)
    task = get_task(task) if isinstance(task, str) else task

    def told(number: int, run: tuple[float, float], whole: tuple[float, float]) -> Progress | None:
        return progress and _share(progress, number, len(volumes), run, whole)

    if not is_cine(volumes, task):
        for number, volume in enumerate(volumes):
            one = segment(volume, task, model, device, told(number, (0.0, 1.0), (0.0, 1.0)), cancelled, load)
            yield _with_several(one, len(volumes))
        return
    with enough_memory(volumes[0].name):
        clock = _Clock(len(volumes))
        images = [checked_image(volume, task) for volume in volumes]
        loaded, runner = prepare(task, model, device, told(0, *_PASSES[0]), cancelled, load)

        def begun(number: int, which: int) -> None:
            clock.run(number)
            runner.tell(told(number, *_PASSES[which]))

        for number, prediction in enumerate(_predict_cine(runner, loaded, images, task, begun)):
            yield _with_several(finish(runner, loaded, task, prediction, clock.began(number)), len(volumes))


def _with_several(phase: Segmentation, count: int) -> Segmentation:
    """The same, with what is to be said of so many phases."""
    found = several_findings(phase.task, count)
    texts = [finding.text for finding in found]
    return replace(phase, findings=(*found, *phase.findings), warnings=(*texts, *phase.warnings))


def _share(
    progress: PhaseProgress, number: int, count: int, run: tuple[float, float], whole: tuple[float, float]
) -> Progress:
    """Progress of one phase's `run`, from one fraction to another, as its share in a part of the `whole` cine."""
    (low, high), (start, stop) = run, whole

    def tell(fraction: float, text: str) -> None:
        done = min(max((fraction - low) / (high - low), 0.0), 1.0)
        progress(number, start + (stop - start) * (number + done) / count, text)

    return tell


def _predict_cine(
    runner: Runner, model: Model, images: Sequence[Image], task: Task, begun: Callable[[int, int], None]
) -> Iterator[Prediction]:
    """As `predict_with_confidence`, of the phases of a cine, in three passes over them.

    Labels are decided on smoothed probabilities; how sure the network is, is told by its own ones. Of each phase its
    box's probabilities are held, both in half precision.

    Args:
        runner: Runs the network.
        model: Its preprocessing, estimator and temperature.
        images: The phases.
        task: What is segmented.
        begun: Called with a phase that is gone on with and the number of the pass, both counted from 0.
    """
    preprocessing, boxes = model.preprocessing, []
    for number, image in enumerate(images):
        begun(number, 0)
        boxes.append(find_box(runner, preprocessing, image.stack))
    box = common_box(boxes)
    if box is None:
        yield from (Prediction(image, np.zeros(image.volume.shape, np.uint8)) for image in images)
        return
    shape = len(images), box.count, task.classes - 1, *box.size
    check_memory(images[0].volume.name, 2 * 2 * math.prod(shape))
    own = np.empty(shape, np.float16)
    for number, image in enumerate(images):
        begun(number, 1)
        for k, foreground in enumerate(look_at_segments(runner, preprocessing, image.volume, box.on(image.stack))):
            own[number, k] = foreground
    smoothed = consistent(own)
    for number, image in enumerate(images):
        begun(number, 2)
        foreground, shown = (iter(torch.from_numpy(one[number]).float()) for one in (own, smoothed))
        sure = model.estimator, model.temperature
        yield label(runner, image, box.on(image.stack), foreground, task, *sure, shown)


class _Clock:
    """Seconds that were spent on each phase."""

    def __init__(self, phases: int) -> None:
        self._spent = [0.0] * phases
        self._phase, self._since = 0, time.perf_counter()

    def run(self, phase: int) -> None:
        """From now on time is spent on that phase."""
        now = time.perf_counter()
        self._spent[self._phase] += now - self._since
        self._phase, self._since = phase, now

    def began(self, phase: int) -> float:
        """When that phase would have begun, had it been worked on without a break until now."""
        self.run(phase)
        return self._since - self._spent[phase]
