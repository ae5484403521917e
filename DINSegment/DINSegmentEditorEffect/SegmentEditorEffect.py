"""The Segment Editor's effect DIN: strokes in a slice, and what the network makes of them.

Slicer loads this file by its path and makes an object of its class, which has the file's name; what the effect does
apart from widgets and events is in `dinsegment_slicer.effect`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import qt
import slicer
import vtk
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect

from dinsegment.errors import DINSegmentError
from dinsegment_slicer.effect.drawing import drawn, in_world, on_slice, outline, slice_shape
from dinsegment_slicer.effect.masks import change_image, slices_of
from dinsegment_slicer.effect.pipeline import Lines
from dinsegment_slicer.effect.talk import Image, Question, Talk
from dinsegment_slicer.effect.target import Target, find_target
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.running.worker import Worker
from dinsegment_slicer.scene.nodes import image_of
from dinsegment_slicer.scene.placement import slice_plane

ICON = Path(__file__).resolve().parents[1] / "Resources" / "Icons" / "DINSegment.png"

TICK_MS = 15
NEIGHBOURS = "Neighbours"
"""Parameter: how many slices on either side may change with the one that is drawn in."""

BELONGS, OTHER, PREVIEW = (0.2, 1.0, 0.2), (1.0, 0.25, 0.25), (1.0, 1.0, 0.0)
"""Colours of strokes and of what they would make of the segment."""


class SegmentEditorEffect(AbstractScriptedSegmentEditorEffect):
    """Corrects the selected segment by strokes. What they make of it is an outline until the user accepts it."""

    def __init__(self, scriptedEffect: Any) -> None:
        scriptedEffect.name = "DIN"  # Not translated: modules find effects by it.
        scriptedEffect.title = "DIN"
        AbstractScriptedSegmentEditorEffect.__init__(self, scriptedEffect)
        self._talk: Talk | None = None
        self._timer: Any = None
        self._target: Target | None = None
        self._slice = 0
        self._strokes: list[tuple[bool, list[list[float]]]] = []
        self._drawing: Any = None  # The slice view in which the mouse is down.
        self._before: dict[int, np.ndarray] = {}
        self._after: dict[int, np.ndarray] = {}
        self._lines: dict[Any, tuple[Lines, Lines, Lines]] = {}
        self._shown: int | None = None

    def clone(self) -> Any:
        """Another one like it, for another Segment Editor."""
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        clonedEffect = effects.qSlicerSegmentEditorScriptedEffect(None)
        clonedEffect.setPythonSource(__file__.replace("\\", "/"))
        return clonedEffect

    def icon(self) -> qt.QIcon:
        """The module's."""
        return qt.QIcon(str(ICON))

    def helpText(self) -> str:
        """What the mouse and keys do."""
        return "<html>" + _(
            "Correct a segment that DINSegment knows by a stroke in a slice<br>."
            "<p><ul style='margin: 0'>"
            "<li><b>Left button, drag:</b> this belongs to the segment.</li>"
            "<li><b>Ctrl and left button, drag:</b> this does not belong to it.</li>"
            "<li><b>Enter</b> or <b>a:</b> accept what is previewed; so does a stroke in another slice.</li>"
            "<li><b>x:</b> take the last stroke back.</li>"
            "<li><b>Esc:</b> give up all strokes, and leave the effect, as everywhere in the Segment Editor.</li>"
            "</ul></p>"
        )

    # --- life of the effect -------------------------------------------------------------------------

    def setupOptionsFrame(self) -> None:
        """Makes the effect's widgets."""
        self.neighboursSpinBox = qt.QSpinBox()
        self.neighboursSpinBox.setRange(0, 10)
        self.neighboursSpinBox.setToolTip(
            _("So many slices on either side may change with the one that is drawn in, where the change goes on.")
        )
        self.neighboursSpinBox.valueChanged.connect(self.updateMRMLFromGUI)
        self.scriptedEffect.addLabeledOptionsWidget(_("Slices beside it:"), self.neighboursSpinBox)
        self.turnButton = qt.QPushButton(_("Show the slices to draw in"))
        self.turnButton.setToolTip(_("Turn the first slice view to the slices that the network looks at."))
        self.turnButton.clicked.connect(self._onTurn)
        self.scriptedEffect.addOptionsWidget(self.turnButton)
        self.statusLabel = qt.QLabel()
        self.statusLabel.setWordWrap(True)
        self.statusLabel.setMinimumHeight(2 * self.statusLabel.fontMetrics().height())  # Else a second line is cut.
        self.scriptedEffect.addOptionsWidget(self.statusLabel)
        self.cancelButton = qt.QPushButton(_("Give up"))
        self.cancelButton.setToolTip(
            _("Forget the strokes; the segment stays as it is (Esc does so, too, and leaves the effect).")
        )
        self.acceptButton = qt.QPushButton(_("Accept"))
        self.acceptButton.setToolTip(_("Change the segment to what is outlined (Enter)."))
        self.cancelButton.clicked.connect(lambda _checked=False: self.giveUp())
        self.acceptButton.clicked.connect(lambda _checked=False: self.accept())
        row = qt.QHBoxLayout()
        row.addWidget(self.cancelButton)
        row.addWidget(self.acceptButton)
        self.scriptedEffect.addOptionsWidget(row)
        self._showState()

    def setMRMLDefaults(self) -> None:
        """Parameters of a new scene."""
        self.scriptedEffect.setParameterDefault(NEIGHBOURS, 2)

    def updateGUIFromMRML(self) -> None:
        """Shows the parameters."""
        blocked = self.neighboursSpinBox.blockSignals(True)
        self.neighboursSpinBox.value = self.scriptedEffect.integerParameter(NEIGHBOURS)
        self.neighboursSpinBox.blockSignals(blocked)

    def updateMRMLFromGUI(self, _value: Any = None) -> None:
        """Keeps what the user set."""
        self.scriptedEffect.setParameter(NEIGHBOURS, int(self.neighboursSpinBox.value))

    def activate(self) -> None:
        """The user chooses the effect: the network begins to look at the slices in view."""
        if self._talk is None:
            self._talk = Talk(Worker())
            self._talk.answered.connect(self._onAnswered)
            self._talk.failed.connect(self._onFailed)
            self._talk.changed.connect(self._showState)
            self._timer = qt.QTimer()
            self._timer.setInterval(TICK_MS)
            self._timer.timeout.connect(self._tick)
        self._shown = None
        self._lookAhead()
        self._timer.start()

    def deactivate(self) -> None:
        """The user chooses another effect, or none: what was not accepted is given up."""
        self._reset()
        for sliceWidget, lines in self._lines.items():
            for line in lines:
                self.scriptedEffect.removeActor2D(sliceWidget, line.actor)
        self._lines = {}
        if self._talk is not None:
            self._talk.leave()
            if not self._talk.busy:
                self._timer.stop()

    def cleanup(self) -> None:
        """The Segment Editor goes."""
        if self._talk is not None:
            self._timer.stop()
            self._timer.timeout.disconnect(self._tick)
            self._talk.close()
            self._talk = None

    def sourceVolumeNodeChanged(self) -> None:
        """Another image, or none, is to be drawn on."""
        if self.scriptedEffect.active():
            self._reset()
            self._shown = None
            self._lookAhead()

    def createCursor(self, _widget: Any) -> Any:
        """A cross: a stroke begins at its middle."""
        return qt.QCursor(qt.Qt.CrossCursor)

    # --- events ---------------------------------------------------------------------------------------

    def processInteractionEvents(self, callerInteractor: Any, eventId: int, viewWidget: Any) -> bool:
        """What the user does with mouse and keys in a view; True keeps it from others."""
        if viewWidget.className() != "qMRMLSliceWidget":
            return False
        if eventId == vtk.vtkCommand.LeftButtonPressEvent:
            return self._begin(callerInteractor, viewWidget)
        if eventId == vtk.vtkCommand.MouseMoveEvent and self._drawing is viewWidget:
            self._strokes[-1][1].append(self.xyToRas(callerInteractor.GetEventPosition(), viewWidget))
            self._place(viewWidget)
            return True
        if eventId == vtk.vtkCommand.LeftButtonReleaseEvent and self._drawing is viewWidget:
            self._drawing = None
            self._ask()
            return True
        if eventId == vtk.vtkCommand.KeyPressEvent:
            return self._onKey(callerInteractor.GetKeySym())
        return False

    def processViewNodeEvents(self, callerViewNode: Any, _eventId: int, viewWidget: Any) -> None:
        """A view shows another place: outlines move with it, and its slice is looked at."""
        if callerViewNode is not None and callerViewNode.IsA("vtkMRMLSliceNode"):
            self._place(viewWidget)
            self._lookAhead(callerViewNode)

    def _begin(self, interactor: Any, viewWidget: Any) -> bool:
        if interactor.GetShiftKey() or interactor.GetAltKey():
            return False
        confirmed = self.scriptedEffect.confirmCurrentSegmentVisible()
        if confirmed in (self.scriptedEffect.NotConfirmed, self.scriptedEffect.ConfirmedWithDialog):
            return True  # The click went to the question.
        try:
            target = self._find()
            point = self.xyToRas(interactor.GetEventPosition(), viewWidget)
            n, _pixels = on_slice(target.grid, [point])
        except DINSegmentError as error:
            self._say(str(error))
            return True
        same = self._target is not None and (target.key, target.segmentID) == (self._target.key, self._target.segmentID)
        if self._strokes and not (same and n == self._slice):
            self.accept()
        if not self._strokes:
            self._target, self._slice = target, n
            count = self.scriptedEffect.integerParameter(NEIGHBOURS)
            self._before = slices_of(target, range(n - count, n + count + 1))
        self._strokes.append((not interactor.GetControlKey(), [point]))
        self._drawing = viewWidget
        self._place(viewWidget)
        return True

    def _onKey(self, key: str) -> bool:
        if not self._strokes:
            return False
        if key in ("Return", "KP_Enter", "a"):
            self.accept()
        elif key == "Escape":
            self.giveUp()
        elif key == "x":
            self._takeBack()
        else:
            return False
        return True

    # --- strokes -----------------------------------------------------------------------------------------

    def accept(self) -> None:
        """Changes the segment to what is previewed, as one step that can be undone."""
        target, before, after = self._target, self._before, self._after
        self._reset()
        if target is None or not after:
            return
        segmentationNode = self.scriptedEffect.parameterSetNode().GetSegmentationNode()
        if not target.is_in(segmentationNode):
            self._say(_("The segment that was drawn in is not edited any more: the strokes were given up."))
            return
        added = {n: mask & ~before[n] for n, mask in after.items() if (mask & ~before[n]).any()}
        removed = {n: before[n] & ~mask for n, mask in after.items() if (before[n] & ~mask).any()}
        if not added and not removed:
            return
        self.scriptedEffect.saveStateForUndo()
        effect = slicer.qSlicerSegmentEditorAbstractEffect
        for changed, mode in ((added, effect.ModificationModeAdd), (removed, effect.ModificationModeRemove)):
            if changed:
                modifier = self.scriptedEffect.defaultModifierLabelmap()
                modifier.DeepCopy(change_image(target, changed, modifier))
                # Not the one that is selected now: the user may have chosen another since the stroke.
                self.scriptedEffect.modifySegmentByLabelmap(segmentationNode, target.segmentID, modifier, mode)

    def giveUp(self) -> None:
        """Forgets the strokes; the segment stays as it is."""
        self._reset()

    def _takeBack(self) -> None:
        self._strokes.pop()
        self._after, self._drawing = {}, None  # The mouse may still be down.
        if self._strokes:
            self._ask()
        else:
            self._reset()

    def _reset(self) -> None:
        self._strokes, self._before, self._after, self._drawing = [], {}, {}, None
        if self._talk is not None:
            self._talk.forget()
        self._placeAll()
        self._showState()

    def _ask(self) -> None:
        grid = self._target.grid
        belongs, other = np.zeros((2, *slice_shape(grid)), bool)
        try:
            for inside, points in self._strokes:
                _n, pixels = on_slice(grid, points)
                line = drawn(pixels, belongs.shape)
                belongs, other = (belongs | line, other & ~line) if inside else (belongs & ~line, other | line)
        except DINSegmentError as error:
            self._reset()
            self._say(str(error))
            return
        if not (belongs.any() or other.any()):  # Beside the image.
            self._takeBack()
            return
        self._talk.show(self._image(self._target), self._slice)
        self._talk.ask(Question(self._target.label, self._slice, belongs, other, self._before))
        self._timer.start()
        self._tick()

    def _onAnswered(self, _question: Question, masks: dict[int, np.ndarray]) -> None:
        self._after = {**self._after, **masks}
        self._placeAll()
        self._showState()

    def _onFailed(self, error: DINSegmentError) -> None:
        self._reset()
        self._say(str(error))

    def _tick(self) -> None:
        if self._talk.busy:
            self._talk.tick()
        else:
            self._timer.stop()

    # --- what is looked at ---------------------------------------------------------------------------------

    def _find(self) -> Target:
        node = self.scriptedEffect.parameterSetNode()
        chosen = node.GetSegmentationNode(), node.GetSelectedSegmentID(), node.GetSourceVolumeNode()
        return find_target(*chosen, slicer.util.getModuleWidget("DINSegment").model.named)

    def _onTurn(self, _checked: bool = False) -> None:
        try:
            grid = self._find().grid
        except DINSegmentError as error:
            self._say(str(error))
            return
        sliceNode = _first_view().mrmlSliceNode()
        n = grid.nearest_slice(_middle(sliceNode))
        sliceNode.GetSliceToRAS().DeepCopy(slice_plane(sliceNode, grid, n))
        sliceNode.UpdateMatrices()
        _first_view().sliceLogic().FitSliceToBackground()

    def _image(self, target: Target) -> Image:
        panel = slicer.util.getModuleWidget("DINSegment")
        self._talk.worker.environment = panel.model.environment()
        device = panel.parameters.device if panel.parameters is not None else "auto"
        read = target.volumeNode
        return Image(target.key, lambda: image_of(read), target.grid.count, target.task.name, target.model, device)

    def _lookAhead(self, sliceNode: Any = None) -> None:
        """Lets the network look at the slices in view before anybody draws there."""
        if self._talk is None or not self.scriptedEffect.active():
            return
        try:
            target = self._find()
        except DINSegmentError as error:
            self._say(str(error))
            return
        if sliceNode is None:
            sliceNode = _first_view().mrmlSliceNode()
        n = target.grid.nearest_slice(_middle(sliceNode))
        if n != self._shown:
            self._shown = n
            self._talk.show(self._image(target), n)
            self._timer.start()

    # --- what is shown --------------------------------------------------------------------------------------

    def _placeAll(self) -> None:
        for sliceWidget in tuple(self._lines):
            self._place(sliceWidget)
        if self._strokes:
            layoutManager = slicer.app.layoutManager()
            for name in layoutManager.sliceViewNames():
                self._place(layoutManager.sliceWidget(name))

    def _place(self, sliceWidget: Any) -> None:
        """Brings strokes and preview to where a view shows their slice."""
        lines = self._lines.get(sliceWidget)
        if lines is None:
            if not self._strokes:
                return
            lines = Lines(PREVIEW, 2), Lines(BELONGS, 3), Lines(OTHER, 3)
            for line in lines:
                self.scriptedEffect.addActor2D(sliceWidget, line.actor)
            self._lines[sliceWidget] = lines
        sliceNode = sliceWidget.mrmlSliceNode()
        preview = np.zeros((0, 2, 3))
        if self._after:
            n = self._target.grid.nearest_slice(_middle(sliceNode))
            if n in self._after:
                preview = in_world(self._target.grid, n, outline(self._after[n]))
        for line, world in zip(lines, (preview, self._world(True), self._world(False)), strict=True):
            line.set(world)
            line.place(sliceNode)
        sliceWidget.sliceView().scheduleRender()

    def _world(self, belongs: bool) -> np.ndarray:
        """The mouse's way of all strokes of a kind, as lines."""
        ways = [
            np.array(points if len(points) > 1 else points * 2) for kind, points in self._strokes if kind is belongs
        ]
        lines = [np.stack((way[:-1], way[1:]), 1) for way in ways]
        return np.concatenate(lines) if lines else np.zeros((0, 2, 3))

    def _showState(self) -> None:
        for button in (self.acceptButton, self.cancelButton):
            button.setEnabled(bool(self._strokes))
        self.acceptButton.setEnabled(bool(self._after))
        if self._talk is None:
            return
        if self._talk.waiting and not self._after:
            text = _("Working out what the stroke changes ...")
        elif self._after:
            text = _("Enter accepts what is outlined, Esc gives it up.")
            if not any((mask != self._before[n]).any() for n, mask in self._after.items()):
                text = _("The stroke changes nothing: the segment is like that already.")
        elif not self._talk.ready:
            text = _("The network looks at the image: the first stroke waits for it.")
        else:
            text = _("Draw what belongs to the segment; with Ctrl, what does not.")
        self._say(text)

    def _say(self, text: str) -> None:
        self.statusLabel.setText(text)


def _first_view() -> Any:
    """The slice view that is shown topmost and leftmost; the layout manager names them in no order."""
    layoutManager = slicer.app.layoutManager()
    views = [layoutManager.sliceWidget(name) for name in layoutManager.sliceViewNames()]
    return min([view for view in views if view.visible] or views, key=_corner)


def _corner(view: Any) -> tuple[int, int]:
    """Where the corner of a view is on the screen: from the top, from the left."""
    corner = view.mapToGlobal(qt.QPoint(0, 0))
    return corner.y(), corner.x()


def _middle(sliceNode: Any) -> list[float]:
    """Where the middle of a view is, mm."""
    toRAS = sliceNode.GetSliceToRAS()
    return [toRAS.GetElement(row, 3) for row in range(3)]
