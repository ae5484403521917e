"""Where "Next slice to correct" goes: what looks wrong, and slices in which a correction would change much."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene.findings import NotedFinding
from dinsegment_slicer.scene.slice_notes import Place


@dataclass(frozen=True)
class Stop:
    """One of them, in one phase.

    Attributes:
        place: Where a correction would change how much; None where only a finding says that something is wrong.
        finding: What looks wrong there; None where nothing was said of it.
    """

    place: Place | None
    finding: NotedFinding | None

    @property
    def position(self) -> tuple[float, float, float] | None:
        """In mm, in the segmentation node's own coordinates; None for what is wrong with the whole image."""
        return self.place.position if self.place is not None else self.finding.position

    @property
    def urgency(self) -> tuple[bool, bool, float]:
        """Orders stops, the last one first: findings that no millilitres go with, other findings, then what is left."""
        ml = self.place.ml if self.place is not None else self.finding.ml
        return self.finding is not None, self.place is None, ml

    def text(self, phase: int, phases: int) -> str:
        """What the user is told, of a phase counted from 0."""
        if self.place is None:
            text = self.finding.short or self.finding.text.rstrip(".")
            where = _("Phase {phase}: {finding}.") if phases > 1 else "{finding}."
            return where.format(phase=phase + 1, finding=text)
        text = _("Slice {slice}, {segment}: about {ml:.1f} ml of it may be wrong.")
        if phases > 1:
            text = _("Phase {phase}, slice {slice}, {segment}: about {ml:.1f} ml of it may be wrong.")
        place = self.place
        return text.format(phase=phase + 1, slice=place.slice + 1, segment=place.segment.lower(), ml=place.ml)


def stops_of(places: Sequence[Place], findings: Sequence[NotedFinding], seen: Collection[int]) -> list[Stop]:
    """The stops of one phase.

    Args:
        places: Where a correction would change most.
        findings: What looks wrong; what is all in slices that a person has seen is left out.
        seen: Slices that a person has corrected, from 0.
    """
    left = [f for f in findings if not f.slices or not {n - 1 for n in f.slices} <= set(seen)]
    stops = []
    for place in places:
        if place.slice not in seen:
            about = (f for f in left if f.segment == place.segment and place.slice + 1 in f.slices)
            stops.append(Stop(place, next(about, None)))
    told = {stop.finding for stop in stops}
    return [*stops, *(Stop(None, finding) for finding in left if finding not in told)]
