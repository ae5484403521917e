"""What README.md says of Python is so."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from dinsegment.images import Volume, read_volume, write_volume
from dinsegment.phantom.ct import abdomen_phantom
from dinsegment.phantom.heart import heart_phantom

ROOT = Path(__file__).parents[2]


def blocks() -> list[str]:
    """The Python in README.md, but for 3D Slicer's console."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "dinsegment_slicer" not in code]


def test_a_file_is_read_and_segmented(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    phantom = heart_phantom(slices=3)
    write_volume(phantom.volume, tmp_path / "patient001_frame01.nii.gz")
    known: dict = {}
    exec(blocks()[0], known)
    assert known["result"].labels.shape == phantom.volume.shape and known["result"].labels.any()


@pytest.fixture
def turned(tmp_path, monkeypatch) -> Path:
    """A folder with a CT whose axes are not the patient's, in two formats."""
    monkeypatch.chdir(tmp_path)
    made = abdomen_phantom(slices=10, spacing=(5.0, 4.0, 4.0), size=(96, 96)).volume
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    for name in ("ct.nii.gz", "ct.nrrd"):
        write_volume(replace(made, ijk_to_ras=turn @ made.ijk_to_ras), tmp_path / name)
    return tmp_path


def parts() -> tuple[str, str, str]:
    """What is said of other libraries: imports without nibabel, an image of nibabel, and the rest."""
    code = blocks()[1]
    first, second = code.index("image = nibabel"), code.index("image = SimpleITK")
    return code[:first].replace("import nibabel\n", ""), code[first:second], code[second:]


def same(volume: Volume, path: Path) -> bool:
    read = read_volume(path)
    return np.array_equal(volume.array, read.array) and np.allclose(volume.ijk_to_ras, read.ijk_to_ras, atol=1e-4)


def test_an_image_of_nibabel_is_the_same_volume(turned):
    known = {"nibabel": nibabel}
    exec(parts()[0] + parts()[1], known)
    assert same(known["volume"], turned / "ct.nii.gz")


def test_an_image_of_simpleitk_is_the_same_volume_and_its_result_can_be_written(turned):
    known: dict = {}
    exec(parts()[0] + parts()[2], known)
    assert same(known["volume"], turned / "ct.nrrd")
    labels = known["result"].labels
    assert labels.any()
    for name in ("labels.nii.gz", "ct.seg.nrrd"):
        np.testing.assert_array_equal(read_volume(turned / name).array, labels)
