"""`dinsegment correct`, from a segmentation that was edited as 3D Slicer saves it to the results."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from dinsegment.correction.reading import against, read_corrected
from dinsegment.dicom.write.export import read_segments
from dinsegment.errors import InputError
from dinsegment.images import read_volume, write_volume
from dinsegment.phantom.heart import cine_phantom
from dinsegment.studies.corrected import CorrectedStudy, correct_study, corrected_files
from dinsegment.studies.results import phase_folders
from dinsegment.tasks import HEART


@pytest.fixture(scope="module")
def phantom():
    return cine_phantom(1, slices=6)[0]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder that no test changes."""
    return tmp_path_factory.mktemp("segmented")


@pytest.fixture
def segmented(phantom, run, shared):
    """An image, and the folder of its results, made once."""
    image, first = shared / "patient.nii.gz", shared / "FIRST"
    if not first.exists():
        write_volume(replace(phantom.volume, name="patient"), image)
        code, _, errors = run("segment", image, "--task", "heart", "--output", first, "--device", "cpu")
        assert code == 0, errors
    return image, first


def edited(path, target, change, keep=True):
    """A copy in which `change` was applied to the labels, with all that the file says of them, or without."""
    image = sitk.ReadImage(str(path))
    labels = sitk.GetArrayFromImage(image)
    change(labels)
    new = sitk.GetImageFromArray(labels)
    new.CopyInformation(image)
    for key in image.GetMetaDataKeys() if keep else ():
        new.SetMetaData(key, image.GetMetaData(key))
    sitk.WriteImage(new, str(target), True)
    return labels


def enlarge(labels):
    """The user counts the muscle to the cavity in slices 3 and 4."""
    for k in (2, 3):
        labels[k][labels[k] == 2] = 3


def test_corrected_slices_stay_and_the_results_say_so(segmented, run, tmp_path):
    image, first = segmented
    path = tmp_path / "corrected.seg.nrrd"
    given = edited(first / "segmentation.seg.nrrd", path, enlarge)
    arguments = ("correct", image, "--segmentation", path, "--task", "heart", "--output", tmp_path / "OUT")
    code, printed, errors = run(*arguments, "--device", "cpu")
    assert code == 0, errors
    assert "Corrected by a person: slices 3 and 4, found by comparing with what the file says" in printed
    result = tmp_path / "OUT" / "segmentation.seg.nrrd"
    labels = read_volume(result).array
    assert np.array_equal(labels[[2, 3]], given[[2, 3]])
    content = json.loads((tmp_path / "OUT" / "measurements.json").read_text(encoding="utf-8"))
    assert content["corrected_slices"] == [3, 4]
    types = {s.name: s.algorithm_type for s in read_segments(result, read_volume(result)).values()}
    assert types["Left ventricle"] == types["Left ventricular myocardium"] == "SEMIAUTOMATIC"

    # Corrected once more: slices 3 and 4 still count, and what the program itself has changed does not.
    def more(labels):
        labels[1] = 0

    again = tmp_path / "again.seg.nrrd"
    edited(result, again, more)
    read = read_corrected(again, read_volume(image), HEART)
    assert read.slices == (1, 2, 3)
    code, _, errors = run(*arguments)  # The folder now holds results that nobody has changed: they are replaced.
    assert code == 0, errors


def test_what_the_file_does_not_tell_is_found_by_predicting_again(segmented, run, tmp_path):
    image, first = segmented
    path = tmp_path / "labels.nii.gz"
    given = edited(first / "segmentation.seg.nrrd", path, enlarge, keep=False)
    volume = read_volume(image)
    read = read_corrected(path, volume, HEART)
    assert read.slices is None
    assert np.array_equal(read.labels, given)
    made = read_volume(first / "segmentation.seg.nrrd").array.astype(np.uint8)
    assert against(made, read, volume, HEART) == (2, 3)
    with pytest.raises(InputError, match="6 of 6 slices differ"):
        against((made + 1) % 4, read, volume, HEART)
    code, printed, errors = run(
        "correct", image, "--segmentation", path, "--task", "heart", "--slices", "3", "--output", tmp_path / "OUT"
    )
    assert code == 0, errors
    assert "slice 3, as --slices names them" in printed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "No slice was corrected (found by comparing with what the file says each slice was)"),
        (("--slices", "three"), "--slices three names no slices"),
        (("--slices", "1", "--slices", "2"), "--slices is given 2 times for 1 phases"),
        (("--slices", "9"), "slice 9 cannot have been corrected"),
    ],
)
def test_what_cannot_be_used_is_said_and_nothing_is_left(segmented, run, tmp_path, arguments, sentence):
    image, first = segmented
    code, _, errors = run(
        "correct", image, "--segmentation", first, "--task", "heart", "--output", tmp_path / "OUT", *arguments
    )
    assert code == 2
    assert sentence in errors
    assert not (tmp_path / "OUT").exists()


def test_another_grid_and_other_labels_are_refused(segmented, phantom, tmp_path):
    image, _ = segmented
    volume = read_volume(image)
    moved = phantom.volume.ijk_to_ras.copy()
    moved[:3, 3] += 3.3
    path = tmp_path / "moved.nii.gz"
    write_volume(replace(phantom.volume, ijk_to_ras=moved, array=phantom.labels.astype(np.int16)), path)
    with pytest.raises(InputError, match="does not lie on the grid of 'patient'"):
        read_corrected(path, volume, HEART)
    write_volume(phantom.volume.with_array(phantom.labels.astype(np.int16) + 3), path)
    with pytest.raises(InputError, match="has the label 4"):
        read_corrected(path, volume, HEART)


def test_a_label_that_no_segment_of_the_file_has_is_refused(segmented, tmp_path):
    """Its voxels are not lost without a word."""
    image, first = segmented
    path = tmp_path / "damaged.seg.nrrd"

    def damage(labels):
        labels[2, :5, :5] = 7

    edited(first / "segmentation.seg.nrrd", path, damage)
    with pytest.raises(InputError, match="has the label 7, which none of its segments has"):
        read_corrected(path, read_volume(image), HEART)


def test_an_empty_file_is_no_correction(segmented, tmp_path):
    image, first = segmented
    path = tmp_path / "empty.seg.nrrd"
    edited(first / "segmentation.seg.nrrd", path, lambda labels: labels.fill(0))
    with pytest.raises(InputError, match="Nothing is segmented in"):
        correct_study(CorrectedStudy((image,), (path,), tmp_path / "OUT"), HEART, "a model that would be missed")


@pytest.mark.parametrize(("slices", "sentence"), [(("7",), "slice 7 cannot"), (("1", "2"), "given 2 times")])
def test_slices_that_cannot_be_are_said_before_anything_is_computed(segmented, tmp_path, slices, sentence):
    image, first = segmented
    what = CorrectedStudy((image,), (first,), tmp_path / "OUT", slices)
    with pytest.raises(InputError, match=sentence):
        correct_study(what, HEART, "a model that would be missed")


def test_the_files_of_many_phases_are_in_the_order_of_time(tmp_path):
    names = phase_folders(101)
    for name in (*names, "phase01 copy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "segmentation.seg.nrrd").touch()
    assert [path.parent.name for path in corrected_files([tmp_path], 101)] == names
    with pytest.raises(InputError, match="101 segmentations of 3 phases"):
        corrected_files([tmp_path], 3)


def test_a_corrected_phase_that_does_not_go_with_its_neighbours_is_said(tiny_models, tmp_path, monkeypatch):
    """As the command for segmenting says it, of what the correction made."""
    monkeypatch.setenv("DINSEGMENT_MODELS", str(tiny_models))  # All slices are corrected: none is the network's.
    beat = cine_phantom(6, slices=3, size=(64, 72), spacing=(16.0, 2.5, 2.5))
    images, files = [], []
    for n, phase in enumerate(beat, start=1):
        labels = phase.labels.astype(np.int16)
        if n == 2:  # Somebody has filled the muscle in everywhere.
            labels[labels == 2] = 3
        images.append(tmp_path / f"phase {n}.nii.gz")
        files.append(tmp_path / f"labels {n}.nii.gz")
        write_volume(phase.volume, images[-1])
        write_volume(phase.volume.with_array(labels), files[-1])
    slices = tuple("1,2,3" for _ in beat)
    what = CorrectedStudy(tuple(images), tuple(files), tmp_path / "OUT", slices)
    result, _ = correct_study(what, HEART, device="cpu")
    outliers = [n for n, phase in enumerate(result.phases, 1) if "outlier" in json.dumps(phase["findings"])]
    assert outliers == [2]
