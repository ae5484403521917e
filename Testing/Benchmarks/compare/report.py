"""What a benchmark found: a table, sentences, and lines of a history."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from dinsegment.errors import OutputError

KEPT = ("version", "defaults", "cold_s", "warm_s", "times_own_warm", "slices_per_s", "macs", "limit_s")
"""Of each tool, in the history."""

GROWTH = {
    "slices": "DINSegment by the number of slices",
    "size": "DINSegment by rows and columns of each slice",
    "batch": "DINSegment by slices in a batch",
}
"""What `growth` has, in words."""


def number(value: float, digits: int = 3) -> str:
    """With so many significant digits and no exponent."""
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.0f}" if rounded == 0 or abs(rounded) >= 10 ** (digits - 1) else f"{rounded:.{digits}g}"


def title(content: dict[str, Any]) -> str:
    """What was measured, on what."""
    volume, machine = content["volume"], content["machine"]
    k, j, i = volume["shape"]
    spacing = " x ".join(f"{s:.3g}" for s in volume["spacing_mm"][::-1])
    place = f"{machine['gpu']}, " if machine["gpu"] else ""
    cores = "1 core" if machine["cores"] == 1 else f"{machine['cores']} cores"
    image = f"{volume['name']}, {i} x {j} x {k} voxels of {spacing} mm"
    return f"{content['setting']['task'].capitalize()}: {image}; {place}{cores} of {machine['cpu']}"


def make_table(content: dict[str, Any]) -> Table:
    """The figures of all tools, as a user reads them."""
    tools = content["tools"].values()
    energy = any(tool.get("energy_j") is not None for tool in tools)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", no_wrap=True)
    headings = ["cold\ns", "warm\ns", "times\nas long", "slices\nper s", "memory\nGB"]
    for heading in [*headings, *(["energy\nJ"] if energy else []), "limit\ns", "times\nlimit"]:
        table.add_column(heading, justify="right", vertical="bottom", no_wrap=True)
    for tool in tools:
        if "error" in tool:
            table.add_row(tool["title"], "failed")
            continue
        about = "~" if tool["estimated"] else ""
        memory = number(tool["peak_memory_bytes"] / 1e9)
        if tool["peak_gpu_bytes"] is not None:
            memory += f", GPU {number(tool['peak_gpu_bytes'] / 1e9)}"
        cells = [about + number(tool[key]) for key in ("cold_s", "warm_s", "times_own_warm", "slices_per_s")] + [memory]
        if energy:
            cells.append("–" if tool["energy_j"] is None else number(tool["energy_j"]))
        table.add_row(tool["title"], *cells, number(tool["limit_s"]), about + number(tool["times_limit"]))
    return table


def notes(content: dict[str, Any]) -> Iterator[str]:
    """What a reader of the table has to know, line by line."""
    machine, tools = content["machine"], content["tools"].values()
    rates = ", ".join(f"{number(rate / 1e9)} G MAC/s in {kind}" for kind, rate in machine["macs_per_s"].items())
    yield (
        f"Measured limits: matrix products {rates}; copying {number(machine['bytes_per_s'] / 1e9)} GB/s. "
        f"PyTorch {machine['torch']}, {machine['threads']} threads."
    )
    yield (
        "cold: from the start of a fresh process to the first result. warm: from the array in memory to labels on its "
        "grid, with everything loaded. times as long: warm, as DINSegment. limit: the network's multiply-accumulates "
        "(MACs) at the rate of matrix products, or its weights, inputs and outputs at the speed of copying."
    )
    if all(tool.get("energy_j") is None for tool in tools):
        yield "The device does not tell the energy that it uses."
    for tool in tools:
        if "error" in tool:
            yield tool["error"]
            continue
        macs = f"{number(tool['macs'] / 1e9)} G MACs in {tool['precision']}"
        line = f"{tool['title']} {tool['version']}: {tool['defaults']}; {macs}"
        if e := tool["estimated"]:
            line += (
                f". Estimated from {e['measured_tiles']} of {e['tiles']} tiles: {number(e['before_s'])} s before the "
                f"network, {number(e['per_tile_s'])} s a tile, {number(e['after_s'])} s after it; memory at least"
            )
        yield f"{line}."
    for what, row in content.get("growth", {}).items():
        figures = ", ".join(f"{v}: {number(s)} s" for v, s in zip(row["values"], row["seconds"], strict=True))
        yield f"{GROWTH[what]}: {figures}."


def append_history(content: dict[str, Any], path: Path) -> None:
    """Adds a line of JSON with the main figures to a history, which is created if missing.

    Raises:
        OutputError: The file cannot be written.
    """
    line = {key: content[key] for key in ("date", "version", "setting", "volume", "growth") if key in content}
    line["machine"] = {key: content["machine"][key] for key in ("cpu", "cores", "gpu", "torch")}
    line["tools"] = {
        name: {key: tool[key] for key in (*KEPT, "peak_memory_bytes")} | {"estimated": bool(tool["estimated"])}
        for name, tool in content["tools"].items()
        if "error" not in tool
    }
    try:
        with path.open("a", encoding="utf-8") as history:
            history.write(json.dumps(line, ensure_ascii=False) + "\n")
    except OSError as error:
        raise OutputError(f"'{path}' could not be written ({error.strerror}): choose another place.") from error
