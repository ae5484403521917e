"""Real processes that begin as copies of one that has loaded the library: those of tests that start one after another.

`Popen` and `run` are used as those of `subprocess`, for programs that Python is given by `-m` or `-c`. On Linux such a
program starts in a copy of a process that has PyTorch and the library loaded, which is made once: a process of its own
with its own number, files, environment and memory, which ends, fails and is killed as any other does, and only does not
spend seconds on importing. What tests about starting itself, about imports, or about the memory of a process, uses
`subprocess`; so does this elsewhere, and where something is asked for that a copy cannot have: options of Python,
`preexec_fn`, or other variables of the environment of a kind that libraries have read already (`READ_AT_LOADING`).
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import inspect
import io
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

LOADED = (
    "dinsegment.inference.pipeline", "dinsegment.worker_compute", "dinsegment.worker_export",
    "dinsegment.worker_report", "dinsegment.cli_segment", "dinsegment.studies.many", "dinsegment.studies.overview",
    "dinsegment.dicom.write.seg", "dinsegment.dicom.write.sr",
)  # fmt: skip
"""What the process that is copied has loaded."""

READ_AT_LOADING = (
    "PYTHON", "LD_", "MALLOC_", "GLIBC_", "OMP_", "KMP_", "MKL_", "OPENBLAS_", "NPY_", "TORCH_", "PYTORCH_", "CUDA_",
    "MPL", "ITK_", "HF_",
)  # fmt: skip
"""Beginnings of variables of the environment that Python and libraries read when they are loaded."""
READ_LATER = ("PYTHONPATH", "PYTHONSAFEPATH")
"""Those among them that a copy goes by."""

SET_BY_LIBRARIES = ("PYTORCH_NVML_BASED_CUDA_CHECK", "PYTHONBREAKPOINT")
"""Those among them that a library sets for itself: Lightning for how PyTorch looks for a GPU, Ray for its debugger."""

MOST_BYTES = 1 << 17
"""Of one request, which holds an environment."""

STATUS = struct.Struct("i")

PYTHON = sys.executable  # On the host of the panel's tests it is empty at first, as in the application.
LAUNCHER = "PythonSlicer"
"""The program that has Python as its child, and waits for it."""


class Popen(subprocess.Popen):
    """A process as `subprocess.Popen` starts it, copied where that can be."""

    _status: int | None = None

    def _execute_child(self, *arguments: Any) -> None:
        names = list(inspect.signature(subprocess.Popen._execute_child).parameters)[1:]
        asked = dict(zip(names, arguments, strict=True))
        request = _request(asked)
        if request is None:
            super()._execute_child(*arguments)
            return
        streams = enumerate(asked[name] for name in ("p2cread", "c2pwrite", "errwrite"))
        self.pid, self._status = _original().copy(request, [own if given == -1 else given for own, given in streams])
        self._child_created = True
        self._close_pipe_fds(*(asked[f"{name}{end}"] for name in ("p2c", "c2p", "err") for end in ("read", "write")))

    def _internal_poll(self, _deadstate: int | None = None, **of_subprocess: Any) -> int | None:
        if self._status is None:
            return super()._internal_poll(_deadstate, **of_subprocess)
        if self.returncode is None and self._waitpid_lock.acquire(False):
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if pid == self.pid:
                    self._handle_exitstatus(status)
            finally:
                self._waitpid_lock.release()
        return self.returncode

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        if self._status is None:
            return super()._try_wait(wait_flags)
        with selectors.DefaultSelector() as selector:
            selector.register(self._status, selectors.EVENT_READ)
            if not selector.select(0 if wait_flags & os.WNOHANG else None):
                return 0, 0
        told = os.read(self._status, STATUS.size)
        os.close(self._status)
        # Without an answer the original is gone, which is killed only with whatever it has made.
        return self.pid, STATUS.unpack(told)[0] if told else signal.SIGKILL


def run(command: Sequence[Any], **options: Any) -> subprocess.CompletedProcess:
    """As `subprocess.run`, in a process that is copied."""
    check, given, timeout = options.pop("check", False), options.pop("input", None), options.pop("timeout", None)
    if given is not None:
        options["stdin"] = subprocess.PIPE
    if options.pop("capture_output", False):
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Popen(command, **options) as process:
        try:
            said = process.communicate(given, timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(process.args, process.returncode, *said)
    if check:
        done.check_returncode()
    return done


def prepare() -> None:
    """Makes the process that is copied, if there is none; else the first copy does."""
    if sys.platform == "linux":
        _original()


def _request(asked: dict[str, Any]) -> dict[str, Any] | None:
    """What the original is asked for; None for what it cannot do."""
    program, *arguments = (os.fspath(part) for part in asked["args"])
    special = ("preexec_fn", "pass_fds", "shell", "executable")
    if sys.platform != "linux" or arguments[:1] not in (["-m"], ["-c"]) or any(asked[name] for name in special):
        return None
    launched = Path(program).name == LAUNCHER
    if not launched and program != PYTHON:
        return None
    environment = dict(os.environ if asked["env"] is None else asked["env"])
    other = {name for name, _value in environment.items() ^ _original().environment.items()}
    if any(name.startswith(READ_AT_LOADING) for name in other.difference(READ_LATER, SET_BY_LIBRARIES)):
        return None
    return {
        "arguments": arguments,
        "environment": environment,
        "folder": os.fspath(asked["cwd"] or Path.cwd()),
        "own_session": bool(asked["start_new_session"]),
        "launched": launched,
    }


class _Original:
    """The process that is copied; it ends when this one does.

    Attributes:
        environment: With which it was started.
    """

    def __init__(self) -> None:
        self.environment = dict(os.environ)
        logic = str(Path(importlib.import_module("dinsegment").__file__).parents[1])
        paths = os.pathsep.join([logic, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._socket, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with there:
            self._process = subprocess.Popen(
                [PYTHON, __file__, str(there.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[there.fileno()],
                env={**self.environment, "PYTHONPATH": paths},
            )
        atexit.register(self.close)

    def copy(self, request: dict[str, Any], descriptors: Sequence[int]) -> tuple[int, int]:
        """Starts a process; gives its number, and a pipe that has its status once it has ended."""
        status, told = os.pipe()
        try:
            socket.send_fds(self._socket, [json.dumps(request).encode()], [*descriptors, told])
        finally:
            os.close(told)
        return int(self._socket.recv(MOST_BYTES)), status

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


@functools.cache
def _original() -> _Original:
    return _Original()


# --- in the process that is copied ---------------------------------------------------------------------


def serve(requests: socket.socket) -> Callable[[], object]:
    """Makes copies of this process until there are no more requests; returns in each of them what it has to do."""
    running: dict[int, tuple[int, int]] = {}
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    while True:
        for key, _events in selector.select():
            if key.fd in running:
                selector.unregister(key.fd)
                pid, told = running.pop(key.fd)
                os.write(told, STATUS.pack(os.waitpid(pid, 0)[1]))
                os.close(told)
                os.close(key.fd)
                continue
            message, descriptors, _flags, _address = socket.recv_fds(requests, MOST_BYTES, 4)
            if not message:
                os._exit(0)
            pid = os.fork()
            if pid == 0:
                selector.close()
                for ended, (_pid, told) in running.items():
                    os.close(ended)
                    os.close(told)
                return _become(json.loads(message), descriptors, requests)
            for stream in descriptors[:3]:
                os.close(stream)
            ended = os.pidfd_open(pid)
            running[ended] = pid, descriptors[3]
            selector.register(ended, selectors.EVENT_READ)


def _become(request: dict[str, Any], descriptors: Sequence[int], requests: socket.socket) -> Callable[[], object]:
    """Makes this copy what was asked for, and tells its number."""
    for stream, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, stream)
    for descriptor in descriptors:
        os.close(descriptor)
    for stream, name in enumerate(("stdin", "stdout", "stderr")):
        _reopen(stream, name)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["own_session"]:
        os.setsid()
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    requests.send(str(os.getpid()).encode())
    requests.close()
    if request["launched"] and (pid := os.fork()):  # As a shell that has started a program and waits for it.
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os._exit(code if code >= 0 else 128 - code)
    option, program, *arguments = request["arguments"]
    here = [] if os.environ.get("PYTHONSAFEPATH") else ["" if option == "-c" else str(Path.cwd())]
    given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = dict.fromkeys([*here, *given, *SYSTEM_PATH])
    importlib.invalidate_caches()
    sys.argv[:] = [option, *arguments]
    if option == "-m":
        return functools.partial(runpy.run_module, program, run_name="__main__", alter_sys=True)
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    return functools.partial(exec, compile(program, "<string>", "exec"), vars(main))


def _reopen(descriptor: int, name: str) -> None:
    """The stream of this name anew: the one before has found out what lay behind its descriptor, and goes by that."""
    before = getattr(sys, name)
    mode, buffering = "rb" if descriptor == 0 else "wb", 0 if before.write_through and descriptor else -1
    stream = io.TextIOWrapper(
        open(descriptor, mode, buffering, closefd=False),  # noqa: SIM115
        before.encoding,
        before.errors,
        line_buffering=before.line_buffering,
        write_through=before.write_through,
    )
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


def _run_to_its_end(program: Callable[[], object]) -> NoReturn:
    """As Python runs and ends one, only that what is loaded is not taken apart, which takes longer than to load it."""
    code: object = 0
    try:
        program()
    except SystemExit as end:
        code = end.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()  # Waits for threads.
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # It is meant for the tests, with which this ends.
    # Asked of a program without PYTHONPATH: what that has in common with an installation is in `sys.path` but once.
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ask = "import json, sys; print(json.dumps([path for path in sys.path if path]))"
    SYSTEM_PATH = json.loads(subprocess.check_output([sys.executable, "-c", ask], env=plain))
    for name in LOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # What is loaded stays, and its pages are shared as long as nothing is written to them.
    assert threading.active_count() == 1, f"A process with threads is not copied: {threading.enumerate()}"
    _run_to_its_end(serve(socket.socket(fileno=int(sys.argv[1]))))
