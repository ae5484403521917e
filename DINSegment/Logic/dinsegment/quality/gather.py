"""What is said of a whole cine: the findings of its phases, each thing once, with the phases that it is about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dinsegment.images.segmentation import Finding, Segmentation
from dinsegment.quality.words import phases_text, slices_text

CHECK = "Look at these places, and correct what is wrong there, in 3D Slicer's Segment Editor say."
"""Said once, after the findings."""


class _Said(NamedTuple):
    """Something that is wrong in several phases."""

    first: Finding
    phases: list[int]
    slices: list[int]


def with_check(findings: Iterable[Finding]) -> tuple[str, ...]:
    """The texts of findings, and once what to do where a segment is to be corrected."""
    found = tuple(findings)
    return (*(f.text for f in found), *((CHECK,) if any(is_correctable(f) for f in found) else ()))


def is_correctable(finding: Finding) -> bool:
    """Whether it is about a segment that a user may correct."""
    return finding.segment is not None and not finding.advice


class Gathered(NamedTuple):
    """What is wrong in the same way in several phases.

    Attributes:
        text: A sentence for the user.
        segment: Label of what it is about; None for the image.
        phases: Counted from 0.
    """

    text: str
    segment: int | None
    phases: tuple[int, ...]


def gathered(phases: Sequence[Segmentation]) -> tuple[str, ...]:
    """Sentences for the user about all phases of one beat; of a single image its own.

    What is wrong in the same way in several phases is said once, with the slices of all of them: "The network is unsure
    of the right ventricle in slice 2 in phases 3 to 9."
    """
    if len(phases) == 1:
        return phases[0].warnings
    texts = [one.text for one in gathered_findings(phases)]
    texts += [CHECK] if any(is_correctable(f) for phase in phases for f in phase.findings) else []
    return (*texts, *other_warnings(phases))


def gathered_findings(phases: Sequence[Segmentation]) -> list[Gathered]:
    """The findings of all phases of one beat, each thing once; of a single image its own."""
    if len(phases) == 1:
        return [Gathered(f.text, f.segment, (0,)) for f in phases[0].findings]
    said: dict[tuple[str, int | None, str], _Said] = {}
    for number, phase in enumerate(phases, start=1):
        for finding in phase.findings:
            about = (finding.topic or finding.text).replace(f"'{phase.volume.name}'", "the image")
            one = said.setdefault((finding.kind, finding.segment, about), _Said(finding, [], []))
            one.phases.append(number)
            one.slices.extend(finding.slices)
    return [
        Gathered(_sentence(about, one, len(phases)), segment, tuple(n - 1 for n in one.phases))
        for (_, segment, about), one in said.items()
    ]


def other_warnings(phases: Sequence[Segmentation]) -> tuple[str, ...]:
    """What else there is to say, such as that memory was short; it is the same for all phases."""
    of_findings = {f.text for phase in phases for f in phase.findings} | {CHECK}
    return tuple(dict.fromkeys(text for phase in phases for text in phase.warnings if text not in of_findings))


def _sentence(about: str, said: _Said, count: int) -> str:
    where = f" in {slices_text(said.slices)}" if said.slices else ""
    advice = f": {said.first.advice}" if said.first.advice else ""
    return f"{about.rstrip('.')}{where} in {phases_text(said.phases, count)}{advice}."
