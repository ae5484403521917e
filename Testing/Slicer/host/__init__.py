"""Runs the module's panel outside the application: `from host import Host`.

PySide6 stands for Qt and the slicer-core wheel for MRML; the wheel's own slicer.util runs on them. Everything else that
a panel touches is here, and every name is checked against those of the real application where their list is at hand.
`host.api` needs no Qt.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["MODULE", "Host"]

MODULE = Path(__file__).parents[3] / "DINSegment" / "DINSegment.py"
"""What Slicer loads."""


def __getattr__(name: str) -> Any:
    if name == "Host":  # Only then is PySide6 needed.
        from host.session import Host

        return Host
    raise AttributeError(f"module 'host' has no attribute '{name}'")
