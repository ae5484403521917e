"""Every pip that runs in a block held to given versions, and told in a sentence why it failed."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dinsegment_slicer.i18n import tr as _


class PipFailed(Exception):
    """What pip, or who started it, could not do: a sentence for the user.

    Attributes:
        by_hand: Whether packages that were brought by hand might do.
    """

    def __init__(self, sentence: str, by_hand: bool = False) -> None:
        super().__init__(sentence)
        self.by_hand = by_hand


@contextmanager
def guarded_pip(pins: Iterable[str], names: str) -> Iterator[None]:
    """Holds every pip that is started in the block to `pins`: it fails rather than change what is pinned.

    pip gets them by its environment, because not everyone who starts it passes constraints on. What the environment
    held before is kept, and is there again afterwards.

    Args:
        pins: Lines of a constraints file, `numpy==2.0.0`.
        names: What is being installed, for the error.

    Raises:
        PipFailed: Any error in the block, in words that come from what pip logged.
    """
    with tempfile.TemporaryDirectory(prefix="DINSegment-", ignore_cleanup_errors=True) as folder:
        constraints, log = Path(folder, "constraints.txt"), Path(folder, "pip.log")
        constraints.write_text("".join(f"{pin}\n" for pin in pins), encoding="utf-8")
        # As a URI, because pip splits the variable at blanks, which a path may have.
        given = os.environ.get("PIP_CONSTRAINT", "").split()
        try:
            with _environment({"PIP_CONSTRAINT": " ".join([*given, constraints.as_uri()]), "PIP_LOG": str(log)}):
                yield
        except Exception as error:  # pip's, light-the-torch's, Slicer's, or that of importing what was installed
            said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
            raise _failure(said, error, names) from error


def command_line(command: Sequence[str]) -> str:
    """A command as one types it in the system's terminal."""
    if os.name != "nt":
        return shlex.join(command)
    return " ".join(part if re.fullmatch(r"[\w.:=\\/-]+", part) else f'"{part}"' for part in command)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_COMPLAINT = re.compile(r"ERROR: |WARNING: |Could not fetch URL ")
_DISK_FULL = re.compile(r"Errno 28\b|WinError 112\b|No space left")
_IN_USE = re.compile(r"Errno 13\b|WinError (?:5|32)\b|Permission denied|Access is denied")
_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ConnectionError|ConnectionReset|ProxyError|"
    r"SSLError|CERTIFICATE_VERIFY_FAILED|Max retries exceeded|\b(?:403|407|50\d) (?:Client|Server) Error"
)
_ASKED = re.compile(r"\S+ \S+ depends on .*\S")
_PINNED = re.compile(r"The user requested \(constraint\) (\S+)")


def _failure(log: str, error: Exception, names: str) -> PipFailed:
    complaints = [line for line in log.splitlines() if _COMPLAINT.search(line)]
    text = "\n".join([*complaints, str(error)])
    asked, pinned = _ASKED.search(log), _PINNED.search(log)
    if "ResolutionImpossible" in text and asked and pinned:
        sentence = _("{names} cannot be installed: {asked}, but here is {pinned}, which must stay; update Slicer.")
        return PipFailed(sentence.format(names=names, asked=asked[0], pinned=pinned[1]))
    if _DISK_FULL.search(text):
        sentence = _("{names} cannot be installed because the disk is full: make room and try again.")
        return PipFailed(sentence.format(names=names))
    if _IN_USE.search(text):
        sentence = _(
            "{names} cannot be installed because files are in use or not writable: restart Slicer and install before "
            "anything else."
        )
        return PipFailed(sentence.format(names=names))
    if _NETWORK.search(text):
        sentence = _("{names} cannot be downloaded: check the network and the proxy settings.")
        return PipFailed(sentence.format(names=names), by_hand=True)
    last = complaints[-1].rpartition("ERROR: ")[2] if complaints else str(error)
    return PipFailed(_("{names} cannot be installed: {reason}").format(names=names, reason=last), by_hand=True)
