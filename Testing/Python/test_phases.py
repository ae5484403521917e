"""The phases of one heart in files of many forms: read as the same volumes, or refused in one sentence."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_cases import SERIES, headers, write_series

from dinsegment.errors import InputError
from dinsegment.images import read_phases, read_volumes, write_volume
from dinsegment.images.volume import Volume
from dinsegment.phantom.heart import cine_phantom

OBLIQUE = np.array([[-1.2, 0.3, 2.0, 41.5], [0.2, 1.1, 4.0, -60.25], [-0.4, 0.6, -6.0, 12.0], [0, 0, 0, 1]])
"""An IJK-to-RAS matrix whose axes lean, as NIfTI cannot hold it; made perpendicular below."""

_AXES, _ = np.linalg.qr(OBLIQUE[:3, :3])
OBLIQUE[:3, :3] = _AXES * (1.25, 1.4, 8.0)


@pytest.fixture
def cine():
    """Five phases (phase, k, j, i) of which none is like another, int16."""
    return np.random.default_rng(3).integers(-200, 2000, (5, 3, 6, 4)).astype(np.int16)


def volumes_of(cine):
    return [Volume(phase, OBLIQUE, f"p{n}") for n, phase in enumerate(cine)]


def refusal(paths):
    with pytest.raises(InputError) as caught:
        read_phases(paths)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestAFileForEachPhase:
    @pytest.mark.parametrize("suffix", (".nii.gz", ".nrrd", ".mha"))
    def test_in_the_order_in_which_they_are_given(self, cine, suffix, tmp_path):
        paths = [tmp_path / f"{name}{suffix}" for name in ("late", "early", "x", "b", "a")]
        for volume, path in zip(volumes_of(cine), paths, strict=True):
            write_volume(volume, path)
        phases = read_phases(paths)
        assert [phase.name for phase in phases] == ["late", "early", "x", "b", "a"]
        assert np.array_equal([phase.array for phase in phases], cine)
        assert all(np.allclose(phase.ijk_to_ras, OBLIQUE, atol=1e-4) for phase in phases)

    def test_files_of_one_name_are_told_apart(self, cine, tmp_path):
        paths = [tmp_path / folder / "image.nrrd" for folder in ("ED", "ES")]
        for volume, path in zip(volumes_of(cine), paths, strict=False):
            path.parent.mkdir()
            write_volume(volume, path)
        assert [phase.name for phase in read_phases(paths)] == ["heart phase 01", "heart phase 02"]

    def test_formats_that_round_differently_go_together(self, cine, tmp_path):
        paths = [tmp_path / "a.nii", tmp_path / "b.nrrd"]
        for volume, path in zip(volumes_of(cine), paths, strict=False):
            write_volume(volume, path)
        assert np.array_equal(*(phase.ijk_to_ras for phase in read_phases(paths)))

    @pytest.mark.parametrize(
        "change",
        [
            lambda v: Volume(v.array[1:], v.ijk_to_ras),
            lambda v: Volume(v.array[:, ::-1], v.ijk_to_ras @ np.diag([1.0, -1, 1, 1])),
            lambda v: Volume(v.array, v.ijk_to_ras @ np.diag([1.1, 1, 1, 1])),
            lambda v: Volume(v.array, v.ijk_to_ras + np.eye(4, k=3)),
        ],
        ids=("fewer slices", "flipped", "larger voxels", "elsewhere"),
    )
    def test_on_other_grids_they_are_refused(self, cine, change, tmp_path):
        first, second = volumes_of(cine)[:2]
        paths = [tmp_path / "ED.nrrd", tmp_path / "ES.nrrd"]
        write_volume(first, paths[0])
        write_volume(change(second), paths[1])
        text = refusal(paths)
        assert "ED.nrrd" in text and "ES.nrrd" in text and "another grid" in text

    def test_one_that_has_phases_itself_is_refused(self, cine, tmp_path):
        write_volume(volumes_of(cine)[0], tmp_path / "a.nrrd")
        sitk.WriteImage(sitk.GetImageFromArray(cine, isVector=False), str(tmp_path / "b.nrrd"))
        assert "b.nrrd' has 5 phases" in refusal([tmp_path / "a.nrrd", tmp_path / "b.nrrd"])

    def test_one_that_is_given_twice_is_refused(self, cine, tmp_path):
        write_volume(volumes_of(cine)[0], tmp_path / "a.nrrd")
        assert "twice" in refusal([tmp_path / "a.nrrd", tmp_path / "a.nrrd"])

    def test_dicom_series_of_one_phase_each(self, tmp_path):
        series = SERIES["oblique"]
        for name in ("ED", "ES"):
            write_series(tmp_path / name, series)
        phases = read_phases([tmp_path / "ED", tmp_path / "ES"])
        assert [phase.name for phase in phases] == ["ED", "ES"]
        assert [phase.dicom.slices for phase in phases] == [series.shape[0]] * 2
        write_series(tmp_path / "elsewhere", replace(series, origin=(0.0, 0.0, 0.0)))
        assert "another grid" in refusal([tmp_path / "ED", tmp_path / "elsewhere"])
        assert len(headers(series)) == 4


class TestProgram:
    def test_phases_are_one_heart(self, run, tmp_path):
        phantoms = cine_phantom(2, slices=4, size=(64, 80), spacing=(16.0, 2.8, 2.5))
        paths = [tmp_path / name for name in ("ES.nii.gz", "ED.nii.gz")]
        for phantom, path in zip(phantoms[::-1], paths, strict=True):
            write_volume(phantom.volume, path)
        code, printed, _ = run("segment", *paths, "--phases", "--task", "heart", "--output", tmp_path / "OUT")
        assert code == 0 and "ejection fraction" in printed
        content = json.loads((tmp_path / "OUT" / "measurements.json").read_text())
        assert [phase["input"] for phase in content["phases"]] == ["ES", "ED"]
        assert (content["function"]["end_diastole"], content["function"]["end_systole"]) == (1, 0)
        assert {path.name for path in (tmp_path / "OUT").iterdir()} == {
            "phase01", "phase02", "measurements.json", "dinsegment.json"
        }  # fmt: skip

    @pytest.mark.parametrize(
        "options, words",
        [(("--phases",), "several inputs"), (("--phases", "--cluster", "local"), "--cluster")],
    )
    def test_what_makes_no_sense_is_said(self, run, cine, options, words, tmp_path):
        write_volume(volumes_of(cine)[0], tmp_path / "a.nrrd")
        inputs = [tmp_path / "a.nrrd"] * (2 if "--cluster" in options else 1)
        code, out, err = run("segment", *inputs, *options, "--task", "heart", "--output", tmp_path / "OUT")
        assert (code, out) == (2, "") and words in err and err.count("\n") == 1
        assert not (tmp_path / "OUT").exists()

    def test_results_do_not_replace_any_of_the_inputs(self, run, cine, tmp_path):
        folder = tmp_path / "OUT"
        (folder / "phase02").mkdir(parents=True)
        paths = [tmp_path / "a.nrrd", folder / "phase02" / "enhanced.nrrd"]
        for volume, path in zip(volumes_of(cine), paths, strict=False):
            write_volume(volume, path)
        before = paths[1].read_bytes()
        code, _, err = run("segment", *paths, "--phases", "--task", "heart", "--output", folder)
        assert code == 2 and "enhanced.nrrd" in err
        assert paths[1].read_bytes() == before and len(read_volumes(paths[1])) == 1
