"""The side-by-side views: where they look, what they leave alone, and what they draw."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field

import mrml
import numpy as np
import pytest
import rendering
import slicer
import vtk
from scipy import ndimage

from dinsegment.enhancement.displayed import enhanced_volume
from dinsegment.enhancement.methods import Enhancement
from dinsegment.errors import DINSegmentError, InputError
from dinsegment.images.segmentation import Segmentation
from dinsegment.images.slices import SliceStack
from dinsegment.phantom.heart import heart_phantom
from dinsegment.tasks import HEART
from dinsegment_slicer.scene import layouts, nodes
from dinsegment_slicer.scene.segment_display import show_3d, show_outline
from dinsegment_slicer.scene.views import SideBySide

CONVENTIONAL = slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView
FOUR_UP = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView

SHEAR = np.array([[1, 0.2, 0.3, 5], [0, 1, -0.1, 0], [0.05, 0, 1, -7], [0, 0, 0, 1]])

# Shape (k, j, i), IJK-to-RAS, parent transform or None.
CASES = {name: ((4, 5, 6), matrix, None) for name, matrix in mrml.GEOMETRIES.items()} | {
    "slices across i": ((6, 5, 4), mrml.affine(np.eye(3), (9, 1.2, 1.1), (1, 2, 3)), None),
    "slices across j": ((6, 4, 5), mrml.affine(mrml.rotation(10, 40, 5), (1, 9, 1.1), (1, 2, 3)), None),
    "not Slicer's choice": ((4, 5, 6), mrml.affine(mrml.rotation(42, -42, 179), (1, 1, 8), (1, 2, 3)), None),
    "one slice": ((1, 5, 6), mrml.OBLIQUE, None),
    "one slice across j": ((6, 1, 5), mrml.affine(np.eye(3), (1, 1, 1), (1, 2, 3)), None),
    "under a rotation": ((4, 5, 6), mrml.OBLIQUE, mrml.affine(mrml.rotation(80, 20, -40), (1, 1, 1), (9, 8, 7))),
    "under a scaling": ((4, 5, 6), np.eye(4), np.diag([1.0, 7.0, 1.0, 1.0])),
    "under a shear": ((4, 5, 6), mrml.OBLIQUE, SHEAR),
}


@dataclass
class Application:
    """What the application has around a scene."""

    scene: slicer.vtkMRMLScene
    logic: slicer.vtkMRMLApplicationLogic
    queue: list = field(default_factory=list)

    @property
    def layoutNode(self):
        return self.scene.GetFirstNodeByClass("vtkMRMLLayoutNode")

    @property
    def arrangement(self):
        return self.layoutNode.GetViewArrangement()

    def view(self, tag, className="vtkMRMLSliceNode"):
        return self.scene.GetSingletonNode(tag, className)

    def views(self):
        return [self.view(tag) for tag in (layouts.ORIGINAL_VIEW, layouts.ENHANCED_VIEW)]

    def all_slice_views(self):
        every = (self.scene.GetNthNode(n) for n in range(self.scene.GetNumberOfNodes()))
        return [node for node in every if node.IsA("vtkMRMLSliceNode")]

    def composites(self):
        return [self.view(node.GetLayoutName(), "vtkMRMLSliceCompositeNode") for node in self.views()]

    def backgrounds(self):
        return [node.GetBackgroundVolumeID() for node in self.composites()]

    def slice_logic(self, tag):
        """Of a view that may not have one yet, as its widget makes it."""
        logic = self.logic.GetSliceLogicByLayoutName(tag)
        if logic is None:
            logic = slicer.vtkMRMLSliceLogic()
            logic.SetMRMLApplicationLogic(self.logic)
            logic.SetMRMLScene(self.scene)
            logic.SetSliceNode(self.view(tag))
            self.logic.GetSliceLogics().AddItem(logic)
        return logic

    def resize(self, width, height):
        for node in self.views():
            self.slice_logic(node.GetLayoutName()).ResizeSliceNode(width, height)
        self.events()

    def events(self):
        """The event loop turns."""
        while self.queue:
            self.queue.pop(0)()

    def user_zooms(self, factor):
        """In the left view; Slicer hands it on."""
        node = self.views()[0]
        logic = self.slice_logic(node.GetLayoutName())
        logic.StartSliceNodeInteraction(slicer.vtkMRMLSliceNode.FieldOfViewFlag)
        x, y, z = node.GetFieldOfView()
        node.SetFieldOfView(x * factor, y * factor, z)
        logic.EndSliceNodeInteraction()

    def user_pans(self, x, y):
        node = self.views()[0]
        logic = self.slice_logic(node.GetLayoutName())
        logic.StartSliceNodeInteraction(slicer.vtkMRMLSliceNode.XYZOriginFlag)
        node.SetXYZOrigin(x, y, 0)
        logic.EndSliceNodeInteraction()

    def user_scrolls(self, mm):
        logic = self.slice_logic(layouts.ORIGINAL_VIEW)
        logic.StartSliceOffsetInteraction()
        logic.SetSliceOffset(logic.GetSliceOffset() + mm)
        logic.EndSliceOffsetInteraction()


@pytest.fixture
def app(scene):
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    logic = slicer.vtkMRMLApplicationLogic()
    logic.SetMRMLScene(scene)
    logic.SetSliceLogics(vtk.vtkCollection())
    layout = slicer.vtkMRMLLayoutLogic()
    layout.SetMRMLScene(scene)
    application = Application(scene, logic)
    application.layoutNode.SetViewArrangement(CONVENTIONAL)
    yield application
    for n in range(logic.GetSliceLogics().GetNumberOfItems()):
        logic.GetSliceLogics().GetItemAsObject(n).SetMRMLScene(None)
    layout.SetMRMLScene(None)
    logic.SetMRMLScene(None)


@pytest.fixture
def sideBySide(app):
    views = SideBySide(app.scene, app.logic, app.queue.append)
    yield views
    views.close()


@pytest.fixture
def pair(scene):
    return mrml.add_volume(scene), mrml.add_volume(scene, name="enhanced")


@pytest.fixture
def surfaces():
    """Slicer's way from label maps to surfaces, which the application registers at start."""
    factory = slicer.vtkSegmentationConverterFactory.GetInstance()
    rule = slicer.vtkBinaryLabelmapToClosedSurfaceConversionRule()
    factory.RegisterConverterRule(rule)
    yield
    factory.UnregisterConverterRule(rule)


@pytest.fixture(scope="module")
def opengl():
    if not rendering.can_draw():
        pytest.skip("Nothing can be drawn: there is neither a screen nor EGL (Mesa's is enough).")


@pytest.fixture(scope="module")
def beat():
    """A heart with its truth and its enhanced image."""
    phantom = heart_phantom(slices=8, spacing=(8.0, 2.0, 2.0), size=(120, 150))
    enhanced = enhanced_volume(phantom.volume, Enhancement())
    return Segmentation(phantom.volume, phantom.labels, HEART, "truth", enhanced, "cpu", 0.0)


def add_beat(scene, beat):
    node = mrml.add_volume(scene, beat.volume.array, beat.volume.ijk_to_ras)
    return node, nodes.enhanced_node(beat, node), nodes.segmentation_node(beat, node)


def add_case(scene, case):
    shape, matrix, transform = CASES[case]
    pair = [mrml.add_volume(scene, mrml.random_image(shape), matrix, name) for name in ("original", "enhanced")]
    if transform is not None:
        transformNode = mrml.add_linear_transform(scene, transform)
        for node in pair:
            node.SetAndObserveTransformNodeID(transformNode.GetID())
    return pair


def slice_to_ras(sliceNode):
    return slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())


def xy_to_ras(sliceNode):
    return slicer.util.arrayFromVTKMatrix(sliceNode.GetXYToRAS())


def slice_axis(volumeNode):
    """Of the array (k, j, i), as the library chooses it."""
    return SliceStack.of(nodes.volume_from_node(volumeNode)).axis


def corners(volumeNode, k, half_voxel):
    """World positions of the corners of acquired slice `k`: of voxel centres, or of the outer edges of voxels."""
    shape = np.array(slicer.util.arrayFromVolume(volumeNode).shape)
    axis = slice_axis(volumeNode)
    edges = np.array([np.zeros(3) - half_voxel, shape - 1 + half_voxel])
    kji = np.array([[edges[n, a] for a, n in enumerate(corner)] for corner in np.ndindex(2, 2, 2)])
    kji[:, axis] = k
    return mrml.world_positions(mrml.to_world(volumeNode) @ mrml.ijk_to_ras(volumeNode), kji)


def into(matrix, positions):
    return (np.linalg.inv(matrix) @ np.c_[positions, np.ones(len(positions))].T).T[:, :3]


def nudge(app):
    """As a user does: zooms in, moves the image, and looks at another slice."""
    app.user_zooms(0.5)
    app.user_pans(1.5, -2.0)
    app.user_scrolls(8.0)
    return [(slice_to_ras(node), xy_to_ras(node)) for node in app.views()]


def assert_still(app, before):
    for node, matrices in zip(app.views(), before, strict=True):
        assert np.array_equal((slice_to_ras(node), xy_to_ras(node)), matrices)


def assert_whole(app, volumeNode, k):
    """Slice `k` is seen, from edge to edge, in both views; the pixels of its corners in the left one."""
    for node in reversed(app.views()):
        seen = into(xy_to_ras(node), corners(volumeNode, k, 0.5))
        assert np.allclose(seen[:, 2], 0, rtol=0, atol=1e-6)
        assert (seen[:, :2] > -1e-6).all() and (seen[:, :2] < np.array(node.GetDimensions()[:2]) + 1e-6).all()
    return seen[:, :2]


class TestWhereTheViewsLook:
    @pytest.mark.parametrize("case", CASES)
    def test_both_lie_exactly_in_an_acquired_slice(self, app, sideBySide, case):
        volumeNode, enhancedNode = add_case(app.scene, case)
        sideBySide.show(volumeNode, enhancedNode)
        k = sideBySide.currentSlice(volumeNode)
        assert k == slicer.util.arrayFromVolume(volumeNode).shape[slice_axis(volumeNode)] // 2
        for node in app.views():
            matrix = slice_to_ras(node)
            assert np.allclose(matrix[:3, :3].T @ matrix[:3, :3], np.eye(3), rtol=0, atol=1e-9)
            heights = into(matrix, corners(volumeNode, k, 0.0))[:, 2]
            assert np.allclose(heights, 0, rtol=0, atol=1e-6)

    @pytest.mark.parametrize("case", CASES)
    @pytest.mark.parametrize("size", [(640, 480), (300, 700)])
    def test_both_show_all_of_it_at_the_same_zoom(self, app, sideBySide, case, size):
        volumeNode, enhancedNode = add_case(app.scene, case)
        sideBySide.show(volumeNode, enhancedNode)
        app.resize(*size)
        original, enhanced = app.views()
        assert np.array_equal(xy_to_ras(original), xy_to_ras(enhanced))
        assert original.GetDimensions()[:2] == size
        x, y, _z = original.GetFieldOfView()
        assert x / size[0] == pytest.approx(y / size[1])  # Square pixels.
        seen = assert_whole(app, volumeNode, sideBySide.currentSlice(volumeNode))
        # As large as it can be: it fills the width, or the height. A sheared slice is no rectangle.
        assert np.isclose(np.ptp(seen, axis=0), size, rtol=1e-6).any() or case == "under a shear"

    @pytest.mark.parametrize("case", ["identity", "anisotropic", "flipped", "mirrored", "permuted", "slices across i"])
    def test_the_display_is_radiological(self, app, sideBySide, case):
        sideBySide.show(*add_case(app.scene, case))
        x, y, normal = np.rint(slice_to_ras(app.views()[0])[:3, :3]).T.tolist()
        # The patient's left to the right and up is forward (axial) or up; a sagittal view looks from the left.
        expected = {0: ([0, -1, 0], [0, 0, 1]), 1: ([-1, 0, 0], [0, 0, 1]), 2: ([-1, 0, 0], [0, 1, 0])}
        assert (x, y) == expected[int(np.argmax(np.abs(normal)))]

    @pytest.mark.parametrize("case", ["flipped", "mirrored", "permuted", "oblique", "one slice", "under a rotation"])
    def test_it_is_turned_as_slicer_turns_it(self, app, sideBySide, case):
        volumeNode, enhancedNode = add_case(app.scene, case)
        sideBySide.show(volumeNode, enhancedNode)
        turned = slice_to_ras(app.views()[0])[:3, :3]
        # What Slicer's own reset of a view turns it to.
        for view in app.views():
            view.SetOrientation("Coronal")
            view.SetOrientationToDefault()
            assert np.allclose(slice_to_ras(view)[:3, :3], turned, rtol=0, atol=1e-6)
            view.RotateToVolumePlane(volumeNode)
            assert np.allclose(slice_to_ras(view)[:3, :3], turned, rtol=0, atol=1e-6)

    @pytest.mark.parametrize("case", CASES)
    def test_a_saved_scene_knows_the_orientation(self, app, sideBySide, case, tmp_path):
        """Slicer complains of the name of one that it does not know, as `Reformat`; the fixture sees that."""
        sideBySide.show(*add_case(app.scene, case))
        assert {view.GetOrientation() for view in app.views()} == {"Acquired"}
        turned = slice_to_ras(app.views()[0])
        app.scene.SetURL(str(tmp_path / "scene.mrml"))
        assert app.scene.Commit()
        other = slicer.vtkMRMLScene()
        other.SetURL(str(tmp_path / "scene.mrml"))
        assert other.Connect()
        view = other.GetSingletonNode(layouts.ORIGINAL_VIEW, "vtkMRMLSliceNode")
        assert np.allclose(slice_to_ras(view), turned, rtol=0, atol=1e-4)
        other.Clear(True)

    @pytest.mark.parametrize(
        ("directions", "axis"),
        [
            (np.eye(3)[[2, 0, 1]], 1),
            (np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]), 1),
            (np.diag([-1, 1, -1]), 0),
            (np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0]]), 1),
            (mrml.rotation(15, -10, 5), 0),
        ],
        ids=["sagittal", "coronal", "flipped", "sagittal, flipped", "oblique"],
    )
    def test_axial_slices_of_an_image_that_was_acquired_in_others(self, app, sideBySide, directions, axis):
        volumeNode = mrml.add_volume(
            app.scene, mrml.random_image((7, 18, 20)), mrml.affine(directions, (1.5, 1.5, 4), (3, 4, 5))
        )
        sideBySide.show(volumeNode, None, plane="axial")
        for node in app.views():
            x, y, normal = slice_to_ras(node)[:3, :3].T
            # The patient's left to the right, anterior up.
            assert x @ (-1, 0, 0) > 0.9 and y @ (0, 1, 0) > 0.9 and normal @ (0, 0, 1) > 0.9
            assert node.GetOrientation() == node.GetDefaultOrientation() == "Acquired"
        shape = slicer.util.arrayFromVolume(volumeNode).shape
        assert sideBySide.currentSlice(volumeNode, "axial") == shape[axis] // 2
        # Exactly in slices of voxels, scrolled from one to the next.
        seen = set()
        for _ in range(40):
            middle = xy_to_ras(app.views()[0]) @ (*np.array(app.views()[0].GetDimensions()[:2]) / 2, 0, 1)
            index = into(mrml.ijk_to_ras(volumeNode), [middle[:3]])[0][2 - axis]
            assert index == pytest.approx(round(index), abs=1e-6) or not -0.5 < index < shape[axis] - 0.5
            seen.add(sideBySide.currentSlice(volumeNode, "axial"))
            app.user_scrolls(app.views()[0].GetFieldOfView()[2])
        assert seen == set(range(min(seen), max(seen) + 1)) and len(seen) >= shape[axis] // 2

    def test_another_plane_of_the_same_image_is_shown_anew(self, app, sideBySide):
        sagittal = mrml.affine(np.eye(3)[[2, 0, 1]], (1.5, 1.5, 4), (0, 0, 0))
        volumeNode = mrml.add_volume(app.scene, mrml.random_image((7, 18, 20)), sagittal)
        sideBySide.show(volumeNode, None)
        sagittal = slice_to_ras(app.views()[0])
        sideBySide.show(volumeNode, None, plane="axial")
        assert not np.allclose(slice_to_ras(app.views()[0])[:3, 2], sagittal[:3, 2], rtol=0, atol=0.1)

    def test_a_place_is_brought_into_every_slice_view(self, app, sideBySide):
        volumeNode = mrml.add_volume(app.scene, mrml.random_image((9, 40, 40)), np.diag([1.0, 1.0, 4.0, 1.0]))
        sideBySide.show(volumeNode, None)
        app.resize(300, 200)
        fields = [node.GetFieldOfView() for node in app.views()]
        before = slice_to_ras(app.views()[0])
        sideBySide.jumpTo((10.0, 12.0, 24.0))
        for node in app.all_slice_views():
            assert into(slice_to_ras(node), [(10.0, 12.0, 24.0)])[0][2] == pytest.approx(0, abs=1e-6)
        assert [node.GetFieldOfView() for node in app.views()] == fields
        assert np.array_equal(slice_to_ras(app.views()[0])[:2], before[:2])  # It was in view: only the slice changed.
        app.user_zooms(0.1)
        sideBySide.jumpTo((1.0, 2.0, 8.0))
        for node in app.views():
            x, y, z = into(xy_to_ras(node), [(1.0, 2.0, 8.0)])[0]
            width, height = node.GetDimensions()[:2]
            assert 0 <= x <= width and 0 <= y <= height and z == pytest.approx(0, abs=1e-6)

    def test_it_starts_at_the_slice_in_the_middle_of_the_segments(self, app, sideBySide):
        volumeNode = mrml.add_volume(app.scene, mrml.random_image((9, 10, 10)), np.eye(4))
        labels = np.zeros((9, 10, 10), np.uint8)
        labels[0, :5] = 1  # 50 voxels, then 30, 30 and 30: the half of them lies in slice 1.
        labels[1:4, :3] = 2
        volume = nodes.volume_from_node(volumeNode)
        segmentation = Segmentation(volume, labels, HEART, "truth", volume, "cpu", 0.0)
        sideBySide.show(volumeNode, None, [nodes.segmentation_node(segmentation, volumeNode)])
        assert sideBySide.currentSlice(volumeNode) == 1

    def test_segments_are_found_on_a_grid_and_under_a_transform_of_their_own(self, app, sideBySide):
        volumeNode = mrml.add_volume(
            app.scene, mrml.random_image((9, 20, 20)), mrml.affine(np.eye(3), (1, 1, 5), (0, 0, 0))
        )
        other = mrml.add_volume(app.scene, mrml.random_image((50, 20, 20)), np.eye(4))
        labels = np.zeros((50, 20, 20), np.uint8)
        labels[2:5, 5:15, 5:15] = 1
        labels[3, 2:18, 2:18] = 2
        volume = nodes.volume_from_node(other)
        segmentation = Segmentation(volume, labels, HEART, "truth", volume, "cpu", 0.0)
        segmentationNode = nodes.segmentation_node(segmentation, other)
        up = np.eye(4)
        up[2, 3] = 27.0
        segmentationNode.SetAndObserveTransformNodeID(mrml.add_linear_transform(app.scene, up).GetID())
        sideBySide.show(volumeNode, None, [segmentationNode])
        assert sideBySide.currentSlice(volumeNode) == 6  # 30 mm

    def test_a_cropped_label_map_is_looked_at_where_it_lies(self, app, sideBySide):
        volumeNode = mrml.add_volume(app.scene, mrml.random_image((9, 20, 20)))
        labelmap = slicer.vtkOrientedImageData()
        labelmap.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(mrml.OBLIQUE))
        labelmap.SetExtent(3, 8, 2, 9, 6, 7)
        labelmap.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        labelmap.GetPointData().GetScalars().Fill(1)
        segment = slicer.vtkSegment()
        segment.SetName("cropped")
        segment.AddRepresentation("Binary labelmap", labelmap)
        segmentationNode = app.scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        segmentationNode.GetSegmentation().AddSegment(segment)
        sideBySide.show(volumeNode, None, [segmentationNode])
        assert sideBySide.currentSlice(volumeNode) == 6

    def test_the_slice_in_view_is_one_that_the_volume_has(self, app, sideBySide, pair):
        sideBySide.show(*pair)
        middle = sideBySide.currentSlice(pair[0])
        seen = {}
        for mm in (0, 8, 3, -3, -8, -16, -80, 400):
            app.user_scrolls(mm)
            seen[mm] = sideBySide.currentSlice(pair[0])
        towards = seen[8] - middle
        assert abs(towards) == 1
        assert seen[3] == seen[-3] == middle + towards
        assert {seen[-80], seen[400]} == {0, 3}

    def test_of_a_plane_that_the_user_turned_the_middle_of_the_view_counts(self, app, sideBySide):
        volumeNode = mrml.add_volume(app.scene, mrml.random_image((9, 40, 40)), np.diag([1.0, 1.0, 4.0, 1.0]))
        sideBySide.show(volumeNode, None)
        node = app.views()[0]
        node.SetOrientation("Coronal")
        node.SetXYZOrigin(0, 11.5, 0)
        assert sideBySide.currentSlice(volumeNode) == 4 + 3

    def test_before_the_first_show_the_middle_slice_is_the_current_one(self, sideBySide, pair):
        assert sideBySide.currentSlice(pair[0]) == 2


class TestWhatIsShown:
    def test_each_view_has_its_own_image_and_both_are_linked(self, app, sideBySide, pair):
        sideBySide.show(*pair)
        assert sideBySide.visible and app.arrangement == layouts.TWO_VIEWS
        assert app.backgrounds() == [node.GetID() for node in pair]
        for node in app.composites():
            assert node.GetLinkedControl() and node.GetHotLinkedControl()
            assert (node.GetForegroundVolumeID(), node.GetLabelVolumeID()) == (None, None)

    def test_the_views_have_clear_labels_and_a_group_of_their_own(self, app, sideBySide, pair):
        sideBySide.show(*pair)
        original, enhanced = app.views()
        assert (original.GetLayoutLabel(), enhanced.GetLayoutLabel()) == ("O", "E")
        assert original.GetLayoutColor() != enhanced.GetLayoutColor()
        groups = [view.GetViewGroup() for view in app.all_slice_views()]
        assert original.GetViewGroup() == enhanced.GetViewGroup() == layouts.VIEW_GROUP
        assert groups.count(layouts.VIEW_GROUP) == 2 < len(groups)

    def test_what_the_user_does_in_one_view_happens_in_the_other_and_nowhere_else(self, app, sideBySide, pair):
        sideBySide.show(*pair)
        app.slice_logic("Red")
        app.slice_logic(layouts.ENHANCED_VIEW)
        red = app.view("Red")
        # Even where the planes agree and the Red view is linked too.
        red.GetSliceToRAS().DeepCopy(app.views()[0].GetSliceToRAS())
        red.UpdateMatrices()
        app.view("Red", "vtkMRMLSliceCompositeNode").SetLinkedControl(True)
        before = [xy_to_ras(node) for node in (*app.views(), red)]
        nudge(app)
        after = [xy_to_ras(node) for node in (*app.views(), red)]
        assert not np.allclose(before[0], after[0])
        assert np.array_equal(after[0], after[1])
        assert np.array_equal(before[2], after[2])
        assert app.backgrounds() == [node.GetID() for node in pair]

    def test_an_image_that_is_loaded_meanwhile_stays_out(self, app, sideBySide, pair):
        sideBySide.show(*pair)
        for tag in ("Red", layouts.ORIGINAL_VIEW, layouts.ENHANCED_VIEW):
            app.slice_logic(tag)
        loaded = mrml.add_volume(app.scene, name="loaded")
        app.logic.GetSelectionNode().SetActiveVolumeID(loaded.GetID())
        app.logic.PropagateVolumeSelection()
        assert app.view("Red", "vtkMRMLSliceCompositeNode").GetBackgroundVolumeID() == loaded.GetID()
        assert app.backgrounds() == [node.GetID() for node in pair]

    @pytest.mark.parametrize(
        ("threeD", "plot", "layout"),
        [
            (False, False, layouts.TWO_VIEWS),
            (True, False, layouts.WITH_3D),
            (False, True, layouts.WITH_PLOT),
            (True, True, layouts.WITH_3D_AND_PLOT),
        ],
    )
    def test_a_3d_view_and_a_plot_come_as_asked(self, app, sideBySide, pair, threeD, plot, layout):
        chart = app.scene.AddNewNodeByClass("vtkMRMLPlotChartNode") if plot else None
        sideBySide.show(*pair, threeD=threeD, plotChartNode=chart)
        assert sideBySide.visible and app.arrangement == layout
        threeDView = app.view(layouts.THREE_D_VIEW, "vtkMRMLViewNode")
        plotView = app.view(layouts.PLOT_VIEW, "vtkMRMLPlotViewNode")
        assert (threeDView is not None, plotView is not None) == (threeD, plot)
        if plot:
            other = app.scene.AddNewNodeByClass("vtkMRMLPlotChartNode")
            app.logic.GetSelectionNode().SetActivePlotChartID(other.GetID())
            app.logic.PropagatePlotChartSelection()
            assert plotView.GetPlotChartNodeID() == chart.GetID()

    def test_the_camera_looks_at_the_segments_and_stays_where_the_user_turns_it(self, app, sideBySide, beat):
        volumeNode, enhancedNode, segmentationNode = add_beat(app.scene, beat)
        sideBySide.show(volumeNode, enhancedNode, threeD=True)
        camera = app.view(layouts.THREE_D_VIEW, "vtkMRMLCameraNode")
        far = camera.GetCamera().GetDistance()
        sideBySide.show(volumeNode, enhancedNode, [segmentationNode], threeD=True)
        heart = np.argwhere(beat.labels)
        middle = mrml.world_positions(beat.volume.ijk_to_ras, [(heart.min(axis=0) + heart.max(axis=0)) / 2])
        assert np.allclose(camera.GetFocalPoint(), middle, rtol=0, atol=1e-6)
        assert camera.GetCamera().GetDistance() < far
        camera.SetPosition(1, 2, 3)
        sideBySide.show(volumeNode, enhancedNode, [segmentationNode], threeD=True)
        assert camera.GetPosition() == (1, 2, 3)

    def test_segments_that_are_kept_to_other_views_are_shown_here_too(self, app, sideBySide, beat):
        volumeNode, enhancedNode, segmentationNode = add_beat(app.scene, beat)
        displayNode = segmentationNode.GetDisplayNode()
        sideBySide.show(volumeNode, enhancedNode, [segmentationNode])
        assert displayNode.GetNumberOfViewNodeIDs() == 0  # Shown everywhere.
        displayNode.AddViewNodeID(app.view("Red").GetID())
        sideBySide.show(volumeNode, enhancedNode, [segmentationNode])
        shown = [view.GetName() for view in app.all_slice_views() if displayNode.IsDisplayableInView(view.GetID())]
        assert sorted(shown) == ["DINEnhanced", "DINOriginal", "Red"]

    @pytest.mark.parametrize("warped", [False, True])
    def test_an_image_that_cannot_be_shown_changes_nothing(self, app, sideBySide, pair, warped):
        if warped:
            pair[0].SetAndObserveTransformNodeID(mrml.add_warp(app.scene).GetID())
        before = mrml.scene_state(app.scene)
        with pytest.raises(InputError):
            sideBySide.show(pair[0] if warped else None, pair[1])
        assert mrml.scene_state(app.scene) == before
        assert not sideBySide.visible

    def test_a_scene_without_layout_is_refused_in_words(self, scene, pair):
        sideBySide = SideBySide(scene, slicer.vtkMRMLApplicationLogic(), print)
        assert not sideBySide.visible
        with pytest.raises(DINSegmentError, match="no layout"):
            sideBySide.show(*pair)
        sideBySide.close()


class TestShownAgain:
    def test_other_views_and_new_segments_leave_slice_and_zoom(self, app, sideBySide, beat):
        volumeNode, enhancedNode, segmentationNode = add_beat(app.scene, beat)
        sideBySide.show(volumeNode, enhancedNode)
        before = nudge(app)
        sideBySide.show(volumeNode, enhancedNode, threeD=True)
        assert_still(app, before)
        sideBySide.show(volumeNode, enhancedNode, [segmentationNode])
        assert_still(app, before)
        sideBySide.hide()
        sideBySide.show(volumeNode, enhancedNode, [segmentationNode])
        assert_still(app, before)

    def test_another_enhanced_image_takes_the_place_of_the_first(self, app, sideBySide, pair):
        sideBySide.show(*pair)
        before = nudge(app)
        other = mrml.add_volume(app.scene, name="other")
        sideBySide.show(pair[0], other)
        assert_still(app, before)
        assert app.backgrounds() == [pair[0].GetID(), other.GetID()]

    @pytest.mark.parametrize("moved", [False, True])
    def test_another_volume_or_a_moved_one_is_fitted(self, app, sideBySide, pair, moved):
        sideBySide.show(*pair)
        fitted = app.views()[0].GetFieldOfView()
        nudge(app)
        for node in app.composites():
            node.SetForegroundVolumeID(pair[1].GetID())
            node.SetLabelVolumeID(pair[1].GetID())
        volumeNode = pair[0] if moved else mrml.add_volume(app.scene, name="another")
        if moved:
            turn = mrml.affine(mrml.rotation(0, 30, 0), (1, 1, 1), (0, 0, 0))
            volumeNode.SetAndObserveTransformNodeID(mrml.add_linear_transform(app.scene, turn).GetID())
        sideBySide.show(volumeNode, pair[1])
        assert np.allclose(app.views()[0].GetFieldOfView(), fitted)
        for node in app.composites():
            assert (node.GetForegroundVolumeID(), node.GetLabelVolumeID()) == (None, None)
        assert sideBySide.currentSlice(volumeNode) == 2
        assert_whole(app, volumeNode, 2)

    def test_a_view_whose_size_changes_fits_again_until_the_user_zooms(self, app, sideBySide):
        shown = mrml.add_volume(app.scene, mrml.random_image((3, 7, 7)), np.diag([2.0, 2.0, 9.0, 1.0])), None
        sideBySide.show(*shown)
        volume_mm = 14.0
        app.resize(600, 400)
        assert app.views()[0].GetFieldOfView()[:2] == pytest.approx((volume_mm * 1.5, volume_mm))
        app.resize(400, 800)
        assert app.views()[1].GetFieldOfView()[:2] == pytest.approx((volume_mm, volume_mm * 2))
        app.slice_logic(layouts.ENHANCED_VIEW).ResizeSliceNode(200, 800)
        app.events()
        left, right = app.views()
        assert left.GetFieldOfView()[:2] == pytest.approx((volume_mm * 2, volume_mm * 4))
        assert right.GetFieldOfView()[:2] == pytest.approx((volume_mm, volume_mm * 4))
        for node in (left, right):  # What is drawn follows: Slicer ignores a field of view set in the wrong moment.
            size = np.divide(node.GetFieldOfView(), node.GetDimensions())
            assert np.allclose(np.diag(slicer.util.arrayFromVTKMatrix(node.GetXYToSlice()))[:2], size[:2])
        sideBySide.hide()
        app.resize(400, 800)
        assert left.GetFieldOfView()[:2] == pytest.approx((volume_mm * 2, volume_mm * 4))
        sideBySide.show(*shown)
        assert left.GetFieldOfView()[:2] == pytest.approx((volume_mm, volume_mm * 2))
        app.user_zooms(0.5)
        app.resize(500, 800)
        for node in app.views():  # Slicer's own way: the height stays.
            assert node.GetFieldOfView()[:2] == pytest.approx((volume_mm * 5 / 8, volume_mm))


class TestWhatIsLeftAlone:
    def test_other_views_and_the_display_of_the_volume(self, app, sideBySide, pair):
        for tag in ("Red", "Green", "Yellow"):
            app.slice_logic(tag).GetSliceCompositeNode().SetBackgroundVolumeID(pair[1].GetID())
        pair[0].GetDisplayNode().SetWindowLevel(123, 45)

        def state():
            kept = [
                app.view(tag, c)
                for tag in ("Red", "Green", "Yellow")
                for c in ("vtkMRMLSliceNode", "vtkMRMLSliceCompositeNode")
            ]
            return [xml(node) for node in (*kept, *pair, pair[0].GetDisplayNode())]

        before = state()
        sideBySide.show(*pair, threeD=True)
        nudge(app)
        assert state() == before
        sideBySide.hide()
        assert state() == before


class TestTheUsersLayout:
    def test_it_comes_back(self, app, sideBySide, pair):
        sideBySide.show(*pair)
        sideBySide.show(*pair, threeD=True)
        sideBySide.hide()
        assert app.arrangement == CONVENTIONAL
        assert not sideBySide.visible

    def test_one_that_the_user_chose_meanwhile_stays(self, app, sideBySide, pair):
        sideBySide.show(*pair)
        app.layoutNode.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
        assert not sideBySide.visible
        sideBySide.hide()
        assert app.arrangement == slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView
        sideBySide.show(*pair)
        sideBySide.hide()
        assert app.arrangement == slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView

    def test_it_outlives_a_reload_of_the_module(self, app, sideBySide, pair):
        sideBySide.show(*pair)
        reloaded = SideBySide(app.scene, app.logic, app.queue.append)
        assert reloaded.visible
        reloaded.show(*pair, threeD=True)
        reloaded.hide()
        assert app.arrangement == CONVENTIONAL
        reloaded.close()

    @pytest.mark.parametrize("lost", [None, "501", "987", "rubbish", str(slicer.vtkMRMLLayoutNode.SlicerLayoutNone)])
    def test_one_that_is_not_known_any_more_becomes_the_four_views(self, app, sideBySide, pair, lost):
        sideBySide.show(*pair)
        if lost is None:
            app.layoutNode.RemoveAttribute(layouts.PREVIOUS_ATTRIBUTE)
        else:
            app.layoutNode.SetAttribute(layouts.PREVIOUS_ATTRIBUTE, lost)
        sideBySide.hide()
        assert app.arrangement == FOUR_UP

    def test_a_view_that_is_maximized_does_not_outlast_the_layout(self, app, sideBySide, pair):
        sideBySide.show(*pair)
        app.layoutNode.AddMaximizedViewNode(app.views()[0])
        sideBySide.hide()
        assert app.layoutNode.GetNumberOfMaximizedViewNodes() == 0

    def test_closing_observes_nothing_any_more(self, app, pair):
        sideBySide = SideBySide(app.scene, app.logic, app.queue.append)
        sideBySide.show(*pair)
        sideBySide.close()
        assert app.arrangement == CONVENTIONAL
        app.layoutNode.SetViewArrangement(layouts.TWO_VIEWS)
        app.scene.RemoveNode(pair[0])
        app.scene.Clear(False)
        assert app.arrangement == layouts.TWO_VIEWS


class TestScenes:
    def test_a_closed_scene_is_not_left_in_an_empty_layout(self, app, sideBySide, pair):
        sideBySide.show(*pair, threeD=True)
        app.scene.Clear(False)
        assert app.arrangement == CONVENTIONAL
        assert not sideBySide.visible

    def test_nor_is_one_that_was_opened_side_by_side(self, app, sideBySide):
        app.layoutNode.SetAttribute(layouts.PREVIOUS_ATTRIBUTE, str(CONVENTIONAL))
        app.layoutNode.SetViewArrangement(layouts.TWO_VIEWS)
        app.scene.Clear(False)
        assert app.arrangement == CONVENTIONAL

    def test_one_that_nobody_holds_or_closed_does_no_harm(self, app, pair):
        SideBySide(app.scene, app.logic, app.queue.append).show(*pair)
        gc.collect()
        app.resize(300, 200)
        app.scene.RemoveNode(pair[0])
        app.scene.Clear(False)
        assert app.arrangement == layouts.TWO_VIEWS

    def test_the_next_scene_is_shown_like_the_first(self, app, sideBySide, pair):
        sideBySide.show(*pair)
        nudge(app)
        app.scene.Clear(False)
        pair = mrml.add_volume(app.scene, mrml.random_image((7, 5, 6))), mrml.add_volume(app.scene)
        sideBySide.show(*pair)
        assert sideBySide.visible
        assert sideBySide.currentSlice(pair[0]) == 3
        assert app.backgrounds() == [node.GetID() for node in pair]

    @pytest.mark.parametrize("known", [True, pytest.param(False, marks=pytest.mark.vtk_says("Can't find layout:502"))])
    def test_a_scene_that_was_saved_side_by_side_opens_so(self, app, sideBySide, tmp_path, known):
        """Whether the module was there when the scene was loaded, or comes later."""
        pair = add_case(app.scene, "flipped")
        sideBySide.show(*pair, threeD=True)
        before = nudge(app)
        app.scene.SetURL(str(tmp_path / "scene.mrml"))
        app.scene.Commit()

        with another_application(tmp_path / "scene.mrml", register=known) as other:
            views = SideBySide(other.scene, other.logic, other.queue.append)
            assert views.visible and other.arrangement == layouts.WITH_3D
            assert other.layoutNode.GetCurrentLayoutDescription() == other.layoutNode.GetLayoutDescription(
                layouts.WITH_3D
            )
            assert other.backgrounds() == [node.GetID() for node in pair]
            assert all(np.allclose(slice_to_ras(a), b[0]) for a, b in zip(other.views(), before, strict=True))
            views.hide()
            assert other.arrangement == CONVENTIONAL
            views.close()

    def test_it_ends_when_the_original_is_deleted(self, app, sideBySide, pair):
        sideBySide.show(*pair)
        app.scene.RemoveNode(pair[0])
        assert not sideBySide.visible
        assert app.arrangement == CONVENTIONAL

    def test_it_goes_on_when_anything_else_is_deleted(self, app, sideBySide, beat):
        volumeNode, enhancedNode, segmentationNode = add_beat(app.scene, beat)
        sideBySide.show(volumeNode, enhancedNode, [segmentationNode], threeD=True)
        app.scene.RemoveNode(segmentationNode)
        app.scene.RemoveNode(enhancedNode)
        assert sideBySide.visible
        before = nudge(app)
        other = mrml.add_volume(app.scene)
        sideBySide.show(volumeNode, other)
        assert app.backgrounds() == [volumeNode.GetID(), other.GetID()]
        assert_still(app, before)


class TestHowSegmentsAreShown:
    def test_outlines_only_or_filled(self, scene, beat):
        displayNode = add_beat(scene, beat)[2].GetDisplayNode()
        node = displayNode.GetDisplayableNode()
        for outline in (True, False):
            show_outline(node, outline)
            assert displayNode.GetVisibility2DOutline()
            assert displayNode.GetVisibility2DFill() == (not outline)

    def test_surfaces_are_made_when_they_are_shown(self, scene, beat, surfaces):
        node = add_beat(scene, beat)[2]
        node.GetDisplayNode().SetVisibility3D(False)
        show_3d(node, True)
        for segmentId in node.GetSegmentation().GetSegmentIDs():
            surface = vtk.vtkPolyData()
            assert node.GetClosedSurfaceRepresentation(segmentId, surface)
            assert surface.GetNumberOfPoints() > 100
        assert node.GetDisplayNode().GetVisibility3D()
        labels = mrml.exported_labels(node, scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode"))
        assert np.array_equal(labels, beat.labels)
        show_3d(node, False)
        show_3d(node, False)
        assert not node.GetSegmentation().ContainsRepresentation("Closed surface")

    def test_segments_without_voxels_have_no_surface_and_make_no_error(self, scene, beat, surfaces):
        node = nodes.segmentation_node(mrml.without(beat, 1, 3), add_beat(scene, beat)[0])
        show_3d(node, True)
        for segment, empty in zip(mrml.segments(node), (True, False, True), strict=True):
            # As Slicer's DICOM export asks whether a segment is empty.
            voxels = segment.GetRepresentation("Binary labelmap").GetPointData().GetScalars()
            assert (voxels.GetValueRange() == (0, 0)) == empty
            assert (segment.GetRepresentation("Closed surface").GetNumberOfPoints() == 0) == empty

    def test_surfaces_that_slicer_cannot_make_are_an_error_in_words(self, scene):
        # From contours to surfaces Slicer has no way of its own.
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Contours")
        segment = slicer.vtkSegment()
        segment.SetName("Heart")
        contours = slicer.vtkSegmentationConverter.GetSegmentationPlanarContourRepresentationName()
        segment.AddRepresentation(contours, vtk.vtkPolyData())
        node.GetSegmentation().SetSourceRepresentationName(contours)
        node.GetSegmentation().AddSegment(segment)
        with pytest.raises(DINSegmentError, match="surfaces of 'Contours'"):
            show_3d(node, True)


@pytest.mark.usefixtures("opengl")
class TestWhatIsDrawn:
    """Pixels, from Slicer's own pipelines."""

    def test_the_image_and_its_outlines_lie_where_they_belong_in_both_views(self, app, sideBySide, beat):
        volumeNode, enhancedNode, segmentationNode = add_beat(app.scene, beat)
        show_outline(segmentationNode, True)
        sideBySide.show(volumeNode, enhancedNode, [segmentationNode])
        with rendering.slice_views(sideBySide, app.logic, (420, 380)) as views:
            pictures = [view.image().astype(int) for view in views]
            labels = sampled(views[0], volumeNode, beat.labels)
            greys = [sampled(views[0], volumeNode, v.array) for v in (beat.volume, beat.enhanced)]
        border = ndimage.morphological_gradient(labels, size=3) > 0
        for picture, grey in zip(pictures, greys, strict=True):
            coloured = np.ptp(picture, axis=2) > 30
            assert coloured.sum() > 300
            assert ndimage.distance_transform_edt(~border)[coloured].max() <= 3
            assert np.mean(ndimage.distance_transform_edt(~coloured)[border] <= 3) > 0.98
            inside = ~coloured & ~border
            assert np.corrcoef(picture[inside][:, 0], grey[inside])[0, 1] > 0.9

    def test_the_composed_picture_has_both_views_and_the_surfaces(self, app, sideBySide, beat, surfaces, tmp_path):
        volumeNode, enhancedNode, segmentationNode = add_beat(app.scene, beat)
        show_3d(segmentationNode, True)
        sideBySide.show(volumeNode, enhancedNode, [segmentationNode], threeD=True)
        picture = rendering.render_side_by_side(sideBySide, app.logic, tmp_path / "views.png", (908, 330))
        reader = vtk.vtkPNGReader()
        reader.SetFileName(str(tmp_path / "views.png"))
        reader.Update()
        assert reader.GetOutput().GetDimensions() == (908, 330, 1)
        original, enhanced, threeD = (picture[rendering.BAR :, n * 304 : n * 304 + 300] for n in range(3))
        assert np.abs(original.astype(int) - enhanced).mean() > 5
        # Slicer's 3D background is bluish; the heart in the middle is not.
        assert threeD[5, 5, 2] > threeD[5, 5, 0]
        centre = threeD[152 - 20 : 152 + 20, 150 - 20 : 150 + 20].astype(int)
        assert np.mean(centre[..., 0] > centre[..., 2]) > 0.9


def xml(node):
    """Everything of a node that is saved."""
    scene = slicer.vtkMRMLScene()
    scene.SetSaveToXMLString(1)
    copy = node.CreateNodeInstance()
    copy.UnRegister(None)
    copy.Copy(node)
    scene.AddNode(copy)
    scene.Commit()
    return scene.GetSceneXMLString()


def sampled(view, volumeNode, array):
    """Voxels of `array`, on the grid of `volumeNode`, at the pixels of a view: first row on top; 0 outside."""
    width, height = view.viewNode.GetDimensions()[:2]
    x, y = np.meshgrid(np.arange(width), np.arange(height)[::-1])
    ras = xy_to_ras(view.viewNode) @ np.stack([x.ravel(), y.ravel(), 0 * x.ravel(), 1 + 0 * x.ravel()])
    ijk = np.linalg.inv(mrml.ijk_to_ras(volumeNode)) @ ras
    return ndimage.map_coordinates(array, ijk[2::-1], order=0, mode="grid-constant").reshape(height, width)


class another_application:
    """A second application with a scene from a file, with or without the module when it is loaded."""

    def __init__(self, path, register):
        self.path, self.register = path, register

    def __enter__(self):
        scene = slicer.vtkMRMLScene()
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
        logic = slicer.vtkMRMLApplicationLogic()
        logic.SetMRMLScene(scene)
        self.layout = slicer.vtkMRMLLayoutLogic()
        self.layout.SetMRMLScene(scene)
        self.application = Application(scene, logic)
        if self.register:
            layouts.register(self.application.layoutNode)
        scene.SetURL(str(self.path))
        scene.Connect()
        return self.application

    def __exit__(self, *_error):
        self.layout.SetMRMLScene(None)
        self.application.logic.SetMRMLScene(None)
