"""Where the files lie that are no code."""

from __future__ import annotations

from pathlib import Path


def resource(name: str) -> Path:
    """A file or folder of Resources: in an installed wheel those of the package, otherwise those of the extension."""
    package = Path(__file__).parent
    installed = package / "Resources" / name
    return installed if installed.exists() else package.parents[1] / "Resources" / name


def checkout() -> Path:
    """The top of the repository, if this file is in one."""
    return Path(__file__).parents[3]
