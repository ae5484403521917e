"""A corrected image as a training case, and a model of one's own from such cases."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
from phantom_cases import write_patients

import forked
from dinsegment.correction import save_case
from dinsegment.errors import InputError, OutputError
from dinsegment.images import read_volume, write_volume
from dinsegment.inference import load_model
from dinsegment.models.entries import models_folder
from dinsegment.phantom.heart import cine_phantom
from dinsegment.tasks import ABDOMEN, HEART
from dinsegment.training.adapt import adapt, divide
from dinsegment.training.cases import Case, find_cases
from dinsegment.training.half_made import check_free, is_half_made, run_folder

SMALL = {"slices": 4, "size": (48, 56), "spacing": (20.0, 3.5, 3.5)}


@pytest.fixture(scope="module")
def phases():
    return cine_phantom(2, **SMALL)


def save(folder, phantom, name="Doe^Jane: 12_frame01"):
    return save_case(folder, phantom.volume, phantom.labels, HEART, name)


@pytest.fixture
def with_tiny_models(tiny_models, monkeypatch):
    """The heart's model is a small untrained network: what is left of a training does not depend on what it learns."""
    monkeypatch.setenv("DINSEGMENT_MODELS", str(tiny_models))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_saved_case_can_be_trained_with(phases, tmp_path):
    path = save(tmp_path, phases[0])
    assert path == tmp_path / "labelsTr" / "Doe_Jane_12_frame01.nii.gz"
    (case,) = find_cases(tmp_path, None, HEART)
    assert (case.patient, case.name) == ("Doe_Jane_12", "Doe_Jane_12_frame01")
    volume, labels = case.read(HEART)
    assert np.array_equal(volume.array, phases[0].volume.array)
    assert np.array_equal(labels, phases[0].labels)
    np.testing.assert_allclose(volume.ijk_to_ras, phases[0].volume.ijk_to_ras, atol=1e-3)
    assert read_volume(path).array.max() == 3


def test_nothing_is_overwritten_and_the_number_of_cases_is_right(phases, tmp_path):
    save(tmp_path, phases[0], "same")
    before = contents(tmp_path)
    description = json.loads((tmp_path / "dataset.json").read_text(encoding="utf-8"))
    (tmp_path / "dataset.json").write_text(json.dumps({**description, "licence": "mine"}), encoding="utf-8")
    assert save(tmp_path, phases[1], "same").name == "same_2.nii.gz"
    assert save(tmp_path, phases[1], "same").name == "same_3.nii.gz"
    after = contents(tmp_path)
    assert all(after[path] == content for path, content in before.items() if path.name != "dataset.json")
    description = json.loads((tmp_path / "dataset.json").read_text(encoding="utf-8"))
    assert (description["numTraining"], description["licence"]) == (3, "mine")
    assert len(find_cases(tmp_path, None, HEART)) == 3


def test_phases_of_a_cine_are_of_one_patient(phases, tmp_path):
    """None of them may tell how good a model is that has learned from another one."""
    for name, phantom in zip(("SAX phase 01", "SAX phase 09"), phases, strict=True):
        save(tmp_path, phantom, name)
    assert [case.patient for case in find_cases(tmp_path, None, HEART)] == ["SAX", "SAX"]
    assert save(tmp_path, phases[1], "SAX phase 01").name == "SAX_2_frame01.nii.gz"  # Another patient's, of that name.
    assert save(tmp_path, phases[1], "SAX_frame01").name == "SAX_3_frame01.nii.gz"
    assert {case.patient for case in find_cases(tmp_path, None, HEART)} == {"SAX", "SAX_2", "SAX_3"}
    assert save(tmp_path, phases[1], "phase 01").name == "phase_01.nii.gz"


def test_a_case_that_a_user_has_removed_is_gone(phases, tmp_path):
    """Nobody has to count the others in dataset.json; of a data set that was copied, the number is looked at."""
    for name in ("a", "b", "c"):
        save(tmp_path, phases[0], name)
    for path in (tmp_path / "imagesTr" / "b_0000.nii.gz", tmp_path / "labelsTr" / "b.nii.gz"):
        path.unlink()
    assert [case.name for case in find_cases(tmp_path, None, HEART)] == ["a", "c"]
    path = tmp_path / "dataset.json"
    description = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**description, "name": "A data set"}), encoding="utf-8")
    with pytest.raises(InputError, match="promises 3 training cases, but labelsTr has 2"):
        find_cases(tmp_path, None, HEART)


def test_a_name_of_nothing_but_signs_becomes_one(phases, tmp_path):
    assert save(tmp_path, phases[0], "../..").name == "case.nii.gz"
    assert {path.parent.parent for path in contents(tmp_path) if path.name != "dataset.json"} == {tmp_path}


def test_another_data_set_is_left_alone(phases, tmp_path):
    save(tmp_path, phases[0])
    before = contents(tmp_path)
    with pytest.raises(InputError, match="another data set than one of the task 'abdomen'"):
        save_case(tmp_path, phases[0].volume, phases[0].labels, ABDOMEN, "one")
    (tmp_path / "b" / "imagesTr").mkdir(parents=True)
    (tmp_path / "b" / "imagesTr" / "one_0000.nii.gz").touch()
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"no dataset\.json"):
        save(tmp_path / "b", phases[0])
    assert contents(tmp_path) == before
    (tmp_path / "dataset.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="another data set"):
        save(tmp_path, phases[0])


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (np.zeros((4, 48, 56), np.uint8), "Nothing is segmented"),
        (np.ones((3, 48, 56), np.uint8), "do not lie on its grid"),
        (np.full((4, 48, 56), 7, np.uint8), "the label 7"),
    ],
)
def test_labels_that_teach_nothing_are_refused(phases, tmp_path, labels, sentence):
    with pytest.raises(InputError, match=sentence):
        save_case(tmp_path / "new", phases[0].volume, labels, HEART, "one")
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_written_leaves_nothing(phases, tmp_path, monkeypatch):
    from dinsegment.correction import case

    def full(*_arguments):
        raise OutputError("The disk is full.")

    save(tmp_path, phases[0], "first")
    before = contents(tmp_path)
    monkeypatch.setattr(case, "write_json", full)
    with pytest.raises(OutputError, match="full"):
        save(tmp_path, phases[0], "second")
    assert contents(tmp_path) == before
    with pytest.raises(OutputError, match="full"):
        save(tmp_path / "new" / "cases", phases[0], "first")
    assert not (tmp_path / "new").exists()


def test_folders_that_were_left_empty_are_filled(phases, tmp_path):
    """Such as by a program that was stopped before it wrote anything."""
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "labelsTr").mkdir()
    assert save(tmp_path, phases[0], "first").exists()


# --- a model of one's own


def cases(*patients):
    return [Case(name, f"{name}_{n}", None, None) for name in patients for n in (1, 2)]


def test_all_images_of_a_patient_are_learned_from_or_held_out():
    learned, held = divide(cases("a", "b", "c", "d", "e", "f", "g", "h"))
    assert (len(learned), len(held)) == (12, 4)
    assert not {c.patient for c in learned} & {c.patient for c in held}
    again = divide(list(reversed(cases("a", "b", "c", "d", "e", "f", "g", "h"))))
    assert {c.patient for c in again[1]} == {c.patient for c in held}
    assert [len(part) for part in divide(cases("a", "b"))] == [2, 2]
    with pytest.raises(InputError, match="at least two"):
        divide(cases("a"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("twice", "is the same image as"),
        ("no right ventricle", "has a voxel of Right ventricle, which the model would unlearn"),
        ("nothing", "has no label above 0"),
    ],
)
def test_cases_that_would_make_the_comparison_untrue_are_refused(phases, tmp_path, change, sentence):
    """Whichever is held out: both before anything is computed, and nothing is written."""
    for seed, name in enumerate(("a", "b")):
        volume, labels = phases[seed].volume, phases[seed].labels.copy()
        if change == "no right ventricle":
            labels[labels == 1] = 0
        save_case(tmp_path / "mine", volume, labels, HEART, name)
        if change == "twice":
            save_case(tmp_path / "mine", volume, np.where(labels == 1, 0, labels), HEART, name)
    if change == "nothing":
        held = divide(find_cases(tmp_path / "mine", None, HEART))[1][0]
        write_volume(phases[0].volume.with_array(np.zeros_like(labels)), held.labels, np.uint8)
    told = []
    with pytest.raises(InputError, match=sentence):
        adapt("heart-din-small", HEART, tmp_path / "mine", tmp_path / "RUN", progress=lambda *said: told.append(said))
    assert not told
    assert not (tmp_path / "RUN").exists()


def test_an_image_without_labels_is_not_passed_over(phases, tmp_path):
    labels = save(tmp_path, phases[0], "a")
    save(tmp_path, phases[1], "b")
    (tmp_path / "imagesTr" / "._a_0000.nii.gz").touch()  # as macOS leaves it on a USB stick
    assert len(find_cases(tmp_path, None, HEART)) == 2
    labels.unlink()
    with pytest.raises(InputError, match=r"a_0000.nii.gz' has no labels in labelsTr"):
        find_cases(tmp_path, None, HEART)


def test_a_model_is_adapted_and_the_one_that_ships_is_not(run, tmp_path, one_thread):
    for case in write_patients(tmp_path / "acdc", 2, **SMALL):
        volume, labels = case.read(HEART)
        save_case(tmp_path / "mine", volume, labels, HEART, case.name)
    shipped = contents(models_folder())
    told = []
    adapted = adapt(
        "heart-din-small", HEART, tmp_path / "mine", tmp_path / "RUN", "cpu", 1, lambda *said: told.append(said)
    )
    assert contents(models_folder()) == shipped
    assert len(adapted.held_out) == 2
    assert len(adapted.trained_on) == 2
    assert 0 <= adapted.before <= 1
    assert 0 <= adapted.after <= 1
    assert adapted.better == (adapted.after - adapted.before >= 0.002)
    assert f"{adapted.after:.3f}" in adapted.text
    assert told[-1] == (1.0, "Epoch 1 of 1")
    model, before = load_model(str(tmp_path / "RUN"), HEART), load_model("heart-din-small", HEART)
    assert model.name.startswith("RUN-")
    assert model.preprocessing == before.preprocessing
    pairs = zip(model.network.parameters(), before.network.parameters(), strict=True)
    changes = [float((one - other).abs().max()) for one, other in pairs]
    assert 0 < max(changes) < 0.2  # it went on from these weights
    with pytest.raises(OutputError, match="choose another folder"):
        adapt("heart-din-small", HEART, tmp_path / "mine", tmp_path / "RUN")
    code, _, errors = run("adapt", "--cases", tmp_path / "mine", "--output", tmp_path / "OTHER")
    assert code == 2
    assert "Give --model or --task" in errors
    assert not (tmp_path / "OTHER").exists()


def test_of_an_adaptation_that_is_stopped_nothing_is_left(tmp_path, one_thread, with_tiny_models):
    """What is left would be no model, and in the way of the next one."""
    for case in write_patients(tmp_path / "acdc", 2, **SMALL):
        volume, labels = case.read(HEART)
        save_case(tmp_path / "mine", volume, labels, HEART, case.name)
    (tmp_path / "EMPTY").mkdir()
    there = []

    def stop(_done, text):
        there.append(any(list((tmp_path / name).glob("*")) for name in ("RUN", "EMPTY")))
        if text.startswith("Epoch 2"):
            raise KeyboardInterrupt

    for name in ("RUN", "EMPTY"):
        with pytest.raises(KeyboardInterrupt):
            adapt("heart-din-small", HEART, tmp_path / "mine", tmp_path / name, "cpu", 2, stop)
    assert any(there)
    assert not (tmp_path / "RUN").exists()
    assert not list((tmp_path / "EMPTY").iterdir())


KILLED = """
import os, sys
from pathlib import Path
from dinsegment.tasks import HEART
from dinsegment.training.adapt import adapt

def die(_done, text):
    if text.startswith("Epoch 2"):
        os._exit(9)

adapt("heart-din-small", HEART, Path(sys.argv[1]), Path(sys.argv[2]), "cpu", 2, die)
"""


def test_an_adaptation_that_was_killed_is_gone_on_with(tmp_path, one_thread, with_tiny_models):
    for case in write_patients(tmp_path / "acdc", 2, **SMALL):
        volume, labels = case.read(HEART)
        save_case(tmp_path / "mine", volume, labels, HEART, case.name)
    run, other = tmp_path / "RUN", tmp_path / "OTHER"
    killed = forked.run([sys.executable, "-c", KILLED, tmp_path / "mine", run], capture_output=True)
    assert killed.returncode == 9, killed.stderr.decode()
    assert is_half_made(run)
    shutil.copytree(run, other)
    (other / "notes.txt").write_text("mine", encoding="utf-8")
    before = contents(other)
    with pytest.raises(OutputError, match=r"notes\.txt.*move that away"):
        adapt("heart-din-small", HEART, tmp_path / "mine", other, "cpu", 2)
    assert contents(other) == before
    (other / "notes.txt").unlink()
    for folder, epochs, first in ((run, 2, "Epoch 2 of 2"), (other, 1, "Epoch 1 of 1")):
        told = {}
        adapt(
            "heart-din-small",
            HEART,
            tmp_path / "mine",
            folder,
            "cpu",
            epochs,
            lambda done, text, told=told: told.setdefault(done, text),
        )
        assert told[min(told)] == first
        assert not is_half_made(folder)
        assert load_model(str(folder), HEART).name.startswith(folder.name)
        assert len((folder / "log.csv").read_text(encoding="utf-8").splitlines()) == 1 + epochs


def test_what_a_killed_run_left_is_known_by_what_it_was_made_of(tmp_path):
    run, left = tmp_path / "RUN", tmp_path / "LEFT"
    with run_folder(run, {"epochs": 1}) as goes_on:
        assert not goes_on
        (run / "log.csv").write_text("1", encoding="utf-8")
        (run / ".0123456789abcdef.pt").write_text("not written to its end", encoding="utf-8")
        with pytest.raises(OutputError, match="Another process"), run_folder(run, {"epochs": 1}):
            pass
        shutil.copytree(run, left, ignore=shutil.ignore_patterns("*.lock"))  # as if it had been killed now
        (run / ".0123456789abcdef.pt").unlink()
    assert [one.name for one in run.iterdir()] == ["log.csv"]
    with pytest.raises(OutputError, match="choose another folder"):
        check_free(run)
    for made_of, there in (({"epochs": 1}, ["half-made.json", "log.csv"]), ({"epochs": 2}, ["half-made.json"])):
        copy = tmp_path / str(made_of)
        shutil.copytree(left, copy)
        check_free(copy)
        with run_folder(copy, made_of) as goes_on:
            assert sorted(one.name for one in copy.iterdir() if one.suffix != ".lock") == there
            assert goes_on == ("log.csv" in there)
    assert not copy.exists()  # The first run had made it, and the last one left nothing.
