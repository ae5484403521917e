"""Texts as labels show them in a narrow panel."""

from __future__ import annotations

ZERO_WIDTH_SPACE = "\u200b"


def breakable(text: str) -> str:
    """A text whose file names and paths may go on in the next line, so that a label need not be as wide as they are."""
    for character in "_/\\-.":
        text = text.replace(character, character + ZERO_WIDTH_SPACE)
    return text
