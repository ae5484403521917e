"""Where DICOM images come from: folders in folders, zip archives, DICOMDIRs, single files, beside what is no image."""

from __future__ import annotations

import errno
import gzip
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from dicom_cases import SERIES, Series, headers, pixels, write_series
from pydicom import Dataset
from pydicom.fileset import FileSet
from pydicom.uid import ImplicitVRLittleEndian, generate_uid

from dinsegment import cli
from dinsegment.dicom.read import files as dicom_files
from dinsegment.errors import InputError
from dinsegment.images import read_volume, read_volumes, write_volume
from dinsegment.images.volume import Volume
from dinsegment.manifest import staged
from dinsegment.studies.folders import plan_studies
from dinsegment.studies.ledger import fingerprint
from dinsegment.studies.results import KIND
from dinsegment.studies.study import Study, load_study

OBLIQUE = SERIES["oblique"]
SOP_CLASSES = {
    "SEG": "1.2.840.10008.5.1.4.1.1.66.4",
    "SR": "1.2.840.10008.5.1.4.1.1.88.33",
    "RTSTRUCT": "1.2.840.10008.5.1.4.1.1.481.3",
    "RTDOSE": "1.2.840.10008.5.1.4.1.1.481.2",
    "PR": "1.2.840.10008.5.1.4.1.1.11.1",
    "KO": "1.2.840.10008.5.1.4.1.1.88.59",
    "OT": "1.2.840.10008.5.1.4.1.1.7",
    "maker's own": "1.3.12.2.1107.5.9.1",
}
WITH_PIXELS = ("SEG", "RTDOSE", "OT")


def fails(path: Path, *words: str, series: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read_volumes(path, series)
    text = str(caught.value)
    said = text.replace(str(path), "")
    for word in words:
        assert word in said
    assert "\n" not in text
    return text


def is_series(volume: Volume, series: Series) -> bool:
    return np.array_equal(volume.array, pixels(series)) and np.allclose(volume.ijk_to_ras, series.ijk_to_ras, atol=1e-6)


def write_other(path: Path, kind: str) -> None:
    """An instance that is no slice, made of one that is."""
    image = headers(OBLIQUE)[0]
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = SOP_CLASSES[kind]
    image.Modality = kind if len(kind) < 9 else "OT"
    del image.ImagePositionPatient
    if kind not in WITH_PIXELS:
        del image.PixelData
    image.save_as(path, enforce_file_format=True)


@pytest.fixture
def folder(tmp_path) -> Path:
    write_series(tmp_path / "series", OBLIQUE)
    return tmp_path / "series"


@pytest.fixture
def archive(folder, tmp_path) -> Path:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for image in folder.iterdir():
            file.write(image, f"STUDY/SERIES/{image.name}")
    return path


class TestFolders:
    def test_a_tree_as_exports_have_it_is_read_as_the_folder_in_it(self, folder, tmp_path):
        tree = tmp_path / "EXPORT"
        (tree / "PATIENT/STUDY").mkdir(parents=True)
        (tree / "README.txt").write_text("A viewer is on this disc.")
        (tree / "loop").symlink_to(tree, target_is_directory=True)
        folder.rename(tree / "PATIENT/STUDY/SERIES")
        volume = read_volume(tree)
        assert is_series(volume, OBLIQUE) and volume.name == "EXPORT"

    def test_images_at_all_levels_count_together(self, folder):
        files = sorted(folder.iterdir())
        (folder / "more/below").mkdir(parents=True)
        (folder / ".hidden").mkdir()
        for file, place in zip(files, ("more", "more/below", ".hidden"), strict=False):
            file.rename(folder / place / file.name)
        assert is_series(read_volume(folder), OBLIQUE)
        write_series(folder / "other", SERIES["CT"])
        fails(folder, "2 DICOM series", "--series")

    def test_images_behind_a_link_count(self, folder, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        first, second, *_ = sorted(folder.iterdir())
        first.rename(tmp_path / "elsewhere" / first.name)
        (folder / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        assert is_series(read_volume(folder), OBLIQUE)
        second.rename(tmp_path / "away")
        second.symlink_to(tmp_path / "away")
        assert is_series(read_volume(folder), OBLIQUE)
        (tmp_path / "away").unlink()
        fails(folder, second.name, "link to what is not there")

    def test_what_was_thrown_away_does_not_count(self, folder):
        write_series(folder / ".Trash-1000/files", SERIES["CT"])
        assert is_series(read_volume(folder), OBLIQUE)

    @pytest.mark.parametrize("name", ["folder", "file"])
    def test_what_cannot_be_opened_is_named(self, name, folder, monkeypatch):
        file = sorted(folder.iterdir())[1]
        bad = folder / "locked" if name == "folder" else file
        if name == "folder":
            bad.mkdir()
            file.rename(bad / file.name)
        real_scan, real_open = os.scandir, Path.open

        def refuse(error_path):  # root, as tests often run, may read everything
            raise PermissionError(errno.EACCES, "Permission denied", str(error_path))

        monkeypatch.setattr(os, "scandir", lambda at: refuse(at) if Path(at) == bad else real_scan(at))
        monkeypatch.setattr(Path, "open", lambda at, *a, **k: refuse(at) if at == bad else real_open(at, *a, **k))
        assert "damaged" not in fails(folder, bad.name, "may read it")

    @pytest.mark.parametrize("kind", ["zip", "gz", "tar", "tar.gz"])
    def test_images_that_are_packed_beside_others_are_said(self, kind, folder, tmp_path):
        last = sorted(folder.iterdir())[-1]
        packed = folder / f"rest.{kind}"
        if kind == "zip":
            with zipfile.ZipFile(packed, "w") as archive:
                archive.write(last, last.name)
        elif kind == "gz":
            packed.write_bytes(gzip.compress(last.read_bytes()))
        else:
            with tarfile.open(packed, "w:gz" if kind == "tar.gz" else "w") as archive:
                archive.add(last, last.name)
        (folder / "labels.nii.gz").write_bytes(gzip.compress(bytes(500)))
        volume = read_volume(folder)
        assert is_series(volume, OBLIQUE)
        assert [packed.name in warning and "packed" in warning for warning in volume.warnings] == [True]

    @pytest.mark.parametrize("outer", ["zip", "tar"])
    def test_archives_in_an_archive_are_said(self, outer, archive, tmp_path):
        folder, packed = tmp_path / "export", tmp_path / "export" / f"outer.{outer}"
        folder.mkdir()
        if outer == "zip":
            with zipfile.ZipFile(packed, "w") as file:
                file.write(archive, "DISC/inner.zip")
        else:
            with tarfile.open(packed, "w") as file:
                file.add(archive, "DISC/inner.zip")
        fails(folder, "no DICOM images", packed.name, "unpack it")

    def test_documents_without_images_are_told_from_what_is_no_dicom(self, tmp_path):
        write_other(tmp_path / "report", "SR")
        write_other(tmp_path / "key", "KO")
        (tmp_path / "notes.txt").write_text("nothing", encoding="utf-8")
        fails(tmp_path, "2 DICOM files, none of them an image")

    def test_one_file_of_a_series_says_that_there_are_others(self, folder):
        first, *others = sorted(folder.iterdir())
        (warning,) = read_volume(first).warnings
        assert others[0].name in warning and "give the folder" in warning
        for other in others:
            other.unlink()
        assert read_volume(first).warnings == ()

    @pytest.mark.parametrize("kind", SOP_CLASSES)
    def test_what_is_no_image_is_passed_over(self, kind, folder):
        write_other(folder / "IM9999.dcm", kind)
        (folder / "._IM0003.dcm").write_bytes(b"\0\5\x16\7 a resource fork of macOS")
        assert is_series(read_volume(folder), OBLIQUE)

    @pytest.mark.parametrize("size", (0, 100))
    def test_a_file_that_is_named_as_the_images_but_is_none(self, size, folder):
        for file in folder.iterdir():
            file.rename(file.with_suffix(""))
        last = max(folder.iterdir())
        last.write_bytes(last.read_bytes()[:size])
        (folder / "README").write_text("no image")
        fails(folder, last.name, "damaged")

    def test_too_many_files_are_refused_before_they_are_read(self, folder, tmp_path, monkeypatch):
        monkeypatch.setattr(dicom_files, "MAX_FILES", 3)
        fails(tmp_path, "more than 3 files")

    def test_a_file_as_it_was_before_files_had_preambles(self, tmp_path):
        image = headers(Series(shape=(1, 12, 10)))[0]
        for syntax in ((True, True), (False, True)):
            with (tmp_path / "image").open("wb") as file:
                Dataset(image).save_as(file, implicit_vr=syntax[0], little_endian=syntax[1])
            assert np.array_equal(read_volume(tmp_path / "image").array, pixels(Series(shape=(1, 12, 10))))

    def test_a_meta_header_without_a_preamble(self, folder):
        for file in folder.iterdir():
            file.write_bytes(file.read_bytes()[132:])
            file.rename(file.with_suffix(""))
        assert is_series(read_volume(folder), OBLIQUE)
        first = min(folder.iterdir())
        assert read_volume(first).shape == (1, *OBLIQUE.shape[1:])

    def test_an_implicit_file_among_explicit_ones(self, folder):
        image = headers(OBLIQUE)[1]
        first = read_volume(folder).dicom.headers[0]
        image.SeriesInstanceUID, image.StudyInstanceUID = first.SeriesInstanceUID, first.StudyInstanceUID
        image.FrameOfReferenceUID = first.FrameOfReferenceUID
        image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        image.save_as(folder / "IM0010.dcm", enforce_file_format=True)
        assert is_series(read_volume(folder), OBLIQUE)


class TestZip:
    def test_an_archive_is_read_as_the_folder_and_nothing_is_left(self, archive, folder, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
        before = sorted(tmp_path.rglob("*"))
        volume = read_volume(archive)
        assert is_series(volume, OBLIQUE) and volume.name == "export"
        assert [h.SOPInstanceUID for h in volume.dicom.headers] == [
            h.SOPInstanceUID for h in read_volume(folder).dicom.headers
        ]
        assert sorted(tmp_path.rglob("*")) == before

    def test_names_that_lead_out_of_the_archive_write_nothing(self, archive, tmp_path):
        with zipfile.ZipFile(archive, "a") as file:
            file.writestr("../../escaped.txt", "out")
            file.writestr("/escaped.txt", "out")
            file.writestr("__MACOSX/STUDY/._IM0003.dcm", "a resource fork of macOS")
        assert is_series(read_volume(archive), OBLIQUE)
        assert not list(tmp_path.parent.rglob("escaped.txt")) and not Path("/escaped.txt").exists()

    def test_without_images(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "text.zip", "w") as file:
            file.writestr("notes.txt", "no image")
        fails(tmp_path / "text.zip", "no DICOM images")

    def test_locked_by_a_password(self, archive):
        content = bytearray(archive.read_bytes())
        entry = content.index(b"PK\1\2")
        content[entry + 8] |= 1
        archive.write_bytes(content)
        fails(archive, "password", "unpack")

    def test_a_bomb(self, archive):
        content = bytearray(archive.read_bytes())
        entry = content.index(b"PK\1\2")
        content[entry + 24 : entry + 28] = (0xF0000000).to_bytes(4, "little")
        archive.write_bytes(content)
        fails(archive, "unpacks to more than an image")

    def test_many_large_files(self, archive, monkeypatch):
        monkeypatch.setattr(dicom_files, "MAX_UNPACKED_BYTES", 1000)
        fails(archive, "more than any study")

    @pytest.mark.parametrize("kept", (0, 3, 30, -1, -30))
    def test_cut(self, archive, kept):
        archive.write_bytes(archive.read_bytes()[:kept])
        fails(archive, "damaged")

    def test_a_pixel_that_does_not_fit_the_checksum(self, tmp_path):
        path = tmp_path / "stored.zip"
        write_series(tmp_path / "padded", Series(tags={"DataSetTrailingPadding": bytes(20_000)}))
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
            for image in (tmp_path / "padded").iterdir():
                file.write(image, image.name)
            last = file.infolist()[-1]
        assert np.array_equal(read_volume(path).array, pixels(Series()))
        content = bytearray(path.read_bytes())
        content[content.rindex(b"\xe0\x7f\x10\0OW") + 20] ^= 1
        path.write_bytes(content)
        fails(path, "damaged", last.filename)


class TestDicomdir:
    @pytest.fixture
    def disc(self, tmp_path) -> Path:
        files = FileSet()
        for image in headers(OBLIQUE):
            files.add(image)
        files.write(tmp_path / "DISC")
        return tmp_path / "DISC" / "DICOMDIR"

    def test_its_images_are_read(self, disc):
        stray = headers(SERIES["CT"])[0]
        stray.save_as(disc.parent / "stray.dcm", enforce_file_format=True)
        volume = read_volume(disc)
        assert is_series(volume, OBLIQUE) and volume.name == "DISC"

    def test_the_folder_that_holds_it(self, disc):
        assert is_series(read_volume(disc.parent), OBLIQUE)

    def test_names_that_came_out_in_lower_case(self, disc):
        for path in sorted(disc.parent.rglob("*"), reverse=True):
            if path != disc:
                path.rename(path.with_name(path.name.lower()))
        assert is_series(read_volume(disc), OBLIQUE)

    def test_missing_images(self, disc):
        images = [path for path in disc.parent.rglob("*") if path.is_file() and path != disc]
        images[0].unlink()
        fails(disc, "1 files that are not there", images[0].name)

    def test_damaged(self, disc):
        disc.write_bytes(disc.read_bytes()[:700])
        fails(disc, "damaged")
        disc.write_text("nothing")
        fails(disc, "damaged")


class TestSeries:
    @pytest.fixture
    def two(self, tmp_path) -> tuple[Path, str, str]:
        """A folder of two series, and their UIDs."""
        tree = tmp_path / "two"
        first = write_series(tree / "A", OBLIQUE)[0]
        second = write_series(tree / "B", Series("CT", (5, 9, 11), tags={"SeriesNumber": 2, "SeriesDescription": ""}))
        return tree, first.SeriesInstanceUID, second[0].SeriesInstanceUID

    def test_several_are_listed_in_the_order_of_their_numbers(self, two):
        tree, first, second = two
        text = fails(tree, "2 DICOM series", "--series")
        assert text.index(f"'no description' (5 images) {second}") < text.index(f"'SAX' (4 images) {first}")

    def test_a_description_is_read_by_its_character_set(self, two):
        tree, *_ = two
        names = dict.fromkeys(("PatientName", "ReferringPhysicianName", "StudyDescription"), "A")
        tags = {**names, "SpecificCharacterSet": "ISO_IR 13", "SeriesDescription": "ｶﾀｶﾅ"}
        write_series(tree / "C", Series(shape=(2, 12, 10), tags=tags))
        fails(tree, "'ｶﾀｶﾅ' (2 images)")

    def test_one_is_chosen_by_its_uid(self, two):
        tree, first, second = two
        assert is_series(read_volume(tree, first), OBLIQUE)
        assert read_volume(tree, second).shape == (5, 9, 11)
        fails(tree, "no DICOM series 1.2.3", first, series="1.2.3")

    def test_a_study_carries_the_choice(self, two, tmp_path):
        tree, first, _ = two
        (study,) = plan_studies([tree], tmp_path / "out", first)
        assert is_series(load_study(study)[0], OBLIQUE)
        with pytest.raises(InputError, match="2 DICOM series"):
            load_study(Study(tree, tmp_path))

    def test_only_dicom_has_series(self, tmp_path):
        path = tmp_path / "image.nii.gz"
        write_volume(Volume(pixels(OBLIQUE), np.eye(4)), path)
        fails(path, "no DICOM", "--series", series="1.2.3")

    def test_the_command_line_takes_one_for_one_input(self, two, tmp_path, monkeypatch, capsys):
        tree, first, _ = two

        def run(*arguments: object) -> tuple[int, str]:
            command = ["dinsegment", "segment", "--task", "heart", "-o", tmp_path / "out", *arguments]
            monkeypatch.setattr(sys, "argv", list(map(str, command)))
            try:
                cli.main()
            except SystemExit as stop:
                return int(stop.code or 0), capsys.readouterr().err
            return 0, capsys.readouterr().err

        code, said = run(tree, tree, "--series", first)
        assert code == 2 and "--series is for a single input" in said
        code, said = run(tree, "--series", "1.2.3")
        assert code == 2 and "no DICOM series 1.2.3" in said and first in said


def test_an_input_is_another_one_when_a_file_deep_in_it_changes(tmp_path):
    tree, results = tmp_path / "tree", tmp_path / "tree/results"
    images = write_series(tree / "A/B", OBLIQUE)
    before = fingerprint(tree, results)
    with staged(results, KIND) as folder:
        (folder / "segmentation.seg.nrrd").write_text("ours")
    assert fingerprint(tree, results) == before and before["files"] == len(images)
    (results / "notes.txt").write_text("the user's")
    assert fingerprint(tree, results)["files"] == len(images) + 1
    (results / "notes.txt").unlink()
    (tree / "A/B/more.dcm").write_bytes(b"")
    assert fingerprint(tree, results) != before


def test_every_volume_knows_its_instances(tmp_path):
    images = []
    for phase in range(2):
        for k, image in enumerate(headers(OBLIQUE)):
            image.TriggerTime, image.SeriesInstanceUID = str(30 - 10 * phase + k), "1.2.3.4"
            image.PixelData = pixels(OBLIQUE, 1 - phase)[k].tobytes()
            image.save_as(tmp_path / f"{generate_uid()}.dcm", enforce_file_format=True)
            images.append(image)
    phases = read_volumes(tmp_path)
    expected = [images[len(images) // 2 :], images[: len(images) // 2]]
    for phase, (volume, instances) in enumerate(zip(phases, expected, strict=True)):
        assert np.array_equal(volume.array, pixels(OBLIQUE, phase))
        assert volume.dicom.frames is None and volume.dicom.slices == OBLIQUE.shape[0]
        for header, instance in zip(volume.dicom.headers, instances, strict=True):
            assert header.SOPInstanceUID == instance.SOPInstanceUID and "PixelData" not in header
            del instance.PixelData
            assert header == instance
            assert header.to_json() == instance.to_json()


def test_other_images_are_read_without_pydicom(tmp_path):
    write_volume(Volume(pixels(OBLIQUE), np.eye(4)), tmp_path / "image.nii.gz")
    code = (
        "import sys; from dinsegment.images import read_volume; read_volume(sys.argv[1]);"
        "assert not {'pydicom', 'highdicom'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "image.nii.gz"], check=True)
