"""Sequences of single slices in the scene: which make up a stack, what joining them gives, and the panel's offer."""

from __future__ import annotations

import mrml
import numpy as np
import pytest
import slicer
from heart_study import PHASES, SLICES, heart, import_study, write_study
from test_import_plugin import assert_is, host, load, sequences  # noqa: F401 the host is a fixture
from test_panel import plain, shown
from test_sequences import SHIFT, Application, add_browser, add_sequence

from dinsegment.images.volume import Volume
from dinsegment_slicer.dicom.joining import find_joinable, join
from dinsegment_slicer.scene.browsers import proxy_of
from dinsegment_slicer.scene.sequences import phase_images, phases, times_ms

TIMES = [str(35.5 * n) for n in range(PHASES)]


@pytest.fixture
def application(scene, tmp_path):
    (tmp_path / "cache").mkdir()
    application = Application(scene, tmp_path / "cache")
    yield application
    application.close()


def slice_of(volume, k):
    """A slice as a volume, as readers of single images make it."""
    matrix = volume.ijk_to_ras.copy()
    matrix[:3, 3] = (volume.ijk_to_ras @ (0, 0, k, 1))[:3]
    return Volume(volume.array[k : k + 1].astype(np.int16), matrix, modality="MR")


def add_slices(scene, order=range(SLICES), name="cine sax"):
    """A sequence for each slice, as Slicer loads series of single slices; in this order."""
    nodes = []
    for k in order:
        node = add_sequence(scene, [slice_of(volume, k) for volume in heart()], f"{5 + k}: MR {name}")
        add_browser(scene, node)
        nodes.append(node)
    return nodes


def whole():
    return [(volume.array.astype(np.int16), volume.ijk_to_ras) for volume in heart()]


class TestFound:
    def test_all_slices_of_a_stack_in_any_order(self, scene, application):
        nodes = add_slices(scene, [3, 0, 4, 1, 2])
        for node in nodes:
            found = find_joinable(node)
            assert set(found.sequenceNodes) == set(nodes)
            assert len(found.stack.slices) == SLICES and found.stack.phases == PHASES
            assert find_joinable(proxy_of(node)).sequenceNodes == found.sequenceNodes

    def test_the_frames_of_one_sequence(self, scene, application):
        node = mrml.add_image_sequence(scene, heart())
        found = find_joinable(node)
        assert found.sequenceNodes == (node,)
        assert len(found.stack.slices) == SLICES and found.stack.phases == PHASES

    def test_without_browsers(self, scene):
        nodes = [add_sequence(scene, [slice_of(volume, k) for volume in heart()]) for k in range(SLICES)]
        assert len(find_joinable(nodes[0]).sequenceNodes) == SLICES

    def test_not_one_slice_alone_nor_a_cine_of_volumes_nor_anything_else(self, scene, application):
        (node,) = add_slices(scene, [2])
        cine = add_sequence(scene, heart())
        for other in (None, node, proxy_of(node), cine, mrml.add_volume(scene)):
            assert find_joinable(other) is None

    def test_not_what_was_enhanced(self, scene, application):
        nodes = add_slices(scene)
        nodes[2].SetAttribute("DINSegment.Enhanced", "1")
        found = find_joinable(nodes[0])
        assert found is None or nodes[2] not in found.sequenceNodes

    def test_not_where_a_slice_is_missing(self, scene, application):
        nodes = add_slices(scene, [0, 1, 2, 4])
        found = find_joinable(nodes[0])
        assert found is None or nodes[3] not in found.sequenceNodes

    def test_not_what_lies_under_another_transform(self, scene, application):
        nodes = add_slices(scene)
        transform = mrml.add_linear_transform(scene, SHIFT)
        proxy_of(nodes[0]).SetAndObserveTransformNodeID(transform.GetID())
        assert find_joinable(nodes[0]) is None

    def test_nothing_is_changed_by_looking(self, scene, application):
        nodes = add_slices(scene)
        before = scene.GetNumberOfNodes(), [node.GetMTime() for node in nodes]
        find_joinable(nodes[0])
        assert (scene.GetNumberOfNodes(), [node.GetMTime() for node in nodes]) == before


class TestJoined:
    @pytest.mark.parametrize("order", [range(SLICES), [3, 0, 4, 1, 2]])
    def test_the_voxels_in_their_place(self, scene, application, order):
        assert_is(join(find_joinable(add_slices(scene, order)[0])), whole())

    def test_of_one_sequence(self, scene, application):
        assert_is(join(find_joinable(mrml.add_image_sequence(scene, heart()))), [
            (volume.array, volume.ijk_to_ras) for volume in heart()
        ])  # fmt: skip

    def test_times_and_name(self, scene, application):
        node = join(find_joinable(add_slices(scene)[0]))
        assert times_ms(node) == [35.5 * n for n in range(PHASES)]
        assert node.GetName() == proxy_of(node).GetName() == f"5: MR cine sax, {SLICES} slices"

    def test_what_is_there_stays_as_it_is(self, scene, application):
        nodes = add_slices(scene)
        before = [scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())]
        node = join(find_joinable(nodes[0]))
        slicer.util.arrayFromVolume(phases(node)[0])[:] = -5
        after = [scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())]
        assert after[: len(before)] == before
        for k, one in enumerate(nodes):
            for frame, volume in zip(phases(one), heart(), strict=True):
                np.testing.assert_array_equal(slicer.util.arrayFromVolume(frame), slice_of(volume, k).array)

    def test_it_lies_where_they_lie(self, scene, application):
        nodes = add_slices(scene)
        transform = mrml.add_linear_transform(scene, SHIFT)
        for node in nodes:
            proxy_of(node).SetAndObserveTransformNodeID(transform.GetID())
        study = mrml.add_study(scene, proxy_of(nodes[0]))
        proxyNode = proxy_of(join(find_joinable(nodes[0])))
        assert proxyNode.GetTransformNodeID() == transform.GetID()
        hierarchy = scene.GetSubjectHierarchyNode()
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(proxyNode)) == study

    def test_it_can_be_segmented(self, scene, application):
        (images) = phase_images(join(find_joinable(add_slices(scene)[0])))
        assert len(images) == PHASES and images[0].modality == "MR"

    def test_an_error_leaves_nothing(self, scene, application, monkeypatch):
        from dinsegment_slicer.scene import stacks

        found = find_joinable(add_slices(scene)[0])
        before = scene.GetNumberOfNodes()
        monkeypatch.setattr(stacks, "show_in_browser", lambda node: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            join(found)
        assert scene.GetNumberOfNodes() == before


class TestFromDicom:
    """Loaded by Slicer's own reader, with the marks that it leaves."""

    @pytest.fixture
    def nodes(self, host, scene, tmp_path):  # noqa: F811
        _volumes, self.uids = write_study(tmp_path / "study", scene)
        import_study(host.database, tmp_path / "study")
        for uid in self.uids:  # One by one, as by double clicks.
            load(host, [uid])
        return sequences(scene)

    def test_every_phase_knows_the_instances_of_its_slices(self, host, nodes):  # noqa: F811
        node = join(find_joinable(nodes[0]))
        assert_is(node, whole())
        for index, phase in enumerate(phases(node)):
            for k, uid in enumerate(phase.GetAttribute("DICOM.instanceUIDs").split()):
                file = host.database.fileForInstance(uid)
                assert float(host.database.fileValue(file, "0018,1060")) == 35.5 * index
                (own,) = (
                    one for one in nodes for frame in phases(one) if frame.GetAttribute("DICOM.instanceUIDs") == uid
                )
                frame = next(f for f in phases(own) if f.GetAttribute("DICOM.instanceUIDs") == uid)
                np.testing.assert_array_equal(
                    slicer.util.arrayFromVolume(frame)[0], slicer.util.arrayFromVolume(phase)[k]
                )

    def test_times_come_from_the_frames(self, host, nodes):  # noqa: F811
        assert times_ms(nodes[0]) is None  # Its index is the number of the instance.
        assert times_ms(join(find_joinable(nodes[0]))) == [35.5 * n for n in range(PHASES)]

    def test_it_is_the_series_of_the_first_slice(self, host, scene, nodes):  # noqa: F811
        node = join(find_joinable(nodes[0]))
        hierarchy, names = scene.GetSubjectHierarchyNode(), slicer.vtkMRMLSubjectHierarchyConstants
        item = hierarchy.GetItemByDataNode(proxy_of(node))
        first = phases(node)[0].GetAttribute("DICOM.instanceUIDs").split()[0]
        assert hierarchy.GetItemUID(item, names.GetDICOMUIDName()) == host.database.seriesForFile(
            host.database.fileForInstance(first)
        )
        assert hierarchy.GetItemLevel(hierarchy.GetItemParent(item)) == names.GetDICOMLevelStudy()
        assert len(hierarchy.GetItemUID(item, names.GetDICOMInstanceUIDName()).split()) == SLICES * PHASES


class TestOffer:
    @pytest.fixture
    def panel(self, host):  # noqa: F811
        panel = host.open_module("DINSegment")
        host.pump()
        return panel

    def test_a_click_joins_and_chooses_it(self, host, scene, panel):  # noqa: F811
        assert not shown(panel.ui.joinButton)
        nodes = add_slices(scene)
        host.wait_until(lambda: shown(panel.ui.joinButton))
        assert panel.ui.joinButton.text == f"These {SLICES} sequences are one stack: join them"
        panel.ui.joinButton.click()
        host.pump()
        node = panel.parameters.inputNode
        assert node not in nodes and node.GetName() == f"5: MR cine sax, {SLICES} slices"
        assert_is(node, whole())
        said = plain(panel.ui.messageLabel.text)
        assert f"joins {SLICES} sequences, which are still there: {SLICES} slices x {PHASES} phases" in said
        host.pump(0.6)
        assert not shown(panel.ui.joinButton)
        composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
        assert composite.GetBackgroundVolumeID() == proxy_of(node).GetID()

    def test_of_one_sequence(self, host, scene, panel):  # noqa: F811
        panel.parameters.inputNode = mrml.add_image_sequence(scene, heart())
        host.wait_until(lambda: shown(panel.ui.joinButton))
        assert panel.ui.joinButton.text == f"These {SLICES * PHASES} single slices are one stack: join them"
        panel.ui.joinButton.click()
        assert "joins the single slices of a sequence" in plain(panel.ui.messageLabel.text)

    def test_it_goes_with_another_image_and_with_what_it_needs(self, host, scene, panel):  # noqa: F811
        nodes = add_slices(scene)
        host.wait_until(lambda: shown(panel.ui.joinButton))
        panel.parameters.inputNode = mrml.add_volume(scene)
        host.pump(0.6)
        assert not shown(panel.ui.joinButton)
        panel.parameters.inputNode = nodes[4]
        host.wait_until(lambda: shown(panel.ui.joinButton))
        for node in nodes[:3]:
            scene.RemoveNode(node)
        host.pump(0.6)
        assert not shown(panel.ui.joinButton)

    def test_a_sequence_that_comes_later_counts(self, host, scene, panel):  # noqa: F811
        add_slices(scene, [0, 1, 2])
        host.wait_until(lambda: shown(panel.ui.joinButton))
        assert "These 3 sequences" in panel.ui.joinButton.text
        add_slices(scene, [3])
        host.wait_until(lambda: "These 4 sequences" in panel.ui.joinButton.text)

    def test_the_scene_is_closed(self, host, scene, panel):  # noqa: F811
        add_slices(scene)
        host.wait_until(lambda: shown(panel.ui.joinButton))
        scene.Clear(False)
        host.pump(0.6)
        assert not shown(panel.ui.joinButton)

    def test_why_nothing_was_joined_is_said(self, host, scene, panel, monkeypatch):  # noqa: F811
        nodes = add_slices(scene)
        host.wait_until(lambda: shown(panel.ui.joinButton))
        frame = phases(nodes[1])[2]
        slicer.util.updateVolumeFromArray(frame, np.zeros((1, 7, 8), np.int16))
        before = scene.GetNumberOfNodes()
        panel.ui.joinButton.click()
        assert "8 x 7" in plain(panel.ui.messageLabel.text) or "7 x 8" in plain(panel.ui.messageLabel.text)
        assert scene.GetNumberOfNodes() == before
