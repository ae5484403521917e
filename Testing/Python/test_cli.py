from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hub_server import Hub, forget_settings
from remembered import remembered

import forked
from dinsegment.cli_console import load
from dinsegment.images import read_volume, write_volume
from dinsegment.images.volume import Volume
from dinsegment.inference.model import Model, load_model
from dinsegment.models.entries import models_folder, models_list, read_entries
from dinsegment.phantom.heart import cine_phantom
from dinsegment.tasks import HEART
from dinsegment.training.metrics import dice

FILES = ["dinsegment.json", "enhanced.nrrd", "measurements.json", "overview.png", "segmentation.seg.nrrd"]


@pytest.fixture(scope="module")
def phantoms():
    return cine_phantom(2, slices=10)


@pytest.fixture(scope="module")
def image(phantoms, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("input") / "patient.nii.gz"
    write_volume(replace(phantoms[0].volume, name="patient"), path)
    return path


@pytest.fixture(scope="module")
def shipped():
    return remembered(load_model(None, HEART))


@pytest.fixture
def loaded(shipped, monkeypatch):
    """The model is loaded already, and knows what it has said of slices: for tests of what is around it."""
    monkeypatch.setattr("dinsegment.cli_segment.load", lambda *_: shipped)


@pytest.fixture
def loading(shipped, monkeypatch):
    """The model is loaded as the program does it, before one takes its place that knows what it has said of slices."""

    def loaded(*arguments: object) -> Model:
        model = load(*arguments)
        assert (model.name, model.task, model.preprocessing) == (shipped.name, shipped.task, shipped.preprocessing)
        return shipped

    for name in ("cli_segment", "cli_training"):
        monkeypatch.setattr(f"dinsegment.{name}.load", loaded)


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_one_image(run, loading, image, phantoms, tmp_path):
    code, printed, errors = run("segment", image, "--task", "heart", "--output", tmp_path / "OUT", "--device", "cpu")
    assert (code, errors) == (0, "")
    assert "Left ventricle" in printed
    assert "not a medical device" in printed
    assert files(tmp_path / "OUT") == FILES
    labels = read_volume(tmp_path / "OUT" / "segmentation.seg.nrrd")
    source = read_volume(image)
    np.testing.assert_allclose(labels.ijk_to_ras, source.ijk_to_ras, atol=1e-6)
    assert dice(labels.array, phantoms[0].labels, 3) > 0.8
    enhanced = read_volume(tmp_path / "OUT" / "enhanced.nrrd")
    np.testing.assert_allclose(enhanced.ijk_to_ras, source.ijk_to_ras, atol=1e-6)
    content = json.loads((tmp_path / "OUT" / "measurements.json").read_text(encoding="utf-8"))
    for segment, entry in zip(HEART.segments, content["segments"], strict=True):
        assert entry["name"] == segment.name
        assert entry["voxels"] == int((labels.array == segment.label).sum())
        assert entry["volume_ml"] == pytest.approx(entry["voxels"] * source.voxel_volume_ml)
    assert content["task"] == "heart"
    assert content["model"] == read_entries()[0].name
    assert content["device"] == "cpu"
    assert content["seconds"] > 0
    assert content["warnings"] == []


def test_overview_shows_outlines_on_both_images(run, loaded, image, tmp_path):
    import matplotlib.image

    run("segment", image, "--task", "heart", "--output", tmp_path, "--device", "cpu")
    picture = matplotlib.image.imread(tmp_path / "overview.png")[..., :3]
    assert picture.shape[1] > 900
    for segment in HEART.segments:
        near = np.abs(picture - np.array(segment.color) / 255).max(-1) < 0.12
        assert near.sum() > 500


def test_several_images_get_a_folder_each_and_a_bad_one_stops_none(run, loaded, image, tmp_path):
    other = tmp_path / "elsewhere"
    other.mkdir()
    shutil.copy(image, other / "patient.nii.gz")
    (tmp_path / "notes.nii").write_text("no image")
    code, _, errors = run(
        "segment", image, tmp_path / "notes.nii", other / "patient.nii.gz", "--task", "heart",
        "--output", tmp_path / "OUT", "--device", "cpu",
    )  # fmt: skip
    assert code == 2
    assert len(errors.splitlines()) == 1
    assert "notes.nii" in errors
    results = [f"patient/{f}" for f in FILES] + [f"patient_2/{f}" for f in FILES]
    assert files(tmp_path / "OUT") == [*results, "studies.csv", "studies.jsonl"]


def test_of_several_images_each_warning_and_error_says_which_it_is_about(run, loaded, image, tmp_path):
    volume = read_volume(image)
    cut, flat = tmp_path / "cut.nii.gz", tmp_path / "flat.nii.gz"
    write_volume(volume.part((slice(4, 8), slice(0, None), slice(0, None))), cut)
    write_volume(volume.with_array(np.full_like(volume.array, 7)), flat)
    code, _, errors = run(
        "segment", image, cut, flat, "--task", "heart", "--output", tmp_path / "OUT", "--device", "cpu"
    )
    lines = errors.splitlines()
    warnings = [line for line in lines if line.startswith("Warning: ")]
    (error,) = (line for line in lines if line not in warnings)
    assert code == 2 and error.startswith("Error: ") and str(flat) in error
    assert warnings and all(str(cut) in line for line in warnings)


def test_every_phase_of_a_4d_file(run, loading, phantoms, tmp_path):
    images = []
    for phantom in phantoms:
        write_volume(phantom.volume, tmp_path / "phase.mha")
        images.append(sitk.ReadImage(str(tmp_path / "phase.mha")))
    sitk.WriteImage(sitk.JoinSeries(images), str(tmp_path / "cine.nii.gz"))
    code, printed, _ = run("segment", tmp_path / "cine.nii.gz", "--task", "heart", "--output", tmp_path / "OUT")
    assert code == 0
    assert "ejection fraction" in printed
    assert files(tmp_path / "OUT") == [
        "dinsegment.json", "measurements.json", *(f"phase{n:02d}/{f}" for n in (1, 2) for f in FILES[1:])
    ]  # fmt: skip
    function = json.loads((tmp_path / "OUT" / "measurements.json").read_text(encoding="utf-8"))["function"]
    truth = [(p.labels == 3).sum() for p in phantoms]
    assert (function["end_diastole"], function["end_systole"]) == (0, 1)
    assert function["ejection_fraction_percent"] == pytest.approx(100 * (1 - truth[1] / truth[0]), abs=15)


def test_phantom_when_no_image_is_given(run, loading, tmp_path):
    code, printed, _ = run("segment", "--task", "heart", "--output", tmp_path / "OUT")
    assert code == 0
    assert "phantom" in printed
    assert len(files(tmp_path / "OUT")) == 10
    scores = [float(part.split()[-1]) for part in printed.rpartition("truth: ")[2].split(",")]
    assert min(scores) > 0.7


def test_dicom_folder(run, totalsegmentator_folder, tmp_path, tiny_model, monkeypatch):
    """A CT in the heart task: it runs, and the user is warned, whatever the network makes of it."""
    monkeypatch.setattr("dinsegment.cli_segment.load", lambda *_: tiny_model)
    code, _, errors = run("segment", totalsegmentator_folder, "--task", "heart", "--output", tmp_path / "OUT")
    assert code == 0
    assert "looks like CT" in errors
    assert (
        "looks like CT"
        in json.loads((tmp_path / "OUT" / "measurements.json").read_text(encoding="utf-8"))["warnings"][0]
    )


def test_again_into_the_same_folder(run, loaded, image, tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    for _ in range(2):
        assert run("segment", image, "--task", "heart", "--output", tmp_path, "--device", "cpu")[0] == 0
    assert files(tmp_path) == sorted([*FILES, "mine.txt"])


def bad_inputs(folder: Path, good: Path) -> dict[str, tuple[Path, str]]:
    """Inputs that cannot be segmented, and words of the sentence about each."""
    volume = read_volume(good)

    def written(name: str, array: np.ndarray, **header: object) -> Path:
        write_volume(Volume(array, volume.ijk_to_ras, **header), folder / name)
        return folder / name

    holes, endless = volume.array.copy(), volume.array.copy()
    holes[2, 3, 4], endless[0, 0, 0] = np.nan, np.inf
    flat = folder / "flat.png"
    sitk.WriteImage(sitk.Image(20, 20, sitk.sitkUInt8), str(flat))
    colour = folder / "colour.nrrd"
    sitk.WriteImage(sitk.Image([20, 20, 5], sitk.sitkVectorUInt8, 3), str(colour))
    (folder / "empty").mkdir()
    cut = folder / "cut.nii.gz"
    cut.write_bytes(good.read_bytes()[:20000])
    header = bytearray(352)
    nifti = folder / "spacing.nii"
    write_volume(volume, nifti)
    header = bytearray(nifti.read_bytes())
    header[80:84] = np.float32(0).tobytes()
    nifti.write_bytes(bytes(header))
    return {
        "missing": (folder / "nowhere.nii.gz", "nowhere.nii.gz"),
        "cut short": (cut, "cut.nii.gz"),
        "empty folder": (folder / "empty", "empty"),
        "2D": (flat, "flat.png"),
        "colour": (colour, "colour.nrrd"),
        "NaN": (written("holes.nrrd", holes), "NaN"),
        "infinite": (written("endless.nrrd", endless), "infinite"),
        "constant": (written("constant.nrrd", np.ones_like(volume.array)), "constant"),
        "zero spacing": (nifti, "spacing"),
    }


KINDS = ["missing", "cut short", "empty folder", "2D", "colour", "zero spacing"]


@pytest.fixture
def unloaded(monkeypatch):
    """No model may be loaded."""
    for name in ("cli_segment", "cli_correct"):
        monkeypatch.setattr(f"dinsegment.{name}.load", lambda *_: pytest.fail("A model was loaded."))


def is_refused(run, path, words, output):
    code, printed, errors = run("segment", path, "--task", "heart", "--output", output, "--device", "cpu")
    assert code == 2
    assert printed == ""
    assert len(errors.splitlines()) == 1
    assert errors.startswith("Error: ")
    assert errors.rstrip().endswith(".")
    assert words in errors
    assert "Traceback" not in errors
    assert not output.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_file_is_told_in_one_sentence_before_a_model_is_loaded(kind, run, unloaded, image, tmp_path):
    is_refused(run, *bad_inputs(tmp_path, image)[kind], tmp_path / "OUT")


@pytest.mark.parametrize("kind", ["NaN", "infinite", "constant"])
def test_bad_voxels_are_told_in_one_sentence(kind, run, loaded, image, tmp_path):
    is_refused(run, *bad_inputs(tmp_path, image)[kind], tmp_path / "OUT")


def test_a_correction_of_what_is_not_there_is_told_before_a_model_is_loaded(run, unloaded, image, tmp_path):
    nowhere = tmp_path / "nowhere.seg.nrrd"
    options = ("--segmentation", nowhere, "--task", "heart", "--output", tmp_path / "OUT")
    code, _, errors = run("correct", image, *options)
    assert code == 2 and f"There is no file or folder '{nowhere}'" in errors
    assert not (tmp_path / "OUT").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "lung"], "no task 'lung'"),
        (["--task", "heart", "--model", "other"], "no model 'other'"),
        (["--task", "heart", "--device", "tpu"], "no device 'tpu'"),
    ],
)
def test_bad_option(arguments, words, run, image, tmp_path):
    code, _, errors = run("segment", image, *arguments, "--output", tmp_path / "OUT")
    assert code == 2
    assert words in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "OUT").exists()


def _copy_models(folder):
    shutil.copytree(models_folder(), folder)
    shutil.copy(models_list(), folder)


@pytest.mark.parametrize(
    ("damage", "words"), [("cut", "cut short"), ("changed", "SHA-256 is wrong"), ("gone", "not at")]
)
def test_damaged_weights(damage, words, run, image, tmp_path, monkeypatch):
    folder = tmp_path / "models"
    _copy_models(folder)
    weights = folder / read_entries()[0].weights["file"]
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        weights.unlink()
    else:
        weights.write_bytes(content[:-9] if damage == "cut" else content)
    monkeypatch.setenv("DINSEGMENT_MODELS", str(folder))
    code, _, errors = run("segment", image, "--task", "heart", "--output", tmp_path / "OUT")
    assert code == 2
    assert words in errors
    assert not (tmp_path / "OUT").exists()


def test_output_that_cannot_be_written(run, image, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, errors = run("segment", image, "--task", "heart", "--output", tmp_path / "file" / "OUT")
    assert code == 2
    assert "cannot be written to" in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
def test_disk_full_leaves_nothing(image, tmp_path):
    """Where no file may be larger than 100 kB the enhanced image does not fit; the smaller files do not stay either."""
    code = (
        "import resource, sys; from dinsegment.cli import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); main()"
    )
    done = forked.run(
        [sys.executable, "-c", code, "segment", image, "--task", "heart", "--output", tmp_path / "OUT"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "OUT").exists()


def test_models(run):
    code, printed, _ = run("models")
    assert code == 0
    for entry in read_entries():
        for shown in (entry.name, entry.license, entry.data["name"]):
            assert shown in printed
        if "dice" in entry.scores:  # What tells other models what may be where has none of its own.
            assert f"{entry.scores['dice']['mean']:.3f}" in printed
    assert "not a medical device" in printed


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """A hub with the weights of `heart-remote`, and a weights.json that has it beside the shipped models."""
    forget_settings(monkeypatch)
    monkeypatch.setenv("DINSEGMENT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "models"
    _copy_models(folder)
    listed = json.loads((folder / "weights.json").read_text(encoding="utf-8"))
    content = (folder / listed["models"][0]["weights"]["file"]).read_bytes()
    place = {"file": "heart-remote.safetensors", "repository": "hospital/heart", "revision": "0" * 40}
    first = listed["models"][0]
    listed["models"].append({**first, "name": "heart-remote", "weights": {**first["weights"], **place}})
    (folder / "weights.json").write_text(json.dumps(listed))
    monkeypatch.setenv("DINSEGMENT_MODELS", str(folder))
    with Hub(files={("hospital/heart", "0" * 40, "heart-remote.safetensors"): content}) as hub:
        monkeypatch.setenv("DINSEGMENT_HUB", hub.url)
        yield hub


def row(printed: str, name: str) -> str:
    return next(line for line in printed.splitlines() if name in line)


def test_models_says_where_the_weights_are(run, remote, tmp_path, monkeypatch):
    _, printed, _ = run("models")
    assert "shipped, 11.6 MB" in row(printed, read_entries()[0].name)
    assert "to be downloaded, 11.6 MB" in row(printed, "heart-remote")
    code, printed, errors = run("models", "--fetch", "heart-remote")
    assert (code, errors) == (0, "")
    path = Path(printed.strip().rpartition(" at ")[2])
    assert path.is_relative_to(tmp_path / "cache") and path.stat().st_size == remote.sent
    assert "cached, 11.6 MB" in row(run("models")[1], "heart-remote")
    monkeypatch.setenv("DINSEGMENT_OFFLINE_FOLDER", str(path.parent))
    assert "offline folder, 11.6 MB" in row(run("models")[1], "heart-remote")
    assert not remote.requests[2:]
    (models_folder() / read_entries()[0].weights["file"]).unlink()
    assert "missing, 11.6 MB" in row(run("models")[1], read_entries()[0].name)


def test_models_takes_in_weights_from_another_machine(run, remote, tmp_path):
    (tmp_path / "downloaded").write_bytes(remote.files[("hospital/heart", "0" * 40, "heart-remote.safetensors")])
    (models_folder() / "weights.json").write_text(
        json.dumps({"models": json.loads((models_folder() / "weights.json").read_text(encoding="utf-8"))["models"][1:]})
    )
    code, printed, errors = run("models", "--import", tmp_path / "downloaded")
    assert (code, errors) == (0, "") and "Imported the weights of 'heart-remote'" in printed
    assert "cached" in row(run("models")[1], "heart-remote") and not remote.requests


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fetch", "hart"], "no model 'hart'"),
        (["--import", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--import", __file__], "of no model"),
    ],
)
def test_models_with_a_bad_option(arguments, words, run, remote):
    code, printed, errors = run("models", *arguments)
    assert (code, printed) == (2, "")
    assert words in errors and errors.startswith("Error: ") and len(errors.splitlines()) == 1


def test_models_with_a_hub_that_fails(run, remote):
    remote.status = 503
    code, printed, errors = run("models", "--fetch", "heart-remote")
    assert (code, printed) == (2, "")
    assert "error 503" in errors and "dinsegment models --import" in errors and len(errors.splitlines()) == 1


def test_evaluate(run, loading, acdc_folder, tmp_path):
    """Two validation volumes; the scores are recomputed from what `segment` writes."""
    patient = (acdc_folder / "split-val.txt").read_text(encoding="utf-8").split()[0]
    (tmp_path / "split.txt").write_text(patient + "\n")
    code, _, _ = run(
        "evaluate", "--task", "heart", "--data", acdc_folder, "--split", tmp_path / "split.txt",
        "--output", tmp_path / "OUT",
    )  # fmt: skip
    assert code == 0
    metrics = json.loads((tmp_path / "OUT" / "metrics.json").read_text(encoding="utf-8"))
    assert list(metrics["dice"]) == ["mean", "RV", "Myo", "LV"]
    assert {case["phase"] for case in metrics["cases"]} == {"ED", "ES"}
    assert metrics["dice"]["mean"] == pytest.approx(np.mean([metrics["dice"][s] for s in ("RV", "Myo", "LV")]))
    assert 0.7 < metrics["dice"]["mean"] < 1
    case = metrics["cases"][0]
    path = acdc_folder / patient / f"{case['case']}.nii.gz"
    run("segment", path, "--task", "heart", "--output", tmp_path / "one")
    labels = read_volume(tmp_path / "one" / "segmentation.seg.nrrd").array
    truth = read_volume(path.with_name(f"{case['case']}_gt.nii.gz")).array
    assert case["dice"]["LV"] == pytest.approx(dice(labels, truth, 3))


def test_evaluate_bad_split(run, acdc_folder, tmp_path):
    for split, words in (("nobody\n", "no labelled image"), ("", "names no patient")):
        (tmp_path / "split.txt").write_text(split)
        code, _, errors = run(
            "evaluate", "--task", "heart", "--data", acdc_folder, "--split", tmp_path / "split.txt",
            "--output", tmp_path / "OUT",
        )  # fmt: skip
        assert code == 2
        assert words in errors
        assert not (tmp_path / "OUT").exists()


def test_importing_the_library_is_quick_because_it_is_lazy():
    heavy = {"torch", "SimpleITK", "matplotlib", "scipy"}
    code = f"import dinsegment.cli, sys; print(*{heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == ""


def test_segmenting_does_not_wait_for_imports_that_it_can_do_without():
    """timm, torchvision and PyTorch's compiler take longer to import than a heart takes to be segmented."""
    heavy = {"timm", "torchvision", "torch._dynamo", "torch._inductor", "monai", "matplotlib", "highdicom"}
    code = (
        "import sys; from dinsegment.worker import preload; preload();"
        "from dinsegment.inference.model import load_model; from dinsegment.inference import segment;"
        "from dinsegment.phantom.heart import heart_phantom; from dinsegment.tasks import ABDOMEN, HEART;"
        "result = segment(heart_phantom(slices=1).volume, HEART, load_model(None, HEART), 'cpu');"
        "assert load_model(None, ABDOMEN).context.closer;"
        f"assert result.labels.any(); print(*{heavy} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == ""


def test_help_says_what_it_is(run):
    code, printed, _ = run("--help")
    assert code == 0
    assert "not a medical device" in printed
