from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

import forked
from dinsegment.errors import InputError, WorkerError
from dinsegment.images import read_volume, write_volume
from dinsegment.inference.model import load_model
from dinsegment.models.entries import find_entry
from dinsegment.models.weights import locate
from dinsegment.phantom.heart import heart_phantom
from dinsegment.studies import cluster
from dinsegment.studies.cluster import segment_on_cluster
from dinsegment.studies.folders import plan_studies
from dinsegment.studies.index import INDEX
from dinsegment.studies.ledger import Ledger
from dinsegment.studies.many import segment_studies
from dinsegment.studies.study import StudyResult
from dinsegment.tasks import HEART

GRID = {"slices": 2, "size": (64, 80), "spacing": (16.0, 2.8, 2.5)}


@pytest.fixture(scope="module")
def ray():
    """A real Ray on this machine, with room for two workers."""
    forked.prepare()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'dinsegment[cluster]'.")
    ray.init(
        num_cpus=2, object_store_memory=80 * 2**20, include_dashboard=False, log_to_driver=False,
        logging_level=logging.ERROR,
        # Each worker of ours starts with an environment of its own, and not behind all that the other tests do.
        _system_config={"prestart_worker_first_driver": False, "worker_niceness": 0},
    )  # fmt: skip
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> list[Path]:
    """Five hearts; the first is large enough to be at work still when a small one is finished."""
    folder = tmp_path_factory.mktemp("input")
    paths = [folder / f"patient{seed}.nii.gz" for seed in range(5)]
    for seed, path in enumerate(paths):
        write_volume(heart_phantom(seed=seed, **(GRID if seed else {"slices": 10})).volume, path)
    return paths


def ledger_of(output: Path) -> Ledger:
    output.mkdir(exist_ok=True)
    return Ledger(output, HEART, find_entry(None, HEART))


def on_cluster(inputs: list[Path], output: Path, finished=lambda _result: None, workers: int | None = 2) -> None:
    ledger, name = ledger_of(output), find_entry(None, HEART).name
    plan = plan_studies(inputs, output)
    segment_on_cluster(plan, HEART, name, "cpu", ledger, finished, address="local", workers=workers)


def kill_a_busy_worker() -> list[int]:
    """The process that was killed, as the system kills one for want of memory; none if no worker was busy."""
    time.sleep(0.5)  # until who has just finished is known as idle
    for process in psutil.Process().children(recursive=True):
        if "ray::StudyWorker.segment" in " ".join(process.cmdline()):
            process.kill()
            return [process.pid]
    return []


def test_a_killed_worker_loses_nothing_and_results_are_those_of_one_machine(ray, images, tmp_path):
    (tmp_path / "notes.nii").write_text("no image")
    inputs = [images[0], tmp_path / "notes.nii", *images[1:]]
    results: dict[str, StudyResult] = {}
    killed: list[int] = []

    def finished(result: StudyResult) -> None:
        results[Path(result.input).name] = result
        if not killed:
            killed.extend(kill_a_busy_worker())

    output = tmp_path / "OUT"
    on_cluster(inputs, output, finished)
    assert killed
    expected = {path.name: "failed" if path.name == "notes.nii" else "done" for path in inputs}
    assert {name: result.status for name, result in results.items()} == expected
    assert str(inputs[1]) in results["notes.nii"].message
    assert len((output / INDEX).read_text(encoding="utf-8").splitlines()) == 5
    assert not list(output.rglob(".*"))

    alone: list[StudyResult] = []
    here = ledger_of(tmp_path / "alone")
    plan = plan_studies(images[:2], here.output)
    segment_studies(plan, HEART, load_model(None, HEART), "cpu", here, alone.append)
    for result in alone:
        name = Path(result.folder).name
        labels = [read_volume(o / name / "segmentation.seg.nrrd").array for o in (output, here.output)]
        np.testing.assert_array_equal(*labels)
        said = [json.loads((o / name / "measurements.json").read_text(encoding="utf-8")) for o in (output, here.output)]
        assert [content.pop("seconds") > 0 for content in said] == [True, True]
        assert said[0] == said[1]
        assert results[Path(result.input).name].volumes_ml == result.volumes_ml

    again: list[StudyResult] = []
    on_cluster(images, output, again.append, workers=None)
    assert [(r.status, r.input) for r in again] == [("skipped", str(path)) for path in images]


def test_a_model_folder_that_is_named_from_here_is_found_by_the_workers(ray, run, images, tmp_path, monkeypatch):
    """They are in the folder in which the cluster was started, which is another one."""
    entry = find_entry(None, HEART)
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    weights = locate(entry)
    (Path("mine") / weights.name).write_bytes(weights.read_bytes())
    listing = {"models": [{**vars(entry), "name": "mine-1"}]}
    (Path("mine") / "weights.json").write_text(json.dumps(listing), encoding="utf-8")
    code, _, said = run(
        "segment", images[1], "--task", "heart", "--model", "./mine", "-o", "OUT", "--cluster", "local",
        "--device", "cpu",
    )  # fmt: skip
    assert code == 0, said
    (folder,) = (path for path in Path("OUT").iterdir() if path.is_dir())
    assert json.loads((folder / "measurements.json").read_text(encoding="utf-8"))["model"] == "mine-1"


def test_more_workers_than_the_cluster_has_room_for_are_refused(ray, images, tmp_path):
    with pytest.raises(InputError, match="--workers can be 1 to 2, not 3"):
        on_cluster(images, tmp_path / "OUT", workers=3)
    assert list((tmp_path / "OUT").iterdir()) == []


def test_a_cluster_is_known_by_its_answer(ray):
    cluster._check_answers(ray.get_runtime_context().gcs_address)


@pytest.mark.skipif(sys.platform != "linux", reason="Processes are copied on Linux only.")
def test_processes_of_other_tests_are_copies_still(ray):
    """Of one that was made before Ray has changed the environment of this process."""
    done = forked.run([sys.executable, "-c", "import sys; print('torch' in sys.modules)"], stdout=subprocess.PIPE)
    assert done.stdout == b"True\n"


def test_a_machine_that_does_not_share_the_output_folder_is_named(ray, tmp_path):
    seen = cluster.StudyWorker("heart", "heart-din-small", "cpu").sees(tmp_path / "only there")
    with pytest.raises(InputError, match=r"does not see .*OUT.* file system that all machines share"):
        cluster._check_shared(ray, ray.put(seen), tmp_path / "OUT")


def test_without_ray_one_sentence_names_what_to_install(images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(WorkerError, match=r"pip install 'dinsegment\[cluster\]'"):
        on_cluster(images, tmp_path / "OUT")
    assert list((tmp_path / "OUT").iterdir()) == []


def test_an_address_where_no_cluster_answers_gets_one_sentence(tmp_path):
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'dinsegment[cluster]'.")
    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(WorkerError, match=r"No Ray cluster answers at '127\.0\.0\.1:1'"):
        segment_on_cluster([], HEART, "", "cpu", ledger_of(tmp_path), print, address="127.0.0.1:1")


@pytest.mark.parametrize("ending", [SystemExit(1), ConnectionError("gone"), Exception("timed out during startup")])
def test_however_ray_gives_up_there_is_one_sentence(ending, tmp_path, monkeypatch):
    """With SystemExit, Ray would end this program without a word."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'dinsegment[cluster]'.")
    if ray.is_initialized():
        ray.shutdown()

    def init(**_options: object) -> None:
        raise ending

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(WorkerError, match="No Ray cluster answers at 'auto'"):
        segment_on_cluster([], HEART, "", "cpu", ledger_of(tmp_path), print, address="auto")


def test_what_listens_and_says_nothing_is_no_cluster(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'dinsegment[cluster]'.")
    if ray.is_initialized():
        ray.shutdown()
    monkeypatch.setattr(cluster, "CONNECT_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(WorkerError, match=f"No Ray cluster answers at '{address}'"):
            segment_on_cluster([], HEART, "", "cpu", ledger_of(tmp_path), print, address=address)
