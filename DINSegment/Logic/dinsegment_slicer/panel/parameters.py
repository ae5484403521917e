"""The parameter node: everything that the panel knows, saved with the scene and restored with it."""

from __future__ import annotations

from typing import Annotated, Union

import slicer
from slicer.parameterNodeWrapper import Choice, Default, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from dinsegment.enhancement.methods import METHODS
from dinsegment.images.samples import FEWEST, MOST

MODULE = "DINSegment"
DEVICES = ("auto", "cpu", "cuda", "mps")
OUTPUTS = ("replace", "new")
SEXES = ("", "F", "M", "unknown")


@parameterNodeWrapper
class DINSegmentParameters:
    """What is segmented, how it is shown, and what came of it.

    Attributes:
        inputNode: The image, or the sequence of a cine series.
        secondNode: Another phase of the same patient, or None.
        output: Where the result goes when an image is segmented again: `replace` for into its segmentation, or `new`.
        unwanted: Names of segments that are not wanted, of all tasks.
        task: Name of the task that made the result; empty before the first.
        model: Name of a model in weights.json; empty for each task's own first one.
        device: `auto`, `cpu`, `cuda` or `mps`.
        segmentationNode: The result; of a sequence the proxy of the phase in view.
        enhancedNode: The enhanced image that belongs to it.
        secondSegmentationNode: The result of `secondNode`.
        secondEnhancedNode: The enhanced image of `secondNode`.
        showSecond: `secondNode` and its result are in view.
        segmentationSequenceNode: The results of all phases of a sequence.
        enhancedSequenceNode: The enhanced images of all phases of a sequence.
        plotChartNode: Volume over time.
        tableNode: The measurements.
        sideBySide: Original and enhanced image in two linked views.
        threeD: Segments as surfaces in a 3D view.
        outline: Segments as outlines; otherwise their areas are filled.
        recommendedColors: Segments in the colours that Slicer recommends, instead of those that are told apart.
        showPlot: The plot of volume over time is in view.
        draws: How many samples are asked for; by default as many as patients were looked at with.
        disagreementNode: Where they differ; of two phases in the one that is drawn of first.
        secondDisagreementNode: The same in the second one, such as end systole.
        showDisagreement: That lies over the image.
        unexpectedNode: What a network did not expect; of two images in the first.
        secondUnexpectedNode: The same in the second one.
        showUnexpected: That lies over the image.
        disagreementOpacity: How opaque what lies over the image is, 0 to 1.
        exportToDatabase: Slicer's DICOM database gets a copy of what is exported.
        reportImageNode: The image that the report is of, and what follows belongs to.
        patientSex: `F` or `M`, where the user says it, or `unknown`; empty for what DICOM says.
        patientAge: In years, where the user says it; below 0 if they say that it is not known, 0 for what DICOM says.
        patientHeight: In cm, the same.
        patientWeight: In kg, the same.
        heartRate: Beats a minute, the same.
        anteriorNode: A point where the right ventricle's wall meets the left one's in front.
        wallsNode: The AHA segments of the wall at end diastole.
        reportTableNode: The numbers of the report.
        anonymous: The saved report does not tell who the patient is.
        method: How the shown enhanced image is made, as in `dinsegment.enhancement.fuzzy.METHODS`.
        windowsX: Fuzzy windows along a row, m + 1.
        windowsY: Fuzzy windows along a column, n + 1.
        gamma: Sharpness of the fuzzy windows.
    """

    # The wrapper takes only typing.Union for nodes, and stores None only where None is a member of it.
    inputNode: Union[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLSequenceNode, None]  # noqa: UP007
    secondNode: slicer.vtkMRMLScalarVolumeNode
    output: Annotated[str, Choice(list(OUTPUTS)), Default("replace")]
    unwanted: list[str]
    task: str = ""
    model: str = ""
    device: Annotated[str, Choice(list(DEVICES)), Default("auto")]
    segmentationNode: slicer.vtkMRMLSegmentationNode
    enhancedNode: slicer.vtkMRMLScalarVolumeNode
    secondSegmentationNode: slicer.vtkMRMLSegmentationNode
    secondEnhancedNode: slicer.vtkMRMLScalarVolumeNode
    showSecond: bool = False
    segmentationSequenceNode: slicer.vtkMRMLSequenceNode
    enhancedSequenceNode: slicer.vtkMRMLSequenceNode
    plotChartNode: slicer.vtkMRMLPlotChartNode
    tableNode: slicer.vtkMRMLTableNode
    sideBySide: bool = True
    threeD: bool = False
    outline: bool = True
    recommendedColors: bool = False
    showPlot: bool = True
    draws: Annotated[int, WithinRange(FEWEST, MOST), Default(16)]
    disagreementNode: slicer.vtkMRMLScalarVolumeNode
    secondDisagreementNode: slicer.vtkMRMLScalarVolumeNode
    showDisagreement: bool = True
    unexpectedNode: slicer.vtkMRMLScalarVolumeNode
    secondUnexpectedNode: slicer.vtkMRMLScalarVolumeNode
    showUnexpected: bool = False
    disagreementOpacity: Annotated[float, WithinRange(0.0, 1.0), Default(0.6)]
    exportToDatabase: bool = True
    reportImageNode: slicer.vtkMRMLScalarVolumeNode
    patientSex: Annotated[str, Choice(list(SEXES)), Default("")]
    patientAge: float = 0.0
    patientHeight: float = 0.0
    patientWeight: float = 0.0
    heartRate: float = 0.0
    anteriorNode: slicer.vtkMRMLMarkupsFiducialNode
    wallsNode: slicer.vtkMRMLSegmentationNode
    reportTableNode: slicer.vtkMRMLTableNode
    anonymous: bool = False
    method: Annotated[str, Choice(list(METHODS)), Default("fuzzy")]
    windowsX: Annotated[int, WithinRange(2, 9), Default(3)]
    windowsY: Annotated[int, WithinRange(2, 9), Default(3)]
    gamma: Annotated[float, WithinRange(0.1, 5.0), Default(1.0)]


def parameters_of_scene() -> DINSegmentParameters:
    """The module's parameter node in the application's scene, made if there is none."""
    logic = ScriptedLoadableModuleLogic()
    logic.moduleName = MODULE
    return DINSegmentParameters(logic.getParameterNode())
