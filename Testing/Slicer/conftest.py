from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import mrml
import pytest
import slicer
import vtk

import forked

# DICOM series are written for the tests of the library and for these in one way.
sys.path.append(str(Path(__file__).parents[1] / "Python"))


def pytest_configure(config):
    config.addinivalue_line("markers", "shipped: it looks at what the models that ship find")
    config.addinivalue_line("markers", "vtk_says(text): VTK reports this error; without the mark it reports none")


class OwnModules(dict):
    """The packages' modules by name, kept up to date: to look through all modules at every test takes long."""

    loaded = 0
    """Modules in all when they were looked through."""

    def look(self):
        """Looks through them if there are more or fewer, or another in the place of one; returns these modules."""
        if len(sys.modules) != self.loaded or any(sys.modules.get(name) is not self[name] for name in self):
            self.clear()
            self.update((name, module) for name, module in sys.modules.items() if name.startswith("dinsegment"))
            self.loaded = len(sys.modules)
        return dict(self)


OWN_MODULES = OwnModules()


@pytest.fixture(autouse=True)
def same_modules():
    """A test that reloads the module leaves the packages as they were: others hold classes of them."""
    before = OWN_MODULES.look()
    yield
    after = OWN_MODULES.look()
    if any(after.get(name) is not module for name, module in before.items()):
        for name in after:
            del sys.modules[name]
        sys.modules.update(before)


@pytest.fixture
def scene(request):
    """A scene as the application starts with; a VTK error or warning that is not expected fails the test."""
    said = vtk.vtkStringOutputWindow()
    before = vtk.vtkOutputWindow.GetInstance()
    vtk.vtkOutputWindow.SetInstance(said)
    scene = slicer.vtkMRMLScene()
    colors = slicer.vtkMRMLColorLogic()
    colors.SetMRMLScene(scene)
    scene.GetSubjectHierarchyNode()
    yield scene
    colors.SetMRMLScene(None)
    scene.Clear(True)
    vtk.vtkOutputWindow.SetInstance(before)
    expected = request.node.get_closest_marker("vtk_says")
    if expected:
        assert expected.args[0] in said.GetOutput()
    else:
        assert said.GetOutput() == ""


@pytest.fixture(scope="session", autouse=True)
def copied_workers():
    """Processes that segment, report or generate are copies of one that has loaded all: they start again and again."""
    from dinsegment_slicer.running import process

    def start(command, **options):
        programs = ("dinsegment.worker", "dinsegment.phantom.writer")
        copied = command[1:2] == ["-m"] and command[2] in programs
        return (forked.Popen if copied else subprocess.Popen)(command, **options)

    with pytest.MonkeyPatch.context() as there:
        there.setattr(process, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": start}))
        there.setattr(process, "LONGEST_END_S", 60.0)  # On a busy machine what is killed takes its time to be gone.
        yield


@pytest.fixture(scope="session")
def from_scratch(copied_workers):
    """Within `with from_scratch():` processes are started as in the application."""

    @contextmanager
    def from_scratch():
        with pytest.MonkeyPatch.context() as there:
            there.setattr("dinsegment_slicer.running.process.subprocess", subprocess)
            yield

    return from_scratch


@pytest.fixture(scope="session")
def shared_worker():
    """A process that segments and exports, for all tests that any will do for: each takes seconds to start."""
    from dinsegment_slicer.running.worker import Worker

    worker = Worker()
    with pytest.MonkeyPatch.context() as there:  # At once, with the models of no single test.
        there.delenv("DINSEGMENT_MODELS", raising=False)
        worker.warm_up()
    yield worker
    worker.close()


@pytest.fixture
def worker(shared_worker):
    """The process for all tests; what a panel has told it of the environment is forgotten afterwards."""
    before = dict(shared_worker.environment)
    yield shared_worker
    shared_worker.environment = before


@pytest.fixture
def with_tiny_models(tiny_models, monkeypatch):
    """The heart's model is a small untrained network: for what happens around what one finds."""
    monkeypatch.setenv("DINSEGMENT_MODELS", str(tiny_models))


@pytest.fixture(scope="session")
def shared_tiny_worker():
    """A process that segments hearts with a small untrained network, for all tests of what is around one."""
    from dinsegment_slicer.running.worker import Worker

    worker = Worker()
    yield worker
    worker.close()


@pytest.fixture
def tiny_worker(shared_tiny_worker, with_tiny_models):
    """That process; it is told of the small network by the environment of this one."""
    before = dict(shared_tiny_worker.environment)
    yield shared_tiny_worker
    shared_tiny_worker.environment = before


@pytest.fixture(scope="session")
def report_worker(from_scratch):
    """A process that measures and writes reports, for all tests, started as in the application."""
    from dinsegment_slicer.running.worker import Worker

    worker = Worker(arguments=("report",))
    with from_scratch():
        worker.warm_up()
    yield worker
    worker.close()


@pytest.fixture
def host(monkeypatch, tmp_path):
    """Slicer's application as far as the panel needs it, with the module loaded."""
    from host import MODULE, Host

    monkeypatch.setenv("DINSEGMENT_CACHE", str(tmp_path / "cache"))
    with Host() as host:
        host.load_module(MODULE)
        yield host


@pytest.fixture
def segmenting():
    """What segments in the panel, where what it finds is not looked at: a threshold stands for the network."""
    return mrml.InProcess()


@pytest.fixture
def panel(models_of_both_tasks, host, segmenting, monkeypatch):
    """The panel, open, with models for both tasks."""
    widget = host.open_module("DINSegment")
    monkeypatch.setattr(widget.logic, "worker", segmenting)
    host.pump()
    return widget


def _models_of(tasks, folder, monkeypatch):
    """A folder with a weights.json in which each of these tasks has a model, shipped or a description of one."""
    from dinsegment.models.entries import models_list

    models = json.loads(models_list().read_text(encoding="utf-8"))["models"]
    chosen = []
    for task in tasks:
        entry = next((m for m in models if m["task"] == task), None)
        chosen.append(entry or {**models[0], "name": f"{task}-test", "task": task, "scores": {}})
    told = [entry["context"] for entry in chosen if entry.get("context")]
    told_by = [part["model"] for context in told for part in (context, context.get("closer")) if part]
    chosen += [entry for entry in models if entry["name"] in told_by]
    (folder / "models").mkdir()
    (folder / "models" / "weights.json").write_text(json.dumps({"models": chosen}), encoding="utf-8")
    monkeypatch.setenv("DINSEGMENT_MODELS", str(folder / "models"))


@pytest.fixture
def heart_model_only(tmp_path, monkeypatch):
    """As if no model for the abdomen were shipped; no weights are there."""
    _models_of(("heart",), tmp_path, monkeypatch)


@pytest.fixture
def models_of_both_tasks(tmp_path, monkeypatch):
    """As if models for both tasks were shipped; no weights are there, for runs that need none."""
    _models_of(("heart", "abdomen"), tmp_path, monkeypatch)


@pytest.fixture
def abdomen_model():
    """The name of the shipped model for the abdomen."""
    from dinsegment.errors import ModelError
    from dinsegment.models.entries import find_entry
    from dinsegment.tasks import ABDOMEN

    try:
        return find_entry(None, ABDOMEN).name
    except ModelError:
        pytest.skip("weights.json has no model for the task 'abdomen'")


@pytest.fixture
def small_phantoms(tmp_path, monkeypatch):
    """Sample data on small grids, which are made faster."""
    heart, abdomen = {"slices": 2, "size": [96, 104]}, {"slices": 4, "size": [64, 64], "spacing": [60.0, 6.0, 6.0]}
    yield from _phantoms_as(heart, abdomen, 3, tmp_path, monkeypatch)


@pytest.fixture
def coarse_phantoms(tmp_path, monkeypatch):
    """Sample data of the same size in millimetres, but with longer voxels, and fewer slices to be segmented."""
    heart = {"slices": 7, "size": [88, 96], "spacing": [11.4, 2.6, 2.6]}
    yield from _phantoms_as(heart, {}, 10, tmp_path, monkeypatch)


def _phantoms_as(heart, abdomen, most_images, folder, monkeypatch):
    from dinsegment_slicer.scene import sample_data

    entries = json.loads(sample_data.PHANTOMS.read_text(encoding="utf-8"))
    for entry in entries:
        entry["images"] = min(entry["images"], most_images)
        entry["options"] |= abdomen if entry["generator"] == "abdomen" else heart
    (folder / "phantoms.json").write_text(json.dumps(entries), encoding="utf-8")
    monkeypatch.setattr(sample_data, "PHANTOMS", folder / "phantoms.json")
    sample_data.phantoms.cache_clear()
    yield
    sample_data.phantoms.cache_clear()
