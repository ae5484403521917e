"""Runs the module's self test in the real application after a normal start, and says in one line how it went:

    Slicer --testing --no-splash --additional-module-paths DINSegment --python-script Testing/Slicer/run_in_slicer.py

The exit code is 0 if all tests passed and nothing in the application's Python has failed, else 1. Names of tests, such
as test_cine, may be given after the script.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import time
import unittest

import slicer

LIMIT_S = 600
"""A test that takes longer, because the window hangs, ends the application: exit code 1, and where it was."""


class Result(unittest.TextTestResult):
    """Tells of each test how long it took, and lets none of them hang the run."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._errors = os.fdopen(os.dup(2), "w")  # The application's sys.stderr has no file.
        self._started = 0.0

    def startTest(self, test):
        super().startTest(test)
        print(f"{test._testMethodName} begins, {LIMIT_S} s at most", flush=True)
        faulthandler.dump_traceback_later(LIMIT_S, exit=True, file=self._errors)
        self._started = time.monotonic()

    def stopTest(self, test):
        faulthandler.cancel_dump_traceback_later()
        print(f"{test._testMethodName} took {time.monotonic() - self._started:.1f} s", flush=True)
        super().stopTest(test)


def suite(names):
    """The tests of the module, or some of them."""
    test_class = sys.modules["DINSegment"].DINSegmentTest
    if names:
        return unittest.TestSuite(map(test_class, names))
    return unittest.TestLoader().loadTestsFromTestCase(test_class)


def main(names=()):
    """Raises where not all have passed, which makes the application's exit code 1."""
    where = f"DINSegment in Slicer {slicer.app.applicationVersion}"
    if "DINSegment" not in sys.modules:
        raise RuntimeError(f"{where}: the module is not loaded; give its folder to --additional-module-paths.")
    runner = unittest.TextTestRunner(stream=sys.stdout, resultclass=Result, verbosity=2)
    result = runner.run(suite(names))
    failed = len(result.failures) + len(result.errors)
    passed = result.testsRun - failed - len(result.skipped)
    summary = f"{where}: {passed} passed, {failed} failed"
    if result.skipped:
        summary += f", {len(result.skipped)} skipped ({'; '.join(reason for _test, reason in result.skipped)})"
    print(summary, flush=True)
    if failed or not passed:
        raise AssertionError(summary)


if __name__ == "__main__":
    main([argument for argument in sys.argv if argument.startswith("test_")])
