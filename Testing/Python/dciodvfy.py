"""dciodvfy, David Clunie's checker of the standard's rules for DICOM files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def dciodvfy_errors(path: Path, kind: str) -> list[str]:
    """What it finds wrong with a file, which it has to take for that kind: `Segmentation` or `ComprehensiveSR`."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed: it is in Debian's package dicom3tools.")
    said = subprocess.run([program, str(path)], capture_output=True, text=True, errors="replace", timeout=60)
    lines = (said.stdout + said.stderr).splitlines()
    assert kind in lines
    return [line for line in lines if line.startswith(("Error", "Abort"))]
