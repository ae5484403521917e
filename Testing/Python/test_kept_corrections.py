"""Results of slices that a person has corrected are not lost to a run that segments the same image again."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import SimpleITK as sitk

from dinsegment.images import read_volume, write_volume
from dinsegment.phantom.heart import cine_phantom, heart_phantom

SMALL = {"slices": 4, "size": (48, 56), "spacing": (20.0, 3.5, 3.5)}
TASK = ("--task", "heart", "--device", "cpu")


@pytest.fixture(autouse=True)
def small_network(tiny_models, monkeypatch):
    monkeypatch.setenv("DINSEGMENT_MODELS", str(tiny_models))


@pytest.fixture
def correct(run, tmp_path):
    """Corrects the second slice of an image; the results go to a folder that has some already. Gives their labels."""

    def correct(images, truths, folder):
        files = []
        for n, truth in enumerate(truths):
            files.append(tmp_path / f"corrected {n}.nii.gz")
            write_volume(truth.volume.with_array(truth.labels.astype(np.int16)), files[-1])
        given = [part for file in files for part in ("--segmentation", file, "--slices", "2")]
        code, _, errors = run("correct", *images, *given, "--output", folder, *TASK)
        assert code == 0, errors
        return labels_of(folder)

    return correct


def labels_of(folder):
    return [path.read_bytes() for path in sorted(folder.rglob("segmentation.seg.nrrd"))]


def test_another_model_than_the_one_before_is_said(run, tmp_path):
    heart = heart_phantom(seed=0, **SMALL)
    image = tmp_path / "patient.nii.gz"
    write_volume(heart.volume, image)
    assert run("segment", image, "--output", tmp_path / "OUT", *TASK)[0] == 0
    made, path = tmp_path / "OUT" / "segmentation.seg.nrrd", tmp_path / "corrected.seg.nrrd"
    arguments = ("correct", image, "--segmentation", path, "--slices", "2", *TASK)
    for name, said in (("heart-din-small", False), ("of-another-hospital", True)):
        content = made.read_bytes().split(b"\n\n", 1)
        header = content[0].replace(b":DINSegment heart-din-small|", f":DINSegment {name}|".encode())
        path.write_bytes(b"\n\n".join((header, content[1])))
        code, printed, errors = run(*arguments, "--output", tmp_path / name)
        assert code == 0, errors
        assert ("The segments were made by 'of-another-hospital'" in printed) == said


def test_a_cine_is_corrected_by_a_4d_labelmap(run, tmp_path):
    phases = cine_phantom(2, **SMALL)
    for name, voxels in (("image", "volume"), ("labels", "labels")):
        arrays = [p.volume.array if voxels == "volume" else p.labels.astype(np.int16) for p in phases]
        files = [tmp_path / f"{name} {n}.nii.gz" for n in range(2)]
        for phase, array, file in zip(phases, arrays, files, strict=True):
            write_volume(phase.volume.with_array(array), file)
        sitk.WriteImage(
            sitk.JoinSeries([sitk.ReadImage(str(file)) for file in files]), str(tmp_path / f"{name}.nii.gz")
        )
    given = ("correct", tmp_path / "image.nii.gz", "--segmentation", tmp_path / "labels.nii.gz")
    code, _, errors = run(*given, "--slices", "2", "--slices", "", "--output", tmp_path / "OUT", *TASK)
    assert code == 0, errors
    first = read_volume(tmp_path / "OUT" / "phase01" / "segmentation.seg.nrrd")
    assert np.array_equal(first.array[1], phases[0].labels[1])
    code, _, errors = run(*given[:3], files[0], "--output", tmp_path / "OTHER", *TASK)
    assert code == 2
    assert "There is 1 segmentation of 2 phases" in errors and not (tmp_path / "OTHER").exists()


@pytest.mark.parametrize("count", [1, 2])
def test_segmenting_again_does_not_replace_what_was_corrected(run, correct, tmp_path, count):
    phases = cine_phantom(2, **SMALL)[:count]
    images = [tmp_path / f"phase {n}.nii.gz" for n in range(count)]
    for phase, image in zip(phases, images, strict=True):
        write_volume(phase.volume, image)
    segment = ("segment", *images, *(["--phases"] if count > 1 else []), "--output", tmp_path / "OUT", *TASK)
    assert run(*segment)[0] == 0
    kept = correct(images, phases, tmp_path / "OUT")
    code, _, errors = run(*segment)
    assert code == 2
    assert "has results of slices that a person has corrected in 'phase 0', which would be lost" in errors
    assert labels_of(tmp_path / "OUT") == kept
    assert correct(images, phases, tmp_path / "OUT") == kept  # A correction may follow a correction,
    other = [tmp_path / f"another patient's {n}.nii.gz" for n in range(count)]
    for image, path in zip(images, other, strict=True):
        path.write_bytes(image.read_bytes())
    with pytest.raises(AssertionError, match="that a person has corrected in 'phase 0', which would be lost"):
        correct(other, phases, tmp_path / "OUT")  # but none of another patient's.
    assert labels_of(tmp_path / "OUT") == kept
    assert run(*segment, "--overwrite")[0] == 0
    assert labels_of(tmp_path / "OUT") != kept


def test_one_of_many_inputs_that_was_corrected_is_skipped_with_its_numbers(run, correct, tmp_path):
    hearts = [heart_phantom(seed=seed, **SMALL) for seed in (0, 1)]
    images = [tmp_path / f"patient{n}.nii.gz" for n in range(2)]
    for heart, image in zip(hearts, images, strict=True):
        write_volume(heart.volume, image)
    segment = ("segment", *images, "--output", tmp_path / "OUT", *TASK)
    assert run(*segment)[0] == 0
    kept = correct(images[:1], hearts[:1], tmp_path / "OUT" / "patient0")
    assert run(*segment)[0] == 0
    assert labels_of(tmp_path / "OUT" / "patient0") == kept
    with (tmp_path / "OUT" / "studies.csv").open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert first["Status"] == second["Status"] == "skipped"
    assert first["Message"] == "A person has corrected slices of it: the results are kept as they are."
    labels = read_volume(tmp_path / "OUT" / "patient0" / "segmentation.seg.nrrd")
    ml = (labels.array == 3).sum() * labels.voxel_volume_ml
    assert float(first["Left ventricle (ml)"]) == pytest.approx(ml, abs=0.01)
