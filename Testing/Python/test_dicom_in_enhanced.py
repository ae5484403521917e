"""Enhanced images: many frames in one file, each with its place and time in the functional groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_cases import OBLIQUE, SERIES, Series, decimals, enhanced, headers, pixels
from highdicom.legacy import LegacyConvertedEnhancedCTImage, LegacyConvertedEnhancedMRImage
from pydicom import Dataset, FileDataset
from pydicom.uid import EnhancedCTImageStorage

from dinsegment.errors import InputError
from dinsegment.images import read_volume, read_volumes

SAX = SERIES["oblique"]


def write(path: Path, image: FileDataset) -> Path:
    image.save_as(path, enforce_file_format=True)
    return path


def reorder(image: FileDataset, order: np.ndarray) -> None:
    """Puts the frames into another order, with their pixels."""
    groups = image.PerFrameFunctionalGroupsSequence
    image.PerFrameFunctionalGroupsSequence = [groups[n] for n in order]
    image.PixelData = frames(image)[order].tobytes()


def frames(image: FileDataset) -> np.ndarray:
    return np.frombuffer(image.PixelData, "<i2").reshape(-1, image.Rows, image.Columns)


def groups(image: FileDataset) -> list[Dataset]:
    return list(image.PerFrameFunctionalGroupsSequence)


def add(group: Dataset, macro: str, **values: object) -> None:
    """Adds attributes to a functional group."""
    if macro not in group:
        setattr(group, macro, [Dataset()])
    for keyword, value in values.items():
        setattr(group[macro].value[0], keyword, value)


def fails(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_volumes(path)
    text = str(caught.value)
    assert all(word in text.replace(str(path), "") for word in words), text
    assert "\n" not in text


@pytest.mark.parametrize("kind", SERIES)
def test_slices_in_any_order_of_frames_are_in_their_places(kind, tmp_path):
    series = SERIES[kind]
    image = enhanced(series)
    order = np.random.default_rng(3).permutation(series.shape[0])
    if series.shape[0] == 1:
        image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = "8"
    reorder(image, order)
    volume = read_volume(write(tmp_path / "image.dcm", image))
    assert np.array_equal(volume.array, pixels(series))
    assert np.allclose(volume.ijk_to_ras, series.ijk_to_ras, atol=1e-6)
    assert volume.dicom.frames == tuple(np.argsort(order) + 1)
    assert len(volume.dicom.headers) == 1
    assert volume.dicom.headers[0].SOPInstanceUID == image.SOPInstanceUID and "PixelData" not in volume.dicom.headers[0]


TIMES = {
    "NominalCardiacTriggerDelayTime": ("CardiacSynchronizationSequence", lambda phase: 12.5 + 30 * phase),
    "TemporalPositionTimeOffset": ("TemporalPositionSequence", lambda phase: 0.04 * phase),
    "TemporalPositionIndex": ("FrameContentSequence", lambda phase: phase + 1),
    "FrameReferenceDateTime": ("FrameContentSequence", lambda phase: f"20240229101112.{phase:02d}5000+0100"),
    "FrameAcquisitionDateTime": ("FrameContentSequence", lambda phase: f"2024022910111{phase}"),
    "FrameAcquisitionNumber": ("FrameContentSequence", lambda phase: phase + 7),
}


@pytest.mark.parametrize("keyword", TIMES)
def test_phases_are_told_apart_by_what_there_is(keyword, tmp_path):
    image = enhanced(SAX, 3)
    macro, value = TIMES[keyword]
    for n, group in enumerate(groups(image)):
        del group.FrameContentSequence[0].TemporalPositionIndex
        add(group, macro, **{keyword: value(n % 3)})
    order = np.random.default_rng(5).permutation(12)
    reorder(image, order)
    phases = read_volumes(write(tmp_path / "cine.dcm", image))
    assert [volume.name for volume in phases] == ["cine phase 01", "cine phase 02", "cine phase 03"]
    for phase, volume in enumerate(phases):
        assert np.array_equal(volume.array, pixels(SAX, phase))
        assert np.allclose(volume.ijk_to_ras, SAX.ijk_to_ras, atol=1e-6)
        assert volume.dicom.frames == tuple(np.argsort(order)[phase::3] + 1)


def test_pixel_values_are_transformed_frame_by_frame(tmp_path):
    image = enhanced(SERIES["CT"])
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    for k, group in enumerate(groups(image)):
        add(group, "PixelValueTransformationSequence", RescaleSlope=k + 0.5, RescaleIntercept=-100 * k)
    k = np.arange(5)[:, None, None]
    expected = pixels(SERIES["CT"]) * (k + 0.5) - 100 * k
    volume = read_volume(write(tmp_path / "image.dcm", image))
    assert np.array_equal(volume.array, expected) and volume.modality == "CT"


@pytest.mark.parametrize(
    "kind, convert", [("CT", LegacyConvertedEnhancedCTImage), ("oblique", LegacyConvertedEnhancedMRImage)]
)
def test_classic_images_that_an_archive_has_converted(kind, convert, tmp_path, monkeypatch):
    monkeypatch.setattr(pydicom.config, "datetime_conversion", True)  # what highdicom 0.27 expects of images
    made = convert(headers(SERIES[kind]), "1.2.3", 1, "1.2.3.4", 1)
    volume = read_volume(write(tmp_path / "image.dcm", made))
    rescaled = pixels(SERIES[kind]) - (1024.0 if kind == "CT" else 0)
    assert np.array_equal(volume.array, rescaled)
    assert np.allclose(volume.ijk_to_ras, SERIES[kind].ijk_to_ras, atol=1e-6)


def test_phases_in_a_file_each(tmp_path):
    for phase in range(2):
        image = enhanced(SAX)
        image.SeriesInstanceUID, image.InstanceNumber = "1.2.3", 9 - phase
        image.PixelData = pixels(SAX, phase).tobytes()
        for group in groups(image):
            del group.FrameContentSequence[0].TemporalPositionIndex
        write(tmp_path / f"{phase}.dcm", image)
    phases = read_volumes(tmp_path)
    assert [np.array_equal(v.array, pixels(SAX, 1 - n)) for n, v in enumerate(phases)] == [True, True]
    assert all(volume.dicom.frames == (1, 2, 3, 4) for volume in phases)


def test_slices_in_a_file_each_make_up_volumes(tmp_path):
    for k in range(SAX.shape[0]):
        image = enhanced(SAX, 2)
        image.SeriesInstanceUID, image.NumberOfFrames = "1.2.3", 2
        image.PerFrameFunctionalGroupsSequence = groups(image)[2 * k : 2 * k + 2]
        image.PixelData = np.stack([pixels(SAX, phase)[k] for phase in range(2)]).tobytes()
        write(tmp_path / f"{9 - k}.dcm", image)
    for phase, volume in enumerate(read_volumes(tmp_path)):
        assert np.array_equal(volume.array, pixels(SAX, phase))
        assert volume.dicom.frames == (phase + 1,) * SAX.shape[0]
        assert len({header.SOPInstanceUID for header in volume.dicom.headers}) == SAX.shape[0]


def test_two_stacks_that_continue_each_other_are_one_volume(tmp_path):
    image = enhanced(SAX)
    for k, group in enumerate(groups(image)):
        group.FrameContentSequence[0].StackID = str(k // 2)
    assert read_volume(write(tmp_path / "image.dcm", image)).shape == SAX.shape


class TestRefused:
    def test_stacks_in_several_directions(self, tmp_path):
        image = enhanced(SAX)
        for group in groups(image)[2:]:
            add(group, "PlaneOrientationSequence", ImageOrientationPatient=decimals([1, 0, 0, 0, 1, 0]))
        fails(write(tmp_path / "image.dcm", image), "mixes orientations, 2 of its 4 images", "frame 1 of image.dcm")

    def test_a_missing_slice(self, tmp_path):
        image = enhanced(SAX)
        image.PixelData, image.NumberOfFrames = frames(image)[[0, 1, 3]].tobytes(), 3
        del image.PerFrameFunctionalGroupsSequence[2]
        fails(write(tmp_path / "image.dcm", image), "8 to 16 mm apart")

    def test_a_missing_phase(self, tmp_path):
        image = enhanced(SAX, 3)
        image.PixelData, image.NumberOfFrames = frames(image)[:-1].tobytes(), 11
        del image.PerFrameFunctionalGroupsSequence[-1]
        fails(write(tmp_path / "image.dcm", image), "from 2 to 3 images per slice")

    @pytest.mark.parametrize("count", (3, 5))
    def test_more_or_fewer_frames_than_are_described(self, count, tmp_path):
        image = enhanced(SAX)
        image.NumberOfFrames = count
        image.PixelData = bytes(count * image.Rows * image.Columns * 2)
        fails(write(tmp_path / "image.dcm", image), "damaged")

    @pytest.mark.parametrize("macro", ("PlanePositionSequence", "PlaneOrientationSequence"))
    def test_a_frame_without_a_place(self, macro, tmp_path):
        image = enhanced(SAX)
        del groups(image)[2][macro]
        image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]  # of which frame?
        fails(write(tmp_path / "image.dcm", image), "does not say where")

    def test_a_tilted_gantry(self, tmp_path):
        leaning = Series(axes=np.array([OBLIQUE[0], OBLIQUE[1], OBLIQUE[2] + 0.2 * OBLIQUE[1]]))
        fails(write(tmp_path / "image.dcm", enhanced(leaning)), "tilted gantry", "11.3 degrees")

    def test_frames_of_several_kinds(self, tmp_path):
        image = enhanced(SAX, 2)
        for n, group in enumerate(groups(image)):
            add(group, "MREchoSequence", EffectiveEchoTime=2.5 * (1 + n % 2))
        fails(write(tmp_path / "image.dcm", image), "echo times (2.5, 5)")

    def test_a_localizer(self, tmp_path):
        image = enhanced(SAX)
        frame_type = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]
        add(image.SharedFunctionalGroupsSequence[0], "MRImageFrameTypeSequence", FrameType=frame_type)
        fails(write(tmp_path / "image.dcm", image), "localizer")


def test_phase_images_beside_magnitude_images_are_no_phases_of_the_heart(tmp_path):
    image = enhanced(SAX, 2)
    for n, group in enumerate(groups(image)):
        add(group, "MRImageFrameTypeSequence", ComplexImageComponent=("PHASE", "MAGNITUDE")[n % 2])
    volume = read_volume(write(tmp_path / "image.dcm", image))
    assert np.array_equal(volume.array, pixels(SAX, 1)) and volume.dicom.frames == (2, 4, 6, 8)
    assert "magnitude and phase images" in volume.warnings[0]
