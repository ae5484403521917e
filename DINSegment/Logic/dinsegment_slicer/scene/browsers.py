"""Sequence browsers: which one shows a sequence, which phase of it, and how a sequence joins one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import slicer

from dinsegment_slicer.scene.changes import unique_name


def browser_of(sequenceNode: slicer.vtkMRMLSequenceNode) -> slicer.vtkMRMLSequenceBrowserNode | None:
    """The browser that shows a sequence: of several the one whose master it is, else the first; None for none."""
    browserNodes = [b for b in browsers(sequenceNode.GetScene()) if b.IsSynchronizedSequenceNode(sequenceNode, True)]
    masters = [b for b in browserNodes if b.GetMasterSequenceNode() is sequenceNode]
    return next(iter(masters + browserNodes), None)


def proxy_of(sequenceNode: slicer.vtkMRMLSequenceNode) -> slicer.vtkMRMLDisplayableNode | None:
    """The node that shows the selected phase of a sequence; None where it is not in view."""
    browserNode = browser_of(sequenceNode)
    return browserNode.GetProxyNode(sequenceNode) if browserNode is not None else None


def selected_phase(sequenceNode: slicer.vtkMRMLSequenceNode) -> int:
    """The phase of a sequence that its browser shows, counted from 0; the first one where none is selected."""
    browserNode = browser_of(sequenceNode)
    return phase_in(browserNode, sequenceNode) if browserNode is not None else 0


def select_phase(browserNode: slicer.vtkMRMLSequenceBrowserNode, index: int) -> None:
    """Shows a phase, counted from 0: the scene's Sequences logic then brings all proxies of the browser to it.

    Raises:
        IndexError: There is no such phase.
    """
    if not 0 <= index < browserNode.GetNumberOfItems():
        raise IndexError(f"'{browserNode.GetName()}' has {browserNode.GetNumberOfItems()} phases, none is {index}.")
    browserNode.SetSelectedItemNumber(index)


def phase_in(browserNode: slicer.vtkMRMLSequenceBrowserNode, sequenceNode: slicer.vtkMRMLSequenceNode) -> int:
    """The phase of a sequence, counted from 0, that goes with what a browser shows; the first one where none does."""
    if not has_selection(browserNode):
        return 0
    value = browserNode.GetMasterSequenceNode().GetNthIndexValue(browserNode.GetSelectedItemNumber())
    return max(0, sequenceNode.GetItemNumberFromIndexValue(value, False))


def has_selection(browserNode: slicer.vtkMRMLSequenceBrowserNode) -> bool:
    """Whether a browser shows a phase: one to which a sequence was just added does not, nor does an empty one."""
    return 0 <= browserNode.GetSelectedItemNumber() < browserNode.GetNumberOfItems()


def new_browser(sequenceNode: slicer.vtkMRMLSequenceNode) -> slicer.vtkMRMLSequenceBrowserNode:
    """A browser in the scene of a sequence, which it does not show yet."""
    scene = sequenceNode.GetScene()
    # Not by class name, which only the Sequences module makes known to the scene.
    node = slicer.vtkMRMLSequenceBrowserNode()
    node.SetName(unique_name(scene, f"{sequenceNode.GetName()} browser"))
    return scene.AddNode(node)


def join(
    browserNode: slicer.vtkMRMLSequenceBrowserNode,
    sequenceNode: slicer.vtkMRMLSequenceNode,
    node: slicer.vtkMRMLDisplayableNode,
    *,
    saveChanges: bool,
) -> None:
    """Makes `node` show the selected phase of `sequenceNode`, which joins the browser.

    Args:
        browserNode: Has a master sequence.
        sequenceNode: Its data nodes are shown.
        node: In the scene.
        saveChanges: Whether what the user changes is kept, which makes the proxy share its content with the phase.
    """
    browserNode.AddSynchronizedSequenceNodeID(sequenceNode.GetID())
    browserNode.SetSaveChanges(sequenceNode, saveChanges)
    node.CopyContent(sequenceNode.GetNthDataNode(phase_in(browserNode, sequenceNode)), not saveChanges)
    node.AddDefaultStorageNode()
    browserNode.AddProxyNode(node, sequenceNode, False)


@contextmanager
def browser_restored_on_error(browserNode: slicer.vtkMRMLSequenceBrowserNode) -> Iterator[None]:
    """Makes the browser forget what joined it inside the block if the block raises; the error goes on.

    The nodes themselves are for the caller to remove.
    """
    before = slicer.vtkMRMLSequenceBrowserNode()
    before.CopyContent(browserNode)
    try:
        yield
    except BaseException:
        browserNode.CopyContent(before)
        raise


def browsers(scene: slicer.vtkMRMLScene | None) -> list[slicer.vtkMRMLSequenceBrowserNode]:
    """All browsers in a scene, in its order; none where there is no scene."""
    if scene is None:
        return []
    count = scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode")
    return [scene.GetNthNodeByClass(n, "vtkMRMLSequenceBrowserNode") for n in range(count)]
