"""The command line: segment | correct | series | export | check | evaluate | train | adapt | recipes | models."""

from __future__ import annotations

import sys

import typer

from dinsegment import cli_training
from dinsegment.cli_console import NOTE, err
from dinsegment.cli_correct import correct
from dinsegment.cli_dicom import export, series
from dinsegment.cli_models import models
from dinsegment.cli_segment import segment
from dinsegment.errors import Cancelled, DINSegmentError, printable
from dinsegment.memory import is_out_of_memory

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help=f"Heart MR and abdominal CT segmentation with the Dual Interaction Network. {NOTE}",
)

for command in (
    segment,
    correct,
    series,
    export,
    cli_training.check,
    cli_training.evaluate,
    cli_training.recipes,
    cli_training.train,
    cli_training.adapt,
    models,
):
    app.command()(command)


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
