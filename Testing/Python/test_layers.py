"""The order of the library's rooms: a contract in pyproject.toml, which imports anywhere in a file have to keep."""

from __future__ import annotations

import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dinsegment
from dinsegment import dicom

ROOT = Path(__file__).parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def lint(folder: Path, logic: Path) -> subprocess.CompletedProcess[str]:
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    environment = {**os.environ, "PYTHONPATH": str(logic)}
    command = [sys.executable, "-c", program, "--no-cache", "--config", str(folder / "pyproject.toml")]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8")


def test_no_room_knows_one_above_it_and_there_are_no_circles():
    done = lint(ROOT, ROOT / "DINSegment" / "Logic")
    assert done.returncode == 0, done.stdout
    contracts = PYPROJECT.count("[[tool.importlinter.contracts]]")
    assert contracts and f"{contracts} kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("file", "added"),
    [
        ("images/volume.py", "def late():\n    from dinsegment.inference.pipeline import segment\n"),
        ("quality/shape.py", "if TYPE_CHECKING:\n    from dinsegment.inference.anatomy import Anatomy\n"),
        ("inference/runner.py", "def late():\n    from dinsegment.inference.anatomy import Anatomy\n"),
    ],
    ids=["inside a function", "for types", "a circle of files"],
)
def test_what_breaks_the_order_is_found_wherever_it_stands(file, added, tmp_path):
    """Of a copy in which one file looks upwards."""
    logic = tmp_path / "Logic"
    shutil.copytree(ROOT / "DINSegment" / "Logic", logic, ignore=shutil.ignore_patterns("__pycache__", "*.json"))
    with (logic / "dinsegment" / file).open("a", encoding="utf-8") as changed:
        changed.write(f"\n\nfrom typing import TYPE_CHECKING\n\n{added}")
    (tmp_path / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    assert lint(tmp_path, logic).returncode == 1


def test_the_contract_names_every_room_and_ignores_nothing():
    named = set(re.findall(r"dinsegment[\w.]*", PYPROJECT.partition("layers = [")[2].partition("]")[0]))
    rooms = {f"dinsegment.{m.name}" for m in pkgutil.iter_modules(dinsegment.__path__)} - {"dinsegment.dicom"}
    rooms |= {f"dinsegment.dicom.{m.name}" for m in pkgutil.iter_modules(dicom.__path__)}
    assert named == rooms | {"dinsegment_slicer"}
    assert "ignore_imports" not in PYPROJECT
    assert "exclude_type_checking_imports" not in PYPROJECT


def test_every_room_says_what_happens_in_it():
    for path in (ROOT / "DINSegment" / "Logic" / "dinsegment").rglob("__init__.py"):
        doc = path.read_text(encoding="utf-8").split('"""')[1]
        assert len(doc.split()) >= 25, path


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import dinsegment", {"numpy", "torch", "SimpleITK", "pydicom", "scipy"}),
        ("from dinsegment.images import Volume", {"torch", "SimpleITK", "pydicom"}),
        ("from dinsegment.images import read_volume", {"torch", "pydicom", "highdicom"}),
        ("from dinsegment.enhancement.displayed import enhanced_volume", {"torch", "SimpleITK", "skimage"}),
        ("from dinsegment.models.weights import locate", {"torch", "numpy", "huggingface_hub"}),
        ("from dinsegment.inference import segment", {"pydicom", "SimpleITK", "matplotlib", "monai"}),
    ],
)
def test_what_is_not_used_is_not_imported(code, absent):
    program = f"{code}; import sys; print(*({absent!r} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "DINSegment" / "Logic")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.split() == []
