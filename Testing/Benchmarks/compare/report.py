"""What a benchmark found: a table, lines of a history, and the checks of where they are written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from dinsegment.errors import OutputError

KEPT = ("defaults", "cold_s", "warm_s", "times_own_warm", "slices_per_s", "peak_memory_bytes", "macs", "limit_s")
"""Of each tool, in the history."""


GROWTH = {
    "slices": "DINSegment by the number of slices",
    "size": "DINSegment by rows and columns of each slice",
    "batch": "DINSegment by slices in a batch",
}
"""What `growth` has, in words."""


def number(value: float, digits: int = 3) -> str:
    """With so many significant digits and no exponent."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 ** (digits - 1) else f"{rounded:.{digits}g}"


def title(content: dict[str, Any]) -> str:
    """What was measured, on what."""
    volume, machine, setting = content["volume"], content["machine"], content["setting"]
    k, j, i = volume["shape"]
    spacing = " x ".join(f"{s:.3g}" for s in volume["spacing_mm"][::-1])
    place = f"{machine['gpu']}, " if machine["gpu"] else ""
    cores = "1 core" if machine["cores"] == 1 else f"{machine['cores']} cores"
    image = f"{volume['name']}, {i} x {j} x {k} voxels of {spacing} mm"
    return f"{setting['task'].capitalize()}: {image}; {place}{cores} of {machine['cpu']}"


def make_table(content: dict[str, Any]) -> Table:
    """The figures of all tools, as a user reads them."""
    told = any(tool.get("energy_j") is not None for tool in content["tools"].values())
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", no_wrap=True)
    headings = ["cold\ns", "warm\ns", "times\nas long", "slices\nper s", "memory\nGB"]
    headings += ["energy\nJ"] if told else []
    headings += ["limit\ns", "times\nlimit"]
    for heading in headings:
        table.add_column(heading, justify="right", vertical="bottom", no_wrap=True)
    for tool in content["tools"].values():
        table.add_row(*_row(tool, told))
    return table


def _row(tool: dict[str, Any], told: bool) -> list[str]:
    """The cells of a tool; `told`: with its energy."""
    if "error" in tool:
        return [tool["title"], "failed"]
    about = "~" if tool["estimated"] else ""
    memory = number(tool["peak_memory_bytes"] / 1e9)
    if tool["peak_gpu_bytes"] is not None:
        memory += f", GPU {number(tool['peak_gpu_bytes'] / 1e9)}"
    energy = "–" if tool["energy_j"] is None else number(tool["energy_j"])
    return [
        tool["title"],
        about + number(tool["cold_s"]),
        about + number(tool["warm_s"]),
        about + number(tool["times_own_warm"]),
        about + number(tool["slices_per_s"]),
        memory,
        *([energy] if told else []),
        number(tool["limit_s"]),
        about + number(tool["times_limit"]),
    ]


def notes(content: dict[str, Any]) -> Iterator[str]:
    """What a reader of the table has to know, line by line."""
    machine = content["machine"]
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
    if all(tool.get("energy_j") is None for tool in content["tools"].values()):
        yield "The device does not tell the energy that it uses."
    for tool in content["tools"].values():
        if "error" in tool:
            yield f"{tool['title']}: {tool['error']}"
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


def history_line(content: dict[str, Any]) -> str:
    """One line of JSON with the date, the version, the machine and the main figures."""
    tools = {
        name: {"estimated": bool(tool["estimated"]), "version": tool["version"]} | {key: tool[key] for key in KEPT}
        for name, tool in content["tools"].items()
        if "error" not in tool
    }
    line = {
        "date": content["date"],
        "version": content["version"],
        "machine": {key: content["machine"][key] for key in ("cpu", "cores", "gpu", "torch")},
        "setting": content["setting"],
        "volume": content["volume"],
        "tools": tools,
    }
    line |= {"growth": content["growth"]} if "growth" in content else {}
    return json.dumps(line, ensure_ascii=False)


def append_history(content: dict[str, Any], path: Path) -> None:
    """Adds a line to a history, which is created if missing.

    Raises:
        OutputError: The file cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as history:
            history.write(history_line(content) + "\n")
    except OSError as error:
        raise OutputError(f"'{path}' could not be written ({error.strerror}): choose another place.") from error
