"""What the panel tells the user of a run, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dinsegment.quality.gather import CHECK
from dinsegment.quality.words import phases_text
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.logic import Result


class Severity(Enum):
    """How a message is shown."""

    INFORMATION = "information"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Message:
    """What the user is told."""

    severity: Severity
    text: str


def summary(result: Result, kept: str | None) -> Message | None:
    """What the user should know about a result beside the findings, which the panel lists; None if all is well.

    Args:
        result: What was added.
        kept: Name of the segmentation that was to be replaced and was not, since it was corrected meanwhile.
    """
    texts = [text for text in result.warnings if text != CHECK]  # The list of findings says it.
    if kept is not None:
        text = _("You went on correcting meanwhile: '{name}' stays as it is, hidden, and the result is a new one.")
        texts.append(text.format(name=kept))
    count = len(result.findings)
    doubtful = [number for number, found in enumerate(result.findings, start=1) if found]
    if doubtful and count > 1:
        text = _(
            "Something looks wrong in {phases}: the result lists it for the phase in view, and 'Next slice to correct' "
            "goes there."
        )
        phases = phases_text(doubtful, count)
        of = "" if len(doubtful) == count else _(" of {count}").format(count=count)
        texts.append(text.format(phases=phases + of))
    return Message(Severity.WARNING, "\n".join(texts)) if texts else None
