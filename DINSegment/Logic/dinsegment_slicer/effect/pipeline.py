"""Lines that lie on a slice of an image, in a slice view: strokes, and the outline of what they would change."""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray

HALF_SLICE = 0.51
"""Along a view's third axis, whose unit is the distance between slices: half of it, and what rounding adds."""


class Lines:
    """Lines in one slice view, which are there while the view shows their slice, and move with it.

    Args:
        color: Red, green and blue, 0..1.
        width: In pixels of the view.
    """

    def __init__(self, color: tuple[float, float, float], width: float) -> None:
        self._points = vtk.vtkPoints()
        self._data = vtk.vtkPolyData()
        self._data.SetPoints(self._points)
        mapper = vtk.vtkPolyDataMapper2D()
        mapper.SetInputData(self._data)
        self.actor = vtk.vtkActor2D()
        self.actor.SetMapper(mapper)
        self.actor.GetProperty().SetColor(*color)
        self.actor.GetProperty().SetLineWidth(width)
        self.actor.VisibilityOff()
        self._world = np.zeros((0, 2, 3))

    def set(self, world: np.ndarray) -> None:
        """What is shown: (lines, 2 ends, 3), in mm."""
        self._world = world
        ids = np.empty((len(world), 3), np.int64)
        ids[:, 0] = 2
        ids[:, 1:] = np.arange(2 * len(world)).reshape(-1, 2)
        cells = vtk.vtkCellArray()
        cells.ImportLegacyFormat(numpy_to_vtkIdTypeArray(ids.ravel(), deep=True))
        self._data.SetLines(cells)

    def place(self, sliceNode: slicer.vtkMRMLSliceNode) -> None:
        """Brings them to where the view now shows their place; hides them where it shows another slice."""
        shown = len(self._world) > 0
        if shown:
            to_view = np.linalg.inv(slicer.util.arrayFromVTKMatrix(sliceNode.GetXYToRAS()))
            flat = self._world.reshape(-1, 3)
            xyz = flat @ to_view[:3, :3].T + to_view[:3, 3]
            shown = bool(np.abs(xyz[:, 2]).max() <= HALF_SLICE)
            xyz[:, 2] = 0.0
            self._points.SetData(numpy_to_vtk(xyz, deep=True))
            self._points.Modified()
            self._data.Modified()
        self.actor.SetVisibility(shown)
