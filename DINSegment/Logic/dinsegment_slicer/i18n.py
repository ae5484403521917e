"""Translation of what the user reads: `from dinsegment_slicer.i18n import tr as _`.

In the application it is Slicer's own `tr`, which finds the translation by the file that calls it; the core outside it
has no translations.
"""

from __future__ import annotations

try:
    from slicer.i18n import tr
except ImportError:

    def tr(text: str) -> str:
        """The text itself."""
        return text


__all__ = ["tr"]
