"""Hebrew and Arabic as they are read: a PDF draws letters from left to right, each in the form that it is given.

Letters of Arabic get the form that joins them to their neighbours, from Unicode's own presentation forms, and what is
written from right to left is turned round, as Unicode's bidirectional algorithm (UAX #9) does in a line that is
otherwise Latin. Names have no embedded directions, which are left out. Browsers do all this themselves.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

PRESENTATION_FORMS = (range(0xFB50, 0xFE00), range(0xFE70, 0xFEFD))
"""Unicode's Arabic Presentation Forms A and B."""

LAM, TATWEEL = "\u0644", "\u0640"

MIRRORED = dict(zip("()[]{}<>«»", ")(][}{><»«", strict=True))


class _Cluster(NamedTuple):
    """A letter, or two that are written as one, and the marks on it."""

    letter: str
    marks: str


def as_read(text: str) -> str:
    """A text as it is drawn from left to right; one without letters of such scripts as it is."""
    if not any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in text):
        return text
    return "".join(cluster.letter + cluster.marks for cluster in _turned(_joined(_clusters(text))))


def _clusters(text: str) -> list[_Cluster]:
    found: list[_Cluster] = []
    for letter in text:
        if found and unicodedata.combining(letter):
            found[-1] = _Cluster(found[-1].letter, found[-1].marks + letter)
        elif found and found[-1].letter == LAM and LAM + letter in _forms():
            found[-1] = _Cluster(LAM + letter, found[-1].marks)
        else:
            found.append(_Cluster(letter, ""))
    return found


@cache
def _forms() -> dict[str, dict[str, str]]:
    """The presentation forms (isolated, final, initial, medial) of each Arabic letter, and of lam with alef."""
    forms: dict[str, dict[str, str]] = {}
    for block in PRESENTATION_FORMS:
        for code in block:
            tag, _, letters = unicodedata.decomposition(chr(code)).partition(" ")
            logical = "".join(chr(int(one, 16)) for one in letters.split())
            if logical and (len(logical) == 1 or (len(logical) == 2 and code >= 0xFEF5)):
                forms.setdefault(logical, {}).setdefault(tag.strip("<>"), chr(code))
    return forms


def _joined(clusters: Sequence[_Cluster]) -> list[_Cluster]:
    """Each Arabic letter in the form that it has between its neighbours."""

    def joins(number: int, form: str) -> bool:
        if not 0 <= number < len(clusters):
            return False
        letter = clusters[number].letter
        return letter == TATWEEL or form in _forms().get(letter, {})

    found = []
    for n, (letter, marks) in enumerate(clusters):
        forms = _forms().get(letter, {})
        before = "final" in forms and joins(n - 1, "initial")
        after = "initial" in forms and joins(n + 1, "final")
        wanted = "medial" if before and after else "final" if before else "initial" if after else "isolated"
        found.append(_Cluster(forms.get(wanted, letter), marks))
    return found


def _turned(clusters: Sequence[_Cluster]) -> list[_Cluster]:
    """In the order in which they are drawn from left to right."""
    levels = _levels(clusters)
    order = list(range(len(clusters)))
    for level in range(max(levels, default=0), 0, -1):
        start = 0
        while start < len(order):
            end = start
            while end < len(order) and levels[order[end]] >= level:
                end += 1
            order[start:end] = order[start:end][::-1]
            start = max(end, start + 1)
    return [
        _Cluster(MIRRORED.get(clusters[n].letter, clusters[n].letter), clusters[n].marks) if levels[n] == 1
        else clusters[n]
        for n in order
    ]  # fmt: skip


def _levels(clusters: Sequence[_Cluster]) -> list[int]:
    """0 from left to right, 1 from right to left, 2 for numbers within that."""
    levels: list[int | None] = []
    strong = 0
    for cluster in clusters:
        kind = unicodedata.bidirectional(cluster.letter[0])
        if kind in ("L", "R", "AL"):
            strong = 0 if kind == "L" else 1
            levels.append(strong)
        else:
            levels.append(2 * strong if kind in ("EN", "AN") else None)
    _set_brackets(clusters, levels)
    for n, level in enumerate(levels):
        if level is None:
            # Between two that run from right to left it does, too; else as the line.
            levels[n] = 1 if _nearest(levels[:n][::-1]) and _nearest(levels[n + 1 :]) else 0
    return [level or 0 for level in levels]


def _set_brackets(clusters: Sequence[_Cluster], levels: list[int | None]) -> None:
    """Two brackets run as what is before them where they hold letters from right to left alone (rule N0)."""
    opened: list[int] = []
    for n, cluster in enumerate(clusters):
        if cluster.letter in "([{<«":
            opened.append(n)
        elif cluster.letter in ")]}>»" and opened and MIRRORED[cluster.letter] == clusters[opened[-1]].letter:
            start = opened.pop()
            held = [level for level in levels[start + 1 : n] if level is not None]
            if held:
                turned = 0 not in held and _nearest(levels[:start][::-1])
                levels[start] = levels[n] = 1 if turned else 0


def _nearest(levels: Sequence[int | None]) -> int:
    """The first that is known; that of the line where there is none."""
    return next((level for level in levels if level is not None), 0)
