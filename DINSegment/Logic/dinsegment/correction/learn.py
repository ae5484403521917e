"""What is learned from the slices that a user has corrected, and whether it helps the others.

Two ways are there. A correction is carried to the slices beside it (`neighbours`), and the network gets a last layer of
the patient's own (`head`), which reaches every slice. Which of them are used, the corrected slices themselves decide:
each is left out in turn and predicted from the others. What would not have made it better is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import torch
from torch import Tensor

from dinsegment.correction.features import LEAST, Features
from dinsegment.correction.head import Head, HeadOptions, fit_head
from dinsegment.correction.neighbours import Kernel, Place, carried
from dinsegment.errors import InputError
from dinsegment.inference.view import decide
from dinsegment.tasks import Task

FEWEST = 2
"""Corrected slices from which on a layer of the patient's own is tried: what it brings has to be seen in a slice that
it has not learned from."""

JUDGED = 8
"""Of more corrected slices so many are left out in turn: each takes as long as learning once."""

HARM = 0.05
"""Share by which a corrected slice has to get worse by what is carried to it from others, not to be chance."""

PLAINLY = 0.7
"""A layer that has also learned from what the network was sure of is used where it leaves at most this share of the
wrong pixels: where the user has changed the same thing in several slices."""

PLAIN_HARM = 0.25
"""Share by which left-out slices have to get worse by a layer that has not, in what it learns from, not to be chance.
In 22 hearts with two corrected slices each, whether they got a little worse did not tell for which others it was bad:
for none."""

ENOUGH = 0.05
"""Share of the wrong pixels that such a layer has to have something to learn from."""


@dataclass(frozen=True)
class Options:
    """How is learned from corrections; the entry `correction` of a task.

    Attributes:
        kernel: How a correction is carried to the slices beside it.
        head: How the patient's own layer is fitted.
        bold: How it is fitted where the corrected slices plainly agree, if `head` does not learn from what the network
            was sure of; None for no other way.
        both: Whether corrections are carried, too, where the layer is fitted as `head` says.
    """

    kernel: Kernel = field(default_factory=Kernel)
    head: HeadOptions = field(default_factory=HeadOptions)
    bold: HeadOptions | None = None
    both: bool = True

    @classmethod
    def of(cls, task: Task) -> Options:
        """Those of a task.

        Raises:
            InputError: The task has one that there is not.
        """
        given = task.correction
        try:
            kinds = {"kernel": Kernel, "head": HeadOptions, "bold": HeadOptions}
            return cls(**{name: kinds[name](**one) if name in kinds else one for name, one in given.items()})
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
        one = self.phases[phase]
        if one.own is None:
            return None
        foreground = one.own.float()
        every = torch.cat((1 - foreground.sum(1, keepdim=True), foreground), 1)
        phases = [*self.phases[:phase], replace(one, probabilities=every, own=None), *self.phases[phase + 1 :]]
        return replace(self, phases=phases).probabilities(phase)

    def of(self, place: Place) -> Tensor:
        """What is said of a slice after learning, (classes, rows, columns) float32."""
        return adapted(self.phases, place, self.head, self.added.get(place))


def _differ(one: Tensor, other: Tensor) -> int:
    """Pixels of which two sets of probabilities, (classes, rows, columns), say different things."""
    return int((decide(one[1:]) != decide(other[1:])).sum())


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

    @cache  # Each slice that is left out asks for all others.
    def coarse(place: Place) -> Tensor:
        return phases[place[0]].coarse(phases[place[0]].probabilities[place[1]][None])[0]

    def head_from(how: HeadOptions, leave_out: Place | None) -> Head:
        return fit_head(phases, coarse_known, coarse, how, leave_out, check_cancelled)

    def carried_from(places: Sequence[Place], head: Head | None, chosen: Sequence[Place] | None) -> dict[Place, Tensor]:
        def base(place: Place) -> Tensor:
            return phases[place[0]].coarse(adapted(phases, place, head, None)[None])[0]

        some = {place: coarse_known[place] for place in places}
        return carried(phases, some, base, options.kernel, chosen, check_cancelled)

    with torch.no_grad():
        if len(known) < FEWEST:
            return Learned(phases, known, None, carried_from(list(known), None, None))
        tried = list(dict.fromkeys((None, options.head, options.bold)))  # None is the network itself
        wrong = {(way, carry): 0 for way in tried for carry in (False, True)}
        learnable = {way: 0 for way in tried}
        for place in _spread(list(known), JUDGED):
            rest, truth = [other for other in known if other != place], decide(known[place][1:])
            said = phases[place[0]].probabilities[place[1]]
            possible = said.gather(0, truth[None].long())[0] >= options.head.least
            for way in tried:
                head = None if way is None else head_from(way, place)
                for carry in (False, True):
                    added = carried_from(rest, head, [place]).get(place) if carry else None
                    bad = decide(adapted(phases, place, head, added)[1:]) != truth
                    wrong[way, carry] += int(bad.sum())
                    learnable[way] += 0 if carry else int((bad & possible).sum())
        # Neighbours are judged by slices that are farther apart than those they are for: only plain harm counts.
        carry = wrong[None, True] <= (1 + HARM) * wrong[None, False]
        best, left = None, wrong[None, carry]
        with_head = carry and options.both
        if options.head.least:
            helps = (
                ENOUGH * wrong[None, False] <= learnable[None]
                and learnable[options.head] <= (1 + PLAIN_HARM) * learnable[None]
            )
        else:
            helps = wrong[options.head, with_head] < left
        if helps:
            best, left = options.head, wrong[options.head, with_head]
        if options.bold is not None and wrong[options.bold, carry] < PLAINLY * left:
            best, left = options.bold, wrong[options.bold, carry]
        head = None if best is None else head_from(best, None)
        carry = with_head if best is options.head else carry
        added = carried_from(list(known), head, None) if carry else {}
        return Learned(phases, known, head, added, (wrong[None, False], left))


def _spread(places: Sequence[Place], most: int) -> list[Place]:
    """At most so many of them, evenly spread."""
    return [places[i * len(places) // most] for i in range(most)] if len(places) > most else list(places)
