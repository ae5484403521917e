"""Where a volume's slices lie, and how a view is placed on them: plane, position, zoom."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import slicer
import vtk

from dinsegment_slicer.scene.nodes import image_of
from dinsegment_slicer.scene.reading import Plane, stack_of


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of a volume lie, and in which slices they are looked at.

    Attributes:
        ijk_to_world: 4x4, parent transforms included.
        dimensions: Voxels along (i, j, k).
        axis: 0 (i) to 2 (k), the slice axis.
    """

    ijk_to_world: np.ndarray
    dimensions: tuple[int, int, int]
    axis: int

    @classmethod
    def of(cls, volumeNode: slicer.vtkMRMLScalarVolumeNode, plane: Plane = "acquired") -> Grid:
        """The grid, with its slices as they were acquired or those closest to axial ones.

        Raises:
            InputError: It is no grey image under linear transforms.
        """
        image = image_of(volumeNode)
        axis = 2 - stack_of(image, plane).axis
        return cls(image.ijk_to_ras, image.array.shape[::-1], axis)

    @property
    def key(self) -> str:
        return repr((self.dimensions, self.ijk_to_world.tolist(), self.axis))

    @property
    def count(self) -> int:
        """How many slices there are."""
        return self.dimensions[self.axis]

    @property
    def middle(self) -> int:
        return self.count // 2

    def centre(self, k: int) -> np.ndarray:
        """World position (mm) of the middle of slice `k`."""
        ijk1 = np.append((np.array(self.dimensions) - 1) / 2, 1.0)
        ijk1[self.axis] = k
        return (self.ijk_to_world @ ijk1)[:3]

    def nearest_slice(self, position: Iterable[float]) -> int:
        """The slice nearest to a world position (mm)."""
        k = (np.linalg.inv(self.ijk_to_world) @ (*position, 1.0))[self.axis]
        return int(np.clip(np.rint(k), 0, self.dimensions[self.axis] - 1))

    def extent_mm(self, axes: np.ndarray) -> tuple[float, float, float]:
        """How far the volume reaches along two in-plane directions (columns of `axes`); its spacing along the third."""
        steps = np.abs(axes.T @ self.ijk_to_world[:3, :3])
        along_x, along_y = (np.delete(steps[:2], self.axis, axis=1) @ np.delete(self.dimensions, self.axis)).tolist()
        return along_x, along_y, float(steps[2, self.axis])


@dataclass(frozen=True, eq=False)
class Fit:
    """The zoom at which an image fits several views, the same in all."""

    extent: tuple[float, float, float]
    sliceNodes: list[slicer.vtkMRMLSliceNode]
    dimensions: list[tuple[int, int, int]]
    heights: list[float]

    @classmethod
    def to(cls, extent: tuple[float, float, float], sliceNodes: list[slicer.vtkMRMLSliceNode]) -> Fit:
        """Sets the field of view of `sliceNodes` so that `extent` (mm along x, y; slice spacing) fits each."""
        # A view that is folded away has no pixels.
        sizes = [np.maximum(node.GetDimensions()[:2], 1) for node in sliceNodes]
        mm_per_pixel = max((np.array(extent[:2]) / size).max() for size in sizes)
        for node, size in zip(sliceNodes, sizes, strict=True):
            node.SetFieldOfView(*(mm_per_pixel * size), extent[2])
        return cls(
            extent,
            sliceNodes,
            [node.GetDimensions() for node in sliceNodes],
            [node.GetFieldOfView()[1] for node in sliceNodes],
        )

    def again(self) -> Fit:
        """After the views changed size."""
        return Fit.to(self.extent, self.sliceNodes)

    def holds(self) -> bool:
        """The views have the size that was fitted."""
        return [node.GetDimensions() for node in self.sliceNodes] == self.dimensions

    def untouched(self) -> bool:
        """The user has neither zoomed nor moved the image: Slicer keeps a view's height (mm) when its size changes."""
        return all(
            np.isclose(node.GetFieldOfView()[1], height) and not any(node.GetXYZOrigin()[:2])
            for node, height in zip(self.sliceNodes, self.heights, strict=True)
        )


def slice_plane(sliceNode: slicer.vtkMRMLSliceNode, grid: Grid, k: int) -> vtk.vtkMatrix4x4:
    """Slice-to-RAS matrix of slice `k`, turned as `sliceNode` displays axial, sagittal or coronal slices.

    Turns `sliceNode` near it, beginning with the anatomical plane that it resembles most.
    """
    matrix = np.eye(4)
    normal = np.cross(*np.delete(grid.ijk_to_world[:3, :3], grid.axis, axis=1).T)
    presets = [name for name in ("Axial", "Sagittal", "Coronal") if sliceNode.HasSliceOrientationPreset(name)]
    if presets:
        nearest = max(presets, key=lambda name: abs(normal @ _preset_normal(sliceNode, name)))
        sliceNode.SetOrientation(nearest)
    # Not RotateToVolumePlane: that may choose another plane through the voxels than this one.
    sliceNode.RotateToAxes(slicer.util.vtkMatrixFromArray(grid.ijk_to_world), grid.axis)
    turned = slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())[:3, :3]
    # A sheared grid has no right angle between its axes; the display has.
    x, y, z = turned.T
    matrix[:3, 0] = x
    matrix[:3, 1] = _unit(y - (y @ x) * x)
    matrix[:3, 2] = _unit(z - (z @ x) * x - (z @ matrix[:3, 1]) * matrix[:3, 1])
    matrix[:3, 3] = grid.centre(k)
    return slicer.util.vtkMatrixFromArray(matrix)


def _preset_normal(sliceNode: slicer.vtkMRMLSliceNode, name: str) -> np.ndarray:
    preset = sliceNode.GetSliceOrientationPreset(name)
    return np.array([preset.GetElement(row, 2) for row in range(3)])


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
