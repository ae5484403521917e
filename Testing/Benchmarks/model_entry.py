"""What benchmarks that write into a model's entry of weights.json have in common: their options, and how they write."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dinsegment.files import write_json

PAIR: dict[str, Any] = {"nargs": 2, "metavar": ("DIR", "FILE"), "type": Path}
"""An option that takes a folder of cases and a file that names patients, one a line."""


def parser_of(text: str | None, task: str = "heart") -> argparse.ArgumentParser:
    """The options that all of them take: --data, --task, --model, --device, --write.

    Args:
        text: What the benchmark does, its docstring.
        task: Where none is given.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True, **PAIR)
    parser.add_argument("--task", default=task)
    parser.add_argument("--model")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--write", type=Path, metavar="weights.json")
    return parser


def named(pairs: Iterable[tuple[Path, Path]]) -> str:
    """Folders of cases and files that name patients, in words and without their place."""
    return " and ".join(f"{data.name} {split.name}" for data, split in pairs)


def write_part(path: Path, model: str, part: str, content: Any) -> None:
    """Puts something into a model's entry of a weights.json, in the place of what was there by that name."""
    listed = json.loads(path.read_text(encoding="utf-8"))
    entry = next((entry for entry in listed["models"] if entry["name"] == model), None)
    if entry is None:
        raise SystemExit(f"'{path}' has no model '{model}'.")
    entry[part] = content
    write_json(listed, path)
