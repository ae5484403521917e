"""The layouts of the side-by-side views, as Slicer's layout node takes them."""

from __future__ import annotations

from xml.sax.saxutils import escape

import slicer

from dinsegment_slicer.i18n import tr as _

TWO_VIEWS = 501
WITH_3D = 502
WITH_PLOT = 503
WITH_3D_AND_PLOT = 504
LAYOUTS = (TWO_VIEWS, WITH_3D, WITH_PLOT, WITH_3D_AND_PLOT)
"""IDs; those below 100 are Slicer's own."""

ORIGINAL_VIEW = "DINOriginal"
ENHANCED_VIEW = "DINEnhanced"
THREE_D_VIEW = "DIN3D"
PLOT_VIEW = "DINPlot"

VIEW_GROUP = 501
"""Linked views are linked within their group: no other view has this one."""

PREVIOUS_ATTRIBUTE = "DINSegment.PreviousLayout"
"""Of the layout node: what to give back. There, so that it outlives a reload of the module and is saved."""


def view_titles() -> dict[str, str]:
    """What the two slice views are called inside of them: the bar over a view has room for a letter only."""
    return {ORIGINAL_VIEW: _("Original"), ENHANCED_VIEW: _("Enhanced")}


def layout_id(*, threeD: bool, plot: bool) -> int:
    """The layout that has these views besides the two slice views."""
    return {
        (False, False): TWO_VIEWS,
        (True, False): WITH_3D,
        (False, True): WITH_PLOT,
        (True, True): WITH_3D_AND_PLOT,
    }[threeD, plot]


def register(layoutNode: slicer.vtkMRMLLayoutNode) -> None:
    """Makes the layouts known to `layoutNode`; a scene that was saved with one of them then shows it."""
    wasModifying = layoutNode.StartModify()  # At each change Slicer would lay out all views.
    for layout in LAYOUTS:
        description = _description(layout)
        if layoutNode.IsLayoutDescription(layout):
            layoutNode.SetLayoutDescription(layout, description)
        else:
            layoutNode.AddLayoutDescription(layout, description)
    # A scene that came before the module left this layout chosen but unknown, so nothing is shown.
    if layoutNode.GetViewArrangement() in LAYOUTS:
        layoutNode.SetViewArrangement(layoutNode.GetViewArrangement())
    layoutNode.EndModify(wasModifying)


def _description(layout: int) -> str:
    slices = _row(
        _view("vtkMRMLSliceNode", ORIGINAL_VIEW, "O", "#E0B04C", orientation="Axial"),
        _view("vtkMRMLSliceNode", ENHANCED_VIEW, "E", "#5AB4D6", orientation="Axial"),
    )
    below = []
    if layout in (WITH_3D, WITH_3D_AND_PLOT):
        below.append(_view("vtkMRMLViewNode", THREE_D_VIEW, _("3D"), "#B9B5E3"))
    if layout in (WITH_PLOT, WITH_3D_AND_PLOT):
        below.append(_view("vtkMRMLPlotViewNode", PLOT_VIEW, _("Volume"), "#C8D6A0"))
    if not below:
        return slices
    return (
        f'<layout type="vertical" split="true"><item splitSize="600">{slices}</item>'
        f'<item splitSize="400">{_row(*below)}</item></layout>'
    )


def _row(*views: str) -> str:
    return '<layout type="horizontal">' + "".join(f"<item>{view}</item>" for view in views) + "</layout>"


def _view(className: str, tag: str, label: str, color: str, **properties: str) -> str:
    properties |= {"viewlabel": label, "viewcolor": color, "viewgroup": str(VIEW_GROUP)}
    lines = "".join(
        f'<property name="{name}" action="default">{escape(value)}</property>' for name, value in properties.items()
    )
    return f'<view class="{className}" singletontag="{tag}">{lines}</view>'
