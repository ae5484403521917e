"""Studies on disk, read as the stack that is meant; many studies in one folder; what the command line says of them."""

from __future__ import annotations

import gc
import json
import pickle
import zipfile
from pathlib import Path

import cine_study
import numpy as np
import pydicom
import pytest
from cine_study import (
    REPEATED,
    SLICES,
    axes_of,
    into_series,
    move,
    pixels_of,
    series_per_slice,
    set_pixels,
    uid_of,
    write,
)
from pydicom.uid import RLELossless
from remembered import remembered

from dinsegment.dicom.read.header import Header
from dinsegment.dicom.read.parts import split_studies
from dinsegment.errors import InputError
from dinsegment.images import read_volumes
from dinsegment.inference import load_model, segment
from dinsegment.studies.folders import plan_studies
from dinsegment.studies.study import Study, load_study
from dinsegment.tasks import ABDOMEN, HEART

PHASES = (0, 8)


@pytest.fixture(scope="module")
def whole(original, tmp_path_factory):
    """The single series that the studies are made of."""
    return read_volumes(write([cine_study.whole_series(original)], tmp_path_factory.mktemp("whole")))


def refusal(path: Path, *arguments: object) -> str:
    with pytest.raises(InputError) as caught:
        read_volumes(path, *arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def same(volumes, others) -> bool:
    return len(volumes) == len(others) and all(
        np.array_equal(one.array, other.array) and np.allclose(one.ijk_to_ras, other.ijk_to_ras, atol=1e-9)
        for one, other in zip(volumes, others, strict=True)
    )


def test_the_whole_cine_of_a_study_is_the_series_it_was_made_of(sunnybrook_folder, tmp_path):
    """12 series of 20 phases, one repeated, two long axes, a localizer, late enhancement: voxels, places, instances."""
    rows = cine_study.read_cine(sunnybrook_folder)
    volumes = read_volumes(write(cine_study.study_of(rows), tmp_path / "study"), None, HEART)
    expected = read_volumes(sunnybrook_folder)
    assert len(volumes) == 20 and same(volumes, expected)
    assert [volume.time_ms for volume in volumes] == [volume.time_ms for volume in expected]
    for volume, other in zip(volumes, expected, strict=True):
        for k, (mine, its) in enumerate(zip(volume.dicom.headers, other.dicom.headers, strict=True)):
            assert mine.SeriesInstanceUID == uid_of(150 if k == REPEATED else 101 + k)
            assert np.allclose(np.array(mine.ImagePositionPatient, float), np.array(its.ImagePositionPatient, float))
            assert mine.TriggerTime == its.TriggerTime
    left_out, repeated = volumes[0].warnings
    assert "is read; not read: 'localizer'" in left_out and "late enhancement" in left_out
    assert "slice 5 was acquired twice" in repeated and "series 105" in repeated


@pytest.fixture(scope="module")
def model():
    """The heart's model, which knows what it has said of slices: those of all studies here are the same."""
    return remembered(load_model(None, HEART))


@pytest.fixture
def loaded(model, monkeypatch):
    """It is loaded already."""
    monkeypatch.setattr("dinsegment.cli_segment.load", lambda *_: model)


def test_the_labels_are_the_same(study, whole, model):
    volumes = read_volumes(study, None, HEART)
    for volume, expected in zip(volumes[:1], whole[:1], strict=True):
        mine, its = (segment(one, HEART, model, "cpu").labels for one in (volume, expected))
        assert its.any() and np.array_equal(mine, its)


@pytest.mark.parametrize("how", ["compressed", "compressed, other UIDs", "other header", "other UIDs for all"])
def test_a_study_that_was_exported_twice_is_read_once(how, rows, whole, tmp_path):
    series = series_per_slice(rows)
    again = cine_study.a_copy(series)
    for image in (image for images in again for image in images):
        if how.startswith("compressed"):
            image.compress(RLELossless, generate_instance_uid="UIDs" in how)
        elif how == "other header":
            image.InstitutionName = "Second archive"
        else:
            image.SeriesInstanceUID += ".9"
            image.SOPInstanceUID += ".9"
    write(again, tmp_path / "a")
    write(series, tmp_path / "b")
    volumes = read_volumes(tmp_path, None, HEART)
    assert same(volumes, whole)
    said = " ".join(volumes[0].warnings)
    assert ("there twice" if "all" in how else "has the same image as") in said and len(said) < 1000


def test_images_that_a_careless_anonymisation_gave_one_uid_are_no_copies(rows, whole, tmp_path):
    series = [cine_study.whole_series(rows)]
    for image in series[0]:
        image.SOPInstanceUID = "1.2.3"
    assert same(read_volumes(write(series, tmp_path), None, HEART), whole)


def test_what_the_headers_say_of_the_patient(study):
    (patient,) = {volume.patient for volume in read_volumes(study, None, HEART)}
    assert (patient.sex, patient.height_m, patient.weight_kg) == ("F", 1.68, 61)
    assert patient.age_years == pytest.approx(61.75, abs=0.1) and patient.heart_rate_bpm == pytest.approx(79, abs=1)


def test_trigger_times_that_are_all_zero_are_no_times(rows, tmp_path):
    series = series_per_slice(rows)
    for image in (image for images in series for image in images):
        image.TriggerTime, image.NominalCardiacTriggerDelayTime = "0", 0.0
    assert [volume.time_ms for volume in read_volumes(write(series, tmp_path), None, HEART)] == [None, None]


def test_too_few_slices_are_named(rows, tmp_path):
    text = refusal(write(series_per_slice(rows[4:6]), tmp_path), None, HEART)
    assert "no 3 slices that make up a short-axis cine" in text and "series 101" in text and "series 102" in text


def test_a_cine_that_is_no_short_axis_is_the_first_that_is_named(rows, tmp_path):
    axial = series_per_slice(rows, 301)
    for k, images in enumerate(axial):
        for image in images:
            image.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
            image.ImagePositionPatient = cine_study.decimals([-170, -170, 8.0 * k])
    others = [cine_study.localizer(rows, number) for number in range(1, 11)]
    text = refusal(write([*axial, *others], tmp_path), None, HEART)
    assert "none of which is a short-axis cine" in text and ": 'axial cine' (12 slices x 2 phases" in text


def test_without_a_task_the_series_are_listed(study):
    text = refusal(study)
    assert "17 DICOM series" in text and uid_of(90) in text and "make up 'short-axis cine'" in text


def test_without_a_task_series_that_are_nothing_but_one_stack_are_read(rows, whole, tmp_path):
    assert same(read_volumes(write(series_per_slice(rows), tmp_path)), whole)


@pytest.mark.parametrize("how", ["name", "other case", "UIDs"])
def test_a_stack_is_chosen(how, study, whole):
    uids = [uid_of(150 if k == REPEATED else 101 + k) for k in range(SLICES)]
    wanted = {"name": "short-axis cine", "other case": "Short-Axis Cine", "UIDs": ",".join(reversed(uids))}[how]
    assert same(read_volumes(study, wanted), whole)


def test_the_earlier_acquisition_stays_choosable(study, whole):
    volumes = read_volumes(study, ",".join(uid_of(101 + k) for k in range(SLICES)))
    differs = [k for k in range(SLICES) if not np.array_equal(volumes[0].array[k], whole[0].array[k])]
    assert differs == [REPEATED] and volumes[0].warnings == ()


def test_one_series_is_chosen_as_ever(study):
    volumes = read_volumes(study, uid_of(90), HEART)
    assert volumes[0].shape[0] == 1 and len(volumes) == len(PHASES)
    assert read_volumes(study, "psir_sax", HEART)[0].shape == (SLICES, 256, 256)


@pytest.mark.parametrize("wanted", ["1.2.3", f"{uid_of(101)},1.2.3", "nonsense", ",", ""])
def test_what_is_not_there_is_said(wanted, study):
    text = refusal(study, wanted, HEART)
    assert "no DICOM series" in text and uid_of(90) in text and "short-axis cine" in text


def test_series_that_make_up_no_stack(study):
    text = refusal(study, f"{uid_of(90)},{uid_of(200)}", HEART)
    assert "make up no one stack" in text and "long-axis cine" in text and "late enhancement" in text


def test_several_cines_are_listed(rows, tmp_path):
    again = [cine_study.repeated(row, 301 + k, at=f"09{k:02d}00") for k, row in enumerate(series_per_slice(rows))]
    folder = write([*series_per_slice(rows), *again], tmp_path)
    text = refusal(folder, None, HEART)
    assert "2 stacks" in text and "series 101-112" in text and "series 301-312" in text and "--series best" in text
    assert read_volumes(folder, "short-axis cine 2")[0].dicom.headers[0].SeriesInstanceUID == uid_of(301)
    assert "is read; not read" in read_volumes(folder, "best", HEART)[0].warnings[0]


def test_without_a_short_axis_cine(rows, tmp_path):
    folder = write([cine_study.long_axis(rows, 90), cine_study.late_enhancement(rows, 200)], tmp_path)
    text = refusal(folder, None, HEART)
    assert "none of which is a short-axis cine" in text and "long-axis cine" in text and "'psir_sax'" in text


def test_a_slice_that_is_missing(rows, tmp_path):
    series = series_per_slice(rows)
    folder = write([*series[:5], *series[6:], cine_study.localizer(rows, 1)], tmp_path)
    text = refusal(folder, None, HEART)
    assert "'short-axis cine'" in text and "20 mm apart" in text and "missing" in text


@pytest.mark.parametrize("layout", ["per phase", "odd and even", "mixture", "enhanced"])
def test_other_ways_in_which_a_stack_is_stored(layout, rows, whole, tmp_path):
    series = {
        "per phase": lambda: cine_study.series_per_phase(rows),
        "odd and even": lambda: [cine_study.whole_series(rows[::2], 7), cine_study.whole_series(rows[1::2], 8)],
        "mixture": lambda: [
            cine_study.whole_series(rows[:8], 7), *series_per_slice(rows[8:11]), [cine_study.enhanced(rows[11], 9)]
        ],
        "enhanced": lambda: [[cine_study.enhanced(row, 101 + k)] for k, row in enumerate(rows)],
    }[layout]()  # fmt: skip
    folder = write(series, tmp_path)
    if layout == "per phase":  # three phases and more of a heart are a movement; two are, if they are whole
        assert len(series) == 2
    volumes = read_volumes(folder, None, HEART)
    assert same(volumes, whole)
    assert np.allclose([v.time_ms for v in volumes], [v.time_ms for v in whole])


@pytest.mark.parametrize("turn", ["sagittal", "coronal", "mirrored"])
def test_patients_that_lie_in_another_way(turn, rows, whole, tmp_path):
    row, column = axes_of(rows[0][0])
    basis = np.array([row, column, np.cross(row, column)])
    target = {
        "sagittal": np.array([[0, 1, 0], [0, 0, -1], [-1, 0, 0]]),
        "coronal": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]),
        "mirrored": basis * [-1, 1, 1] * [[1], [1], [-1]],
    }[turn]
    rotation = target.T @ basis
    series = series_per_slice(rows)
    for image in (image for images in series for image in images):
        image.ImagePositionPatient = cine_study.decimals(rotation @ np.array(image.ImagePositionPatient, float))
        image.ImageOrientationPatient = cine_study.decimals((rotation @ axes_of(image).T).T.ravel())
    volumes = read_volumes(write(series, tmp_path), None, HEART)
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag([-1, -1, 1]) @ rotation @ np.diag([-1, -1, 1])
    for volume, expected in zip(volumes, whole, strict=True):
        assert np.array_equal(volume.array, expected.array)
        assert np.allclose(volume.ijk_to_ras, matrix @ expected.ijk_to_ras, atol=1e-5)


def test_a_stack_whose_apex_is_first(rows, whole, tmp_path):
    """Images that are mirrored have their normal the other way."""
    series = series_per_slice(rows)
    for image in (image for images in series for image in images):
        row, column = axes_of(image)
        set_pixels(image, pixels_of(image)[:, ::-1])
        move([image], 255 * 1.367188 * row)
        image.ImageOrientationPatient = cine_study.decimals([*(-row), *column])
    volumes = read_volumes(write(series, tmp_path), None, HEART)
    flip = np.diag([-1.0, 1, -1, 1])
    flip[0, 3], flip[2, 3] = 255, SLICES - 1
    for volume, expected in zip(volumes, whole, strict=True):
        assert np.array_equal(volume.array[::-1, :, ::-1], expected.array)
        assert np.allclose(volume.ijk_to_ras @ flip, expected.ijk_to_ras, atol=1e-3)


def test_series_that_are_no_slices_stop_nothing_and_are_named(rows, whole, tmp_path):
    """A photograph, a mosaic, an image without a place, one of several frames that says nothing of them."""
    strange = [into_series(cine_study.a_copy(rows[0][:1]), number, f"odd {number}") for number in (500, 501, 502, 503)]
    (colour,), (mosaic,), (nowhere,), (frames,) = strange
    colour.SamplesPerPixel, colour.PhotometricInterpretation, colour.PlanarConfiguration = 3, "RGB", 0
    colour.BitsAllocated, colour.BitsStored, colour.HighBit, colour.PixelRepresentation = 8, 8, 7, 0
    colour.PixelData = bytes(256 * 256 * 3)
    mosaic.ImageType = ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]
    del nowhere.ImagePositionPatient
    frames.NumberOfFrames, frames.PixelData = 3, frames.PixelData * 3
    volumes = read_volumes(write([*series_per_slice(rows), *strange], tmp_path), None, HEART)
    assert same(volumes, whole)
    for number in (500, 501, 502, 503):
        assert f"'odd {number}'" in volumes[0].warnings[0]
    assert "mosaic" in refusal(tmp_path, "odd 501") and "where in the patient" in refusal(tmp_path, "odd 502")
    assert "colour" in refusal(tmp_path, uid_of(500))


def test_slices_that_moved_are_placed_at_the_nearest_pixel(rows, whole, tmp_path):
    series = series_per_slice(rows)
    row, column = axes_of(rows[0][0])
    spacing = 1.367188
    move(series[2], (2 * row - 3 * column) * spacing + 0.3 * row)
    volumes = read_volumes(write(series, tmp_path), None, HEART)
    for volume, expected in zip(volumes, whole, strict=True):
        assert np.array_equal(np.delete(volume.array, 2, 0), np.delete(expected.array, 2, 0))
        assert np.array_equal(volume.array[2, :-3, 2:], expected.array[2, 3:, :-2])
        low = min(volume.array[k].min() for k in range(SLICES))
        assert (volume.array[2, -3:] == low).all() and (volume.array[2, :, :2] == low).all()
    # What is exported is put where the headers say that it lies.
    place = np.array(volumes[0].dicom.headers[2].ImagePositionPatient, float)
    assert np.allclose(place, np.array(series[2][0].ImagePositionPatient, float))
    assert "nearest pixel" in volumes[0].warnings[0]


def test_matrices_that_differ_are_padded_and_cropped(rows, whole, tmp_path):
    series = series_per_slice(rows)
    row, column = axes_of(rows[0][0])
    for image in series[3]:
        set_pixels(image, pixels_of(image)[16:240, 8:])
        move([image], 1.367188 * (8 * row + 16 * column))
    for image in series[7]:
        set_pixels(image, np.pad(pixels_of(image), 10, mode="reflect"))
        move([image], -1.367188 * 10 * (row + column))
    volumes = read_volumes(write(series, tmp_path), None, HEART)
    for volume, expected in zip(volumes, whole, strict=True):
        assert volume.shape == expected.shape and np.allclose(volume.ijk_to_ras, expected.ijk_to_ras, atol=1e-3)
        assert np.array_equal(np.delete(volume.array, 3, 0), np.delete(expected.array, 3, 0))
        assert np.array_equal(volume.array[3, 16:240, 8:], expected.array[3, 16:240, 8:])
        assert (volume.array[3, :16] == volume.array.min()).all()
    assert "248 x 224" in volumes[0].warnings[0] and "276 x 276" in volumes[0].warnings[0]


def test_series_that_differ_in_their_rescale(rows, whole, tmp_path):
    series = series_per_slice(rows)
    for image in series[4]:
        image.RescaleSlope, image.RescaleIntercept = "2", "-10"
    for image in series[6]:
        image.RescaleSlope, image.RescaleIntercept = "0.5", "0"
    volumes = read_volumes(write(series, tmp_path), None, HEART)
    for volume, expected in zip(volumes, whole, strict=True):
        factor, offset = np.ones(SLICES), np.zeros(SLICES)
        factor[4], offset[4], factor[6] = 2, -10, 0.5
        assert np.array_equal(volume.array, expected.array * factor[:, None, None] + offset[:, None, None])


def test_a_phase_that_is_missing_is_that_of_the_nearest_time(sunnybrook_folder, tmp_path):
    rows = cine_study.read_cine(sunnybrook_folder, range(4), range(4, 12))
    expected = read_volumes(write([cine_study.whole_series(rows)], tmp_path / "whole"))
    series = series_per_slice(rows)
    del series[1][3]
    volumes = read_volumes(write(series, tmp_path / "study"), None, HEART)
    assert len(volumes) == 8 and "series 102" in volumes[0].warnings[0] and "7 phases" in volumes[0].warnings[0]
    for phase, (volume, other) in enumerate(zip(volumes, expected, strict=True)):
        equal = [np.array_equal(volume.array[k], other.array[k]) for k in range(4)]
        assert equal == [True, phase != 3, True, True]
    neighbours = [np.array_equal(volumes[3].array[1], expected[phase].array[1]) for phase in (2, 4)]
    assert sum(neighbours) == 1


def test_a_series_in_which_long_axis_slices_lie_among_the_others(rows, whole, tmp_path):
    everything = [*(image for row in rows for image in row), *cine_study.long_axis(rows, 1)]
    for number, image in enumerate(everything, 1):
        image.InstanceNumber = number
    folder = write([into_series(everything, 7, "all cines")], tmp_path)
    assert "mixes orientations" in refusal(folder)
    volumes = read_volumes(folder, None, HEART)
    assert same(volumes, whole) and "long-axis cine" in volumes[0].warnings[0]


def test_a_whole_series_whose_slices_moved(rows, whole, tmp_path):
    images = cine_study.whole_series(rows)
    move(images[2:4], 3 * 1.367188 * axes_of(rows[0][0])[0])  # both phases of the second slice
    folder = write([images], tmp_path)
    assert "shifted sideways" in refusal(folder)
    volumes = read_volumes(folder, None, HEART)
    assert np.array_equal(volumes[0].array[1, :, 3:], whole[0].array[1, :, :-3])


def test_a_study_in_an_archive(study, whole, tmp_path):
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for file in study.iterdir():
            archive.write(file, f"DICOM/{file.name}")
    assert same(read_volumes(tmp_path / "study.zip", None, HEART), whole)


@pytest.mark.parametrize("damage", ["cut", "header only", "other size"])
def test_a_damaged_image_is_one_sentence(damage, rows, tmp_path):
    folder = write(series_per_slice(rows), tmp_path)
    file = sorted(folder.iterdir())[7]
    if damage == "other size":
        image = pydicom.dcmread(file)
        image.PixelData = image.PixelData[:-1000]
        image.save_as(file)
    else:
        file.write_bytes(file.read_bytes()[: -5000 if damage == "cut" else 900])
    assert file.name in refusal(folder, None, HEART)


def ct_series(folder: Path, number: int, description: str, **tags: object) -> list[pydicom.Dataset]:
    """The CT as a series of one study."""
    images = [pydicom.dcmread(path) for path in sorted(folder.glob("CT.*"))]
    for place, image in enumerate(images, 1):
        image.SOPClassUID, image.StudyInstanceUID = "1.2.840.10008.5.1.4.1.1.2", cine_study.ROOT + ".8"
        image.SeriesInstanceUID, image.SeriesNumber = f"{cine_study.ROOT}.8.{number}", number
        image.SOPInstanceUID, image.SeriesDescription = f"{cine_study.ROOT}.8.{number}.{place}", description
        image.PatientID = "CT1"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        for keyword, value in tags.items():
            setattr(image, keyword, value)
    return images


@pytest.fixture(scope="module")
def ct_study(totalsegmentator_folder, tmp_path_factory):
    """Arterial and portal venous, a lung kernel, thick slices and a topogram."""
    scout = ct_series(totalsegmentator_folder, 1, "Topogram", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])[:1]
    return write(
        [
            scout,
            ct_series(totalsegmentator_folder, 2, "Abdomen arteriell 3.0"),
            ct_series(totalsegmentator_folder, 3, "Abdomen portalvenös 3.0", SpecificCharacterSet="ISO_IR 100"),
            ct_series(totalsegmentator_folder, 4, "Thorax Lunge 1.0", ConvolutionKernel="Bl57f", SliceThickness="1"),
            ct_series(totalsegmentator_folder, 5, "Abdomen 10.0", SliceThickness="10"),
        ],
        tmp_path_factory.mktemp("ct"),
    )


def test_of_several_cts_the_best_is_proposed_and_not_taken(ct_study):
    text = refusal(ct_study, None, ABDOMEN)
    assert "'Abdomen portalvenös 3.0' is proposed" in text and "Thorax Lunge" in text and "--series best" in text
    (volume,) = read_volumes(ct_study, "best", ABDOMEN)
    assert volume.dicom.headers[0].SeriesNumber == 3 and "'Abdomen portalvenös 3.0'" in volume.warnings[0]
    assert read_volumes(ct_study, "Thorax Lunge 1.0", ABDOMEN)[0].dicom.headers[0].SeriesNumber == 4


def test_the_only_ct_for_organs_is_taken_and_said(ct_study, tmp_path):
    for file in ct_study.iterdir():
        if not file.name.startswith("0002"):
            (tmp_path / file.name).symlink_to(file)
    (volume,) = read_volumes(tmp_path, None, ABDOMEN)
    assert volume.dicom.headers[0].SeriesNumber == 3
    assert "'Abdomen portalvenös 3.0'" in volume.warnings[0].partition("is read")[0]
    assert "Thorax Lunge" in volume.warnings[0].partition("not read")[2]


def test_the_command_line_lists_what_is_there(run, study, ct_study, rows, tmp_path):
    code, printed, errors = run("series", study)
    assert code == 0 and "ID1, 20120101" in printed and "slice 5 was acquired twice" in errors
    (line,) = [line for line in printed.splitlines() if "short-axis cine" in line and "heart" in line]
    for cell in ("101-104, 106-112, 150", f"{SLICES} x {len(PHASES)}", "10 x 1.37 x 1.37"):
        assert cell in line
    assert "105" in next(line for line in printed.splitlines() if "repeated later" in line)
    code, printed, _ = run("series", ct_study, "--json")
    (content,) = json.loads(printed)
    assert {stack["name"]: stack["proposed_for"] for stack in content["stacks"] if stack["proposed_for"]} == {
        "Abdomen portalvenös 3.0": ["abdomen"]
    }
    gap = write([row for k, row in enumerate(series_per_slice(rows)) if k != 6], tmp_path / "gap")
    code, printed, errors = run("series", gap)
    assert code == 0 and "see below" in printed and "20 mm apart" in errors and "are taken as" not in errors
    assert run("series", tmp_path / "nowhere")[0] == 2


def test_a_damaged_file_hides_no_other_in_the_list(run, rows, tmp_path):
    write(series_per_slice(rows)[:6], tmp_path)
    (tmp_path / "broken.dcm").write_bytes(b"nothing")
    code, printed, errors = run("series", tmp_path)
    assert code == 0 and "6 x 2" in printed and "broken.dcm" in errors and "not in the list" in errors
    code, printed, errors = run("series", tmp_path, "--json")
    assert code == 0 and "broken.dcm" in errors and len(json.loads(printed)) == 1
    for file in tmp_path.iterdir():
        file.write_bytes(b"nothing")
    assert run("series", tmp_path)[0] == 2


@pytest.mark.parametrize(
    ("keyword", "words"),
    [
        ("ImageOrientationPatient", "no usable ImageOrientationPatient"),
        ("PixelSpacing", "no usable PixelSpacing"),
        ("Modality", "do not say their modality"),
    ],
)
def test_the_list_says_why_it_is_not_known_what_images_are(keyword, words, run, totalsegmentator_folder, tmp_path):
    images = ct_series(totalsegmentator_folder, 5, "CT Body")
    for image in images:
        delattr(image, keyword)
    code, printed, errors = run("series", write([images], tmp_path))
    assert code == 0 and "other" in printed
    assert "It is not known what 'CT Body' shows" in errors and words in errors


def test_a_ct_that_was_broken_off_is_not_proposed_before_the_whole_one(run, totalsegmentator_folder, tmp_path):
    first, again = (ct_series(totalsegmentator_folder, number, f"CT {number}") for number in (5, 6))
    write([first[:12], again], tmp_path)
    assert "'CT 6' is proposed" in refusal(tmp_path, None, ABDOMEN)
    _, printed, _ = run("series", tmp_path)
    assert "CT 6" in next(line for line in printed.splitlines() if "proposed" in line)


def test_a_volume_of_images_that_name_two_patients_is_warned_of(totalsegmentator_folder, tmp_path):
    images = ct_series(totalsegmentator_folder, 5, "CT Body")
    (volume,) = read_volumes(write([images], tmp_path / "one"))
    assert not any("Patient ID" in warning for warning in volume.warnings)
    for image in images[10:]:
        image.PatientID = "CT2"
    (volume,) = read_volumes(write([images], tmp_path / "two"))
    assert ["2 different Patient IDs" in warning for warning in volume.warnings].count(True) == 1


def test_the_command_line_segments_the_one_cine(run, loaded, study, whole, tmp_path):
    code, _, errors = run("segment", study, "--task", "heart", "--output", tmp_path / "OUT", "--device", "cpu")
    assert code == 0 and "is read; not read" in errors and "series 105" in errors
    content = json.loads((tmp_path / "OUT" / "measurements.json").read_text(encoding="utf-8"))
    assert len(content["phases"]) == len(PHASES) and "not read" in " ".join(content["warnings"])
    uids = [uid_of(101 + k) for k in range(SLICES) if k != REPEATED]
    code, _, errors = run(
        "segment", study, "--task", "heart", "--output", tmp_path / "OUT2", "--series", ",".join(uids[:6]),
        "--series", uids[6],
    )  # fmt: skip
    assert code == 2 and "mm apart" in errors and not (tmp_path / "OUT2").exists()


class TestManyStudies:
    @pytest.fixture
    def studies(self, original, totalsegmentator_folder, tmp_path) -> Path:
        """Two hearts, one of them with two studies in one folder, and a CT."""
        folder = tmp_path / "ARCHIVE"
        for study, (patient, day, place) in enumerate(
            [("P1", "20120101", "one/DICOM"), ("P2", "20120101", "two"), ("P2", "20130101", "two")], 2
        ):
            series = [into_series(cine_study.a_copy(row), 101 + k, "cine", study) for k, row in enumerate(original)]
            for image in (image for images in series for image in images):
                image.PatientID, image.StudyDate = patient, day
            write(series, folder / place, lambda image: f"{image.SOPInstanceUID}.dcm")
        write([ct_series(totalsegmentator_folder, 2, "CT")], folder / "three")
        return folder

    def test_each_is_found_with_its_files(self, studies):
        parts, lost = split_studies(studies)
        assert [part.name for part in parts] == ["P2_20120101", "P2_20130101", "DICOM", "three"] or [
            part.name for part in parts
        ] == sorted(part.name for part in parts)
        assert {part.name: len(part.files) for part in parts} == {
            "DICOM": 24, "P2_20120101": 24, "P2_20130101": 24, "three": 20
        }  # fmt: skip
        assert lost == [] and not any(part.is_alone or part.headers for part in parts)

    def test_each_is_a_study_of_its_own(self, studies, whole, tmp_path):
        parts, _ = split_studies(studies)
        plan = plan_studies([(studies, part) for part in parts], tmp_path / "OUT")
        assert [study.folder.name for study in plan] == [part.name for part in parts]
        for study in plan:
            if study.folder.name == "three":
                with pytest.raises(InputError, match="none of which is a short-axis cine") as caught:
                    load_study(study, HEART)
                assert str(studies / "three") in str(caught.value)
            else:
                assert same(load_study(pickle.loads(pickle.dumps(study)), HEART), whole)
        assert load_study(plan[-1], ABDOMEN)[0].shape == (20, 512, 512)

    def test_the_command_line_does_one_after_the_other_and_goes_on(self, run, loaded, studies, tmp_path):
        command = ("segment", studies, "--task", "heart", "--output", tmp_path / "OUT", "--device", "cpu")
        code, _, errors = run(*command)
        assert code == 2 and errors.count("Error: ") == 1 and "three" in errors
        done = sorted(path.parent.name for path in (tmp_path / "OUT").glob("*/measurements.json"))
        assert done == ["DICOM", "P2_20120101", "P2_20130101"]
        table = (tmp_path / "OUT" / "studies.csv").read_text(encoding="utf-8")
        assert table.count(",done,") == 3 and table.count(",failed,") == 1
        code, _, _ = run(*command)
        assert (
            code == 2
            and (tmp_path / "OUT" / "studies.csv").read_text(encoding="utf-8").count("Its results are complete") == 3
        )

    def test_a_damaged_file_stops_its_own_study_alone(self, studies, whole, tmp_path):
        (studies / "one/DICOM/broken.dcm").write_bytes(b"nothing")
        (studies / "two/broken.dcm").write_bytes(b"nothing")
        parts, lost = split_studies(studies)
        assert lost == [studies / "two/broken.dcm"]
        for part in parts:
            study = Study(studies, tmp_path / part.name, part=part)
            if part.name == "DICOM":
                with pytest.raises(InputError, match=r"broken\.dcm"):
                    load_study(study, HEART)
            elif part.name != "three":
                assert same(load_study(study, HEART), whole)

    def test_a_folder_of_one_study_is_taken_as_a_whole_and_read_once(self, study, whole, tmp_path, monkeypatch):
        from dinsegment.dicom.read import headers

        parts, lost = split_studies(study)
        assert lost == [] and len(parts) == 1 and parts[0].is_alone and parts[0].where == study
        monkeypatch.setattr(headers, "read_header", lambda file: pytest.fail("A header is read twice."))
        volumes = load_study(Study(study, tmp_path / "OUT", part=parts[0]), HEART)
        assert same(volumes, whole) and volumes[0].name == f"{study.name} phase 01"
        assert parts[0].headers == []

    def test_one_series_whose_images_name_several_studies_is_one(self, rows, tmp_path):
        images = cine_study.whole_series(rows)
        for number, image in enumerate(images):
            image.StudyInstanceUID = f"1.2.3.{number}"
        parts, _ = split_studies(write([images], tmp_path))
        assert len(parts) == 1 and parts[0].is_alone


def test_a_series_of_which_an_image_lost_its_rescaling(rows, tmp_path):
    series = series_per_slice(rows)
    series[4][0].RescaleSlope, series[4][0].RescaleIntercept = "2", "-10"
    assert "rescaled and raw pixels in series 105" in refusal(write(series, tmp_path), None, HEART)


def test_headers_of_many_studies_are_not_kept(original, tmp_path):
    for study in (2, 3, 4):
        series = [into_series(cine_study.a_copy(row), 101 + k, "cine", study) for k, row in enumerate(original[:2])]
        write(series, tmp_path / "all", lambda image: f"{image.SOPInstanceUID}.dcm")
    alive: list[int] = []

    def headers() -> int:
        return sum(isinstance(one, Header) for one in gc.get_objects())

    gc.collect()
    before = headers()  # of other tests

    def count(done: int, _of: int) -> None:
        if done % 6 == 5:
            alive.append(headers() - before)

    parts, _ = split_studies(tmp_path / "all", count)
    assert len(alive) == 2 and max(alive) <= 5
    assert [part.headers for part in parts] == [[], [], []]
    assert [part.name for part in parts] == ["ID1_20120101", "ID1_20120101_2", "ID1_20120101_3"]
    assert len({part.where for part in parts}) == 3
