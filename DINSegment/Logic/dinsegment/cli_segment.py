"""The command that segments: dinsegment segment."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from dinsegment.cli_console import NOTE, err, load, out, progress_bar, updater
from dinsegment.cli_options import CommonGrid, Device, ModelName, Output, Overwrite, TaskName
from dinsegment.cli_printing import print_failed, print_result, print_table, print_warnings
from dinsegment.errors import InputError, printable
from dinsegment.tasks import Task, get_task

if TYPE_CHECKING:
    from dinsegment.dicom.read.parts import StudyPart
    from dinsegment.inference.model import Model
    from dinsegment.measurements.study import MeasureOptions
    from dinsegment.phantom.generators import Generated
    from dinsegment.studies.study import Study, StudyResult


def segment(
    task: TaskName,
    output: Output,
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="INPUT...",
            help="NIfTI, NRRD or MetaImage files, or DICOM folders, zip archives or DICOMDIRs; of a folder of several "
            "studies each is an input of its own. Without one, the task's phantom is made.",
            show_default=False,
        ),
    ] = None,
    series: Annotated[
        list[str] | None,
        typer.Option(
            "--series",
            metavar="NAME|UID",
            help="Of several DICOM series what to segment: a name that `dinsegment series` lists, one or several UIDs, "
            "or best. By default the only one that is of the task's kind.",
        ),
    ] = None,
    model: ModelName = None,
    device: Device = "auto",
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Of several inputs, skip those whose results are complete.")
    ] = True,
    phases: Annotated[
        bool, typer.Option("--phases", help="The inputs are phases of one heart, a 3D image each, in their order.")
    ] = False,
    common_grid: CommonGrid = False,
    overwrite: Overwrite = False,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="ADDRESS",
            help="Compute on a Ray cluster: its address, auto, or local. Its machines share the files.",
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", help="So many at a time on the cluster.")] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Also write the page that is read: report.pdf and report.html.")
    ] = False,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="The report does not tell who the patient is, and no DICOM is written.")
    ] = False,
    height: Annotated[float | None, typer.Option("--height", metavar="CM", help="Of the patient.")] = None,
    weight: Annotated[float | None, typer.Option("--weight", metavar="KG", help="Of the patient.")] = None,
    sex: Annotated[str | None, typer.Option("--sex", metavar="M|F", help="Of the patient.")] = None,
    age: Annotated[float | None, typer.Option("--age", metavar="YEARS", help="Of the patient.")] = None,
    heart_rate: Annotated[
        float | None, typer.Option("--heart-rate", metavar="BPM", help="While the images were taken.")
    ] = None,
    samples: Annotated[
        int,
        typer.Option(
            "--samples",
            metavar="N",
            help="Draw N possible segmentations, 16 say: where they disagree, and how far numbers can be trusted.",
        ),
    ] = 0,
    unexpected: Annotated[
        str | None,
        typer.Option("--unexpected", metavar="NAME|RUN", help="Ask this model, too: what it did not expect."),
    ] = None,
    surface: Annotated[
        str, typer.Option("--surface", metavar="FORMULA", help="For body surface area: mosteller or dubois.")
    ] = "mosteller",
    anterior: Annotated[
        tuple[float, float, float] | None,
        typer.Option(
            "--anterior", metavar="R A S", help="Where the right ventricle's wall meets the left one's in front."
        ),
    ] = None,
) -> None:
    """Segment images: segmentation.seg.nrrd, enhanced.nrrd, overview.png and measurements.json each.

    DICOM images also get segmentation.dcm (DICOM SEG) and measurements.dcm (DICOM SR). With --report each gets
    report.pdf and report.html, and several an index.html. With --samples each gets disagreement.nrrd, the
    probability of another label over all samples, and measurements.json has 90 % intervals. With --unexpected
    each gets unexpected.nrrd: how far it is from what an autoencoder makes of the rest of it. What DICOM says of the
    patient need not be given; what is given goes before it, for all inputs.
    Several get a folder each, and a table of all of them, studies.csv. Results that are there are replaced, unless
    somebody has changed them; files of others never are.
    """
    from dinsegment.files import ensure_writable_folder
    from dinsegment.studies.study import Study

    chosen = get_task(task)
    if workers is not None and cluster is None:
        raise InputError("--workers is for --cluster: give an address, or 'local' for this machine.")
    if series and len(inputs or []) != 1:
        raise InputError("--series is for a single input: give the one that has this DICOM series.")
    if phases and len(inputs or []) < 2:
        raise InputError("--phases is for several inputs: give an image for each phase.")
    if phases and cluster is not None:
        raise InputError("--phases makes one study of all inputs: leave out --cluster, which is for many.")
    if samples:
        from dinsegment.images.samples import check_draws

        check_draws(samples)
    if anonymous and not report:
        raise InputError("--anonymous is for --report: give both, or neither.")
    wanted = ",".join(series) if series else None
    how = Study(
        Path(), output, wanted, overwrite, common_grid=common_grid, report=report, anonymous=anonymous, samples=samples,
        unexpected=unexpected, measure=_measure_options(height, weight, sex, age, heart_rate, surface, anterior),
    )  # fmt: skip
    created = not output.exists()
    ensure_writable_folder(output)
    try:
        found = [(path, None) for path in inputs or []] if phases else _split(inputs or [], wanted)
        if cluster is not None or (len(found) > 1 and not phases):
            code = _segment_many(found, chosen, how, model, device, resume, cluster, workers)
        else:
            code = _segment_one(found, chosen, how, model, device)
    finally:
        if created and not any(output.iterdir()):
            output.rmdir()
    if code:
        raise typer.Exit(code)


def _split(inputs: list[Path], wanted: str | None) -> list[tuple[Path, StudyPart | None]]:
    """The inputs, each study of a folder on its own; a damaged file of none of them, too, which will be an error."""
    found: list[tuple[Path, StudyPart | None]] = []
    for path in inputs:
        # A name that is too long is no folder here, and told of when it is read; Path would raise.
        is_folder = os.path.isdir(path)  # noqa: PTH112
        if not is_folder or (wanted is not None and re.fullmatch(r"[\d., ]+", wanted)):
            found.append((path, None))  # a UID is of one study alone
            continue
        from dinsegment.dicom.read.parts import split_studies

        with progress_bar() as bar:
            line = bar.add_task(f"Looking through {printable(path.name)}", total=1.0)
            try:
                parts, lost = split_studies(path, lambda done, of, n=line, b=bar: b.update(n, completed=done / of))
            except InputError:
                found.append((path, None))  # reading it will say what is wrong
                continue
        found += [(path, part) for part in parts]
        found += [(file, None) for file in lost]
    return found


def _measure_options(
    height: float | None,
    weight: float | None,
    sex: str | None,
    age: float | None,
    heart_rate: float | None,
    surface: str,
    anterior: tuple[float, float, float] | None,
) -> MeasureOptions | None:
    """What the user says of the patient; None for nothing."""
    if surface not in ("mosteller", "dubois"):
        raise InputError(f"--surface {surface} is no formula: give mosteller or dubois.")
    for name, value, low, high, unit in (
        ("--height", height, 30, 250, "cm"),
        ("--weight", weight, 0.5, 400, "kg"),
        ("--age", age, 0, 120, "years"),
        ("--heart-rate", heart_rate, 20, 300, "beats a minute"),
    ):
        if value is not None and not low <= value <= high:
            raise InputError(f"{name} {value:g} cannot be right: give {low:g} to {high:g} {unit}.")
    if sex is not None and sex.upper() not in ("M", "F"):
        raise InputError(f"--sex {sex} is not known here: give M or F, whose normal values are published.")
    said = (height, weight, sex, age, heart_rate, anterior)
    if all(value is None for value in said) and surface == "mosteller":
        return None
    from dinsegment.dicom.read.patient import Patient
    from dinsegment.measurements.study import MeasureOptions

    patient = Patient(sex and sex.upper(), age, None if height is None else height / 100, weight, heart_rate)
    return MeasureOptions(patient, surface, anterior)


def _segment_one(
    inputs: list[tuple[Path, StudyPart | None]], task: Task, how: Study, model: str | None, device: str
) -> int:
    """Segments one input, or several that are phases of one heart; `how` is a study without an input."""
    from dinsegment.models.entries import find_entry
    from dinsegment.studies.study import run_study

    phantoms: Sequence[Generated] = ()
    if not inputs:
        from dinsegment.phantom.generators import phantoms_of

        phantoms = phantoms_of(task)
    find_entry(model, task)  # a name that is wrong is said before an image is read
    with progress_bar() as bar:
        if not inputs:
            _segment_phantom(phantoms, load(model, task, bar), task, how, device, bar)
            return 0
        (path, part), *others = inputs
        study = replace(how, input=path, others=tuple(later for later, _ in others), part=part)
        told = updater(bar, bar.add_task(printable(path.name), total=1.0))
        result = run_study(study, task, lambda: load(model, task, bar), device, told)
    print_result(result)
    return 0


def _segment_many(
    inputs: list[tuple[Path, StudyPart | None]],
    task: Task,
    how: Study,
    model: str | None,
    device: str,
    resume: bool,
    cluster: str | None,
    workers: int | None,
) -> int:
    """Segments inputs, each on its own; a bad one is reported and the others go on. Returns the exit code.

    `how` is a study without an input, whose folder gets those of all.
    """
    from dinsegment.models.entries import choose_folder, find_entry
    from dinsegment.studies.cluster import segment_on_cluster
    from dinsegment.studies.folders import plan_studies
    from dinsegment.studies.ledger import Ledger
    from dinsegment.studies.many import segment_studies

    if not inputs:
        raise InputError("Give images to segment on the cluster.")
    entry = find_entry(model, task)
    output = how.folder
    _, folder = choose_folder(model, None)
    ledger = Ledger(output, task, entry, resume, how.overwrite, folder)
    if how.report:
        ledger.check_page()
    planned = plan_studies(inputs, output, how.series_uid, how.overwrite)
    studies = [replace(how, input=study.input, folder=study.folder, part=study.part) for study in planned]
    results: dict[str, StudyResult] = {}

    def finished(result: StudyResult) -> None:
        results[result.folder] = result
        if result.status == "failed":
            print_failed(result)
        elif result.status == "done" or not result.phases:
            print_warnings(result, several=True)

    stopped = False
    with progress_bar() as bar:
        loaded = None if cluster else load(model, task, bar)
        update = updater(bar, bar.add_task("Segmenting", total=1.0))
        try:
            if loaded is None:
                segment_on_cluster(
                    studies,
                    task,
                    entry.name if folder is None else str(folder.absolute()),  # workers run in another folder
                    device,
                    ledger,
                    finished,
                    update,
                    address=cluster,
                    workers=workers,
                )
            else:
                segment_studies(studies, task, loaded, device, ledger, finished, update)
        except KeyboardInterrupt:
            stopped = True
        finally:
            ordered = [results[str(study.folder)] for study in studies if str(study.folder) in results]
            if ordered:
                ledger.write_table(ordered)
                if how.report:
                    ledger.write_page(ordered, how.anonymous)
    print_table(ordered, task)
    out.print(f"Written to {output}. {NOTE}", soft_wrap=True, markup=False)
    if stopped:
        err.print(
            f"Stopped: {len(ordered)} of {len(inputs)} inputs are finished; the same command goes on with the others.",
            soft_wrap=True,
        )
        return 130
    return 2 if any(result.status == "failed" for result in ordered) else 0


def _segment_phantom(
    phantoms: Sequence[Generated],
    model: Model,
    task: Task,
    how: Study,
    device: str,
    bar: Progress,
) -> None:
    """Segments the task's phantom and compares with the truth, which is known."""
    from dinsegment.studies.results import check_results
    from dinsegment.studies.study import compute_study, write_study
    from dinsegment.training.metrics import dice

    out.print(f"No image given: segmenting a generated {task.phantom.description}.", soft_wrap=True)
    study = replace(how, input=Path("phantom"))
    check_results(
        [p.volume for p in phantoms],
        study.folder,
        study.input,
        study.overwrite,
        study.report,
        study.anonymous,
        study.samples > 0,
        study.unexpected is not None,
    )
    line = bar.add_task("Phantom", total=1.0)
    results = compute_study(
        [p.volume for p in phantoms],
        task,
        model,
        device,
        updater(bar, line),
        samples=how.samples,
        unexpected=how.unexpected,
    )
    print_result(write_study(study, results))
    scores = {
        s.abbreviation: fmean(dice(r.labels, p.labels, s.label) for r, p in zip(results, phantoms, strict=True))
        for s in task.segments
    }
    out.print("Dice with the phantom's known truth: " + ", ".join(f"{k} {v:.3f}" for k, v in scores.items()))
