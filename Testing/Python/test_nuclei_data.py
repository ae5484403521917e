"""Stained tissue becomes grey images with one mask."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import nuclei_data
from dinsegment.tasks import get_task
from dinsegment.training.cases import find_cases, read_split
from dinsegment.training.label_names import DATASETS, label_map


def test_the_lists_name_no_image_twice():
    parts = [read_split(DATASETS / f"nuclei-{part}.txt") for part in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [24, 6, 14]
    assert len({name for part in parts for name in part}) == 44
    assert label_map(DATASETS / "nuclei.json", get_task("nuclei")) == {1: 1}


def test_what_is_laid_out_is_found(tmp_path, monkeypatch):
    """The whole script on a repository of two images, of which each part names its files in its way."""
    random = np.random.default_rng(0)
    colours = random.integers(0, 256, (2, 40, 30, 3), np.uint8)
    masks = (random.random((2, 40, 30)) < 0.3).astype(np.uint8) * 255
    git = tmp_path / "clones" / nuclei_data.REPOSITORY.replace("/", "+")
    for part, name, kind, n in (("Train_Folder", "A-1", "tif", 0), ("Val_Folder", "B-2", "png", 1)):
        for folder, array, ending in (("img", colours[n], kind), ("labelcol", masks[n], "png")):
            file = git / "datasets" / "MoNuSeg" / part / folder / f"{name}.{ending}"
            file.parent.mkdir(parents=True)
            Image.fromarray(array).save(file)
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.com")
    for arguments in (("init", "-q"), ("add", "-A"), (*identity, "commit", "-q", "-m", "images")):
        subprocess.run(["git", "-C", str(git), *arguments], check=True, capture_output=True)
    monkeypatch.setattr(sys, "argv", ["nuclei_data.py", str(tmp_path / "clones"), str(tmp_path / "data")])
    nuclei_data.main()
    task = get_task("nuclei")
    for n, case in enumerate(find_cases(tmp_path / "data", ["A-1", "B-2"], task)):
        volume, truth = case.read(task)
        assert np.array_equal(truth, masks[n : n + 1] // 255)
        grey = colours[n].astype(float) @ (0.299, 0.587, 0.114)
        assert np.abs(volume.array[0] - grey).max() <= 1
        assert volume.spacing == pytest.approx([1.0, 1.0, 1.0])
