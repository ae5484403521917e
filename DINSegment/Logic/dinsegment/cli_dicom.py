"""The commands for DICOM: dinsegment series | export."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from dinsegment.cli_console import NOTE, out, progress_bar, warn
from dinsegment.cli_options import CommonGrid
from dinsegment.errors import OutputError
from dinsegment.tasks import get_task


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
        sys.stdout.write(contents_json(studies))  # with what is to be said of each stack
    else:
        for one in studies:
            out.print(contents_table(one))
            said += remarks(one)
    for sentence in said:
        warn(sentence)


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
    written = export_dicom_seg(segmentation, source, output, options, series, phase, chosen, model, warn)
    names = ", ".join(segment.name for segment in written)
    if replaced:
        warn(f"Overwritten: {output}.")
    out.print(f"Written to {output}: {names}. {NOTE}", soft_wrap=True, markup=False)


def _check_export(output: Path, overwrite: bool) -> bool:
    """Whether a file is replaced; refuses one of others, and any if that was not asked for."""
    if not os.path.lexists(output):
        return False
    from dinsegment.dicom.write.save import is_ours

    if output.is_symlink() or not output.is_file() or not is_ours(output):
        raise OutputError(f"'{output}' is there and was not made by DINSegment: choose another name.")
    if not overwrite:
        raise OutputError(f"'{output}' is there: choose another name; --overwrite replaces it.")
    return True
