"""Sample data for the user: generated with a bar and a button to cancel while the window answers, added and shown."""

from __future__ import annotations

import time

import slicer

from dinsegment.errors import Cancelled, InputError
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.scene.sample_data import Phantom, phantom_steps
from dinsegment_slicer.scene.sequences import show_cine

POLL_S = 0.02
"""Seconds between two looks at what is being generated."""

_running: list[Phantom] = []
"""What is being generated: while the window answers, the user may click once more."""


def load_phantom(phantom: Phantom) -> slicer.vtkMRMLNode:
    """Generates a sample, adds it to the scene and shows it; returns when it is there. The window stays live meanwhile.

    Returns:
        The volume, or the sequence: what the panel takes as input.

    Raises:
        InputError: Another one is being generated.
        WorkerError: The process that generates could not be started, or broke.
        Cancelled: The user cancelled, closed the scene, or is leaving the application.
    """
    if _running:
        raise InputError(_("'{name}' is being generated: wait for it, or cancel it.").format(name=_running[0].sample))
    _running.append(phantom)
    try:
        node = _generate(phantom)
        slicer.app.processEvents()  # Adding and showing it take a moment each.
        if node.GetScene() is None:
            raise Cancelled
        show(node)
    finally:
        _running.clear()
    return node


def show(node: slicer.vtkMRMLNode) -> None:
    """Shows a sample in the slice views, and the tool bar that plays it."""
    if node.IsA("vtkMRMLSequenceNode"):
        show_cine(node)
    else:
        slicer.util.setSliceViewerLayers(background=node, fit=True, rotateToVolumePlane=True)


def _generate(phantom: Phantom) -> slicer.vtkMRMLNode:
    steps = phantom_steps(phantom, slicer.mrmlScene)
    progress = slicer.util.createProgressDialog(
        maximum=phantom.images,
        labelText=_("Generating '{name}'...").format(name=phantom.sample),
        windowTitle=_("DINSegment"),
        autoClose=False,
        autoReset=False,
    )
    try:
        while not progress.wasCanceled:  # So it is also when the application closes its windows.
            progress.value = next(steps)
            slicer.app.processEvents()
            time.sleep(POLL_S)
        raise Cancelled
    except StopIteration as end:
        return end.value
    finally:
        steps.close()
        progress.close()
        progress.deleteLater()
