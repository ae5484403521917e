"""The command line: dinsegment segment | evaluate | train | models."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from dinsegment.errors import Cancelled, DINSegmentError, InputError
from dinsegment.tasks import Task, get_task
from dinsegment.volume import Volume

if TYPE_CHECKING:
    from dinsegment.weights import Model

NOTE = "Research tool, not a medical device."

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help=f"Heart MR segmentation with the Dual Interaction Network. {NOTE}",
)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

TaskName = Annotated[str, typer.Option("--task", help="What to segment: heart or abdomen.")]
ModelName = Annotated[
    str | None, typer.Option("--model", help="A model of `dinsegment models`; else the task's first.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results; created if missing.")]


def _progress() -> Progress:
    """A bar on stderr while that is a terminal; elsewhere nothing, not even the empty line that a bar leaves."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        console=err if err.is_terminal else Console(quiet=True),
        transient=True,
    )


@app.command()
def segment(
    task: TaskName,
    output: Output,
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="INPUT...",
            help="NIfTI, NRRD or MetaImage files, or DICOM folders. Without one, a beating-heart phantom is made.",
            show_default=False,
        ),
    ] = None,
    model: ModelName = None,
    device: Device = "auto",
) -> None:
    """Segment images: segmentation.seg.nrrd, enhanced.nrrd, overview.png and measurements.json each."""
    from dinsegment.files import ensure_writable_folder

    chosen = get_task(task)
    created = not output.exists()
    ensure_writable_folder(output)
    try:
        failed = _segment_all(inputs or [], chosen, output, model, device)
    finally:
        if created and not any(output.iterdir()):
            output.rmdir()
    if failed:
        raise typer.Exit(2)


def _segment_all(inputs: list[Path], task: Task, output: Path, model: str | None, device: str) -> int:
    """Segments one input after the other; a bad one is reported and the next one follows. Returns how many failed."""
    folders = _output_folders(inputs, output)
    with _progress() as bar:
        loaded = _load(model, task, bar)
        if not inputs:
            _segment_phantom(loaded, task, output, device, bar)
            return 0
        failed = 0
        for path, folder in zip(inputs, folders, strict=True):
            try:
                _segment_input(path, loaded, task, folder, device, bar)
            except DINSegmentError as error:
                err.print(f"Error: {error}", soft_wrap=True, markup=False)
                failed += 1
        return failed


def _load(name: str | None, task: Task, bar: Progress) -> Model:
    """Loads a model; weights that do not ship are downloaded first, and the bar shows it."""
    from dinsegment.weights import load_model

    line = bar.add_task("Loading the model", total=1.0)
    loaded = load_model(name, task, progress=lambda done, text: bar.update(line, completed=done, description=text))
    bar.remove_task(line)
    return loaded


def _output_folders(inputs: list[Path], output: Path) -> list[Path]:
    """`output` itself for one input; for several a folder each, named after it, with a number where names meet."""
    if len(inputs) < 2:
        return [output] * len(inputs)
    from dinsegment.files import image_stem

    names: list[str] = []
    for path in inputs:
        stem = re.sub(r"[^\w.-]+", "_", path.name if path.is_dir() else image_stem(path)) or "input"
        name, number = stem, 2
        while name in names:
            name, number = f"{stem}_{number}", number + 1
        names.append(name)
    return [output / name for name in names]


def _segment_input(path: Path, model: Model, task: Task, folder: Path, device: str, bar: Progress) -> None:
    from dinsegment.images import read_volumes

    phases = read_volumes(path)
    _segment_phases(phases, model, task, folder, device, bar)


def _segment_phases(phases: list[Volume], model: Model, task: Task, folder: Path, device: str, bar: Progress) -> list:
    from dinsegment.inference import segment as run
    from dinsegment.results import write_results

    results = []
    for volume in phases:
        line = bar.add_task(volume.name, total=1.0)
        results.append(run(volume, task, model, device, _updater(bar, line, volume.name)))
        bar.remove_task(line)
    write_results(results, folder)
    _print_results(results, folder)
    return results


def _updater(bar: Progress, line: int, name: str) -> Callable[[float, str], None]:
    return lambda fraction, text: bar.update(line, completed=fraction, description=f"{name}: {text}")


def _print_results(results: list, folder: Path) -> None:
    from dinsegment.measurements import cardiac_function, segment_volumes

    for result in results:
        volumes = ", ".join(f"{s.name} {s.volume_ml:.1f} ml" for s in segment_volumes(result))
        out.print(f"{result.volume.name}: {volumes} ({result.seconds:.1f} s on {result.device})", soft_wrap=True)
        for warning in result.warnings:
            err.print(f"Warning: {warning}", soft_wrap=True, markup=False)
    if function := cardiac_function(results):
        out.print(
            f"End-diastolic volume {function.end_diastolic_volume_ml:.1f} ml, end-systolic volume "
            f"{function.end_systolic_volume_ml:.1f} ml, ejection fraction "
            f"{function.ejection_fraction_percent:.1f} %, myocardial mass {function.myocardial_mass_g:.1f} g",
            soft_wrap=True,
        )
    out.print(f"Written to {folder}. {NOTE}", soft_wrap=True, markup=False)


def _segment_phantom(model: Model, task: Task, output: Path, device: str, bar: Progress) -> None:
    """Makes a phantom's end diastole and end systole, segments them and says how close to the truth that is."""
    from dinsegment.phantom import cine_phantom
    from dinsegment.training.metrics import dice

    if task.chamber is None:
        raise InputError(f"Give an image to segment: there is no phantom for the task '{task.name}'.")
    phantoms = cine_phantom(2, slices=10)  # from the valves to the apex, as a scan is planned at end diastole
    out.print(
        "No image given: segmenting a generated beating-heart phantom at end diastole and end systole.", soft_wrap=True
    )
    results = _segment_phases([p.volume for p in phantoms], model, task, output, device, bar)
    scores = {
        s.abbreviation: sum(dice(r.labels, p.labels, s.label) for r, p in zip(results, phantoms, strict=True)) / 2
        for s in task.segments
    }
    out.print("Dice with the phantom's known truth: " + ", ".join(f"{k} {v:.3f}" for k, v in scores.items()))


@app.command()
def evaluate(
    task: TaskName,
    data: Annotated[Path, typer.Option("--data", help="Folder of labelled cases, in ACDC's published layout.")],
    split: Annotated[Path, typer.Option("--split", help="Text file naming the patients, one a line.")],
    output: Output,
    model: ModelName = None,
    device: Device = "auto",
) -> None:
    """Compare a model with expert labels: metrics.json with the Dice of every segment."""
    from dinsegment.files import atomic_path, ensure_writable_folder
    from dinsegment.results import write_json
    from dinsegment.training.dataset import find_cases, read_split
    from dinsegment.training.evaluation import evaluate as run

    chosen = get_task(task)
    cases = find_cases(data, read_split(split))
    ensure_writable_folder(output)
    with _progress() as bar:
        line = bar.add_task("Evaluating", total=len(cases))
        metrics = run(
            _load(model, chosen, bar), chosen, cases, device,
            lambda n, case: bar.update(line, completed=n, description=case.name),
        )  # fmt: skip
    metrics["split"] = split.name
    metrics["command"] = "dinsegment " + shlex.join(sys.argv[1:])
    with atomic_path(output / "metrics.json") as path:
        write_json(metrics, path)
    table = Table("", *metrics["dice"], title=f"Dice, {metrics['model']}, {len(cases)} cases of {split.name}")
    for name, row in (("all", metrics["dice"]), *metrics["phases"].items()):
        table.add_row(name, *(f"{v:.4f}" for v in row.values()))
    out.print(table)
    out.print(f"Written to {output / 'metrics.json'}. {NOTE}", soft_wrap=True, markup=False)


@app.command()
def train(
    recipe: Annotated[str, typer.Option("--recipe", help="A recipe's name or a JSON file.")],
    data: Annotated[Path, typer.Option("--data", help="Folder of labelled cases, in ACDC's published layout.")],
    train_split: Annotated[Path, typer.Option("--train", help="Text file naming the patients to fit to.")],
    validation_split: Annotated[Path, typer.Option("--validation", help="Those that the best weights are chosen on.")],
    output: Output,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in OUTPUT.")] = False,
    compile: Annotated[bool, typer.Option("--compile", help="Compile the network first.")] = False,
) -> None:
    """Train a network: checkpoint.pt, best.safetensors and log.csv."""
    from dinsegment.training.dataset import find_cases, read_split
    from dinsegment.training.recipe import load_recipe
    from dinsegment.training.trainer import Trainer

    chosen = load_recipe(recipe)
    splits = [find_cases(data, read_split(path)) for path in (train_split, validation_split)]
    state = Trainer(chosen, splits[0], splits[1], output, device, compile).run(resume)
    out.print(f"Best validation Dice {state.best:.4f}; weights in {output / 'best.safetensors'}.", soft_wrap=True)


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
    from dinsegment.weights import find_weights, read_entries

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
    from dinsegment.weights import find_entry, provide_weights

    entry = find_entry(name, None)
    with _progress() as bar:
        line = bar.add_task(name, total=1.0)
        path = provide_weights(entry, progress=lambda done, text: bar.update(line, completed=done, description=text))
    out.print(f"The weights of '{name}' are at {path}", soft_wrap=True, markup=False)


def _import_weights(file: Path) -> None:
    from dinsegment.weights import import_weights, locate

    with _progress() as bar:
        line = bar.add_task(file.name, total=1.0)
        entry = import_weights(file, progress=lambda done, text: bar.update(line, completed=done, description=text))
    out.print(f"Imported the weights of '{entry.name}': they are at {locate(entry)}", soft_wrap=True, markup=False)


def main() -> None:
    """The program: exit code 0, or 2 with one clear line."""
    try:
        app()
    except Cancelled:
        sys.exit(2)
    except DINSegmentError as error:
        err.print(f"Error: {error}", soft_wrap=True, markup=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
