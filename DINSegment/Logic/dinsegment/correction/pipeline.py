"""Corrected slices in, all slices out: the way of `correct`."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dinsegment.correction.features import Features, features_of, in_time
from dinsegment.correction.learn import Learned, Options, learn
from dinsegment.errors import InputError
from dinsegment.images.fingerprint import image_print
from dinsegment.images.segmentation import Finding, ToCorrect
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume, check_voxels
from dinsegment.inference.anatomy import find_box
from dinsegment.inference.cine import common_box, is_cine
from dinsegment.inference.devices import choose_device
from dinsegment.inference.model import Model, load_model
from dinsegment.inference.runner import Runner
from dinsegment.inference.view import View
from dinsegment.memory import enough_memory
from dinsegment.progress import Progress
from dinsegment.quality.findings import findings
from dinsegment.quality.first import correct_first
from dinsegment.quality.words import counted, phases_text, slices_text
from dinsegment.tasks import Task, get_task

LARGER = 2.0
"""A correction changes at most so many times as large a part of another slice as of the corrected one that it had most
of to change in; what changes more than that has not been learned from it."""


@dataclass(frozen=True, eq=False)
class Correction:
    """What became of a user's corrections.

    Attributes:
        labels: New labelmaps (k, j, i) uint8, one a phase; the slices of `seen` are those that were given.
        applied: Whether other slices were predicted again; else the labels are those that were given.
        text: What was done, or why nothing was, in sentences for the user.
        changed: Slices whose labels are not those that were given, one tuple a phase.
        seen: Slices that a person has corrected, one tuple a phase.
        findings: What looks wrong with the new labels, one tuple a phase.
        first: What to correct next, one tuple a phase; slices of `seen` are left out.
        warnings: What else there is to say.
        model: Name of the model.
        device: Where it was computed.
        seconds: Wall-clock time.
    """

    labels: tuple[np.ndarray, ...]
    applied: bool
    text: str
    changed: tuple[tuple[int, ...], ...]
    seen: tuple[tuple[int, ...], ...]
    findings: tuple[tuple[Finding, ...], ...]
    first: tuple[tuple[ToCorrect, ...], ...]
    warnings: tuple[str, ...]
    model: str
    device: str
    seconds: float


class FeaturesKept:
    """What the network saw of the images that were corrected last, so that the next round need not look again.

    Args:
        most: Bytes that are kept at most.
    """

    def __init__(self, most: int = 600 << 20) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[str, str], Features | None] = OrderedDict()

    def get(
        self, key: tuple[str, str], make: Callable[[], Features | None], together: Collection[tuple[str, str]] = ()
    ) -> Features | None:
        """That of a key, which is made if it is not there.

        Where there is no room for all, what was used longest ago goes first. Of a long cine, whose phases are all
        wanted in each round, the first ones stay, and only the others are made again.

        Args:
            key: Names it.
            make: Makes it.
            together: Keys that are wanted with it.
        """
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        made = self._kept[key] = make()
        others = [one for one in self._kept if one != key and one not in together]
        while sum(f.bytes for f in self._kept.values() if f is not None) > self._most and len(self._kept) > 1:
            gone = others.pop(0) if others else key
            del self._kept[gone]
            if gone == key:
                break
        return made


def kept_as(model: Model, image: str, cine: Sequence[str] = ()) -> tuple[str, str]:
    """The key of what a model saw of an image in `FeaturesKept`.

    Args:
        model: The model.
        image: The image's `image_print`.
        cine: Those of all phases of the cine that it is of; none if it is not of a cine.
    """
    return " ".join((model.name, str(id(model.network)), *cine)), image


@dataclass(frozen=True, eq=False)
class _Phase:
    """One phase: its image, the user's labels on the stack's axes, and which slices of the stack were corrected."""

    volume: Volume
    stack: SliceStack
    given: np.ndarray
    seen: tuple[int, ...]


def correct(
    volumes: Sequence[Volume],
    labels: Sequence[np.ndarray],
    seen: Sequence[Collection[int]],
    task: Task | str,
    model: str | Model | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    load: Callable[..., Model] | None = None,
    features: FeaturesKept | None = None,
    options: Options | None = None,
) -> Correction:
    """Learns from the slices that a user has corrected and predicts the others again.

    Always from the original weights and all corrections so far, so that corrections can be made again and again. The
    same input gives the same labels on the same machine.

    Args:
        volumes: The image; of a cine all phases in their order.
        labels: As the user has them now, (k, j, i), one a volume.
        seen: Slices that a person has corrected in all rounds so far, counted from 0 along the image's slice axis; one
            collection a volume, of which some may be empty.
        task: A task or its name.
        model: That made the labels; a model or its name, the task's first one if None.
        device: As `segment` takes it.
        progress: Called with the fraction done and what is being done.
        cancelled: Asked several times a second; True stops the run.
        load: What loads a model by its name, like `load_model`, which it is by default.
        features: Keeps what the network saw for the next round; None to keep nothing.
        options: How is learned; the task's if None.

    Raises:
        InputError: No slice was corrected, volumes and labels do not fit each other, or the image cannot be used.
        ModelError: The model is unknown, missing or damaged, made for another task, or cannot learn.
        Cancelled: `cancelled` said so.
    """
    task = get_task(task) if isinstance(task, str) else task
    _check(volumes, labels, seen, task)
    with enough_memory(volumes[0].name):
        started = time.perf_counter()
        tell = progress or (lambda _fraction, _text: None)
        tell(0.0, "Loading the model")
        chosen = choose_device(device)
        loaded = model if isinstance(model, Model) else (load or load_model)(model, task, cancelled=cancelled)
        loaded.check_task(task)
        phases = [_phase(*one, loaded, task) for one in zip(volumes, labels, seen, strict=True)]
        looked, warnings = _look(phases, loaded, task, chosen, tell, cancelled, features or FeaturesKept(0))
        runner = Runner(loaded.network, chosen, tell, cancelled, loaded.context)
        runner.report(0.7, "Learning from the corrected slices")
        learned, numbers = _learn(phases, looked, options or Options.of(task), runner)
        runner.report(0.8, "Predicting the other slices again")
        result = _predicted(phases, looked, numbers, learned, task, loaded, runner)
        runner.report(1.0, "Done")
        return Correction(
            *result,
            warnings=tuple(dict.fromkeys(warnings)),
            model=loaded.name,
            device=str(chosen),
            seconds=time.perf_counter() - started,
        )


def _check(
    volumes: Sequence[Volume], labels: Sequence[np.ndarray], seen: Sequence[Collection[int]], task: Task
) -> None:
    """Raises InputError unless there is a labelmap for each volume and something was corrected."""
    if not volumes or not len(volumes) == len(labels) == len(seen):
        raise InputError(
            f"There are {len(volumes)} images, {len(labels)} labelmaps and corrected slices of {len(seen)}: give one "
            "of each for every phase."
        )
    if not any(len(slices) for slices in seen):
        raise InputError("No slice was corrected: correct one or a few in the Segment Editor, and try again.")
    for volume, array in zip(volumes, labels, strict=True):
        check_voxels(volume)
        if array.shape != volume.shape:
            raise InputError(
                f"The labels of '{volume.name}' have the shape {array.shape}, but the image {volume.shape}: give the "
                "labels of this image."
            )
        if array.size and int(array.max()) >= task.classes:
            raise InputError(f"'{volume.name}' has the label {int(array.max())}, which the task '{task.name}' has not.")


def _phase(volume: Volume, labels: np.ndarray, seen: Collection[int], model: Model, task: Task) -> _Phase:
    stack = SliceStack.in_plane(volume, model.preprocessing.plane)
    count = len(stack.array)
    if bad := [n for n in seen if not 0 <= n < count]:
        raise InputError(f"'{volume.name}' has {count} slices, so that slice {bad[0] + 1} cannot have been corrected.")
    on_stack = sorted(count - 1 - n if stack.flipped[0] else n for n in set(seen))
    return _Phase(volume, stack, stack.like(labels.astype(np.uint8)).array, tuple(on_stack))


def _look(
    phases: Sequence[_Phase],
    model: Model,
    task: Task,
    device: torch.device,
    tell: Progress,
    cancelled: Callable[[], bool] | None,
    kept: FeaturesKept,
) -> tuple[list[Features | None], list[str]]:
    """What the network sees of each phase, a cine as `segment_phases` looks at it, and what else there is to say."""
    prints = [image_print(phase.volume) for phase in phases]
    cine = is_cine([phase.volume for phase in phases], task)
    found: list[View | None] = []

    def box() -> View | None:
        """That of a whole cine, found once it is needed."""
        if not found:
            runner = Runner(model.network, device, None, cancelled, model.context)
            boxes = [find_box(runner, model.preprocessing, phase.stack) for phase in phases]
            found.append(common_box(boxes))
        return found[0]

    keys = [kept_as(model, one, prints if cine else ()) for one in prints]
    looked, warnings = [], []
    for number, phase in enumerate(phases):
        first, share = 0.7 * number / len(phases), 0.7 / len(phases)

        def part(done: float, text: str, first: float = first, share: float = share) -> None:
            tell(first + share * done, text)

        runner = Runner(model.network, device, part, cancelled, model.context)

        def see(runner: Runner = runner, phase: _Phase = phase) -> Features | None:
            place = box() if cine else None
            if cine and place is None:
                return None
            name = f"The model '{model.name}'"
            return features_of(runner, model.preprocessing, phase.volume, task, 0.2, 1.0, name, place)

        looked.append(kept.get(keys[number], see, keys))
        warnings += runner.warnings
    if cine and looked[0] is not None:
        looked = in_time(looked, phases[0].volume.name)
    return looked, warnings


def _learn(
    phases: Sequence[_Phase], looked: Sequence[Features | None], options: Options, runner: Runner
) -> tuple[Learned, dict[int, int]]:
    """What is learned, and the number that each phase in which there is anatomy has in it."""
    numbers = {phase: n for n, phase in enumerate(p for p, features in enumerate(looked) if features is not None)}
    known = {
        (numbers[p], n): right
        for p, (phase, features) in enumerate(zip(phases, looked, strict=True))
        if features is not None
        for n, right in features.known(phase.given, phase.seen).items()
    }
    found = [features for features in looked if features is not None]
    return learn(found, known, options, runner.check_cancelled), numbers


def _predicted(
    phases: Sequence[_Phase],
    looked: Sequence[Features | None],
    numbers: dict[int, int],
    learned: Learned,
    task: Task,
    model: Model,
    runner: Runner,
) -> tuple:
    """The first seven of what a Correction has."""
    reason = _reason(learned, looked)
    labels, found, first, changed = [], [], [], []
    for p, (phase, features) in enumerate(zip(phases, looked, strict=True)):
        runner.report(0.8 + 0.2 * p / len(phases), "Predicting the other slices again")
        new, confidence = phase.given, None
        if features is not None:
            fixed = frozenset(range(len(phase.given)) if reason else phase.seen)
            one = learned.probabilities(numbers[p])
            sure = model.estimator, model.temperature
            own = learned.own(numbers[p])
            new, confidence = features.labels(one, phase.volume, task, phase.given, fixed, *sure, own)
        array = phase.stack.to_volume_axes(new)
        slices = np.flatnonzero((new != phase.given).any((1, 2)))
        labels.append(array)
        changed.append(tuple(sorted(phase.stack.number(int(k)) - 1 for k in slices)))
        axis = phase.stack.axis
        found.append(findings(phase.volume, array, task, confidence, axis))
        by_user = {phase.stack.number(k) - 1 for k in phase.seen}
        first.append(tuple(one for one in correct_first(confidence, phase.volume, axis) if one.slice not in by_user))
    seen = tuple(tuple(sorted(phase.stack.number(k) - 1 for k in phase.seen)) for phase in phases)
    text = _text(reason, changed, seen)
    return tuple(labels), not reason, text, tuple(changed), seen, tuple(found), tuple(first)


def _reason(learned: Learned, looked: Sequence[Features | None]) -> str:
    """Why the other slices are left as they are, as the end of a sentence; empty if they are not."""
    if not any(features is not None for features in looked):
        return "the network finds nothing to segment in this image"
    if not learned.known:
        return "nothing was corrected in the part of the image that the network looks at"
    if learned.nothing and learned.judged is not None and learned.judged[0] > 0:
        return "tried on the corrected slices, what is learned from the others does not make one better"
    if learned.nothing:
        return "none looks like what was corrected"
    wrong, others = learned.extent()
    if others > LARGER * max(wrong, 1.0):
        return "what was corrected would change other slices more than it changed the corrected ones"
    return ""


def _text(reason: str, changed: Sequence[Sequence[int]], seen: Sequence[Sequence[int]]) -> str:
    """What the user is told."""
    count = sum(map(len, seen))
    from_slices = "the corrected slice" if count == 1 else f"{count} corrected slices"
    if reason:
        return f"Your corrections stay, and all other slices are left as they were: {reason}."
    number = sum(map(len, changed))
    if not number:
        return f"Learned from {from_slices}; no other slice had to be changed."
    if len(changed) == 1:
        where = slices_text(n + 1 for n in changed[0])
    else:
        phases = phases_text((n for n, slices in enumerate(changed, start=1) if slices), len(changed))
        where = f"{counted(number, 'slice')} in {phases}"
    verb = "was" if number == 1 else "were"
    return f"Learned from {from_slices}: {where} {verb} changed. Check what changed; what you corrected stays as it is."
