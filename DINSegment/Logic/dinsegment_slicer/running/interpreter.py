"""The Python that runs this extension's programs: found when a program is started, never before."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import slicer

from dinsegment.errors import WorkerError
from dinsegment_slicer.i18n import tr as _

SLICERS_PYTHON = "PythonSlicer"
"""What Slicer's Python is called."""


def python_executable() -> str:
    """Slicer's Python; outside of the application the one that runs this.

    To be asked each time a program is started: Slicer sets `sys.executable` only after all modules are loaded.

    Raises:
        WorkerError: There is none. What may be Slicer itself is never returned: started, it would open a second window.
    """
    found = next(filter(_is_python, _candidates()), None)
    if found is not None:
        return found
    if _application() is None:
        raise WorkerError(
            _("The Python that runs this was not found at '{path}': set sys.executable to it.").format(
                path=sys.executable or ""
            )
        )
    raise WorkerError(
        _("Slicer's Python ('{name}') is neither in '{folder}' nor on the search path: install Slicer again.").format(
            name=SLICERS_PYTHON, folder=_slicer_bin()
        )
    )


def _candidates() -> Iterator[str]:
    if _application() is None:
        yield sys.executable or ""
        return
    yield shutil.which(SLICERS_PYTHON) or ""  # As slicer.util.executePythonModule finds it.
    yield from (str(_slicer_bin() / f"{SLICERS_PYTHON}{suffix}") for suffix in ("", ".exe"))  # Windows has the last.


def _is_python(program: str) -> bool:
    """Whether it is a Python, by its name and by that of the file a link leads to, and not the application."""
    if not program or not os.access(program, os.X_OK) or not Path(program).is_file():
        return False
    names = (Path(program).name, Path(program).resolve().name)
    return all(name.lower().startswith("python") for name in names) and not _is_application(program)


def _is_application(program: str) -> bool:
    application = _application()
    if application is None:
        return False
    for path in (application.applicationFilePath(), application.launcherExecutableFilePath):
        with suppress(OSError):  # There need not be a launcher.
            if path and Path(program).samefile(path):
                return True
    return False


def _application() -> Any:
    """`slicer.app`; None outside of the application."""
    return getattr(slicer, "app", None)


def _slicer_bin() -> Path:
    """Also on macOS, where `slicerHome` is Slicer.app/Contents."""
    return Path(_application().slicerHome, "bin")
