from __future__ import annotations

import sys
from pathlib import Path

import pytest
import slicer
import vtk

# DICOM series are written for the tests of the library and for these in one way.
sys.path.append(str(Path(__file__).parents[1] / "Python"))


def pytest_configure(config):
    config.addinivalue_line("markers", "vtk_says(text): VTK reports this error; without the mark it reports none")


@pytest.fixture
def scene(request):
    """A scene as the application starts with; a VTK error or warning that is not expected fails the test."""
    said = vtk.vtkStringOutputWindow()
    before = vtk.vtkOutputWindow.GetInstance()
    vtk.vtkOutputWindow.SetInstance(said)
    scene = slicer.vtkMRMLScene()
    colors = slicer.vtkMRMLColorLogic()
    colors.SetMRMLScene(scene)
    scene.GetSubjectHierarchyNode()
    yield scene
    colors.SetMRMLScene(None)
    scene.Clear(True)
    vtk.vtkOutputWindow.SetInstance(before)
    expected = request.node.get_closest_marker("vtk_says")
    if expected:
        assert expected.args[0] in said.GetOutput()
    else:
        assert said.GetOutput() == ""
