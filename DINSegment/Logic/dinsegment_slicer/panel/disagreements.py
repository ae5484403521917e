"""The volumes that show where samples of a result differ, as the parameter node knows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import slicer

from dinsegment_slicer.scene.changes import remove_node
from dinsegment_slicer.scene.disagreement import add_disagreement, hide_disagreement, phase_of, show_disagreement
from dinsegment_slicer.scene.nodes import original_of

if TYPE_CHECKING:  # The application alone has what it is made of.
    from dinsegment_slicer.panel.parameters import DINSegmentParameters


class Disagreements:
    """One for each phase that was asked about, two at the most.

    Args:
        parameters: The parameter node.
    """

    def __init__(self, parameters: DINSegmentParameters) -> None:
        self._parameters = parameters

    def nodes(self) -> list[slicer.vtkMRMLScalarVolumeNode]:
        """Those that there are."""
        p = self._parameters
        return [node for node in (p.disagreementNode, p.secondDisagreementNode) if node is not None]

    def add(self, found: Mapping[int, np.ndarray]) -> None:
        """Adds them in place of those before.

        Args:
            found: By phase, from 0, the probability of another label, (k, j, i) float32.
        """
        p = self._parameters
        self.remove()
        enhanced = (p.enhancedNode, p.secondEnhancedNode)
        originals = {n: original_of(enhanced[0 if p.segmentationSequenceNode is not None else n]) for n in found}
        nodes = [add_disagreement(found[n], n, originals[n]) for n in sorted(found) if originals[n] is not None]
        p.disagreementNode, p.secondDisagreementNode = [*nodes, None, None][:2]

    def remove(self) -> None:
        """Takes them away; views get back what they had in front."""
        p, nodes = self._parameters, self.nodes()
        hide_disagreement(p.parameterNode.GetScene())
        if nodes:
            p.disagreementNode = p.secondDisagreementNode = None
        for node in nodes:
            if node.GetScene() is not None:
                remove_node(node)

    def show(self, phase: int) -> None:
        """Lays that of a phase, from 0, over the image if the user wants it; else views get back what was in front."""
        p = self._parameters
        shown = next((node for node in self.nodes() if phase_of(node) == phase), None)
        if shown is None or not p.showDisagreement:
            hide_disagreement(p.parameterNode.GetScene())
            return
        enhancedNode = p.secondEnhancedNode if p.showSecond and p.secondEnhancedNode is not None else p.enhancedNode
        show_disagreement(shown, (original_of(enhancedNode), enhancedNode), p.disagreementOpacity)
