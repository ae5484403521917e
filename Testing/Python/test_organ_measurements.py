"""Attenuation, lengths and the width of vessels, on shapes whose measures are known."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from pydicom import Dataset

from dinsegment.images import read_volume
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.volume import Volume
from dinsegment.measurements.extents import greatest_width, height_mm, length_mm
from dinsegment.measurements.organs import has_contrast, is_clipped, organ_measurements
from dinsegment.measurements.study import measure_study
from dinsegment.measurements.volumes import segment_volumes
from dinsegment.phantom.ct import abdomen_phantom
from dinsegment.tasks import ABDOMEN, HEART

SHAPE, SPACING = (64, 90, 90), (3.0, 1.6, 1.4)


def places(shape=SHAPE, spacing=SPACING):
    axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing, strict=True)]
    return np.meshgrid(*axes, indexing="ij")


def volume_of(array: np.ndarray, spacing=SPACING, matrix=None) -> Volume:
    return Volume(array, np.diag([*spacing[::-1], 1.0]) if matrix is None else matrix, name="CT", modality="CT")


def ct(labels: np.ndarray, hu: dict[int, float] | None = None, **more) -> Segmentation:
    rng = np.random.default_rng(0)
    grey = np.full(labels.shape, -1000.0)
    grey[:, 10:80, 10:80] = 20.0
    for label, value in (hu or {}).items():
        grey[labels == label] = value
    grey += rng.normal(0, 5, labels.shape)
    volume = volume_of(grey.astype(np.float32), **more)
    return Segmentation(volume, labels.astype(np.uint8), ABDOMEN, "truth", volume, "cpu", 0.0)


def measured(segmentation: Segmentation) -> dict[str, object]:
    return {m.key: m for m in organ_measurements(segmentation, segment_volumes(segmentation))}


def ellipsoid(semi: tuple[float, float, float], tilt: float = 0.0) -> np.ndarray:
    z, y, x = places()
    up, across = np.cos(tilt) * z + np.sin(tilt) * x, np.cos(tilt) * x - np.sin(tilt) * z
    return (up / semi[0]) ** 2 + (y / semi[1]) ** 2 + (across / semi[2]) ** 2 < 1


def tube(radius: float, tilt: float = 0.0, bulge: float = 0.0, at: float = 20.0) -> np.ndarray:
    """A vessel along z, tilted towards x, whose radius grows by `bulge` at `at` mm from the middle along it."""
    z, y, x = places()
    along = np.cos(tilt) * z + np.sin(tilt) * x
    across = np.hypot(y, np.cos(tilt) * x - np.sin(tilt) * z)
    return (across < radius + bulge * np.exp(-(((along - at) / 12) ** 2))) & (np.abs(along) < 80)


class TestExtents:
    @pytest.mark.parametrize("tilt", [0.0, 20.0, 50.0])
    def test_the_length_is_that_of_the_longest_axis(self, tilt):
        mask = ellipsoid((55.0, 26.0, 22.0), np.radians(tilt))
        assert length_mm(volume_of(mask), mask) == pytest.approx(110, abs=2.5)

    def test_the_height_is_from_the_lowest_to_the_highest_slice(self):
        mask = ellipsoid((55.0, 26.0, 22.0), np.radians(50))
        expected = 2 * np.hypot(55 * np.cos(np.radians(50)), 22 * np.sin(np.radians(50)))
        assert height_mm(volume_of(mask), mask) == pytest.approx(expected, abs=3.1)

    def test_a_turned_image_changes_nothing(self):
        mask = ellipsoid((55.0, 26.0, 22.0), 0.4)
        straight = volume_of(mask)
        turn = np.eye(4)
        turn[:3, :3] = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
        turned = replace(straight, ijk_to_ras=turn @ straight.ijk_to_ras)
        assert length_mm(turned, mask) == pytest.approx(length_mm(straight, mask))
        other = Volume(mask.transpose(2, 0, 1), straight.ijk_to_ras[:, [1, 2, 0, 3]])
        assert length_mm(other, mask.transpose(2, 0, 1)) == pytest.approx(length_mm(straight, mask))
        assert height_mm(other, mask.transpose(2, 0, 1)) == pytest.approx(height_mm(straight, mask))

    def test_a_flat_piece(self):
        mask = np.zeros(SHAPE, bool)
        mask[20, 30:50, 40] = True
        assert length_mm(volume_of(mask), mask) == pytest.approx(20 * 1.6, abs=2)
        one = np.zeros(SHAPE, bool)
        one[4, 5, 6] = True
        assert 0 < length_mm(volume_of(one), one) < 4


class TestWidth:
    @pytest.mark.parametrize("tilt", [0.0, 25.0, 45.0])
    @pytest.mark.parametrize("diameter", [18.0, 30.0])
    def test_of_a_tube_however_it_is_tilted(self, diameter, tilt):
        mask = tube(diameter / 2, np.radians(tilt))
        assert greatest_width(volume_of(mask), mask).diameter_mm == pytest.approx(diameter, abs=1.2)

    @pytest.mark.parametrize("tilt", [0.0, 30.0])
    def test_an_aneurysm_is_found_where_it_is(self, tilt):
        tilt = np.radians(tilt)
        mask = tube(11.0, tilt, bulge=8.0, at=20.0)
        found = greatest_width(volume_of(mask), mask)
        assert found.diameter_mm == pytest.approx(38, abs=1.5)
        middle = (np.array(SHAPE) - 1) / 2 * SPACING
        there = middle + 20.0 * np.array([np.cos(tilt), 0.0, np.sin(tilt)])
        assert np.linalg.norm(np.array(found.place) - there[::-1]) < 5
        assert np.linalg.norm(found.center - there) < 5
        assert np.abs(found.across @ [np.cos(tilt), 0.0, np.sin(tilt)]).max() < 0.15

    def test_a_bent_vessel(self):
        """An arch of a circle: across the slices of the image it is twice as wide as it is."""
        z, y, x = places()
        around = np.hypot(np.hypot(z + 60, x) - 70, y)
        mask = (around < 10) & (z > -60)
        assert greatest_width(volume_of(mask), mask).diameter_mm == pytest.approx(20, abs=1.5)

    def test_where_it_divides_it_is_not_measured(self):
        z, y, x = places()
        leg = np.minimum(np.hypot(x - np.maximum(-z, 0) * 0.5, y), np.hypot(x + np.maximum(-z, 0) * 0.5, y))
        mask = (leg < np.where(z > 0, 10, 8)) & (np.abs(z) < 80)
        assert greatest_width(volume_of(mask), mask).diameter_mm == pytest.approx(20, abs=3.5)

    @pytest.mark.parametrize(("longest", "shortest"), [(50.0, 30.0), (60.0, 36.0)])
    @pytest.mark.parametrize("tilt", [0.0, 20.0])
    def test_an_oblong_aneurysm_is_none_the_smaller(self, longest, shortest, tilt):
        """As long as where a vessel divides, but wider than the vessel in its other direction, too."""
        z, y, x = places()
        along = np.cos(np.radians(tilt)) * z + np.sin(np.radians(tilt)) * x
        beside = np.cos(np.radians(tilt)) * x - np.sin(np.radians(tilt)) * z
        bulge = np.exp(-((along / 20) ** 2))
        across = np.hypot(beside / (10 + (longest / 2 - 10) * bulge), y / (10 + (shortest / 2 - 10) * bulge))
        mask = (across < 1) & (np.abs(along) < 80)
        assert greatest_width(volume_of(mask), mask).diameter_mm == pytest.approx(longest, abs=2.5)

    @pytest.mark.parametrize(
        ("radius", "beside", "across"), [(15.0, 10.0, 35.0), (20.0, 15.0, 45.0), (22.0, 20.0, 52.0)]
    )
    def test_a_sac_beside_the_vessel(self, radius, beside, across):
        z, y, x = places()
        mask = tube(10.0) | (np.sqrt((x - beside) ** 2 + y**2 + z**2) < radius)
        assert greatest_width(volume_of(mask), mask).diameter_mm == pytest.approx(across, abs=2.5)

    def test_a_turned_image_changes_nothing(self):
        mask = tube(11.0, 0.3, bulge=6.0)
        straight = volume_of(mask)
        expected = greatest_width(straight, mask)
        turned = Volume(
            np.ascontiguousarray(mask.transpose(1, 2, 0)), straight.ijk_to_ras[:, [2, 0, 1, 3]], name="turned"
        )
        found = greatest_width(turned, turned.array > 0.5)
        assert found.diameter_mm == pytest.approx(expected.diameter_mm, abs=0.7)
        assert np.linalg.norm(np.subtract(found.place, expected.place)) < 4

    def test_a_ball_is_no_vessel(self):
        mask = ellipsoid((20.0, 20.0, 20.0))
        assert greatest_width(volume_of(mask), mask) is None
        assert greatest_width(volume_of(mask), np.zeros(SHAPE, bool)) is None


class TestAttenuation:
    def liver_and_spleen(self):
        z, y, x = places()
        labels = np.zeros(SHAPE, np.uint8)
        labels[np.hypot(np.hypot(z, y), x - 30) < 20] = 5
        labels[np.hypot(np.hypot(z, y), x + 30) < 15] = 7
        return labels

    def test_mean_and_deviation_without_the_outermost_voxels(self):
        labels = self.liver_and_spleen()
        one = ct(labels, {5: 60.0, 7: 50.0})
        edge = (labels == 5) & ~ndimage_erosion(labels == 5)
        array = one.volume.array.copy()
        array[edge] = -500  # fat beside it
        found = measured(replace(one, volume=one.volume.with_array(array)))
        assert found["liver_hu_mean"].value == pytest.approx(60, abs=0.3)
        assert found["liver_hu_sd"].value == pytest.approx(5, abs=0.3)
        assert found["liver_and_spleen_hu_difference"].value == pytest.approx(10, abs=0.5)
        assert found["liver_and_spleen_hu_ratio"].value == pytest.approx(1.2, abs=0.02)

    def test_it_is_left_out_of_a_clipped_image(self):
        one = ct(self.liver_and_spleen(), {5: 60.0, 7: 50.0})
        assert not is_clipped(one.volume.array)
        for low, high in ((-125, 275), (-125, 3000), (-2000, 70)):
            clipped = replace(one, volume=one.volume.with_array(np.clip(one.volume.array, low, high)))
            found = measured(clipped)
            for key in ("liver_hu_mean", "spleen_hu_sd", "liver_and_spleen_hu_ratio"):
                assert found[key].value is None and "clipped" in found[key].reason
            assert found["liver_volume"].value > 20

    def test_nothing_is_left_of_a_thin_segment(self):
        labels = np.zeros(SHAPE, np.uint8)
        labels[30:33, 40, 20:60] = 6
        assert "outermost voxels" in measured(ct(labels))["pancreas_hu_mean"].reason

    def test_contrast_agent(self):
        labels = np.where(tube(10.0), 1, 0).astype(np.uint8)
        for hu, expected in ((180.0, True), (45.0, False)):
            one = ct(labels, {1: hu})
            assert has_contrast(one, list(measured(one).values())) is expected
        assert has_contrast(ct(np.zeros(SHAPE, np.uint8)), []) is None

    @pytest.mark.parametrize(
        ("agent", "route", "expected"),
        [
            ("IOHEXOL", "INTRAVENOUS", True),
            ("Ultravist 370", "", True),
            ("", "", False),
            ("NONE", "", False),
            ("no", "", False),
            ("Telebrix", "ORAL", False),
            ("Ultravist 370", "VENOUS PORT", True),
            ("APPLIED", "", True),
        ],
    )
    def test_what_the_header_says_of_it(self, agent, route, expected):
        """The aorta, of 45 HU, decides where no agent went into a vessel."""
        one = ct(np.where(tube(10.0), 1, 0).astype(np.uint8), {1: 45.0})
        header = Dataset()
        header.ContrastBolusAgent, header.ContrastBolusRoute = agent, route
        known = replace(one, volume=replace(one.volume, dicom=SimpleNamespace(headers=(header,))))
        assert has_contrast(known, list(measured(one).values())) is expected


def ndimage_erosion(mask):
    from scipy import ndimage

    return ndimage.binary_erosion(mask)


class TestStudy:
    def test_an_aneurysm_is_told(self):
        study = measure_study([ct(self.aorta_and_kidney(upper_end=60.0), {1: 200.0})])
        diameter = next(m for m in study.measurements if m.key == "aorta_diameter")
        assert diameter.value == pytest.approx(34, abs=1.5) and "aneurysm" in diameter.remark
        assert diameter.place is not None and diameter.to_dict()["ras"] == list(diameter.place)

    def test_above_the_kidneys_the_aorta_is_not_measured(self):
        """The aorta passes the diaphragm at the twelfth thoracic vertebra, beside the kidneys' upper ends."""
        below, none = (measured(ct(self.aorta_and_kidney(end), {1: 200.0}))["aorta_diameter"] for end in (-20.0, None))
        assert below.value == pytest.approx(22, abs=1.5) and not below.remark
        assert none.value is None
        assert none.reason == "It is measured up to the upper end of left kidney or right kidney, which was not found."

    def test_a_stray_piece_of_a_kidney_is_no_upper_end(self):
        labels = self.aorta_and_kidney(-20.0)
        labels[-3:, 20:22, 20:22] = 3
        assert measured(ct(labels, {1: 200.0}))["aorta_diameter"].value == pytest.approx(22, abs=1.5)

    def test_an_aneurysm_is_told_of_a_patient_who_lies_in_another_way(self):
        one = ct(self.aorta_and_kidney(-20.0), {1: 200.0})
        turned = replace(one.volume, ijk_to_ras=np.diag([1.0, 1.0, -1.0, 1.0]) @ one.volume.ijk_to_ras)
        found = measured(replace(one, volume=turned, enhanced=turned))["aorta_diameter"]
        assert found.value == pytest.approx(34, abs=1.5)  # what was below is above

    def aorta_and_kidney(self, upper_end: float | None) -> np.ndarray:
        """An aorta of 22 mm, 34 mm 20 mm above the middle; a kidney that ends so many mm above the middle."""
        z, _, x = places()
        labels = np.where(tube(11.0, bulge=6.0), 1, 0).astype(np.uint8)
        if upper_end is not None:
            labels[(z > upper_end - 40) & (z < upper_end) & (x > 40)] = 3
        return labels

    def test_what_the_edge_cuts_has_no_length(self):
        labels = np.zeros(SHAPE, np.uint8)
        labels[:20, 30:60, 30:60] = 3
        found = measured(ct(labels))
        assert found["left_kidney_length"].reason == "The image's edge cuts it."
        assert found["left_kidney_volume"].value == pytest.approx(20 * 30 * 30 * 3.0 * 1.6 * 1.4 / 1000)
        assert found["spleen_volume"].reason == "It was not found."
        assert "spleen_length" not in found

    def test_a_piece_elsewhere_makes_no_organ_longer(self):
        """Such as an accessory spleen, or a stray click of a correction; both halves of an organ count."""
        z, _, _ = places()
        spleen = np.where(ellipsoid((50.0, 25.0, 20.0)), 7, 0).astype(np.uint8)
        alone = measured(ct(spleen))
        with_piece = spleen.copy()
        with_piece[2:4, 40:42, 40:42] = 7
        study = measure_study([ct(with_piece)])
        for kind in ("spleen_height", "spleen_length"):
            assert study.value(kind) == alone[kind].value
        assert not [m.remark for m in study.measurements if m.remark]
        halves = np.where(np.abs(z) < 4, 0, spleen)
        assert measured(ct(halves))["spleen_height"].value == alone["spleen_height"].value

    def test_more_of_the_patient_in_the_image_changes_nothing(self):
        """Each segment is measured in its part of the image; nothing may depend on where that lies."""
        labels = self.aorta_and_kidney(-20.0)
        labels[ellipsoid((40.0, 20.0, 15.0)) & (labels == 0)] = 7
        labels[:, :2], labels[:, -2:], labels[:, :, -2:] = 0, 0, 0  # The image's edge cuts nothing.
        one = ct(labels, {1: 200.0, 3: 90.0, 7: 110.0})
        wide = ((5, 9), (7, 3), (4, 11))
        volume = Volume(
            np.pad(one.volume.array, wide, constant_values=-1000.0), one.volume.ijk_to_ras, "CT", modality="CT"
        )
        volume.ijk_to_ras[:3, 3] -= one.volume.ijk_to_ras[:3, :3] @ [4, 7, 5]
        wider = replace(one, volume=volume, enhanced=volume, labels=np.pad(labels, wide))
        before, after = measured(one), measured(wider)
        assert {key for key, m in before.items() if m.value is not None} >= {"aorta_diameter", "spleen_length"}
        for key, m in before.items():
            now = after[key]
            assert (now.reason, now.value is None, now.place is None) == (m.reason, m.value is None, m.place is None)
            assert m.value is None or now.value == pytest.approx(m.value, rel=1e-9), key
            assert m.place is None or now.place == pytest.approx(m.place, abs=1e-6), key

    def test_the_phantom(self):
        phantom = abdomen_phantom(seed=1, slices=60, spacing=(5.0, 3.0, 3.0), size=(128, 128))
        one = Segmentation(phantom.volume, phantom.labels, ABDOMEN, "truth", phantom.volume, "cpu", 0.0)
        study = measure_study([one])
        assert 80 < study.value("left_kidney_length") < 140 and 10 < study.value("aorta_diameter") < 40
        assert study.value("liver_volume") == segment_volumes(one)[4].volume_ml
        assert not [m for m in study.measurements if m.value is None and "clipped" in m.reason]

    def test_copies_that_were_clipped(self, btcv_folder):
        assert is_clipped(read_volume(btcv_folder / "img0005.nii.gz").array)

    def test_tasks_ask_only_for_what_can_be_measured(self):
        with pytest.raises(ValueError, match="asks to measure"):
            replace(HEART, segments=(replace(HEART.segments[0], measures=("weight",)), *HEART.segments[1:]))
