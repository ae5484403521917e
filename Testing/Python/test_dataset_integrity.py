"""What is wrong with a data set is found before training, and a sound one gives no finding."""

from __future__ import annotations

import gzip
import shutil
import struct
import threading
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from phantom_cases import write_patients
from rich.console import Console

from dinsegment.images import read_volume, write_volume
from dinsegment.tasks import ABDOMEN, HEART
from dinsegment.training.cases import find_cases
from dinsegment.training.dataset_check import Finding, check_cases, format_findings, has_errors


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Three patients with two images each and nothing wrong; tests change copies."""
    data = tmp_path_factory.mktemp("sound")
    write_patients(data, 3)
    return data


@pytest.fixture
def data(sound, tmp_path):
    return Path(shutil.copytree(sound, tmp_path / "data"))


def check(data, splits=None):
    return check_cases(find_cases(data, None, HEART), HEART, splits)


def only(findings, level, where, *words):
    """The one finding there is, of that level and about that file, has those words."""
    assert len(findings) == 1, findings
    found = findings[0]
    assert (found.level, Path(found.where).name) == (level, where)
    assert all(word in found.text for word in words) and "\n" not in found.text, found.text
    assert has_errors(findings) == (level == "error")


def image(data, patient=2, frame=3):
    return data / f"patient00{patient}" / f"patient00{patient}_frame0{frame}.nii.gz"


def labels(data, patient=2, frame=3):
    return data / f"patient00{patient}" / f"patient00{patient}_frame0{frame}_gt.nii.gz"


def change(path, function):
    """Writes the file again with other voxels."""
    volume = read_volume(path)
    write_volume(volume.with_array(function(volume.array.copy())), path)


def put(value):
    def function(array):
        array[2, 3, 4] = value
        return array

    return function


# --- one case ---------------------------------------------------------------------------------------------------------


def test_a_sound_data_set_has_no_finding(sound):
    splits = {"train": ["patient001", "patient003"], "test": ["patient002"]}
    assert check(sound, splits) == []
    assert not has_errors([])


@pytest.mark.parametrize("which", [image, labels])
def test_a_file_that_is_cut_off_is_an_error(data, which):
    path = which(data)
    path.write_bytes(path.read_bytes()[:-200])
    only(check(data), "error", path.name, "damaged or incomplete")


def test_a_missing_image_is_an_error(data):
    image(data).unlink()
    only(check(data), "error", image(data).name, "no file")


def test_a_header_without_spacing_is_an_error(data):
    content = bytearray(gzip.decompress(image(data).read_bytes()))
    struct.pack_into("<3f", content, 80, 0, 0, 0)
    image(data).write_bytes(gzip.compress(content))
    only(check(data), "error", image(data).name, "voxels measure 0 x 0 x 0 mm")


def test_labels_of_another_shape_are_an_error(data):
    truth = read_volume(labels(data))
    write_volume(replace(truth, array=truth.array[:, :-1]), labels(data))
    only(check(data), "error", labels(data).name, "80 x 63 x 5", "80 x 64 x 5")


@pytest.mark.parametrize(("shift", "level"), [(0.05, None), (0.5, "warning"), (2.0, "error")])
def test_labels_in_another_place_are_judged_in_millimetres(data, shift, level):
    truth = read_volume(labels(data))
    moved = truth.ijk_to_ras.copy()
    moved[1, 3] -= shift
    write_volume(replace(truth, ijk_to_ras=moved), labels(data))
    findings = check(data)
    if level:
        only(findings, level, labels(data).name, f"{shift:g} mm")
    else:
        assert findings == []


@pytest.mark.parametrize(("value", "words"), [(7, "labels 7"), (1.5, "1.5"), (-2, "-2")])
def test_a_voxel_that_is_no_label_of_the_task_is_an_error(data, value, words):
    change(labels(data), put(value))
    only(check(data), "error", labels(data).name, words)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("which", [image, labels])
@pytest.mark.parametrize("kind", ["f", "d"])
def test_nan_in_a_nifti_file_is_found_although_readers_hide_it(data, value, which, kind):
    path = which(data)
    write_volume(read_volume(path), path, np.float32 if kind == "f" else np.float64)
    content = bytearray(gzip.decompress(path.read_bytes()))
    offset = int(struct.unpack_from("<f", content, 108)[0])
    for voxel in (0, 700, 25599):  # the first and the last of 5 x 64 x 80 among them
        struct.pack_into(f"<{kind}", content, offset + voxel * struct.calcsize(kind), value)
    path.write_bytes(gzip.compress(content))
    assert np.isfinite(read_volume(path).array).all()
    only(check(data), "error", path.name, "3 of its voxels are NaN or infinite")


def test_nan_in_other_formats_and_a_constant_image_are_errors(data):
    cases = find_cases(data, None, HEART)
    volume = read_volume(cases[2].image)
    array = volume.array.copy()
    array[0, 0, :2] = np.nan
    write_volume(volume.with_array(array), data / "nan.nrrd")
    cases[2] = replace(cases[2], image=data / "nan.nrrd")
    change(cases[4].image, lambda array: 0 * array + 12)
    findings = check_cases(cases, HEART)
    only(findings[:1], "error", "nan.nrrd", "2 voxels that are NaN or infinite")
    only(findings[1:], "error", cases[4].image.name, "constant", "12")


def test_a_segment_that_a_case_lacks_is_a_warning_that_names_it(data):
    change(labels(data), lambda array: np.where(array == 1, 0, array))
    only(check(data), "warning", labels(data).name, "no voxel of Right ventricle:")
    change(labels(data), lambda array: np.where(array == 3, 0, array))
    only(check(data), "warning", labels(data).name, "no voxel of Right ventricle, Left ventricle:")


def test_an_empty_labelmap_is_an_error(data):
    change(labels(data), lambda array: 0 * array)
    only(check(data), "error", labels(data).name, "no voxel of any segment")


# --- the set as a whole, and its splits -------------------------------------------------------------------------------


def test_a_segment_that_no_case_has_is_an_error(data):
    for case in find_cases(data, None, HEART):
        change(case.labels, lambda array: np.where(array == 2, 0, array))
    findings = check(data, {"train": ["patient001", "patient002"], "test": ["patient003"]})
    assert [f.level for f in findings] == ["warning"] * 6 + ["error"]
    only(findings[6:], "error", "data set", "Left ventricular myocardium")


def test_a_segment_that_one_split_lacks_is_an_error_of_that_split(data):
    for frame in (3, 9):
        change(labels(data, frame=frame), lambda array: np.where(array == 2, 0, array))
    findings = check(data, {"train": ["patient001", "patient003"], "test": ["patient002"]})
    assert [f.level for f in findings] == ["warning", "warning", "error"]
    only(findings[2:], "error", "split test", "'test'", "Left ventricular myocardium")


def test_the_same_voxels_under_two_names_are_found_whatever_the_file(data):
    volume = read_volume(image(data, 1, 3))
    volume.ijk_to_ras[0, 3] += 0.02  # another file with the same voxels
    write_volume(volume, image(data, 3, 9), np.float64)
    assert image(data, 1, 3).read_bytes() != image(data, 3, 9).read_bytes()
    named = image(data, 3, 9).name, str(image(data, 1, 3))
    only(check(data), "warning", *named, "count twice")
    only(check(data, {"train": ["patient001", "patient003"]}), "warning", *named)
    parted = check(data, {"train": ["patient001", "patient002"], "test": ["patient003"]})
    only(parted, "error", *named, "'patient003' is in split 'test'", "'patient001' in split 'train'")


def test_images_that_differ_in_the_last_voxel_are_no_duplicates(data):
    volume = read_volume(image(data, 1, 3))
    array = volume.array.copy()
    array[-1, -1, -1] += 1
    write_volume(volume.with_array(array), image(data, 3, 9))
    assert check(data) == []


def test_a_patient_of_two_splits_is_an_error(sound):
    splits = {"train": ["patient001", "patient002"], "validation": ["patient003"], "test": ["patient002"]}
    only(check(sound, splits), "error", "split train", "'patient002' is in split 'train' and split 'test'")


def test_a_split_that_names_nobody_there_is_an_error(sound):
    only(check(sound, {"test": ["patient003", "patient009"]}), "error", "split test", "'patient009'")


@pytest.mark.parametrize("axis", [0, 2])
def test_a_spacing_far_from_the_others_is_a_warning(data, axis):
    for factor, found in ((2.0, False), (3.5, True)):
        for path in (image(data), labels(data)):
            original = read_volume(image(data, 1))
            scale = np.eye(4)
            scale[axis, axis] = factor if axis == 2 else 1 / factor
            volume = read_volume(path)
            write_volume(replace(volume, ijk_to_ras=original.ijk_to_ras @ scale), path)
        findings = check(data)
        assert bool(findings) == found
    only(findings, "warning", image(data).name, "2.5 x 2.8 x 16 mm", "3 times")


def test_images_along_other_axes_have_no_unusual_spacing(data):
    for path in (image(data), labels(data)):
        volume = read_volume(path)
        turned = volume.ijk_to_ras[:, [2, 1, 0, 3]]
        write_volume(replace(volume, array=volume.array.transpose(2, 1, 0), ijk_to_ras=turned), path)
    assert check(data) == []


# --- how it runs and what it prints -----------------------------------------------------------------------------------


def test_findings_come_in_the_order_of_the_cases_each_read_once(data, monkeypatch):
    read, lock = [], threading.Lock()

    def counting(path):
        with lock:
            read.append(path)
        return read_volume(path)

    monkeypatch.setattr("dinsegment.training.dataset_check.read_volume", counting)
    for patient in (1, 2, 3):
        change(labels(data, patient, 9), put(8))
    cases, seen = find_cases(data, None, HEART), []
    findings = check_cases(cases, HEART, progress=lambda count, case: seen.append((count, case)))
    assert [Path(f.where) for f in findings] == [labels(data, n, 9) for n in (1, 2, 3)]
    assert seen == list(enumerate(cases, start=1))
    assert sorted(read) == sorted([p for c in cases for p in (c.image, c.labels)])
    assert check_cases(cases, HEART) == findings


def test_the_table_lists_errors_first_and_takes_no_name_for_markup():
    console = Console(file=StringIO(), width=120)
    look, fail = Finding("warning", "a.nii", "Look."), Finding("error", "[red]b.nii", "Broken [1].")
    console.print(format_findings([look, fail]))
    text = console.file.getvalue()
    assert text.index("[red]b.nii") < text.index("a.nii ")
    assert "Error" in text and "Warning" in text and "Broken [1]." in text


def test_the_table_cuts_no_path():
    console = Console(file=StringIO(), width=40)
    console.print(format_findings([Finding("error", "w" * 90, f"Like '{'v' * 90}'.")]))
    text = console.file.getvalue()
    assert text.count("w") == 90 + "What is wrong, and what to do".count("w") and text.count("v") == 90


# --- real data --------------------------------------------------------------------------------------------------------


def test_two_real_hearts_are_sound(acdc_folder):
    cases = find_cases(acdc_folder, ["patient001", "patient090"], HEART)
    assert check_cases(cases, HEART, {"train": ["patient001"], "test": ["patient090"]}) == []


def test_two_patients_of_acdc_are_one(acdc_folder):
    """Found by this check: both are training patients, with labels drawn twice."""
    findings = check_cases(find_cases(acdc_folder, ["patient074", "patient076"], HEART), HEART)
    assert [(f.level, Path(f.where).name) for f in findings] == [
        ("warning", "patient076_frame01.nii.gz"),
        ("warning", "patient076_frame12.nii.gz"),
    ]


def test_a_real_abdomen_without_gallbladder_is_told(data_folder):
    folder = data_folder / "btcv"
    if not folder.is_dir():
        pytest.skip(f"Reference images are missing: there is no folder '{folder}'.")
    findings = check_cases(find_cases(folder, ["0023", "0039"], ABDOMEN), ABDOMEN)
    only(findings, "warning", "label0023.nii.gz", "no voxel of Gallbladder")
