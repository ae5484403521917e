"""Where the application has its Python: `slicer.app.slicerHome`, the search path, and late, `sys.executable`.

Slicer imports the modules with `sys.executable` empty. It sets it to PythonSlicer in `handleCommandLineArguments`,
which a single-shot timer calls once the event loop runs.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

PYTHON = sys.executable
"""The Python that runs the host."""

# Without `exec`: the launcher that PythonSlicer is has Python as its child, too.
LAUNCHER = """#!/bin/sh
{python} "$@"
exit $?
"""

SECOND = """#!/bin/sh
echo "A second Slicer was started." >&2
exit 99
"""


class PythonSlicer:
    """The folder `slicerHome` with `bin/PythonSlicer` and the application beside it, which must never be started.

    Attributes:
        home: The folder.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="slicer-home-")
        self.home = Path(self._folder.name)
        (self.home / "bin").mkdir()
        self.application = self._program("SlicerApp-real", SECOND)
        self.launcher = Path(shutil.copy2(self.application, self.home / "Slicer"))
        self.python = self._program("PythonSlicer", LAUNCHER.format(python=shlex.quote(PYTHON)))
        self._path: str | None = None

    def _program(self, name: str, text: str) -> Path:
        path = self.home / "bin" / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
        return path

    def begin(self) -> None:
        """The application starts: its programs are on the search path, and `sys.executable` is empty."""
        self._path = os.environ.get("PATH", "")
        os.environ["PATH"] = os.pathsep.join(filter(None, [str(self.home / "bin"), self._path]))
        sys.executable = ""

    def handle_command_line_arguments(self) -> None:
        """The event loop runs."""
        if self._path is not None:
            sys.executable = str(self.python)

    def end(self) -> None:
        """The application is gone."""
        os.environ["PATH"], self._path = self._path, None
        sys.executable = PYTHON
