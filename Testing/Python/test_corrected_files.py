"""What hospitals give as a corrected segmentation: the same image in another file, and files that others wrote."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from dinsegment.correction.reading import read_corrected, read_corrected_phases
from dinsegment.dicom.write.export import read_segments
from dinsegment.errors import InputError
from dinsegment.images import read_volume, write_segmentation, write_volume
from dinsegment.images.fingerprint import grey_print
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.volume import Volume
from dinsegment.phantom.heart import heart_phantom
from dinsegment.studies.corrected import _of_other_images, _slices, corrected_files
from dinsegment.tasks import HEART

CHANGED = 3
"""The slice that somebody has corrected, counted from 0."""


@pytest.fixture(scope="module")
def phantom():
    return heart_phantom(seed=0, slices=5, size=(48, 56), spacing=(16.0, 3.5, 3.5))


@pytest.fixture
def path(phantom, tmp_path):
    """A segmentation that this program wrote, of which a slice was corrected since."""
    path = tmp_path / "corrected.seg.nrrd"
    labels = phantom.labels.astype(np.uint8)
    write_segmentation(Segmentation(phantom.volume, labels, HEART, "m", phantom.volume, "cpu", 0.0), path)

    def enlarge(labels):
        labels[CHANGED][labels[CHANGED] == 2] = 3

    rewrite(path, path, enlarge)
    return path


def rewrite(path, target, change=lambda _labels: None, fields=lambda fields: fields):
    """Writes a segmentation again, with other voxels or other fields."""
    image = sitk.ReadImage(str(path))
    labels = sitk.GetArrayFromImage(image)
    change(labels)
    new = sitk.GetImageFromArray(labels)
    new.CopyInformation(image)
    for key, value in fields({key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}).items():
        new.SetMetaData(key, value)
    sitk.WriteImage(new, str(target), True)


def turned(volume, flips=(), order=(0, 1, 2), box=(slice(0, None),) * 3):
    """The same image with axes (k, j, i) in another direction or order, or a part of it."""
    array, matrix = volume.array[box], volume.ijk_to_ras.copy()
    matrix[:3, 3] += matrix[:3, :3] @ [one.start for one in reversed(box)]
    for axis in flips:
        array = np.flip(array, axis)
        matrix[:3, 3] += matrix[:3, 2 - axis] * (array.shape[axis] - 1)
        matrix[:3, 2 - axis] *= -1
    columns = [2 - order[2 - column] for column in range(3)]
    matrix[:3, :3] = matrix[:3, columns]
    return Volume(array.transpose(order), matrix, "turned", slice_axis=order.index(0))


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ({}, CHANGED),
        ({"flips": (1, 2)}, CHANGED),
        ({"flips": (0,)}, 4 - CHANGED),
        ({"flips": (0, 1), "order": (2, 1, 0)}, 4 - CHANGED),
        ({"order": (1, 2, 0)}, CHANGED),
        ({"box": (slice(0, None), slice(0, 40), slice(3, None))}, CHANGED),
    ],
    ids=["as it was", "rows and columns", "slices", "axes turned round", "axes in a ring", "cut"],
)
def test_the_corrected_slice_is_found_in_the_same_image_of_another_file(phantom, path, way, expected):
    """As converters from DICOM write it. All slices would differ if they were compared as they lie in it."""
    volume = turned(phantom.volume, **way)
    read = read_corrected(path, volume, HEART)
    assert read.slices == (expected,)
    truth = phantom.labels.copy()
    truth[CHANGED][truth[CHANGED] == 2] = 3
    assert np.array_equal(read.labels, turned(phantom.volume.with_array(truth), **way).array)


def test_a_grid_that_the_file_says_wrongly_tells_no_slices(phantom, path):
    """As after its geometry was changed in 3D Slicer: what was corrected is found in another way."""
    for geometry in ("2;0;0;0;0;2;0;0;0;0;2;0;0;0;0;1;0;9;0;9;0;4;", "0;0;", "nothing"):
        entry = {"Segmentation_ConversionParameters": f"Reference image geometry|{geometry}|&"}
        rewrite(path, path, fields=lambda fields, entry=entry: {**fields, **entry})
        read = read_corrected(path, phantom.volume, HEART)
        assert read.slices in (None, (CHANGED,))
        assert (read.slices is None) == (geometry[0] == "2")


def test_segments_need_no_terminology(phantom, path):
    """Programs that write .seg.nrrd files give names alone."""

    def plain(fields):
        return {key: value for key, value in fields.items() if not re.search("_(Tags|Color)$", key)}

    rewrite(
        path, path, fields=lambda fields: {**plain(fields), "Segment0_Name": "rv", "Segment2_Name": "LEFT ventricle"}
    )
    read = read_corrected(path, phantom.volume, HEART)
    assert set(np.unique(read.labels)) == {0, 1, 2, 3}
    assert read.remarks == ()
    assert read.slices is None
    rewrite(path, path, fields=lambda fields: {**plain(fields), "Segment2_Name": "what I drew"})
    read = read_corrected(path, phantom.volume, HEART)
    assert set(np.unique(read.labels)) == {0, 1, 2}
    assert read.remarks == (
        "Segments that are none of the task's count as background: what I drew.",
        "'corrected.seg.nrrd' has no segment Left ventricle: in corrected slices there is none.",
    )


def test_a_copy_that_a_user_keeps_is_no_part_of_the_segment(phantom, path):
    """It has the terminology of what it is a copy of."""

    def copy(labels):
        labels[0, :4, :4] = 4

    def described(fields):
        own = {key.replace("Segment2_", "Segment3_"): value for key, value in fields.items() if "Segment2_" in key}
        own |= {"Segment3_ID": "copy", "Segment3_Name": "Before I changed it", "Segment3_LabelValue": "4"}
        return {**fields, **own}

    rewrite(path, path, copy, described)
    read = read_corrected(path, phantom.volume, HEART)
    assert not read.labels[0, :4, :4].any()
    assert read.remarks == ("Segments that are none of the task's count as background: Before I changed it.",)
    # Where the other one was deleted, it is the segment, whatever it is called.
    rewrite(path, path, fields=lambda fields: {**fields, "Segment2_Name": "?", "Segment2_Tags": ""})
    assert (read_corrected(path, phantom.volume, HEART).labels[0, :4, :4] == 3).all()


def test_a_segmentation_is_known_by_what_it_says_and_not_by_its_name(phantom, path, tmp_path):
    """Labels that 3D Slicer has numbered anew are not taken for the task's."""

    def swap(labels):
        labels[:] = np.array([0, 3, 2, 1], np.uint8)[labels]

    swapped = {"Segment0_LabelValue": "3", "Segment2_LabelValue": "1"}
    rewrite(path, tmp_path / "renamed.NRRD", swap, lambda fields: {**fields, **swapped})
    read = read_corrected(tmp_path / "renamed.NRRD", phantom.volume, HEART)
    assert np.array_equal(read.labels, read_corrected(path, phantom.volume, HEART).labels)
    assert read.slices == (CHANGED,)


def test_of_a_labelmap_it_is_said_what_it_is_taken_for(phantom, tmp_path):
    path = tmp_path / "labels.nii.gz"
    write_volume(turned(phantom.volume.with_array(phantom.labels.astype(np.int16)), box=np.s_[1:, 0:, 0:]), path)
    read = read_corrected(path, phantom.volume, HEART)
    names = "1 Right ventricle, 2 Left ventricular myocardium, 3 Left ventricle"
    part = f"'labels.nii.gz' covers a part of '{phantom.volume.name}'; nothing counts as segmented elsewhere."
    assert read.remarks == (f"Labels are taken for {names}.", part)
    assert np.array_equal(read.labels[1:], phantom.labels[1:]) and not read.labels[0].any()


@pytest.mark.parametrize("value", [np.nan, -1.0, 0.5, 65537.0, 1e12])
def test_voxels_that_are_no_labels_are_refused_in_a_sentence(phantom, tmp_path, value):
    array = phantom.labels.astype(np.float32)
    array[0, 0, 0] = value
    write_volume(phantom.volume.with_array(array), tmp_path / "grey.nrrd")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match="voxels that are no labels"):
            read_corrected(tmp_path / "grey.nrrd", phantom.volume, HEART)


def test_what_was_corrected_and_is_not_named_is_said(phantom, path):
    """It is predicted again."""
    read = read_corrected(path, phantom.volume, HEART)
    other = replace(read, slices=(0, 1, CHANGED))
    assert len(_slices([(CHANGED,)], [read], [], HEART)[1]) == 1
    assert _slices([(1, CHANGED)], [other], [], HEART)[1][1:] == [
        "Slice 1 was corrected, too, but not named by --slices, and may have been predicted again."
    ]
    assert _slices([(CHANGED,), (CHANGED,)], [read, other], [], HEART)[1][1:] == [
        "Slices 1 and 2 of phase 2 were corrected, too, but not named by --slices, and may have been predicted again."
    ]


def test_labels_of_another_phase_or_patient_are_told(phantom, path, tmp_path):
    """All phases of a cine, and many patients' files, have the same grid."""
    another = phantom.volume.with_array(np.roll(phantom.volume.array, 1) * 1.01, "another")
    image = {"DINSegment.Image": grey_print(another)}
    tag = "".join(f"{key}:{value}|" for key, value in image.items())

    def of_another(fields):
        tags = re.sub(r"DINSegment\.Image:[^|]*\|", "", fields["Segment0_Tags"])
        return {**fields, "Segment0_Tags": f"{tags}{tag}"}

    other = tmp_path / "other.seg.nrrd"
    rewrite(path, other, fields=of_another)
    volumes, paths = [phantom.volume, another], [path, other]
    read = [read_corrected(one, volume, HEART) for one, volume in zip(paths, volumes, strict=True)]
    assert _of_other_images(paths, read, volumes) == []
    with pytest.raises(InputError, match=r"other.seg.nrrd' was made of phase 2, but is given for phase 1"):
        _of_other_images(paths[::-1], read[::-1], volumes)
    (said,) = _of_other_images([other], read[1:], [phantom.volume])
    assert said.startswith("'other.seg.nrrd' was made of an image with other grey values than")
    # The same image with its axes turned round, a part of it, and a file that does not tell.
    for way in ({"flips": (0, 2), "order": (1, 2, 0)}, {"box": np.s_[0:, 0:40, 3:]}):
        assert _of_other_images([path], read[:1], [turned(phantom.volume, **way)]) == []
    assert _of_other_images([path], [replace(read[0], image="")], [another]) == []


def test_a_file_that_is_given_twice_is_refused(path, tmp_path):
    with pytest.raises(InputError, match="is given twice"):
        corrected_files([path, tmp_path / "another", path], 3)


def test_a_cine_may_have_its_labels_in_one_file(phantom, path, tmp_path):
    """As programs that draw on 4D images write them; of a single labelmap nobody knows which phase it is of."""
    labels = [np.roll(phantom.labels, shift, 2).astype(np.int16) for shift in range(3)]
    images = [sitk.GetImageFromArray(one) for one in labels]
    for image in images:
        image.CopyInformation(sitk.ReadImage(str(path)))
    sitk.WriteImage(sitk.JoinSeries(images), str(tmp_path / "cine.nii.gz"))
    sitk.WriteImage(images[0], str(tmp_path / "phase.nii.gz"))
    read = read_corrected_phases(tmp_path / "cine.nii.gz", [phantom.volume] * 3, HEART)
    assert all(np.array_equal(one.labels, expected) for one, expected in zip(read, labels, strict=True))
    for name, count in (("cine.nii.gz", 2), ("phase.nii.gz", 3), (path.name, 3)):
        with pytest.raises(InputError, match=rf"There is 1 segmentation of {count} phases, .*{name}': give one for"):
            read_corrected_phases(tmp_path / name, [phantom.volume] * count, HEART)


def test_a_file_that_lacks_a_layer_is_refused(phantom, path):
    described = {"Segment2_Layer": "1", "Segment2_LabelValue": "1"}
    rewrite(path, path, fields=lambda fields: {**fields, **described})
    with pytest.raises(InputError, match="lacks voxels of segments that it describes"):
        read_corrected(path, phantom.volume, HEART)
    with pytest.raises(InputError, match="lacks voxels of segments that it describes"):
        read_segments(path, read_volume(path))


def test_an_image_and_nothing_are_no_segmentation(phantom, tmp_path):
    path = tmp_path / "nowhere.seg.nrrd"
    with pytest.raises(InputError, match="There is no file or folder"):
        read_corrected(path, phantom.volume, HEART)
    path.write_bytes(b"NRRD0004\n")
    with pytest.raises(InputError):
        read_corrected(path, phantom.volume, HEART)
    write_volume(replace(phantom.volume, name="x"), tmp_path / "image.nii.gz")
    with pytest.raises(InputError, match="give a labelmap of it, not the image"):
        read_corrected(tmp_path / "image.nii.gz", read_volume(tmp_path / "image.nii.gz"), HEART)
