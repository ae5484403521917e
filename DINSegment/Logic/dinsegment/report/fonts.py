"""Letters of any script in a PDF.

DejaVu Sans, which Matplotlib brings (its licence lets anybody embed it), has Latin, Greek, Cyrillic, Hebrew, Arabic,
Armenian and Georgian letters. Others come from a font of this computer that has them and can be embedded; Chinese,
Japanese and Korean, where there is none, from those that PDF viewers have themselves.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from pathlib import Path
from xml.sax.saxutils import escape

from matplotlib import font_manager, get_data_path
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFError, TTFont

from dinsegment.report.scripts import as_read

REGULAR, BOLD = "DejaVuSans", "DejaVuSans-Bold"
MOST_FONTS = 400
"""Of the computer's are looked at."""


@cache
def register_fonts() -> None:
    """Makes the two fonts of a report known to reportlab."""
    folder = Path(get_data_path()) / "fonts" / "ttf"
    for name in (REGULAR, BOLD):
        pdfmetrics.registerFont(TTFont(name, folder / f"{name}.ttf"))
    pdfmetrics.registerFontFamily(REGULAR, normal=REGULAR, bold=BOLD, italic=REGULAR, boldItalic=BOLD)


def marked_up(text: str) -> str:
    """A text for a Paragraph: what XML means is escaped, letters that DejaVu lacks have their font, and what is written
    from right to left is in the order in which a PDF draws it."""
    register_fonts()
    known = pdfmetrics.getFont(REGULAR).face.charToGlyph
    runs: list[tuple[str, str]] = []
    for letter in as_read(unicodedata.normalize("NFC", text)):
        font = REGULAR if ord(letter) in known or letter.isspace() else _font_for(letter)
        shown = letter if font else f"U+{ord(letter):04X} "
        font = font or REGULAR
        if runs and runs[-1][0] == font:
            runs[-1] = font, runs[-1][1] + shown
        else:
            runs.append((font, shown))
    parts = []
    for font, run in runs:
        parts.append(escape(run) if font == REGULAR else f'<font name="{font}">{escape(run)}</font>')
    return "".join(parts)


@cache
def _font_for(letter: str) -> str | None:
    """The name of a font that has a letter, registered; None where there is none."""
    for name in _fonts_of_this_computer():
        if ord(letter) in pdfmetrics.getFont(name).face.charToGlyph:
            return name
    script = unicodedata.name(letter, "").partition(" ")[0]
    viewers = {"HANGUL": "HYGothic-Medium", "HIRAGANA": "HeiseiKakuGo-W5", "KATAKANA": "HeiseiKakuGo-W5"}
    name = viewers.get(script, "STSong-Light" if script == "CJK" else None)
    if name is not None and name not in pdfmetrics.getRegisteredFontNames():
        pdfmetrics.registerFont(UnicodeCIDFont(name))
    return name


@cache
def _fonts_of_this_computer() -> tuple[str, ...]:
    """Those that can be embedded, registered by their file names."""
    names = []
    for path in sorted(font_manager.findSystemFonts())[:MOST_FONTS]:
        name = f"System {Path(path).stem}"
        try:
            pdfmetrics.registerFont(TTFont(name, path))
        except (TTFError, OSError, ValueError, KeyError, IndexError):  # outlines of another kind, or damaged
            continue
        names.append(name)
    return tuple(names)
