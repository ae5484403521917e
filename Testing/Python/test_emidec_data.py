"""Slices that were stretched to squares are what they were before."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage

import emidec_data
from dinsegment.tasks import get_task
from dinsegment.training.cases import find_cases, read_split
from dinsegment.training.label_names import DATASETS, label_map
from emidec_data import SIDE, pixels_before, restored


def slices(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Grey values with noise and labels (3, rows, columns)."""
    random = np.random.default_rng(rows * columns)
    smooth = ndimage.gaussian_filter(random.normal(size=(3, rows, columns)), (0, 6, 6)) * 600
    grey = np.clip(110 + smooth + random.normal(size=smooth.shape) * 6, 0, 255)
    return np.rint(grey), np.clip(smooth / 25 + 1, 0, 4).astype(np.uint8)


def stretched(grey: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    wide = F.interpolate(torch.from_numpy(grey)[:, None], (SIDE, SIDE), mode="bilinear", align_corners=False)
    near = F.interpolate(torch.from_numpy(labels)[:, None].float(), (SIDE, SIDE), mode="nearest")
    return wide[:, 0].round().clamp(0, 255).numpy().astype(np.uint8), near[:, 0].numpy().astype(np.uint8)


@pytest.mark.parametrize("size", [(205, 148), (256, 139), (240, 254), (256, 256)], ids=str)
def test_pixels_are_those_before_and_squares_again(size):
    grey, labels = slices(*size)
    image, truth, spacing = restored(*stretched(grey, labels))
    assert image.shape == (3, *size) and spacing == (10.0, 1.4, 1.4)
    assert np.array_equal(truth, labels)
    assert np.abs(image - grey).mean() < 1.0


def test_a_side_that_had_more_pixels_keeps_them_with_a_spacing_of_its_own():
    image, _, spacing = restored(*stretched(*slices(270, 180)))
    assert image.shape == (3, SIDE, 180)
    assert spacing == pytest.approx((10.0, 1.4 * 270 / 256, 1.4))


def test_a_side_is_not_mistaken_for_its_neighbours():
    image, _ = stretched(*slices(192, 193))
    assert (pixels_before(image, 1), pixels_before(image, 2)) == (192, 193)


def test_patients_are_split_once_and_labels_are_those_of_the_task():
    parts = [read_split(DATASETS / f"emidec-{name}.txt") for name in ("train", "validation", "test")]
    names = [name for part in parts for name in part]
    assert [len(part) for part in parts] == [72, 9, 19] and len(set(names)) == 100
    assert [sum("_P" in name for name in part) for part in parts] == [48, 6, 13]
    assert label_map(DATASETS / "emidec.json", get_task("infarct")) == {1: 1, 2: 2, 3: 3, 4: 4}


def test_what_is_laid_out_is_found(tmp_path, monkeypatch):
    """The whole script on a repository of two patients of three slices."""
    git = tmp_path / "clones" / emidec_data.REPOSITORY.replace("/", "+")
    for patient, part, size in (("Case_N001", "val", (205, 148)), ("Case_P002", "train", (256, 139))):
        image, labels = stretched(*slices(*size))
        for folder, array in ((part, image), (f"{part}annot", labels)):
            for n, plane in enumerate(array):
                file = git / "dataset" / folder / f"{patient}_slice{n:03d}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(plane).save(file)
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.com")
    for arguments in (("init", "-q"), ("add", "-A"), (*identity, "commit", "-q", "-m", "slices")):
        subprocess.run(["git", "-C", str(git), *arguments], check=True, capture_output=True)
    monkeypatch.setattr(sys, "argv", ["emidec_data.py", str(tmp_path / "clones"), str(tmp_path / "data")])
    emidec_data.main()
    cases = find_cases(tmp_path / "data", ["Case_N001", "Case_P002"], get_task("infarct"))
    for case, size in zip(cases, ((205, 148), (256, 139)), strict=True):
        volume, truth = case.read(get_task("infarct"))
        assert volume.shape == (3, *size) and np.array_equal(truth, slices(*size)[1])
        assert volume.spacing == pytest.approx([10.0, 1.4, 1.4])
