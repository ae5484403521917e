"""The script that runs the self test in the application: its last line, its exit code, and that it never hangs."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

CODE = """
    import sys
    import time
    import types
    import unittest

    import slicer

    sys.path.insert(0, sys.argv[1])
    slicer.app = types.SimpleNamespace(applicationVersion="5.12.3")
    import run_in_slicer

    run_in_slicer.LIMIT_S = 2

    class DINSegmentTest(unittest.TestCase):
        def test_passes(self):
            pass

        def test_fails(self):
            self.fail("There is no result.")

        def test_breaks(self):
            raise ValueError

        def test_is_left_out(self):
            self.skipTest("There is no DICOM module.")

        def test_hangs(self):
            time.sleep(60)

    if "no module" not in sys.argv:
        sys.modules["DINSegment"] = types.SimpleNamespace(DINSegmentTest=DINSegmentTest)
    run_in_slicer.main(sys.argv[2:])
"""


def run(*names):
    command = [sys.executable, "-c", textwrap.dedent(CODE), Path(__file__).parent, *names]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("names", "code", "summary"),
    [
        (["test_passes"], 0, "1 passed, 0 failed"),
        (
            ["test_passes", "test_is_left_out"],
            0,
            "1 passed, 0 failed, 1 skipped (There is no DICOM module.)",
        ),
        (["test_passes", "test_fails", "test_breaks"], 1, "1 passed, 2 failed"),
        (["test_is_left_out"], 1, "0 passed, 0 failed, 1 skipped (There is no DICOM module.)"),
    ],
)
def test_what_it_says_in_the_end(names, code, summary):
    done = run(*names)
    assert done.stdout.splitlines()[-1] == f"DINSegment in Slicer 5.12.3: {summary}"
    assert done.returncode == code


def test_what_failed_is_told():
    assert "There is no result." in run("test_fails").stdout


def test_a_test_that_hangs_ends_it():
    done = run("test_passes", "test_hangs", "test_fails")
    assert done.returncode == 1
    assert "test_hangs begins, 2 s at most" in done.stdout and "test_fails begins" not in done.stdout
    assert "Timeout" in done.stderr and "in test_hangs" in done.stderr


def test_a_module_that_is_not_loaded():
    done = run("no module")
    assert done.returncode == 1
    assert "the module is not loaded" in done.stderr
