"""Data sets on disk: three layouts told from what is there, labels by name, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from phantom_cases import write_patients

from dinsegment.errors import InputError
from dinsegment.images import read_volume, write_volume
from dinsegment.images.volume import Volume
from dinsegment.tasks import ABDOMEN, HEART
from dinsegment.training.cases import find_cases, read_split
from dinsegment.training.label_names import DATASETS, label_map

BTCV = (
    "Spleen", "Right kidney", "Left kidney", "Gallbladder", None, "Liver", "Stomach", "Aorta", None, None, "Pancreas",
    None, None,
)  # fmt: skip
"""Names of the abdomen's segments by BTCV's numbers 1 to 13; what else BTCV has is background."""


def complaint(function, *arguments):
    """What the InputError of the call says, in one line."""
    with pytest.raises(InputError) as caught:
        function(*arguments)
    text = str(caught.value)
    assert text and "\n" not in text
    return text


def all_labels(count):
    """A labelmap (4, 5, 6) that has every label from 0 to count, one row of voxels each and then background."""
    array = np.zeros(120)
    array[: 6 * (count + 1)] = np.repeat(np.arange(count + 1), 6)
    return array.reshape(4, 5, 6)


def write_pair(image, labels, array, seed=1):
    image.parent.mkdir(parents=True, exist_ok=True)
    labels.parent.mkdir(parents=True, exist_ok=True)
    ijk_to_ras = np.diag([-0.8, -0.8, 3.0, 1.0])
    noise = np.random.default_rng(seed).integers(-100, 300, array.shape)
    write_volume(Volume(noise, ijk_to_ras), image, np.int16)
    write_volume(Volume(array, ijk_to_ras), labels, np.int16)


def write_btcv(data, numbers=("0001", "0007"), images=".", labels="."):
    for seed, number in enumerate(numbers):
        pair = data / images / f"img{number}.nii.gz", data / labels / f"label{number}.nii.gz"
        write_pair(*pair, all_labels(13), seed)


NNUNET = {
    "channel_names": {"0": "cineMRI"},
    "labels": {"background": 0, "LV": 1, "myocardium": 2, "right_ventricle": 3, "atrium": 4},
    "numTraining": 3,
    "file_ending": ".nii.gz",
}


def write_nnunet(data, ending=".nii.gz", **changes):
    for seed, name in enumerate(("patient001_frame01", "patient001_frame12", "case_7")):
        pair = data / "imagesTr" / f"{name}_0000{ending}", data / "labelsTr" / f"{name}{ending}"
        write_pair(*pair, all_labels(4), seed)
    description = {k: v for k, v in {**NNUNET, **changes}.items() if v is not None}
    (data / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    return data


# --- which layout -----------------------------------------------------------------------------------------------------


def test_a_folder_in_none_of_the_layouts_is_answered_with_all_three(tmp_path):
    text = complaint(find_cases, tmp_path, None, HEART)
    assert str(tmp_path) in text
    for name in ("ACDC", "PATIENT_frameFF_gt.nii.gz", "BTCV", "labelNNNN.nii.gz", "nnU-Net", "dataset.json"):
        assert name in text


def test_images_alone_are_no_labelled_data_set(tmp_path):
    write_btcv(tmp_path)
    for path in tmp_path.glob("label*"):
        path.unlink()
    assert "no labelled images" in complaint(find_cases, tmp_path, None, ABDOMEN)


def test_of_acdc_all_patients_or_those_asked_for_are_found_in_the_order_asked(tmp_path):
    write_patients(tmp_path, 2)
    everybody = find_cases(tmp_path, None, HEART)
    assert [c.name for c in everybody] == [f"patient00{n}_frame0{f}" for n in (1, 2) for f in (3, 9)]
    assert [c.phase for c in everybody] == ["ED", "ES"] * 2
    turned = find_cases(tmp_path, iter(["patient002", "patient001"]), HEART)
    assert turned == everybody[2:] + everybody[:2]
    assert find_cases(tmp_path, [], HEART) == []


@pytest.mark.parametrize("folders", [(".", "."), ("img", "label")])
def test_btcv_is_found_flat_and_as_it_is_downloaded(tmp_path, folders):
    write_btcv(tmp_path, ("0007", "0001"), *folders)
    cases = find_cases(tmp_path, None, ABDOMEN)
    assert [(c.patient, c.name, c.phase) for c in cases] == [("0001", "img0001", ""), ("0007", "img0007", "")]
    assert all(c.image.is_file() and c.labels.is_file() for c in cases)
    assert [c.patient for c in find_cases(tmp_path, ["0007"], ABDOMEN)] == ["0007"]
    text = complaint(find_cases, tmp_path, ["0001", "0002"], ABDOMEN)
    assert "'0002'" in text and "'0001'" in text


def test_nnunet_frames_of_one_patient_belong_together(tmp_path):
    data = write_nnunet(tmp_path)
    cases = find_cases(data, None, HEART)
    assert [(c.patient, c.name) for c in cases] == [
        ("case_7", "case_7"),
        ("patient001", "patient001_frame01"),
        ("patient001", "patient001_frame12"),
    ]
    assert all(c.image.is_file() and c.labels.is_file() and c.image != c.labels for c in cases)
    assert [c.name for c in find_cases(data, ["patient001"], HEART)] == ["patient001_frame01", "patient001_frame12"]


def test_nnunet_version_1_and_other_formats(tmp_path):
    version_1 = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "LV", "2": "Myo", "3": "RV", "4": "atrium"},
        "channel_names": None,
        "file_ending": None,
        "numTraining": None,
    }
    first = find_cases(write_nnunet(tmp_path / "1", **version_1), None, HEART)
    other = find_cases(write_nnunet(tmp_path / "2", ".nrrd", file_ending=".nrrd"), None, HEART)
    assert [c.name for c in first] == [c.name for c in other]
    for a, b in zip(first, other, strict=True):
        assert b.image.suffix == ".nrrd"
        np.testing.assert_array_equal(a.read(HEART)[1], b.read(HEART)[1])
        np.testing.assert_array_equal(a.read(HEART)[0].array, b.read(HEART)[0].array)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"channel_names": {"0": "T1", "1": "T2"}}, "2 channels (T1, T2)"),
        ({"channel_names": None}, "channel_names"),
        ({"numTraining": 5}, "promises 5 training cases, but labelsTr has 3"),
        ({"file_ending": ".nrrd"}, "*.nrrd"),
        ({"labels": None}, "no 'labels'"),
        ({"labels": {"LV": 1, "Myo": 2}}, "no label for Right ventricle (RV)"),
        ({"labels": {"LV": 1, "Myo": 2, "RV": [1, 2]}}, "region 'RV'"),
        ({"labels": {"LV": 1, "Myo": 2, "RV": "three"}}, "'RV' where a label has to be"),
        ({"labels": {"LV": 1, "Myo": 2, "RV": -3}}, "'-3' where a label has to be"),
        ({"labels": {"LV": 1, "Myo": 2, "RV": 2}}, "label 2 two names"),
        ({"labels": {"LV": 1, "Myo": 2, "RV": 3, "ignore": 4}}, "ignore"),
    ],
    ids=str,
)
def test_what_dataset_json_cannot_say_is_named(tmp_path, changes, named):
    text = complaint(find_cases, write_nnunet(tmp_path, **changes), None, HEART)
    assert named in text and "dataset.json" in text


def test_what_is_not_there_is_not_taken_for_damaged(tmp_path):
    data = write_nnunet(tmp_path / "data")
    for call in (
        lambda path: find_cases(path, None, HEART),
        lambda path: find_cases(data, None, HEART, labels=path),
        read_split,
    ):
        assert (
            complaint(call, tmp_path / "nowhere")
            == f"There is no file or folder '{tmp_path / 'nowhere'}': check the path."
        )


def test_images_without_labels_are_named_before_they_are_counted(tmp_path):
    data = write_nnunet(tmp_path)
    first, second, *_ = sorted((data / "labelsTr").iterdir())
    first.unlink()
    second.unlink()
    text = complaint(find_cases, data, None, HEART)
    assert first.name.partition(".")[0] in text and "no labels in labelsTr, and 1 more" in text


def test_another_channel_is_told_from_an_image_without_labels(tmp_path):
    data = write_nnunet(tmp_path)
    image = sorted((data / "imagesTr").iterdir())[0]
    other = image.with_name(image.name.replace("_0000", "_0001"))
    other.write_bytes(image.read_bytes())
    text = complaint(find_cases, data, None, HEART)
    assert other.name in text and "another channel" in text


def test_names_that_are_not_the_tasks_say_how_to_give_them(tmp_path):
    data = write_nnunet(tmp_path, labels={"RV cavity": 1, "LV wall": 2, "LV cavity": 3})
    text = complaint(find_cases, data, None, HEART)
    assert "RV cavity, LV wall, LV cavity" in text and "--labels FILE" in text
    given = json.loads(text[text.index("{") : text.rindex("}") + 1].replace(", ...", ""))
    assert given == {"labels": {"Right ventricle": 1}}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_damaged_dataset_json(tmp_path, content):
    (write_nnunet(tmp_path) / "dataset.json").write_bytes(content)
    assert "dataset.json" in complaint(find_cases, tmp_path, None, HEART)


def test_a_split_that_names_somebody_twice_is_refused(tmp_path):
    path = tmp_path / "split.txt"
    path.write_text("a\nb\na\n", encoding="utf-8")
    assert "'a' more than once" in complaint(read_split, path)


# --- labels -----------------------------------------------------------------------------------------------------------


def test_btcv_labels_become_those_of_the_task_and_the_rest_background(tmp_path):
    write_btcv(tmp_path)
    volume, labels = find_cases(tmp_path, None, ABDOMEN)[0].read(ABDOMEN)
    assert labels.dtype == np.uint8 and labels.shape == volume.shape
    own = {segment.name: segment.label for segment in ABDOMEN.segments}
    expected = np.array([0, *(own.get(name, 0) for name in BTCV)])
    np.testing.assert_array_equal(labels, expected[all_labels(13).astype(int)])
    assert set(np.unique(labels)) == set(range(9))


def test_nnunet_labels_become_those_of_the_task_by_name(tmp_path):
    labels = find_cases(write_nnunet(tmp_path), None, HEART)[0].read(HEART)[1]
    np.testing.assert_array_equal(labels, np.array([0, 3, 2, 1, 0])[all_labels(4).astype(int)])


def test_words_of_a_name_in_any_order_and_writing(tmp_path):
    path = tmp_path / "labels.json"
    names = ["KIDNEY_LEFT", "right-kidney", "liver", "GB", "pc", "  sp ", "Aorta", "stomach", "left adrenal gland"]
    path.write_text(json.dumps({"labels": {str(n): name for n, name in enumerate(names, start=1)}}), encoding="utf-8")
    assert label_map(path, ABDOMEN) == {1: 3, 2: 4, 3: 5, 4: 2, 5: 6, 6: 7, 7: 1, 8: 8, 9: 0}


def test_a_kidney_of_no_side_is_neither(tmp_path):
    path = tmp_path / "labels.json"
    names = ["Kidney", "Liver", "GB", "PC", "SP", "Aorta", "SM"]
    path.write_text(json.dumps({"labels": {name: n for n, name in enumerate(names, start=1)}}), encoding="utf-8")
    text = complaint(label_map, path, ABDOMEN)
    assert "Left kidney (KL), Right kidney (KR)" in text and "Liver" in text


def test_a_file_of_the_users_own_says_what_the_labels_are(tmp_path):
    data = write_nnunet(tmp_path, labels={"background": 0, "LVC": 1, "MLV": 2, "RVC": 3, "atrium": 4})
    assert "RVC" in complaint(find_cases, data, None, HEART)
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"labels": {"1": "LV", "2": "Myo", "3": "RV", "4": "RV"}}), encoding="utf-8")
    labels = find_cases(data, None, HEART, own)[0].read(HEART)[1]
    np.testing.assert_array_equal(labels, np.array([0, 3, 2, 1, 1])[all_labels(4).astype(int)])
    assert "own.json" in complaint(find_cases, data, None, ABDOMEN, own)


def test_shipped_descriptions_name_licence_citation_and_every_segment():
    for name, task in (("acdc", HEART), ("btcv", ABDOMEN)):
        path = DATASETS / f"{name}.json"
        description = json.loads(path.read_text(encoding="utf-8"))
        assert all(description[key] for key in ("name", "split", "license", "citation"))
        assert set(label_map(path, task).values()) - {0} == {s.label for s in task.segments}


def test_the_wrong_task_for_a_data_set_is_refused(tmp_path):
    write_btcv(tmp_path)
    text = complaint(find_cases, tmp_path, None, HEART)
    assert "'heart'" in text and "Spleen" in text


@pytest.mark.parametrize("value", [14, 65535, 65536, -1, 2.5])
def test_a_voxel_that_is_no_label_of_the_data_set_is_refused(tmp_path, value):
    write_btcv(tmp_path)
    case = find_cases(tmp_path, ["0001"], ABDOMEN)[0]
    truth = read_volume(case.labels)
    array = truth.array.astype(np.float32)
    array[3, 4, 5] = value
    write_volume(truth.with_array(array), case.labels)
    text = complaint(case.read, ABDOMEN)
    assert f"{value:g}" in text and "label0001.nii.gz" in text


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_no_labels(tmp_path, value):
    write_btcv(tmp_path)
    case = find_cases(tmp_path, ["0001"], ABDOMEN)[0]
    assert f"{value:g}" in complaint(case.task_labels, np.array([[[1, value]]], np.float32), ABDOMEN)


def test_grids_may_differ_by_less_than_half_a_voxel(tmp_path):
    write_btcv(tmp_path)
    case = find_cases(tmp_path, ["0001"], ABDOMEN)[0]
    truth = read_volume(case.labels)
    for shift, fits in ((0.3, True), (0.5, False)):  # of 0.8 mm
        moved = truth.ijk_to_ras.copy()
        moved[0, 3] += shift
        write_volume(replace(truth, ijk_to_ras=moved), case.labels)
        if fits:
            assert case.check_grid(*map(read_volume, (case.image, case.labels))) == pytest.approx(shift, abs=1e-4)
        else:
            assert "0.5 mm" in complaint(case.read, ABDOMEN)
    turned = truth.ijk_to_ras @ np.diag([1, -1, 1, 1])
    write_volume(replace(truth, ijk_to_ras=turned), case.labels)
    assert "does not lie on the grid" in complaint(case.read, ABDOMEN)


# --- real data --------------------------------------------------------------------------------------------------------


def test_real_abdomen_has_its_organs_where_they_belong(btcv_folder):
    """Centres of the segments of a patient who lies as all do: this tells a mix-up of BTCV's numbers."""
    assert len(find_cases(btcv_folder, read_split(btcv_folder / "split-train.txt"), ABDOMEN)) == 18
    case = find_cases(btcv_folder, ["0001"], ABDOMEN)[0]
    volume, labels = case.read(ABDOMEN)
    sizes, centers = {}, {}
    for segment in ABDOMEN.segments:
        voxels = np.argwhere(labels == segment.label)
        sizes[segment.abbreviation] = len(voxels)
        centers[segment.abbreviation] = (volume.ijk_to_ras @ [*voxels.mean(axis=0)[::-1], 1])[:3]
    right = {name: center[0] for name, center in centers.items()}
    assert right["SP"] < right["Aorta"] < right["Liver"] and right["KL"] < right["Aorta"] < right["KR"]
    assert right["SM"] < right["GB"]
    assert centers["SP"][1] < centers["SM"][1]  # the stomach lies in front of the spleen
    assert max(sizes, key=sizes.get) == "Liver" and min(sizes, key=sizes.get) == "GB"


def test_real_hearts_in_nnunet_layout_read_as_in_their_own(acdc_folder, tmp_path):
    published = find_cases(acdc_folder, ["patient001", "patient090"], HEART)
    for case in published:
        for folder, path, end in (("imagesTr", case.image, "_0000"), ("labelsTr", case.labels, "")):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{case.name}{end}.nii.gz").symlink_to(path)
    description = {**NNUNET, "labels": {"RV": 1, "Myo": 2, "LV": 3}, "numTraining": 4}
    (tmp_path / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    again = find_cases(tmp_path, ["patient001", "patient090"], HEART)
    assert [(c.patient, c.name) for c in again] == [(c.patient, c.name) for c in published]
    for a, b in zip(again, published, strict=True):
        np.testing.assert_array_equal(a.read(HEART)[1], b.read(HEART)[1])
