"""A real archive takes images, DICOM SEG and DICOM SR, finds them, and gives them back as they were."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cine_study import SLICES, read_cine, study_of, uid_of, write
from dicomweb_client import DICOMwebClient
from orthanc_server import CLIENT_TITLE, orthanc, session
from phantom_series import phantom_study
from pydicom import Dataset, dcmread
from pydicom.uid import (
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)
from read_dicom_seg import read_dicom_seg

from dinsegment.dicom.write.seg import cine_options, write_dicom_seg
from dinsegment.dicom.write.sr import write_dicom_sr
from dinsegment.images import read_volumes
from dinsegment.images.segmentation import Segmentation
from dinsegment.measurements.function import beat_of
from dinsegment.measurements.study import measure_study
from dinsegment.report.pages import make_pages
from dinsegment.studies.results import write_results
from dinsegment.tasks import HEART

STORAGE = (MRImageStorage, SegmentationStorage, ComprehensiveSRStorage)
SUCCESS, PENDING = 0x0000, (0xFF00, 0xFF01)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with orthanc(tmp_path_factory.mktemp("archive")) as server:
        yield server


@pytest.fixture(scope="module")
def web(archive):
    if archive.dicomweb_url is None:
        pytest.skip("Orthanc's DICOMweb plugin is missing: install the package orthanc-dicomweb.")
    with session() as http:
        yield DICOMwebClient(archive.dicomweb_url, session=http)


class Study:
    """A cine with a DICOM SEG for each phase and a DICOM SR of all, as files.

    Args:
        images: Folder of the images.
        phases: What was segmented in them.
        results: Gets the results.
    """

    def __init__(self, images: Path, phases: list[Segmentation], results: Path) -> None:
        self.phases = phases
        options = cine_options(len(phases))
        self.segs = [write_dicom_seg(p, results / f"seg{n}.dcm", options[n]) for n, p in enumerate(phases)]
        write_dicom_sr(phases, self.segs, beat_of(phases).function, results / "sr.dcm")
        files = sorted((*images.iterdir(), *results.glob("*.dcm")))
        self.datasets = {dataset.SOPInstanceUID: dataset for dataset in map(dcmread, files)}
        self.uid = self.segs[0].StudyInstanceUID
        self.patient = self.segs[0].PatientName

    @classmethod
    def of_phantom(cls, folder: Path, seed: int) -> Study:
        """Two phases of four slices, with headers that are valid."""
        return cls(folder / "images", phantom_study(folder / "images", phases=2, seed=seed), folder)

    @classmethod
    def of_patient(cls, folder: Path, sunnybrook_folder: Path) -> Study:
        """Two phases of a real series, with UIDs that are none; brightness makes up its segments."""
        images = folder / "images"
        images.mkdir()
        for path in sunnybrook_folder.glob("*.dcm"):
            if int(path.stem) % 20 in (8, 19):
                (images / path.name).symlink_to(path)
        phases = []
        for volume in read_volumes(images):
            labels = np.digitize(volume.array, np.percentile(volume.array, (50, 80, 95))).astype(np.uint8)
            phases.append(Segmentation(volume, labels, HEART, "heart-din-small", volume, "cpu", 0.0))
        return cls(images, phases, folder)

    def series(self) -> dict[str, tuple[str, int]]:
        """Modality and number of instances of each series."""
        counts: dict[str, tuple[str, int]] = {}
        for dataset in self.datasets.values():
            uid = str(dataset.SeriesInstanceUID)
            counts[uid] = (dataset.Modality, counts.get(uid, ("", 0))[1] + 1)
        return counts


@pytest.fixture(scope="module")
def stored(archive, tmp_path_factory):
    """A study that was sent by C-STORE."""
    study = Study.of_phantom(tmp_path_factory.mktemp("stored"), seed=1)
    assert store(archive, study.datasets.values()) == [SUCCESS] * 11
    return study


@pytest.fixture(scope="module")
def posted(web, tmp_path_factory):
    """A study that was sent by STOW-RS."""
    study = Study.of_phantom(tmp_path_factory.mktemp("posted"), seed=2)
    answer = web.store_instances(list(study.datasets.values()))
    assert len(answer.ReferencedSOPSequence) == 11
    assert not answer.get("FailedSOPSequence")
    return study


def associate(archive, contexts, **options):
    entity = AE(CLIENT_TITLE)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 30
    for context in contexts:
        entity.add_requested_context(context, ExplicitVRLittleEndian)
    association = entity.associate(archive.host, archive.dicom_port, ae_title=archive.title, **options)
    assert association.is_established
    return association


def store(archive, datasets):
    association = associate(archive, STORAGE)
    try:
        return [association.send_c_store(dataset).Status for dataset in datasets]
    finally:
        association.release()


def find(archive, **keys):
    """The matches of C-FIND, data sets."""
    association = associate(archive, [StudyRootQueryRetrieveInformationModelFind])
    query = Dataset()
    query.update(keys)
    try:
        answers = list(association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind))
    finally:
        association.release()
    assert answers[-1][0].Status == SUCCESS
    return [match for status, match in answers if status.Status in PENDING]


def get(archive, study_uid):
    """The instances of a study that C-GET sends, by UID."""
    received = {}

    def take(event):
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        received[dataset.SOPInstanceUID] = dataset
        return SUCCESS

    roles = [build_role(storage, scp_role=True) for storage in STORAGE]
    contexts = [StudyRootQueryRetrieveInformationModelGet, *STORAGE]
    association = associate(archive, contexts, ext_neg=roles, evt_handlers=[(evt.EVT_C_STORE, take)])
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", study_uid
    try:
        answers = list(association.send_c_get(query, StudyRootQueryRetrieveInformationModelGet))
        assert answers[-1][0].Status == SUCCESS
    finally:
        association.release()
    return received


def check_unchanged(received, study):
    """Every instance came back, element for element, pixel data included."""
    assert set(received) == set(study.datasets)
    for uid, sent in study.datasets.items():
        # Group lengths, retired long ago, are not sent.
        assert list(received[uid]) == [element for element in sent if element.tag.element != 0]


def check_on_source_grid(received, study, folder):
    """From what came back alone: the images are read, and each SEG lies on the voxels of its phase."""
    (folder / "images").mkdir()
    for uid, dataset in received.items():
        place = folder / "images" if dataset.Modality == "MR" else folder
        dataset.save_as(place / f"{uid}.dcm", enforce_file_format=True)
    volumes = read_volumes(folder / "images")
    assert len(volumes) == len(study.phases) == 2
    for volume, phase, seg in zip(volumes, study.phases, study.segs, strict=True):
        assert np.array_equal(volume.array, phase.volume.array)
        assert np.array_equal(volume.ijk_to_ras, phase.volume.ijk_to_ras)
        content = read_dicom_seg(folder / f"{seg.SOPInstanceUID}.dcm", volume)
        assert [segment.name for segment in content.segments] == [segment.name for segment in phase.task.segments]
        for segment, mask in zip(phase.task.segments, content.masks, strict=True):
            assert mask.any() and np.array_equal(mask, phase.labels == segment.label)


class TestDimse:
    def test_what_was_stored_is_found(self, archive, stored):
        (study,) = find(
            archive, QueryRetrieveLevel="STUDY", StudyInstanceUID=stored.uid, PatientName="", ModalitiesInStudy=""
        )
        assert study.PatientName == stored.patient
        assert sorted(study.ModalitiesInStudy) == ["MR", "SEG", "SR"]
        matches = find(
            archive,
            **{"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": stored.uid, "SeriesInstanceUID": ""},
            **{"Modality": "", "NumberOfSeriesRelatedInstances": ""},
        )
        found = {str(m.SeriesInstanceUID): (m.Modality, int(m.NumberOfSeriesRelatedInstances)) for m in matches}
        assert found == stored.series()
        assert sorted(found.values()) == [("MR", 8), ("SEG", 2), ("SR", 1)]

    def test_what_comes_back_is_what_was_sent(self, archive, stored, tmp_path):
        received = get(archive, stored.uid)
        check_unchanged(received, stored)
        check_on_source_grid(received, stored, tmp_path)

    @pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
    def test_a_real_series_and_its_results_come_back_too(self, archive, sunnybrook_folder, tmp_path):
        sent, back = tmp_path / "sent", tmp_path / "back"
        sent.mkdir()
        back.mkdir()
        study = Study.of_patient(sent, sunnybrook_folder)
        assert store(archive, study.datasets.values()) == [SUCCESS] * 27
        received = get(archive, study.uid)
        check_unchanged(received, study)
        check_on_source_grid(received, study, back)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
class TestStudyOfManySeries:
    """A study in the archive is found, fetched and segmented, and its results are stored beside it."""

    @pytest.fixture(scope="class")
    @classmethod
    def kept(cls, archive, sunnybrook_folder, tmp_path_factory):
        """A folder with the study that the archive has, as a scanner has sent it."""
        rows = read_cine(sunnybrook_folder, phases=(0, 8))
        folder = write(study_of(rows), tmp_path_factory.mktemp("scanner"))
        sent = [dcmread(path) for path in folder.iterdir()]
        assert store(archive, sent) == [SUCCESS] * len(sent)
        return folder

    def test_it_is_found_fetched_segmented_and_stored(self, archive, kept, run, tiny_models, tmp_path, monkeypatch):
        monkeypatch.setenv("DINSEGMENT_MODELS", str(tiny_models))  # What it finds is not looked at, if it is something.
        here = {"QueryRetrieveLevel": "STUDY", "PatientID": "ID1", "StudyInstanceUID": ""}
        (match,) = find(archive, **here)
        fetched = get(archive, match.StudyInstanceUID)
        assert len(fetched) == len(list(kept.iterdir()))
        folder, output = tmp_path / "fetched", tmp_path / "OUT"
        folder.mkdir()
        for uid, dataset in fetched.items():
            dataset.save_as(folder / f"{uid}.dcm", enforce_file_format=True)
        code, _, errors = run("segment", folder, "--task", "heart", "--output", output, "--device", "cpu")
        assert code == 0, errors
        made = [dcmread(path) for path in sorted(output.rglob("*.dcm"))]
        assert [one.Modality for one in made] == ["SR", "SEG", "SEG"]
        assert store(archive, made) == [SUCCESS] * 3
        series = {
            **{"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": match.StudyInstanceUID, "SeriesInstanceUID": ""},
            **{"Modality": "", "NumberOfSeriesRelatedInstances": ""},
        }
        found = sorted((m.Modality, int(m.NumberOfSeriesRelatedInstances)) for m in find(archive, **series))
        assert found[-2:] == [("SEG", 2), ("SR", 1)] and len(found) == SLICES + 5 + 2
        back = get(archive, match.StudyInstanceUID)
        images = {str(h.SOPInstanceUID) for h in back.values() if h.Modality == "MR"}
        phases = json.loads((output / "measurements.json").read_text(encoding="utf-8"))["phases"]
        for number, seg in enumerate(made[1:], start=1):
            again = back[seg.SOPInstanceUID]
            assert list(again) == [element for element in seg if element.tag.element != 0]
            # What it refers to is in the archive, in the series that it says.
            for referred in again.ReferencedSeriesSequence:
                for item in referred.ReferencedInstanceSequence:
                    assert item.ReferencedSOPInstanceUID in images
                    assert back[item.ReferencedSOPInstanceUID].SeriesInstanceUID == referred.SeriesInstanceUID
            assert len(again.ReferencedSeriesSequence) == SLICES
            assert again.ReferencedSeriesSequence[0].SeriesInstanceUID == uid_of(101)
            again.save_as(tmp_path / f"seg{number}.dcm", enforce_file_format=True)
            volume = read_volumes(folder, None, HEART)[number - 1]
            content = read_dicom_seg(tmp_path / f"seg{number}.dcm", volume)
            voxels = {
                segment.name: int(mask.sum()) for segment, mask in zip(content.segments, content.masks, strict=True)
            }
            said = {one["name"]: one["voxels"] for one in phases[number - 1]["segments"] if one["voxels"]}
            assert voxels == said and said
        # With results in it, the study is still read as what it is.
        for uid, dataset in back.items():
            if uid not in fetched:
                dataset.save_as(folder / f"{uid}.dcm", enforce_file_format=True)
        assert len(read_volumes(folder, None, HEART)) == 2


class TestDicomWeb:
    def test_what_was_posted_is_found(self, web, posted):
        matches = [Dataset.from_json(match) for match in web.search_for_series(posted.uid)]
        found = {str(m.SeriesInstanceUID): (m.Modality, int(m.NumberOfSeriesRelatedInstances)) for m in matches}
        assert found == posted.series()
        (study,) = web.search_for_studies(search_filters={"StudyInstanceUID": posted.uid})
        assert Dataset.from_json(study).PatientName == posted.patient

    def test_what_comes_back_is_what_was_sent(self, web, posted, tmp_path):
        received = {dataset.SOPInstanceUID: dataset for dataset in web.retrieve_study(posted.uid)}
        check_unchanged(received, posted)
        check_on_source_grid(received, posted, tmp_path)

    def test_a_viewer_finds_the_frames_of_a_segment(self, web, posted):
        seg = posted.segs[0]
        where = (seg.StudyInstanceUID, seg.SeriesInstanceUID, seg.SOPInstanceUID)
        described = Dataset.from_json(web.retrieve_instance_metadata(*where), lambda *_: None)
        assert described.NumberOfFrames == seg.NumberOfFrames
        assert [s.SegmentLabel for s in described.SegmentSequence] == [s.SegmentLabel for s in seg.SegmentSequence]


def test_the_report_lies_beside_the_images(archive, tmp_path):
    """SEG, SR, Encapsulated PDF and Secondary Capture of one run, in the study of the images."""
    phases = phantom_study(tmp_path / "images", phases=2, seed=5)
    measured = measure_study(phases)
    write_results(phases, tmp_path / "OUT", measured=measured, pages=make_pages(phases, measured))
    files = [*(tmp_path / "images").iterdir(), *(tmp_path / "OUT").rglob("*.dcm")]
    association = associate(archive, [*STORAGE, EncapsulatedPDFStorage, SecondaryCaptureImageStorage])
    try:
        assert {association.send_c_store(dcmread(path)).Status for path in files} == {SUCCESS}
    finally:
        association.release()
    uid = dcmread(tmp_path / "OUT" / "report.dcm").StudyInstanceUID
    series = find(archive, QueryRetrieveLevel="SERIES", StudyInstanceUID=uid, SeriesInstanceUID="", Modality="")
    assert sorted(one.Modality for one in series) == ["DOC", "MR", "OT", "SEG", "SR"]
