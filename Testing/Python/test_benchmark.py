from __future__ import annotations

import json
import os
import runpy
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compare.growth import with_size, with_slices
from compare.machine import describe_machine, measure_energy, rapl_counter
from compare.measure import count_costs, run_once
from compare.process import start
from compare.report import make_table, notes, number
from compare.run import rate, run_benchmark
from compare.tools import DATA, OWN, MonaiTool, NNUNet, Setting, choose_tools
from dinsegment.errors import InputError, WorkerError
from dinsegment.images import write_volume
from dinsegment.images.volume import Volume
from dinsegment.phantom.heart import heart_phantom
from dinsegment.tasks import get_task

CPU = torch.device("cpu")
SCRIPT = Path(__file__).parents[1] / "Benchmarks" / "run.py"
SETTING = Setting("heart", "cpu", cores=1, repeat=1)
MACHINE = {"macs_per_s": {"float32": 1e11}, "bytes_per_s": 1e10}


@pytest.fixture(scope="module")
def volume() -> Volume:
    return heart_phantom(slices=2, size=(96, 96), spacing=(8.0, 2.5, 2.5)).volume


@pytest.fixture
def measure(monkeypatch, capsys):
    """Runs the script in this process; gives its exit code, what it printed, and what it printed as errors."""

    def measure(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "400")
        code = 0
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return measure


class Windows:
    """A tool whose network sees a volume's slices one by one."""

    version, precision, defaults = "1", "float32", "none"

    def __init__(self) -> None:
        self.network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1))

    def run(self, volume: Volume) -> np.ndarray:
        labels = np.zeros(volume.shape, np.uint8)
        for k, array in enumerate(volume.array):
            labels[k] = self.network(torch.from_numpy(array)[None, None])[0].argmax(0)
        return labels


class Timed(Windows):
    """One that takes 10 s before the network, 7 s for the first slice, 2 s for each other, and 5 s afterwards.

    Its network computes while it goes on, as on a GPU; `wait` is until it is done.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now, self._pending, self._slice_s = 0.0, 0.0, 7.0
        self.network[0].register_forward_hook(self._compute)

    def _compute(self, *_: object) -> None:
        self._pending += self._slice_s
        self._slice_s = 2.0

    def wait(self, _device: torch.device) -> None:
        self.now, self._pending = self.now + self._pending, 0.0

    def run(self, volume: Volume) -> np.ndarray:
        self.now += 10.0
        labels = super().run(volume)
        self.wait(CPU)  # for the labels
        self.now += 5.0
        return labels


def test_the_command_measures_itself_and_another_tool_in_one_run(measure, volume, tmp_path):
    image, figures, bars, history = (tmp_path / n for n in ("heart.nii.gz", "OUT.json", "OUT.png", "history.jsonl"))
    write_volume(volume, image)
    history.write_text("{}\n", encoding="utf-8")
    code, printed, errors = measure(
        "--image", image, "--device", "cpu", "--cores", 1, "--repeat", 1, "--against", "monai-unet",
        "--json", figures, "--png", bars, "--history", history,
    )  # fmt: skip
    assert (code, errors) == (0, "")
    assert "MONAI UNet" in printed and "times" in printed and "1 core of" in printed
    content = json.loads(figures.read_text(encoding="utf-8"))
    assert content["volume"]["shape"] == [2, 96, 96]
    assert content["machine"]["torch"] == torch.__version__
    assert content["machine"]["threads"] == 1
    own, other = content["tools"]["dinsegment"], content["tools"]["monai-unet"]
    for tool in (own, other):
        assert tool["cold_s"] > tool["warm_s"] > 0  # it includes Python's start and the imports
        assert tool["estimated"] is None
        assert tool["slices_per_s"] == pytest.approx(2 / tool["warm_s"])
        assert tool["times_limit"] == pytest.approx(tool["warm_s"] / tool["limit_s"])
        computing = tool["macs"] / content["machine"]["macs_per_s"][tool["precision"]]
        copying = tool["bytes"] / content["machine"]["bytes_per_s"]
        assert tool["limit_s"] == pytest.approx(max(computing, copying))
        assert 1e8 < tool["macs"] < 1e11 and tool["parameters"] > 1e6
        assert 0.1e9 < tool["peak_memory_bytes"] < 8e9
    assert own["times_own_warm"] == 1
    assert other["times_own_warm"] == pytest.approx(other["warm_s"] / own["warm_s"])
    assert other["times_own_cold"] == pytest.approx(other["cold_s"] / own["cold_s"])
    import matplotlib.image

    assert matplotlib.image.imread(bars).shape[1] > 1000
    before, line = history.read_text(encoding="utf-8").splitlines()
    assert before == "{}"
    assert json.loads(line)["tools"]["monai-unet"]["warm_s"] == other["warm_s"]
    assert str(tmp_path) not in line


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--against", "monai-unet,totalsegmentator"), "There is no tool 'totalsegmentator' to compare with"),
        (("--task", "lung"), "lung"),
        (("--cores", "4096"), "--cores can be 1 to"),
        (("--device", "tpu"), "There is no device 'tpu'"),
        (("--model", "nobody"), "There is no model 'nobody'"),
        (("--task", "infarct"), "There is no benchmark for the task 'infarct'"),
        (("--json", "/proc/nowhere/OUT.json"), "cannot be written to"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_runs(measure, monkeypatch, options, sentence):
    monkeypatch.setattr("compare.run.start", lambda *_: pytest.fail("A process was started."))
    code, _, errors = measure(*options)
    assert code == 2
    assert sentence in errors


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setattr("compare.tools.find_spec", lambda name: None if name == "nnunetv2" else True)
    assert choose_tools(["monai-unet"]) == [OWN, "monai-unet"]
    with pytest.raises(InputError, match=r"'nnunetv2', which is not installed: pip install 'dinsegment\[benchmark\]'"):
        choose_tools(["nnunet"])


def test_nnunet_stands_for_both_configurations_with_and_without_mirroring(monkeypatch):
    monkeypatch.setattr("compare.tools.find_spec", lambda name: True)
    chosen = choose_tools(["nnunet", "nnunet-2d", "monai-unet"])
    assert chosen == [
        OWN, "nnunet-2d", "nnunet-2d-mirrored", "nnunet-3d", "nnunet-3d-mirrored", "monai-unet",
    ]  # fmt: skip


def test_a_tool_that_fails_stops_no_other(monkeypatch, volume):
    figures = {"warm_runs_s": [1.0], "peak_memory_bytes": 1, "macs": 1e9, "bytes": 1e6, "precision": "float32"}
    broken, tried = {"MONAI UNet"}, []

    def measured(_cores, job, tool, *_):
        if job is describe_machine:
            return MACHINE
        tried.append(tool.title)
        if tool.title in broken:
            raise WorkerError("It was ended by the system.")
        return {"title": tool.title, "cold_s": 2.0, **figures}

    monkeypatch.setattr("compare.run.start", measured)
    content = run_benchmark(volume, replace(SETTING, rounds=2), [OWN, "monai-unet", "monai-swinunetr"], False, print)
    assert list(content["tools"]) == [OWN, "monai-unet", "monai-swinunetr"]
    error = "MONAI UNet: It was ended by the system."
    assert content["tools"]["monai-unet"] == {"title": "MONAI UNet", "error": error}
    assert content["tools"]["monai-swinunetr"]["times_own_warm"] == 1
    assert tried == ["DINSegment", "MONAI UNet", "MONAI SwinUNETR", "DINSegment", "MONAI SwinUNETR"]
    broken.add("DINSegment")
    with pytest.raises(WorkerError, match="DINSegment: It was ended by the system"):
        run_benchmark(volume, SETTING, [OWN], False, print)


@pytest.mark.parametrize(
    ("job", "arguments", "reason"),
    [
        (json.loads, ("nobody",), "'loads' failed: JSONDecodeError: Expecting value"),
        (sys.exit, (3,), "'exit' failed: SystemExit: 3"),
        (os._exit, (9,), "'_exit' was ended by the system"),
        (get_task, ("lung",), "^There is no task 'lung'"),
    ],
)
def test_a_process_that_fails_says_why(job, arguments, reason):
    with pytest.raises(WorkerError, match=reason):
        start(1, job, *arguments)


def test_a_fresh_process_has_the_cores_and_threads_that_are_asked_for_and_prints_nothing(capfd):
    assert start(1, eval, "__import__('memory').available_cores()") == 1
    assert start(2, os.getenv, "OMP_NUM_THREADS") == "2"
    start(1, os.system, "echo noise")
    assert capfd.readouterr().out == ""


def test_rounds_measure_all_tools_in_turns_and_their_medians_count(monkeypatch, volume):
    order, warm = [], {"DINSegment": iter([[1.0, 1.2], [1.1, 9.0]]), "MONAI UNet": iter([[5.0, 5.0], [4.0, 40.0]])}
    cold = iter([2.0, 10.0, 4.0, 20.0])
    figures = {"peak_memory_bytes": 1, "macs": 1e9, "bytes": 1e6, "precision": "float32"}

    def measured(_cores, job, tool, *_):
        if job is describe_machine:
            return MACHINE
        order.append(tool.title)
        return {**figures, "title": tool.title, "cold_s": next(cold), "warm_runs_s": next(warm[tool.title])}

    monkeypatch.setattr("compare.run.start", measured)
    tools = run_benchmark(volume, replace(SETTING, rounds=2), [OWN, "monai-unet"], False, print)["tools"]
    assert order == ["DINSegment", "MONAI UNet"] * 2
    assert (tools[OWN]["warm_s"], tools[OWN]["cold_s"]) == (pytest.approx(1.15), 3.0)
    assert (tools["monai-unet"]["warm_s"], tools["monai-unet"]["cold_s"]) == (5.0, 15.0)
    assert tools["monai-unet"]["times_own_warm"] == pytest.approx(5.0 / 1.15)


def test_the_limit_is_what_takes_longer_computing_or_copying():
    machine = {"macs_per_s": {"float32": 100.0, "bfloat16": 200.0}, "bytes_per_s": 10.0}
    result = {"warm_runs_s": [8.0], "cold_s": 10.0, "macs": 200.0, "bytes": 5.0, "precision": "bfloat16"}
    result["peak_memory_bytes"] = 1
    rated = rate([result], machine, 4, None)
    assert (rated["matrix_limit_s"], rated["memory_limit_s"], rated["limit_s"]) == (1.0, 0.5, 1.0)
    assert (rated["times_limit"], rated["slices_per_s"], rated["times_own_warm"]) == (8.0, 0.5, 1.0)
    assert rate([{**result, "bytes": 20.0}], machine, 4, rated | {"warm_s": 2.0})["limit_s"] == 2.0
    assert rate([result], machine, 4, rated | {"warm_s": 2.0})["times_own_warm"] == 4.0


def test_costs_are_those_of_every_call(volume):
    tool = Windows()
    run = run_once(tool, volume, None, CPU)
    assert (run.tiles, run.shapes) == (2, {((1, 1, 96, 96),): 2})
    before = [p.clone() for p in tool.network.parameters()]
    costs = count_costs(tool.network, run, "bfloat16")
    assert costs["macs"] == 2 * 9 * 2 * 96 * 96
    assert costs["bytes"] == 2 * (20 + 3 * 96 * 96) * 2  # weights, one channel in and two out, of two bytes
    assert costs["parameters"] == 20
    assert all(torch.equal(a, b) for a, b in zip(before, tool.network.parameters(), strict=True))


def test_a_run_that_would_take_too_long_is_estimated_from_its_first_tiles(monkeypatch):
    volume, tool = Volume(np.random.default_rng(0).random((200, 8, 8)), np.eye(4)), Timed()
    monkeypatch.setattr("compare.measure.perf_counter", lambda: tool.now)
    monkeypatch.setattr("compare.measure.wait_for", tool.wait)
    stopped = run_once(tool, volume, 17.0, CPU)
    assert (stopped.tiles, stopped.shapes.total()) == (200, 2)
    told = stopped.estimate
    assert told == {"measured_tiles": 2, "tiles": 200, "before_s": 10.0, "per_tile_s": 2.0, "after_s": 5.0}
    assert stopped.seconds == 10.0 + 200 * 2.0 + 5.0
    assert tool.now == 10.0 + 7.0 + 2.0 + 5.0
    assert "forward" not in vars(tool.network)
    whole = run_once(tool, Volume(volume.array[:3], np.eye(4)), None, CPU)
    assert (whole.estimate, whole.tiles, whole.seconds) == (None, 3, 10.0 + 3 * 2.0 + 5.0)


def test_labels_off_the_grid_are_refused(volume):
    tool = Windows()
    tool.run = lambda volume: np.zeros((1, 2, 3), np.uint8)
    with pytest.raises(WorkerError, match=r"shape \(1, 2, 3\)"):
        run_once(tool, volume, 1e9, CPU)


def test_estimates_are_marked_in_the_table_and_explained():
    tool = {
        "title": "nnU-Net 3D", "version": "2.8.1", "precision": "float32", "defaults": "step 0.5", "cold_s": 910.0,
        "warm_s": 900.0, "times_own_warm": 123.4, "slices_per_s": 0.2, "peak_memory_bytes": 4e9, "peak_gpu_bytes": None,
        "energy_j": None, "macs": 4e13, "limit_s": 400.0, "times_limit": 2.25,
        "estimated": {"measured_tiles": 4, "tiles": 100, "before_s": 20.0, "per_tile_s": 8.0, "after_s": 80.0},
    }  # fmt: skip
    machine = {"macs_per_s": {"float32": 1e11}, "bytes_per_s": 1e10, "torch": "2", "threads": 2}
    content = {"tools": {"nnunet-3d": tool}, "machine": machine}
    cells = [next(column.cells) for column in make_table(content).columns]
    assert cells[:4] == ["nnU-Net 3D", "~910", "~900", "~123"]
    text = " ".join(notes(content))
    assert "Estimated from 4 of 100 tiles: 20 s before the network, 8 s a tile, 80 s after it" in text
    assert "does not tell the energy" in text


def test_numbers_have_three_digits():
    assert [number(x) for x in (0.01234, 1.005, 12.34, 123.4, 12345.0, 0)] == [
        "0.0123", "1", "12.3", "123", "12,300", "0",
    ]  # fmt: skip


def test_energy_counters_that_start_again_at_zero(tmp_path):
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "max_energy_range_uj").write_text("9999999")
    (package / "energy_uj").write_text("9000000")
    (tmp_path / "intel-rapl:0:0").mkdir()  # the cores, which the package has in it
    counter = rapl_counter(tmp_path)
    before = counter()
    (package / "energy_uj").write_text("1000000")
    assert counter() - before == pytest.approx(2.0)
    assert rapl_counter(tmp_path / "nowhere") is None


def test_energy_is_that_of_doing_the_work_once(monkeypatch):
    joule = iter((10.0, 40.0))
    monkeypatch.setattr("compare.machine.ENERGY_S", 0.0)
    monkeypatch.setattr("compare.machine.rapl_counter", lambda: lambda: next(joule))
    assert measure_energy(lambda: None, CPU) == 30.0


def test_variations_of_a_volume_keep_its_place(volume):
    longer = with_slices(volume, 0, 5)
    np.testing.assert_array_equal(longer.array, volume.array[[0, 1, 1, 0, 0]])
    finer = with_size(volume, 0, 192)
    assert finer.shape == (2, 192, 192)
    np.testing.assert_allclose(finer.spacing, (8.0, 1.25, 1.25))
    assert abs(finer.array.mean() - volume.array.mean()) < 0.02 * volume.array.std()


@pytest.mark.skipif(
    find_spec("nnunetv2") is None, reason="nnU-Net is not installed: pip install 'dinsegment[benchmark]'"
)
def test_nnunet_has_the_plans_that_it_makes_for_acdc(volume, tmp_path, monkeypatch):
    for name in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path))  # so that what is set is undone
    tool = NNUNet("nnU-Net", "2d", mirror=True)
    tool.prepare(SETTING, tmp_path)
    plans, dataset = (json.loads((tmp_path / "2d" / f"{name}.json").read_text()) for name in ("plans", "dataset"))
    assert dataset["numTraining"] == DATA["heart"]["fingerprint"]["cases"]
    assert plans["configurations"]["2d"]["patch_size"] == [256, 224]
    assert plans["configurations"]["3d_fullres"]["patch_size"] == [20, 256, 224]
    tool.load(SETTING, tmp_path)
    assert run_once(tool, volume, 1e9, CPU).tiles == 4 * 2


@pytest.mark.parametrize("task", DATA)
def test_windows_of_monai_cover_the_image_and_their_labels_are_brought_back(task):
    array = np.zeros((40, 60, 80), np.float32)
    array[10:30, 20:40, 20:60] = 100.0
    tool = MonaiTool("MONAI UNet", "UNet")
    tool.load(Setting(task, "cpu", 1))
    tool.network = Bright(get_task(task).classes)
    done = run_once(tool, Volume(array, np.diag([2.4, 2.4, 2.4, 1]), modality="CT"), None, CPU)
    assert done.tiles > 1
    labels = tool.run(Volume(array, np.diag([2.4, 2.4, 2.4, 1]), modality="CT"))
    assert 2 * ((labels == 1) & (array > 0)).sum() / ((labels == 1).sum() + (array > 0).sum()) > 0.9


class Bright(nn.Module):
    """Logits of which the second is above the first where the image is bright."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(x), x - 0.5, *[torch.full_like(x, -9.0)] * (self.classes - 2)], 1)
