"""Sample data: generated in a process of their own while the window answers, or at once for scripts."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import mrml
import numpy as np
import psutil
import pytest
import slicer

import forked
from dinsegment.errors import Cancelled, InputError, WorkerError
from dinsegment.phantom.ct import abdomen_phantom
from dinsegment.phantom.heart import cine_phantom
from dinsegment.tasks import TASKS
from dinsegment_slicer.running import process
from dinsegment_slicer.scene import sample_data
from dinsegment_slicer.scene.browsers import proxy_of
from dinsegment_slicer.scene.sample_data import phantom_of, phantom_steps, phantoms, volume_of
from dinsegment_slicer.scene.sequences import is_image_sequence, phase_images, times_ms


@pytest.fixture(scope="module", autouse=True)
def prepared():
    forked.prepare()  # Or it would be a child after a test, and not before.


@pytest.fixture
def sequences(scene):
    """Slicer's logic that shows what a browser has selected."""
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLScene(scene)
    yield logic
    logic.SetMRMLScene(None)


def finish(steps):
    """What the steps make."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
        time.sleep(0.01)


def children():
    return [child for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]


def named(name):
    return next(phantom for phantom in phantoms() if phantom.name == name)


class TestData:
    @pytest.mark.parametrize("task", TASKS)
    def test_every_task_has_a_sample(self, task):
        assert phantom_of(task).task == task

    def test_that_of_the_heart_beats(self):
        assert phantom_of("heart").images > 1 and phantom_of("heart").beat_ms
        assert phantom_of("brain") is None


class TestInAProcess:
    def test_one_phase(self, scene, small_phantoms):
        node = finish(phantom_steps(named("HeartPhantom"), scene))
        at_once = sample_data.add_heart_phantom(scene)
        assert (node.GetName(), at_once.GetName()) == ("HeartPhantom", "HeartPhantom_1")
        assert np.array_equal(slicer.util.arrayFromVolume(node), slicer.util.arrayFromVolume(at_once))
        assert np.allclose(mrml.ijk_to_ras(node), mrml.ijk_to_ras(at_once))
        assert node.GetDisplayNode() is not None and volume_of(node) is node

    def test_a_beat(self, scene, sequences, small_phantoms):
        node = finish(phantom_steps(named("CineHeartPhantom"), scene))
        at_once = sample_data.add_cine_phantom(scene).GetMasterSequenceNode()
        for first, second in zip(phase_images(node), phase_images(at_once), strict=True):
            assert np.array_equal(first.array, second.array)
            assert np.allclose(first.ijk_to_ras, second.ijk_to_ras)
        assert np.allclose(times_ms(node), times_ms(at_once))
        assert volume_of(node) is proxy_of(node) and volume_of(node).GetName() == "CineHeartPhantom"

    def test_an_abdomen(self, scene, small_phantoms):
        node = finish(phantom_steps(named("AbdomenPhantom"), scene))
        at_once = sample_data.add_abdomen_phantom(scene)
        assert np.array_equal(slicer.util.arrayFromVolume(node), slicer.util.arrayFromVolume(at_once))
        assert node.GetAttribute("DICOM.Modality") == "CT"

    def test_it_needs_nothing_but_numpy_and_scipy(self, tmp_path):
        """With all other packages hidden, as if they were not installed."""
        code = """
            import sys
            from importlib.metadata import packages_distributions

            hidden = set(packages_distributions()) - {"numpy", "scipy", "dinsegment"}

            class Hide:
                def find_spec(name, path, target=None):
                    if name.partition(".")[0] in hidden:
                        raise ModuleNotFoundError(name)

            sys.meta_path.insert(0, Hide)
            from pathlib import Path

            from dinsegment.phantom.writer import write

            grid = {"slices": 2, "size": (64, 64)}
            for generator in ("heart", "abdomen"):
                (event,) = write(Path(sys.argv[1]), generator, 1, grid)
                assert Path(event["path"]).is_file()
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(code), tmp_path], check=True)

    def test_without_psutil(self, scene, small_phantoms, monkeypatch):
        before = children()
        with monkeypatch.context() as fresh:
            fresh.setitem(sys.modules, "psutil", None)  # What `import` takes for a package that is missing.
            assert finish(phantom_steps(named("HeartPhantom"), scene)).GetScene() is scene
            steps = phantom_steps(phantom_of("heart"), scene)
            next(steps)
            steps.close()
        assert children() == before

    def test_given_up_it_leaves_nothing(self, scene, small_phantoms, from_scratch):
        before, state = children(), mrml.scene_state(scene)
        steps = phantom_steps(replace(phantom_of("heart"), images=1000), scene)
        with from_scratch():
            while next(steps) < 2:
                time.sleep(0.01)
        (started,) = (child for child in children() if child not in before)
        assert "dinsegment.phantom.writer" in started.cmdline()
        steps.close()
        assert children() == before
        assert mrml.scene_state(scene) == state

    def test_its_scene_was_closed(self, scene, small_phantoms):
        steps = phantom_steps(phantom_of("heart"), scene)
        next(steps)
        scene.Clear(False)
        with pytest.raises(Cancelled):
            finish(steps)
        assert scene.GetNumberOfNodesByClass("vtkMRMLSequenceNode") == 0

    def test_what_the_process_cannot_do_is_said(self, scene, small_phantoms, caplog):
        with pytest.raises(WorkerError, match=r"^'Heart phantom' could not be generated \(.*'brightness'\): try again"):
            finish(phantom_steps(replace(named("HeartPhantom"), options={"brightness": 2}), scene))
        assert "Traceback" in caplog.text

    def test_a_process_whose_parent_is_gone_ends(self, tmp_path):
        command = [sys.executable, "-m", "dinsegment.phantom.writer"]
        request = b'{"folder": "%s", "generator": "heart", "images": 1000, "options": {"slices": 2}}\n'
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
            started.stdin.write(request % str(tmp_path).encode())
            started.stdin.flush()
            assert b"image 1.npy" in started.stdout.readline()
            started.stdin.close()
            assert started.wait(10) == 1

    def test_no_file_is_left(self, scene, small_phantoms, tmp_path, monkeypatch):
        monkeypatch.setattr(process.tempfile, "tempdir", str(tmp_path))
        before = set(tmp_path.iterdir())
        finish(phantom_steps(named("HeartPhantom"), scene))
        assert set(tmp_path.iterdir()) == before


class TestAtOnce:
    def test_one_phase(self, scene, small_phantoms):
        first, second = (sample_data.add_heart_phantom(scene) for _ in range(2))
        assert (first.GetName(), second.GetName()) == ("HeartPhantom", "HeartPhantom_1")
        phantom = cine_phantom(1, **named("HeartPhantom").options)[0]
        for node in (first, second):
            assert np.array_equal(slicer.util.arrayFromVolume(node), phantom.volume.array)
        assert np.allclose(mrml.ijk_to_ras(first), phantom.volume.ijk_to_ras)
        assert np.array_equal(sample_data.heart_truth(), phantom.labels)
        assert first.GetDisplayNode() is not None

    def test_a_beat(self, scene, sequences, small_phantoms):
        browserNode = sample_data.add_cine_phantom(scene, phases=4)
        sequenceNode = browserNode.GetMasterSequenceNode()
        assert is_image_sequence(sequenceNode)
        assert np.allclose(times_ms(sequenceNode), (0, 250, 500, 750))
        phantoms = cine_phantom(4, **phantom_of("heart").options)
        for image, phantom in zip(phase_images(sequenceNode), phantoms, strict=True):
            assert np.array_equal(image.array, phantom.volume.array)
            assert np.allclose(image.ijk_to_ras, phantom.volume.ijk_to_ras)
            assert image.modality == "MR"
        assert browserNode.GetProxyNode(sequenceNode).GetName() == "CineHeartPhantom"

    def test_an_abdomen(self, scene, small_phantoms):
        node = sample_data.add_abdomen_phantom(scene)
        phantom = abdomen_phantom(**phantom_of("abdomen").options)
        assert node.GetName() == "AbdomenPhantom" and node.GetAttribute("DICOM.Modality") == "CT"
        assert np.array_equal(slicer.util.arrayFromVolume(node), phantom.volume.array)
        assert np.allclose(mrml.ijk_to_ras(node), phantom.volume.ijk_to_ras)


class TestInTheWindow:
    @pytest.fixture
    def host(self):
        pytest.importorskip("PySide6", reason="the window needs PySide6")
        from host import Host

        with Host() as host:
            host.pump(0)
            yield host

    @pytest.fixture
    def add_phantom(self, host):
        from dinsegment_slicer.scene.sample_progress import load_phantom

        return lambda task: load_phantom(phantom_of(task))

    def meanwhile(self, host, slot):
        """Calls `slot` once it shows that it generates."""
        import qt

        def look():
            if dialogs := self.dialogs(host):
                slot(dialogs[0])
            else:
                self.meanwhile(host, slot)

        qt.QTimer.singleShot(1, look)

    def dialogs(self, host):
        from PySide6.QtWidgets import QApplication, QProgressDialog

        return [w for w in QApplication.topLevelWidgets() if isinstance(w, QProgressDialog) and w.isVisible()]

    def test_the_window_answers_and_nothing_is_left_open(self, host, add_phantom, small_phantoms):
        turns = []
        self.meanwhile(host, turns.append)
        node = add_phantom("heart")
        assert node.IsA("vtkMRMLSequenceNode") and node.GetScene() is slicer.mrmlScene
        assert len(turns) == 1
        host.pump(0)
        assert not self.dialogs(host)
        composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
        assert composite.GetBackgroundVolumeID() == volume_of(node).GetID()

    def test_the_user_cancels(self, host, add_phantom, small_phantoms):
        before = children()
        self.meanwhile(host, lambda dialog: dialog.cancel())
        with pytest.raises(Cancelled):
            add_phantom("heart")
        assert children() == before
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSequenceNode") == 0
        assert add_phantom("heart") is not None

    def test_the_window_is_closed(self, host, add_phantom, small_phantoms):
        self.meanwhile(host, lambda dialog: dialog.close())
        with pytest.raises(Cancelled):
            add_phantom("abdomen")

    def test_a_second_click_meanwhile(self, host, add_phantom, small_phantoms):
        said = []

        def click(_dialog):
            with pytest.raises(InputError) as raised:
                add_phantom("abdomen")
            said.append(str(raised.value))

        self.meanwhile(host, click)
        assert add_phantom("heart").GetName() == "CineHeartPhantom"
        assert said == ["'Cine heart phantom' is being generated: wait for it, or cancel it."]
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 1  # The phase in view.

    def test_the_scene_is_closed_meanwhile(self, host, add_phantom, small_phantoms):
        self.meanwhile(host, lambda _dialog: slicer.mrmlScene.Clear(False))
        with pytest.raises(Cancelled):
            add_phantom("heart")
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSequenceNode") == 0
