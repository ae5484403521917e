"""A model's weights from the hub or a mirror of it: resumed where they stopped, checked before they get their name."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from dinsegment.errors import Cancelled, ModelError, OutputError
from dinsegment.files import sha256_of

if TYPE_CHECKING:
    from dinsegment.models.entries import ModelEntry
    from dinsegment.progress import Progress
from dinsegment.models.settings import CACHE_VARIABLE, HUB_VARIABLE, OFFLINE_VARIABLE, STALL_VARIABLE, WeightsSettings

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
        raise download.offline()
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
        self._entry = entry
        self._settings = settings
        self._url = address(entry, settings)
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
            raise self._failure(broken.__cause__, done) from broken.__cause__
        if done != self.size:  # the answer did not say how long it is, and is longer or shorter
            partial.unlink(missing_ok=True)
            raise self._other_file(_host(self._url))

    def _prepare(self, partial: Path) -> int:
        """Makes sure that there is a partial file and room for the rest; returns the bytes that it has."""
        with keeping(self._settings.cache):
            partial.touch()
            if partial.stat().st_size > self.size:  # no part of this file
                partial.write_bytes(b"")
            done = partial.stat().st_size
            free = shutil.disk_usage(partial.parent).free
        if free < self.size - done:
            reason = f"{_mb(self.size - done)} MB are needed and {_mb(free)} MB are free"
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
            raise self._other_file(host)
        file = self._entry.weights["file"]
        if status in (404, 410):
            raise self._error(f"The server {host} has no file '{file}' (error {status})", self._check_mirror())
        if status in (401, 403):
            raise self._error(
                f"The server {host} refuses to give '{file}' (error {status})", "ask your IT department to allow it"
            )
        if status == 407:
            raise self._error(
                f"The proxy {_proxy(self._url) or 'on the way'} asks for a password (error 407)",
                "add it to HTTPS_PROXY as https://USER:PASSWORD@PROXY:PORT",
            )
        raise self._error(f"The server {host} could not give '{file}' (error {status})", "try again later")

    def _report(self, done: int) -> None:
        """Tells how far it is, when that reads differently from the last time."""
        text = f"Downloading {self._entry.name}: {_mb(done)} of {_mb(self.size)} MB"
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
                raise self._error(
                    f"What was downloaded from {_host(self._url)} for '{self._entry.name}' has a wrong SHA-256 "
                    "and was removed",
                    "try again",
                )
        self._progress(1.0, f"Downloaded {self._entry.name}")

    def offline(self) -> ModelError:
        """The error for weights that are not here while going online is forbidden."""
        return self._error(
            f"The weights of '{self._entry.name}' are not on this machine, and {OFFLINE_VARIABLE} or HF_HUB_OFFLINE "
            "forbids to download them",
            "allow it",
        )

    def _failure(self, error: BaseException | None, done: int) -> ModelError:
        """The error for what the network did."""
        chain = [error]
        while chain[-1] is not None:
            chain.append(chain[-1].__cause__ or chain[-1].__context__)
        # By their names: the hub's HTTP library was httpx and is httpx2, with the same names in both.
        names = {base.__name__ for base in type(error).__mro__}
        host, proxy = _host(self._url, error), _proxy(self._url, error)
        if "OfflineModeIsEnabled" in names:
            return self.offline()
        if "TimeoutException" in names:
            seconds = f"{self._settings.stall_seconds:g} seconds"
            return self._error(
                f"The server {host} sent nothing for {seconds}", f"try again later or set {STALL_VARIABLE} higher"
            )
        if any(isinstance(e, ssl.SSLError) for e in chain):
            return self._error(
                f"The connection to {host} is not trusted: {error}",
                "name your hospital's certificate file with SSL_CERT_FILE",
            )
        if "ProxyError" in names or ("ConnectError" in names and proxy):
            return self._error(
                f"The proxy {proxy} refused the connection to {host} ({error})",
                "correct HTTPS_PROXY or ask your IT department to allow it",
            )
        if any(isinstance(e, socket.gaierror) for e in chain):
            return self._error(f"No server named {host} was found", f"check the network, {self._check_mirror()}")
        if "ConnectError" in names:
            return self._error(
                f"The server {host} cannot be reached ({error})", f"check the network, {self._check_mirror()}"
            )
        if names & {"NetworkError", "ProtocolError"}:
            return self._error(
                f"The download of '{self._entry.name}' was cut off after {_mb(done)} of {_mb(self.size)} MB",
                "try again, it goes on from there",
            )
        return self._error(f"'{self._entry.weights['file']}' could not be downloaded ({error})", "check the network")

    def _other_file(self, host: str) -> ModelError:
        return self._error(
            f"What {host} sent is not '{self._entry.weights['file']}', it has another size",
            f"log in where a proxy asks for it, {self._check_mirror()}",
        )

    def _check_mirror(self) -> str:
        return f"check the mirror that {HUB_VARIABLE} names" if self._settings.hub else "try again later"

    def _error(self, wrong: str, advice: str) -> ModelError:
        """One sentence: what is wrong, what to do, and the way that always works."""
        file = self._entry.weights["file"]
        return ModelError(
            f"{wrong}: {advice}, or download '{file}' from {_without_password(self._url)} on another machine and "
            f'import it (in the panel "Import weights…", or `dinsegment models --import {file}`).'
        )


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


def _failed_url(url: str, error: BaseException | None) -> str:
    """The address that failed: after a redirection it is another one than that which was asked for."""
    try:
        return str(error.request.url)
    except (AttributeError, RuntimeError):  # no request belongs to it
        return url


def _host(url: str, error: BaseException | None = None) -> str:
    return urlsplit(_failed_url(url, error)).hostname or url


def _proxy(url: str, error: BaseException | None = None) -> str | None:
    """The system's proxy for an address, without its password, or None."""
    parts = urlsplit(_failed_url(url, error))
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return _without_password(proxy) if proxy and not proxy_bypass(parts.hostname or "") else None


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f}"
