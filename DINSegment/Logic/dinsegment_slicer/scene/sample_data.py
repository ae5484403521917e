"""Generated images as sample data: a heart at one phase as a volume, its whole beat as a sequence, and an abdomen.

`phantom_steps` generates them in a process of its own, which needs nothing that a fresh Slicer lacks.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from dinsegment.errors import Cancelled, WorkerError
from dinsegment_slicer.i18n import tr as _
from dinsegment_slicer.running.interpreter import python_executable
from dinsegment_slicer.running.process import WorkerProcess
from dinsegment_slicer.scene.browsers import browser_of, proxy_of
from dinsegment_slicer.scene.nodes import MODALITY_ATTRIBUTE

if TYPE_CHECKING:  # They import SciPy, which takes long.
    from dinsegment.images.volume import Volume

logger = logging.getLogger(__name__)

PHANTOMS = Path(__file__).parents[3] / "Resources" / "phantoms.json"

PhantomSteps = Generator[int, None, slicer.vtkMRMLNode]
"""Yields the number of images that are there; returns the volume, or the sequence."""


@dataclass(frozen=True)
class Phantom:
    """A sample, as phantoms.json has it.

    Attributes:
        name: Of the node, and of the thumbnail.
        sample: What Sample Data calls it.
        task: Name of the task that segments it. The first phantom of a task is the one that shows most of it.
        generator: As `dinsegment.phantom.writer` has them.
        images: How many.
        beat_ms: The time that they are spread over, in a sequence; None for a volume.
        options: Of the generator.
    """

    name: str
    sample: str
    task: str
    generator: str
    images: int
    beat_ms: float | None
    options: dict[str, Any]

    @property
    def times(self) -> list[str]:
        """Index values of the sequence."""
        return [f"{number * (self.beat_ms or 0) / self.images:g}" for number in range(self.images)]


@cache
def phantoms() -> tuple[Phantom, ...]:
    """All samples that are generated."""
    return tuple(Phantom(**entry) for entry in json.loads(PHANTOMS.read_text(encoding="utf-8")))


def phantom_of(task: str) -> Phantom | None:
    """The sample of a task; None where it has none."""
    return next((phantom for phantom in phantoms() if phantom.task == task), None)


def phantom_steps(phantom: Phantom, scene: slicer.vtkMRMLScene) -> PhantomSteps:
    """Generates a sample and adds it to the scene in the last step; to be gone on with about every 50 ms.

    Given up before its end, it ends the process and leaves nothing.

    Raises:
        WorkerError: The process could not be started, or failed.
        Cancelled: The scene was closed meanwhile.
    """
    node = slicer.vtkMRMLSequenceNode() if phantom.beat_ms is not None else slicer.vtkMRMLScalarVolumeNode()
    times = phantom.times
    done = 0
    with _closing_of(scene) as closed:
        for image in _images(phantom):
            if closed:
                raise Cancelled
            if image is not None:
                if phantom.beat_ms is None:
                    _fill(node, *image)
                else:
                    _add_phase(node, phantom.name, times[done], *image)
                done += 1
            yield done
    _add(node, phantom.name, scene)
    return node


def volume_of(node: slicer.vtkMRMLNode) -> slicer.vtkMRMLScalarVolumeNode:
    """What slice views show of a sample in the scene."""
    return proxy_of(node) if node.IsA("vtkMRMLSequenceNode") else node


# In this process, which takes up to five seconds: for scripts and tests.


def add_heart_phantom(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLScalarVolumeNode:
    """The heart at end diastole, generated at once. Equal voxels each time."""
    from dinsegment.phantom.heart import heart_phantom

    return _added_volume(_phantom("HeartPhantom"), heart_phantom(**_phantom("HeartPhantom").options).volume, scene)


def heart_truth() -> np.ndarray:
    """What `add_heart_phantom` shows: (k, j, i), uint8, with the labels of the task heart."""
    from dinsegment.phantom.heart import heart_phantom

    return heart_phantom(**_phantom("HeartPhantom").options).labels


def add_abdomen_phantom(scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLScalarVolumeNode:
    """The CT, generated at once. Equal voxels each time."""
    from dinsegment.phantom.ct import abdomen_phantom

    phantom = _phantom("AbdomenPhantom")
    return _added_volume(phantom, abdomen_phantom(**phantom.options).volume, scene)


def add_cine_phantom(scene: slicer.vtkMRMLScene, phases: int | None = None) -> slicer.vtkMRMLSequenceBrowserNode:
    """A beat of the same heart, generated at once: a sequence of volumes over milliseconds.

    Returns:
        The browser; `GetProxyNode(GetMasterSequenceNode())` is the volume that shows the selected phase, made by
        Slicer's Sequences logic.
    """
    from dinsegment.phantom.heart import cine_phantom

    phantom = _phantom("CineHeartPhantom")
    node = slicer.vtkMRMLSequenceNode()
    made = cine_phantom(phases or phantom.images, **phantom.options)
    for number, phase in enumerate(made):
        time = f"{number * phantom.beat_ms / len(made):g}"
        _add_phase(node, phantom.name, time, phase.volume.array, phase.volume.ijk_to_ras, phase.volume.modality)
    _add(node, phantom.name, scene)
    return browser_of(node)


def _phantom(name: str) -> Phantom:
    return next(phantom for phantom in phantoms() if phantom.name == name)


def _added_volume(phantom: Phantom, volume: Volume, scene: slicer.vtkMRMLScene) -> slicer.vtkMRMLScalarVolumeNode:
    node = slicer.vtkMRMLScalarVolumeNode()
    _fill(node, volume.array, volume.ijk_to_ras, volume.modality)
    _add(node, phantom.name, scene)
    return node


Image = tuple[np.ndarray, np.ndarray, "str | None"]
"""Voxels (k, j, i), IJK-to-RAS, and modality."""


def _images(phantom: Phantom) -> Iterator[Image | None]:
    """The images as the process writes them; None while there is nothing new."""
    process = WorkerProcess((python_executable(), "-m", "dinsegment.phantom.writer"), {})
    try:
        process.send(
            {
                "folder": str(process.folder),
                "generator": phantom.generator,
                "images": phantom.images,
                "options": phantom.options,
            }
        )
        done = 0
        while done < phantom.images:
            yield None
            for event in process.events():
                done += 1
                yield np.load(event["path"]), np.asarray(event["ijk_to_ras"]), event["modality"]
            if done < phantom.images and process.exit_code is not None:
                raise _failed(phantom, process)
        while process.running:  # It ends by itself; to end it would be to wait for it.
            yield None
    finally:
        process.close()


def _failed(phantom: Phantom, process: WorkerProcess) -> WorkerError:
    said = process.said()
    logger.error("The process that generates sample data ended with exit code %s.\n%s", process.exit_code, said)
    last = said.splitlines()[-1].strip() if said else _("exit code {code}").format(code=process.exit_code)
    return WorkerError(
        _("'{name}' could not be generated ({reason}): try again; the error log has the details.").format(
            name=phantom.sample, reason=last
        )
    )


@contextmanager
def _closing_of(scene: slicer.vtkMRMLScene) -> Iterator[list[bool]]:
    """A list that has an entry once the scene was closed."""
    closed: list[bool] = []
    tag = scene.AddObserver(scene.StartCloseEvent, lambda _caller, _event: closed.append(True))
    try:
        yield closed
    finally:
        scene.RemoveObserver(tag)


def _add(node: slicer.vtkMRMLNode, name: str, scene: slicer.vtkMRMLScene) -> None:
    node.SetName(scene.GenerateUniqueName(name))
    scene.AddNode(node)
    if node.IsA("vtkMRMLVolumeNode"):
        node.CreateDefaultDisplayNodes()
        return
    browserNode = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{node.GetName()} browser")
    browserNode.SetAndObserveMasterSequenceNodeID(node.GetID())


def _add_phase(
    sequenceNode: slicer.vtkMRMLSequenceNode,
    name: str,
    time: str,
    array: np.ndarray,
    ijk_to_ras: np.ndarray,
    modality: str | None,
) -> None:
    if not sequenceNode.GetNumberOfDataNodes():
        sequenceNode.SetIndexName("time")
        sequenceNode.SetIndexUnit("ms")
    node = slicer.vtkMRMLScalarVolumeNode()  # The sequence takes a copy, into a scene of its own.
    node.SetName(name)
    _fill(node, array, ijk_to_ras, modality)
    sequenceNode.SetDataNodeAtValue(node, time)


def _fill(
    node: slicer.vtkMRMLScalarVolumeNode, array: np.ndarray, ijk_to_ras: np.ndarray, modality: str | None
) -> None:
    # Whole numbers, in the type that scanners use.
    slicer.util.updateVolumeFromArray(node, np.asarray(array, np.int16))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras))
    node.SetAttribute(MODALITY_ATTRIBUTE, modality)
