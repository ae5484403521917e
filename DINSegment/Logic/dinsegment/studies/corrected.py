"""A study whose segmentation somebody has corrected: the other slices follow, and the results are written again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dinsegment.errors import InputError
from dinsegment.studies.study import Study, StudyResult, compute_study, load_study, write_study
from dinsegment.tasks import Task

if TYPE_CHECKING:
    from dinsegment.correction.reading import Corrected
    from dinsegment.images.segmentation import Segmentation
    from dinsegment.images.volume import Volume
    from dinsegment.inference.model import Model
    from dinsegment.progress import Progress

FILE = "segmentation.seg.nrrd"
"""Of the results of a phase."""


@dataclass(frozen=True)
class CorrectedStudy:
    """What was corrected, and the folder that the results go to.

    Attributes:
        inputs: The image, or a file for each phase.
        segmentations: What was corrected: a file for each phase, a 4D labelmap, or one folder with results.
        folder: Gets the results.
        slices: Corrected slices, counted from 1 with commas between them, one text a phase; empty to find them.
        series_uid: As `Study` has it.
        overwrite: As `Study` has it.
    """

    inputs: tuple[Path, ...]
    segmentations: tuple[Path, ...]
    folder: Path
    slices: tuple[str, ...] = ()
    series_uid: str | None = None
    overwrite: bool = False


def correct_study(
    what: CorrectedStudy,
    task: Task,
    model: Model | str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[StudyResult, list[str]]:
    """Learns from corrected slices, predicts the others again and writes the results.

    Returns:
        What became of it, and sentences for the user: how the corrected slices were found, and what was done.

    Raises:
        InputError: Nothing was corrected, or a file cannot be used.
        OutputError: As `results.write_results`.
    """
    from dinsegment.correction.pipeline import correct
    from dinsegment.measurements.function import beat_of, outliers
    from dinsegment.quality.beat import with_outliers
    from dinsegment.quality.gather import with_check
    from dinsegment.studies.results import check_results

    started = time.perf_counter()
    first, *others = what.inputs
    study = Study(first, what.folder, what.series_uid, what.overwrite, tuple(others))
    phases = load_study(study, task, of_correction=True)
    paths = corrected_files(what.segmentations, len(phases))
    for path in paths:
        check_results(phases, what.folder, path, what.overwrite, of_correction=True)
    corrected = _read(paths, phases, task)
    paths = paths if len(paths) == len(phases) else paths * len(phases)
    if not any(one.labels.any() for one in corrected):
        raise InputError(f"Nothing is segmented in '{what.segmentations[0]}': give the corrected segmentation.")
    images = _of_other_images(paths, corrected, phases)
    named = _named(what.slices, phases, task)

    def part(first: float, last: float) -> Progress | None:
        return progress and (lambda done, text: progress(first + (last - first) * done, text))

    network = compute_study(phases, task, model, device, part(0.0, 0.5), cancelled)
    slices, said = _slices(named, corrected, network, task)
    said += images
    said += dict.fromkeys(remark for one in corrected for remark in one.remarks)
    labels = [one.labels for one in corrected]
    result = correct(phases, labels, slices, task, model, device, part(0.5, 0.95), cancelled)
    if before := sorted({name for one in corrected for name in one.models} - {result.model}):
        said.append(
            f"The segments were made by '{before[0]}', and the other slices are now predicted by '{result.model}': "
            "give --model to go on with the former."
        )
    made = [
        replace(
            segmentation,
            labels=new,
            made=segmentation.labels,
            corrected=seen,
            findings=found,
            first=to_correct,
            warnings=(*with_check(found), *_kept(segmentation), *result.warnings),
        )
        for segmentation, new, seen, found, to_correct in zip(
            network, result.labels, result.seen, result.findings, result.first, strict=True
        )
    ]
    beat = beat_of(made)
    if beat is not None:
        made = with_outliers(made, beat.chamber_ml, outliers(beat.chamber_ml))
    return write_study(study, made, time.perf_counter() - started), [*said, result.text]


def _kept(segmentation: Segmentation) -> tuple[str, ...]:
    """What was said of the image, and not of the network's labels."""
    of_labels = {*(f.text for f in segmentation.findings)}
    from dinsegment.quality.gather import CHECK

    return tuple(text for text in segmentation.warnings if text not in of_labels and text != CHECK)


def corrected_files(given: Sequence[Path], count: int) -> list[Path]:
    """A file for each phase: those that are given, or those of a folder with results; or one that may have all."""
    from dinsegment.quality.words import counted

    paths = list(given)
    if len(paths) == 1 and paths[0].is_dir():
        folder = paths[0]
        names = {int(path.parent.name[5:]): path for path in folder.glob(f"phase[0-9]*/{FILE}") if _is_phase(path)}
        paths = [names[n] for n in sorted(names)] or [folder / FILE]
        if not paths[0].exists():
            raise InputError(f"'{folder}' has no {FILE}: give the corrected segmentation.")
    for number, path in enumerate(paths):
        if any(path.absolute() == other.absolute() for other in paths[:number]):
            raise InputError(f"'{path}' is given twice: give a segmentation for each phase, in their order.")
    if len(paths) not in (1, count):
        raise InputError(
            f"There are {len(paths)} segmentations of {counted(count, 'phase')}: give one for each phase, in their "
            "order, or the folder with the results."
        )
    return paths


def _is_phase(path: Path) -> bool:
    """Whether a file lies in a folder that results have; phase100 comes after phase99, not after phase10."""
    return path.parent.name[5:].isdecimal()


def _read(paths: Sequence[Path], phases: Sequence[Volume], task: Task) -> list[Corrected]:
    """Of each phase its file, or of all of them the only one."""
    from dinsegment.correction.reading import read_corrected, read_corrected_phases

    if len(paths) == 1 < len(phases):
        return read_corrected_phases(paths[0], phases, task)
    return [read_corrected(path, volume, task) for path, volume in zip(paths, phases, strict=True)]


def _of_other_images(paths: Sequence[Path], corrected: Sequence[Corrected], phases: Sequence[Volume]) -> list[str]:
    """What is to be said of files that were made of images with other grey values.

    Raises:
        InputError: One was made of another phase than it is given for: its labels would lie on the wrong image.
    """
    from dinsegment.images.fingerprint import grey_print, same_grey

    prints, said = [grey_print(volume) for volume in phases], []
    for number, (path, one) in enumerate(zip(paths, corrected, strict=True)):
        if same_grey(one.image, prints[number]) is not False:
            continue
        others = [n for n, other in enumerate(prints) if same_grey(one.image, other)]
        if len(others) == 1:
            raise InputError(
                f"'{path}' was made of phase {others[0] + 1}, but is given for phase {number + 1}: give the "
                "segmentations in the order of the phases."
            )
        text = f"'{path.name}' was made of an image with other grey values than '{phases[number].name}': check that"
        said.append(f"{text} they belong together.")
    return said


def _named(given: Sequence[str], phases: Sequence[Volume], task: Task) -> list[tuple[int, ...]]:
    """The slices of each phase, from 0, that --slices names; empty without it. It is read before time is spent."""
    from dinsegment.images.slices import slice_axis

    if given and len(given) != len(phases):
        raise InputError(f"--slices is given {len(given)} times for {len(phases)} phases: give it once for each.")
    slices = [_numbers(text) for text in given]
    for numbers, volume in zip(slices, phases, strict=False):
        count = volume.shape[slice_axis(volume, task.plane)]
        if numbers and numbers[-1] >= count:
            raise InputError(
                f"'{volume.name}' has {count} slices, so that slice {numbers[-1] + 1} cannot have been corrected."
            )
    return slices


def _slices(
    named: Sequence[tuple[int, ...]], corrected: Sequence[Corrected], network: Sequence[Segmentation], task: Task
) -> tuple[list[tuple[int, ...]], list[str]]:
    """The corrected slices of each phase, from 0, and how they were found."""
    from dinsegment.correction.reading import against
    from dinsegment.quality.words import counted, phases_text, slices_text

    if named:
        slices = list(named)
        how = "as --slices names them"
    elif all(one.slices is not None for one in corrected):
        slices = [one.slices for one in corrected]
        how = "found by comparing with what the file says each slice was"
    else:
        slices = [
            one.slices if one.slices is not None else against(made.labels, one, made.volume, task)
            for one, made in zip(corrected, network, strict=True)
        ]
        how = "found by comparing with what the model makes of the image"
    if not any(slices):
        raise InputError(f"No slice was corrected ({how}): correct one or a few in 3D Slicer, and save them.")
    if len(slices) == 1:
        what = slices_text(n + 1 for n in slices[0])
    else:
        touched = phases_text((n for n, own in enumerate(slices, start=1) if own), len(slices))
        what = f"{counted(sum(map(len, slices)), 'slice')} in {touched}"
    return slices, [f"Corrected by a person: {what}, {how}.", *(_not_named(named, corrected) if named else ())]


def _not_named(named: Sequence[tuple[int, ...]], corrected: Sequence[Corrected]) -> list[str]:
    """Which slices a person has corrected, as the files tell it, that --slices leaves out: their labels are lost."""
    from dinsegment.quality.words import slices_text

    said = []
    for number, (own, one) in enumerate(zip(named, corrected, strict=True), start=1):
        if lost := sorted(set(one.slices or ()) - set(own)):
            where = f" of phase {number}" if len(named) > 1 else ""
            text = (
                f"{slices_text(n + 1 for n in lost)}{where} {'was' if len(lost) == 1 else 'were'} corrected, too, but"
            )
            said.append(f"{text[0].upper()}{text[1:]} not named by --slices, and may have been predicted again.")
    return said


def _numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = [int(part) for part in text.replace(",", " ").split()]
    except ValueError:
        numbers = [0]
    if any(number < 1 for number in numbers):
        raise InputError(f"--slices {text} names no slices: give their numbers from 1 on, such as 4,5.")
    return tuple(sorted({number - 1 for number in numbers}))
