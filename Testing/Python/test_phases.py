"""The phases of one heart in files of many forms: read as the same volumes, or refused in one sentence."""

from __future__ import annotations

import gzip
import json
import struct
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_cases import SERIES, headers, write_series
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dinsegment.errors import InputError
from dinsegment.files import image_stem
from dinsegment.images import read_phases, read_volume, read_volumes, write_volume
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


NRRD_TYPES = {"short": "i2", "unsigned char": "u1", "ushort": "u2", "int": "i4", "float": "f4", "double": "f8"}
SPACES = (
    *("left-posterior-superior", "right-anterior-superior", "left-anterior-superior", "LPS", "RAS", "LAS"),
    *("scanner-xyz", "3D-right-handed"),
)  # fmt: skip


def nrrd(
    path: Path,
    phases: np.ndarray,
    axis: int = 3,
    kind: str = "list",
    *,
    space: str = "left-posterior-superior",
    directions: np.ndarray | None = OBLIQUE[:3, :3].T,
    origin: np.ndarray | None = OBLIQUE[:3, 3],
    type: str = "short",
    encoding: str = "raw",
    endian: str = "little",
    domain: str = "domain",
    fields: tuple[str, ...] = (),
    detached: bool = False,
) -> Path:
    """Writes a NRRD file by hand.

    Args:
        path: Of the file.
        phases: Voxels (phase, k, j, i), or (k, j, i) without phases.
        axis: Which axis of the file is that of the phases.
        kind: Its kind.
        space: Name of the space.
        directions: Of i, j and k, as rows; none if None.
        origin: None for none.
        type: Of the voxels.
        encoding: `raw`, `gzip` or `text`.
        endian: Order of the bytes.
        domain: Kind of the axes of space.
        fields: Further lines of the header.
        detached: Whether the voxels are in a file beside it.
    """
    has_phases = phases.ndim == 4
    voxels = np.moveaxis(phases, 0, 3 - axis) if has_phases else phases
    kinds, vectors = (
        [domain] * 3,
        [f"({','.join(map(repr, row.tolist()))})" for row in directions] if directions is not None else [],
    )
    if has_phases:
        kinds.insert(axis, kind)
        vectors.insert(axis, "none") if vectors else None
    lines = ["NRRD0005", "# written by hand", f"type: {type}", f"dimension: {voxels.ndim}"]
    lines += [f"space: {space}"] if vectors else []
    lines += [f"sizes: {' '.join(map(str, voxels.shape[::-1]))}"]
    lines += [f"space directions: {' '.join(vectors)}"] if vectors else []
    lines += [f"kinds: {' '.join(kinds)}", f"endian: {endian}", f"encoding: {encoding}"]
    lines += [f"space origin: ({','.join(map(repr, origin.tolist()))})"] if vectors and origin is not None else []
    content = (
        voxels.astype(NRRD_TYPES[type]).astype(np.dtype(NRRD_TYPES[type]).newbyteorder("<>"[endian == "big"])).tobytes()
    )
    if encoding == "text":
        content = " ".join(map(repr, voxels.ravel().tolist())).encode()
    content = gzip.compress(content) if encoding == "gzip" else content
    lines += [*fields, *(["data file: voxels.bin"] if detached else []), ""]
    if detached:
        (path.parent / "voxels.bin").write_bytes(content)
    path.write_bytes("\n".join([*lines, ""]).encode() + (b"" if detached else content))
    return path


class TestNrrd:
    @pytest.mark.parametrize("axis", (0, 1, 2, 3))
    @pytest.mark.parametrize("kind", ("list", "time", "none", "???", "domain", "space"))
    def test_the_axis_of_phases_may_stand_anywhere(self, cine, axis, kind, tmp_path):
        phases = read_volumes(nrrd(tmp_path / "cine.nrrd", cine, axis, kind))
        assert [phase.name for phase in phases] == [f"cine phase {n:02d}" for n in range(1, 6)]
        assert np.array_equal([phase.array for phase in phases], cine)
        assert all(phase.array.dtype == np.int16 for phase in phases)
        expected = np.diag([-1, -1, 1, 1]) @ OBLIQUE
        assert all(np.array_equal(phase.ijk_to_ras, expected) for phase in phases)

    @settings(max_examples=150, deadline=None)
    @given(
        shape=st.tuples(*[st.integers(1, 4)] * 4),
        axis=st.integers(0, 3),
        kind=st.sampled_from(("list", "time", "none")),
        space=st.sampled_from(SPACES),
        type=st.sampled_from(tuple(NRRD_TYPES)),
        encoding=st.sampled_from(("raw", "gzip", "text")),
        endian=st.sampled_from(("little", "big")),
        domain=st.sampled_from(("domain", "space")),
        unit=st.sampled_from(("mm", "cm", "m", "um", "")),
        has_origin=st.booleans(),
        frame=st.booleans(),
        detached=st.booleans(),
        seed=st.integers(0, 1000),
    )
    def test_each_phase_is_as_itk_reads_it_alone(
        self, shape, axis, kind, space, type, encoding, endian, domain, unit, has_origin, frame, detached, seed
    ):
        random = np.random.default_rng(seed)
        axes, _ = np.linalg.qr(random.normal(size=(3, 3)))
        voxels = random.integers(0, 200, shape)
        fields = [f"space units: {' '.join([json.dumps(unit)] * 3)}"] if unit else []
        fields += ["measurement frame: (1,0,0) (0,0,-1) (0,1,0)"] if frame else []
        options = {
            **{"space": space, "type": type, "encoding": encoding, "endian": endian, "domain": domain},
            **{"directions": axes * random.uniform(0.5, 9, (3, 1)), "fields": tuple(fields), "detached": detached},
            "origin": random.uniform(-300, 300, 3) if has_origin else None,
        }
        with tempfile.TemporaryDirectory() as folder:
            phases = read_volumes(nrrd(Path(folder) / "cine.nrrd", voxels, axis, kind, **options))
            alone = [read_volume(nrrd(Path(folder) / "one.nrrd", phase, **options)) for phase in voxels]
        assert len(phases) == len(alone)
        for phase, one in zip(phases, alone, strict=True):
            assert np.array_equal(phase.array, one.array) and phase.array.dtype == one.array.dtype
            assert np.allclose(phase.ijk_to_ras, one.ijk_to_ras, rtol=1e-9, atol=1e-9 * np.abs(one.ijk_to_ras).max())

    @pytest.mark.parametrize("axis", (0, 3))
    def test_spacings_instead_of_directions(self, cine, axis, tmp_path):
        spacings, units = ["1.25", "1.4", "8"], ['"mm"'] * 3
        spacings.insert(axis, "40")
        units.insert(axis, '"ms"')
        fields = (f"spacings: {' '.join(spacings)}", f"units: {' '.join(units)}")
        phases = read_volumes(nrrd(tmp_path / "cine.nrrd", cine, axis, "time", directions=None, fields=fields))
        assert np.array_equal([phase.array for phase in phases], cine)
        assert np.allclose(phases[0].spacing, (8, 1.4, 1.25))
        assert [phase.time_ms for phase in phases] == [0, 40, 80, 120, 160]

    @pytest.mark.parametrize("order", ("tkji", "kjit"))
    def test_a_space_with_time(self, cine, order, tmp_path):
        """Directions of four components, the last of which is time."""
        path = nrrd(tmp_path / "cine.nrrd", cine, 3 if order[0] == "t" else 0, "time", directions=np.diag([1.0, 2, 3]))
        content = path.read_bytes().replace(b"superior", b"superior-time").replace(b"none", b"(0,0,0,40)")
        for found in (b"(1.0,0.0,0.0)", b"(0.0,2.0,0.0)", b"(0.0,0.0,3.0)"):
            content = content.replace(found, found[:-1] + b",0)")
        origin = b"space origin: (" + b",".join(repr(x).encode() for x in OBLIQUE[:3, 3].tolist())
        path.write_bytes(content.replace(origin, origin + b",0"))
        phases = read_volumes(path)
        assert np.array_equal([phase.array for phase in phases], cine)
        assert np.allclose(phases[0].ijk_to_ras, np.diag([-1, -1, 1, 1]) @ [[1, 0, 0, 41.5], [0, 2, 0, -60.25],
                                                                           [0, 0, 3, 12], [0, 0, 0, 1]])  # fmt: skip

    def test_units_of_the_axes_of_space_alone_count(self, cine, tmp_path):
        fields = ("spacings: 0.125 0.14 0.8 NaN", 'units: "cm" "cm" "cm" "beats"')
        phases = read_volumes(nrrd(tmp_path / "cine.nrrd", cine, directions=None, fields=fields))
        assert np.allclose(phases[0].spacing, (8, 1.4, 1.25)) and phases[0].time_ms is None

    def test_a_sequence_as_3d_slicer_writes_it(self, cine, tmp_path):
        fields = (
            'labels: "" "" "" "trigger time"',
            'units: "" "" "" "ms"',
            "measurement frame: (1,0,0) (0,1,0) (0,0,1)",
            "DataNodeClassName:=vtkMRMLScalarVolumeNode",
            "axis 3 index type:=numeric",
            "axis 3 index values:=0 38.5 77 115.5 154",
            "axis 3 item 0000 DICOM.instanceUIDs:=1.2.3 1.2.4 1.2.5",
            "axis 3 item 0001 Müller: said:=a: b := c",
        )
        phases = read_volumes(nrrd(tmp_path / "Herz.seq.nrrd", cine, encoding="gzip", fields=fields))
        assert [phase.name for phase in phases][:2] == ["Herz phase 01", "Herz phase 02"]
        assert np.array_equal([phase.array for phase in phases], cine)
        assert [phase.time_ms for phase in phases] == [0, 38.5, 77, 115.5, 154]

    def test_an_older_sequence_calls_its_phases_a_vector(self, cine, tmp_path):
        phases = read_volumes(nrrd(tmp_path / "old.seq.nrrd", cine, 0, "vector"))
        assert np.array_equal([phase.array for phase in phases], cine)

    def test_a_multi_volume_of_3d_slicer(self, cine, tmp_path):
        fields = (
            "MultiVolume.FrameIdentifyingDICOMTagName:=TriggerTime",
            "MultiVolume.FrameLabels:=0,40,80,120,160",
            "MultiVolume.NumberOfFrames:=5",
        )
        phases = read_volumes(nrrd(tmp_path / "cine.nrrd", cine, 0, "list", fields=fields))
        assert np.array_equal([phase.array for phase in phases], cine)
        assert [phase.time_ms for phase in phases] == [0, 40, 80, 120, 160]

    @pytest.mark.parametrize("axis", (0, 3))
    def test_a_sequence_of_one_volume_is_that_volume(self, cine, axis, tmp_path):
        (phase,) = read_volumes(nrrd(tmp_path / "one.seq.nrrd", cine[:1], axis))
        assert phase.name == "one" and np.array_equal(phase.array, cine[0])

    @pytest.mark.parametrize(
        ("name", "kind", "count", "fields", "words"),
        [
            ("c.nrrd", "RGB-color", 3, (), "values per voxel"),
            ("c.nrrd", "3-color", 3, (), "values per voxel"),
            ("c.seq.nrrd", "RGB-color", 3, (), "values per voxel"),
            ("c.nrrd", "vector", 3, (), "values per voxel"),
            ("c.nrrd", "3-vector", 3, (), "values per voxel"),
            ("c.nrrd", "covariant-vector", 3, (), "values per voxel"),
            ("c.nrrd", "list", 3, ("modality:=DWMRI", "DWMRI_b-value:=1000"), "diffusion"),
            ("c.nrrd", "list", 3, ("MultiVolume.FrameIdentifyingDICOMTagName:=EchoTime",), "differ in their EchoTime"),
            ("c.seg.nrrd", "list", 2, ("Segment0_ID:=Segment_1",), "is a segmentation"),
        ],
    )
    @pytest.mark.parametrize("axis", (0, 3))
    def test_what_are_no_phases_is_refused_as_what_it_is(self, name, kind, count, fields, words, axis, tmp_path):
        voxels = np.random.default_rng(0).integers(0, 99, (count, 3, 6, 4))
        path = nrrd(tmp_path / name, voxels, axis, kind, fields=fields, type="unsigned char")
        with pytest.raises(InputError, match=words) as caught:
            read_volumes(path)
        assert "\n" not in str(caught.value) and "damaged" not in str(caught.value)

    def test_five_axes_are_refused(self, tmp_path):
        path = nrrd(tmp_path / "c.seq.nrrd", np.zeros((2, 3, 4, 5), int))
        content = path.read_bytes().replace(b"dimension: 4", b"dimension: 5").replace(b"sizes: 5", b"sizes: 1 5")
        content = content.replace(b"directions: ", b"directions: none ").replace(b"kinds: ", b"kinds: vector ")
        path.write_bytes(content)
        with pytest.raises(InputError, match="has 5 axes"):
            read_volumes(path)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ((b"(1,0,0)", b"(0,0,0)"), "every spacing has to be above zero"),
            ((b"(1,0,0)", b"(nan,0,0)"), "how large its voxels are"),
            ((b"kinds: domain", b"kinds:"), "damaged"),
            ((b"type: short", b"type: block"), "no grey values"),
            ((b"encoding: raw", b"encoding: hex"), "hexadecimal"),
            ((b"encoding: raw", b"encoding: bzip2"), "encoding 'bzip2'"),
            ((b"encoding: raw", b'encoding: raw\nspace units: "furlong" "furlong" "furlong"'), "furlong"),
            ((b"encoding: raw", b"encoding: raw\ndata file: voxels%02d.raw 1 5 1"), "several files"),
            ((b"encoding: raw", b"encoding: raw\ndata file: nowhere.raw"), "nowhere.raw|there is no|cannot be"),
            ((b"sizes: 4 6 3 5", b"sizes: 4 6 3 9"), "damaged"),
        ],
    )
    def test_bad_headers_are_said(self, cine, change, words, tmp_path):
        path = nrrd(tmp_path / "cine.nrrd", cine, directions=np.diag([1.0, 2.0, 3.0]))
        content = path.read_bytes().replace(b"1.0,0.0,0.0", b"1,0,0")
        assert change[0] in content
        path.write_bytes(content.replace(*change))
        with pytest.raises(InputError, match=words) as caught:
            read_volumes(path)
        assert "\n" not in str(caught.value) and "cine" in str(caught.value)

    @settings(max_examples=60, deadline=None)
    @given(part=st.floats(0, 0.999), encoding=st.sampled_from(("raw", "gzip", "text")), axis=st.sampled_from((0, 3)))
    @example(part=0.5, encoding="raw", axis=3)
    def test_a_file_truncated_anywhere_is_never_read(self, part, encoding, axis):
        voxels = np.random.default_rng(1).integers(100, 999, (3, 4, 5, 6))
        with tempfile.TemporaryDirectory() as folder:
            path = nrrd(Path(folder) / "cine.seq.nrrd", voxels, axis, encoding=encoding)
            content = path.read_bytes()
            # Of a number written as digits its end may be missing without anybody's seeing it.
            cut = int(part * (len(content) - (4 if encoding == "text" else 0)))
            path.write_bytes(content[:cut])
            with pytest.raises(InputError):
                read_volumes(path)

    def test_names_without_what_names_the_format(self):
        assert [image_stem(Path(name)) for name in ("a.seq.nrrd", "b.seq.nhdr", "c.nrrd")] == ["a", "b", "c"]


def nifti(path: Path, cine: np.ndarray, step: float, units: int) -> Path:
    """Writes a 4D NIfTI file with that pixdim[4] and xyzt_units."""
    image = sitk.GetImageFromArray(cine, isVector=False)
    image.SetSpacing((1.25, 1.4, 8.0, 1.0))
    sitk.WriteImage(image, str(path))
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as file:
        content = bytearray(file.read())
    struct.pack_into("<f", content, 92, step)
    content[123] = units
    with opened(path, "wb") as file:
        file.write(content)
    return path


class TestNifti:
    @pytest.mark.parametrize(
        ("step", "units", "times"),
        [
            (0.2, 10, [0, 200, 400, 600, 800]),
            (200, 18, [0, 200, 400, 600, 800]),
            (200_000, 26, [0, 200, 400, 600, 800]),
            (200, 2, None),  # no unit of time
            (1, 10, None),  # what converters write who do not know it
            (0, 10, None),
            (-0.2, 10, None),
            (float("nan"), 10, None),
            (0.003, 10, None),  # the repetition time
        ],
    )
    @pytest.mark.parametrize("suffix", (".nii", ".nii.gz"))
    def test_pixdim_is_the_time_between_phases_where_it_can_be(self, cine, step, units, times, suffix, tmp_path):
        phases = read_volumes(nifti(tmp_path / f"cine{suffix}", cine, step, units))
        assert np.array_equal([phase.array for phase in phases], cine)
        assert np.allclose(phases[0].spacing, (8, 1.4, 1.25))
        found = [phase.time_ms for phase in phases]
        assert found == [None] * 5 if times is None else np.allclose(found, times)

    @pytest.mark.parametrize("shape", [(1, 5, 3, 6, 4), (5, 1, 3, 6, 4)])
    def test_a_fifth_axis_without_extent(self, cine, shape, tmp_path):
        image = sitk.GetImageFromArray(cine.reshape(shape), isVector=False)
        sitk.WriteImage(image, str(tmp_path / "cine.nii"))
        assert np.array_equal([phase.array for phase in read_volumes(tmp_path / "cine.nii")], cine)

    def test_a_fifth_axis_with_extent_is_refused(self, cine, tmp_path):
        image = sitk.GetImageFromArray(np.stack([cine, cine]), isVector=False)
        sitk.WriteImage(image, str(tmp_path / "cine.nii"))
        with pytest.raises(InputError, match="has 5 dimensions"):
            read_volumes(tmp_path / "cine.nii")


class TestProgram:
    def test_phases_are_one_heart(self, run, tmp_path):
        phantoms = cine_phantom(2, slices=4, size=(64, 80), spacing=(16.0, 2.8, 2.5))
        paths = [tmp_path / name for name in ("ES.nii.gz", "ED.nii.gz")]
        for phantom, path in zip(phantoms[::-1], paths, strict=True):
            write_volume(phantom.volume, path)
        code, printed, _ = run("segment", *paths, "--phases", "--task", "heart", "--output", tmp_path / "OUT")
        assert code == 0 and "ejection fraction" in printed
        content = json.loads((tmp_path / "OUT" / "measurements.json").read_text(encoding="utf-8"))
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
