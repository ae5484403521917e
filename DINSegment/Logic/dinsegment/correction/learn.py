"""What is learned from the slices that a user has corrected, and whether it helps the others.

Two ways are there. A correction is carried to the slices beside it (`neighbours`), and the network gets a last layer of
the patient's own (`head`), which reaches every slice. Which of them are used, the corrected slices themselves decide:
each is left out in turn and predicted from the others. What would not have made it better is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from dinsegment.correction.features import LEAST, Features
from dinsegment.correction.head import Head, HeadOptions, fit_head
from dinsegment.correction.neighbours import Kernel, Place, carried
from dinsegment.errors import InputError
from dinsegment.tasks import Task

FEWEST = 2
"""Corrected slices from which on a layer of the patient's own is tried: what it brings has to be seen in a slice that
it has not learned from."""


HARM = 0.05
"""Share by which a corrected slice has to get worse by what is carried to it from others, not to be chance."""


@dataclass(frozen=True)
class Options:
    """How is learned from corrections; the entry `correction` of a task."""

    kernel: Kernel = field(default_factory=Kernel)
    head: HeadOptions = field(default_factory=HeadOptions)

    @classmethod
    def of(cls, task: Task) -> Options:
        """Those of a task.

        Raises:
            InputError: The task has one that there is not.
        """
        given = task.correction
        try:
            return cls(**{"kernel": Kernel(**given.get("kernel", {})), "head": HeadOptions(**given.get("head", {}))})
        except (TypeError, AttributeError) as error:
            raise InputError(f"The entry 'correction' of the task '{task.name}' cannot be used: {error}.") from error


@dataclass(frozen=True, eq=False)
class Learned:
    """What was learned from corrections.

    Attributes:
        phases: What the network saw of each phase.
        known: What is right in the corrected slices, (classes, rows, columns), by phase and slice of the box.
        head: The patient's own layer; None where it would not help.
        added: By slice what else is added to its logits, (classes, h, w).
        judged: Voxels of the boxes that were wrong in the corrected slices before and would be after, each left out in
            turn; None where there is but one.
    """

    phases: Sequence[Features]
    known: Mapping[Place, Tensor]
    head: Head | None
    added: Mapping[Place, Tensor]
    judged: tuple[int, int] | None = None

    @property
    def nothing(self) -> bool:
        """Whether no slice is changed by it."""
        return self.head is None and not self.added

    def extent(self) -> tuple[float, float]:
        """Voxels of the box that the user changed, on average over corrected slices, and that learning changes.

        The latter on average over the other slices in which it changes anything.
        """
        wrong = [_differ(self.phases[p].probabilities[n], right) for (p, n), right in self.known.items()]
        others = []
        for p, features in enumerate(self.phases):
            for n in range(len(features.hidden)):
                if (p, n) not in self.known and (self.head is not None or (p, n) in self.added):
                    others.append(_differ(features.probabilities[n], self.of((p, n))))
        others = [count for count in others if count]
        return sum(wrong) / max(1, len(wrong)), sum(others) / max(1, len(others))

    def probabilities(self, phase: int) -> Iterator[Tensor]:
        """Of all classes, (classes, rows, columns) float32, slice after slice of the box of a phase."""
        for n in range(len(self.phases[phase].hidden)):
            place = phase, n
            yield self.known[place] if place in self.known else self.of(place)

    def own(self, phase: int) -> Iterator[Tensor] | None:
        """The same without smoothing in time, which is how sure the network is; None where nothing was smoothed."""
        if any(one.own is None for one in self.phases):
            return None
        phases = [replace(one, probabilities=one.own, own=None) for one in self.phases]
        return replace(self, phases=phases).probabilities(phase)

    def of(self, place: Place) -> Tensor:
        """What is said of a slice after learning, (classes, rows, columns) float32."""
        return adapted(self.phases, place, self.head, self.added.get(place))


def _differ(one: Tensor, other: Tensor) -> int:
    """Pixels of which two sets of probabilities, (classes, rows, columns), say different things."""
    return int((one.argmax(0) != other.argmax(0)).sum())


def adapted(phases: Sequence[Features], place: Place, head: Head | None, added: Tensor | None) -> Tensor:
    """The network's probabilities of a slice with what was learned, (classes, rows, columns) float32."""
    features = phases[place[0]]
    said = features.probabilities[place[1]].float()
    if head is None and added is None:
        return said
    shift = 0 if head is None else head(features.hidden[place[1]])
    shift = shift if added is None else shift + added
    return (said.clamp(min=LEAST).log() + features.fine(shift[None])[0]).softmax(0)


def learn(
    phases: Sequence[Features],
    known: Mapping[Place, Tensor],
    options: Options,
    check_cancelled: Callable[[], None] = lambda: None,
) -> Learned:
    """Learns from corrected slices what helps the others.

    Args:
        phases: What the network saw of each phase.
        known: What is right in the corrected slices, (classes, rows, columns), by phase and slice of the box.
        options: How is learned.
        check_cancelled: Raises if the user has asked for it.
    """
    coarse_known = {place: phases[place[0]].coarse(right[None])[0] for place, right in known.items()}

    def coarse(place: Place) -> Tensor:
        return phases[place[0]].coarse(phases[place[0]].probabilities[place[1]][None])[0]

    def head_from(leave_out: Place | None) -> Head:
        return fit_head(phases, coarse_known, coarse, options.head, leave_out, check_cancelled)

    def carried_from(places: Sequence[Place], head: Head | None, chosen: Sequence[Place] | None) -> dict[Place, Tensor]:
        def base(place: Place) -> Tensor:
            return phases[place[0]].coarse(adapted(phases, place, head, None)[None])[0]

        some = {place: coarse_known[place] for place in places}
        return carried(phases, some, base, options.kernel, chosen, check_cancelled)

    with torch.no_grad():
        if len(known) < FEWEST:
            return Learned(phases, known, None, carried_from(list(known), None, None))
        wrong = {name: 0 for name in ("network", "carried", "head", "both")}
        for place, right in known.items():
            rest = [other for other in known if other != place]
            with torch.enable_grad():
                head = head_from(place)
            alone = carried_from(rest, None, [place]).get(place)
            both = carried_from(rest, head, [place]).get(place)
            truth = right.argmax(0)
            for name, (h, a) in {
                "network": (None, None), "carried": (None, alone), "head": (head, None), "both": (head, both)
            }.items():  # fmt: skip
                wrong[name] += int((adapted(phases, place, h, a).argmax(0) != truth).sum())
        # Neighbours are judged by slices that are farther apart than those they are for: only plain harm counts.
        with_neighbours = wrong["carried"] <= (1 + HARM) * wrong["network"]
        plain, headed = ("carried", "both") if with_neighbours else ("network", "head")
        with_head = wrong[headed] < wrong[plain]
        head = None
        if with_head:
            with torch.enable_grad():
                head = head_from(None)
        added = carried_from(list(known), head, None) if with_neighbours else {}
        best = headed if with_head else plain
        return Learned(phases, known, head, added, (wrong["network"], wrong[best]))
