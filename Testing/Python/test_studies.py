from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

import forked
from dinsegment.errors import InputError
from dinsegment.images import read_volume, write_volume
from dinsegment.inference import segment
from dinsegment.inference.model import load_model
from dinsegment.models.entries import find_entry
from dinsegment.phantom.heart import cine_phantom, heart_phantom
from dinsegment.studies import many as studies
from dinsegment.studies.folders import plan_studies  # fmt: skip
from dinsegment.studies.index import INDEX  # fmt: skip
from dinsegment.studies.ledger import Ledger  # fmt: skip
from dinsegment.studies.many import segment_studies  # fmt: skip
from dinsegment.studies.study import ERRORS, Study, StudyResult, segment_study  # fmt: skip
from dinsegment.studies.table import TABLE, write_table  # fmt: skip
from dinsegment.tasks import HEART, Task

FILES = ["dinsegment.json", "enhanced.nrrd", "measurements.json", "overview.png", "segmentation.seg.nrrd"]
GRID = {"slices": 2, "size": (64, 80), "spacing": (16.0, 2.8, 2.5)}

PROGRAM = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs tests in the background ignores it
from pathlib import Path
from dinsegment.studies.folders import plan_studies
from dinsegment.studies.ledger import Ledger
from dinsegment.studies.many import segment_studies
from dinsegment.tasks import HEART
from dinsegment.models.entries import find_entry
from dinsegment.inference.model import load_model

output = Path(sys.argv[1])
ledger = Ledger(output, HEART, find_entry(None, HEART))
finished = lambda result: print(result.status, Path(result.input).name, flush=True)
plan = plan_studies(map(Path, sys.argv[2:]), output)
try:
    segment_studies(plan, HEART, load_model(None, HEART), "cpu", ledger, finished)
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


@pytest.fixture(scope="module")
def model():
    """The shipped model on one thread: slices this small are not worth two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_model(None, HEART)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> list[Path]:
    """Six hearts, small enough for a second each."""
    folder = tmp_path_factory.mktemp("input")
    paths = [folder / f"patient{seed}.nii.gz" for seed in range(6)]
    for seed, path in enumerate(paths):
        write_volume(heart_phantom(seed=seed, **GRID).volume, path)
    return paths


@pytest.fixture
def run(model, tmp_path):
    """Segments inputs into OUT; gives the results in the order in which they came."""
    output = tmp_path / "OUT"
    output.mkdir()

    def run(*inputs: Path, progress=None, resume: bool = True, entry=None) -> list[StudyResult]:
        results: list[StudyResult] = []
        ledger = Ledger(output, HEART, entry or find_entry(None, HEART), resume)
        plan = plan_studies(inputs, output)
        segment_studies(plan, HEART, model, "cpu", ledger, results.append, progress)
        return results

    run.output = output
    return run


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def statuses(results: list[StudyResult]) -> list[str]:
    return [result.status for result in results]


def test_a_study_goes_from_file_to_files(images, model, tmp_path):
    result = segment_study(images[0], tmp_path / "OUT", "heart", model, "cpu")
    assert files(tmp_path / "OUT") == FILES
    expected = segment(read_volume(images[0]), HEART, model, "cpu")
    labels = read_volume(tmp_path / "OUT" / "segmentation.seg.nrrd").array
    np.testing.assert_array_equal(labels, expected.labels)
    assert result.status == "done" and result.seconds > 0
    ml = read_volume(images[0]).voxel_volume_ml
    assert result.volumes_ml == pytest.approx({s.name: (labels == s.label).sum() * ml for s in HEART.segments})
    content = json.loads((tmp_path / "OUT" / "measurements.json").read_text(encoding="utf-8"))
    assert tuple(content.pop("measurements")) == result.measurements and content.pop("patient")["sex"] is None
    assert list(result.phases) == [content]


def test_results_come_in_order_and_bad_inputs_stop_none(run, images, tmp_path):
    (tmp_path / "notes.nii").write_text("no image")
    (tmp_path / "cut.nii.gz").write_bytes(images[1].read_bytes()[:5000])
    phases = [sitk.GetImageFromArray(p.volume.array) for p in cine_phantom(2, **{**GRID, "slices": 7})]
    for phase in phases:
        phase.SetSpacing(GRID["spacing"][::-1])
    sitk.WriteImage(sitk.JoinSeries(phases), str(tmp_path / "cine.nii.gz"))
    inputs = [
        tmp_path / "notes.nii", images[0], tmp_path / "cut.nii.gz", tmp_path / "nowhere.nii", tmp_path / "cine.nii.gz",
        images[1],
    ]  # fmt: skip
    seen: list[float] = []
    results = run(*inputs, progress=lambda fraction, _text: seen.append(fraction))
    assert [result.input for result in results] == [str(path) for path in inputs]
    assert statuses(results) == ["failed", "done", "failed", "failed", "done", "done"]
    for path, result in zip(inputs, results, strict=True):
        assert (path.name in result.message and result.message.endswith(".")) == (result.status == "failed")
    assert not (run.output / ERRORS).exists()
    assert sorted(p.name for p in run.output.iterdir() if p.is_dir()) == ["cine", "patient0", "patient1"]
    assert files(run.output / "patient1") == FILES
    assert seen == sorted(seen) and seen[-1] == 1.0

    write_table(results, HEART, run.output / TABLE)
    with (run.output / TABLE).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["Status"] for row in rows] == statuses(results)
    assert rows[0]["Message"] == results[0].message and rows[0]["Left ventricle (ml)"] == ""
    function = json.loads((run.output / "cine" / "measurements.json").read_text(encoding="utf-8"))["function"]
    assert float(rows[4]["Left ventricle (ml)"]) == pytest.approx(function["end_diastolic_volume_ml"], abs=0.01)
    assert float(rows[4]["Ejection fraction (%)"]) == pytest.approx(function["ejection_fraction_percent"], abs=0.01)
    assert (rows[4]["Phases"], rows[1]["Phases"], rows[1]["Warnings"]) == ("2", "1", str(len(results[1].warnings)))


def test_unexpected_errors_and_lack_of_memory_stop_none(run, images):
    def progress(_fraction: float, text: str) -> None:
        if "Segmenting" in text and "patient0" in text:
            raise ZeroDivisionError("no such luck")
        if "Segmenting" in text and "patient1" in text:
            raise MemoryError

    results = run(*images[:3], progress=progress)
    assert statuses(results) == ["failed", "failed", "done"]
    assert "ZeroDivisionError: no such luck" in results[0].message and len(results[0].message.splitlines()) == 1
    assert "more memory" in results[1].message and "'patient1'" in results[1].message
    log = (run.output / ERRORS).read_text(encoding="utf-8")
    assert "Traceback" in log and "no such luck" in log and str(images[0]) in log
    assert files(run.output) == sorted([ERRORS, INDEX, *(f"patient2/{f}" for f in FILES)])


def test_what_is_complete_is_skipped_and_what_has_changed_is_done_again(run, images, model, tmp_path):
    inputs = [tmp_path / f"case{n}.nii.gz" for n in range(3)]
    for path, image in zip(inputs, images, strict=False):
        path.write_bytes(image.read_bytes())
    first = run(*inputs)
    computed: list[int] = []
    hook = model.network.register_forward_pre_hook(lambda *_: computed.append(1))
    try:
        again = run(*inputs)
    finally:
        hook.remove()
    assert statuses(again) == ["skipped"] * 3 and not computed
    assert [r.volumes_ml for r in again] == [r.volumes_ml for r in first]
    assert not any("lock" in name for name in files(run.output))

    os.utime(inputs[0], ns=(0, 0))  # another input by the same name
    (run.output / "case1" / "enhanced.nrrd").unlink()
    assert statuses(run(*inputs)) == ["done", "done", "skipped"]
    (run.output / "case2" / "measurements.json").unlink()
    assert statuses(run(*inputs)) == ["skipped", "skipped", "done"]
    entry = find_entry(None, HEART)
    newer = replace(entry, weights={**entry.weights, "sha256": "0" * 64})
    assert statuses(run(inputs[0], entry=newer)) == ["done"]
    assert statuses(run(inputs[1], resume=False)) == ["done"]
    told = replace(entry, context={"model": "abdomen-context", "weight": 1.0})  # whose labels are others
    more = replace(entry, context={"model": "abdomen-context", "weight": 2.0})
    for one in (told, more, entry):
        assert [statuses(run(inputs[1], entry=one)) for _ in range(2)] == [["done"], ["skipped"]]


def test_an_index_whose_last_line_was_cut_goes_on(run, images):
    run(*images[:2])
    index = run.output / INDEX
    content = index.read_bytes()
    index.write_bytes(content[:-40])
    assert statuses(run(*images[:2])) == ["skipped", "done"]
    assert statuses(run(*images[:2])) == ["skipped", "skipped"]
    assert b"\n\n" not in index.read_bytes()


def test_folders_are_named_after_the_inputs_and_stay_theirs(run, images, tmp_path):
    (tmp_path / "other").mkdir()
    same = tmp_path / "other" / images[0].name
    same.write_bytes(images[1].read_bytes())
    assert [s.folder.name for s in plan_studies([images[0], same], run.output)] == ["patient0", "patient0_2"]
    run(images[0])
    assert [s.folder.name for s in plan_studies([same, images[0]], run.output)] == ["patient0_2", "patient0"]
    assert statuses(run(same, images[0])) == ["done", "skipped"]


def test_memory_holds_three_inputs_however_many_there_are(run, images, monkeypatch):
    alive: list[weakref.ref] = []
    counts: list[int] = []
    lock, load = threading.Lock(), studies.load_study

    def counting(study: Study, task: Task):
        phases = load(study, task)
        with lock:
            alive.extend(weakref.ref(volume) for volume in phases)
            counts.append(sum(ref() is not None for ref in alive))
        return phases

    monkeypatch.setattr(studies, "load_study", counting)
    assert statuses(run(*images)) == ["done"] * 6
    assert len(counts) == 6
    assert 2 <= max(counts) <= 3  # it does read ahead


def test_no_two_processes_do_the_same_input(run, images):
    entry = find_entry(None, HEART)
    other = Ledger(run.output, HEART, entry)
    plan = plan_studies(images[:2], run.output)
    assert other.claim(plan[0]) is None
    results = run(*images[:2])
    assert statuses(results) == ["skipped", "done"] and "Another process" in results[0].message
    other.close()
    assert statuses(run(*images[:2])) == ["done", "skipped"]
    assert not any("lock" in name for name in files(run.output))


def test_a_device_that_is_not_there_is_said_before_anything_begins(images, model, tmp_path):
    ledger = Ledger(tmp_path, HEART, find_entry(None, HEART))
    with pytest.raises(InputError, match="no device 'tpu'"):
        segment_studies(plan_studies(images, tmp_path), HEART, model, "tpu", ledger, lambda _result: None)
    assert files(tmp_path) == []


def start(output: Path, inputs: list[Path]) -> forked.Popen:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, str(output), *map(str, inputs)]
    return forked.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_after_a_kill_while_writing_the_rest_is_done_and_nothing_is_left_over(run, images):
    process = start(run.output, images)
    said = [process.stdout.readline().split() for _ in range(2)]
    limit = time.monotonic() + 20
    while not list(run.output.glob("*/.dinsegment-*")) and time.monotonic() < limit:
        time.sleep(0.001)
    process.kill()
    process.wait()
    process.stdout.close()
    assert said == [["done", "patient0.nii.gz"], ["done", "patient1.nii.gz"]]
    assert list(run.output.glob("*/.dinsegment-*"))  # it was caught in the act
    recorded = len((run.output / INDEX).read_text(encoding="utf-8").splitlines())
    assert 2 <= recorded < 6
    results = run(*images)
    assert statuses(results) == ["skipped"] * recorded + ["done"] * (6 - recorded)
    assert files(run.output) == sorted([INDEX, *(f"patient{n}/{f}" for n in range(6) for f in FILES)])
    assert not list(run.output.rglob(".*"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl+C to whole consoles only")
def test_ctrl_c_keeps_what_is_finished_and_leaves_nothing_half_written(run, images):
    process = start(run.output, images)
    assert process.stdout.readline().split() == ["done", "patient0.nii.gz"]
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[0].splitlines()
    assert process.returncode == 0 and said[-1] == "stopped"
    finished = ["patient0.nii.gz", *(line.split()[1] for line in said[:-1])]
    assert len(finished) < 6
    folders = [name.removesuffix(".nii.gz") for name in finished]
    # One more may have been written whole before the signal came, of which nothing was said any more.
    there = sorted(folder.name for folder in run.output.iterdir() if folder.is_dir())
    assert there[: len(folders)] == folders and len(there) <= len(folders) + 1
    assert files(run.output) == sorted([INDEX, *(f"{folder}/{f}" for folder in there for f in FILES)])
    assert not list(run.output.rglob(".*"))
