"""The module's self test: what a user does, done by a script through the panel's own buttons, in the real application.

"Reload and Test" runs it, and `Testing/Slicer/run_in_slicer.py` does after a normal start. It closes the scene.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

from dinsegment.tasks import HEART
from dinsegment_slicer.dicom.instances import application_database
from dinsegment_slicer.dicom.phantom import write_cine_study, write_mr_series
from dinsegment_slicer.effect.drawing import in_world
from dinsegment_slicer.effect.masks import slices_of
from dinsegment_slicer.effect.target import find_target
from dinsegment_slicer.installing.dependencies import Dependencies
from dinsegment_slicer.panel.result import ResultNodes
from dinsegment_slicer.scene.layouts import ENHANCED_VIEW, LAYOUTS, ORIGINAL_VIEW
from dinsegment_slicer.scene.sample_data import heart_truth, phantom_of
from dinsegment_slicer.scene.sequences import phases, times_ms
from dinsegment_slicer.self_test_tools import (
    chamber,
    corners,
    draw,
    far_phantom,
    geometry,
    ijk_to_ras_of,
    in_order_of,
    press,
    segment_names,
    temporary_folder,
    turn,
    visible_nodes,
    voxels_of,
    wait_for,
)

RUN_S = 300.0
"""How long a run may take, a phase or a whole cine."""
EXPORT_S = 120.0
REPORT_S = 120.0
SETTLE_S = 2.0
"""Given to what comes after a run from the event loop: views, measurements."""
NARROW = (1024, 700)
"""Pixels of a main window on a small screen."""


class SelfTest(ScriptedLoadableModuleTest):
    """Each test starts with a closed scene and the panel open; fails where packages are missing."""

    def setUp(self) -> None:
        """An empty scene, and the panel."""
        missing = ", ".join(str(m.requirement) for m in Dependencies().missing())
        self.assertFalse(missing, f"Packages are missing: segment in the panel and agree to install {missing}.")
        if slicer.util.mainWindow() is None:
            self.skipTest("The application has no main window.")
        slicer.mrmlScene.Clear(False)
        slicer.util.selectModule("DINSegment")
        self.panel = slicer.util.getModuleWidget("DINSegment")
        turn(0.2)

    def tearDown(self) -> None:
        """Nothing goes on, and nothing is left."""
        if hasattr(self, "panel"):
            self.panel.controller.cancel()
            slicer.mrmlScene.Clear(False)
            turn(0.2)

    def test_a_volume(self) -> None:
        """First cancelled, which leaves nothing, then to the end. By its name the first: the views are made for it."""
        volumeNode = far_phantom()
        self.panel.ui.inputSelector.setCurrentNode(volumeNode)
        turn(SETTLE_S)
        before = visible_nodes()
        self.panel.ui.segmentHeartButton.click()
        self.assertTrue(self.panel.controller.busy, self._said())
        turn(0.5)
        self.panel.ui.cancelButton.click()
        turn(SETTLE_S)
        self.assertFalse(self.panel.controller.busy)
        self.assertEqual(visible_nodes(), before)

        self._segment()
        p = self.panel.parameters
        self.assertEqual(segment_names(p.segmentationNode), [segment.name for segment in HEART.segments])
        role = p.segmentationNode.GetReferenceImageGeometryReferenceRole()
        self.assertEqual(p.segmentationNode.GetNodeReference(role), volumeNode)
        self.assertEqual(geometry(p.enhancedNode), geometry(volumeNode))
        self._checkDice(heart_truth())
        self.assertIn(slicer.app.layoutManager().layout, LAYOUTS)
        self._checkSlicesInView(volumeNode)

    def test_cine(self) -> None:
        """The sample of the heart, generated in its own process as a click does it, with fewer phases."""
        from dinsegment_slicer.scene.sample_progress import load_phantom

        sequenceNode = load_phantom(replace(phantom_of("heart"), images=5))
        self.panel.ui.inputSelector.setCurrentNode(sequenceNode)
        turn(SETTLE_S)
        self._segment()
        p = self.panel.parameters
        self.assertEqual(p.segmentationSequenceNode.GetNumberOfDataNodes(), sequenceNode.GetNumberOfDataNodes())
        self.assertIsNotNone(p.plotChartNode)
        measurement = ResultNodes(p).measure()
        self.assertIsNotNone(measurement.function)
        self.assertEqual(measurement.function.end_diastole, 0)
        self.assertTrue(35 < measurement.function.ejection_fraction_percent < 65, measurement.function)

    def test_export(self) -> None:
        """A DICOM series in a database of its own, loaded as the DICOM module does; its result as DICOM SEG."""
        import pydicom

        try:
            from DICOMLib import DICOMUtils
        except ImportError:
            self.skipTest("The application has no DICOM module.")
        with temporary_folder() as folder, DICOMUtils.TemporaryDICOMDatabase(str(folder / "database")):
            phantomNode = far_phantom()
            series, instances = write_mr_series(folder / "series", phantomNode)
            before = ijk_to_ras_of(phantomNode)
            slicer.mrmlScene.Clear(False)
            self.assertTrue(DICOMUtils.importDicom(str(folder / "series")))
            nodes = [slicer.mrmlScene.GetNodeByID(id) for id in DICOMUtils.loadSeriesByUID([series])]
            (volumeNode,) = (node for node in nodes if node.IsA("vtkMRMLScalarVolumeNode"))
            self.panel.ui.inputSelector.setCurrentNode(volumeNode)
            turn(SETTLE_S)
            self._segment()
            self._export(folder / "export")

            (path,) = (folder / "export").iterdir()
            seg = pydicom.dcmread(path)
            self.assertEqual(seg.Modality, "SEG")
            self.assertEqual([s.SegmentLabel for s in seg.SegmentSequence], [s.name for s in HEART.segments])
            self.assertEqual({s.SegmentAlgorithmType for s in seg.SegmentSequence}, {"AUTOMATIC"})
            (referenced,) = seg.ReferencedSeriesSequence
            self.assertEqual(referenced.SeriesInstanceUID, series)
            sources = {str(instance.ReferencedSOPInstanceUID) for instance in referenced.ReferencedInstanceSequence}
            self.assertTrue(sources and sources <= set(instances), sources)
            self.assertTrue(application_database().fileForInstance(str(seg.SOPInstanceUID)))
            self._checkDice(in_order_of(heart_truth(), before, volumeNode))
            slicer.mrmlScene.Clear(False)  # Before its files go.
            turn(0.2)

    def test_stack(self) -> None:
        """A cine whose slices are series of their own: one sequence by the DICOM module, and by joining single ones."""
        import pydicom

        from dinsegment_slicer.scene.sample_progress import load_phantom

        try:
            from DICOMLib import DICOMUtils
        except ImportError:
            self.skipTest("The application has no DICOM module.")
        with temporary_folder() as folder, DICOMUtils.TemporaryDICOMDatabase(str(folder / "database")):
            cine = load_phantom(replace(phantom_of("heart"), images=5))  # Of fewer Slicer makes a volume.
            expected = [slicer.util.arrayFromVolume(node).copy() for node in phases(cine)]
            before, times = ijk_to_ras_of(phases(cine)[0]), times_ms(cine)
            series = write_cine_study(folder / "study", cine)
            slicer.mrmlScene.Clear(False)
            self.assertTrue(DICOMUtils.importDicom(str(folder / "study")))

            def check(sequenceNode: slicer.vtkMRMLSequenceNode) -> None:
                self.assertEqual(times_ms(sequenceNode), times)
                for node, array in zip(phases(sequenceNode), expected, strict=True):
                    self.assertTrue(np.array_equal(slicer.util.arrayFromVolume(node), in_order_of(array, before, node)))

            DICOMUtils.loadSeriesByUID(series)
            (sequenceNode,) = slicer.util.getNodesByClass("vtkMRMLSequenceNode")
            check(sequenceNode)
            slicer.mrmlScene.Clear(False)
            turn(SETTLE_S)

            for uid in series:
                DICOMUtils.loadSeriesByUID([uid])
            self.assertEqual(len(slicer.util.getNodesByClass("vtkMRMLSequenceNode")), len(series))
            wait_for(lambda: self.panel.ui.joinButton.visible, EXPORT_S, lambda: "nothing is offered to be joined")
            self.panel.ui.joinButton.click()
            turn(SETTLE_S)
            check(self.panel.parameters.inputNode)

            self._segment()
            self._export(folder / "export")
            paths = sorted((folder / "export").iterdir())
            self.assertEqual(len(paths), len(expected))
            for path in paths:
                referenced = {str(one.SeriesInstanceUID) for one in pydicom.dcmread(path).ReferencedSeriesSequence}
                self.assertTrue(len(referenced) > 1 and referenced <= set(series), referenced)
            slicer.mrmlScene.Clear(False)  # Before its files go.
            turn(0.2)

    def test_report(self) -> None:
        """Numbers of a beat follow what the user says; a point names the walls; the page is written."""
        from dinsegment_slicer.running.report_part import Page
        from dinsegment_slicer.scene.sample_progress import load_phantom

        self.panel.ui.inputSelector.setCurrentNode(load_phantom(replace(phantom_of("heart"), images=3)))
        turn(SETTLE_S)
        self._segment()
        self._measured()
        ui, p = self.panel.ui, self.panel.parameters
        self.assertTrue(ui.reportSection.visible and ui.reportTable.rowCount > 10, ui.reportStateLabel.text)
        self.assertTrue(ui.wallsLabel.text.startswith("The walls have no names"), ui.wallsLabel.text)
        p.patientHeight, p.patientWeight = 172.0, 70.0
        ui.anteriorButton.click()
        bounds = [0.0] * 6
        p.segmentationNode.GetRASBounds(bounds)
        p.anteriorNode.AddControlPointWorld(*(sum(bounds[n : n + 2]) / 2 + 30 for n in (0, 2, 4)))
        self._measured()
        self.assertTrue(ui.wallsCheckBox.visible, ui.wallsLabel.text)
        ui.wallsCheckBox.click()
        self.assertEqual(p.wallsNode.GetSegmentation().GetNumberOfSegments(), 16)
        names = [row[0] for row in self.panel.report.rows()]
        indexed = self.panel.report.rows()[names.index("Left ventricle: Stroke volume, indexed to body surface area")]
        self.assertTrue(float(indexed[1]) > 10, indexed)
        self.assertTrue(any(name.startswith("Segment 01 basal anterior") for name in names))
        with temporary_folder() as folder:
            for suffix, begin in ((".pdf", b"%PDF"), (".html", b"<!doctype html>")):
                self.panel.report.write(Page(folder / f"report{suffix}", anonymous=True))
                self._measured()
                self.assertTrue((folder / f"report{suffix}").read_bytes().startswith(begin), self._said())

    def test_scene(self) -> None:
        """Saved, closed and loaded again: the result is there, and the layout shows it."""
        self.panel.ui.inputSelector.setCurrentNode(far_phantom())
        turn(SETTLE_S)
        self._segment()
        p = self.panel.parameters
        layout, names = slicer.app.layoutManager().layout, segment_names(p.segmentationNode)
        before, voxels = ijk_to_ras_of(p.inputNode), voxels_of(p.segmentationNode, chamber().name, p.inputNode)
        with temporary_folder() as folder:
            path = str(folder / "scene.mrb")
            self.assertTrue(slicer.util.saveScene(path))
            slicer.mrmlScene.Clear(False)
            turn(SETTLE_S)
            self.assertIsNone(self.panel.parameters.segmentationNode)
            self.assertNotIn(slicer.app.layoutManager().layout, LAYOUTS)
            slicer.util.loadScene(path)
            turn(SETTLE_S)
        p = self.panel.parameters
        self.assertIsNotNone(p.segmentationNode)
        self.assertEqual(segment_names(p.segmentationNode), names)
        found = voxels_of(p.segmentationNode, chamber().name, p.inputNode)
        expected = in_order_of(voxels, before, p.inputNode)
        self.assertTrue(np.array_equal(found, expected), f"{found.sum()} voxels of the chamber, not {voxels.sum()}")
        self.assertEqual(slicer.app.layoutManager().layout, layout)
        self._checkSlicesInView(p.inputNode)

    def test_strokes(self) -> None:
        """The Segment Editor's effect DIN, by mouse and keys: previewed, given up, accepted, undone."""
        try:
            import qSlicerSegmentationsEditorEffectsPythonQt  # noqa: F401
        except ImportError:
            self.skipTest("The application has no Segment Editor.")
        volumeNode = far_phantom()
        self.panel.ui.inputSelector.setCurrentNode(volumeNode)
        turn(SETTLE_S)
        self._segment()
        self.panel.ui.editButton.click()
        slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
        turn(SETTLE_S)
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        editor.setCurrentSegmentID("Left ventricle")
        editor.setActiveEffectByName("DIN")
        self.assertIsNotNone(editor.activeEffect(), "The effect DIN is not registered.")
        effect = editor.activeEffect().self()
        effect.turnButton.click()
        turn(SETTLE_S)
        target = find_target(self.panel.parameters.segmentationNode, "Left ventricle", volumeNode)
        view = slicer.app.layoutManager().sliceWidget("Red")
        plane = view.mrmlSliceNode().GetSliceToRAS()
        n = target.grid.nearest_slice([plane.GetElement(row, 3) for row in range(3)])
        before = slices_of(target, [n])[n]
        self.assertTrue(before.any(), f"Slice {n} shows no left ventricle.")
        rows, columns = np.nonzero(before)
        line = [(rows.mean(), column) for column in np.linspace(columns.min() + 2, columns.mean(), 8)]
        places = in_world(target.grid, n, np.array(line))

        draw(view, places)
        wait_for(lambda: effect.acceptButton.enabled, RUN_S, lambda: effect.statusLabel.text)
        press(view, "Escape")
        self.assertFalse(effect.acceptButton.enabled)
        self.assertTrue(np.array_equal(slices_of(target, [n])[n], before))

        draw(view, places)
        wait_for(lambda: effect.acceptButton.enabled, RUN_S, lambda: effect.statusLabel.text)
        press(view, "Return")
        after = slices_of(target, [n])[n]
        self.assertFalse((after & ~before).any())
        for row, column in np.rint(line).astype(int):
            self.assertFalse(after[row, column], (row, column))
        editor.undo()
        turn(0.2)
        self.assertTrue(np.array_equal(slices_of(target, [n])[n], before))
        editor.setActiveEffectByName("")

    def test_sure(self) -> None:
        """Samples of a result: where they differ lies over both views, and goes when it is switched off."""
        self.panel.ui.inputSelector.setCurrentNode(far_phantom())
        turn(SETTLE_S)
        self._segment()
        ui, p = self.panel.ui, self.panel.parameters
        self.assertFalse(ui.disagreementCheckBox.visible)
        ui.drawsSpinBox.value = 2
        ui.sureButton.click()
        self.assertTrue(self.panel.controller.busy, self._said())
        self._wait(RUN_S)
        self.assertIsNotNone(p.disagreementNode, self._said())
        self.assertGreater(slicer.util.arrayFromVolume(p.disagreementNode).max(), 50)
        self.assertTrue(ui.sureLabel.visible and "2 samples" in ui.sureLabel.text, ui.sureLabel.text)
        self.assertTrue(any(" to " in ui.volumeTable.item(row, 2).text() for row in range(ui.volumeTable.rowCount)))
        for wanted in (p.disagreementNode.GetID(), None):
            for name in (ORIGINAL_VIEW, ENHANCED_VIEW):
                composite = slicer.app.layoutManager().sliceWidget(name).mrmlSliceCompositeNode()
                self.assertEqual(composite.GetForegroundVolumeID(), wanted)
            ui.disagreementCheckBox.click()
            turn(0.2)

    def test_width(self) -> None:
        """Neither sections nor results make the panel or the main window wider."""
        window = slicer.util.mainWindow()
        before = window.size
        try:
            window.resize(*NARROW)
            self.panel.ui.inputSelector.setCurrentNode(far_phantom())
            turn(SETTLE_S)
            self._segmentWithin(self._besideViews())
            # From here on the views are there, and need what the bars over them need.
            widths = window.width, *self._besideViews()
            for section in self._sections():
                section.collapsed = False
                turn(0.2)
                # A section that was hidden by itself while it was closed would open empty.
                shown = [child for child in section.children() if getattr(child, "visible", False)]
                self.assertTrue(shown or not section.visible, f"'{section.text}' opens empty.")
                self._assertNoWider((window.width, *self._besideViews()), widths, f"'{section.text}' was opened")
            self._segmentWithin(self._besideViews())
            self._assertNoWider((window.width, *self._besideViews()), widths, "the second result")
        finally:
            window.resize(before)
            turn(0.2)

    # What the tests have in common

    def _segment(self) -> None:
        """Clicks, and waits until the result is shown."""
        self.assertTrue(self.panel.ui.segmentHeartButton.enabled, self.panel.ui.reasonLabel.text)
        self.panel.ui.segmentHeartButton.click()
        self._wait(RUN_S)
        self.assertIsNotNone(self.panel.parameters.segmentationNode, self._said())

    def _measured(self) -> None:
        turn(SETTLE_S)  # What has changed is measured a moment later.
        wait_for(lambda: not self.panel.report.reporter.busy, REPORT_S, lambda: self.panel.ui.reportStateLabel.text)
        turn(0.2)

    def _export(self, folder: Path) -> None:
        edit = self.panel.ui.exportFolderEdit
        before = edit.currentPath  # It is kept as a setting of the user's.
        try:
            edit.setCurrentPath(str(folder))
            self.panel.ui.exportButton.click()
            self._wait(EXPORT_S)
        finally:
            edit.setCurrentPath(before)

    def _wait(self, seconds: float) -> None:
        wait_for(lambda: not self.panel.controller.busy, seconds, lambda: self.panel.controller.text)
        turn(SETTLE_S)
        message = self.panel.controller.message
        if message is not None and message.severity.value == "error":
            self.fail(message.text)

    def _said(self) -> str:
        message = self.panel.controller.message
        return message.text if message is not None else "The panel says nothing."

    def _checkDice(self, truth: np.ndarray) -> None:
        p = self.panel.parameters
        found, label = voxels_of(p.segmentationNode, chamber().name, p.inputNode), truth == chamber().label
        dice = 2 * (found & label).sum() / (found.sum() + label.sum())
        self.assertGreater(dice, 0.8, f"Dice of the {chamber().name.lower()}")

    def _checkSlicesInView(self, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> None:
        """Both views show a slice from the middle of the image, neither the lowest nor one beside it."""
        for name in (ORIGINAL_VIEW, ENHANCED_VIEW):
            sliceNode = slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode()
            normal = slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())[:3, 2]
            depths = corners(volumeNode) @ normal
            place = (sliceNode.GetSliceOffset() - depths.min()) / (depths.max() - depths.min())
            self.assertTrue(0.2 < place < 0.8, f"{name} shows what is at {place:.0%} of the stack.")

    def _sections(self) -> list[Any]:
        return [
            widget
            for name, widget in vars(self.panel.ui).items()
            if name.endswith("Section") and hasattr(widget, "collapsed") and widget.visible
        ]

    def _segmentWithin(self, widths: tuple[int, ...]) -> None:
        self._segment()
        self._assertNoWider(self._besideViews(), widths, "a result")

    def _assertNoWider(self, now: tuple[int, ...], before: tuple[int, ...], what: str) -> None:
        # A scroll bar may make the panel narrower.
        self.assertTrue(all(a <= b for a, b in zip(now, before, strict=True)), f"{before} became {now} after {what}.")

    def _besideViews(self) -> tuple[int, int]:
        """Pixels of the main window beside the views, and of the panel."""
        window = slicer.util.mainWindow()
        views = window.centralWidget()
        return window.width - (views.width if views is not None else 0), self.panel.parent.width
