"""A real archive on this machine: Orthanc with its DICOMweb plugin, on free ports, with an empty storage of its own."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

PLUGINS = (
    Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so"),
    Path("/usr/local/share/orthanc/plugins/libOrthancDicomWeb.so"),
)
"""Where Debian and Orthanc's own packages put the DICOMweb plugin."""

CLIENT_TITLE = "DINSEGMENT"
START_SECONDS = 30.0
ATTEMPTS = 3
"""A port that was free may be taken before Orthanc has it."""


@dataclass(frozen=True)
class Orthanc:
    """A running archive.

    Attributes:
        host: Loopback; no other machine is let in.
        dicom_port: For C-STORE, C-FIND and C-GET.
        http_port: For Orthanc's own interface and DICOMweb.
        title: Application Entity Title of the archive.
        dicomweb_url: Root of DICOMweb; None without the plugin.
    """

    host: str
    dicom_port: int
    http_port: int
    title: str
    dicomweb_url: str | None


@contextmanager
def orthanc(folder: Path) -> Iterator[Orthanc]:
    """Starts Orthanc with its storage in the folder, and ends it whatever happens; skips where it is missing."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("The archive Orthanc is missing: install the package orthanc.")
    plugin = next((path for path in PLUGINS if path.exists()), None)
    for attempt in range(ATTEMPTS):
        server, configuration = _configure(folder / f"orthanc{attempt}", plugin)
        log = configuration.with_name("log.txt")
        with log.open("wb") as output:
            process = subprocess.Popen([program, str(configuration)], stdout=output, stderr=subprocess.STDOUT)
        try:
            if _answers(server, process):
                yield server
                return
        finally:
            _end(process)
    pytest.fail(f"Orthanc did not start:\n{log.read_text(errors='replace')[-2000:]}")


@contextmanager
def session() -> Iterator[requests.Session]:
    """HTTP to this machine, whatever proxies the environment names."""
    with requests.Session() as opened:
        opened.trust_env = False
        yield opened


def _configure(folder: Path, plugin: Path | None) -> tuple[Orthanc, Path]:
    folder.mkdir()
    dicom_port, http_port = _free_ports(2)
    web = None if plugin is None else f"http://127.0.0.1:{http_port}/dicom-web"
    server = Orthanc("127.0.0.1", dicom_port, http_port, "ORTHANC", web)
    configuration = folder / "orthanc.json"
    content = {
        "Name": "Test",
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "Plugins": [] if plugin is None else [str(plugin)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomPort": dicom_port,
        "DicomAet": server.title,
        # It listens on every network, and answers only this client on this machine.
        "DicomModalities": {"client": [CLIENT_TITLE, server.host, 104]},
        "DicomCheckCalledAet": True,
        "DicomCheckModalityHost": True,
        "DicomAlwaysAllowEcho": False,
        "DicomAlwaysAllowStore": False,
        "DicomAlwaysAllowFind": False,
        "DicomAlwaysAllowGet": False,
    }
    configuration.write_text(json.dumps(content), encoding="utf-8")
    return server, configuration


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _answers(server: Orthanc, process: subprocess.Popen[bytes]) -> bool:
    """Whether it serves before it ends or the time is over."""
    deadline = time.monotonic() + START_SECONDS
    with session() as http:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                system = http.get(f"http://{server.host}:{server.http_port}/system", timeout=5).json()
            except (requests.RequestException, ValueError):
                time.sleep(0.05)
                continue
            # Another Orthanc may have the port.
            return system.get("DicomPort") == server.dicom_port
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
