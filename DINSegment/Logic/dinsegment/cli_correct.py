"""The command for corrections: dinsegment correct."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dinsegment.cli_console import load, out, progress_bar, updater
from dinsegment.cli_options import Device, ModelName, Output, Overwrite, TaskName
from dinsegment.cli_printing import print_result
from dinsegment.errors import printable
from dinsegment.tasks import get_task


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
            help="What was corrected, a .seg.nrrd or a labelmap; of several phases one each, in order, or one in 4D.",
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
    from dinsegment.images.reading import check_there
    from dinsegment.studies.corrected import CorrectedStudy, correct_study

    chosen = get_task(task)
    for path in (*inputs, *segmentation):
        check_there(path)  # before the model, which takes seconds
    created = not output.exists()
    ensure_writable_folder(output)
    try:
        with progress_bar() as bar:
            loaded = load(model, chosen, bar)
            line = bar.add_task(printable(inputs[0].name), total=1.0)
            what = CorrectedStudy(tuple(inputs), tuple(segmentation), output, tuple(slices or ()), series, overwrite)
            result, said = correct_study(what, chosen, loaded, device, updater(bar, line))
    finally:
        if created and not any(output.iterdir()):
            output.rmdir()
    for text in said:
        out.print(printable(text), soft_wrap=True, markup=False)
    print_result(result)
