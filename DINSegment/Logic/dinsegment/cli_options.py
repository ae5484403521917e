"""The options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

TaskName = Annotated[str, typer.Option("--task", help="What to segment, such as heart or abdomen.")]
ModelName = Annotated[
    str | None,
    typer.Option("--model", help="A model of `dinsegment models`, or the folder of a training; else the task's first."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
DataFolder = Annotated[Path, typer.Option("--data", help="Labelled cases: as ACDC, BTCV or nnU-Net have them.")]
LabelNames = Annotated[Path | None, typer.Option("--labels", help="JSON that names the data set's labels.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results; created if missing.")]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace results that were changed since they were made, and say which."),
]
CommonGrid = Annotated[
    bool,
    typer.Option(
        "--common-grid",
        help="DICOM SEG of a heart that moved between slices: all frames on one grid, for viewers that need it.",
    ),
]
LeaveOut = Annotated[
    bool, typer.Option("--leave-out-failed", help="Go on without cases that cannot be read or segmented.")
]
