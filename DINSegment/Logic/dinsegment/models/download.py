"""A model's weights from the hub or a mirror of it: resumed where they stopped, checked before they get their name.

The hub's client gives the address, the headers, the connection with its proxies and certificates, and the lock. The
transfer itself is done here, since `hf_hub_download` begins anew each time and cannot be cancelled.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dinsegment.errors import Cancelled, ModelError, OutputError
from dinsegment.files import sha256_of
from dinsegment.models.download_errors import DownloadErrors, megabytes
from dinsegment.models.settings import CACHE_VARIABLE, HUB_VARIABLE, WeightsSettings

if TYPE_CHECKING:
    from dinsegment.models.entries import ModelEntry
    from dinsegment.progress import Progress

POLL_SECONDS = 0.1
"""How often somebody who waits is asked whether to go on."""


def address(entry: ModelEntry, settings: WeightsSettings) -> str:
    """Where the weights of a model can be downloaded, with a browser too.

    Raises:
        ModelError: The mirror is no web address.
    """
    from huggingface_hub import hf_hub_url

    if settings.hub and not (urlsplit(settings.hub).scheme in ("http", "https") and urlsplit(settings.hub).hostname):
        raise ModelError(f"The mirror '{settings.hub}' is no web address: correct {HUB_VARIABLE} to https://...")
    weights = entry.weights
    return hf_hub_url(weights["repository"], weights["file"], revision=weights["revision"], endpoint=settings.hub)


def is_the_hub(url: str) -> bool:
    """Whether an address is the hub's own, reached safely: the user's token goes nowhere else."""
    parts = urlsplit(url)
    return (parts.scheme, parts.hostname, parts.port) == ("https", "huggingface.co", None)


def fetch(
    entry: ModelEntry,
    settings: WeightsSettings,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Path:
    """Downloads the weights of a model into the cache.

    What a download that was cut off or cancelled has got is kept, and the next one goes on from there. Several
    processes may fetch the same file: one downloads, the others wait for it.

    Args:
        entry: A model whose `weights` have `repository` and `revision`.
        settings: Where to, and where from.
        progress: Called with the fraction done and what is being done.
        cancelled: Asked several times a second, also while a server keeps one waiting.

    Returns:
        The file in the cache, whose size and SHA-256 have been checked.

    Raises:
        ModelError: It could not be downloaded or kept, or it is not the file of weights.json.
        Cancelled: `cancelled` said so.
    """
    download = _Download(entry, settings, progress or (lambda _fraction, _text: None), cancelled or (lambda: False))
    if settings.offline:
        raise download.errors.offline()
    target = settings.cached(entry)
    with keeping(settings.cache):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target, settings, download.check_cancelled):
        if target.is_file() and target.stat().st_size == download.size:
            download.check(target)  # another process has fetched it just now
        else:
            partial = target.with_name(f"{target.name}.part")
            try:
                download.to(partial)
                download.check(partial)
                with keeping(settings.cache):
                    partial.replace(target)
            except ModelError as error:
                # On a network drive without locks another process may have given the same file its name just now.
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
                download.check(target)
    return target


@contextmanager
def keeping(cache: Path) -> Iterator[None]:
    """Turns an OSError, as of a full disk, into a ModelError that names the cache folder."""
    try:
        yield
    except OSError as error:
        cause = error.__cause__ if isinstance(error, OutputError) else error
        raise _no_room(cache, (getattr(cause, "strerror", None) or str(error)).lower()) from error


def _no_room(cache: Path, reason: str) -> ModelError:
    return ModelError(
        f"The weights cannot be kept in '{cache}' ({reason}): make room there, or name another folder with "
        f"{CACHE_VARIABLE}."
    )


@contextmanager
def _alone(target: Path, settings: WeightsSettings, check_cancelled: Callable[[], None]) -> Iterator[None]:
    """Waits until no other process fetches the same file."""
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock

    lock = target.with_name(f"{target.name}.lock")
    with ExitStack() as stack:
        locked = False
        while not locked:
            check_cancelled()
            with keeping(settings.cache), suppress(Timeout):  # Timeout is an OSError
                stack.enter_context(WeakFileLock(lock, timeout=POLL_SECONDS))
                locked = True
        yield


class _Broken(Exception):
    """The network failed; the cause says how."""


class _Download:
    """One file on its way from the hub into a partial file.

    Every byte is written at its own place and a partial file is not shortened, so that even two processes that write
    to it at once, where a network drive has no locks, write the same.
    """

    def __init__(
        self, entry: ModelEntry, settings: WeightsSettings, progress: Progress, cancelled: Callable[[], bool]
    ) -> None:
        self.size: int = entry.weights["size"]
        self._url = address(entry, settings)
        self.errors = DownloadErrors(entry, settings, self._url)
        self._entry = entry
        self._settings = settings
        self._progress = progress
        self._cancelled = cancelled
        self._shown: tuple[int, str] | None = None

    def check_cancelled(self) -> None:
        """Raises Cancelled if the user has asked for it."""
        if self._cancelled():
            raise Cancelled

    def to(self, partial: Path) -> None:
        """Downloads what the partial file lacks."""
        from huggingface_hub.utils import build_hf_headers

        done = self._prepare(partial)
        if done == self.size:  # it was stopped before it could be checked
            return
        own = build_hf_headers(library_name="dinsegment", token=None if is_the_hub(self._url) else False)
        headers = {**own, "Accept-Encoding": "identity"}
        if done:
            headers["Range"] = f"bytes={done}-"
        try:
            with (
                closing(_read(self._url, headers, self._settings.stall_seconds, self.check_cancelled)) as parts,
                keeping(self._settings.cache),
                partial.open("r+b") as file,
            ):
                done = self._first_byte(next(parts), done)
                file.seek(done)
                for part in parts:
                    if done + len(part) > self.size:
                        break
                    file.write(part)
                    done += len(part)
                    self._report(done)
                file.flush()
                os.fsync(file.fileno())
        except _Broken as broken:
            raise self.errors.network(broken.__cause__, done) from broken.__cause__
        if done != self.size:  # the answer did not say how long it is, and is longer or shorter
            partial.unlink(missing_ok=True)
            raise self.errors.other_file()

    def _prepare(self, partial: Path) -> int:
        """Makes sure that there is a partial file and room for the rest; returns the bytes that it has."""
        with keeping(self._settings.cache):
            partial.touch()
            if partial.stat().st_size > self.size:  # no part of this file
                partial.write_bytes(b"")
            done = partial.stat().st_size
            free = shutil.disk_usage(partial.parent).free
        if free < self.size - done:
            reason = f"{megabytes(self.size - done)} MB are needed and {megabytes(free)} MB are free"
            raise _no_room(self._settings.cache, reason)
        return done

    def _first_byte(self, answer: Any, done: int) -> int:
        """Where the first byte of an answer belongs in the file."""
        status, host = answer.status_code, answer.request.url.host
        if status == 200:  # the server may answer so to a request for a range, too
            length = None if answer.headers.get("Content-Encoding") else answer.headers.get("Content-Length")
            if length is None or int(length) == self.size:
                return 0
        if status == 206:
            found = re.match(r"bytes (\d+)-\d+/(\d+|\*)$", answer.headers.get("Content-Range", ""))
            if found and int(found[1]) == done and found[2] in (str(self.size), "*"):
                return done
        if status in (200, 206, 416):
            raise self.errors.other_file(host)
        raise self.errors.status(status, host)

    def _report(self, done: int) -> None:
        """Tells how far it is, when that reads differently from the last time."""
        text = f"Downloading {self._entry.name}: {megabytes(done)} of {megabytes(self.size)} MB"
        shown = (100 * done // self.size, text)
        if shown != self._shown:
            self._shown = shown
            self._progress(min(0.95, 0.95 * done / self.size), text)  # the product may round upwards

    def check(self, path: Path) -> None:
        """Removes the file and raises ModelError unless it is the one of weights.json."""
        self._progress(0.95, f"Checking {self._entry.name}")
        with keeping(self._settings.cache):
            if sha256_of(path, self._cancelled) != self._entry.weights["sha256"]:
                path.unlink()
                raise self.errors.wrong_checksum()
        self._progress(1.0, f"Downloaded {self._entry.name}")


def _read(
    url: str, headers: dict[str, str], stall_seconds: float, check_cancelled: Callable[[], None]
) -> Iterator[Any]:
    """Yields the response to a GET, then the bytes of its body.

    A thread waits for the network and this generator for the thread, so that cancelling does not wait for the network.

    Raises:
        _Broken: The network failed.
    """
    queue: Queue[Any] = Queue(maxsize=16)
    stop = Event()

    def put(item: Any) -> None:
        while not stop.is_set():
            with suppress(Full):
                return queue.put(item, timeout=POLL_SECONDS)

    def run() -> None:
        from huggingface_hub import get_session

        try:
            with get_session().stream("GET", url, headers=headers, timeout=stall_seconds) as response:
                put(response)
                for part in response.iter_bytes():
                    put(part)
                    if stop.is_set():
                        return
            put(None)
        except Exception as error:  # whatever it is, it belongs to whoever waits
            put(error)

    Thread(target=run, name="weights download", daemon=True).start()
    try:
        while True:
            check_cancelled()
            try:
                item = queue.get(timeout=POLL_SECONDS)
            except Empty:
                continue
            if item is None:
                return
            if isinstance(item, Exception):
                raise _Broken from item
            yield item
    finally:
        stop.set()
