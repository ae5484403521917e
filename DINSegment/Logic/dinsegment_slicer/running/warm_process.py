"""The process that serves one job after the other, with the folders through which they exchange files."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from dinsegment_slicer.running.interpreter import python_executable
from dinsegment_slicer.running.process import WorkerProcess, new_folder, remove_folder, remove_leftovers


class WarmProcess:
    """A process that is started when a job asks for it, and stays for the next one while it serves.

    A job takes from here the process, a folder of its own, and an ID for each request.

    Args:
        command: Program and arguments; by default `dinsegment.worker` in Slicer's Python.
        environment: Variables set on top of this process's own.
        arguments: Of `dinsegment.worker`, where no command is given.

    Attributes:
        environment: As given; may be changed, which restarts the process before the next job.
    """

    START_LIMIT_S = 180.0
    """How long the process may take to load: PyTorch on a cold network disk is slow."""

    SILENCE_LIMIT_S = 120.0
    """How long a computation may show no sign of life."""

    def __init__(
        self,
        command: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.environment = dict(environment or {})
        self._command = tuple(command or ())
        self._arguments = tuple(arguments)
        self._started_with: dict[str, str] = {}
        self._process: WorkerProcess | None = None
        self._folders: set[Path] = set()  # Of all jobs that are not closed.
        self._in_use: set[Path] = set()  # Those that could not be removed when their job was closed.
        self._ids = itertools.count(1)
        self._used = False

    @property
    def pid(self) -> int | None:
        """The number of the process; None while there is none."""
        return self._process.pid if self._process is not None and self._process.running else None

    def process(self) -> WorkerProcess:
        """The process that is there, if it still serves, or a new one.

        Raises:
            WorkerError: It cannot be started.
        """
        if not self._used:
            remove_leftovers()
            self._used = True
        process = self._process
        if process is None or not process.running or process.worn or self._started_with != self.environment:
            self.end_process()
            self._started_with = dict(self.environment)
            command = self._command or (python_executable(), "-m", "dinsegment.worker", *self._arguments)
            self._process = WorkerProcess(command, self._started_with)
        return self._process

    def end_process(self) -> None:
        """Kills the process and what it started, whatever it is at; the next job gets a new one."""
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def next_request(self) -> int:
        """An ID that no request to any of the worker's processes has had."""
        return next(self._ids)

    def new_folder(self) -> Path:
        """A temporary folder, which the worker removes when it is given back or the worker is closed.

        Raises:
            WorkerError: There is no place for it.
        """
        folder = new_folder()
        self._folders.add(folder)
        return folder

    def give_back(self, folder: Path) -> None:
        """Removes a folder of `new_folder`; if files in it are in use, as Windows has it, before the next job."""
        if remove_folder(folder):
            self._folders.discard(folder)
            self._in_use.discard(folder)
        else:
            self._in_use.add(folder)

    def remove_folders(self, only_in_use: bool = False) -> None:
        """Removes all folders of `new_folder`, or those alone whose files were in use when they were given back."""
        for folder in tuple(self._in_use if only_in_use else self._folders):
            self.give_back(folder)
