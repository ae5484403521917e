"""The worker's process as its parent sees it, and the temporary folders that both use."""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinsegment.errors import WorkerError
from dinsegment_slicer.i18n import tr as _

if TYPE_CHECKING:
    import psutil  # Elsewhere only once it is needed: a fresh Slicer does not have it.

logger = logging.getLogger(__name__)

LOGIC_FOLDER = Path(__file__).resolve().parents[2]
"""Where the packages are that the worker imports."""

MOST_PENDING = 1_000_000
"""Bytes read at once, and of a line without an end."""

MOST_OUTPUT = 16_000_000
"""Bytes: a process that has written more to its files is replaced before the next job."""

LONGEST_END_S = 0.8
"""How long a killed process is waited for."""

LAUNCHER_REPORT = "exit abnormally"
"""How Slicer's launcher says that the program it launched was killed; its own exit code says nothing of it."""

FOLDER_PREFIX = "DINSegment-"


def host_name() -> str:
    """This machine, as names of folders have it."""
    return re.sub(r"[^A-Za-z0-9]+", "_", platform.node()) or "unknown"


def new_folder() -> Path:
    """A new temporary folder, whose name tells the process that it belongs to, and on which machine that runs.

    Raises:
        WorkerError: There is no place for it.
    """
    try:
        return Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-{host_name()}-"))
    except OSError as error:
        raise exchange_error(Path(tempfile.gettempdir()), error) from error


def remove_folder(folder: Path) -> bool:
    """Removes a folder with its files; False if some are in use (as Windows has it) and it stays."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def remove_leftovers() -> None:
    """Removes the temporary folders of this machine's processes that are gone.

    Several machines may share the place of temporary files; which processes run on another one is not known here.

    Raises:
        WorkerError: What the worker needs is not installed.
    """
    try:
        import psutil
    except ImportError as error:
        raise WorkerError(_("The packages that segmentation needs are not installed: install them first.")) from error
    name = re.compile(rf"{FOLDER_PREFIX}([0-9]+)-{host_name()}-[a-z0-9_]+")
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        own = name.fullmatch(folder.name)
        if own and folder.is_dir() and not folder.is_symlink() and not psutil.pid_exists(int(own[1])):
            remove_folder(folder)


def exchange_error(folder: Path, error: OSError) -> WorkerError:
    """What the user is told when images cannot be handed to the worker."""
    return WorkerError(
        _(
            "The image could not be written to the temporary folder '{folder}' ({reason}): make room there and "
            "segment again."
        ).format(folder=folder, reason=error.strerror or error)
    )


def unexpected_error(what: object) -> WorkerError:
    """What the user is told when the worker does not keep to the protocol."""
    text = str(what)
    return WorkerError(
        _(
            "The segmentation process answered with something unexpected ({answer}): segment again, and if that "
            "does not help, install DINSegment again."
        ).format(answer=text if len(text) <= 120 else f"{text[:117]}...")
    )


def memory_error() -> WorkerError:
    """What the user is told when the system has ended the worker, or it found no memory."""
    return WorkerError(
        _(
            "The segmentation process was ended by the system, probably because memory ran out: close other "
            "programs, or crop the image, and segment again."
        )
    )


class WorkerProcess:
    """One process, and all that it starts.

    It writes to files of its own in a temporary folder, which are read as far as they go: unlike a pipe they never
    make anyone wait, and need no thread.

    Args:
        command: Program and arguments.
        environment: Variables set on top of this process's own.

    Raises:
        WorkerError: The program could not be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.ready = False
        self.exit_code: int | None = None
        self._pending = b""
        self._closed = False
        self.folder = new_folder()
        output, self._errors = self.folder / "events.jsonl", self.folder / "errors.txt"
        try:
            with output.open("ab") as out, self._errors.open("ab") as errors:
                self._popen = subprocess.Popen(
                    list(command),
                    bufsize=0,
                    stdin=subprocess.PIPE,
                    stdout=out,
                    stderr=errors,
                    env=_environment(environment),
                    start_new_session=True,  # A process group of its own, to be killed as a whole; none on Windows.
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                )
            self._output = output.open("rb")
        except OSError as error:
            remove_folder(self.folder)
            raise WorkerError(
                _(
                    "DINSegment's process could not be started from '{program}' ({reason}): install DINSegment again."
                ).format(program=command[0], reason=error.strerror or error)
            ) from error

    @property
    def pid(self) -> int:
        """Of the program that was started; in Slicer that is a launcher."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._look() is None

    @property
    def worn(self) -> bool:
        """Whether its files have grown large."""
        return sum(path.stat().st_size for path in self.folder.iterdir()) > MOST_OUTPUT

    def send(self, request: Mapping[str, Any]) -> None:
        """Sends a request, which fits into a pipe that is empty."""
        # Where the pipe is broken the process is ending, which `check_running` tells better.
        with suppress(OSError):
            self._popen.stdin.write(json.dumps(request).encode() + b"\n")

    def events(self) -> Iterator[dict[str, Any]]:
        """What has come since the last time.

        Raises:
            WorkerError: It is no event.
        """
        self._look()  # Before reading: what a process that has ended has written is all there.
        *lines, self._pending = (self._pending + self._output.read(MOST_PENDING)).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                event = None
            if not isinstance(event, dict) or not isinstance(event.get("event"), str):
                raise unexpected_error(line.decode(errors="replace"))
            yield event
        if len(self._pending) > MOST_PENDING:
            raise unexpected_error(self._pending[:200].decode(errors="replace"))

    def check_running(self) -> None:
        """Raises WorkerError, with the reason as far as it is known, if the process had ended before `events`."""
        code = self.exit_code
        if code is None:
            return
        said = self.said()
        logger.error("The segmentation process ended with exit code %s.\n%s", code, said)
        last = said.splitlines()[-1].strip() if said else ""
        # A shell or a launcher reports a signal as 128 + its number, Slicer's launcher in words.
        if code in (-9, 137) or LAUNCHER_REPORT in last:
            raise memory_error()
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            reason = _("signal {name}").format(name=name)
        else:
            reason = _("exit code {code}").format(code=code)
        raise WorkerError(
            _("The segmentation process ended unexpectedly ({reason}): segment again; the error log has the details.")
            .format(reason=": ".join(filter(None, (reason, last))))
        )  # fmt: skip

    def said(self) -> str:
        """The end of what it wrote to standard error."""
        with suppress(OSError), self._errors.open("rb") as errors:
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - 8000))
            return errors.read().decode(errors="replace").strip()
        return ""

    def close(self) -> None:
        """Kills it and whatever it started, and removes its files; a second time does nothing."""
        if self._closed:
            return
        self._closed = True
        tree = self._tree()
        self._kill_group()
        for process in tree:
            _kill(process)
        if self._look() is None:
            self._popen.kill()
        with suppress(OSError):
            self._popen.stdin.close()
        self._output.close()
        _wait(self._popen, tree)
        remove_folder(self.folder)

    def _look(self) -> int | None:
        if self.exit_code is None:
            self.exit_code = self._popen.poll()
            if self.exit_code is not None:
                # At once: later the number of a group whose leader is gone may be another's.
                self._kill_group(leader_gone=True)
        return self.exit_code

    def _tree(self) -> list[psutil.Process]:
        """All of it; nothing where psutil is missing, without which a process must end by itself with its input."""
        try:
            import psutil
        except ImportError:
            return []
        if self._look() is not None:
            return []
        with suppress(psutil.Error):
            process = psutil.Process(self._popen.pid)
            return [process, *process.children(recursive=True)]
        return []

    def _kill_group(self, leader_gone: bool = False) -> None:
        if hasattr(os, "killpg") and (leader_gone or self.exit_code is None):
            # macOS has no permission to signal a group of which nothing but a zombie is left.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, signal.SIGKILL)


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    environment = {**os.environ, **own}
    path = [str(LOGIC_FOLDER), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(path)
    environment["PYTHONSAFEPATH"] = "1"  # A torch.py in the current folder is not meant.
    return environment


def _wait(popen: subprocess.Popen, tree: Sequence[psutil.Process]) -> None:
    """Until all are gone, which a driver that frees a device's memory may delay."""
    deadline = time.monotonic() + LONGEST_END_S
    with suppress(subprocess.TimeoutExpired):
        popen.wait(LONGEST_END_S)
    while any(_alive(process) for process in tree[1:]) and time.monotonic() < deadline:
        time.sleep(0.005)


def _kill(process: psutil.Process) -> None:
    import psutil

    with suppress(psutil.Error):
        process.kill()


def _alive(process: psutil.Process) -> bool:
    import psutil

    # An orphan is reaped by the system, in its own time: a zombie is gone already.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
