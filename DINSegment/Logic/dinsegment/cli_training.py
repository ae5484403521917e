"""The commands for those who train: dinsegment check | evaluate | recipes | train."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from dinsegment.cli_console import NOTE, err, load, out, progress_bar, updater
from dinsegment.cli_options import DataFolder, Device, LabelNames, LeaveOut, ModelName, Output, Overwrite, TaskName
from dinsegment.errors import InputError, OutputError, printable
from dinsegment.tasks import Task, get_task

if TYPE_CHECKING:
    from dinsegment.training.cases import Case
    from dinsegment.training.failed import FailedCase


def check(
    task: TaskName,
    data: DataFolder,
    train_split: Annotated[Path | None, typer.Option("--train", help="Text file naming patients to fit to.")] = None,
    validation_split: Annotated[Path | None, typer.Option("--validation", help="Those to choose weights on.")] = None,
    test_split: Annotated[Path | None, typer.Option("--test", help="Those to judge the model by.")] = None,
    labels: LabelNames = None,
) -> None:
    """Look for what is wrong with a data set and its splits; exit code 1 if training or scores would suffer."""
    from dinsegment.training.cases import find_cases, read_split
    from dinsegment.training.dataset_check import check_cases, format_findings, has_errors

    chosen = get_task(task)
    paths = {"train": train_split, "validation": validation_split, "test": test_split}
    splits = {name: read_split(path) for name, path in paths.items() if path is not None}
    cases = find_cases(data, None, chosen, labels)
    with progress_bar() as bar:
        line = bar.add_task("Checking", total=len(cases))
        findings = check_cases(
            cases, chosen, splits, lambda count, case: bar.update(line, completed=count, description=case.name)
        )
    if findings:
        out.print(format_findings(findings))
    errors = sum(finding.level == "error" for finding in findings)
    out.print(f"{len(cases)} cases checked: {errors} errors, {len(findings) - errors} warnings.")
    if has_errors(findings):
        raise typer.Exit(1)


def evaluate(
    task: TaskName,
    data: DataFolder,
    split: Annotated[Path, typer.Option("--split", help="Text file naming the patients, one a line.")],
    output: Output,
    model: ModelName = None,
    device: Device = "auto",
    labels: LabelNames = None,
    leave_out_failed: LeaveOut = False,
    overwrite: Overwrite = False,
) -> None:
    """Compare a model with expert labels: report.html, metrics.json, cases.csv and patients.csv."""
    from dinsegment.files import ensure_writable_folder
    from dinsegment.training.cases import find_cases, read_split
    from dinsegment.training.evaluation import evaluate as run
    from dinsegment.training.report import check_output, write_evaluation

    chosen = get_task(task)
    cases = find_cases(data, read_split(split), chosen, labels)
    created = not output.exists()
    ensure_writable_folder(output)
    try:
        check_output(output, overwrite)
        with progress_bar() as bar:
            loaded = load(model, chosen, bar)
            line = bar.add_task("Evaluating", total=len(cases))
            evaluation = run(
                loaded, chosen, cases, device,
                lambda n, case: bar.update(line, completed=n, description=case.name), on_failed=_print_failed,
            )  # fmt: skip
        whole = bool(evaluation.cases) and (leave_out_failed or not evaluation.failed)
        command = printable("dinsegment " + shlex.join(sys.argv[1:]))
        write_evaluation(evaluation, output, printable(split.name), command, overwrite, whole)
    finally:
        if created and output.exists() and not any(output.iterdir()):
            output.rmdir()
    if not whole:
        raise InputError(
            f"{len(evaluation.failed)} of {len(cases)} cases failed, so that there are no scores, only "
            f"'{output / 'cases.csv'}': correct the cases, or give --leave-out-failed to score the others."
        )
    _print_scores(evaluation.summary(), split.name)
    out.print(f"Written to {output}: open report.html. {NOTE}", soft_wrap=True, markup=False)


def _print_failed(failed: FailedCase) -> None:
    err.print(f"Error: {printable(failed.message)}", soft_wrap=True, markup=False)


def _print_scores(scores: dict, split: str) -> None:
    """Means with 95 % intervals; a dash where a number is not defined."""

    def number(value: float, digits: int) -> str:
        return "–" if math.isnan(value) else f"{value:.{digits}f}"

    def cell(mean: float, interval: list[float], digits: int) -> str:
        low, high = (number(v, digits) for v in interval)
        return number(mean, digits) + (f" ({low} to {high})" if low != "–" else "")

    columns = (("dice", "Dice", 4), ("hd95_mm", "HD95, mm", 2), ("asd_mm", "Surface distance, mm", 2))
    title = f"{scores['model']}, {len(scores['cases'])} cases of {split}"
    table = Table("", *(heading for _, heading, _ in columns), title=title)
    for name in scores["dice"]:
        table.add_row(name, *(cell(scores[k][name], scores["intervals"][k][name], digits) for k, _, digits in columns))
    for phase, means in scores["phases"].items():
        table.add_row(f"mean, {phase}", cell(means["mean"], scores["intervals"]["phases"][phase]["mean"], 4))
    out.print(table)
    if scores["function"]:
        ef, mass = (cell(scores[k], scores["intervals"][k], 1) for k in ("ef_mae", "mass_mae_g"))
        out.print(
            f"Mean absolute error of {len(scores['patients'])} patients: ejection fraction {ef} percentage points, "
            f"myocardial mass {mass} g",
            soft_wrap=True,
        )


def recipes() -> None:
    """List the recipes that `dinsegment train` knows by name."""
    from dinsegment.training.recipe import list_recipes

    table = Table("Recipe", "What it trains", title="Recipes")
    for name, description in list_recipes().items():
        table.add_row(name, description)
    out.print(table)


def train(
    recipe: Annotated[str, typer.Option("--recipe", help="A recipe's name, see `dinsegment recipes`, or a JSON file.")],
    output: Output,
    data: Annotated[
        Path | None, typer.Option("--data", help="Labelled cases: as ACDC, BTCV or nnU-Net have them.")
    ] = None,
    train_split: Annotated[Path | None, typer.Option("--train", help="Text file naming patients to fit to.")] = None,
    validation_split: Annotated[
        Path | None, typer.Option("--validation", help="Those that the best weights are chosen on.")
    ] = None,
    labels: LabelNames = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Train so many, not the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of weights, order and augmentation.")] = None,
    pack: Annotated[
        Path | None, typer.Option("--pack", help="File of prepared cases: read if it exists, else made.")
    ] = None,
    device: Device = "auto",
    devices: Annotated[int, typer.Option("--devices", help="Processes that share every batch.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in OUTPUT.")] = False,
    compile: Annotated[bool, typer.Option("--compile", help="Compile the network first.")] = False,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Start from ImageNet's ConvNeXt.")] = False,
    start: Annotated[
        str | None, typer.Option("--start", metavar="NAME|FILE", help="Start from a model's weights.")
    ] = None,
    autoencoder: Annotated[
        list[str] | None,
        typer.Option(
            "--autoencoder",
            metavar="RUN|FILE",
            help="Trained before and asked by the network; one for each mask ratio.",
        ),
    ] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", help="Stop before, with a checkpoint.")] = None,
    checkpoint_minutes: Annotated[
        float | None, typer.Option("--checkpoint-minutes", help="Save so often, beside every epoch.")
    ] = None,
    leave_out_failed: LeaveOut = False,
) -> None:
    """Train a network: best.safetensors, checkpoint.pt, log.csv, curves.png and logs for TensorBoard."""
    from dinsegment.training.cases import find_cases, read_split
    from dinsegment.training.pack import read_pack, write_pack
    from dinsegment.training.recipe import load_recipe

    chosen = load_recipe(recipe)
    chosen = replace(chosen, epochs=epochs or chosen.epochs, seed=chosen.seed if seed is None else seed)
    if pack is None or not pack.exists():
        if data is None or train_split is None:
            raise InputError("Give --data and --train, and mostly --validation, or a --pack that exists.")
        splits = [read_split(path) if path else [] for path in (train_split, validation_split)]
        found = [find_cases(data, split, chosen.task, labels) if split else [] for split in splits]
        _check_run(output, resume)
        if both := [patient for patient in splits[0] if patient in splits[1]]:
            raise InputError(
                f"'{both[0]}' is in '{train_split}' and in '{validation_split}': weights would be chosen on what they "
                "were fitted to; remove each patient from one of them, or leave out --validation."
            )
        cases = _usable(found, chosen.task, pack is not None, leave_out_failed)
        if pack is not None:
            write_pack(*cases, chosen.task, chosen.preprocessing, pack)
    if pack is not None:
        packed = read_pack(pack)
        packed.check(chosen.task, chosen.preprocessing)
        cases = [packed.train, packed.validation]
    _check_run(output, resume)
    from dinsegment.training.run_options import RunOptions  # seconds, which who has mistyped something does not wait
    from dinsegment.training.trainer import train as run
    from dinsegment.training.validation import SCORE_NAMES

    options = RunOptions(
        device, devices, compile, pretrained, checkpoint_minutes, minutes, start, autoencoders=tuple(autoencoder or ())
    )
    try:
        state = run(chosen, cases[0], cases[1], output, options, resume)
    except KeyboardInterrupt:
        kept = (output / "checkpoint.pt").exists()
        what = (
            "the same command with --resume goes on from the last checkpoint" if kept else "there is no checkpoint yet"
        )
        err.print(f"Stopped: {what}.", soft_wrap=True)
        raise typer.Exit(130) from None
    if not state.finished:
        out.print("Stopped at the time limit; --resume goes on.")
        return
    score = f"Best validation {SCORE_NAMES[chosen.network.kind.returns]} {state.best:.4f}"
    said = score if cases[1] else "Nothing was validated: these are the weights of the last epoch"
    out.print(f"{said}; weights in {output / 'best.safetensors'}.", soft_wrap=True)


def _check_run(output: Path, resume: bool) -> None:
    """Refuses to train over another run, whose weights have taken hours."""
    from dinsegment.training.half_made import RUN_FILES

    taken = [output / name for name in RUN_FILES if (output / name).exists()]
    if not taken:
        return
    if not (output / "checkpoint.pt").exists():
        raise OutputError(
            f"'{taken[0]}' is of another training, which has no checkpoint to go on from: remove it, or give another "
            "folder."
        )
    if not resume:
        raise OutputError(f"'{taken[0]}' is of another training: give --resume to go on with it, or another folder.")


def _usable(found: Sequence[list[Case]], task: Task, packed: bool, leave_out_failed: bool) -> list[list[Case]]:
    """The training and the validation cases, each read once; what is wrong with one is said before anything begins."""
    from dinsegment.training.failed import usable_cases

    count = sum(map(len, found))
    cases, failed = [], []
    with progress_bar() as bar:
        line = bar.add_task("Reading", total=count)
        for n, part in enumerate(found):
            usable, bad = usable_cases(part, task, n == 0 or packed, lambda _n, case: bar.update(line, advance=1))
            cases.append(usable)
            failed += bad
    for case in failed:
        _print_failed(case)
    left = all(usable for usable, part in zip(cases, found, strict=True) if part)
    if failed and not (leave_out_failed and left):
        what = "correct them" + ("" if leave_out_failed else ", or give --leave-out-failed to train without them")
        raise InputError(f"{len(failed)} of {count} cases cannot be used: {what}.")
    return cases


def adapt(
    cases: Annotated[
        Path,
        typer.Option("--cases", help="Labelled cases: as the panel saves them, or as ACDC, BTCV or nnU-Net have them."),
    ],
    output: Output,
    task: Annotated[str | None, typer.Option("--task", help="What is segmented; else what the model is for.")] = None,
    model: ModelName = None,
    device: Device = "auto",
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Train so many; else a few.")] = None,
) -> None:
    """Go on training a model on a few cases of your own: a model of your own, and whether it got better.

    A quarter of the patients is held out to tell. The model that it starts with stays as it is. If it was killed, the
    same command goes on where it was.
    """
    from dinsegment.models.entries import find_entry
    from dinsegment.training.adapt import adapt as run

    if task is None and model is None:
        raise InputError("Give --model or --task, so that it is known what is segmented.")
    chosen = get_task(task if task is not None else find_entry(model, None).task)
    with progress_bar() as bar:
        line = bar.add_task("Adapting", total=1.0)
        adapted = run(model, chosen, cases, output, device, epochs, updater(bar, line))
    out.print(
        f"{printable(adapted.text)} Written to {output}; use it with --model {output}.", soft_wrap=True, markup=False
    )
