"""What a network did not expect, asked for in the panel of the real worker, with a GRCSF of random weights."""

from __future__ import annotations

import mrml
import numpy as np
import pytest
import slicer

pytest.importorskip("PySide6", reason="the panel needs PySide6")
pytest.importorskip("torch", reason="a network needs PyTorch")

import torch
from safetensors.torch import save
from test_correction_section import message, segmented
from test_panel import shown
from test_sure_section import fronts, heart

from dinsegment.images.segmentation import Segmentation
from dinsegment.images.volume import Volume
from dinsegment.inference.maps import GREY_RANGE, load_maps_model, with_unexpected
from dinsegment.inference.preprocessing import Preprocessing
from dinsegment.network import build_network
from dinsegment.network.grcsf.network import GRCSFConfig
from dinsegment.tasks import HEART
from dinsegment.training.augmentation import Augmentation
from dinsegment.training.publish import write_run
from dinsegment.training.recipe import Recipe
from dinsegment_slicer.panel.overlays import Overlays
from dinsegment_slicer.panel.result import ResultNodes
from dinsegment_slicer.scene.nodes import local_ijk_to_ras
from dinsegment_slicer.scene.overlay import DISAGREEMENT, UNEXPECTED, phase_of
from dinsegment_slicer.scene.sample_data import add_cine_phantom
from dinsegment_slicer.scene.sequences import hidden_inputs

SIZES = {"patch": 8, "width": 16, "depth": 1, "decoder_width": 16, "decoder_depth": 1, "heads": 2}


@pytest.fixture(scope="module")
def grcsf(tmp_path_factory):
    """The folder of a run, as training writes it, and the name of its model."""
    network = GRCSFConfig(
        classes=4, width=8, multipliers=(1, 2, 4), rcu=(0, 1), autoencoder=SIZES, token_width=16, heads=4, reduction=2
    )
    preprocessing = Preprocessing(spacing=1.5, box=96, overview_spacing=3.0)
    recipe = Recipe("tiny-grcsf", HEART, network, preprocessing, Augmentation())
    folder = tmp_path_factory.mktemp("models") / "run"
    folder.mkdir()
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        content = save(build_network(network).state_dict())
    entry = write_run(recipe, content, "nothing", folder)
    assert entry.maps
    return str(folder), entry.name


class Threshold(mrml.InProcess):
    """Draws a ventricle in the place of a network that has learned nothing; all else the real worker does."""

    def __init__(self, worker):
        super().__init__(lambda volume, task, **_options: heart(volume, task, model=self.name))
        self._worker, self.name = worker, None

    def begin(self, parts):
        self._worker.environment = self.environment
        return self._worker.begin(parts)


@pytest.fixture
def segmenting(worker):
    return Threshold(worker)


@pytest.fixture
def asked(host, panel, grcsf):
    """A phantom that was segmented with the model of the run."""
    panel.model.offer(grcsf[0])
    panel.parameters.model = grcsf[0]
    panel.logic.worker.name = grcsf[1]
    segmented(host, panel)
    return panel.parameters


def ask(host, panel):
    panel.ui.unexpectedButton.click()
    assert panel.controller.busy, message(panel)
    host.wait_until(lambda: not panel.controller.busy, 120)
    host.pump(0.5)


def expected_steps(phase, folder):
    """What the library says of a phase, in steps of 1 of 255 of the grey range, not rounded."""
    image = phase.image
    volume = Volume(np.array(image.array, np.float32), image.ijk_to_ras, image.name, image.modality)
    labels = phase.labels(HEART)
    one = Segmentation(volume, labels, HEART, "", volume, "cpu", 0.0)
    return with_unexpected(one, load_maps_model(folder, HEART), "cpu").unexpected * (255 / GREY_RANGE)


class TestUnexpected:
    def test_it_lies_over_both_views_as_the_model_tells_it(self, host, panel, asked, grcsf):
        assert shown(panel.ui.unexpectedButton) and not shown(panel.ui.unexpectedCheckBox)
        ask(host, panel)
        node = asked.unexpectedNode
        assert message(panel).startswith(f"Over the image lies what the model '{grcsf[1]}' did not expect there")
        assert fronts() == [(node.GetID(), 0.6)] * 2 and node.GetID() in hidden_inputs(slicer.mrmlScene)
        steps = slicer.util.arrayFromVolume(node)
        (phase,) = ResultNodes(asked).phases()
        expected = expected_steps(phase, grcsf[0])
        assert steps.dtype == np.uint8 and expected.max() > 20
        np.testing.assert_allclose(steps, np.clip(expected, 0, 255), atol=0.51)
        assert not steps[:, 0, 0].any()  # Beyond the box nobody looked.
        assert shown(panel.ui.unexpectedCheckBox) and shown(panel.ui.disagreementSlider)
        display = node.GetDisplayNode()
        assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == pytest.approx((0.15 * 255, 0.5 * 255))

    def test_a_view_shows_it_or_where_samples_differ(self, host, panel, asked):
        ask(host, panel)
        unexpected = asked.unexpectedNode
        shape = slicer.util.arrayFromVolume(unexpected).shape
        Overlays(asked).add(DISAGREEMENT, {0: np.full(shape, 128, np.uint8)})
        host.pump()
        differ = asked.disagreementNode
        assert fronts() == [(differ.GetID(), 0.6)] * 2 and not asked.showUnexpected
        for box, front in (
            (panel.ui.unexpectedCheckBox, unexpected),
            (panel.ui.disagreementCheckBox, differ),
            (panel.ui.disagreementCheckBox, None),
        ):
            box.click()
            host.pump()
            assert {name for name, _opacity in fronts()} == {front.GetID() if front is not None else None}
        slicer.mrmlScene.RemoveNode(asked.segmentationNode)
        host.pump(0.6)
        assert unexpected.GetScene() is None and differ.GetScene() is None  # They go with the result.
        assert not shown(panel.ui.unexpectedButton)

    def test_where_nothing_is_segmented_one_sentence_says_so(self, host, panel, asked):
        (phase,) = ResultNodes(asked).phases()
        for name in ("Right ventricle", "Left ventricular myocardium", "Left ventricle"):
            empty = np.zeros(phase.image.array.shape, np.uint8)
            mrml.set_segment(asked.segmentationNode, name, empty, local_ijk_to_ras(phase.volumeNode))
        ask(host, panel)
        assert "Nothing was segmented" in message(panel) and asked.unexpectedNode is None
        assert not shown(panel.ui.unexpectedCheckBox)

    def test_of_a_cine_the_phase_in_view_is_asked_about(self, host, panel, asked):
        segmented(host, panel, add_cine_phantom(slicer.mrmlScene, phases=3).GetMasterSequenceNode())
        nodes = ResultNodes(asked)
        nodes.showPhase(1)
        host.pump()
        ask(host, panel)
        node = asked.unexpectedNode
        assert phase_of(node) == 1 and Overlays(asked).nodes(UNEXPECTED) == [node]
        assert {front for front, _opacity in fronts()} == {node.GetID()}
        nodes.showPhase(2)
        host.pump()
        assert {front for front, _opacity in fronts()} == {None}

    def test_the_scene_keeps_it(self, host, panel, asked):
        ask(host, panel)
        steps = slicer.util.arrayFromVolume(asked.unexpectedNode).copy()
        again = slicer.vtkMRMLScene()
        slicer.mrmlScene.SetSaveToXMLString(1)
        slicer.mrmlScene.Commit()
        again.SetLoadFromXMLString(1)
        again.SetSceneXMLString(slicer.mrmlScene.GetSceneXMLString())
        again.Import()
        loaded = again.GetNodeByID(asked.unexpectedNode.GetID())
        assert loaded.GetVoxelValueUnits().GetCodeValue() == "/255" and phase_of(loaded) == 0 and steps.any()
        again.Clear(True)


def test_it_is_not_offered_where_no_model_can_tell(host, panel):
    panel.logic.worker.name = "heart-din-small"
    segmented(host, panel)
    assert not shown(panel.ui.unexpectedButton)
