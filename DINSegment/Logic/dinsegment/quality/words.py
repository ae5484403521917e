"""What findings have in common in words: slice numbers and lists of names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

RUNS = 3
"""Longer lists of slices nobody reads."""


def slices_text(numbers: Iterable[int], worst: int | None = None) -> str:
    """Slice numbers in words: `slice 3`, `slices 3 and 4`, `slices 3 to 7 and 9`; of many, the one to look at."""
    text = _numbered("slice", numbers)
    many = len(set(numbers)) > RUNS
    return f"{text}, most in slice {worst}" if many and worst is not None else text


def phases_text(numbers: Iterable[int], count: int) -> str:
    """Phase numbers in words, each of them, however many: `phase 3`, `phases 3 to 9 and 12`, or `all 20 phases`."""
    several = set(numbers)
    return f"all {count} phases" if len(several) == count > 1 else _numbered("phase", several, count)


def _numbered(what: str, numbers: Iterable[int], most: int = RUNS) -> str:
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    if len(runs) > most:
        return f"{what}s between {runs[0][0]} and {runs[-1][-1]}"
    parts = []
    for run in runs:
        parts += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else [str(number) for number in run]
    return f"{what} {parts[0]}" if len(runs) == len(runs[0]) == 1 else f"{what}s {listed(parts)}"


def slices_short(numbers: Iterable[int]) -> str:
    """Slice numbers in few words: `slice 3`, or from the first to the last, `slices 3 to 9`."""
    ordered = sorted(set(numbers))
    first, last = ordered[0], ordered[-1]
    return f"slice {first}" if first == last else f"slices {first} to {last}"


def counted(number: int, what: str) -> str:
    """`1 slice`, `2 slices`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def few(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a and 2 more`."""
    return listed(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} more"


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
