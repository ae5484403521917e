"""The part of the report with the wall: the AHA segments, the point that they begin at, and the bull's-eyes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import slicer
from slicer.util import VTKObservationMixin

from dinsegment.errors import DINSegmentError
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.panel.parameters import DINSegmentParameters
from dinsegment_slicer.panel.pictures import show_picture
from dinsegment_slicer.panel.report_source import image_source
from dinsegment_slicer.running.report_part import Figure, Measured
from dinsegment_slicer.scene.aha import is_corrected, update_aha_node
from dinsegment_slicer.scene.anterior import POINT_EVENTS, add_point, place_of, start_placing, stop_placing
from dinsegment_slicer.scene.changes import remove_node
from dinsegment_slicer.signal import Signal

BULLS_EYE_SHARE = 0.8
"""Of the width of the panel."""


class WallsSection(VTKObservationMixin):
    """Shows how the wall is divided, and lets the user say where its front is.

    `changed` is emitted when the point was placed, dragged or taken away; `message` with a sentence for the user
    and whether it is an error; `endDiastoleWanted` when the segments come into view, which are those of end diastole.

    Args:
        ui: The panel's widgets by name.
        width: Gives the width for pictures, in points.
    """

    def __init__(self, ui: Any, width: Callable[[], int]) -> None:
        VTKObservationMixin.__init__(self)
        self.ui = ui
        self.changed, self.message, self.endDiastoleWanted = Signal(), Signal(), Signal()
        self._width = width
        self._parameters: DINSegmentParameters | None = None
        self._measured: Measured | None = None
        self._observed: slicer.vtkMRMLMarkupsFiducialNode | None = None
        self._place: tuple[float, float, float] | None = None
        self._figures: dict[str, Figure] = {}
        self._showing = False
        titles = (
            ("wall_ed", _("Wall thickness at end diastole")),
            ("wall_es", _("Wall thickness at end systole")),
            ("thickening", _("Wall thickening")),
        )
        for name, title in titles:
            ui.bullsEyeComboBox.addItem(title, name)
        ui.bullsEyeComboBox.currentTextChanged.connect(lambda _text: self._showBullsEye())
        ui.anteriorButton.clicked.connect(self._onPlace)
        ui.removeAnteriorButton.clicked.connect(self._onRemove)
        ui.wallsCheckBox.toggled.connect(self._onWalls)

    def setParameters(self, parameters: DINSegmentParameters | None) -> None:
        """Follows another parameter node from now on, or none."""
        self._parameters = parameters
        self._measured = None
        self._figures = {}
        self.followPoint()
        self.show()

    def forget(self) -> None:
        """Another image: the point and the segments of the one before stay in the scene, and are not of this one."""
        if self._parameters is not None:
            self._parameters.anteriorNode = self._parameters.wallsNode = None
        self._measured = None
        self._figures = {}
        self.followPoint()
        self.show()

    def followPoint(self) -> None:
        """Observes the point that the parameter node knows."""
        node = self._parameters.anteriorNode if self._parameters is not None else None
        if node is not self._observed:
            self.removeObservers(self._onPoint)
            for event in POINT_EVENTS if node is not None else ():
                self.addObserver(node, event, self._onPoint)
            self._observed = node
        place = place_of(node)
        if place != self._place:
            self._place = place
            self.show()
            self.changed.emit()

    def setMeasured(self, measured: Measured | None) -> None:
        """What was measured, or None where nothing could be."""
        self._measured = measured
        if measured is None:
            self._figures = {}
        self._updateWallsNode()
        self.show()

    def setFigures(self, figures: Sequence[Figure]) -> None:
        """The bull's-eyes that were drawn of it."""
        self._figures = {figure.name: figure for figure in figures}
        self._showBullsEye()

    def close(self) -> None:
        """Gives everything back."""
        self.removeObservers()
        self._observed = None

    # --- what is shown -----------------------------------------------------------------------------------

    def show(self) -> None:
        """Shows what is known and what the user may do."""
        walls = self._measured.walls if self._measured is not None else None
        self.ui.wallsFrame.setVisible(walls is not None)
        if walls is None:
            return
        divided, named = not walls["reason"], walls["named"]
        node = self._parameters.anteriorNode if self._parameters is not None else None
        text = ""
        if not divided:
            text = _("The wall is not divided. {reason}").format(reason=walls["reason"])
        elif node is not None and self._place is None:
            text = _(
                "Click where the wall of the right ventricle meets that of the left one in front, in a short-axis view."
            )
        elif node is not None:
            text = _("Drag the point in a short-axis view: the walls are divided anew at once.")
        elif not named:
            text = _(
                "The walls have no names: the image does not tell how the patient lies. Place the anterior insertion, "
                "where the wall of the right ventricle meets that of the left one in front."
            )
        self.ui.wallsLabel.setText(text)
        self.ui.wallsLabel.setVisible(bool(text))
        self.ui.anteriorButton.setVisible(divided or node is not None)
        if node is not None:
            self.ui.anteriorButton.setText(_("Place the insertion anew"))
        elif named:
            self.ui.anteriorButton.setText(_("Show the anterior insertion"))
        else:
            self.ui.anteriorButton.setText(_("Place the anterior insertion"))
        self.ui.removeAnteriorButton.setVisible(node is not None)
        self.ui.wallsCheckBox.setVisible(named)
        self._check(self._parameters is not None and self._parameters.wallsNode is not None)
        self._showBullsEye()

    def _check(self, checked: bool) -> None:
        self._showing = True
        try:
            self.ui.wallsCheckBox.setChecked(checked)
        finally:
            self._showing = False

    def _showBullsEye(self) -> None:
        name = self.ui.bullsEyeComboBox.itemData(self.ui.bullsEyeComboBox.currentIndex)
        figure = self._figures.get(name)
        self.ui.bullsEyeComboBox.setVisible(figure is not None)
        show_picture(self.ui.bullsEyeLabel, figure, round(BULLS_EYE_SHARE * self._width()))

    # --- the point ----------------------------------------------------------------------------------------

    def _onPlace(self, _checked: bool = False) -> None:
        """Puts the point where it was found, to be dragged; else lets the next click into a view place it."""
        p = self._parameters
        if p is None:
            return
        scene = p.parameterNode.GetScene()
        walls = self._measured.walls if self._measured is not None else None
        if p.anteriorNode is not None:
            p.anteriorNode.RemoveAllControlPoints()
            start_placing(p.anteriorNode, slicer.app.applicationLogic())
        elif walls is not None and walls["anterior"] is not None:
            p.anteriorNode = add_point(scene, tuple(walls["anterior"]))
        else:
            p.anteriorNode = add_point(scene)
            start_placing(p.anteriorNode, slicer.app.applicationLogic())
        self.followPoint()
        self.show()

    def _onRemove(self, _checked: bool = False) -> None:
        p = self._parameters
        if p is None or p.anteriorNode is None:
            return
        node, p.anteriorNode = p.anteriorNode, None
        stop_placing(slicer.app.applicationLogic())
        self.followPoint()
        remove_node(node)
        self.show()

    def _onPoint(self, _caller: Any, _event: str) -> None:
        self.followPoint()

    # --- the segments ---------------------------------------------------------------------------------------

    def _onWalls(self, checked: bool) -> None:
        p = self._parameters
        if self._showing or p is None:
            return
        if checked:
            self._updateWallsNode(wanted=True)
            self.endDiastoleWanted.emit()
        elif p.wallsNode is not None:
            node, p.wallsNode = p.wallsNode, None
            if is_corrected(node):  # It is the user's: hidden, not removed.
                if node.GetDisplayNode() is not None:
                    node.GetDisplayNode().SetVisibility(False)
            else:
                remove_node(node)
        self.show()

    def _updateWallsNode(self, wanted: bool = False) -> None:
        """The segments follow what was measured, unless somebody has changed them by hand."""
        p, measured = self._parameters, self._measured
        if p is None or measured is None or not (wanted or p.wallsNode is not None):
            return
        if p.wallsNode is not None and is_corrected(p.wallsNode):
            name, p.wallsNode = p.wallsNode.GetName(), None
            text = _("'{name}' was changed by hand: it stays as it is, and follows the report no longer.")
            self.message.emit(text.format(name=name), False)
            return
        if measured.wall_labels is None:
            if p.wallsNode is not None:
                node, p.wallsNode = p.wallsNode, None
                remove_node(node)
            return
        try:
            source = image_source(p)
            if source is not None:
                walls = measured.walls
                # Of a cine what is in the scene; of two phases the image that end diastole is.
                image = source.volumeNode if source.sequenceNode is not None else source.phases[walls["phase"]][0]
                p.wallsNode = update_aha_node(measured.wall_labels, tuple(walls["first"]), image, p.wallsNode)
        except DINSegmentError as error:
            self.message.emit(str(error), True)
