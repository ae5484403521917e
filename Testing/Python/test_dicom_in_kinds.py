"""Several kinds of images in one series, which must not be taken for the phases of a heart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_cases import SERIES, headers, pixels
from pydicom import FileDataset

from dinsegment.errors import InputError
from dinsegment.images import read_volume, read_volumes

SAX = SERIES["oblique"]


def write(folder: Path, *kinds: dict[str, object]) -> list[FileDataset]:
    """A series with an image of each kind of each slice, all numbered."""
    images = []
    for number, kind in enumerate(kinds):
        for k, image in enumerate(headers(SAX)):
            image.SeriesInstanceUID, image.InstanceNumber = "1.2.3", len(images) + 1
            image.PixelData = pixels(SAX, number)[k].tobytes()
            for keyword, value in kind.items():
                if keyword == "GE":
                    image.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", value)
                else:
                    setattr(image, keyword, value)
            image.save_as(folder / f"{len(images)}.dcm", enforce_file_format=True)
            images.append(image)
    return images


def fails(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_volumes(path)
    text = str(caught.value)
    assert all(word in text.replace(str(path), "") for word in words), text
    assert "\n" not in text


def image_type(*values: str) -> dict[str, object]:
    return {"ImageType": ["ORIGINAL", "PRIMARY", *values]}


PAIRS = {
    "Siemens": (image_type("P", "ND"), image_type("M", "ND")),
    "Philips": (image_type("PHASE MAP", "P", "FFE"), image_type("M_FFE", "M", "FFE")),
    "GE": (image_type("OTHER") | {"GE": 1}, image_type("OTHER") | {"GE": 0}),
    "the standard": ({"ComplexImageComponent": "PHASE"}, {"ComplexImageComponent": "MAGNITUDE"}),
}


@pytest.mark.parametrize("maker", PAIRS)
def test_of_magnitude_and_phase_images_the_magnitude_is_read(maker, tmp_path):
    write(tmp_path, *PAIRS[maker])
    volume = read_volume(tmp_path)
    assert np.array_equal(volume.array, pixels(SAX, 1))
    (warning,) = volume.warnings
    assert "magnitude and phase images" in warning and "only the magnitude" in warning


def test_a_cine_with_magnitude_and_phase_keeps_its_times(tmp_path):
    times = [{"TriggerTime": 40 * phase, **kind} for phase in (1, 0) for kind in PAIRS["Siemens"]]
    write(tmp_path, *times)
    first, second = read_volumes(tmp_path)
    assert np.array_equal(first.array, pixels(SAX, 3)) and np.array_equal(second.array, pixels(SAX, 1))


def test_parts_that_are_not_in_pairs(tmp_path):
    write(tmp_path, *PAIRS["Siemens"])
    (tmp_path / "0.dcm").unlink()
    fails(tmp_path, "mixes magnitude and phase images", "give a folder with the magnitude images alone")


def test_real_and_imaginary_parts(tmp_path):
    write(tmp_path, image_type("R"), image_type("I"))
    fails(tmp_path, "mixes imaginary and real images")


KINDS = {
    "echo times (1.5, 3)": [{"EchoTime": "1.5"}, {"EchoTime": "3.0"}],
    "inversion times (100, 180)": [{"InversionTime": "100"}, {"InversionTime": "180"}],
    "flip angles (10, 50)": [{"FlipAngle": "10"}, {"FlipAngle": "50"}],
    "b-values (0, 800)": [{"DiffusionBValue": 0.0}, {"DiffusionBValue": 800.0}],
    "image types": [image_type("M", "WATER"), image_type("M", "FAT")],
}


@pytest.mark.parametrize("words", KINDS)
def test_other_kinds_are_refused(words, tmp_path):
    write(tmp_path, *KINDS[words])
    fails(tmp_path, words, "no phases of a movement")


def test_numbers_that_are_only_written_differently_are_the_same(tmp_path):
    write(tmp_path, {"EchoTime": "1.50", "TriggerTime": 10}, {"EchoTime": "1.5", "TriggerTime": 50})
    assert len(read_volumes(tmp_path)) == 2


def test_a_slice_that_lost_its_rescaling(tmp_path):
    for k, image in enumerate(headers(SERIES["CT"])):
        if k == 4:
            del image.RescaleIntercept
        image.save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
    fails(tmp_path, "rescaled and raw pixels, 1 of its 5 images")


@pytest.mark.parametrize("slope", ("0", "nan", "1\\2"))
def test_a_slope_that_is_none(slope, tmp_path):
    (image,) = headers(SERIES["single slice"])
    image.add_new("RescaleIntercept", "LO", "0")
    image.add_new("RescaleSlope", "LO", slope.split("\\"))
    image.save_as(tmp_path / "one.dcm", enforce_file_format=True)
    fails(tmp_path / "one.dcm", "RescaleSlope", "no scale")
