"""Inputs that users of such tools have complained about: each is read as what it is, or refused in one sentence.

They are made by `hard-inputs/make.py`, which lies beside the reference images and says in cases.json what is expected
of each. What the results on disk have to look like is tested in test_hard_outputs.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import runpy
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hard_inputs import find_script, make_hard_inputs
from remembered import remembered

from dinsegment.errors import InputError
from dinsegment.images import read_volume, read_volumes
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.slices import SliceStack
from dinsegment.images.volume import Volume
from dinsegment.inference import load_model, segment
from dinsegment.tasks import TASKS

OF_OUTPUTS = (
    *("own-file-*", "images-in-*", "input-named-*", "corrected-*", "cine-then-volume", "volume-then-cine", "name-*"),
    "cine-long-axis-single-slice",  # what is not measured in it
)
"""Cases of what is written."""

SERIES_PER_SLICE = tuple(
    f"cine-series-per-slice-{where}{change}"
    for where in ("one-folder", "folder-each")
    for change in ("", "-repeated", "-shifted", "-fewer-phases")
)

NAMES = {
    "heart": (
        *("base-cine", "base-heart.nii.gz", "cine-orientation-rounded", "cine-one-gap-of-10.3-mm", "mr-monochrome1"),
        *("mr-siemens-mosaic", "nifti-spacing-x1000.nii", "nifti-spacing-x10.nii", "heart-isotropic-axial.nii.gz"),
        *("heart-large-non-square-pixels.nii.gz", "slicer-list-first.seq.nrrd", "slicer-list-last.seq.nrrd"),
        *("nrrd-4d-kind-none.nrrd", "nrrd-4d-kind-time.nrrd"),
        *SERIES_PER_SLICE,
    ),
    "abdomen": (
        *("base-ct", "base-ct-1.25-mm", "ct-positions-rounded", "ct-12-slices-on-top-8-in-subfolder"),
        *("ct-stray-image-beside-series-folder", "ct-one-file-twice", "ct-bright-padding", "ct-excess-pixel-padding"),
        *("ct-meta-header-without-preamble", "nrrd-line-skip", "mha-without-compressed-data-size.mha"),
        *("mha-without-spacing.mha", "nifti-pixdim-contradicts-sform.nii", "nifti-sheared-by-0.06-degrees.nii"),
        *("nrrd-space-units-um.nrrd", "nrrd-space-units-m.nrrd"),
    ),
}

SAYS = {
    "the spacing or field of view": "spacing|field of view",
    "the slices' axis": "across which axis",  # not a "short-axis" image
    "pixdim and sform": "pixdim.*sform|sform.*pixdim",
    "the spacing": "how large its voxels are",
    "the file": "CompressedDataSize|same file",
    "the units": "units",
    "the mosaic": "mosaic",
    "the axis": "axis",
    "the pixels": "pixels",
    "the gap": "gap",
}
"""Words that name what cases.json speaks of; its own ones where they are not here."""


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def hard(data_folder, tmp_path_factory):
    """The folder of the cases, in which nothing may have changed in the end."""
    folder = tmp_path_factory.mktemp("hard")
    make_hard_inputs(data_folder, folder, *NAMES["heart"], *NAMES["abdomen"], "split-file-with-bom")
    before = digests(folder)
    yield folder
    assert digests(folder) == before


@pytest.fixture(scope="module")
def cases(hard) -> dict[str, dict[str, Any]]:
    return json.loads((hard / "cases.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def models():
    """The shipped ones, which say of slices that they have seen what they said before: most cases show the same."""
    return {name: remembered(load_model(None, TASKS[name])) for name in NAMES}


@pytest.fixture(scope="module")
def read():
    """Reads the phases of an image; those of one place once, since many cases are compared with them."""
    known: dict[tuple, list[Volume]] = {}

    def read(path: Path, task: str | None = None) -> list[Volume]:
        if (path, task) not in known:
            known[path, task] = read_volumes(path, task=task and TASKS[task])
        return known[path, task]

    return read


@pytest.fixture(scope="module")
def segmented(models, tiny_model):
    """Segments a volume; the same voxels on the same grid only once, since the result is the same.

    Where nobody looks at the labels, an untrained network makes them.
    """
    known: dict[tuple, Segmentation] = {}

    def segmented(volume: Volume, task: str, trained: bool = True) -> tuple[np.ndarray, tuple[str, ...]]:
        grid = (np.round(volume.ijk_to_ras, 4) + 0.0).tobytes()  # one of both zeros
        axis = SliceStack.in_plane(volume, TASKS[task].plane).axis
        model = models[task] if trained or task != tiny_model.task else tiny_model
        key = (id(model), hashlib.sha256(volume.array.tobytes()).digest(), volume.array.dtype, grid, axis)
        if key not in known:
            known[key] = segment(volume, task, model, "cpu")
        # What reading said is the volume's own.
        return known[key].labels, (*known[key].warnings, *volume.warnings)

    return segmented


def dice(labels: list[np.ndarray], base: list[np.ndarray]) -> float:
    """Mean over the segments that the base has, of all phases."""
    one, other = np.stack(labels), np.stack(base)
    values = [v for v in np.unique(other) if v]
    assert values, "the base case shows nothing"
    return float(
        np.mean([2 * ((one == v) & (other == v)).sum() / ((one == v).sum() + (other == v).sum()) for v in values])
    )


def path_of(hard: Path, name: str) -> Path:
    return hard / name / "image.nhdr" if name == "nrrd-line-skip" else hard / name


def one_sentence(text: str, path: Path) -> str:
    assert "\n" not in text and "ITK" not in text and "Error" not in text and path.name.split(".")[0] in text
    return text.replace(str(path), "")  # the name says what the case is


def says(text: str, what: str) -> bool:
    return bool(what) and re.search(SAYS.get(what, re.escape(what)), text) is not None


@pytest.mark.parametrize(("task", "name"), [(task, name) for task, names in NAMES.items() for name in names])
def test_as_expected(task, name, hard, cases, read, segmented):
    case, path = cases[name], path_of(hard, name)
    fine = not (case["same_as"] or case["may_be_refused_naming"] or case["may_be_accepted_with_a_warning_about"])
    try:
        volumes = read(path, task)
        results = [segmented(volume, task, bool(case["same_as"] or fine)) for volume in volumes]
    except InputError as error:
        text = one_sentence(str(error), path).replace(name.split(".")[0], "")
        assert says(text, case["may_be_refused_naming"]), text
        return
    if fine:
        assert all(labels.any() for labels, _ in results)
        return
    warned = says(" ".join(results[0][1]).replace(name, ""), case["may_be_accepted_with_a_warning_about"])
    if case["same_as"]:
        base = [segmented(volume, task)[0] for volume in read(hard / case["same_as"])]
        assert len(base) == len(results)
        if results[0][0].shape == base[0].shape:
            found = dice([labels for labels, _ in results], base)
        else:
            found = dice([on_grid_of(hard / case["same_as"], volumes[0], results[0][0])], base)
        assert found >= case["least_dice"] or warned, found
    else:
        assert warned, results[0][1]


def on_grid_of(path: Path, volume: Volume, labels: np.ndarray) -> np.ndarray:
    """Labels on the grid of another image, each voxel as the nearest one."""
    return sitk.GetArrayFromImage(
        sitk.Resample(as_image(volume, labels), as_image(read_volume(path)), sitk.Transform(), sitk.sitkNearestNeighbor)
    )


def as_image(volume: Volume, array: np.ndarray | None = None) -> sitk.Image:
    image = sitk.GetImageFromArray(volume.array if array is None else array)
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.ijk_to_ras
    image.SetSpacing(volume.spacing[::-1].tolist())
    image.SetDirection((matrix[:3, :3] / volume.spacing[::-1]).ravel().tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    return image


@pytest.mark.parametrize(
    "name",
    [
        *("ct-12-slices-on-top-8-in-subfolder", "ct-stray-image-beside-series-folder", "ct-one-file-twice"),
        *("ct-excess-pixel-padding", "ct-meta-header-without-preamble", "nrrd-line-skip", "nrrd-space-units-um.nrrd"),
        *("nrrd-space-units-m.nrrd", "nifti-pixdim-contradicts-sform.nii"),
    ],
)
def test_what_is_the_same_image_has_the_same_voxels_in_the_same_place(name, hard, read):
    (volume,), (base,) = read(path_of(hard, name)), read(hard / "base-ct")
    assert np.array_equal(volume.array, base.array)
    assert np.allclose(volume.ijk_to_ras, base.ijk_to_ras, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in NAMES["heart"] if n.startswith(("slicer-list", "nrrd-4d"))])
def test_a_sequence_has_the_phases_of_the_cine(name, hard, read):
    phases, base = read(hard / name), read(hard / "base-cine")
    assert np.array_equal([phase.array for phase in phases], [phase.array for phase in base])
    assert all(np.allclose(phase.ijk_to_ras, base[0].ijk_to_ras, atol=1e-3) for phase in phases)


def test_axes_that_are_nearly_perpendicular_are_made_so(hard):
    sheared, base = read_volume(hard / "nifti-sheared-by-0.06-degrees.nii"), read_volume(hard / "base-ct")
    axes = sheared.ijk_to_ras[:3, :3] / sheared.spacing[::-1]
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    assert np.abs(sheared.ijk_to_ras - base.ijk_to_ras).max() < 0.002


def test_padding_is_as_dark_as_the_darkest_of_the_image(hard):
    base, padded = read_volume(hard / "base-ct").array, read_volume(hard / "ct-bright-padding").array
    outside = np.hypot(*np.mgrid[-127.5:128, -127.5:128]) > 127
    assert np.array_equal(padded[:, ~outside], base[:, ~outside])
    assert np.unique(padded[:, outside]).tolist() == [base[:, ~outside].min()]


def test_an_inverted_image_is_turned_over(hard):
    base, inverted = read_volume(hard / "base-heart.nii.gz").array, read_volume(hard / "mr-monochrome1").array
    assert inverted.dtype == np.int16
    assert len(np.unique(inverted.astype(int) - base)) == 1


@pytest.mark.parametrize("name", SERIES_PER_SLICE)
def test_slices_of_a_series_each_have_the_voxels_of_the_single_series(name, hard, read):
    volumes, base = read(hard / name, "heart"), read(hard / "base-cine")
    assert len(volumes) == len(base) and np.allclose(volumes[0].ijk_to_ras, base[0].ijk_to_ras, atol=1e-6)
    differs = [
        (phase, k)
        for phase, (volume, expected) in enumerate(zip(volumes, base, strict=True))
        for k in range(len(volume.array))
        if not np.array_equal(volume.array[k], expected.array[k])
    ]
    shifted = [(phase, k) for phase in range(3) for k in (2, 5)]
    assert differs == (shifted if "shifted" in name else [(2, 3)] if "fewer" in name else [])
    said = " ".join(volumes[0].warnings).replace(name, "")
    for change, word in (("repeated", "series 104"), ("shifted", "slices 3 and 6"), ("fewer", "series 103")):
        assert (word in said) == (change in name), said


def test_a_split_file_with_a_byte_order_mark(hard, run):
    folder = hard / "split-file-with-bom"
    code, out, _ = run("check", "--task", "heart", "--data", folder / "acdc", "--test", folder / "split.txt")
    assert code == 0 and "2 cases checked: 0 errors" in out


@pytest.mark.parametrize("name", ["nifti-spacing-x1000.nii", "mha-without-spacing.mha", "mr-siemens-mosaic"])
def test_the_program_says_one_line_and_leaves_nothing(name, hard, run, tmp_path):
    code, out, err = run("segment", hard / name, "--task", "heart", "--output", tmp_path / "out", "--device", "cpu")
    assert (code, out) == (2, "") and err.startswith("Error: ") and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux limits the address space of a process.")
@pytest.mark.parametrize("megabytes", [700, 2000, 3500])
def test_too_little_memory_to_import_pytorch(megabytes, hard, tmp_path):
    import resource

    limit = megabytes << 20
    done = subprocess.run(
        [sys.executable, "-m", "dinsegment.cli", "segment", str(hard / "base-heart.nii.gz"), "--task", "heart",
         "--output", str(tmp_path / "out")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        capture_output=True, text=True, check=False, env=os.environ, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "memory" in done.stderr and not (tmp_path / "out").exists()


def test_every_case_is_tested_somewhere(data_folder):
    names = list(runpy.run_path(str(find_script(data_folder)))["CASES"])
    here = (*NAMES["heart"], *NAMES["abdomen"], "split-file-with-bom")
    assert set(here) <= set(names)
    assert [n for n in names if n not in here and not any(fnmatch(n, one) for one in OF_OUTPUTS)] == []
