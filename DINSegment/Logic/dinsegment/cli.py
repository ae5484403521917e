"""The command line: segment | correct | series | export | check | evaluate | train | adapt | recipes | models."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from dinsegment import cli_training
from dinsegment.cli_console import NOTE, err, load, out, progress_bar
from dinsegment.cli_options import CommonGrid, Device, ModelName, Output, Overwrite, TaskName
from dinsegment.errors import Cancelled, DINSegmentError, InputError, OutputError, printable
from dinsegment.memory import is_out_of_memory
from dinsegment.tasks import Task, get_task

if TYPE_CHECKING:
    from dinsegment.dicom.read.parts import StudyPart
    from dinsegment.inference.model import Model
    from dinsegment.measurements.study import MeasureOptions
    from dinsegment.phantom.generators import Generated
    from dinsegment.studies.study import Study, StudyResult

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help=f"Heart MR and abdominal CT segmentation with the Dual Interaction Network. {NOTE}",
)


@app.command()
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


@app.command()
def correct(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...", help="The image that was segmented; of a heart's phases in files, all of them."
        ),
    ],
    segmentation: Annotated[
        list[Path],
        typer.Option(
            "--segmentation",
            metavar="FILE",
            help="What was corrected, a .seg.nrrd or a labelmap; of several phases one each, in their order.",
        ),
    ],
    task: TaskName,
    output: Output,
    slices: Annotated[
        list[str] | None,
        typer.Option(
            "--slices",
            metavar="N,N,...",
            help="Slices that were corrected, from 1 on; of several phases once for each. By default they are found.",
        ),
    ] = None,
    series: Annotated[
        str | None, typer.Option("--series", metavar="NAME|UID", help="Of several DICOM series, as for segment.")
    ] = None,
    model: ModelName = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Correct a few slices in 3D Slicer, and have the others follow: the results of `segment`, made again.

    Corrected slices stay as they are. They are found by what the segmentation file says that each slice was, which
    this program writes into it and 3D Slicer keeps; where it says nothing, by what the model makes of the image.
    """
    from dinsegment.files import ensure_writable_folder
    from dinsegment.studies.corrected import CorrectedStudy, correct_study

    chosen = get_task(task)
    created = not output.exists()
    ensure_writable_folder(output)
    try:
        with progress_bar() as bar:
            loaded = load(model, chosen, bar)
            line = bar.add_task(printable(inputs[0].name), total=1.0)
            what = CorrectedStudy(tuple(inputs), tuple(segmentation), output, tuple(slices or ()), series, overwrite)
            result, said = correct_study(what, chosen, loaded, device, _updater(bar, line))
    finally:
        if created and not any(output.iterdir()):
            output.rmdir()
    for text in said:
        out.print(printable(text), soft_wrap=True, markup=False)
    _print_result(result)


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
    from dinsegment.studies.study import run_study

    phantoms: Sequence[Generated] = ()
    if not inputs:
        from dinsegment.phantom.generators import phantoms_of

        phantoms = phantoms_of(task)
    with progress_bar() as bar:
        loaded = load(model, task, bar)
        if not inputs:
            _segment_phantom(phantoms, loaded, task, how, device, bar)
            return 0
        (path, part), *others = inputs
        line = bar.add_task(printable(path.name), total=1.0)
        study = replace(how, input=path, others=tuple(later for later, _ in others), part=part)
        result = run_study(study, task, loaded, device, _updater(bar, line))
    _print_result(result)
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
    from dinsegment.studies.ledger import Ledger, plan_studies
    from dinsegment.studies.many import segment_studies

    if not inputs:
        raise InputError("Give images to segment on the cluster.")
    entry = find_entry(model, task)
    output = how.folder
    ledger = Ledger(output, task, entry, resume, how.overwrite)
    if how.report:
        ledger.check_page()
    planned = plan_studies(inputs, output, how.series_uid, how.overwrite)
    studies = [replace(how, input=study.input, folder=study.folder, part=study.part) for study in planned]
    results: dict[str, StudyResult] = {}

    def finished(result: StudyResult) -> None:
        results[result.folder] = result
        if result.status == "failed":
            err.print(f"Error: {printable(result.message)}", soft_wrap=True, markup=False)
        elif result.status == "done" or not result.phases:
            _print_warnings(result)

    stopped = False
    with progress_bar() as bar:
        loaded = None if cluster else load(model, task, bar)
        update = _updater(bar, bar.add_task("Segmenting", total=1.0))
        try:
            if loaded is None:
                folder = choose_folder(model, None)[1]
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
    _print_table(ordered, task)
    out.print(f"Written to {output}. {NOTE}", soft_wrap=True, markup=False)
    if stopped:
        err.print(
            f"Stopped: {len(ordered)} of {len(inputs)} inputs are finished; the same command goes on with the others.",
            soft_wrap=True,
        )
        return 130
    return 2 if any(result.status == "failed" for result in ordered) else 0


def _updater(bar: Progress, line: int) -> Callable[[float, str], None]:
    return lambda fraction, text: bar.update(line, completed=fraction, description=text)


def _print_warnings(result: StudyResult) -> None:
    for warning in (*result.warnings, *filter(None, [result.message])):
        _warn(warning)


def _warn(text: str) -> None:
    err.print(f"Warning: {printable(text)}", soft_wrap=True, markup=False)


def _print_result(result: StudyResult) -> None:
    for phase in result.phases:
        volumes = ", ".join(f"{s['name']} {s['volume_ml']:.1f} ml" for s in phase["segments"])
        out.print(
            f"{phase['input']}: {volumes} ({phase['seconds']:.1f} s on {phase['device']})", soft_wrap=True, markup=False
        )
    _print_warnings(result)
    if function := result.function:
        out.print(
            f"End-diastolic volume {function['end_diastolic_volume_ml']:.1f} ml, end-systolic volume "
            f"{function['end_systolic_volume_ml']:.1f} ml, ejection fraction "
            f"{function['ejection_fraction_percent']:.1f} %, myocardial mass {function['myocardial_mass_g']:.1f} g",
            soft_wrap=True,
        )
    elif result.no_function:
        out.print(result.no_function, soft_wrap=True, markup=False)
    _print_intervals(result)
    out.print(f"Written to {result.folder}. {NOTE}", soft_wrap=True, markup=False)


def _print_intervals(result: StudyResult) -> None:
    """Numbers with intervals, where samples were drawn."""
    if not result.samples:
        return
    table = Table("", "Value", "90 % interval")
    measured = {one["key"]: one for one in result.measurements}
    for one in result.samples["intervals"]:
        number = measured[one["key"]]
        value, low, high = (f"{v:.1f}" for v in (number["value"], one["low"], one["high"]))
        table.add_row(number["name"], f"{value} {number['unit']}", f"{low} to {high}")
    out.print(table)
    out.print(result.samples["remark"], soft_wrap=True, markup=False)


def _print_table(results: list[StudyResult], task: Task) -> None:
    """The columns of studies.csv that fit on a screen, without the folder and the message."""
    from rich.markup import escape

    from dinsegment.studies.table import table_header, table_row

    hidden = {"Folder", "Message"}
    shown = [n for n, name in enumerate(table_header(task)) if name not in hidden]
    table = Table(*(table_header(task)[n] for n in shown), title="Studies")
    for result in results:
        row = table_row(result, task)
        table.add_row(*(escape(row[n]) for n in shown))
    out.print(table)


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
        _updater(bar, line),
        samples=how.samples,
        unexpected=how.unexpected,
    )
    _print_result(write_study(study, results))
    scores = {
        s.abbreviation: fmean(dice(r.labels, p.labels, s.label) for r, p in zip(results, phantoms, strict=True))
        for s in task.segments
    }
    out.print("Dice with the phantom's known truth: " + ", ".join(f"{k} {v:.3f}" for k, v in scores.items()))


@app.command()
def series(
    study: Annotated[Path, typer.Argument(help="A DICOM folder, zip archive, DICOMDIR or file.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs: a list of studies with their stacks.")] = False,
) -> None:
    """List what is in DICOM studies: stacks of slices, what they show, and what can be segmented in them."""
    from dinsegment.studies.contents import contents_json, contents_table, read_contents, remarks

    said: list[str] = []
    with progress_bar() as bar:
        line = bar.add_task("Looking through the files", total=1.0)
        studies = read_contents(study, lambda done, of: bar.update(line, completed=done / of), said.append)
    if as_json:
        sys.stdout.write(contents_json(studies))
        return
    for one in studies:
        out.print(contents_table(one))
        said += remarks(one)
    for sentence in said:
        err.print(f"Warning: {printable(sentence)}", soft_wrap=True, markup=False)


@app.command()
def export(
    segmentation: Annotated[
        Path, typer.Argument(help="A .seg.nrrd file; or a labelmap (NIfTI, NRRD, MetaImage) with --task.")
    ],
    source: Annotated[Path, typer.Option("--source", help="The DICOM images that were segmented.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The DICOM SEG to write.")],
    series: Annotated[
        str | None, typer.Option("--series", metavar="NAME|UID", help="Of several series, which, as for segment.")
    ] = None,
    phase: Annotated[int | None, typer.Option("--phase", min=1, help="Of a cine, which phase was segmented.")] = None,
    task: Annotated[str | None, typer.Option("--task", help="What the labels mean, such as heart or abdomen.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="What made a labelmap; else its segments count as drawn by hand.")
    ] = None,
    description: Annotated[str | None, typer.Option("--description", help="What archives list it as.")] = None,
    series_number: Annotated[int, typer.Option("--series-number", min=1, help="In the study.")] = 300,
    creator: Annotated[str, typer.Option("--creator", help="Who made it: Family^Given.")] = "DINSegment",
    uid_root: Annotated[str | None, typer.Option("--uid-root", help="Your organisation's root for new UIDs.")] = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="The same input gives the same file, with the images' dates.")
    ] = False,
    common_grid: CommonGrid = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a DICOM file of DINSegment.")] = False,
) -> None:
    """Write a segmentation as DICOM SEG, for archives and viewers, with references to the images it was made from."""
    from dinsegment.dicom.write.export import export_dicom_seg
    from dinsegment.dicom.write.seg import SegOptions

    options = SegOptions(
        content_creator=creator, description=description, series_description=description, series_number=series_number,
        uid_root=uid_root, deterministic_uids=deterministic, common_grid=common_grid,
    )  # fmt: skip
    chosen = get_task(task) if task is not None else None
    replaced = _check_export(output, overwrite)
    written = export_dicom_seg(segmentation, source, output, options, series, phase, chosen, model, _warn)
    names = ", ".join(segment.name for segment in written)
    if replaced:
        _warn(f"Overwritten: {output}.")
    out.print(f"Written to {output}: {names}. {NOTE}", soft_wrap=True, markup=False)


def _check_export(output: Path, overwrite: bool) -> bool:
    """Whether a file is replaced; refuses one of others, and any if that was not asked for."""
    import os

    if not os.path.lexists(output):
        return False
    from dinsegment.dicom.write.save import is_ours

    if output.is_symlink() or not output.is_file() or not is_ours(output):
        raise OutputError(f"'{output}' is there and was not made by DINSegment: choose another name.")
    if not overwrite:
        raise OutputError(f"'{output}' is there: choose another name; --overwrite replaces it.")
    return True


for command in (
    cli_training.check,
    cli_training.evaluate,
    cli_training.recipes,
    cli_training.train,
    cli_training.adapt,
):
    app.command()(command)


@app.command()
def models(
    fetch: Annotated[str | None, typer.Option("--fetch", metavar="NAME", help="Download a model's weights.")] = None,
    file: Annotated[
        Path | None,
        typer.Option("--import", metavar="FILE", help="Take in a weights file that another machine downloaded."),
    ] = None,
) -> None:
    """List the models and where their weights are; download or import weights."""
    if file is not None:
        _import_weights(file)
    if fetch is not None:
        _fetch_weights(fetch)
    if file is None and fetch is None:
        _list_models()


def _list_models() -> None:
    from dinsegment.models.entries import read_entries
    from dinsegment.models.weights import find_weights

    table = Table("Model", "Task", "Test Dice", "Trained on", "Licence", "Weights", title="Models")
    for entry in read_entries():
        score = entry.scores.get("dice", {}).get("mean")
        found = find_weights(entry)
        place = found[0] if found else "to be downloaded" if "repository" in entry.weights else "missing"
        table.add_row(
            entry.name, entry.task, f"{score:.3f}" if score else "", entry.data["name"], entry.license,
            f"{place}, {entry.weights['size'] / 1e6:.1f} MB",
        )  # fmt: skip
    out.print(table)
    out.print(NOTE)


def _fetch_weights(name: str) -> None:
    from dinsegment.models.entries import find_entry
    from dinsegment.models.weights import provide_weights

    entry = find_entry(name, None)
    with progress_bar() as bar:
        line = bar.add_task(name, total=1.0)
        path = provide_weights(entry, progress=lambda done, text: bar.update(line, completed=done, description=text))
    out.print(f"The weights of '{name}' are at {path}", soft_wrap=True, markup=False)


def _import_weights(file: Path) -> None:
    from dinsegment.models.weights import import_weights, locate

    with progress_bar() as bar:
        line = bar.add_task(file.name, total=1.0)
        entry = import_weights(file, progress=lambda done, text: bar.update(line, completed=done, description=text))
    out.print(f"Imported the weights of '{entry.name}': they are at {locate(entry)}", soft_wrap=True, markup=False)


def main() -> None:
    """The program: exit code 0, or 2 with one clear line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names of files may be such that the terminal cannot show them
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except Cancelled:
        sys.exit(2)
    except DINSegmentError as error:
        err.print(f"Error: {printable(error)}", soft_wrap=True, markup=False)
        sys.exit(2)
    except (MemoryError, ImportError, OSError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        err.print("Error: There is too little memory: close other programs or use a larger machine.", soft_wrap=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
