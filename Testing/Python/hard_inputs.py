"""The inputs that `hard-inputs/make.py` makes of the reference images, whose images are read once.

The script reads and decodes the same images for each case anew. Here each case gets a copy of what was read for the
first one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import forked

READ_ONCE = """
import functools, importlib.util, pickle, sys

spec = importlib.util.spec_from_file_location("make", sys.argv[1])
make = sys.modules["make"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)

def read_once(read):
    known = {}

    @functools.wraps(read)
    def copy(maker, *which):
        if which not in known:
            known[which] = pickle.dumps(read(maker, *which))
        return pickle.loads(known[which])

    return copy

for name in ("ct", "cine"):
    setattr(make.Maker, name, read_once(getattr(make.Maker, name)))
sys.argv = sys.argv[1:]
make.main()
"""
"""A program that runs the script, in a process of its own: the script changes settings of pydicom."""


def find_script(data_folder: Path) -> Path:
    """The script; the test is skipped where it is missing."""
    script = data_folder.parent / "hard-inputs" / "make.py"
    if not script.is_file():
        pytest.skip(f"The script that makes the inputs is missing: there is no file '{script}'.")
    return script


def make_hard_inputs(data_folder: Path, folder: Path, *names: str) -> None:
    """Makes the cases of these names, and cases.json, in a folder."""
    command = [sys.executable, "-c", READ_ONCE, find_script(data_folder), data_folder, folder, *names]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = forked.run([*map(str, command)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
