"""The volumes that lie over images of a result, as the parameter node knows them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np
import slicer

from dinsegment_slicer.scene.changes import remove_node
from dinsegment_slicer.scene.nodes import original_of
from dinsegment_slicer.scene.overlay import (
    DISAGREEMENT,
    UNEXPECTED,
    Overlay,
    add_overlay,
    hide_overlay,
    phase_of,
    show_overlay,
)

if TYPE_CHECKING:  # The application alone has what it is made of.
    from dinsegment_slicer.panel.parameters import DINSegmentParameters

NODES = {
    DISAGREEMENT: ("disagreementNode", "secondDisagreementNode"),
    UNEXPECTED: ("unexpectedNode", "secondUnexpectedNode"),
}
"""Attributes of the parameter node that have them: of each kind two at the most, one for each phase that was asked
about."""

SHOWN = {DISAGREEMENT: "showDisagreement", UNEXPECTED: "showUnexpected"}
"""Attributes that say whether they lie over the image; of two that do, the first."""


class Overlays:
    """Where samples differ, and what was not expected.

    Args:
        parameters: The parameter node.
    """

    def __init__(self, parameters: DINSegmentParameters) -> None:
        self._parameters = parameters

    def nodes(self, kind: Overlay) -> list[slicer.vtkMRMLScalarVolumeNode]:
        """Those that there are."""
        found = (getattr(self._parameters, name) for name in NODES[kind])
        return [node for node in found if node is not None]

    def add(self, kind: Overlay, found: Mapping[int, np.ndarray]) -> None:
        """Adds them in place of those of their kind before, and lets the user see them.

        Args:
            kind: What they show.
            found: By phase, from 0, as `add_overlay` takes it.
        """
        p = self._parameters
        self._remove([kind])
        enhanced = (p.enhancedNode, p.secondEnhancedNode)
        originals = {n: original_of(enhanced[0 if p.segmentationSequenceNode is not None else n]) for n in found}
        nodes = [add_overlay(kind, found[n], n, originals[n]) for n in sorted(found) if originals[n] is not None]
        for name, node in zip(NODES[kind], [*nodes, None, None], strict=False):
            setattr(p, name, node)
        setattr(p, SHOWN[kind], True)
        self.only(kind)

    def only(self, kind: Overlay) -> None:
        """Lets none of another kind lie over the image: a view has room for one."""
        for other, name in SHOWN.items():
            if other is not kind and getattr(self._parameters, name):
                setattr(self._parameters, name, False)

    def remove(self) -> None:
        """Takes them away; views get back what they had in front."""
        self._remove(NODES)

    def _remove(self, kinds: Collection[Overlay]) -> None:
        p, nodes = self._parameters, [node for kind in kinds for node in self.nodes(kind)]
        hide_overlay(p.parameterNode.GetScene())
        for kind in kinds:
            for name in NODES[kind]:
                if getattr(p, name) is not None:
                    setattr(p, name, None)
        for node in nodes:
            if node.GetScene() is not None:
                remove_node(node)

    def show(self, phase: int) -> None:
        """Lays that of a phase, from 0, over the image if the user wants it; else views get back what was in front."""
        p = self._parameters
        wanted = (node for kind, name in SHOWN.items() if getattr(p, name) for node in self.nodes(kind))
        shown = next((node for node in wanted if phase_of(node) == phase), None)
        if shown is None:
            hide_overlay(p.parameterNode.GetScene())
            return
        enhancedNode = p.secondEnhancedNode if p.showSecond and p.secondEnhancedNode is not None else p.enhancedNode
        show_overlay(shown, (original_of(enhancedNode), enhancedNode), p.disagreementOpacity)
