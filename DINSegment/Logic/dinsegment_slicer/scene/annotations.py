"""A text of its own in a corner of a slice view: Slicer's corners tell millimetres and names, never slice numbers."""

from __future__ import annotations

import slicer
import vtk

FONT_SIZE = 14


class SliceAnnotations:
    """Writes one text into the upper left corner of each of some slice views."""

    def __init__(self) -> None:
        self._actors: dict[str, vtk.vtkTextActor] = {}

    def write(self, viewName: str, text: str) -> None:
        """Shows a text in the view of that name; an empty one shows none. Without the view nothing happens.

        Args:
            viewName: As `slicer.app.layoutManager().sliceWidget` takes it.
            text: One line.
        """
        actor = self._actors.get(viewName)
        if actor is not None and actor.GetInput() == text:
            return
        layoutManager = slicer.app.layoutManager()
        sliceWidget = layoutManager.sliceWidget(viewName) if layoutManager is not None else None
        if sliceWidget is None:
            return
        view = sliceWidget.sliceView()
        if actor is None:
            actor = self._actors[viewName] = _actor()
            view.renderWindow().GetRenderers().GetFirstRenderer().AddViewProp(actor)
        actor.SetInput(text)
        actor.SetVisibility(bool(text))
        view.scheduleRender()

    def close(self) -> None:
        """Takes all texts out of their views."""
        layoutManager = slicer.app.layoutManager()
        for viewName, actor in self._actors.items():
            sliceWidget = layoutManager.sliceWidget(viewName) if layoutManager is not None else None
            if sliceWidget is not None:
                sliceWidget.sliceView().renderWindow().GetRenderers().GetFirstRenderer().RemoveViewProp(actor)
                sliceWidget.sliceView().scheduleRender()
        self._actors.clear()


def _actor() -> vtk.vtkTextActor:
    actor = vtk.vtkTextActor()
    look = actor.GetTextProperty()
    look.SetFontSize(FONT_SIZE)
    look.SetShadow(True)  # Readable on white, too.
    look.SetVerticalJustificationToTop()
    actor.GetPositionCoordinate().SetCoordinateSystemToNormalizedViewport()
    actor.SetPosition(0.02, 0.98)
    return actor
