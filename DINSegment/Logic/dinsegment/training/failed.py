"""Cases that cannot be used, told before or while the others are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dinsegment.errors import DINSegmentError, InputError, printable
from dinsegment.tasks import Task
from dinsegment.training.cases import Case


@dataclass(frozen=True)
class FailedCase:
    """A case that could not be used, and why, in a sentence for the user."""

    case: str
    patient: str
    phase: str
    message: str

    @classmethod
    def of(cls, case: Case, error: Exception) -> FailedCase:
        """What became of a case that ended with an error."""
        message = str(error)
        if not isinstance(error, DINSegmentError):
            what = f"{type(error).__name__}: {' '.join(message.split()) or 'no message'}"
            message = f"'{case.image}' could not be used because of an unexpected error ({what})."
        return cls(*(printable(text) for text in (case.name, case.patient, case.phase, message)))


def usable_cases(
    cases: Sequence[Case],
    task: Task,
    to_learn_from: bool,
    progress: Callable[[int, Case], None] | None = None,
) -> tuple[list[Case], list[FailedCase]]:
    """Reads every case once; hours into a training it would be late to find that one cannot be read.

    Args:
        cases: What is to be used.
        task: What is labelled.
        to_learn_from: Whether a case without any label is of no use.
        progress: Called with the number of a case, from 0, before it is read.

    Returns:
        The cases that can be used, in their order, and the others.
    """
    usable, failed = [], []
    for number, case in enumerate(cases):
        if progress:
            progress(number, case)
        try:
            _, labels = case.read(task)
            if to_learn_from and not labels.any():
                raise InputError(f"'{case.labels}' has no label above 0: there is nothing to learn from.")
        except Exception as error:
            failed.append(FailedCase.of(case, error))
        else:
            usable.append(case)
    return usable, failed
