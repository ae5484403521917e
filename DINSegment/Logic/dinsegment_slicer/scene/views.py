"""Original and enhanced image side by side."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import slicer
import vtk

from dinsegment.errors import DINSegmentError
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene import layouts
from dinsegment_slicer.scene.labelmaps import add_corners, central_slice, segmented_box
from dinsegment_slicer.scene.placement import Fit, Grid, slice_plane
from dinsegment_slicer.scene.reading import Plane

PLACED_ATTRIBUTE = "DINSegment.Placed"
"""Of a view node: the volume, and where it lay, when the view was placed on it. Later the user moves the view."""

PREPARED = "prepared "
"""Begins that attribute while the view waits for a result, in whose middle it is placed then."""

ACQUIRED = "Acquired"
"""Orientation preset of these views: the slices of the volume in them. Slicer saves the name of a view's orientation,
and complains when it reads one that it does not know, as it would be of oblique slices."""

SETTLING_TURNS = 2
"""Turns of the event loop after which nothing is left that a new view's bar has queued for itself."""


class SideBySide:
    """Original and enhanced image in linked views of their own, with the segments in both.

    Only the layout and these views are changed, never another view nor how a volume is displayed.

    Args:
        scene: Its layout node carries the layouts.
        applicationLogic: `slicer.app.applicationLogic()`.
        later: Calls a function once the current event is over, as a timer of 0 ms does. Slicer ignores a new field of
            view while a view still tells that its size changed.
        annotate: Writes a text into a corner of the slice view of this name; an empty one removes it.
    """

    def __init__(
        self,
        scene: slicer.vtkMRMLScene,
        applicationLogic: slicer.vtkMRMLApplicationLogic,
        later: Callable[[Callable[[], None]], object],
        annotate: Callable[[str, str], None] = lambda _name, _text: None,
    ) -> None:
        self._scene = scene
        self._later = later
        self._annotate = annotate
        self._grid: Grid | None = None
        self._sliceToRAS: np.ndarray | None = None
        self._settlingTurns = 0
        self._fitsLater = False
        self._applicationLogic = applicationLogic
        self._volumeID: str | None = None
        self._fit: Fit | None = None
        self._viewObservations: list[tuple[slicer.vtkMRMLNode, int]] = []
        onNodeRemoved = vtk.calldata_type(vtk.VTK_OBJECT)(_weakly(self._onNodeRemoved))
        self._sceneObservations = [
            # At the start of closing: Slicer resets the layout node meanwhile and then chooses its last layout again.
            scene.AddObserver(slicer.vtkMRMLScene.StartCloseEvent, _weakly(self._onStartClose)),
            scene.AddObserver(slicer.vtkMRMLScene.NodeRemovedEvent, onNodeRemoved),
        ]
        if self._layoutNode:
            layouts.register(self._layoutNode)

    @property
    def visible(self) -> bool:
        """The current view arrangement is one of these."""
        return self._layoutNode is not None and self._layoutNode.GetViewArrangement() in layouts.LAYOUTS

    def prepare(
        self, volumeNode: slicer.vtkMRMLScalarVolumeNode, *, plane: Plane = "acquired", threeD: bool = False, plot: bool
    ) -> None:
        """Makes the views, which takes most of a second the first time, and shows the original in the left one.

        For the time until there is a result to `show`, which then places them anew. Arguments and errors as there;
        `plot` says whether there will be one.
        """
        grid = Grid.of(volumeNode, plane)
        with self._renderingPaused():
            self._arrange(layouts.layout_id(threeD=threeD, plot=plot))
            self._volumeID = volumeNode.GetID()
            for sliceNode, node in zip(self._sliceNodes(), (volumeNode, None), strict=True):
                self._fill(sliceNode, node)
            if not self._isPlaced(_key(grid, volumeNode)):
                self._place(grid, PREPARED + _key(grid, volumeNode), grid.middle)
            self._grid = grid
            self._observeViews()
            self._keepFit()

    def show(
        self,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        enhancedNode: slicer.vtkMRMLScalarVolumeNode | None,
        segmentationNodes: Iterable[slicer.vtkMRMLSegmentationNode] = (),
        *,
        plane: Plane = "acquired",
        threeD: bool = False,
        plotChartNode: slicer.vtkMRMLPlotChartNode | None = None,
    ) -> None:
        """Shows the two images, or other ones, or the same with other views beside them.

        The first time that a volume is shown, and when it was moved, both views show it whole, in its `plane`, at the
        slice in the middle of the segments or else of the volume. Later they stay as the user has them.

        Args:
            volumeNode: The original, on the left; a linear parent transform is honoured.
            enhancedNode: On the same grid; None leaves the right view without an image.
            segmentationNodes: Say where to look, and are made visible in these views if they are restricted to others.
            plane: The slices that are shown, as acquired or axial. Of an oblique image those of its own slices that are
                closest to axial ones, so that voxels are shown as they are.
            threeD: Adds a 3D view, that looks at the segments; what it shows of them is `show_3d`'s.
            plotChartNode: Adds a plot view with this chart.

        Raises:
            InputError: `volumeNode` holds no grey image, or has a non-linear parent transform.
            DINSegmentError: The scene has no layout, as outside the application.
        """
        grid = Grid.of(volumeNode, plane)
        segmentationNodes = tuple(segmentationNodes)
        with self._renderingPaused():
            self._arrange(layouts.layout_id(threeD=threeD, plot=plotChartNode is not None))
            self._volumeID = volumeNode.GetID()
            for sliceNode, node in zip(self._sliceNodes(), (volumeNode, enhancedNode), strict=True):
                self._fill(sliceNode, node)
            if not self._isPlaced(_key(grid, volumeNode)):
                k = central_slice(grid, segmentationNodes)
                self._place(grid, _key(grid, volumeNode), grid.middle if k is None else k)
            self._grid = grid
            if threeD:
                self._lookAt(grid, volumeNode, segmentationNodes)
            if plotChartNode is not None:
                plotViewNode = self._view("vtkMRMLPlotViewNode", layouts.PLOT_VIEW)
                plotViewNode.SetDoPropagatePlotChartSelection(False)
                plotViewNode.SetPlotChartNodeID(plotChartNode.GetID())
            for segmentationNode in segmentationNodes:
                self._unrestrict(segmentationNode, threeD)
            self._observeViews()
            self._keepFit()  # The views may have changed size while they were not observed.

    def hide(self) -> None:
        """Gives the user's own layout back; one that the user chose meanwhile stays."""
        self._unobserveViews()
        self._volumeID = self._grid = None
        self._settlingTurns = 0
        if self.visible:
            self._setArrangement(self._previous())
            self._layoutNode.RemoveAttribute(layouts.PREVIOUS_ATTRIBUTE)

    def currentSlice(self, volumeNode: slicer.vtkMRMLScalarVolumeNode, plane: Plane = "acquired") -> int:
        """Index, along the slice axis of `volumeNode`, of the slice in the middle of the original's view.

        Always one that the volume has; the middle one before the view was ever shown.

        Raises:
            InputError: `volumeNode` holds no grey image, or has a non-linear parent transform.
        """
        grid = Grid.of(volumeNode, plane)
        sliceNode = self._view("vtkMRMLSliceNode", layouts.ORIGINAL_VIEW)
        if sliceNode is None:
            return grid.middle
        return self._sliceInView(sliceNode, grid)

    def jumpTo(self, place: tuple[float, float, float]) -> None:
        """Brings a place (mm RAS) into every slice view, these and the user's own, which keep zoom and orientation.

        A view is moved in its plane only if it would not show the place otherwise.
        """
        self._settlingTurns = 0
        for n in range(self._scene.GetNumberOfNodesByClass("vtkMRMLSliceNode")):
            sliceNode = self._scene.GetNthNodeByClass(n, "vtkMRMLSliceNode")
            sliceNode.JumpSliceByOffsetting(*place)
            to_pixels = np.linalg.inv(slicer.util.arrayFromVTKMatrix(sliceNode.GetXYToRAS()))
            x, y = (to_pixels @ (*place, 1.0))[:2]
            width, height = sliceNode.GetDimensions()[:2]
            if not (0 <= x < width and 0 <= y < height):
                sliceNode.JumpSliceByCentering(*place)

    def close(self) -> None:
        """Hides the views and observes nothing any more."""
        self.hide()
        while self._sceneObservations:
            self._scene.RemoveObserver(self._sceneObservations.pop())

    @property
    def _layoutNode(self) -> slicer.vtkMRMLLayoutNode | None:
        return self._scene.GetFirstNodeByClass("vtkMRMLLayoutNode")

    def _view(self, className: str, tag: str) -> slicer.vtkMRMLAbstractViewNode | None:
        return self._scene.GetSingletonNode(tag, className)

    def _sliceNodes(self) -> list[slicer.vtkMRMLSliceNode]:
        """Original, enhanced."""
        return [self._view("vtkMRMLSliceNode", tag) for tag in (layouts.ORIGINAL_VIEW, layouts.ENHANCED_VIEW)]

    def _previous(self) -> int:
        """The layout to give back; Slicer's four views where none is known that Slicer can show."""
        text = self._layoutNode.GetAttribute(layouts.PREVIOUS_ATTRIBUTE) or ""
        layout = int(text) if text.isdecimal() else -1
        known = layout not in layouts.LAYOUTS and self._layoutNode.IsLayoutDescription(layout)
        if known and self._layoutNode.GetLayoutDescription(layout):
            return layout
        return slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView

    def _arrange(self, layout: int) -> None:
        if self._layoutNode is None:
            raise DINSegmentError(_("This scene has no layout: only the application shows images side by side."))
        layouts.register(self._layoutNode)  # A scene that was cleared altogether has a new layout node.
        if not self.visible:
            self._layoutNode.SetAttribute(layouts.PREVIOUS_ATTRIBUTE, str(self._layoutNode.GetViewArrangement()))
        self._setArrangement(layout)

    def _setArrangement(self, layout: int) -> None:
        if self._layoutNode.GetViewArrangement() != layout:
            # Slicer would show a maximized view in place of any layout.
            self._layoutNode.RemoveAllMaximizedViewNodes()
            self._layoutNode.SetViewArrangement(layout)

    def _fill(self, sliceNode: slicer.vtkMRMLSliceNode, volumeNode: slicer.vtkMRMLScalarVolumeNode | None) -> None:
        compositeNode = self._composite(sliceNode)
        # Slicer puts an image that is loaded next into every view that does not decline.
        compositeNode.SetDoPropagateVolumeSelection(False)
        compositeNode.SetBackgroundVolumeID(volumeNode.GetID() if volumeNode else None)
        # Slicer hands on to linked views only what the user does in one, so each keeps its own background.
        compositeNode.SetLinkedControl(True)
        compositeNode.SetHotLinkedControl(True)

    def _composite(self, sliceNode: slicer.vtkMRMLSliceNode) -> slicer.vtkMRMLSliceCompositeNode:
        return self._companion("vtkMRMLSliceCompositeNode", sliceNode)

    def _companion(self, className: str, viewNode: slicer.vtkMRMLAbstractViewNode) -> slicer.vtkMRMLNode:
        """The node of this class that belongs to a view."""
        tag = viewNode.GetLayoutName()
        node = self._view(className, tag)
        if node is not None:
            return node
        # Slicer makes it with the view's widget, which may come after the layout, and takes this one then.
        node = self._scene.CreateNodeByClass(className)
        node.UnRegister(None)  # Python holds it too.
        node.SetLayoutName(tag)
        return self._scene.AddNode(node)

    def _isPlaced(self, key: str) -> bool:
        return all(node.GetAttribute(PLACED_ATTRIBUTE) == key for node in self._sliceNodes())

    def _place(self, grid: Grid, key: str, k: int) -> None:
        """Places both views on slice `k`, fits the image into them, and notes `key`."""
        original, enhanced = self._sliceNodes()
        sliceToRAS = slice_plane(original, grid, k)
        for node in (original, enhanced):
            self._composite(node).SetForegroundVolumeID(None)
            self._composite(node).SetLabelVolumeID(None)
            wasModifying = node.StartModify()
            _turn(node, sliceToRAS)
            node.SetSliceOrigin(0, 0, 0)
            node.AddSliceOrientationPreset(ACQUIRED, _rotation(sliceToRAS))
            node.SetDefaultOrientation(ACQUIRED)  # To which Slicer's "Reset orientation" leads back.
            node.SetAttribute(PLACED_ATTRIBUTE, key)
            node.EndModify(wasModifying)
        self._sliceToRAS = slicer.util.arrayFromVTKMatrix(sliceToRAS)
        self._fit = Fit.to(grid.extent_mm(self._sliceToRAS[:3, :3]), [original, enhanced])
        settling, self._settlingTurns = self._settlingTurns > 0, SETTLING_TURNS
        if not settling:
            self._later(_weakly(self._settle))

    def _settle(self) -> None:
        """Places the views again: the bar of a new one sets its offset to 0, from the event loop, after `_place`."""
        if self._settlingTurns == 0 or self._volumeID is None:
            return
        self._settlingTurns -= 1
        for node in self._sliceNodes():
            if not np.allclose(slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS()), self._sliceToRAS, atol=1e-6):
                _turn(node, slicer.util.vtkMatrixFromArray(self._sliceToRAS))
        if self._settlingTurns:
            self._later(_weakly(self._settle))

    def _lookAt(
        self,
        grid: Grid,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        segmentationNodes: tuple[slicer.vtkMRMLSegmentationNode, ...],
    ) -> None:
        """Looks from the front at the segments, or at the volume where there are none."""
        viewNode = self._view("vtkMRMLViewNode", layouts.THREE_D_VIEW)
        on_volume = _key(grid, volumeNode)
        on_segments = f"{on_volume} segments"
        placed = viewNode.GetAttribute(PLACED_ATTRIBUTE)
        if placed == on_segments:
            return
        box = segmented_box(segmentationNodes)
        if box.IsValid():
            viewNode.SetAttribute(PLACED_ATTRIBUTE, on_segments)
        elif placed == on_volume:
            return
        else:
            viewNode.SetAttribute(PLACED_ATTRIBUTE, on_volume)
            add_corners(box, grid.ijk_to_world, np.zeros(3), np.array(grid.dimensions) - 1)
        centre = [0.0] * 3
        box.GetCenter(centre)
        cameraNode = self._companion("vtkMRMLCameraNode", viewNode)
        # So far that the sphere around all of it fits the angle of view.
        distance = box.GetDiagonalLength() / 2 / np.sin(np.radians(cameraNode.GetViewAngle()) / 2)
        wasModifying = cameraNode.StartModify()
        cameraNode.SetFocalPoint(centre)
        cameraNode.SetPosition(centre[0], centre[1] + distance, centre[2])
        cameraNode.SetViewUp(0, 0, 1)
        cameraNode.EndModify(wasModifying)
        cameraNode.ResetClippingRange()

    def _unrestrict(self, segmentationNode: slicer.vtkMRMLSegmentationNode, threeD: bool) -> None:
        displayNode = segmentationNode.GetDisplayNode()
        if displayNode is None or displayNode.GetNumberOfViewNodeIDs() == 0:
            return
        viewNodes = self._sliceNodes()
        if threeD:
            viewNodes.append(self._view("vtkMRMLViewNode", layouts.THREE_D_VIEW))
        for viewNode in viewNodes:
            displayNode.AddViewNodeID(viewNode.GetID())

    def _observeViews(self) -> None:
        self._unobserveViews()
        for node in self._sliceNodes():
            tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, _weakly(self._onViewModified))
            self._viewObservations.append((node, tag))
        self._numberSlices()

    def _unobserveViews(self) -> None:
        while self._viewObservations:
            node, tag = self._viewObservations.pop()
            node.RemoveObserver(tag)
            self._annotate(node.GetLayoutName(), "")

    def _numberSlices(self) -> None:
        """Writes into both views which image and slice they show, counted from 1 as findings count them."""
        titles = layouts.view_titles()
        for node in self._sliceNodes():
            number = self._sliceInView(node, self._grid) + 1
            name = node.GetLayoutName()
            text = _("{view}, slice {number} of {count}")
            self._annotate(name, text.format(view=titles[name], number=number, count=self._grid.count))

    @staticmethod
    def _sliceInView(sliceNode: slicer.vtkMRMLSliceNode, grid: Grid) -> int:
        """Index of the slice in the middle of a view."""
        width, height, _depth = sliceNode.GetDimensions()
        return grid.nearest_slice(sliceNode.GetXYToRAS().MultiplyPoint((width / 2, height / 2, 0, 1))[:3])

    def _onViewModified(self, *_event: object) -> None:
        if self._grid is not None:
            self._numberSlices()
        if self._fit is not None and not self._fit.holds() and not self._fitsLater:
            self._fitsLater = True
            self._later(_weakly(self._fitNow))

    def _fitNow(self) -> None:
        self._fitsLater = False
        if self._viewObservations:  # Else it was hidden meanwhile.
            self._keepFit()

    def _keepFit(self) -> None:
        """A view gets its size after the layout, and another one with every window: what fitted shall fit again."""
        if self._fit is None or self._fit.holds():
            return
        fit, self._fit = self._fit, None  # Fitting modifies the views.
        if fit.untouched():
            self._fit = fit.again()

    def _onStartClose(self, *_event: object) -> None:
        self.hide()

    def _onNodeRemoved(self, _caller: vtk.vtkObject, _event: str, node: slicer.vtkMRMLNode) -> None:
        if node.GetID() == self._volumeID:
            self.hide()

    @contextmanager
    def _renderingPaused(self) -> Iterator[None]:
        """No half-filled view is drawn."""
        self._applicationLogic.PauseRender()
        try:
            yield
        finally:
            self._applicationLogic.ResumeRender()


def _key(grid: Grid, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> str:
    """Which volume a view was placed on, and where that lay."""
    return f"{volumeNode.GetID()} {grid.key}"


def _rotation(matrix: vtk.vtkMatrix4x4) -> vtk.vtkMatrix3x3:
    rotation = vtk.vtkMatrix3x3()
    for row in range(3):
        for column in range(3):
            rotation.SetElement(row, column, matrix.GetElement(row, column))
    return rotation


def _turn(sliceNode: slicer.vtkMRMLSliceNode, sliceToRAS: vtk.vtkMatrix4x4) -> None:
    """Moves and turns a view."""
    sliceNode.GetSliceToRAS().DeepCopy(sliceToRAS)
    sliceNode.UpdateMatrices()


def _weakly(method: Callable[..., None]) -> Callable[..., None]:
    """An observer that calls `method` as long as its object lives: a scene that is torn down calls no half of it."""
    reference = weakref.WeakMethod(method)

    def observer(*event: object) -> None:
        if (bound := reference()) is not None:
            bound(*event)

    return observer
