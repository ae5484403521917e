"""Jobs on real processes: the worker itself, and small programs that fail in the ways a process can fail."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import psutil
import pytest

import forked
from dinsegment.errors import Cancelled, InputError, ModelError, OutputError, WorkerError
from dinsegment.inference import segment
from dinsegment.phantom.heart import cine_phantom
from dinsegment.worker_exchange import IMAGE
from dinsegment_slicer.running import job as job_module
from dinsegment_slicer.running import pace as pace_module
from dinsegment_slicer.running.process import host_name
from dinsegment_slicer.running.segment_part import JobImage
from dinsegment_slicer.running.worker import Worker


@pytest.fixture(scope="module", autouse=True)
def exchange(tmp_path_factory):
    """All temporary folders of these tests."""
    folder = tmp_path_factory.mktemp("exchange")
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    forked.prepare()  # Or it would be there after a test, and not before.
    yield folder
    assert list(folder.iterdir()) == []  # What a worker leaves after `close`.
    tempfile.tempdir = before


@pytest.fixture(scope="module")
def volumes():
    """End diastole and end systole."""
    return [phantom.volume for phantom in cine_phantom(2, slices=6)]


@pytest.fixture(scope="module")
def expected(volumes):
    """What the library makes of them."""
    return [segment(volume, "heart", device="cpu") for volume in volumes]


@pytest.fixture(scope="module")
def warm(exchange, from_scratch):
    """One worker for all tests that do not break it, started as in the application."""
    worker = Worker()
    with from_scratch():
        worker.warm_up()
    yield worker
    worker.close()


@pytest.fixture
def child(exchange):
    """Makes workers of a few lines of Python; afterwards none of their processes and files may be left."""
    workers = []
    files, processes = set(exchange.iterdir()), set(descendants())

    def make(code, **options):
        workers.append(Worker([sys.executable, "-c", textwrap.dedent(code)], **options))
        return workers[-1]

    yield make
    for worker in workers:
        worker.close()
    assert set(exchange.iterdir()) == files
    assert set(descendants()) == processes


def descendants():
    return psutil.Process().children(recursive=True)


def image(volume, **changes):
    fields = {
        "array": volume.array.astype(np.int16),
        "ijk_to_ras": volume.ijk_to_ras,
        "name": volume.name,
        "modality": volume.modality,
    }
    return JobImage(**(fields | changes))


def until(job, condition, limit=600.0):
    end = time.monotonic() + limit
    while not condition(job):
        assert time.monotonic() < end, f"still at '{job.text}', {job.error}"
        job.poll()
        time.sleep(0.01)
    return job


def finish(job, limit=120.0):
    return until(job, lambda job: job.finished, limit)


def failed(job, error=WorkerError):
    """The sentence a job failed with."""
    finish(job)
    assert type(job.error) is error
    assert not job.cancelled
    assert job.results == ()
    sentence = str(job.error)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


SERVANT = """
import json, os, sys, time
import numpy as np
def say(**event):
    print(json.dumps(event), flush=True)
say(event="ready")
for line in sys.stdin:
    request = json.loads(line)
    folder, id = request["folder"] + "/phase 1", request["id"]
    image = np.load(folder + "/image.npy")
    labels, enhanced = (image > image.mean()).astype(np.uint8), image
    done = dict(event="done", id=id, model="threshold", device="cpu", seconds=0.5, warnings=[])
    {}
    if labels is not None:
        np.save(folder + "/labels.npy", labels)
    np.save(folder + "/enhanced.npy", enhanced)
    say(event=done.pop("event"), id=done.pop("id"), phases=[done])
"""
"""A worker that speaks the protocol and thresholds, with a line of its own before it answers."""


def servant(line="pass"):
    return SERVANT.format(line)


class TestResult:
    def test_exactly_what_the_library_gives(self, warm, volumes, expected):
        job = finish(warm.start([image(volumes[0])], "heart"))
        assert job.error is None
        (result,) = job.results
        assert np.array_equal(result.labels, expected[0].labels)
        assert np.array_equal(result.enhanced.array, expected[0].enhanced.array)
        assert np.array_equal(result.volume.array, volumes[0].array)
        for made, wanted in ((result.volume, volumes[0]), (result.enhanced, expected[0].enhanced)):
            assert np.array_equal(made.ijk_to_ras, wanted.ijk_to_ras)
            assert (made.name, made.modality) == (wanted.name, wanted.modality)
        for field in ("model", "device", "warnings", "task"):
            assert getattr(result, field) == getattr(expected[0], field)
        assert (job.fraction, job.finished, job.cancelled, job.seconds_left) == (1.0, True, False, None)
        job.close()

    def test_second_volume_uses_the_warm_process(self, warm, volumes, expected):
        finish(warm.start([image(volumes[0])], "heart")).close()
        pid = warm.pid
        job = finish(warm.start([image(volumes[1])], "heart"))
        assert warm.pid == pid
        assert np.array_equal(job.results[0].labels, expected[1].labels)
        job.close()

    def test_two_phases(self, warm, volumes, expected):
        job = warm.start([image(volume) for volume in volumes], "heart", "heart-din-small", "cpu")
        seen = []
        until(job, lambda job: seen.append((job.fraction, job.text)) or job.finished)
        for result, wanted in zip(job.results, expected, strict=True):
            assert np.array_equal(result.labels, wanted.labels)
            assert result.volume.name == wanted.volume.name
        fractions = [fraction for fraction, text in seen]
        assert fractions == sorted(fractions)
        texts = " ".join(text for fraction, text in seen)
        assert "Phase 1 of 2: Segmenting: slice 1 of 6" in texts
        assert "Phase 2 of 2: Segmenting: slice 1 of 6" in texts
        assert all(fraction >= 0.5 for fraction, text in seen if text.startswith("Phase 2"))
        job.close()

    def test_arrays_are_files_until_close(self, warm, volumes, exchange):
        before = set(exchange.iterdir())
        job = finish(warm.start([image(volumes[0])], "heart"))
        (folder,) = set(exchange.iterdir()) - before
        (result,) = job.results
        for array in (result.volume.array, result.labels, result.enhanced.array):
            while isinstance(array.base, np.ndarray):
                array = array.base
            assert isinstance(array, np.memmap)
        assert folder.name.startswith(f"DINSegment-{os.getpid()}-")
        worker = psutil.Process(warm.pid)
        assert not [m.path for m in worker.memory_maps() if m.path.startswith(str(folder))]
        assert not [f.path for f in worker.open_files() if f.path.startswith(str(folder))]
        del result, array
        for _n in range(2):
            job.close()
            assert job.results == ()
            assert set(exchange.iterdir()) == before
        mapped = [m.path for m in psutil.Process().memory_maps()]
        assert not [path for path in mapped if path.startswith(str(folder))]

    def test_poll_says_when_something_changed(self, warm, volumes):
        job = warm.start([image(volumes[0])], "heart")
        shown = job.fraction, job.text
        changes = 0
        while not job.finished:
            changed = job.poll()
            assert changed == (job.finished or (job.fraction, job.text) != shown)
            shown = job.fraction, job.text
            changes += changed
            time.sleep(0.01)
        assert changes >= 4
        assert not job.poll()
        job.close()

    @pytest.mark.parametrize("dtype", ["int16", "uint8", "bool", ">f8", "uint64"])
    def test_any_type_and_layout_of_voxels(self, child, dtype):
        voxels = (np.random.default_rng(1).random((7, 5, 6)) * 200).astype(dtype)
        worker = child(servant())
        for array in (voxels, voxels.T, voxels[::-2, 1:, ::3]):
            job = finish(worker.start([JobImage(array, np.eye(4), "x", None)], "heart"))
            assert np.array_equal(job.results[0].volume.array, array.astype(np.float32))
            job.close()


class TestResponsiveness:
    def test_a_large_ct_is_read_in_short_steps(self, child):
        worker = child(servant())
        array = np.random.default_rng(2).integers(-1000, 2000, (200, 512, 512)).astype(np.int16)
        array.flags.writeable = False
        job = worker.start([JobImage(array, np.diag([0.7, 0.7, 1.5, 1]), "CT", "CT")], "heart")
        seconds = []
        while not job.finished:
            before = time.thread_time()  # What other programs take does not count.
            job.poll()
            seconds.append(time.thread_time() - before)
            time.sleep(0.002)
        assert job.error is None
        longest = sorted(seconds)[-10:]
        # Not all at once, however fast the disk is: it is written in thirteen parts.
        assert np.median(longest) < sum(seconds) / 6
        assert longest[-1] < sum(seconds) / 2
        assert np.array_equal(job.results[0].volume.array[::40], array[::40])
        job.close()

    def test_time_left(self, child, monkeypatch, tmp_path):
        monkeypatch.setattr(pace_module.Pace, "LEAST_S", 0.3)
        monkeypatch.setattr(pace_module, "LONGEST_STEP_S", 60.0)
        # It goes on from the beginning and from the middle when they were seen here, however busy the machine is.
        steps = (
            "for n in range(21):\n"
            '        say(event="progress", id=id, fraction=n / 20, text=str(n))\n'
            "        time.sleep(0.05)\n"
            f"        while n in (0, 10) and not os.path.exists({str(tmp_path)!r} + f'/{{n}}'): time.sleep(0.01)"
        )
        job = child(servant(steps)).start([image_of_zeros()], "heart")
        assert job.seconds_left is None
        told, started = [], time.monotonic()

        def look(job):
            told.append((job.fraction, job.seconds_left, time.monotonic() - started))
            if job.text in ("0", "10"):
                (tmp_path / job.text).touch()
            return job.finished

        until(job, look)
        assert all(left is None for fraction, left, _ in told if fraction == 0)
        left, passed = next((left, passed) for fraction, left, passed in told if fraction == 0.5)
        assert 0 < left <= 2 * passed
        assert job.seconds_left is None
        job.close()

    def test_pace_is_steady(self):
        pace = pace_module.Pace()
        for second in range(11):
            pace.update(0.2 + 0.04 * second, 100.0 + second)
        assert pace.seconds_left(110.0) == pytest.approx(10.0)
        assert pace.seconds_left(114.0) == pytest.approx(6.0)
        assert pace.seconds_left(130.0) == 0.0


def image_of_zeros(shape=(3, 4, 5)):
    return JobImage(np.zeros(shape, np.int16), np.eye(4), "zeros", "MR")


LIMIT_S = 20.0
"""Far below what a process does that is not ended; how quickly it ends is measured in segment_and_cancel.py."""


def cancelled_cleanly(worker, job, exchange, before):
    """Cancels; the time it took."""
    tree = [process for pid in [worker.pid] if pid for process in with_children(pid)]
    started = time.monotonic()
    job.cancel()
    seconds = time.monotonic() - started
    assert not [process for process in tree if alive(process)]
    assert set(exchange.iterdir()) == before
    assert (job.finished, job.cancelled, job.error, job.results) == (True, True, None, ())
    assert worker.pid is None
    assert not job.poll()
    job.cancel()
    job.close()
    return seconds


def with_children(pid):
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def alive(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def gone_within(pid, seconds):
    end = time.monotonic() + seconds
    while psutil.pid_exists(pid) and alive(psutil.Process(pid)) and time.monotonic() < end:
        time.sleep(0.02)
    return not (psutil.pid_exists(pid) and alive(psutil.Process(pid)))


class TestCancel:
    """No process and no file is left, whenever it comes."""

    def test_before_the_first_poll(self, child, volumes, exchange):
        worker, before = child(servant()), set(exchange.iterdir())
        assert cancelled_cleanly(worker, worker.start([image(volumes[0])], "heart"), exchange, before) < LIMIT_S

    def test_while_it_starts_writes_and_computes(self, volumes, exchange, from_scratch):
        before, worker = set(exchange.iterdir()), Worker()
        large = JobImage(np.zeros((100, 512, 512), np.int16), np.eye(4), "large", None)
        try:
            for start, images, moment in [
                (from_scratch, [image(volumes[0])], lambda job: worker.pid and not job._process.ready),
                (nullcontext, [large], lambda job: job._folder and any(job._folder.rglob(IMAGE))),
                (nullcontext, [image(volumes[0])] * 2, lambda job: "Segmenting" in job.text),
            ]:
                with start():
                    job = until(worker.start(images, "heart"), moment)
                assert not job.finished
                assert cancelled_cleanly(worker, job, exchange, before) < LIMIT_S
        finally:
            worker.close()

    @pytest.mark.parametrize("own_session", [False, True])
    def test_what_a_launcher_has_launched_ends_too(self, child, volumes, exchange, own_session):
        """Slicer's Python is a launcher, whose child computes."""
        before = set(exchange.iterdir())
        worker = child(
            f"""
            import subprocess, sys
            code = {servant("time.sleep(60)")!r}
            sys.exit(subprocess.call([sys.executable, "-c", code], start_new_session={own_session}))
            """
        )
        job = until(worker.start([image(volumes[0])], "heart"), lambda job: job._request)
        assert len(with_children(worker.pid)) == 2
        assert cancelled_cleanly(worker, job, exchange, before) < LIMIT_S

    def test_a_process_that_will_not_be_terminated(self, child, exchange):
        before = set(exchange.iterdir())
        worker = child("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)")
        job = worker.start([image_of_zeros()], "heart")
        job.poll()
        time.sleep(0.2)
        assert cancelled_cleanly(worker, job, exchange, before) < LIMIT_S

    def test_next_job_after_a_cancelled_one(self, child, volumes):
        worker = child(servant("time.sleep(60 * (request['model'] == 'slow'))"))
        until(worker.start([image(volumes[0])], "heart", "slow"), lambda job: job._request).cancel()
        job = finish(worker.start([image(volumes[0])], "heart"))
        assert job.results[0].model == "threshold"

    def test_a_finished_job_stays_finished(self, child, volumes):
        worker = child(servant())
        job = finish(worker.start([image(volumes[0])], "heart"))
        pid = worker.pid
        job.cancel()
        assert (job.cancelled, len(job.results), worker.pid) == (False, 1, pid)


class TestInput:
    def test_bad_voxels_and_names_come_back_as_their_class_and_the_process_stays(self, warm, volumes):
        array = volumes[0].array.copy()
        array[1, 2, 3] = np.nan
        finish(warm.start([image(volumes[0])], "heart")).close()
        pid = warm.pid
        bad = warm.start([image(volumes[0]), image(volumes[1], array=array)], "heart")
        assert "1 voxels that are NaN or infinite" in failed(bad, InputError)
        assert "no model 'nnU-Net'" in failed(warm.start([image(volumes[0])], "heart", "nnU-Net"), ModelError)
        assert "no device 'tpu'" in failed(warm.start([image(volumes[0])], "heart", None, "tpu"), InputError)
        assert "no task 'lung'" in failed(warm.start([image(volumes[0])], "lung"), InputError)
        assert warm.pid == pid

    def test_no_grid(self, warm, volumes):
        flat = image(volumes[0], array=volumes[0].array[0])
        assert "three dimensions" in failed(warm.start([flat], "heart"), InputError)
        assert "spacing" in failed(warm.start([image(volumes[0], ijk_to_ras=np.zeros((4, 4)))], "heart"), InputError)
        assert "No image" in failed(warm.start([], "heart"), InputError)

    def test_too_large_for_float32(self, warm, volumes):
        huge = image(volumes[0], array=volumes[0].array.astype(np.float64) * 1e300)
        assert "infinite" in failed(warm.start([huge], "heart"), InputError)

    def test_one_job_at_a_time(self, warm, volumes):
        job = warm.start([image(volumes[0])], "heart")
        with pytest.raises(WorkerError, match="is running"):
            warm.start([image(volumes[1])], "heart")
        assert len(finish(job).results) == 1
        job.close()

    def test_cancelled_by_the_worker(self, child):
        worker = child(servant('say(event="error", id=id, type="Cancelled", message="Cancelled."); continue'))
        failed(worker.start([image_of_zeros()], "heart"), Cancelled)


SLEEP = "import time; time.sleep(60)"
READY = 'print(\'{"event": "ready"}\', flush=True)'


class TestFailure:
    """One sentence, and a process that is broken is gone."""

    @pytest.mark.parametrize(
        ("code", "sentence"),
        [
            ("print('Hello, world!', flush=True); " + SLEEP, r"something unexpected \(Hello, world!\)"),
            ("""print('{"event": "ready"', flush=True); """ + SLEEP, r'something unexpected \({"event": "ready"\)'),
            ("print('[1, 2]', flush=True); " + SLEEP, r"something unexpected \(\[1, 2\]\)"),
            ("print('{\"event\": 1}', flush=True); " + SLEEP, "something unexpected"),
            ("import sys; sys.stdout.buffer.write(bytes(range(256)) * 9); sys.stdout.flush(); " + SLEEP, "unexpected"),
            ("print('x' * 1_200_000, end='', flush=True); " + SLEEP, "something unexpected"),
            ("print('{\"event\": \"done\"}', flush=True); " + SLEEP, "something unexpected"),
            (f"{READY}; {READY}; " + SLEEP, "something unexpected"),
            ("import sys; sys.exit(3)", r"ended unexpectedly \(exit code 3\)"),
            ("import no_such_library", "exit code 1: ModuleNotFoundError: No module named 'no_such_library'"),
            ("print('{\"event\": ', end='')", r"ended unexpectedly \(exit code 0\)"),
            (f"{READY}; import os; os.close(0)", r"ended unexpectedly \(exit code 0\)"),
            ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "memory ran out"),
            ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"\(signal SIGSEGV\)"),
            ("raise SystemExit('error: [/x/python-real] exit abnormally - Report the problem.')", "memory ran out"),
        ],
    )  # fmt: skip
    def test_at_the_start(self, child, code, sentence):
        worker = child(code)
        job = worker.start([image_of_zeros()], "heart")
        assert re.search(sentence, failed(job))
        assert worker.pid is None
        assert not job.poll()

    @pytest.mark.parametrize(
        ("line", "sentence"),
        [
            ("labels = None", r"something unexpected \(labels.npy: No such file"),
            ("labels = labels[1:]", r"something unexpected \(labels.npy is uint8 \(2, 4, 5\), not uint8 \(3, 4, 5\)\)"),
            ("labels = labels.astype(np.int64)", "labels.npy is int64"),
            ("labels += 9", "no label 9"),
            ("enhanced = image.astype(np.float64)", "enhanced.npy is float64"),
            ("enhanced = np.array([{}], object)", "something unexpected"),
            (
                "np.save(folder + '/labels.npy', labels); os.truncate(folder + '/labels.npy', 140); labels = None",
                r"something unexpected \(mmap length is greater",
            ),
            ("os.remove(folder + '/image.npy')", r"something unexpected \(image.npy: No such file"),
            ("del done['model']", "something unexpected"),
            ("done['seconds'] = 'long'", "something unexpected"),
            ("done['id'] = id + 1", "something unexpected"),
            ("done['event'] = 'finished'", "something unexpected"),
            ("say(event='progress', id=id, text='?')", "something unexpected"),
            ("print('A warning of a library.')", r"something unexpected \(A warning of a library.\)"),
            ("sys.exit('no more')", r"\(exit code 1: no more\)"),
            ("os.kill(os.getpid(), 9)", "memory ran out"),
            ("say(event='error', id=id, type='MemoryError', message='')", "memory ran out"),
            ("say(event='error', id=id, type='KeyError', message='7\\nlast', traceback='Traceback')", r"\(last\)"),
        ],
    )  # fmt: skip
    def test_in_the_answer(self, child, line, sentence):
        worker = child(servant(line))
        assert re.search(sentence, failed(worker.start([image_of_zeros()], "heart")))
        assert worker.pid is None

    def test_a_launcher_ends_before_what_it_has_launched(self, child):
        worker = child(
            f"""
            import subprocess, sys
            launched = subprocess.Popen([sys.executable, "-c", {SLEEP!r}])
            sys.exit("launched " + str(launched.pid))
            """
        )
        launched = re.search(r"exit code 1: launched (\d+)", failed(worker.start([image_of_zeros()], "heart")))
        assert gone_within(int(launched[1]), LIMIT_S)

    def test_the_log_has_the_traceback(self, child, caplog):
        line = "say(event='error', id=id, type='KeyError', message='7', traceback='Traceback of the worker')"
        failed(child(servant(line)).start([image_of_zeros()], "heart"))
        assert "Traceback of the worker" in caplog.text

    @pytest.mark.parametrize("program", ["/no/such/python", __file__])
    def test_cannot_be_started(self, exchange, program):
        before, worker = set(exchange.iterdir()), Worker([program])
        job = worker.start([image_of_zeros()], "heart")
        assert f"could not be started from '{program}'" in failed(job)
        assert worker.pid is None
        assert set(exchange.iterdir()) == before
        worker.close()

    def test_does_not_get_ready(self, child):
        worker = child(SLEEP)
        worker.START_LIMIT_S = 0.3
        assert "did not get ready within" in failed(worker.start([image_of_zeros()], "heart"))
        assert worker.pid is None

    def test_hangs(self, child):
        worker = child(servant("time.sleep(60)"))
        worker.SILENCE_LIMIT_S = 0.3
        assert "no sign of life" in failed(worker.start([image_of_zeros()], "heart"))
        assert worker.pid is None

    def test_signs_of_life_are_no_hang(self, child):
        worker = child(servant('for n in range(12): time.sleep(0.1); say(event="alive", id=id)'))
        worker.SILENCE_LIMIT_S = 0.6
        assert finish(worker.start([image_of_zeros()], "heart")).error is None

    def test_a_laptop_that_slept_is_no_hang(self, child, monkeypatch):
        monkeypatch.setattr(pace_module, "LONGEST_STEP_S", 0.1)
        worker = child(servant("time.sleep(1)"))
        job = until(worker.start([image_of_zeros()], "heart"), lambda job: job._request)
        worker.SILENCE_LIMIT_S = 0.25
        time.sleep(0.5)
        job.poll()
        assert not job.finished
        worker.SILENCE_LIMIT_S = 5.0
        assert finish(job).error is None

    def test_no_room_for_the_image(self, child, volumes, exchange):
        worker = child(servant())
        pid = finish(worker.start([image_of_zeros()], "heart")) and worker.pid
        before = set(exchange.iterdir())
        with largest_file(300_000):
            sentence = failed(worker.start([image(volumes[0])], "heart"))
        assert re.search(r"could not be written to the temporary folder '.*' \(File too large\)", sentence)
        assert set(exchange.iterdir()) <= before
        finish(worker.start([image(volumes[0])], "heart"))
        assert worker.pid not in (None, pid)

    def test_no_place_for_a_folder(self, exchange, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(exchange / "gone"))
        assert "temporary folder" in failed(Worker().start([image_of_zeros()], "heart"))

    def test_killed_while_it_computes_then_anew(self, warm, volumes, expected):
        """What the kernel does when memory runs out."""
        job = until(warm.start([image(volumes[0])], "heart"), lambda job: "anatomy" in job.text)
        killed = warm.pid
        os.kill(killed, signal.SIGKILL)
        assert "memory ran out" in failed(job)
        assert not psutil.pid_exists(killed)
        job = finish(warm.start([image(volumes[0])], "heart"))
        assert np.array_equal(job.results[0].labels, expected[0].labels)
        assert warm.pid != killed
        job.close()

    def test_no_room_for_the_result(self, child):
        line = "say(event='error', id=id, type='OutputError', message='There is no room.'); continue"
        worker = child(servant(line))
        assert failed(worker.start([image_of_zeros()], "heart"), OutputError) == "There is no room."
        assert worker.pid is not None

    def test_ended_while_idle_then_anew(self, child):
        worker = child(servant())
        finish(worker.start([image_of_zeros()], "heart"))
        idle = worker.pid
        os.kill(idle, signal.SIGKILL)
        while worker.pid is not None:  # A killed process takes a moment to end.
            time.sleep(0.01)
        assert finish(worker.start([image_of_zeros()], "heart")).error is None
        assert worker.pid not in (None, idle)


@contextmanager
def largest_file(size):
    """No file of this process can grow beyond so many bytes: a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestWarmUp:
    def test_the_first_job_finds_the_process(self, child):
        worker = child(servant())
        worker.warm_up()
        pid = worker.pid
        assert alive(psutil.Process(pid))
        worker.warm_up()
        job = finish(worker.start([image_of_zeros()], "heart"))
        assert job.error is None and worker.pid == pid
        worker.close()
        assert worker.pid is None and not psutil.pid_exists(pid)

    def test_a_job_that_runs_is_left_alone(self, child):
        worker = child(servant("time.sleep(60)"))
        job = until(worker.start([image_of_zeros()], "heart"), lambda job: worker.pid)
        pid = worker.pid
        worker.environment = {"CHANGED": "1"}  # which the next job starts a process for
        worker.warm_up()
        assert worker.pid == pid and not job.finished

    @pytest.mark.parametrize("code", ["raise SystemExit('broken')", "print('no event', flush=True)"])
    def test_what_fails_is_told_by_the_next_job(self, child, code):
        worker = child(code)
        worker.warm_up()
        assert failed(worker.start([image_of_zeros()], "heart"))

    def test_a_program_that_is_missing_is_no_error_yet(self, exchange):
        worker = Worker([str(exchange / "missing")])
        worker.warm_up()
        assert worker.pid is None
        assert "could not be started" in failed(worker.start([image_of_zeros()], "heart"))
        worker.close()


class TestProcess:
    def test_environment(self, child, monkeypatch):
        monkeypatch.setenv("PYTHONPATH", "before")
        worker = child(
            servant('done["model"] = os.environ.get("WHAT", "-") + ":" + os.environ["PYTHONPATH"]'),
            environment={"WHAT": "first"},
        )

        def model():
            return finish(worker.start([image_of_zeros()], "heart")).results[0].model

        logic = str(Path(job_module.__file__).resolve().parents[2])
        assert model() == os.pathsep.join([f"first:{logic}", "before"])
        pid = worker.pid
        worker.environment["WHAT"] = "first"
        model()
        assert worker.pid == pid
        worker.environment["WHAT"] = "second"
        assert worker.pid == pid
        assert model().startswith("second:")
        assert worker.pid != pid
        assert not psutil.pid_exists(pid)
        worker.environment.clear()
        assert model().startswith("-:")

    def test_a_process_whose_files_have_grown_is_replaced(self, child, monkeypatch):
        monkeypatch.setattr("dinsegment_slicer.running.process.MOST_OUTPUT", 100_000)
        worker = child(servant("print('A warning. ' * 6000, file=sys.stderr)"))
        pids = []
        for _n in range(3):
            finish(worker.start([image_of_zeros()], "heart")).close()
            pids.append(worker.pid)
        assert pids[0] == pids[1] != pids[2]

    def test_close_ends_everything_and_may_be_repeated(self, child, exchange):
        worker, before = child(servant("time.sleep(60 * (request['model'] == 'slow'))")), set(exchange.iterdir())
        kept = finish(worker.start([image_of_zeros()], "heart"))
        running = until(worker.start([image_of_zeros()], "heart", "slow"), lambda job: job._request)
        process = psutil.Process(worker.pid)
        worker.close()
        worker.close()
        assert running.cancelled
        assert not alive(process)
        assert worker.pid is None
        assert set(exchange.iterdir()) == before
        assert len(kept.results[0].labels) == 3
        kept.close()
        assert finish(worker.start([image_of_zeros()], "heart")).error is None

    def test_folders_of_dead_processes_are_removed_at_the_first_start(self, child, exchange):
        dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
        gone, here = int(dead.stdout), host_name()
        names = [
            f"DINSegment-{gone}-{here}-abc",
            f"DINSegment-{os.getpid()}-{here}-abc",
            f"DINSegment-{gone}-other-abc",  # a live job of another machine, for all that is known here
            f"DINSegment-{gone}-notes",
            "DINSegment-notes-1",
        ]
        for name in names:
            (exchange / name).mkdir()
            (exchange / name / IMAGE).touch()
        assert finish(child(servant()).start([image_of_zeros()], "heart")).error is None
        assert [(exchange / name).exists() for name in names] == [False, True, True, True, True]
        for name in names[1:]:
            (exchange / name / IMAGE).unlink()
            (exchange / name).rmdir()

    def test_host_imports_nothing_that_a_fresh_slicer_lacks(self):
        code = (
            "import sys, dinsegment_slicer.running.worker; print(sorted({'torch', 'psutil', 'qt'} & set(sys.modules)))"
        )
        assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"

    def test_without_psutil_it_says_what_to_do(self, child, monkeypatch, exchange):
        monkeypatch.setitem(sys.modules, "psutil", None)  # What `import` takes for a package that is missing.
        assert "not installed" in failed(child(servant()).start([image_of_zeros()], "heart"))


HOST = """
import sys, tempfile, time
import numpy as np
tempfile.tempdir = sys.argv[1]
from dinsegment.phantom.heart import heart_phantom
from dinsegment_slicer.running.segment_part import JobImage
from dinsegment_slicer.running.worker import Worker
volume = heart_phantom({grid}).volume
worker = Worker({command})
job = worker.start([JobImage(volume.array, volume.ijk_to_ras, "x", None)], "heart")
while not {condition}:
    assert not job.finished, job.error
    job.poll()
    time.sleep(0.02)
print(worker.pid, flush=True)
{then}
"""
"""A program that segments."""
SMALL = "slices=2, size=(64, 64)"


def host(exchange, **parts):
    return forked.Popen([sys.executable, "-c", HOST.format(**parts), str(exchange)], stdout=subprocess.PIPE, text=True)


class TestHost:
    def test_worker_ends_when_its_host_is_killed(self, exchange, child):
        before = set(exchange.iterdir())
        with host(
            exchange, grid="slices=16", command="", condition="'Segmenting' in job.text", then="time.sleep(60)"
        ) as parent:
            worker = psutil.Process(int(parent.stdout.readline()))
            assert alive(worker)
            parent.kill()
        assert gone_within(worker.pid, LIMIT_S)
        assert set(exchange.iterdir()) > before
        finish(child(servant()).start([image_of_zeros()], "heart")).close()  # Removes what the dead have left.
        assert not any(folder.name.startswith(f"DINSegment-{parent.pid}-") for folder in exchange.iterdir())

    def test_nothing_is_left_when_its_host_ends_without_close(self, exchange):
        before = set(exchange.iterdir())
        command = json.dumps([sys.executable, "-c", SLEEP])
        with host(exchange, grid=SMALL, command=command, condition="worker.pid", then="") as parent:
            worker = psutil.Process(int(parent.stdout.readline()))
        assert parent.returncode == 0
        assert not alive(worker)
        assert set(exchange.iterdir()) == before

    def test_two_machines_with_one_temporary_folder_both_finish(self, exchange, child, tmp_path):
        """The other one is a process with another host name and numbers of processes of its own."""
        own = ["unshare", "--pid", "--uts", "--fork", "--mount-proc", "sh", "-c"]
        if shutil.which("unshare") is None or subprocess.run([*own, "true"], capture_output=True).returncode:
            pytest.skip("A machine of its own cannot be had here: unshare is missing, or not allowed.")
        go = tmp_path / "go"
        waiting = servant(f"[time.sleep(0.01) for _ in iter(lambda: __import__('os').path.exists({str(go)!r}), True)]")
        ours = child(waiting)
        here = until(ours.start([image_of_zeros()], "heart"), lambda job: job._request)  # it has written its image
        program = HOST.format(
            grid=SMALL,
            command=json.dumps([sys.executable, "-c", textwrap.dedent(waiting)]),
            condition="job._request",
            then="""
while not job.finished:
    job.poll()
    time.sleep(0.02)
print(job.error or "finished", flush=True)
job.close()
worker.close()
""",
        )
        # A number that no process has here, as most of those of another machine.
        number = next(n for n in range(400_000, 500_000) if not psutil.pid_exists(n))
        script = f'hostname elsewhere; echo {number - 1} > /proc/sys/kernel/ns_last_pid; "$@"; true'
        command = [*own, script, "sh", sys.executable, "-c", program, str(exchange)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as there:
            assert there.stdout.readline().strip().isdigit()  # it has begun, and removed what it took for leftovers
            names = {folder.name for folder in exchange.iterdir()}
            assert any(name.startswith(f"DINSegment-{number}-elsewhere-") for name in names)
            third = child(servant())
            finish(third.start([image_of_zeros()], "heart")).close()  # begins by removing what it takes for leftovers
            assert names <= {folder.name for folder in exchange.iterdir()}
            go.touch()
            assert there.stdout.readline().strip() == "finished"
        assert finish(here).error is None
        here.close()
