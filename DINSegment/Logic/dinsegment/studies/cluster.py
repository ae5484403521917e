"""Studies on a Ray cluster: workers keep the model warm and write into an output folder that all machines share."""

from __future__ import annotations

import logging
import os
import signal
import socket
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from dinsegment.errors import InputError, WorkerError
from dinsegment.manifest import remove_staging
from dinsegment.models.entries import MODELS_VARIABLE
from dinsegment.models.settings import CACHE_VARIABLE, OFFLINE_FOLDER_VARIABLE
from dinsegment.studies.ledger import Ledger
from dinsegment.studies.study import Study, StudyResult, failure, run_study
from dinsegment.tasks import TASKS_VARIABLE, Task, get_task

if TYPE_CHECKING:
    from dinsegment.inference.model import Model
    from dinsegment.progress import Progress

CPUS_PER_WORKER = 4
"""A network for CPUs gains little beyond; more studies at a time gain more."""

RETRIES = 2
"""So many times a study is begun again after its worker died; what kills three workers is the study's own fault."""

CONNECT_TIMEOUT_S = 10.0

GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""With which HTTP/2, and so gRPC, begins, and empty settings; the other side answers with its own (RFC 9113, 3.4)."""

LOCAL_OBJECT_STORE = 100 * 2**20
"""Bytes of Ray's shared memory where Ray is started here: images go through files, only short results through it."""


class StudyWorker:
    """One process on the cluster; the model is loaded with the first study and stays."""

    def __init__(self, task: str, model: str, device: str) -> None:
        self._task = get_task(task)
        self._name, self._device = model, device
        self._model: Model | None = None

    def sees(self, path: Path) -> tuple[str, bool]:
        """The name of this machine, and whether it has that file."""
        import platform

        return platform.node(), path.exists()

    def segment(self, study: Study) -> StudyResult:
        """Segments a study; what goes wrong with it is in the result."""
        from dinsegment.inference.model import load_model

        remove_staging(study.folder)  # of the worker that began it, if that died
        try:
            self._model = self._model or load_model(self._name, self._task)
            return run_study(study, self._task, self._model, self._device)
        except Exception as error:
            return failure(study, error)


def segment_on_cluster(
    studies: Sequence[Study],
    task: Task,
    model: str,
    device: str,
    ledger: Ledger,
    finished: Callable[[StudyResult], None],
    progress: Progress | None = None,
    *,
    address: str,
    workers: int | None = None,
) -> None:
    """Segments studies on a Ray cluster, one at a time in each worker.

    A study whose worker dies is begun again, up to RETRIES times. On KeyboardInterrupt what has begun is finished and
    nothing else is begun, and the exception goes on. A program that has called `ray.init` itself keeps its cluster.

    Args:
        studies: In the order in which they are begun.
        task: What to segment.
        model: Its name in weights.json, the same on all machines.
        device: `auto`, `cpu` or `cuda`; a GPU for each worker where the cluster has some, unless `cpu`.
        ledger: Of the output folder; it is closed at the end.
        finished: Called in this thread with every result as it comes.
        progress: Called with the fraction done of all studies and what is being done.
        address: Of a Ray cluster; `auto` for the one of this machine; `local` starts one here for this run.
        workers: How many; as many as the cluster has room for if None.

    Raises:
        InputError: More workers than the cluster has room for, or its machines do not share the output folder.
        WorkerError: Ray is not installed, no cluster answers, or no worker can start there.
        OutputError: The output folder itself can no longer be written to.
    """
    ray = _import_ray()
    report = progress or (lambda _fraction, _text: None)
    idle: deque[Any] = deque()
    joining: dict[Any, Any] = {}
    running: dict[Any, tuple[Any, Study]] = {}
    done = 0

    def end(result: StudyResult) -> None:
        nonlocal done
        done += 1
        finished(result)
        report(done / len(studies), f"{done} of {len(studies)} inputs")

    def settle(ref: Any) -> None:
        actor, study = running.pop(ref)
        result = _result(ray, ref, study)
        ledger.settle(study, result)
        idle.append(actor)
        end(result)

    def unfinished() -> Iterator[Study]:
        for study in studies:
            if skipped := ledger.claim(study):
                end(skipped)
            else:
                yield study

    waiting: Iterator[Study] = unfinished()

    def begin() -> None:
        while idle and (study := next(waiting, None)) is not None:
            there = replace(study, input=study.input.absolute(), folder=study.folder.absolute())
            actor = idle.popleft()
            running[actor.segment.remote(there)] = actor, study

    try:
        with _connected(ray, address), tempfile.NamedTemporaryFile(prefix=".dinsegment-", dir=ledger.output) as probe:
            report(0.0, "Starting the workers")
            actors = _start_workers(ray, task, model, device, workers)
            try:
                joining = {actor.sees.remote(Path(probe.name).absolute()): actor for actor in actors}
                # What is finished already waits for no worker.
                if (first := next(waiting, None)) is not None:
                    waiting = chain([first], waiting)
                while done < len(studies):
                    ready, _ = ray.wait([*running, *joining])
                    for ref in ready:
                        if ref in running:
                            settle(ref)
                        else:
                            _check_shared(ray, ref, ledger.output)
                            idle.append(joining.pop(ref))
                    begin()
            except KeyboardInterrupt:
                report(done / len(studies), "Finishing what has begun")
                for ref in list(running):
                    settle(ref)
                raise
            finally:
                for actor in actors:
                    ray.kill(actor)
    finally:
        ledger.close()


def _import_ray() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    try:
        import ray
    except ImportError as error:
        raise WorkerError("A cluster needs Ray, which is not installed: pip install 'dinsegment[cluster]'.") from error
    return ray


@contextmanager
def _connected(ray: ModuleType, address: str) -> Iterator[None]:
    """Ray, connected to a cluster; one that was connected before stays so."""
    if ray.is_initialized():
        yield
        return
    options = {"include_dashboard": False, "object_store_memory": LOCAL_OBJECT_STORE} if address == "local" else {}
    try:
        _check_answers(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code == signal.SIGTERM:  # from without
            raise
        raise WorkerError(
            f"No Ray cluster answers at '{address}': start one with 'ray start --head' or give 'local'."
        ) from error
    try:
        yield
    except (SystemExit, ray.exceptions.RayError) as error:  # Ray ends programs when its own time-outs are over
        if isinstance(error, SystemExit) and error.code == signal.SIGTERM:
            raise
        raise WorkerError(
            f"The Ray cluster at '{address}' no longer answers: look at it and start again, finished inputs are kept."
        ) from error
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Raises OSError if nothing answers at `host:port`: Ray itself would try for 14 minutes and print warnings."""
    host, _, port = address.rpartition(":")
    if host and "/" not in address and port.isdigit():
        with socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
                return
            connection.sendall(GREETING)
            if not connection.recv(1):
                raise ConnectionError(f"What listens at '{address}' is no Ray cluster.")


def _start_workers(ray: ModuleType, task: Task, model: str, device: str, workers: int | None) -> list[Any]:
    """Asks for the workers; each joins when the cluster has room for it."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    on_gpu = device != "cpu" and any(node.get("GPU") for node in nodes)
    kind = "GPU" if on_gpu else "CPU"
    room = sum(int(node.get(kind, 0)) for node in nodes)
    if workers is not None and not 1 <= workers <= room:
        raise InputError(f"The cluster has {room} {kind}s: --workers can be 1 to {room}, not {workers}.")
    if on_gpu:
        share, count = {"num_gpus": 1}, workers or room
    else:
        wanted = room // workers if workers else CPUS_PER_WORKER
        cpus = max(1, min(wanted, *(int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1), room))
        share, count = {"num_cpus": cpus}, workers or sum(int(node.get("CPU", 0)) // cpus for node in nodes)
    remote = ray.remote(StudyWorker).options(
        **share, max_restarts=-1, max_task_retries=RETRIES, runtime_env={"env_vars": _environment()}
    )
    return [remote.remote(task.name, model, device) for _ in range(count)]


def _environment() -> dict[str, str]:
    """This package and its models for the workers, which run in another folder."""
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    own = {key: value for key, value in os.environ.items() if key.startswith("DINSEGMENT_")}
    for key in (MODELS_VARIABLE, TASKS_VARIABLE, CACHE_VARIABLE, OFFLINE_FOLDER_VARIABLE):
        if own.get(key):
            own[key] = str(Path(own[key]).absolute())
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(str(Path(path).absolute()) for path in paths)), **own}


def _check_shared(ray: ModuleType, ref: Any, output: Path) -> None:
    try:
        machine, there = ray.get(ref)
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[-300:]
        raise WorkerError(
            f"A worker of the cluster could not start; install DINSegment there, too ({reason})."
        ) from error
    if not there:
        raise InputError(
            f"The machine '{machine}' of the cluster does not see '{output.absolute()}': choose an output folder on a "
            "file system that all machines share under the same path."
        )


def _result(ray: ModuleType, ref: Any, study: Study) -> StudyResult:
    """What a worker says of a study, in the paths of this machine."""
    try:
        result = ray.get(ref)
    except ray.exceptions.RayActorError:
        died = WorkerError(
            f"'{study.input}' ended its worker {RETRIES + 1} times, perhaps for want of memory: use larger machines."
        )
        return failure(study, died)
    except Exception as error:
        return failure(study, error)
    return replace(result, input=study.label, folder=str(study.folder))
