"""Wall thickness on walls of known thickness, and the AHA segments on ventricles whose walls are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree
from wall_phantoms import SHAPE, SPACING, cylinder, ellipsoid, grid, segmentation

from dinsegment.images import read_volume
from dinsegment.images.segmentation import Segmentation
from dinsegment.measurements.rings import ANGLES, directions, rings_of
from dinsegment.measurements.walls import aha_labels, aha_segments, wall_of, walls_of
from dinsegment.tasks import HEART


def in_front(radius: float = 31.0, septum: float = np.pi, sense: int = 1) -> tuple[float, float, float]:
    """A point in RAS at the septum's end that comes first where numbers grow with the angle, or last."""
    angle = septum - sense * np.radians(60)
    j, i = (SHAPE[1] - 1) / 2 * SPACING[1], (SHAPE[2] - 1) / 2 * SPACING[2]
    return i + radius * np.cos(angle), j + radius * np.sin(angle), 0.0


class TestThickness:
    @pytest.mark.parametrize("tilt", [0.0, 15.0, 30.0])
    @pytest.mark.parametrize("wall", [4.5, 9.0, 16.0])
    def test_a_tube_has_its_thickness_everywhere_however_it_is_tilted(self, tilt, wall):
        found = wall_of(segmentation(cylinder(20.0, 20.0 + wall, np.radians(tilt), np.pi / 2)), in_front())
        inner = found.thickness_mm[1:-1]  # beyond the first and the last slice the surface is not known
        assert np.abs(inner - wall).max() < 0.9
        assert inner.mean() == pytest.approx(wall, abs=0.15)
        assert found.thickness_mm.mean() == pytest.approx(wall, abs=0.25)

    def test_a_cavity_off_centre(self):
        """The distances between two circles of which the inner one is shifted are known."""
        inner, outer, offset = 20.0, 30.0, 4.0
        found = wall_of(segmentation(cylinder(inner, outer, offset=offset)), in_front())
        even = directions()
        unit = np.column_stack([np.sin(even), np.cos(even)])
        shift = np.array([0.0, -offset])  # towards the septum, at x below 0
        # From the inner circle's centre, from which directions are counted, to both circles.
        on_inner = shift + inner * unit
        reach = unit @ -shift + np.sqrt((unit @ -shift) ** 2 + outer**2 - offset**2)
        on_outer = shift + reach[:, None] * unit
        expected = (outer - np.hypot(*on_inner.T) + np.hypot(*(on_outer - shift).T) - inner) / 2
        assert np.abs(found.thickness_mm[1:-1] - expected).max() < 0.8
        assert np.abs(found.thickness_mm[1:-1].mean(axis=0) - expected).mean() < 0.25
        mean = found.mean_mm
        near = np.cos(even - np.pi) > 0.5  # within 60 degrees of the septum's middle
        assert np.mean([mean[8], mean[9]]) == pytest.approx(expected[near].mean(), abs=0.25)
        assert np.mean([mean[11], mean[12]]) == pytest.approx(expected[np.cos(even) > 0.5].mean(), abs=0.25)
        assert expected.max() - expected.min() == pytest.approx(2 * offset, abs=0.1)

    def test_an_ellipsoid(self):
        """Against the closest distances between its two surfaces, taken from their equations."""
        inner, inner_long, wall = 24.0, 44.0, 9.0
        found = wall_of(segmentation(ellipsoid(inner, inner_long, wall)), in_front())
        u, v = np.meshgrid(np.linspace(0, np.pi / 2, 300), np.linspace(0, 2 * np.pi, 300), indexing="ij")

        def surface(a: float, c: float) -> np.ndarray:
            parts = (c * np.sin(u), a * np.cos(u) * np.sin(v), a * np.cos(u) * np.cos(v))
            return np.column_stack([part.ravel() for part in parts])

        small, large = surface(inner, inner_long), surface(inner + wall, inner_long + wall)
        for ring, measured in zip(found.rings, found.thickness_mm, strict=True):
            depth = 8.0 * ring.slice
            here, beside = (s[np.abs(s[:, 0] - depth) < 0.3] for s in (small, large))
            expected = (cKDTree(large).query(here)[0].mean() + cKDTree(small).query(beside)[0].mean()) / 2
            # In the plane of the slice the wall is up to a third thicker towards the apex.
            assert measured.mean() == pytest.approx(expected, abs=0.6), depth

    def test_coarse_and_oblong_pixels(self):
        spacing = (10.0, 1.0, 1.9)
        labels = cylinder(22.0, 30.0, shape=(6, 140, 80), spacing=spacing)
        found = wall_of(segmentation(labels, spacing), (70.0, 30.0, 0.0))
        assert found.thickness_mm[1:-1].mean() == pytest.approx(8.0, abs=0.2)


class TestSegments:
    def test_they_lie_where_the_model_has_them(self):
        """Numbers around the septum, which is at -x; the anterior end is at -y."""
        found = wall_of(segmentation(cylinder()), in_front(sense=-1))
        even = np.degrees(directions())
        names = {n: [] for n in range(1, 17)}
        for segment in found.segment[[0, 4, 8]]:
            for n in np.unique(segment):
                at = np.radians(even[segment == n])
                names[int(n)].append(np.degrees(np.arctan2(np.sin(at).mean(), np.cos(at).mean())) % 360)
        # x to the right, y down: the septum is at 180 degrees, the anterior wall at 270, up.
        expected = {1: 270, 2: 210, 3: 150, 4: 90, 5: 30, 6: 330, 13: 270, 14: 180, 15: 90, 16: 0}
        for n, angle in expected.items():
            apart = abs((names[n][0] - angle + 180) % 360 - 180)
            assert apart < 3, (n, names[n])
        assert [np.unique(s).tolist() for s in found.segment[[0, 4, 8]]] == [
            [1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12], [13, 14, 15, 16],
        ]  # fmt: skip

    @pytest.mark.parametrize("flip", [False, True])
    @pytest.mark.parametrize("degrees", [0, 40, 90, 215])
    def test_a_turned_or_mirrored_heart_has_the_same_walls(self, degrees, flip):
        septum = np.pi + np.radians(degrees)
        labels = cylinder(20.0, 30.0, septum=septum, offset=4.0)
        labels = labels[::-1] if flip else labels
        found = wall_of(segmentation(labels), in_front(septum=septum)).mean_mm
        straight = wall_of(segmentation(cylinder(20.0, 30.0, offset=4.0)), in_front()).mean_mm
        assert found.keys() == straight.keys() == set(range(1, 17))
        assert max(abs(found[n] - straight[n]) for n in found) < 0.35

    def test_the_same_image_stored_otherwise_has_the_same_walls(self):
        """Other axes first, or running the other way, with the matrix that says so: nothing at all changes."""
        one = segmentation(cylinder(20.0, 30.0, tilt=0.2, offset=3.0))
        point = in_front()
        expected = wall_of(one, point).mean_mm
        matrix, labels = one.volume.ijk_to_ras, one.labels
        flipped = matrix.copy()
        flipped[:3, 0], flipped[:3, 3] = -matrix[:3, 0], matrix[:3, 3] + matrix[:3, 0] * (SHAPE[2] - 1)
        turned = matrix[:, [2, 0, 1, 3]]  # i, j, k become j, k, i
        for other, voxels in ((flipped, labels[:, :, ::-1]), (turned, labels.transpose(1, 2, 0))):
            again = segmentation(np.ascontiguousarray(voxels), ijk_to_ras=other)
            found = wall_of(again, point).mean_mm
            assert found == pytest.approx(expected, abs=1e-6)

    def test_the_patient_turned_in_the_scanner_has_the_same_walls(self):
        one = segmentation(cylinder(20.0, 30.0, offset=3.0))
        angle = 0.7
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        there = segmentation(one.labels, ijk_to_ras=turn @ one.volume.ijk_to_ras)
        point = (turn @ (*in_front(), 1.0))[:3]
        assert wall_of(there, point).mean_mm == pytest.approx(wall_of(one, in_front()).mean_mm, abs=1e-6)

    def test_they_have_no_names_where_nobody_knows_how_the_patient_lies(self):
        walls = walls_of(segmentation(cylinder()), segmentation(cylinder(16.0, 29.0)))
        assert not walls.named and walls.measurements() == []
        assert set(walls.end_diastole.mean_mm) == set(range(1, 17))

    @pytest.mark.parametrize("up", [1, -1])
    def test_the_anterior_end_is_in_front_and_above(self, up):
        """In an oblique slice whose rows run to the front and up, or to the back and down."""
        matrix = np.eye(4)
        matrix[:3, 0] = [1.4, 0.0, 0.0]
        matrix[:3, 1] = up * 1.4 * np.array([0.0, 1.0, 1.0]) / np.sqrt(2)
        matrix[:3, 2] = up * 8.0 * np.array([0.0, -1.0, 1.0]) / np.sqrt(2)
        one = segmentation(cylinder(), ijk_to_ras=matrix, slice_axis=0)
        known = replace(one, volume=replace(one.volume, dicom=object()))
        found = wall_of(known)
        assert found.named
        rows_at = np.sin(directions())[found.segment[0] == 1].mean()
        assert up * rows_at > 0.8
        # A septum whose ends lie to the left and to the right of each other.
        beside = segmentation(cylinder(septum=np.pi / 2), ijk_to_ras=matrix, slice_axis=0)
        assert not wall_of(replace(beside, volume=replace(beside.volume, dicom=object()))).named

    @pytest.mark.parametrize("across_first", [False, True])
    @pytest.mark.parametrize("columns", [1, -1])
    @pytest.mark.parametrize("rows", [1, -1])
    @pytest.mark.parametrize("slices", [1, -1])
    def test_walls_lie_in_the_patient_where_their_names_say(self, slices, rows, columns, across_first):
        """A heart as it lies in a chest, in slices, rows and columns that run either way."""
        to_apex = np.array([-0.6, 0.55, -0.58]) / np.linalg.norm([0.6, 0.55, 0.58])  # left, in front, down
        up = np.array([-0.2, 0.6, 0.75])
        up -= (up @ to_apex) * to_apex
        up /= np.linalg.norm(up)
        to_right_ventricle = np.cross(to_apex, up)
        assert to_right_ventricle[0] > 0.5  # to the right, and in front
        labels = cylinder()[::slices, :, ::columns]  # the right ventricle is where columns begin, or end
        matrix = np.eye(4)
        steps = (-columns * 1.4 * to_right_ventricle, rows * 1.4 * up, slices * 8.0 * to_apex)
        matrix[:3, :3] = np.column_stack(steps)
        if across_first:
            labels, matrix = labels.transpose(1, 2, 0), matrix[:, [2, 0, 1, 3]]
        one = segmentation(np.ascontiguousarray(labels), ijk_to_ras=matrix)
        one = replace(one, volume=replace(one.volume, dicom=object()))
        wall = wall_of(one)
        assert wall.named
        divided = aha_labels(one, wall)

        def middle(*numbers: int) -> np.ndarray:
            return matrix[:3, :3] @ np.argwhere(np.isin(divided, numbers)).mean(axis=0)[::-1]

        assert (middle(1, 7, 13) - middle(4, 10, 15)) @ up > 20
        assert (middle(2, 3, 8, 9, 14) - middle(5, 6, 11, 12, 16)) @ to_right_ventricle > 20
        assert min((middle(2) - middle(3)) @ up, (middle(6) - middle(5)) @ up) > 15
        assert (middle(7, 8, 9) - middle(1, 2, 3)) @ to_apex > 15
        assert (middle(13, 14) - middle(7, 8)) @ to_apex > 15

    def test_thickening(self):
        walls = walls_of(
            segmentation(cylinder(22.0, 30.0)), segmentation(cylinder(16.0, 28.0)), (0, 7), in_front(sense=-1)
        )
        found = {m.key: m for m in walls.measurements((2, 3))}
        assert len(found) == 48
        assert found["segment_04_basal_inferior_wall_ed"].value == pytest.approx(8.0, abs=0.3)
        assert found["segment_04_basal_inferior_wall_es"].value == pytest.approx(12.0, abs=0.3)
        thickening = found["segment_16_apical_lateral_thickening"]
        assert thickening.value == pytest.approx(50, abs=8)
        assert thickening.phases == (0, 7) and thickening.segments == (2, 3) and thickening.unit == "%"

    def test_the_muscle_is_divided_completely(self):
        one = segmentation(cylinder(tilt=0.2))
        wall = wall_of(one, in_front())
        divided = aha_labels(one, wall)
        assert np.array_equal(divided > 0, one.labels == 2)
        assert set(np.unique(divided)) == set(range(17))

    def test_the_names_are_those_of_the_model(self):
        names = [segment.name for segment in aha_segments()]
        assert [segment.number for segment in aha_segments()] == list(range(1, 17))
        assert names[:4] == ["Basal anterior", "Basal anteroseptal", "Basal inferoseptal", "Basal inferior"]
        assert names[12:] == ["Apical anterior", "Apical septal", "Apical inferior", "Apical lateral"]


class TestLeftOut:
    def test_an_open_ring_at_the_base_is_not_measured(self):
        labels = cylinder()
        z, y, _ = grid()
        labels[(z == z.min()) & (labels == 2) & (y > 12)] = 0
        found = wall_of(segmentation(labels), in_front())
        assert len(found.rings) == 8
        assert found.left_out == ("Slice 1: the muscle is no closed ring.",)
        assert found.thickness_mm[1:].mean() == pytest.approx(9.0, abs=0.3)

    def test_a_slice_that_is_left_out_moves_none_of_the_others(self):
        """Base, middle and apex are thirds of the way, not of the slices that are measured."""
        labels = cylinder()
        _, y, _ = grid()
        for k in (1, 2):
            labels[k][(labels[k] == 2) & (y[k] > 12)] = 0
        found, whole = (wall_of(segmentation(one), in_front()) for one in (labels, cylinder()))
        assert [ring.slice for ring in found.rings] == [0, 3, 4, 5, 6, 7, 8]
        assert np.array_equal(found.segment, whole.segment[[0, 3, 4, 5, 6, 7, 8]])
        assert found.left_out == ("Slices 2 and 3: the muscle is no closed ring.",)

    def test_few_pixels_at_the_apex_are_called_that(self):
        labels = cylinder()
        labels[8][labels[8] == 3] = 2
        labels[8, 54:57, 54:57] = 3
        found = wall_of(segmentation(labels), in_front())
        assert len(found.rings) == 8
        assert found.left_out == ("Slice 9: the ventricle is a few pixels there.",)

    def test_a_gap_of_few_pixels_leaves_it_closed(self):
        labels = cylinder()
        labels[4, 55, :][labels[4, 55, :] == 2] = 0
        assert len(rings_of(segmentation(labels))[0]) == 9

    def test_too_few_rings(self):
        labels = cylinder()
        labels[2:] = 0
        assert walls_of(segmentation(cylinder()), segmentation(labels)).reason == (
            "At end systole 2 slices have a closed ring of muscle, and it takes 3."
        )

    def test_no_right_ventricle(self):
        labels = cylinder()
        labels[labels == 1] = 0
        reason = walls_of(segmentation(labels), segmentation(cylinder())).reason
        assert reason.startswith("At end diastole the right ventricle does not touch")

    def test_an_empty_image(self):
        assert "no slices have a closed ring" in wall_of(segmentation(np.zeros(SHAPE)))


def test_hearts_of_experts(acdc_folder):
    """Walls as thick as hearts have them, thicker in hypertrophy, and thicker at end systole."""
    means = {}
    for patient, group in (("patient061", "NOR"), ("patient028", "HCM")):
        assert f"Group: {group}" in (acdc_folder / patient / "Info.cfg").read_text(encoding="utf-8") or group == "NOR"
        phases = []
        for path in sorted((acdc_folder / patient).glob("*frame??.nii.gz")):
            volume = read_volume(path)
            labels = read_volume(str(path).replace(".nii.gz", "_gt.nii.gz")).array.astype(np.uint8)
            phases.append(Segmentation(volume, labels, HEART, "experts", volume, "cpu", 0.0))
        walls = walls_of(*phases)
        assert not walls.named and walls.reason == ""
        ed, es = walls.end_diastole.thickness_mm.mean(), walls.end_systole.thickness_mm.mean()
        assert 4 < ed < 20 and es > ed
        means[group] = ed
    assert means["HCM"] > means["NOR"]
    assert walls.end_diastole.segment.shape[1] == ANGLES
