"""Which Python runs the worker: Slicer's own, looked up when it is needed, and never Slicer itself."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import slicer

from dinsegment.errors import WorkerError
from dinsegment_slicer.installing.dependencies import Dependencies
from dinsegment_slicer.running.interpreter import python_executable
from dinsegment_slicer.running.segment_part import JobImage
from dinsegment_slicer.running.worker import Worker

ROOT = Path(__file__).parents[2]
PYTHON = sys.executable


def program(path, text="#!/bin/sh\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def application(tmp_path, monkeypatch):
    """What an application installed in a folder of its own says of itself; nothing is on the search path."""
    home = tmp_path / "Slicer"
    launcher, main = program(home / "Slicer"), program(home / "bin" / "SlicerApp-real")
    app = SimpleNamespace(
        slicerHome=str(home),
        launcherExecutableFilePath=str(launcher),
        applicationFilePath=lambda: str(main),
        bin=home / "bin",
    )
    monkeypatch.setattr(slicer, "app", app, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(sys, "executable", "")
    return app


class TestInTheApplication:
    def test_the_one_on_the_search_path(self, application, tmp_path, monkeypatch):
        program(application.bin / "PythonSlicer")
        there = program(tmp_path / "path" / "PythonSlicer")
        monkeypatch.setenv("PATH", str(there.parent))
        assert python_executable() == str(there)

    @pytest.mark.parametrize("name", ["PythonSlicer", "PythonSlicer.exe"])
    def test_else_the_one_in_its_folder(self, application, name):
        there = program(application.bin / name)
        assert python_executable() == str(there)

    @pytest.mark.parametrize("executable", ["", "Slicer", "bin/SlicerApp-real"])
    def test_what_python_says_of_itself_does_not_matter(self, application, monkeypatch, executable):
        monkeypatch.setattr(sys, "executable", executable and str(Path(application.slicerHome, executable)))
        there = program(application.bin / "PythonSlicer")
        assert python_executable() == str(there)
        there.unlink()
        with pytest.raises(WorkerError, match=r"^Slicer's Python \('PythonSlicer'\) is neither in '.*bin' nor .*\.$"):
            python_executable()

    @pytest.mark.parametrize("wrong", ["Slicer", "bin/SlicerApp-real"])
    @pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
    def test_the_application_under_another_name_is_not_started(self, application, tmp_path, monkeypatch, wrong, link):
        path = tmp_path / "path"
        path.mkdir()
        getattr(path / "PythonSlicer", link)(Path(application.slicerHome, wrong))
        monkeypatch.setenv("PATH", str(path))
        with pytest.raises(WorkerError):
            python_executable()
        there = program(application.bin / "PythonSlicer")
        assert python_executable() == str(there)

    def test_a_file_that_cannot_be_run_is_none(self, application):
        program(application.bin / "PythonSlicer").chmod(0o644)
        with pytest.raises(WorkerError):
            python_executable()

    def test_without_a_launcher(self, application):
        application.launcherExecutableFilePath = ""
        there = program(application.bin / "PythonSlicer")
        assert python_executable() == str(there)

    def test_none_is_told_in_one_sentence_and_starts_nothing(self, application):
        worker = Worker()
        job = worker.start([JobImage(None, None, "Cine SAX", None)], "heart")
        while not job.finished:
            job.poll()
        assert "install Slicer again" in str(job.error)
        assert worker.pid is None
        worker.close()

    def test_commands_for_the_user_name_it(self, application):
        dependencies = Dependencies(path=[])
        assert "\nPythonSlicer -m pip install " in dependencies.offline_instructions(dependencies.missing())
        there = program(application.bin / "PythonSlicer")
        assert f"\n{there} -m pip install " in dependencies.offline_instructions(dependencies.missing())


class TestOutsideOfIt:
    def test_it_is_the_python_that_runs_this(self):
        assert not hasattr(slicer, "app")
        assert python_executable() == PYTHON

    @pytest.mark.parametrize("executable", ["", None, "Slicer", "SlicerApp-real", "python-that-is-not-there"])
    def test_anything_else_is_refused(self, tmp_path, monkeypatch, executable):
        if executable and executable.startswith("Slicer"):
            executable = str(program(tmp_path / executable))
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(WorkerError, match=r"was not found at '.*': set sys\.executable"):
            python_executable()


def test_after_a_normal_start_the_worker_starts():
    """In a process of its own, so that everything is imported as the application does it."""
    pytest.importorskip("PySide6", reason="the host needs PySide6")
    code = """
        import sys
        from pathlib import Path

        sys.path.insert(0, sys.argv[2])
        from host import Host

        with Host() as host:
            assert sys.executable == ""
            host.load_module(sys.argv[1])
            assert sys.executable == ""
            host.pump()
            assert Path(sys.executable).name == "PythonSlicer"
            logic = sys.modules["DINSegment"].DINSegmentLogic()
            logic.worker.warm_up()
            import psutil

            while not (command := psutil.Process(logic.worker.pid).cmdline()):  # The system is still starting it.
                assert logic.worker.pid
            assert command[-3:] == [sys.executable, "-m", "dinsegment.worker"], command
            logic.close()
    """
    module = ROOT / "DINSegment" / "DINSegment.py"
    command = [sys.executable, "-c", textwrap.dedent(code), module, Path(__file__).parent]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


SET_LATER = ("sys.executable", "slicer.app", "slicer.mrmlScene", "slicer.modules", "slicer.dicomDatabase")
"""What the application sets, or completes, after it has imported the modules."""


def at_import(node):
    """What of a file, class or statement is evaluated when the file is imported: all but the bodies of functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            defaults = [*child.args.defaults, *filter(None, child.args.kw_defaults)]
            for part in (*defaults, *getattr(child, "decorator_list", ())):
                yield part
                yield from at_import(part)
        else:
            yield child
            yield from at_import(child)


def read_at_import(source):
    return [ast.unparse(node) for node in at_import(ast.parse(source)) if ast.unparse(node) in SET_LATER]


def test_nothing_is_read_at_import_that_is_set_later():
    module = ROOT / "DINSegment"
    for path in (module / "DINSegment.py", *(module / "Logic" / "dinsegment_slicer").rglob("*.py")):
        assert read_at_import(path.read_text(encoding="utf-8")) == [], path


@pytest.mark.parametrize(
    "source",
    [
        "COMMAND = (sys.executable, '-m')",
        "def start(program=sys.executable): ...",
        "class A:\n    scene = slicer.mrmlScene",
        "@keep(slicer.app.temporaryPath)\ndef f(): ...",
        "if slicer.modules.volumes: ...",
    ],
)
def test_it_would_be_seen(source):
    assert read_at_import(source)
    assert not read_at_import("def f():\n    return sys.executable, slicer.app")
