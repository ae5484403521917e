"""A task that nobody wrote code for: one JSON file with two labels, which everything that takes a task works with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dinsegment.errors import InputError
from dinsegment.images import read_volume, write_volume
from dinsegment.phantom.generators import phantoms_of
from dinsegment.phantom.heart import heart_phantom
from dinsegment.tasks import TASKS, TASKS_VARIABLE, get_task, read_task

BLOOD = {
    "name": "blood",
    "title": "Blood pools",
    "order": 4,
    "icon": "heart",
    "modality": "MR",
    "images": "a short-axis MR of the heart",
    "plane": "acquired",
    "one_organ": True,
    "note": "Cavities of both ventricles.",
    "segments": [
        {
            "label": 1,
            "name": "Right cavity",
            "abbreviation": "RC",
            "type": ["99DIN", "1", "Right cavity"],
            "color": [255, 176, 0],
        },
        {
            "label": 2,
            "name": "Left cavity",
            "abbreviation": "LC",
            "type": ["99DIN", "2", "Left cavity"],
            "color": [255, 72, 83],
        },
    ],
}


@pytest.fixture
def blood(tmp_path, monkeypatch):
    """The folder that DINSEGMENT_TASKS names, with the task's file."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "blood.json").write_text(json.dumps(BLOOD), encoding="utf-8")
    monkeypatch.setenv(TASKS_VARIABLE, str(folder))
    return folder


@pytest.fixture
def cases(tmp_path):
    """Four phantoms laid out as nnU-Net has them, labelled with the two cavities."""
    data = tmp_path / "data"
    (data / "imagesTr").mkdir(parents=True)
    (data / "labelsTr").mkdir()
    for n in range(4):
        phantom = heart_phantom(seed=n, slices=4, spacing=(10.0, 3.0, 3.0), size=(64, 64))
        labels = np.select([phantom.labels == 1, phantom.labels == 3], [1, 2]).astype(np.uint8)
        write_volume(phantom.volume, data / "imagesTr" / f"p{n}_0000.nii.gz", dtype=np.int16)
        write_volume(phantom.volume.with_array(labels), data / "labelsTr" / f"p{n}.nii.gz", dtype=np.uint8)
    description = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "Right cavity": 1, "Left cavity": 2},
        "numTraining": 4,
        "file_ending": ".nii.gz",
    }
    (data / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    for name, patients in (("train", "p0\np1\n"), ("validation", "p2\n"), ("test", "p3\n")):
        (tmp_path / f"{name}.txt").write_text(patients)
    return data


RECIPE = {
    "name": "blood-tiny",
    "task": "blood",
    "network": {
        "name": "din-small",
        "classes": 3,
        "dims": [4, 8, 8, 8],
        "depths": [1, 1, 1, 1],
        "heads": [1, 2, 2, 2],
        "window": 4,
        "decoder_dim": 8,
    },
    "preprocessing": {"spacing": 3.0, "box": 48, "overview_spacing": 6.0},
    "epochs": 1,
    "batch": 2,
}


def test_check_train_evaluate_and_segment(blood, cases, run, tmp_path, one_thread):
    splits = ["--train", tmp_path / "train.txt", "--validation", tmp_path / "validation.txt"]
    code, printed, errors = run("check", "--task", "blood", "--data", cases, *splits, "--test", tmp_path / "test.txt")
    assert code == 0, printed + errors
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE), encoding="utf-8")
    trained = tmp_path / "RUN"
    code, printed, errors = run(
        "train", "--recipe", tmp_path / "recipe.json", "--data", cases, *splits, "--output", trained, "--device", "cpu"
    )
    assert code == 0, printed + errors
    code, printed, errors = run(
        *("evaluate", "--task", "blood", "--data", cases, "--split", tmp_path / "test.txt", "--model", trained),
        *("--output", tmp_path / "EVAL", "--device", "cpu"),
    )
    assert code == 0, printed + errors
    assert set(json.loads((tmp_path / "EVAL" / "metrics.json").read_text(encoding="utf-8"))["dice"]) == {
        "mean",
        "RC",
        "LC",
    }
    image = cases / "imagesTr" / "p3_0000.nii.gz"
    code, printed, errors = run(
        "segment", image, "--task", "blood", "--model", trained, "--output", tmp_path / "OUT", "--device", "cpu"
    )
    assert code == 0, printed + errors
    found = json.loads((tmp_path / "OUT" / "measurements.json").read_text(encoding="utf-8"))
    assert [s["name"] for s in found["segments"]] == ["Right cavity", "Left cavity"]
    assert found["task"] == "blood" and found["model"].startswith("RUN-")
    assert read_volume(tmp_path / "OUT" / "segmentation.seg.nrrd").array.max() <= 2


def test_a_training_without_validation_cases(blood, cases, run, tmp_path, one_thread):
    """On all that there is, for the recipe's epochs: with and without a pack."""
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE), encoding="utf-8")
    (tmp_path / "all.txt").write_text("p0\np1\np2\n", encoding="utf-8")
    command = ("train", "--recipe", tmp_path / "recipe.json", "--device", "cpu", "--pack", tmp_path / "pack")
    data = ("--data", cases, "--train", tmp_path / "all.txt")
    for output, given in (("MADE", data), ("PACK", ())):
        code, printed, errors = run(*command, *given, "--output", tmp_path / output)
        assert code == 0, printed + errors
        assert "Nothing was validated" in printed
    made, pack = ((tmp_path / output / "best.safetensors").read_bytes() for output in ("MADE", "PACK"))
    assert made == pack
    code, _, errors = run("train", "--recipe", tmp_path / "recipe.json", "--data", cases, "--output", tmp_path / "OUT")
    assert code == 2 and "Give --data and --train" in errors


def test_without_a_phantom_segment_says_so(blood, run, tmp_path):
    code, _, errors = run("segment", "--task", "blood", "--output", tmp_path / "OUT")
    assert code == 2 and "no phantom" in errors and "give an image" in errors
    assert not (tmp_path / "OUT").exists()


def test_the_terminology_has_its_segments(blood):
    pytest.importorskip("slicer", reason="The scene of 3D Slicer (slicer-core) is not installed.")
    program = "from dinsegment_slicer.scene.terminology import terminology_file; print(terminology_file())"
    done = subprocess.run([sys.executable, "-c", program], env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert '"3dSlicerLabel": "Left cavity"' in done.stdout


def test_tasks_come_in_their_order_and_offer_what_a_button_needs(blood):
    assert list(TASKS) == ["heart", "abdomen", "infarct", "blood"]
    task = get_task("blood")
    assert (task.title, task.icon, task.phantom, task.grey_window) == ("Blood pools", "heart", None, None)
    icons = Path(__file__).parents[2] / "DINSegment" / "Resources" / "Icons"
    assert all((icons / f"{t.icon}.png").is_file() for t in TASKS.values())


@pytest.mark.parametrize("name", ["heart", "abdomen", "infarct"])
def test_the_phantom_of_a_task_shows_its_segments(name):
    task = get_task(name)
    for phantom in phantoms_of(task):
        assert set(np.unique(phantom.labels)) == {0, *(s.label for s in task.segments)}
        assert phantom.volume.modality == task.modality


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"segments": [{**BLOOD["segments"][0], "label": 2}]}, "labels are [2]"),
        ({"segments": []}, "labels are []"),
        ({"plane": "sagittal"}, "plane is 'sagittal'"),
        ({"grey_window": [5, 5]}, "grey_window"),
        ({"name": "Blood Pools"}, "small letters"),
        ({"chamber": 7}, "[7]"),
        ({"colour": 1}, "colour"),
    ],
    ids=str,
)
def test_a_task_that_cannot_be_is_refused_in_words(change, words, tmp_path):
    path = tmp_path / "blood.json"
    path.write_text(json.dumps({**BLOOD, **change}), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_task(path)
    assert str(path) in str(caught.value) and words in str(caught.value)


def test_what_is_missing_or_no_json_is_named(tmp_path):
    path = tmp_path / "blood.json"
    for text, words in (("{", "cannot be used"), (json.dumps({"name": "blood"}), "no entry 'segments'")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=words):
            read_task(path)


def test_two_tasks_of_one_name_and_a_folder_without_any(blood, tmp_path, monkeypatch, run):
    (blood / "again.json").write_text(json.dumps({**BLOOD, "name": "heart"}), encoding="utf-8")
    monkeypatch.setenv(TASKS_VARIABLE, f"{blood}/.")  # not read before
    code, _, errors = run("segment", "--task", "blood", "--output", tmp_path / "OUT")
    assert code == 2 and "a task 'heart', of which there is one already" in errors
    monkeypatch.setenv(TASKS_VARIABLE, str(tmp_path / "nowhere"))
    code, _, errors = run("segment", "--task", "heart", "--output", tmp_path / "OUT")
    assert code == 2 and "in which there is no task" in errors
