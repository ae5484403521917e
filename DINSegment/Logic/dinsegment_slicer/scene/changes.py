"""What every change of a MRML scene needs: all or nothing, and a place in the subject hierarchy."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import slicer

Made = TypeVar("Made")
Steps = Generator[None, None, Made]
"""A generator that does something bit by bit, so that the window answers meanwhile, and returns what it made."""


def made(steps: Steps[Made]) -> Made:
    """What the steps make, all of them at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@contextmanager
def restored_on_error(scene: slicer.vtkMRMLScene) -> Iterator[None]:
    """Removes every node that was added to `scene` inside the block if the block raises; the error goes on.

    The block must not let the event loop run: what the user adds meanwhile would be taken for its own.
    """
    before = set(_node_ids(scene))
    try:
        yield
    except BaseException:
        # Latest first: display, storage and colour nodes go after what refers to them.
        for node_id in reversed(_node_ids(scene)):
            if node_id not in before:
                node = scene.GetNodeByID(node_id)
                if node is not None:  # Else it went together with another.
                    remove_node(node)
        raise


def all_or_nothing(scene: slicer.vtkMRMLScene, steps: Steps[Made]) -> Steps[Made]:
    """Runs steps that add nodes to `scene`; takes those nodes away if the steps fail or are given up before the end.

    Nodes that come between two steps are the user's, and stay.
    """
    added: list[slicer.vtkMRMLNode] = []
    try:
        while True:
            # The nodes themselves: when the scene is closed between two steps, others get their IDs.
            before = set(_node_ids(scene))
            try:
                next(steps)
            except StopIteration as end:
                return end.value
            finally:
                added += [scene.GetNodeByID(node_id) for node_id in _node_ids(scene) if node_id not in before]
            yield
    except BaseException:
        steps.close()
        # Latest first: display, storage and colour nodes go after what refers to them.
        for node in reversed(added):
            if node.GetScene() is scene:  # Else it went together with another.
                remove_node(node)
        raise


def new_node(
    scene: slicer.vtkMRMLScene, className: str, name: str, attributes: Mapping[str, str] | None = None
) -> slicer.vtkMRMLNode:
    """A node that is still in no scene, with the defaults that the user set for its class in this one.

    Attributes that it gets here are there when the scene tells of it, so that selectors see what it is.
    """
    node = scene.CreateNodeByClass(className)
    node.UnRegister(None)  # Python has a reference of its own.
    node.SetName(name)
    for attribute, value in (attributes or {}).items():
        node.SetAttribute(attribute, value)
    return node


def unique_name(scene: slicer.vtkMRMLScene, name: str) -> str:
    """`name`, or "name (2)", "name (3)" and so on: the first that no node of the scene has."""
    names = (name, *(f"{name} ({number})" for number in range(2, scene.GetNumberOfNodes() + 3)))
    return next(n for n in names if scene.GetFirstNodeByName(n) is None)


def subject_hierarchy(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLSubjectHierarchyNode | None:
    """The scene's subject hierarchy; None where it has none, as outside the application."""
    # GetSubjectHierarchyNode makes one where it is missing, and reading an image must not change the scene.
    if scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode") is None:
        return None
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


def place_beside(node: slicer.vtkMRMLNode, neighbour: slicer.vtkMRMLNode) -> None:
    """Puts `node` under the parent that `neighbour` has in the subject hierarchy: its study, or the scene."""
    hierarchy = subject_hierarchy(node.GetScene())
    if hierarchy is None:
        return
    neighbour_item = hierarchy.GetItemByDataNode(neighbour)
    parent = hierarchy.GetItemParent(neighbour_item) if neighbour_item else hierarchy.GetSceneItemID()
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.SetItemParent(item, parent)
    else:  # Only the application makes an item of each new node by itself.
        hierarchy.CreateItem(parent, node)


def _node_ids(scene: slicer.vtkMRMLScene) -> list[str]:
    """IDs of all nodes, in the order in which they were added."""
    return [scene.GetNthNode(index).GetID() for index in range(scene.GetNumberOfNodes())]


def remove_node(node: slicer.vtkMRMLNode) -> None:
    """Takes a node, and its item in the subject hierarchy, out of its scene."""
    scene = node.GetScene()
    hierarchy = subject_hierarchy(scene)
    item = hierarchy.GetItemByDataNode(node) if hierarchy else 0
    if item:
        hierarchy.RemoveItem(item, False, False)  # Neither its node nor children: as the application does it.
    scene.RemoveNode(node)
