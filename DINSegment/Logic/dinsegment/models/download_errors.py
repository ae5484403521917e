"""What a download that failed is told as: one sentence with what is wrong, what to do, and a way that always works."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from dinsegment.errors import ModelError
from dinsegment.models.settings import HUB_VARIABLE, OFFLINE_VARIABLE, STALL_VARIABLE, WeightsSettings

if TYPE_CHECKING:
    from dinsegment.models.entries import ModelEntry


@dataclass(frozen=True)
class DownloadErrors:
    """The errors of the download of one model's weights.

    Attributes:
        entry: The model.
        settings: Where its weights are looked for.
        url: Where its weights were asked for.
    """

    entry: ModelEntry
    settings: WeightsSettings
    url: str

    def offline(self) -> ModelError:
        """Going online is forbidden."""
        return self._error(
            f"The weights of '{self.entry.name}' are not on this machine, and {OFFLINE_VARIABLE} or HF_HUB_OFFLINE "
            "forbids to download them",
            "allow it",
        )

    def other_file(self, host: str | None = None) -> ModelError:
        """A server sent something of another size; without `host`, the one that was asked."""
        return self._error(
            f"What {host or _host(self.url)} sent is not '{self.entry.weights['file']}', it has another size",
            f"log in where a proxy asks for it, {self._check_mirror()}",
        )

    def wrong_checksum(self) -> ModelError:
        """The file has the right size and other bytes, and was removed."""
        return self._error(
            f"What was downloaded from {_host(self.url)} for '{self.entry.name}' has a wrong SHA-256 and was removed",
            "try again",
        )

    def status(self, status: int, host: str) -> ModelError:
        """A server or a proxy answered with an HTTP status that is an error."""
        file = self.entry.weights["file"]
        if status in (404, 410):
            return self._error(f"The server {host} has no file '{file}' (error {status})", self._check_mirror())
        if status in (401, 403):
            return self._error(
                f"The server {host} refuses to give '{file}' (error {status})", "ask your IT department to allow it"
            )
        if status == 407:
            return self._error(
                f"The proxy {_proxy(self.url) or 'on the way'} asks for a password (error 407)",
                "add it to HTTPS_PROXY as https://USER:PASSWORD@PROXY:PORT",
            )
        return self._error(f"The server {host} could not give '{file}' (error {status})", "try again later")

    def network(self, error: Exception, done: int) -> ModelError:
        """The network failed with an error of the hub's HTTP library, after so many bytes of the file."""
        # By their names: the hub's HTTP library was httpx and is httpx2, with the same names in both.
        names = {base.__name__ for base in type(error).__mro__}
        causes = _with_causes(error)
        url = _failed_url(self.url, error)
        host, proxy = _host(url), _proxy(url)
        if "OfflineModeIsEnabled" in names:
            return self.offline()
        if "TimeoutException" in names:
            return self._error(
                f"The server {host} sent nothing for {self.settings.stall_seconds:g} seconds",
                f"try again later or set {STALL_VARIABLE} higher",
            )
        if any(isinstance(cause, ssl.SSLError) for cause in causes):
            return self._error(
                f"The connection to {host} is not trusted: {error}",
                "name your hospital's certificate file with SSL_CERT_FILE",
            )
        if "ProxyError" in names or ("ConnectError" in names and proxy):
            return self._error(
                f"The proxy {proxy} refused the connection to {host} ({error})",
                "correct HTTPS_PROXY or ask your IT department to allow it",
            )
        if any(isinstance(cause, socket.gaierror) for cause in causes):
            return self._error(f"No server named {host} was found", f"check the network, {self._check_mirror()}")
        if "ConnectError" in names:
            return self._error(
                f"The server {host} cannot be reached ({error})", f"check the network, {self._check_mirror()}"
            )
        if names & {"NetworkError", "ProtocolError"}:
            return self._error(
                f"The download of '{self.entry.name}' was cut off after {megabytes(done)} of "
                f"{megabytes(self.entry.weights['size'])} MB",
                "try again, it goes on from there",
            )
        return self._error(f"'{self.entry.weights['file']}' could not be downloaded ({error})", "check the network")

    def _check_mirror(self) -> str:
        return f"check the mirror that {HUB_VARIABLE} names" if self.settings.hub else "try again later"

    def _error(self, wrong: str, advice: str) -> ModelError:
        file = self.entry.weights["file"]
        return ModelError(
            f"{wrong}: {advice}, or download '{file}' from {_without_password(self.url)} on another machine and "
            f'import it (in the panel "Import weights…", or `dinsegment models --import {file}`).'
        )


def megabytes(size: int) -> str:
    """A number of bytes as a rounded number of megabytes."""
    return f"{size / 1e6:.0f}"


def _with_causes(error: BaseException) -> list[BaseException]:
    """An error and those that led to it, the last one first."""
    chain = []
    while error is not None:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _failed_url(url: str, error: Exception) -> str:
    """The address that failed: after a redirection it is another one than that which was asked for."""
    try:
        return str(error.request.url)
    except (AttributeError, RuntimeError):  # no request belongs to it
        return url


def _host(url: str) -> str:
    return urlsplit(url).hostname or url


def _proxy(url: str) -> str | None:
    """The system's proxy for an address, without its password, or None."""
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return _without_password(proxy) if proxy and not proxy_bypass(parts.hostname or "") else None


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
