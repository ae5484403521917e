"""The host itself: what a panel would see of the application."""

# Without the import of annotations from __future__: the parameters' types are made inside a function.
import enum
import sys
import textwrap
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import slicer
import vtk
from host.api import Api, UnknownName, check_forms, check_sources
from mrml import add_volume, segments

pytest.importorskip("PySide6.QtWidgets", reason="PySide6 is not installed: pip install PySide6-Essentials")

from host import Host

FORM = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0"><class>Panel</class>
<widget class="qMRMLWidget" name="Panel"><layout class="QVBoxLayout" name="panelLayout">
<item><widget class="qMRMLNodeComboBox" name="inputSelector">
 <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
 <property name="showChildNodeTypes"><bool>false</bool></property>
 <property name="addEnabled"><bool>false</bool></property>
 <property name="removeEnabled"><bool>false</bool></property>
 <property name="noneEnabled"><bool>true</bool></property>
 <property name="noneDisplay"><string>Choose an image</string></property>
 <property name="SlicerParameterName" stdset="0"><string>inputVolume</string></property>
</widget></item>
<item><widget class="ctkCollapsibleButton" name="advanced">
 <property name="text"><string>Advanced</string></property>
 <layout class="QFormLayout" name="advancedLayout">
 <item row="0" column="0"><widget class="QLabel" name="strengthLabel">
  <property name="text"><string>Strength</string></property></widget></item>
 <item row="0" column="1"><widget class="ctkSliderWidget" name="strengthSlider">
  <property name="SlicerParameterName" stdset="0"><string>strength</string></property></widget></item>
 <item row="1" column="1"><widget class="QComboBox" name="methodComboBox">
  <property name="SlicerParameterName" stdset="0"><string>method</string></property></widget></item>
 <item row="2" column="1"><widget class="QCheckBox" name="keepCheckBox">
  <property name="SlicerParameterName" stdset="0"><string>keep</string></property></widget></item>
 <item row="3" column="1"><widget class="QSpinBox" name="countSpinBox">
  <property name="SlicerParameterName" stdset="0"><string>count</string></property></widget></item>
 <item row="4" column="1"><widget class="ctkPathLineEdit" name="folderEdit">
  <property name="filters"><set>ctkPathLineEdit::Dirs|ctkPathLineEdit::NoDotAndDotDot</set></property></widget></item>
 <item row="5" column="1"><widget class="ctkDirectoryButton" name="folderButton"/></item>
 <item row="6" column="1"><widget class="ctkCheckablePushButton" name="autoButton"/></item>
 </layout></widget></item>
<item><widget class="QPushButton" name="applyButton">
 <property name="text"><string>Apply</string></property></widget></item>
<item><widget class="QTableWidget" name="table"/></item>
<item><widget class="qMRMLSegmentsTableView" name="segmentsTable"/></item>
<item><widget class="QProgressBar" name="bar"/></item>
</layout></widget>
<connections><connection><sender>Panel</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
<receiver>inputSelector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections></ui>"""


@pytest.fixture
def host(scene):
    with Host(scene) as host:
        yield host


@pytest.fixture
def names():
    """The names of the real application; without them nothing can be checked."""
    api = Api()
    if not api.known:
        pytest.skip(f"The list of the application's names is missing: there is no file '{api.path}'.")
    return api


@pytest.fixture
def panel(host, tmp_path):
    """A form with every stand-in, and its widgets by name."""
    file = tmp_path / "Panel.ui"
    file.write_text(FORM)
    widget = slicer.util.loadUI(str(file))
    widget.setMRMLScene(slicer.mrmlScene)
    ui = slicer.util.childWidgetVariables(widget)
    ui.Panel = widget
    return ui


class Method(enum.Enum):
    FUZZY = "fuzzy"
    CLAHE = "clahe"


# Qt as Python sees it in the application


def test_properties_are_attributes_and_methods_stay_methods(host):
    import qt

    button = qt.QPushButton("Apply")
    button.enabled = False
    button.toolTip = "Why"
    assert (button.text, button.enabled, button.isEnabled(), button.toolTip) == ("Apply", False, False, "Why")
    bar = qt.QProgressBar()
    bar.maximum = 20
    bar.value = 7
    assert (bar.value, bar.maximum) == (7, 20)
    with pytest.raises(TypeError, match="not callable"):
        button.text()
    button.name = "applyButton"
    assert button.objectName == button.name == "applyButton"
    timer = qt.QTimer()
    timer.start(1000)
    assert timer.active and timer.isActive()


def test_enums_are_ints_and_combine(host):
    import qt

    assert qt.QProcess.NotRunning == 0
    item = qt.QTableWidgetItem("12 ml")
    item.setFlags(item.flags() & ~qt.Qt.ItemIsEditable)
    item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
    assert not item.flags() & qt.Qt.ItemIsEditable
    assert item.textAlignment() == 0x82
    label = qt.QLabel()
    label.alignment = qt.Qt.AlignCenter
    assert label.alignment == qt.Qt.AlignCenter


def test_a_class_is_its_type_and_an_object_its_own_proxy(host, panel):
    import ctk
    import qt

    assert type(panel.applyButton) is qt.QPushButton and type(panel.strengthSlider) is ctk.ctkSliderWidget
    assert isinstance(panel.inputSelector, slicer.qMRMLNodeComboBox) and isinstance(panel.inputSelector, qt.QWidget)
    assert panel.advanced.layout().parentWidget() is panel.advanced
    assert panel.applyButton in panel.Panel.findChildren(qt.QPushButton)


def test_a_slot_gets_as_many_arguments_as_pythonqt_passes(host):
    import qt

    calls = []
    button = qt.QPushButton()
    button.checkable = True
    button.clicked.connect(lambda: calls.append("none"))
    button.clicked.connect(lambda checked: calls.append(checked))
    button.clicked.connect(lambda checked=None: calls.append(checked))
    button.clicked.connect(lambda *arguments: calls.append(arguments))
    button.connect("clicked()", lambda *arguments: calls.append(arguments))
    button.click()
    assert calls == ["none", True, True, (True,), ()]


def test_a_slot_is_disconnected_by_the_function_it_was_connected_with(host):
    import qt

    calls = []
    button = qt.QPushButton()
    button.clicked.connect(calls.append)
    button.connect("clicked(bool)", calls.append)
    button.click()
    assert button.clicked.disconnect(calls.append)
    button.click()
    assert calls == [False, False]
    assert not button.clicked.disconnect(calls.append)


def test_what_a_slot_raises_is_raised_by_the_next_turn_of_the_loop(host, capsys):
    import qt

    def fail():
        raise ValueError("in a slot")

    button = qt.QPushButton()
    button.clicked.connect(fail)
    button.click()
    with pytest.raises(ValueError, match="in a slot"):
        host.pump(0)
    qt.QTimer.singleShot(0, fail)
    with pytest.raises(ValueError, match="in a slot"):
        host.wait_until(lambda: False)
    host.pump(0)
    button.click()
    assert [str(error) for error in host.take_errors()] == ["in a slot"]


def test_a_real_process_talks_while_the_loop_runs(host):
    import qt

    process = qt.QProcess()
    said, codes = [], []
    process.readyReadStandardOutput.connect(lambda: said.append(process.readAllStandardOutput().data()))
    process.finished.connect(lambda *arguments: codes.append(arguments))
    host.pump(0)  # The application sets sys.executable from its event loop.
    process.start(sys.executable, ["-c", "print(input()); raise SystemExit(3)"])
    process.write(b"hello\n")
    host.wait_until(lambda: codes, 20)
    assert b"".join(said) == b"hello\n"
    assert codes == [(3,)]
    assert process.state() == qt.QProcess.NotRunning


def test_settings_are_kept_in_a_temporary_file_and_forgotten_with_the_host():
    with Host():
        import qt

        qt.QSettings().setValue("DINSegment/Offline", True)
        slicer.app.userSettings().setValue("DINSegment/Models", ["a", "b"])
        assert slicer.util.settingsValue("DINSegment/Offline", False, converter=slicer.util.toBool) is True
        assert slicer.app.settings().value("DINSegment/Models") == ("a", "b")
        assert Path(qt.QSettings().fileName()).is_relative_to(slicer.app.temporaryPath)
        folder = slicer.app.temporaryPath
    assert not Path(folder).exists()
    with Host():
        assert slicer.util.settingsValue("DINSegment/Offline", False, converter=slicer.util.toBool) is False


# Names that the application does not have


@pytest.mark.parametrize(
    "use",
    [
        "qt.QPushButton().setTitle('x')",
        "qt.QPushButton().textColor",
        "setattr(qt.QPushButton(), 'title', 'x')",
        "qt.QPushButton.Sunken",
        "qt.QFancyButton()",
        "qt.Signal()",
        "qt.QTableWidget().horizontalHeader().setSectionResizeModes(0)",
        "qt.QTableWidgetItem('x').setColour",
        "qt.QSettings().getValue('x')",
        "qt.QSize(1, 2).area",
        "ctk.ctkFancyWidget()",
        "ctk.ctkCollapsibleButton().setCollapsed(True)",
        "ctk.ctkSliderWidget().setMinimum(2)",
        "slicer.qMRMLNodeComboBox().setNodeTypes(['x'])",
        "slicer.qMRMLNodeComboBox().addItem('x')",
        "slicer.app.mainWindow()",
        "slicer.app.layoutManager().setLayoutById(3)",
        "slicer.app.layoutManager().sliceWidget('Red').fit()",
        "slicer.app.layoutManager().sliceWidget('Red').sliceController().setOffset(3)",
        "slicer.app.moduleManager().modules",
        "slicer.modules.volume",
        "slicer.modules.volumes.getLogic()",
        "slicer.modules.segmenteditor.widgetRepresentation().self().editor.setVolumeNode(None)",
        "slicer.util.mainWindow().modules()",
        "slicer.util.selectModule('SegmentEditer')",
    ],
)
def test_an_unknown_name_is_an_assertion_error(host, names, use):
    import ctk
    import qt

    with pytest.raises(AssertionError):
        eval(use, {"qt": qt, "ctk": ctk, "slicer": slicer})


def test_an_unknown_name_of_a_widget_from_a_form_names_class_and_attribute(panel, names):
    with pytest.raises(UnknownName, match=r"slicer\.qMRMLNodeComboBox has no 'setNodeType' in the application"):
        panel.inputSelector.setNodeType("vtkMRMLVolumeNode")
    with pytest.raises(UnknownName, match=r"qt\.QPushButton has no property 'title'"):
        panel.applyButton.title = "x"
    assert not hasattr(panel.applyButton, "title")


def test_an_unknown_name_in_a_slot_fails_the_test(panel, host, names, capsys):
    panel.applyButton.clicked.connect(lambda: panel.bar.setPercent(3))
    panel.applyButton.click()
    with pytest.raises(UnknownName, match=r"QProgressBar has no 'setPercent'"):
        host.pump(0)


def test_without_the_list_of_names_nothing_is_checked(scene, tmp_path):
    api = Api(tmp_path / "none.json")
    assert not api.known
    with Host(scene, api):
        import qt

        assert qt.QLocale("de").name() == "de_DE"
    assert check_sources([__file__], api) == []


def test_sources_are_checked_without_running_them(names, tmp_path):
    source = tmp_path / "panel.py"
    source.write_text(
        textwrap.dedent("""\
        import qt, ctk, slicer
        from slicer.util import VTKObservationMixin, confirmYesNo
        from slicer.parameterNodeWrapper import parameterNodeWrapper, parameterWrapper
        from slicer import vtkMRMLScalarVolumeNode, vtkMRMLImageNode
        import slicer.packaging
        a = qt.QPushButton, qt.QFancyButton
        b = qt.QProcess.NotRunning, qt.QProcess.Finished
        c = ctk.ctkSliderWidget, ctk.ctkSlider
        d = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView, slicer.vtkMRMLViews
        e = slicer.util.loadUI("x"), slicer.util.loadForm("x")
        f = slicer.app.layoutManager().layout, slicer.app.layoutManager().layouts, slicer.app.mainWindow()
        g = slicer.modules.volumes.logic(), slicer.modules.volume
        g = slicer.modules.dinsegment.path, slicer.modules.DINSegmentWidget
        h = slicer.mrmlScene, slicer.scene
        i = slicer.util.errorDisplay("x", windowTitle="y"), slicer.util.selectModule(name="x")
        i = slicer.util.settingsValue("x", 3, converter=int)
        j = slicer.packaging.pip_ensure("x", requester="y"), slicer.packaging.ensure("x")
        """)
    )
    found = check_sources([source])
    assert [line.removeprefix(f"{source}:").removesuffix(" does not exist in the application") for line in found] == [
        "2: slicer.util.confirmYesNo",
        "3: slicer.parameterNodeWrapper.parameterWrapper",
        "4: slicer.vtkMRMLImageNode",
        "6: qt.QFancyButton",
        "7: qt.QProcess.Finished",
        "8: ctk.ctkSlider",
        "9: slicer.vtkMRMLViews",
        "10: slicer.util.loadForm",
        "11: slicer.app.layoutManager().layouts",
        "11: slicer.app.mainWindow",
        "12: slicer.modules.volume",
        "14: slicer.scene",
        "15: slicer.util.selectModule(module) takes no 'name'",
        "17: slicer.packaging.ensure",
    ]


def test_forms_are_checked_without_loading_them(names, tmp_path):
    form = tmp_path / "Panel.ui"
    form.write_text(FORM)
    assert check_forms([form]) == []
    form.write_text(
        FORM.replace('class="QProgressBar"', 'class="QFancyBar"')
        .replace('name="noneDisplay"', 'name="noneText"')
        .replace("<slot>setMRMLScene", "<slot>setScene")
    )
    assert [line.removeprefix(f"{form}: ").split()[0] for line in check_forms([form])] == [
        "qt.QFancyBar",
        "slicer.qMRMLNodeComboBox.noneText",
        "slicer.qMRMLNodeComboBox.setScene",
    ]


def test_outside_the_host_there_is_no_application():
    with Host():
        assert slicer.app and slicer.modules and slicer.mrmlScene
    assert not any(hasattr(slicer, name) for name in ("app", "modules", "mrmlScene"))


def test_what_an_observer_raises_is_raised_by_the_next_turn_of_the_loop(host, scene, capsys):
    def fail(caller, event):
        raise ValueError("in an observer")

    node = add_volume(scene)
    node.AddObserver(vtk.vtkCommand.ModifiedEvent, fail)
    node.Modified()
    with pytest.raises(ValueError, match="in an observer"):
        host.pump(0)


def test_a_process_that_is_left_running_fails():
    import qt

    host = Host()
    process = qt.QProcess()
    process.start("sleep", ["60"])
    assert process.waitForStarted()
    with pytest.raises(AssertionError, match=r"still run.*sleep"):
        host.close()
    assert process.state() == qt.QProcess.NotRunning


# The stand-ins


def test_the_node_combo_box_follows_the_scene(panel, host, scene):
    box = panel.inputSelector
    chosen = []
    box.currentNodeChanged.connect(chosen.append)
    assert (box.nodeCount(), box.currentNode(), box.currentNodeID) == (0, None, "")
    first, second = add_volume(scene, name="First"), add_volume(scene, name="Second")
    scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "A child class")
    scene.AddNewNodeByClass("vtkMRMLModelNode", "Another class")
    hidden = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Hidden")
    hidden.SetHideFromEditors(True)
    assert [box.nodeFromIndex(index) for index in range(box.nodeCount())] == [first, second]
    assert box.currentNode() is None  # None is enabled, so nothing chooses itself.
    box.setCurrentNode(first)
    assert box.currentNodeID == first.GetID()
    first.SetName("Renamed")
    assert "Renamed" in [box.children()[0].itemText(row) for row in range(3)]
    box.currentNodeID = second.GetID()
    scene.RemoveNode(first)
    assert box.currentNode() is second
    box.setCurrentNode(None)
    box.setCurrentNode(second)
    scene.RemoveNode(second)
    assert box.currentNode() is None
    assert chosen == [first, second, None, second, None]


def test_the_node_combo_box_leaves_nodes_out_by_their_ids(panel, host, scene):
    box = panel.inputSelector
    nodes = [add_volume(scene, name=name) for name in ("First", "Second", "Third")]
    box.setCurrentNode(nodes[1])
    box.sortFilterProxyModel().hiddenNodeIDs = [nodes[1].GetID(), nodes[0].GetID()]
    assert box.sortFilterProxyModel().hiddenNodeIDs == (nodes[1].GetID(), nodes[0].GetID())
    assert [box.nodeFromIndex(index) for index in range(box.nodeCount())] == [nodes[2]]
    assert box.currentNode() is not nodes[1]
    box.setCurrentNode(nodes[0])
    assert box.currentNode() is None
    box.sortFilterProxyModel().hiddenNodeIDs = []
    assert box.nodeCount() == 3


def test_the_node_combo_box_is_empty_after_the_scene_is_closed(panel, host, scene):
    box = panel.inputSelector
    box.setCurrentNode(add_volume(scene))
    chosen = []
    box.currentNodeChanged.connect(chosen.append)
    scene.Clear(False)
    assert (box.nodeCount(), box.currentNode(), chosen) == (0, None, [None])
    assert add_volume(scene) is box.nodeFromIndex(0)


def test_a_node_combo_box_remembers_a_node_that_is_set_before_its_scene(host, scene):
    node = add_volume(scene)
    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes = ["vtkMRMLScalarVolumeNode", ""]
    box.setCurrentNode(node)
    assert not box.enabled and box.currentNode() is None
    box.setMRMLScene(scene)
    assert box.enabled and box.currentNode() is node
    assert box.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    assert box.addNode() is box.currentNode()
    box.removeCurrentNode()
    assert box.currentNode() is node


def test_a_collapsed_section_hides_its_contents_and_what_was_hidden_stays_so(panel, host):
    section = panel.advanced
    changes = []
    section.contentsCollapsed.connect(changes.append)
    panel.Panel.show()
    panel.keepCheckBox.hide()
    section.collapsed = True
    assert not panel.strengthSlider.visible and section.height < 60
    section.collapsed = False
    assert panel.strengthSlider.visible and not panel.keepCheckBox.visible
    section.click()
    assert section.collapsed and changes == [True, False, True]


def test_the_slider_keeps_its_range_and_decimals(panel, host):
    slider = panel.strengthSlider
    values = []
    slider.valueChanged.connect(values.append)
    slider.minimum, slider.maximum, slider.singleStep, slider.decimals = -1, 5, 0.25, 2
    slider.suffix = " mm"
    slider.value = 2.5
    slider.value = 9
    assert (slider.value, values, slider.suffix) == (5, [2.5, 5], " mm")
    bar = slider.children()[0]
    assert (bar.minimum, bar.maximum, bar.value) == (0, 24, 24)
    slider.tracking = False
    bar.sliderDown = True
    bar.value = 4
    assert (slider.value, values) == (0, [2.5, 5])
    bar.sliderReleased.emit()
    assert values == [2.5, 5, 0]


def test_the_segments_table_shows_and_changes_the_segments(panel, host, scene):
    import qt

    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.CreateDefaultDisplayNodes()
    view = panel.segmentsTable
    view.setMRMLScene(scene)
    view.setSegmentationNode(node)
    node.GetSegmentation().AddEmptySegment("lv", "Left ventricle", (1, 0, 0))
    node.GetSegmentation().AddEmptySegment("rv", "Right ventricle", (0, 1, 0))
    table = view.tableWidget()
    assert [table.item(row, 2).text() for row in range(view.segmentCount)] == ["Left ventricle", "Right ventricle"]
    table.item(1, 0).setCheckState(qt.Qt.Unchecked)
    assert not node.GetDisplayNode().GetSegmentVisibility("rv")
    segments(node)[0].SetName("LV")
    assert table.item(0, 2).text() == "LV"
    view.setSelectedSegmentIDs(["rv"])
    assert view.selectedSegmentIDs() == ("rv",)


# Parameters


def parameters():
    from slicer.parameterNodeWrapper import Choice, Default, WithinRange, parameterNodeWrapper

    @parameterNodeWrapper
    class Parameters:
        inputVolume: slicer.vtkMRMLScalarVolumeNode
        result: slicer.vtkMRMLSegmentationNode | None
        anyInput: slicer.vtkMRMLScalarVolumeNode | slicer.vtkMRMLSequenceNode | None
        strength: Annotated[float, WithinRange(0.1, 5)] = 1.5
        count: Annotated[int, WithinRange(1, 9), Default(3)]
        device: Annotated[str, Choice(["auto", "cpu"])] = "auto"
        method: Method
        keep: bool = True
        labels: list[str]
        note: str
        limit: int | None

    return Parameters


@pytest.fixture
def parameterNode(scene):
    return scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "DINSegment")


def test_parameters_have_their_defaults_and_keep_what_is_set(host, scene, parameterNode):
    Parameters = parameters()
    given = Parameters(parameterNode)
    assert (given.strength, given.count, given.device, given.method) == (1.5, 3, "auto", Method.FUZZY)
    assert (given.keep, list(given.labels), given.note, given.limit) == (True, [], "", None)
    assert (given.inputVolume, given.result, given.anyInput) == (None, None, None)
    volume = add_volume(scene)
    given.inputVolume = given.anyInput = volume
    given.result = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    given.strength, given.count, given.method, given.keep, given.limit = 2, 9, Method.CLAHE, False, 7
    given.labels = ["a", "b"]
    given.labels.append("c")
    del given.labels[0]
    again = Parameters(parameterNode)
    assert (again.inputVolume, again.anyInput, again.result) == (volume, volume, given.result)
    assert (again.strength, again.count, again.method, again.keep, again.limit) == (2.0, 9, Method.CLAHE, False, 7)
    assert again.labels == ["b", "c"]
    assert given.default("count").value == 3 and given.parameterNode is parameterNode


def test_parameters_are_written_as_the_application_writes_them(host, scene, parameterNode):
    given = parameters()(parameterNode)
    given.inputVolume = given.anyInput = add_volume(scene)
    given.labels = ["a", "b"]
    written = {name: parameterNode.GetParameter(name) for name in parameterNode.GetParameterNames()}
    assert written == {
        "inputVolume": "",
        "result.1": "True",
        "anyInput.0": "",
        "strength": "1.5",
        "count": "3",
        "device": "auto",
        "method": "FUZZY",
        "keep": "True",
        "labels.len": "2",
        "labels.0": "a",
        "labels.1": "b",
        "note": "",
        "limit.1": "True",
    }
    assert parameterNode.GetNodeReference("anyInput.0") is given.inputVolume


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("strength", 0, ValueError),
        ("strength", "2", (TypeError, ValueError)),
        ("count", 1.5, TypeError),
        ("device", "gpu", ValueError),
        ("method", "fuzzy", TypeError),
        ("keep", 1, TypeError),
        ("labels", [1], TypeError),
        ("note", None, ValueError),
        ("limit", "x", TypeError),
        ("inputVolume", "vtkMRMLScalarVolumeNode1", TypeError),
    ],
)
def test_a_wrong_value_is_refused_and_the_old_one_stays(host, scene, parameterNode, name, value, error):
    given = parameters()(parameterNode)
    before = getattr(given, name)
    with pytest.raises(error):
        setattr(given, name, value)
    assert getattr(given, name) == before


def test_parameters_are_saved_with_the_scene(host, scene, parameterNode, tmp_path):
    Parameters = parameters()
    given = Parameters(parameterNode)
    given.inputVolume = add_volume(scene, name="Cine")
    given.strength, given.labels = 4.5, ["x"]
    scene.SetURL(str(tmp_path / "scene.mrml"))
    scene.Commit()
    loaded = slicer.vtkMRMLScene()
    loaded.SetURL(str(tmp_path / "scene.mrml"))
    loaded.Import()
    again = Parameters(loaded.GetFirstNodeByClass("vtkMRMLScriptedModuleNode"))
    assert (again.inputVolume.GetName(), again.strength, list(again.labels)) == ("Cine", 4.5, ["x"])


def test_the_panel_and_the_parameters_follow_each_other(host, scene, panel, parameterNode):
    given = parameters()(parameterNode)
    connection = given.connectGui(panel)
    slider = panel.strengthSlider
    assert (slider.minimum, slider.maximum, slider.value) == (0.1, 5, 1.5)
    assert [panel.methodComboBox.itemText(row) for row in range(2)] == ["FUZZY", "CLAHE"]
    assert panel.keepCheckBox.checked and panel.countSpinBox.value == 3
    panel.methodComboBox.currentIndex = 1
    panel.countSpinBox.value = 20
    panel.keepCheckBox.click()
    slider.value = 3
    panel.inputSelector.setCurrentNode(add_volume(scene))
    assert (given.method, given.count, given.keep, given.strength) == (Method.CLAHE, 9, False, 3)
    assert given.inputVolume is panel.inputSelector.currentNode() is not None
    given.strength, given.method, given.inputVolume = 0.5, Method.FUZZY, None
    assert (slider.value, panel.methodComboBox.currentIndex, panel.inputSelector.currentNode()) == (0.5, 0, None)
    given.disconnectGui(connection)
    given.strength = 4
    panel.countSpinBox.value = 2
    assert (slider.value, given.count) == (0.5, 9)


def test_a_change_is_told_once_and_a_removed_node_is_none(host, scene, parameterNode):
    given = parameters()(parameterNode)
    given.inputVolume = given.anyInput = volume = add_volume(scene)
    told = []
    observer = given.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: told.append(given.count))
    given.count = 5
    given.count = 5
    with slicer.util.NodeModify(given):
        given.labels = ["a", "b", "c"]
        given.count = 6
    given.labels = ["a"]
    assert told == [5, 6, 6]
    given.RemoveObserver(observer)
    given.count = 7
    scene.RemoveNode(volume)
    assert (told[-1], given.inputVolume, given.anyInput) == (6, None, None)
    assert given.labels == ["a"] and given.getValue("count") == 7
    given.setValue("count", 8)
    assert given.count == 8 and parameterNode.GetParameter("labels.1") == ""


def test_defaults_come_back_when_the_scene_is_closed(host, scene):
    from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

    logic = ScriptedLoadableModuleLogic()
    logic.moduleName = "DINSegment"
    given = parameters()(logic.getParameterNode())
    given.count, given.method, given.labels, given.result = 5, Method.CLAHE, ["a"], None
    given.inputVolume = add_volume(scene)
    scene.Clear(False)
    again = parameters()(logic.getParameterNode())
    assert again.inputVolume is None and list(again.labels) == [] and again.method is Method.FUZZY
    assert (again.count, again.result) == (3, None)


def test_the_panel_shows_the_scene_that_is_loaded(host, scene, panel, parameterNode):
    given = parameters()(parameterNode)
    given.connectGui(panel)
    panel.inputSelector.setCurrentNode(add_volume(scene, name="First"))
    given.inputVolume = second = add_volume(scene, name="Second")
    assert panel.inputSelector.currentNode() is second
    scene.RemoveNode(second)
    assert panel.inputSelector.currentNode() is given.inputVolume


def test_a_parameter_that_is_not_there_cannot_be_connected(host, panel, parameterNode):
    given = parameters()(parameterNode)
    with pytest.raises(ValueError, match="strenght"):
        given.connectParametersToGui({"strenght": panel.strengthSlider})
    with pytest.raises(RuntimeError, match="QPushButton"):
        given.connectParametersToGui({"strength": panel.applyButton})


# The application


def test_dialogs_are_recorded_and_answered(host, panel):
    import qt

    host.answer("Cancel", "No", "/data/heart.nrrd")
    assert slicer.util.confirmOkCancelDisplay("Download 40 MB?", windowTitle="Model") is False
    assert slicer.util.confirmYesNoDisplay("Overwrite?") is False
    assert qt.QFileDialog.getOpenFileName(None, "Weights", "", "*.safetensors") == "/data/heart.nrrd"
    assert slicer.util.confirmOkCancelDisplay("Again?") is True
    assert qt.QFileDialog.getExistingDirectory(None, "Folder") == ""
    with pytest.raises(RuntimeError, match="broken"), slicer.util.tryWithErrorDisplay("It failed."):
        raise RuntimeError("broken")
    assert slicer.util.settingsValue("x", 3) == 3
    shown = [(message.kind, message.text, message.buttons) for message in host.messages]
    assert shown[:2] == [("question", "Download 40 MB?", ("Ok", "Cancel")), ("question", "Overwrite?", ("Yes", "No"))]
    assert host.messages[-1].kind == "critical" and "broken" in host.messages[-1].details
    host.answer("Retry")
    with pytest.raises(AssertionError, match="offers"):
        slicer.util.infoDisplay("Done")
    slicer.util.delayDisplay("Wait", 5000)
    assert host.messages[-1].text == "Wait"


def test_an_answer_that_no_dialog_asks_for_fails(scene):
    host = Host(scene)
    host.answer("Ok")
    with pytest.raises(AssertionError, match="No dialog asked"):
        host.close()


def test_the_side_by_side_layout_makes_its_views(host, scene):
    views = "".join(
        f'<item><view class="vtkMRMLSliceNode" singletontag="{name}"><property name="orientation" action="default">'
        f'Axial</property><property name="viewgroup" action="default">7</property></view></item>'
        for name in ("DINOriginal", "DINEnhanced")
    )
    layouts = slicer.app.layoutManager()
    changes = []
    layouts.layoutChanged.connect(changes.append)
    layoutNode = layouts.layoutLogic().GetLayoutNode()
    layoutNode.AddLayoutDescription(501, f'<layout type="horizontal">{views}</layout>')
    assert layouts.sliceWidget("DINOriginal") is None
    layouts.setLayout(501)
    assert (layouts.layout, changes) == (501, [501])
    widget = layouts.sliceWidget("DINOriginal")
    assert widget.mrmlSliceNode().GetViewGroup() == 7
    volume = add_volume(scene, np.zeros((8, 40, 30), np.int16))
    widget.mrmlSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    widget.mrmlSliceNode().RotateToVolumePlane(volume)
    widget.sliceLogic().FitSliceToBackground()
    assert widget.sliceLogic().GetBackgroundLayer().GetVolumeNode() is volume
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    layouts.layout = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
    assert slicer.app.applicationLogic().GetSliceLogics().GetNumberOfItems() == 5


def test_the_modules_have_their_real_logics(host, scene):
    volume = add_volume(scene)
    clone = slicer.modules.volumes.logic().CloneVolume(scene, volume, "Enhanced")
    assert np.array_equal(slicer.util.arrayFromVolume(clone), slicer.util.arrayFromVolume(volume))
    assert slicer.util.getModuleLogic("Sequences").GetMRMLScene() is scene
    hierarchy = scene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(clone)
    assert item and hierarchy.GetItemName(item) == "Enhanced"
    scene.RemoveNode(clone)
    assert hierarchy.GetItemByDataNode(volume) and not hierarchy.GetItemDataNode(item)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    assert slicer.modules.sequences.showSequenceBrowser(browser)
    assert slicer.modules.sequences.toolBar().activeBrowserNode() is browser
    editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
    editor.setSourceVolumeNode(volume)
    assert editor.sourceVolumeNode() is volume


def test_text_is_translated_by_what_the_test_gives(host):
    from slicer.i18n import tr as _

    assert _("Apply") == "Apply"
    host.set_translation(lambda context, text: f"{context}: {text}")
    assert _("Apply") == "test_host: Apply"


MODULE = """
import slicer, qt
from slicer.ScriptedLoadableModule import *
from slicer.util import VTKObservationMixin

VERSION = {version}

class Panel(ScriptedLoadableModule):
    def __init__(self, parent):
        super().__init__(parent)
        parent.title = "A panel"
        parent.categories = ["Segmentation"]
        slicer.app.connect("startupCompleted()", self.started)
        self.isStarted = False

    def started(self):
        self.isStarted = True

class PanelWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.calls = []

    def setup(self):
        super().setup()
        widget = slicer.util.loadUI(self.resourcePath("UI/Panel.ui"))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = PanelLogic()
        self.parameterNode = self.logic.getParameterNode()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, lambda *_: self.calls.append("close"))
        self.ui.applyButton.text = f"Version {{VERSION}}"

    def enter(self):
        self.calls.append("enter")

    def exit(self):
        self.calls.append("exit")

    def cleanup(self):
        self.calls.append("cleanup")
        self.removeObservers()

class PanelLogic(ScriptedLoadableModuleLogic):
    pass

class PanelTest(ScriptedLoadableModuleTest):
    def runTest(self):
        self.setUp()
        self.delayDisplay("Testing")
        assert VERSION < 3, "too new"
"""


def test_a_module_is_loaded_opened_left_reloaded_and_tested(host, scene, tmp_path, capsys):
    (tmp_path / "Resources" / "UI").mkdir(parents=True)
    (tmp_path / "Resources" / "UI" / "Panel.ui").write_text(FORM)
    file = tmp_path / "Panel.py"
    file.write_text(MODULE.format(version=1))
    module = host.load_module(file)
    assert (module.title, module.categories) == ("A panel", ["Segmentation"])
    assert slicer.modules.panel is module and slicer.util.modulePath("Panel") == str(file)
    host.start()
    assert slicer.modules.PanelInstance.isStarted
    panel = host.open_module("Panel")
    assert panel is slicer.modules.PanelWidget and panel.calls == ["enter"] and panel.parent.isEntered is True
    assert panel.ui.applyButton.text == "Version 1"
    assert panel.parameterNode.GetAttribute("ModuleName") == "Panel"
    assert PanelLogicOf(panel).getParameterNode() is panel.parameterNode
    slicer.util.selectModule("SegmentEditor")
    assert panel.calls == ["enter", "exit"] and panel.parent.isEntered is False
    file.write_text(MODULE.format(version=2) + "\n")
    panel.onReload()
    assert panel.calls == ["enter", "exit", "cleanup"]
    reloaded = slicer.util.getModuleWidget("Panel")
    assert reloaded is not panel and reloaded.ui.applyButton.text == "Version 2"
    reloaded.onTest()
    scene.Clear(False)
    assert reloaded.calls == ["close"]
    assert reloaded.logic.getParameterNode().GetAttribute("ModuleName") == "Panel"
    file.write_text(MODULE.format(version=3) + "\n\n")
    with pytest.raises(AssertionError, match="too new"):
        reloaded.onReloadAndTest()
    assert "too new" in host.messages[-1].text
    last = slicer.modules.PanelWidget
    host.close()
    assert last.calls == ["cleanup"] and "Panel" not in sys.modules


def PanelLogicOf(panel):
    return type(panel.logic)()


def test_pictures_differ_by_theme_and_are_twice_the_size(host, panel, tmp_path):
    from PySide6.QtGui import QImage

    light = QImage(str(host.grab(panel.Panel, tmp_path / "light.png", width=400)))
    host.set_theme("dark")
    dark = QImage(str(host.grab(panel.Panel, tmp_path / "dark.png", width=400)))
    assert light.width() == dark.width() == 800 and light.size() == dark.size()

    def brightness(image):
        grey = image.convertToFormat(QImage.Format_Grayscale8)
        return np.frombuffer(grey.constBits(), np.uint8)

    assert brightness(light).mean() > 180 > 100 > brightness(dark).mean()
    assert brightness(light).std() > 5 and brightness(dark).std() > 5


def test_a_blocked_window_is_noticed(host):
    import qt

    with host.responsiveness() as free:
        host.pump(0.2)
    assert free.longest < free.total / 2
    with host.responsiveness() as blocked:
        qt.QTimer.singleShot(20, lambda: time.sleep(0.15))
        host.pump(0.3)
    assert blocked.longest >= 0.15


def test_waiting_for_what_never_comes_ends(host):
    start = time.perf_counter()
    with pytest.raises(TimeoutError, match=r"0\.1 s"):
        host.wait_until(lambda: False, 0.1)
    assert time.perf_counter() - start < 2
    assert host.wait_until(lambda: 5) == 5


def test_only_one_host_is_open_at_a_time(host):
    with pytest.raises(RuntimeError, match="open"):
        Host()


def test_a_host_makes_its_own_scene():
    with Host() as host:
        assert slicer.mrmlScene is host.scene
        assert host.scene.GetNodeByID("vtkMRMLColorTableNodeGrey") and host.scene.GetSubjectHierarchyNode()
        assert slicer.app.majorVersion == 5 and slicer.app.testingEnabled() is False
        assert slicer.util.showStatusMessage("Ready") and host.main_window.statusBar().currentMessage() == "Ready"
        slicer.app.openUrl("manual.html")
        assert host.opened == ["manual.html"]
