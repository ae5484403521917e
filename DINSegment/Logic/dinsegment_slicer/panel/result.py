"""The nodes that belong to a result, as the parameter node knows them, and what is measured of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import slicer
import vtk

from dinsegment.errors import InputError
from dinsegment.images.segmentation import OTHER_IMAGE
from dinsegment.measurements.function import CardiacFunction, outliers
from dinsegment.measurements.infarct import Damage
from dinsegment.quality.beat import outlier_topic
from dinsegment.tasks import TASKS, Task
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.logic import Output, Result
from dinsegment_slicer.panel.overlays import Overlays
from dinsegment_slicer.running.segment_part import JobImage
from dinsegment_slicer.scene.browsers import browser_of, proxy_of, select_phase, selected_phase
from dinsegment_slicer.scene.changes import remove_node
from dinsegment_slicer.scene.corrections import Phase
from dinsegment_slicer.scene.findings import NotedFinding, findings_of, show_segment
from dinsegment_slicer.scene.measure import MeasuredSegment, beat_of, damage_of, measure_phases, why_no_damage
from dinsegment_slicer.scene.nodes import (
    checked_volume,
    image_of,
    original_of,
    parent_to_world,
    plain_enhanced_node,
    voxel_ml,
)
from dinsegment_slicer.scene.plots import update_volume_plot
from dinsegment_slicer.scene.preview import EnhancedImage
from dinsegment_slicer.scene.reading import AS_ACQUIRED, Reading, reading_of, reading_of_task
from dinsegment_slicer.scene.sample_intervals import SampleIntervals, sample_intervals
from dinsegment_slicer.scene.sample_notes import SampleNotes, sample_notes
from dinsegment_slicer.scene.sequences import phase_images, phases, sequence_of, times_ms
from dinsegment_slicer.scene.tables import update_measurement_table

if TYPE_CHECKING:  # The application alone has what it is made of.
    from dinsegment_slicer.panel.parameters import DINSegmentParameters

SEGMENTATION_EVENTS = (
    slicer.vtkSegmentation.SegmentAdded,
    slicer.vtkSegmentation.SegmentRemoved,
    slicer.vtkSegmentation.SegmentModified,
    slicer.vtkSegmentation.SourceRepresentationModified,
    slicer.vtkMRMLSegmentationNode.SegmentationChangedEvent,
)
"""What a correction in the Segment Editor, or another phase of a sequence, says of itself."""


@dataclass(frozen=True)
class MeasurementView:
    """What the panel shows of a measurement.

    Attributes:
        title: What it is of.
        columns: Segments, in each of the phases that `titles` names.
        heading: Of the segments' names.
        titles: Headings of the columns.
        intervals: Of each column, those of segments by ID, as they stand beside a number.
    """

    title: str
    columns: Sequence[Sequence[MeasuredSegment]]
    heading: str
    titles: Sequence[str]
    intervals: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True)
class Measurement:
    """What was measured of a result.

    Attributes:
        name: What it is of.
        phases: Segments of each phase.
        function: Of the left ventricle; None for a single phase, and where `no_function` says why.
        is_sequence: Whether the phases are those of a cine, of which one is in view.
        no_function: Why there is no function, a sentence; empty where there is one, or nobody expects it.
        outliers: What is wrong with phases that do not go with those before and after, by phase from 0.
        intervals: How far numbers can be trusted; None where nobody has asked for samples.
        damage: Of a wall; None for another task, and where `no_function` says why.
    """

    name: str
    phases: Sequence[Sequence[MeasuredSegment]]
    function: CardiacFunction | None
    is_sequence: bool
    no_function: str = ""
    outliers: Mapping[int, str] = field(default_factory=dict)
    intervals: SampleIntervals | None = None
    damage: Damage | None = None

    def view(self, selected: int) -> MeasurementView:
        """What is shown while that phase of a cine, counted from 0, is in view; quick, to follow one that plays."""
        function = self.function
        if self.is_sequence:
            selected = min(selected, len(self.phases) - 1)
            shown, titles = [selected], [_("Phase {number}").format(number=selected + 1)]
            if function is not None:
                shown += [function.end_diastole, function.end_systole]
                titles += [_("ED"), _("ES")]
            title = _("{name}, phase {number} of {count}")
            title = title.format(name=self.name, number=selected + 1, count=len(self.phases))
            columns = [self.phases[n] for n in shown]
            return MeasurementView(title, columns, _("Volume in ml"), titles, self._beside(shown))
        if len(self.phases) == 1:
            return MeasurementView(self.name, self.phases, _("Segment"), [_("Volume in ml")], self._beside([0]))
        if function is not None:
            titles = [_("ED"), _("ES")] if function.end_diastole == 0 else [_("ES"), _("ED")]
        else:
            titles = [_("First"), _("Second")]
        return MeasurementView(self.name, self.phases, _("Volume in ml"), titles, self._beside([0, 1]))

    def _beside(self, shown: Sequence[int]) -> list[dict[str, str]]:
        """Of each of these phases the intervals of its segments."""
        volumes = self.intervals.volumes if self.intervals is not None else {}
        return [{i: one.text for (phase, i), one in volumes.items() if phase == n} for n in shown]


class ResultNodes:
    """A result in the scene: of a volume, of two phases of one heart, or of a sequence.

    Args:
        parameters: The parameter node, whose node references are read and, by what says so, changed.
    """

    def __init__(self, parameters: DINSegmentParameters) -> None:
        self._parameters = parameters

    def segmentations(self) -> list[slicer.vtkMRMLSegmentationNode]:
        """Those in view: one, or one for each of two phases; of a sequence the proxy."""
        nodes = (self._parameters.segmentationNode, self._parameters.secondSegmentationNode)
        return [node for node in nodes if node is not None]

    def allSegmentations(self) -> list[slicer.vtkMRMLSegmentationNode]:
        """Those in view; of a sequence the segmentations of all its phases."""
        sequenceNode = self._parameters.segmentationSequenceNode
        if sequenceNode is None:
            return self.segmentations()
        return [sequenceNode.GetNthDataNode(n) for n in range(sequenceNode.GetNumberOfDataNodes())]

    def phases(self) -> list[Phase]:
        """All phases with their images, as they are corrected together: of a sequence the data nodes.

        Raises:
            InputError: An image is not in the scene any more.
        """
        p = self._parameters
        sequenceNode = p.segmentationSequenceNode
        if sequenceNode is None:
            enhanced = (p.enhancedNode, p.secondEnhancedNode)
            pairs = zip(self.segmentations(), enhanced, strict=False)
            return [Phase(node, *_image(original_of(enhancedNode))) for node, enhancedNode in pairs]
        found = sequence_of(original_of(p.enhancedNode))
        if found is None:
            raise InputError(_("The images of this result are not in the scene any more: segment them again."))
        of_phases = zip(self.allSegmentations(), phases(found[1]), phase_images(found[1]), strict=True)
        return [Phase(*one, sequenceNode) for one in of_phases]

    def segmentationShown(self) -> slicer.vtkMRMLSegmentationNode | None:
        """The one in view, which is what the user corrects."""
        nodes = self.segmentations()
        return nodes[-1 if self._parameters.showSecond else 0] if nodes else None

    def shown(self) -> tuple[slicer.vtkMRMLScalarVolumeNode | None, slicer.vtkMRMLScalarVolumeNode | None]:
        """Original and enhanced image to show side by side; None where there is none."""
        enhancedNode = self._parameters.enhancedNode
        if self._parameters.showSecond and self._parameters.secondEnhancedNode is not None:
            enhancedNode = self._parameters.secondEnhancedNode
        return (original_of(enhancedNode), enhancedNode) if enhancedNode is not None else (None, None)

    def corrected(self) -> list[tuple[slicer.vtkMRMLNode, int]]:
        """Nodes, and their events after which the volumes are to be computed again."""
        return [(node, event) for node in self.segmentations() for event in SEGMENTATION_EVENTS]

    def browsed(self) -> list[tuple[slicer.vtkMRMLNode, int]]:
        """Nodes, and their events after which another phase may be in view."""
        browserNode = self._browser()
        return [(browserNode, vtk.vtkCommand.ModifiedEvent)] if browserNode is not None else []

    def selectedPhase(self) -> int:
        """Which phase of a cine is in view, counted from 0; 0 for any other result."""
        sequenceNode = self._parameters.segmentationSequenceNode
        return selected_phase(sequenceNode) if sequenceNode is not None else 0

    def output(
        self, task: Task, inputNode: slicer.vtkMRMLNode, secondNode: slicer.vtkMRMLScalarVolumeNode | None
    ) -> Output | None:
        """The nodes of this result, if it is of that task and image, so that the next one can go into them."""
        p = self._parameters
        if p.segmentationNode is None or p.task != task.name or p.enhancedNode is None:
            return None
        if p.segmentationSequenceNode is not None:
            if p.enhancedSequenceNode is None or not inputNode.IsA("vtkMRMLSequenceNode"):
                return None
            if original_of(p.enhancedNode) is not proxy_of(inputNode):
                return None
            return Output((), (), p.segmentationSequenceNode, p.enhancedSequenceNode)
        enhanced = (p.enhancedNode, p.secondEnhancedNode) if p.secondSegmentationNode is not None else (p.enhancedNode,)
        originals = [original_of(node) for node in enhanced]
        if originals != [node for node in (inputNode, secondNode) if node is not None]:
            return None
        return Output(tuple(self.segmentations()), enhanced)

    def replaceBy(self, result: Result) -> None:
        """Takes a new result in place of the one before, whose segmentations stay in the scene, hidden.

        Of the same image, the enhanced image, plot and table of before go; those of another image stay.
        """
        p = self._parameters
        for node in self.segmentations():
            if node.GetDisplayNode() is not None and node not in result.segmentationNodes:
                node.GetDisplayNode().SetVisibility(False)
        Overlays(p).remove()
        before = (p.enhancedNode, p.secondEnhancedNode, p.enhancedSequenceNode, p.plotChartNode, p.tableNode)
        same = original_of(p.enhancedNode) is original_of(result.enhancedNode)
        kept = [*result.enhancedNodes, result.sequences.enhancedSequenceNode if result.sequences else None]
        filled = p.segmentationNode in result.segmentationNodes  # Then its plot and table are brought up to date.
        kept += [p.plotChartNode, p.tableNode] if filled else []
        replaced = [node for node in before if same and node not in kept]
        p.task = result.task.name
        p.segmentationNode, p.enhancedNode = result.segmentationNode, result.enhancedNode
        two = len(result.segmentationNodes) == 2
        p.secondSegmentationNode = result.segmentationNodes[1] if two else None
        p.secondEnhancedNode = result.enhancedNodes[1] if two else None
        p.segmentationSequenceNode = result.sequences.segmentationSequenceNode if result.sequences else None
        p.enhancedSequenceNode = result.sequences.enhancedSequenceNode if result.sequences else None
        if not filled:
            p.plotChartNode = p.tableNode = None
        p.showSecond = False
        self._remove(replaced)

    def measure(self) -> Measurement | None:
        """Measures what there is now, and brings plot and table up to date; None without a result.

        Raises:
            InputError: A segment cannot be measured.
        """
        p = self._parameters
        task = TASKS.get(p.task)
        if p.segmentationNode is None or task is None:
            return None
        name, sequenceNode = p.segmentationNode.GetName(), p.segmentationSequenceNode
        if sequenceNode is not None:
            measured = measure_phases(self.allSegmentations(), p.segmentationNode)
        else:
            measured = measure_phases(self.segmentations())
        nodes = self.allSegmentations()
        other_image = any(noted.kind == OTHER_IMAGE for node in nodes for noted in findings_of(node))
        beat = beat_of(task, measured, nodes, other_image)
        function = beat.function if beat else None
        if sequenceNode is not None:
            p.plotChartNode = update_volume_plot(
                self._scene, f"{name} volumes", measured, times_ms(sequenceNode), function, p.plotChartNode
            )
        no_damage = why_no_damage(task, measured, nodes, other_image)
        damage = None if no_damage else damage_of(task, measured[0])
        intervals = sample_intervals(task, measured, nodes, beat, damage, self._voxelMl())
        p.tableNode = update_measurement_table(
            self._scene, f"{name} measurements", measured, function, p.tableNode, intervals, damage
        )
        if beat is None:
            return Measurement(name, measured, None, sequenceNode is not None, no_damage, {}, intervals, damage)
        chamber = next(segment.name for segment in task.segments if segment.label == task.chamber)
        wrong = {n: outlier_topic(chamber, beat.chamber_ml, n) for n in outliers(beat.chamber_ml)}
        return Measurement(name, measured, function, sequenceNode is not None, beat.reason, wrong, intervals)

    def _voxelMl(self) -> float | None:
        """Volume of a voxel of the image in the world; None where that is not known any more."""
        volumeNode = original_of(self._parameters.enhancedNode)
        return voxel_ml(volumeNode) if volumeNode is not None else None

    def hiddenSegments(self) -> set[str]:
        """IDs of the segments in view that the user does not see."""
        segmentationNode = self.segmentationShown()
        displayNode = segmentationNode.GetDisplayNode() if segmentationNode is not None else None
        if displayNode is None:
            return set()
        ids = segmentationNode.GetSegmentation().GetSegmentIDs()
        return {segment_id for segment_id in ids if not displayNode.GetSegmentVisibility(segment_id)}

    def toggleSegment(self, segment_id: str) -> None:
        """Hides a segment, or shows it again; of two phases in both."""
        hidden = segment_id in self.hiddenSegments()
        for segmentationNode in self.segmentations():
            if segmentationNode.GetDisplayNode() is not None:
                segmentationNode.GetDisplayNode().SetSegmentVisibility(segment_id, hidden)

    def middleOfSegment(self, segment_id: str) -> tuple[float, float, float] | None:
        """Where the middle of a segment is (mm RAS), whether or not a transform moves it; None without voxels."""
        segmentationNode = self.segmentationShown()
        if segmentationNode is None or segmentationNode.GetSegmentation().GetSegment(segment_id) is None:
            return None
        middle = segmentationNode.GetSegmentCenterRAS(segment_id)
        return tuple(middle) if middle is not None else None

    def showPhase(self, index: int) -> None:
        """Brings a phase, counted from 0, into view."""
        browserNode = self._browser()
        if browserNode is not None:
            select_phase(browserNode, index)
        else:
            self._parameters.showSecond = index == 1

    def reading(self) -> Reading:
        """How what is shown is looked at: as its task says, or without one as the kind of image says.

        Raises:
            InputError: The image holds no voxels any more, or has a non-linear parent transform.
        """
        p = self._parameters
        task = TASKS.get(p.task) if p.segmentationNode is not None else None
        if task is not None:
            return reading_of_task(task)
        volumeNode, _enhancedNode = self.shown()
        return reading_of(volumeNode) if volumeNode is not None else AS_ACQUIRED

    def findings(self, measurement: Measurement | None = None) -> list[NotedFinding]:
        """What looks wrong with the segmentation in view.

        That is what the run said that made it, and, of a cine, whether what was measured since goes with the phases
        before and after. What is about the whole comes first, then that of which a correction would change most: by the
        samples where there are any.
        """
        found, notes = self._findings(measurement), self._notesShown()
        doubtful = notes.doubtful_ml if notes is not None else {}  # What samples say goes before.
        ml = {finding: doubtful.get(finding.text, finding.ml) for finding in found}
        return sorted(found, key=lambda f: (f.ml > 0 or f.text in doubtful, -ml[f]))

    def _notesShown(self) -> SampleNotes | None:
        """What samples have told of the segmentation in view."""
        sequenceNode = self._parameters.segmentationSequenceNode
        if sequenceNode is None:
            return sample_notes(self.segmentationShown())
        return sample_notes(sequenceNode.GetNthDataNode(self.selectedPhase()))

    def _findings(self, measurement: Measurement | None) -> list[NotedFinding]:
        sequenceNode = self._parameters.segmentationSequenceNode
        if sequenceNode is None:
            return findings_of(self.segmentationShown())
        phase = self.selectedPhase()
        found = findings_of(sequenceNode.GetNthDataNode(phase))
        if measurement is not None and phase in measurement.outliers:
            short = _("Left ventricle: unlike before and after")
            text = _("{topic} in phase {number}.").format(topic=measurement.outliers[phase], number=phase + 1)
            found.append(NotedFinding(text, short=short, kind="outlier"))
        return found

    def showFinding(self, finding: NotedFinding) -> tuple[float, float, float] | None:
        """Makes the segment visible that a finding is about.

        Returns:
            Where to look (mm RAS); None if it has no place.

        Raises:
            InputError: The segmentation lies under a non-linear transform.
        """
        segmentationNode = self.segmentationShown()
        if segmentationNode is None:
            return None
        show_segment(segmentationNode, finding.segment)
        return finding.place(parent_to_world(segmentationNode))

    def enhancedImages(self) -> list[EnhancedImage]:
        """All enhanced images, the one in view first."""
        p = self._parameters
        if p.enhancedNode is None:
            return []
        if p.enhancedSequenceNode is not None:
            return self._enhancedPhases()
        nodes = [p.enhancedNode, *([p.secondEnhancedNode] if p.secondEnhancedNode is not None else [])]
        reading = self.reading()
        images = [
            EnhancedImage(original_of(node), node, reading=reading) for node in nodes if original_of(node) is not None
        ]
        return images[::-1] if p.showSecond else images

    def addEnhanced(self) -> None:
        """Adds an enhanced image of the chosen input, still a copy of it, unless there is one already.

        Raises:
            InputError: Nothing that can be enhanced is chosen.
        """
        p = self._parameters
        volumeNode = p.inputNode
        if volumeNode is not None and volumeNode.IsA("vtkMRMLSequenceNode"):
            volumeNode = proxy_of(volumeNode)
            if volumeNode is None:
                raise InputError(
                    _("The sequence '{name}' is not in view: show it first (module Sequences).").format(
                        name=p.inputNode.GetName()
                    )
                )
        if volumeNode is not None and volumeNode is original_of(p.enhancedNode):
            return
        enhancedNode = plain_enhanced_node(checked_volume(volumeNode), reading_of(volumeNode).window)
        # The enhanced image alone makes room; one that belongs to a result stays with it in the scene.
        replaced = () if p.segmentationNode is not None else (p.enhancedNode,)
        Overlays(p).remove()
        p.segmentationNode = p.secondSegmentationNode = p.secondEnhancedNode = None
        p.segmentationSequenceNode = p.enhancedSequenceNode = p.plotChartNode = p.tableNode = None
        p.showSecond = False
        p.enhancedNode = enhancedNode
        self._remove(replaced)

    def _enhancedPhases(self) -> list[EnhancedImage]:
        p = self._parameters
        found = sequence_of(original_of(p.enhancedNode))
        browserNode = self._browser()
        if found is None or browserNode is None:
            return []
        sequenceNode, enhancedSequence = found[1], p.enhancedSequenceNode
        nodes = [enhancedSequence.GetNthDataNode(n) for n in range(enhancedSequence.GetNumberOfDataNodes())]
        reading = self.reading()
        images = [
            EnhancedImage(volumeNode, node, p.enhancedNode, reading)
            for volumeNode, node in zip(phases(sequenceNode), nodes, strict=True)
        ]
        selected = self.selectedPhase()
        return images[selected:] + images[:selected]

    def _browser(self) -> slicer.vtkMRMLSequenceBrowserNode | None:
        sequenceNode = self._parameters.segmentationSequenceNode
        return browser_of(sequenceNode) if sequenceNode is not None else None

    @property
    def _scene(self) -> slicer.vtkMRMLScene:
        return self._parameters.parameterNode.GetScene()

    def _remove(self, nodes: Sequence[slicer.vtkMRMLNode | None]) -> None:
        for node in nodes:
            if node is not None and node.GetScene() is not None:
                remove_node(node)


def _image(volumeNode: slicer.vtkMRMLScalarVolumeNode | None) -> tuple[slicer.vtkMRMLScalarVolumeNode, JobImage]:
    if volumeNode is None:
        raise InputError(_("The images of this result are not in the scene any more: segment them again."))
    return volumeNode, image_of(volumeNode)
