"""What the commands that segment print of their results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from dinsegment.cli_console import NOTE, err, out, warn
from dinsegment.errors import printable

if TYPE_CHECKING:
    from dinsegment.studies.study import StudyResult
    from dinsegment.tasks import Task


def print_warnings(result: StudyResult, several: bool = False) -> None:
    """What there is to say of one input beside its results; of one of several with its name."""
    for warning in (*result.warnings, *filter(None, [result.message])):
        warn(_named(result, warning) if several else warning)


def print_failed(result: StudyResult) -> None:
    """Why there are no results of one of several inputs."""
    err.print(f"Error: {printable(_named(result, result.message))}", soft_wrap=True, markup=False)


def _named(result: StudyResult, text: str) -> str:
    """A sentence about one of several inputs, which says of which."""
    return text if f"'{result.input}" in text else f"'{result.input}': {text}"


def print_result(result: StudyResult) -> None:
    """All that was found in one input."""
    for phase in result.phases:
        volumes = ", ".join(f"{s['name']} {s['volume_ml']:.1f} ml" for s in phase["segments"])
        out.print(
            f"{phase['input']}: {volumes} ({phase['seconds']:.1f} s on {phase['device']})", soft_wrap=True, markup=False
        )
    print_warnings(result)
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
    if table.row_count:
        out.print(table)
    out.print(result.samples["remark"], soft_wrap=True, markup=False)


def print_table(results: list[StudyResult], task: Task) -> None:
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
