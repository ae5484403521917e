"""The file that Slicer loads, in the host: description, terminology, sample data, reload and self test."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
import unittest
from pathlib import Path
from types import ModuleType

import pytest
import slicer

from dinsegment.tasks import HEART, TERMINOLOGY_CONTEXT
from dinsegment_slicer.installing.dependencies import Dependencies
from dinsegment_slicer.scene import sample_data

ROOT = Path(__file__).parents[2]
FILE = ROOT / "DINSegment" / "DINSegment.py"


class SampleDataSource:
    """As Slicer's: one address, file and node, or as many of each."""

    def __init__(self, sampleName, uris, fileNames, nodeNames, customDownloader, thumbnailFileName, checksums):
        assert isinstance(uris, str) and isinstance(fileNames, str) and isinstance(nodeNames, str)
        self.sampleName, self.uris, self.fileNames, self.nodeNames = sampleName, [uris], [fileNames], [nodeNames]
        self.customDownloader, self.thumbnailFileName = customDownloader, thumbnailFileName
        self.checksums = [checksums]


class SampleDataLogic:
    sources = ()

    @classmethod
    def registerCustomSampleDataSource(
        cls,
        category="Custom",
        sampleName=None,
        uris=None,
        fileNames=None,
        nodeNames=None,
        customDownloader=None,
        thumbnailFileName=None,
        loadFileTypes=None,
        loadFiles=None,
        loadFileProperties=None,
        checksums=None,
        loadFileType=None,
    ):
        assert category == "DINSegment"
        source = SampleDataSource(
            sampleName, uris, fileNames, nodeNames, customDownloader, thumbnailFileName, checksums
        )
        cls.sources = (*cls.sources, source)


@pytest.fixture
def host(monkeypatch):
    """The application, started, with the module loaded."""
    from host import Host

    module = ModuleType("SampleData")
    module.SampleDataLogic = SampleDataLogic
    monkeypatch.setitem(sys.modules, "SampleData", module)
    monkeypatch.setattr(SampleDataLogic, "sources", ())
    monkeypatch.setattr(sys, "path", list(sys.path))
    with Host() as host:
        host.module = host.load_module(FILE)
        host.start()
        yield host


@pytest.fixture
def packages_restored():
    """Afterwards those that the other tests were imported with are there again."""
    before = {name: module for name, module in sys.modules.items() if name.startswith("dinsegment")}
    yield
    for name in [name for name in sys.modules if name.startswith("dinsegment")]:
        del sys.modules[name]
    sys.modules.update(before)


class TestDescription:
    def test_what_the_user_reads(self, host):
        assert host.module.title == "DINSegment"
        assert host.module.categories == ["Segmentation"]
        assert host.module.contributors == ["DINSegment developers"]
        assert "research tool, not a medical device" in host.module.helpText
        for doi in ("10.1016/j.patrec.2025.08.018", "10.1109/TMI.2018.2837502", "arXiv 1502.04499"):
            assert doi in host.module.acknowledgementText

    def test_what_it_needs_is_there(self, host):
        for name in host.module.dependencies:
            assert hasattr(slicer.modules, name.lower())

    def test_the_codes_of_the_segments_are_known_after_the_start(self, host):
        entry = slicer.vtkSlicerTerminologyEntry()
        logic = slicer.modules.terminologies.logic()
        assert logic.FindTypeInTerminologyBy3dSlicerLabel(TERMINOLOGY_CONTEXT, HEART.segments[1].name, entry)
        assert entry.GetTypeObject().GetCodeValue() == HEART.segments[1].type.value


class TestSampleData:
    def test_every_sample_has_its_thumbnail(self, host):
        assert [source.sampleName for source in SampleDataLogic.sources] == [
            "Cine heart phantom",
            "Heart phantom",
            "Late enhancement phantom",
            "Abdomen phantom",
            "Abdominal CT",
        ]
        for source in SampleDataLogic.sources:
            assert Path(source.thumbnailFileName).is_file()

    def test_what_is_downloaded_has_a_checksum(self, host):
        downloaded = [source for source in SampleDataLogic.sources if source.customDownloader is None]
        assert downloaded
        for source in downloaded:
            for address, checksum in zip(source.uris, source.checksums, strict=True):
                algorithm, digest = checksum.split(":")
                assert algorithm == "SHA256" and len(digest) == 64 and address.endswith(f"/SHA256/{digest}")

    def test_a_click_adds_and_shows_what_it_says(self, host, small_phantoms, monkeypatch):
        shown = []
        monkeypatch.setattr(slicer.modules.sequences, "showSequenceBrowser", shown.append, raising=False)
        made = [source for source in SampleDataLogic.sources if source.customDownloader is not None]
        assert len(made) == 4
        for source in made:
            (node,) = source.customDownloader(source)
            assert node.GetName() == source.nodeNames[0]
            assert node.GetScene() is slicer.mrmlScene
        assert [browserNode.GetMasterSequenceNode().GetName() for browserNode in shown] == ["CineHeartPhantom"]
        composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
        assert composite.GetBackgroundVolumeID() == node.GetID()

    def test_what_fails_is_said_in_a_sentence(self, host, small_phantoms, monkeypatch):
        monkeypatch.setattr(sample_data, "python_executable", lambda: sys.base_prefix)
        (heart,) = (source for source in SampleDataLogic.sources if source.sampleName == "Heart phantom")
        assert heart.customDownloader(heart) == []
        assert "could not be started" in host.messages[-1].text
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0


class TestReload:
    def test_the_packages_are_imported_anew(self, host, monkeypatch, packages_restored):
        """Slicer runs the module's file again; what it imports must be what the files say now."""
        old = host.open_module("DINSegment")
        before = sys.modules["dinsegment_slicer.logic"]
        reloaded = []

        def reload(name):
            importlib.invalidate_caches()
            spec = importlib.util.spec_from_file_location(name, FILE)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            reloaded.append(module)

        monkeypatch.setattr(slicer.util, "reloadScriptedModule", reload)
        old.onReload()
        assert reloaded[0].DINSegmentLogic is not before.DINSegmentLogic
        assert sys.modules["dinsegment.tasks"].HEART is not HEART


class TestStart:
    def test_loading_and_opening_it_takes_no_package_that_is_yet_to_be_installed(self):
        code = """
            import sys
            import time

            sys.path.insert(0, sys.argv[2])
            from host import Host

            with Host() as host:
                import numpy  # Slicer has it from its start.

                start = time.process_time()
                host.load_module(sys.argv[1])
                seconds = time.process_time() - start
                host.open_module("DINSegment")
                used = set(sys.argv[3:]) & set(sys.modules)
                assert not used, used
                assert seconds < 2, seconds
        """
        packages = [m.name for m in Dependencies(path=[]).missing()]
        command = [sys.executable, "-c", textwrap.dedent(code), FILE, Path(__file__).parent, *packages]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


class TestSelfTest:
    """What runs in the application, here on the host, which has neither DICOM module nor Segment Editor."""

    TESTS = (
        "test_a_volume",
        "test_cine",
        "test_export",
        "test_report",
        "test_scene",
        "test_stack",
        "test_strokes",
        "test_sure",
        "test_width",
    )

    def run(self, *names):
        result = unittest.TestResult()
        unittest.TestSuite(sys.modules["DINSegment"].DINSegmentTest(name) for name in names).run(result)
        return result

    def test_this_is_all_of_it(self, host):
        found = unittest.TestLoader().getTestCaseNames(sys.modules["DINSegment"].DINSegmentTest)
        assert tuple(found) == self.TESTS

    @pytest.mark.parametrize("name", TESTS)
    def test_it_passes(self, host, name, request):
        if name != "test_a_volume":  # Once with the samples as they are.
            request.getfixturevalue("coarse_phantoms")
        host.set_testing(True)
        result = self.run(name)
        assert result.wasSuccessful(), [text for _test, text in result.errors + result.failures]
        assert result.testsRun == 1
        assert [test._testMethodName for test, _reason in result.skipped] == (
            [name] if name in ("test_export", "test_stack", "test_strokes") else []
        )

    def test_it_fails_where_packages_are_missing(self, host, monkeypatch):
        dependencies = importlib.import_module("dinsegment_slicer.installing.dependencies")
        monkeypatch.setattr(dependencies.Dependencies, "_version", lambda self, name: None)
        result = self.run(*self.TESTS)
        assert len(result.failures) == result.testsRun == len(self.TESTS)
        for _test, text in result.failures:
            assert "agree to install torch>=2.5.1, safetensors" in text
