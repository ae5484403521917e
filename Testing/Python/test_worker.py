"""The worker's protocol, spoken to a real process over pipes."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import psutil
import pytest

import forked
from dinsegment.errors import InputError, ModelError
from dinsegment.files import write_json
from dinsegment.inference import segment, segment_phases
from dinsegment.inference.cine import FEWEST_PHASES
from dinsegment.models.entries import find_entry, models_folder
from dinsegment.phantom.heart import cine_phantom, heart_phantom
from dinsegment.tasks import HEART
from dinsegment.training.adapt import Adapted
from dinsegment.worker import answer
from dinsegment.worker_compute import Models, run_adapt
from dinsegment.worker_exchange import ENHANCED, IMAGE, LABELS, PHASE, Channel

NOISY = """
import os

from dinsegment import worker, worker_exchange

load = worker.preload

def preload():
    load()
    print("a library's print", flush=True)
    os.system("echo what a library starts prints")

worker.preload = preload
worker_exchange.ALIVE_INTERVAL_S = 0.01
worker.main()
"""
"""The worker with a library that prints, as some do; and with more signs of life than a short test would see."""

BARE = """
import dinsegment.worker as worker

worker.preload = lambda: None
worker.IDLE_LIMIT_S = {idle}
worker.main()
"""
"""The worker without what takes seconds to load."""


class Process:
    """A worker, and the blocking side of its pipes."""

    def __init__(self, code, stderr=None, start=subprocess.Popen):
        pipe = subprocess.PIPE
        self.popen = start([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=stderr)

    def read(self):
        return json.loads(self.popen.stdout.readline())

    def send(self, **request):
        self.popen.stdin.write(json.dumps(request).encode() + b"\n")
        self.popen.stdin.flush()

    def answers(self, request):
        """Events up to `done` or `error`."""
        self.send(**request)
        events = [self.read()]
        while events[-1]["event"] not in ("done", "error"):
            events.append(self.read())
        return events

    def close(self):
        self.popen.kill()
        self.popen.communicate()


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    errors = tmp_path_factory.mktemp("worker") / "errors.txt"
    with errors.open("wb") as stream:
        process = Process(NOISY, stderr=stream)
        process.errors = errors
        assert process.read() == {"event": "ready"}
        yield process
        process.close()


@pytest.fixture(scope="module")
def volume():
    return heart_phantom(slices=6).volume


@pytest.fixture
def bare():
    processes = []

    def start(idle=60):
        processes.append(Process(BARE.format(idle=idle), stderr=subprocess.PIPE, start=forked.Popen))
        assert processes[0].read() == {"event": "ready"}
        return processes[0]

    yield start
    for process in processes:
        process.close()


def request(folder, *volumes, **changes):
    described = []
    for number, volume in enumerate(volumes, start=1):
        (folder / PHASE.format(number)).mkdir(exist_ok=True)
        np.save(folder / PHASE.format(number) / IMAGE, volume.array)
        geometry = {"name": volume.name, "ijk_to_ras": volume.ijk_to_ras.tolist(), "modality": volume.modality}
        described.append(geometry)
    return {
        "command": "segment",
        "id": 7,
        "folder": str(folder),
        "task": "heart",
        "model": None,
        "device": "cpu",
        "volumes": described,
    } | changes


def left(folder, name, number=1):
    return np.load(folder / PHASE.format(number) / name)


def test_gives_exactly_what_the_library_gives(worker, volume, tmp_path):
    *progress, done = worker.answers(request(tmp_path, volume))
    expected = segment(volume, "heart", device="cpu")
    assert np.array_equal(left(tmp_path, LABELS), expected.labels)
    assert np.array_equal(left(tmp_path, ENHANCED), expected.enhanced.array)
    assert left(tmp_path, LABELS).dtype == np.uint8
    assert left(tmp_path, ENHANCED).dtype == np.float32
    (told,) = done["phases"]
    assert (done["event"], told["model"], told["device"]) == ("done", expected.model, "cpu")
    assert told["warnings"] == list(expected.warnings)
    assert told["seconds"] > 0
    assert {event["id"] for event in (*progress, done)} == {7}


def test_a_cine_is_one_request_and_what_the_library_makes_of_it(worker, tiny_models, tmp_path):
    model = str(tiny_models)
    volumes = [one.volume for one in cine_phantom(FEWEST_PHASES, slices=2, size=(110, 120), spacing=(16.0, 1.6, 1.6))]
    *progress, done = worker.answers(request(tmp_path, *volumes, model=model))
    expected = list(segment_phases(volumes, "heart", model, "cpu"))
    assert len(done["phases"]) == len(volumes)
    for number, (one, told) in enumerate(zip(expected, done["phases"], strict=True), start=1):
        assert np.array_equal(left(tmp_path, LABELS, number), one.labels)
        assert np.array_equal(left(tmp_path, ENHANCED, number), one.enhanced.array)
        assert told["warnings"] == list(one.warnings)
    fractions = [event["fraction"] for event in progress if event["event"] == "progress"]
    assert fractions == sorted(fractions)
    assert {event["phase"] for event in progress if event["event"] == "progress"} == set(range(1, len(volumes) + 1))
    alone = segment(volumes[5], "heart", model, "cpu")
    assert not np.array_equal(alone.labels, expected[5].labels)


def test_tells_how_far_it_is_and_that_it_lives(worker, volume, tmp_path):
    events = worker.answers(request(tmp_path, volume))
    fractions = [event["fraction"] for event in events if event["event"] == "progress"]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.0
    assert fractions[-1] == 1.0
    assert len(fractions) > 6
    assert "alive" in {event["event"] for event in events}


def test_what_libraries_print_stays_out_of_the_protocol(worker, volume, tmp_path):
    worker.answers(request(tmp_path, volume))
    said = worker.errors.read_text(encoding="utf-8")
    assert "a library's print" in said
    assert "what a library starts prints" in said


def test_image_is_not_changed_and_its_file_is_let_go(worker, volume, tmp_path):
    worker.answers(request(tmp_path, volume))
    assert np.array_equal(left(tmp_path, IMAGE), volume.array)
    process = psutil.Process(worker.popen.pid)
    assert not [m.path for m in process.memory_maps() if m.path.startswith(str(tmp_path))]
    assert not [f.path for f in process.open_files() if f.path.startswith(str(tmp_path))]


def test_errors_keep_their_class_and_sentence_and_it_works_on(worker, volume, tmp_path):
    bad = volume.array.copy()
    bad[1, 2, 3] = np.nan
    error = worker.answers(request(tmp_path, volume.with_array(bad)))[-1]
    with pytest.raises(InputError) as expected:
        segment(volume.with_array(bad), "heart")
    assert error == {"event": "error", "id": 7, "type": "InputError", "message": str(expected.value)}
    process = psutil.Process(worker.popen.pid)
    assert not [m.path for m in process.memory_maps() if m.path.startswith(str(tmp_path))]

    error = worker.answers(request(tmp_path, volume, model="nnU-Net"))[-1]
    assert error["type"] == "ModelError"
    assert worker.answers(request(tmp_path, volume))[-1]["event"] == "done"


def test_an_error_that_is_not_expected_has_its_traceback(worker, volume, tmp_path):
    error = worker.answers({**request(tmp_path, volume), "folder": str(tmp_path / "nowhere")})[-1]
    assert error["type"] == "FileNotFoundError"
    assert "Traceback" in error["traceback"]
    assert "np.load" in error["traceback"]


def test_unknown_command_and_task(worker, volume, tmp_path):
    assert "no command 'paint'" in worker.answers(request(tmp_path, volume, command="paint"))[-1]["message"]
    assert worker.answers(request(tmp_path, volume, task="lung"))[-1]["type"] == "InputError"


def test_ends_with_its_parent_in_the_middle_of_computing(volume, tmp_path):
    process = Process("import dinsegment.worker as worker; worker.main()", start=forked.Popen)
    try:
        assert process.read() == {"event": "ready"}
        process.send(**request(tmp_path, volume))
        while "Segmenting" not in process.read().get("text", ""):
            pass
        process.popen.stdin.close()
        process.popen.wait(60)
        assert not list(tmp_path.rglob(LABELS))  # It did not compute to the end first.
    finally:
        process.popen.stdout.close()
        process.popen.kill()
        process.popen.wait()


def test_ends_when_idle(bare):
    process = bare(idle=0.2)
    assert process.popen.wait(60) == 0
    assert process.popen.stderr.read() == b""


def test_ends_with_its_input(bare):
    process = bare()
    process.popen.stdin.close()
    assert process.popen.wait(60) == 0
    process.popen.stdin = None


def test_rubbish_as_a_request_ends_it_with_a_traceback(bare):
    process = bare()
    process.popen.stdin.write(b"segment, please\n")
    process.popen.stdin.flush()
    assert process.popen.wait(5) == 1
    assert b"JSONDecodeError" in process.popen.stderr.read()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has such a score")
def test_linux_ends_it_before_the_application(bare):
    process = bare()
    assert int(Path(f"/proc/{process.popen.pid}/oom_score_adj").read_text(encoding="utf-8")) >= 500


def test_no_room_for_the_result(volume, tmp_path):
    asked, said = request(tmp_path, volume), io.BytesIO()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        answer(asked, Models(), Channel(said))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    error = json.loads(said.getvalue().splitlines()[-1])
    assert error["type"] == "OutputError"
    assert str(tmp_path) in error["message"]


def test_training_is_alive_while_it_has_nothing_to_tell(tmp_path, monkeypatch):
    said = io.BytesIO()

    def adapt(*_arguments):
        end = time.monotonic() + 20
        while b'"alive"' not in said.getvalue():
            assert time.monotonic() < end
            time.sleep(0.01)
        return Adapted(tmp_path, 0.8, 0.9, ("a",), ("b",))

    monkeypatch.setattr("dinsegment.training.adapt.adapt", adapt)
    monkeypatch.setattr("dinsegment.worker_exchange.ALIVE_INTERVAL_S", 0.01)
    asked = {"id": 7, "task": "heart", "model": None, "device": "cpu", "cases": str(tmp_path), "output": str(tmp_path)}
    assert run_adapt(asked, Channel(said))["after"] == 0.9
    alive = [event for event in map(json.loads, said.getvalue().splitlines()) if event["event"] == "alive"]
    assert alive and all(event["id"] == 7 for event in alive)


def test_models_stay_in_memory():
    models = Models()
    assert models.load(None, HEART) is models.load(None, HEART)
    with pytest.raises(ModelError):
        models.load("nnU-Net", HEART)


def test_a_model_of_one_s_own_that_was_made_again_is_read_again(tmp_path):
    """The user may train anew into the folder of the run before."""
    entry = find_entry("heart-din-small", HEART)
    shutil.copy(models_folder() / entry.weights["file"], tmp_path)
    models, path = Models(), tmp_path / "weights.json"
    for number, name in enumerate(("first", "second"), start=1):
        write_json({"models": [asdict(replace(entry, name=name))]}, path)
        os.utime(path, ns=(number * 10**9, number * 10**9))
        model = models.load(str(tmp_path), HEART)
        assert model.name == name
        assert models.load(str(tmp_path), HEART) is model
