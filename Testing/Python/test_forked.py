"""Processes that are copied: as far as a test can tell, they are those that `subprocess` starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

import forked

LOADED = "import sys; print('torch' in sys.modules)"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Processes are copied on Linux only.")


def printed(start, *command, **options):
    done = start([sys.executable, *command], capture_output=True, text=True, **options)
    return done.returncode, done.stdout, done.stderr


WHAT = """
import json, os, sys
print(json.dumps([sys.argv, os.getcwd(), sorted(os.environ.items()), sys.path, __name__, sys.stdin.read()]))
print("said", file=sys.stderr)
"""


def test_it_has_loaded_what_takes_long():
    assert printed(forked.run, "-c", LOADED) == (0, "True\n", "")
    for name in ("ANY", *forked.SET_BY_LIBRARIES):
        assert printed(forked.run, "-c", LOADED, env={**os.environ, name: "0"}) == (0, "True\n", "")
    assert printed(subprocess.run, "-c", LOADED) == (0, "False\n", "")


@pytest.mark.parametrize("safe", [{}, {"PYTHONSAFEPATH": "1"}])
def test_arguments_folder_environment_and_search_path_are_as_those_of_any_process(tmp_path, safe):
    environment = {**os.environ, "DINSEGMENT_MODELS": "there", "PYTHONPATH": os.pathsep.join(sys.path), **safe}
    options = {"env": environment, "cwd": tmp_path, "input": "given"}
    assert printed(forked.run, "-c", WHAT, "one", "two", **options) == printed(
        subprocess.run, "-c", WHAT, "one", "two", **options
    )


@pytest.mark.parametrize(
    "program",
    [
        "raise SystemExit(3)",
        "raise SystemExit('no more')",
        "import os; os.kill(os.getpid(), 9)",
        "import os; os.abort()",
        "import atexit; atexit.register(print, 'ended'); import threading; threading.Timer(0.1, print, 'x').start()",
    ],
)
def test_it_ends_as_any_process(program):
    assert printed(forked.run, "-c", program) == printed(subprocess.run, "-c", program)


@pytest.mark.parametrize("variables", [{}, {"PYTHONUNBUFFERED": "1"}])
def test_its_streams_are_those_that_it_was_given(variables):
    """Here that of the tests is a file, as a rule, and its own a pipe."""
    program = (
        "import sys; print([[s.seekable(), s.isatty(), s.fileno(), s.line_buffering] for s in "
        "(sys.stdin, sys.stdout, sys.stderr)]); sys.stdout.reconfigure(errors='replace'); print('end')"
    )
    options = {"stdin": subprocess.PIPE, "env": {**os.environ, **variables}}
    assert printed(forked.run, "-c", program, **options) == printed(subprocess.run, "-c", program, **options)


def test_what_fails_has_its_traceback():
    code, out, err = printed(forked.run, "-c", "import no_such_library")
    assert (code, out) == (1, "") and err.endswith("ModuleNotFoundError: No module named 'no_such_library'\n")


def test_a_module_is_a_program(tmp_path):
    (tmp_path / "mine.py").write_text("import sys; print(__name__, sys.argv[1:], sys.modules['__main__'].__name__)")
    options = {"cwd": tmp_path}
    assert printed(forked.run, "-m", "mine", "x", **options) == printed(subprocess.run, "-m", "mine", "x", **options)


def test_what_one_changes_no_other_sees():
    change = "import dinsegment.tasks, os; dinsegment.tasks.HEART = None; os.environ['X'] = 'x'"
    look = "import dinsegment.tasks, os; print(dinsegment.tasks.HEART is None, 'X' in os.environ)"
    assert printed(forked.run, "-c", change) == (0, "", "")
    assert printed(forked.run, "-c", look) == (0, "False False\n", "")


def test_many_at_once_each_with_its_own_end():
    program = "import sys; sys.exit(int(sys.stdin.readline()))"
    processes = [forked.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) for _ in range(4)]
    assert len({process.pid for process in processes}) == 4
    assert [process.poll() for process in processes] == [None] * 4
    for code, process in reversed(list(enumerate(processes))):
        process.communicate(b"%d\n" % code)
        assert process.returncode == code and not psutil.pid_exists(process.pid)


def test_a_session_of_its_own_is_killed_as_a_whole():
    program = "import os, time; pid = os.fork(); print(os.getpid() if pid else '', flush=True); time.sleep(600)"
    process = forked.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True)
    while process.stdout.readline().strip() != b"%d" % process.pid:
        pass
    assert os.getpgid(process.pid) == os.getsid(process.pid) == process.pid
    (child,) = psutil.Process(process.pid).children()
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    child.wait()
    process.stdout.close()


def test_a_time_limit_is_kept():
    with pytest.raises(subprocess.TimeoutExpired):
        forked.run([sys.executable, "-c", "import time; time.sleep(600)"], timeout=0.05)
    process = forked.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("options", [{"preexec_fn": lambda: None}, {"env": {**os.environ, "OMP_NUM_THREADS": "7"}}])
def test_what_a_copy_cannot_have_is_started_as_ever(options):
    assert printed(forked.run, "-c", LOADED, **options) == (0, "False\n", "")
