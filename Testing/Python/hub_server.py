"""A hub on this machine: the part of the Hugging Face hub's HTTP protocol that gives files, with what goes wrong there.

`/OWNER/NAME/resolve/REVISION/FILE` answers GET and HEAD with a redirection to where the bytes are, as the hub does for
large files, with the headers X-Repo-Commit, X-Linked-Size and X-Linked-ETag. The bytes come with ETag, Content-Length
and, for a Range request, Content-Range. The same server is also an HTTP proxy that knows nobody but itself.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit

import pytest

from dinsegment.models.settings import CACHE_VARIABLE, HUB_VARIABLE, OFFLINE_FOLDER_VARIABLE, OFFLINE_VARIABLE

PIECE = 1 << 16


def forget_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes away what this machine says of weights, the hub and proxies, also from the hub's client."""
    from huggingface_hub import close_session, constants

    ours = {CACHE_VARIABLE, HUB_VARIABLE, OFFLINE_FOLDER_VARIABLE, OFFLINE_VARIABLE}
    for name in list(os.environ):
        if name in ours or name.startswith("HF_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # read at its import
    close_session()  # proxies are read when it is opened


@dataclass(frozen=True)
class Request:
    """A request as the server saw it; `headers` has names in lower case."""

    method: str
    target: str
    headers: dict[str, str]


@dataclass
class Hub:
    """The server, to be used in a `with` statement; it serves on a free port of 127.0.0.1.

    Attributes:
        files: Bytes by (repository, revision, file).
        requests: What was asked for, in order.
        sent: Bytes of files that were sent, in all.
        redirect: Whether a file's address leads to another one, on `localhost` instead of 127.0.0.1.
        cut_after: The next answer with bytes stops after so many of the whole file, and the connection ends.
        stall_after: Every answer with bytes stops after so many of the whole file, and the connection stays.
        pause: Seconds between pieces.
        ignore_ranges: Answer every request with the whole file.
        chunked: Say nothing of the length.
        status: Answer everything with this error.
    """

    files: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    sent: int = 0
    redirect: bool = True
    cut_after: int | None = None
    stall_after: int | None = None
    pause: float = 0.0
    ignore_ranges: bool = False
    chunked: bool = False
    status: int | None = None

    def __enter__(self) -> Hub:
        self.closing = threading.Event()
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """The address that a mirror is named by."""
        return f"http://127.0.0.1:{self.port}"

    def of_bytes(self) -> list[Request]:
        """The requests that were answered with bytes of a file, or would have been."""
        return [r for r in self.requests if r.method == "GET" and ("/bytes/" in r.target or not self.redirect)]

    def pause_for(self, seconds: float) -> None:
        """Waits, but not when the server is being closed."""
        self.closing.wait(seconds)


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        """The requests are kept instead of printed."""

    def do_CONNECT(self) -> None:
        """A proxy that lets nobody through to an encrypted server."""
        self._note()
        self._error(403)

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _note(self) -> None:
        with self.hub.lock:
            headers = {k.lower(): v for k, v in self.headers.items()}
            self.hub.requests.append(Request(self.command, self.path, headers))

    def _error(self, status: int, **headers: str) -> None:
        self.send_response(status)
        body = b"<html>sorry</html>"
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _answer(self) -> None:
        self._note()
        if self.hub.status is not None:
            return self._error(self.hub.status)
        path = urlsplit(self.path).path
        if found := re.fullmatch(r"/bytes/([0-9a-f]{64})", path):
            contents = {hashlib.sha256(c).hexdigest(): c for c in self.hub.files.values()}
            return self._bytes(contents[found[1]], "-")
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if not found:
            return self._error(404)
        repository, revision, file = found.groups()
        if repository not in {key[0] for key in self.hub.files}:
            return self._error(401, X_Error_Code="RepoNotFound")  # the hub does not say that a repository is not there
        if (repository, revision) not in {key[:2] for key in self.hub.files}:
            return self._error(404, X_Error_Code="RevisionNotFound")
        content = self.hub.files.get((repository, revision, file))
        if content is None:
            return self._error(404, X_Error_Code="EntryNotFound", X_Repo_Commit=revision)
        if not self.hub.redirect:
            return self._bytes(content, revision)
        sha256 = hashlib.sha256(content).hexdigest()
        self.send_response(302)
        self.send_header("Location", f"http://localhost:{self.hub.port}/bytes/{sha256}")
        self.send_header("X-Repo-Commit", revision)
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("X-Linked-ETag", f'"{sha256}"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _bytes(self, content: bytes, revision: str) -> None:
        start, stop = 0, len(content)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and not self.hub.ignore_ranges:
            start = int(asked[1])
            stop = min(stop, int(asked[2]) + 1) if asked[2] else stop
            if start >= stop:
                return self._error(416, Content_Range=f"bytes */{len(content)}")
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("X-Repo-Commit", revision)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Accept-Ranges", "bytes")
        if self.hub.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if self.command == "GET":
            self._send(content, start, stop)

    def _send(self, content: bytes, start: int, stop: int) -> None:
        cut, self.hub.cut_after = self.hub.cut_after, None
        stall = self.hub.stall_after
        end = min(x for x in (stop, cut, stall) if x is not None)
        try:
            for at in range(start, end, PIECE):
                piece = content[at : min(at + PIECE, end)]
                if self.hub.chunked:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                else:
                    self.wfile.write(piece)
                with self.hub.lock:
                    self.hub.sent += len(piece)
                self.hub.pause_for(self.hub.pause)
            if stall is not None and end < stop:
                self.hub.pause_for(60)
            if self.hub.chunked and end == stop:
                self.wfile.write(b"0\r\n\r\n")
        except OSError:  # the client has gone
            pass
        self.close_connection = self.close_connection or end < stop
