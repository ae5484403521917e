"""What a benchmark found: a table, sentences, pictures, and lines of a history."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from dinsegment.files import atomic_path, json_bytes

GROWTH = {"slices": "number of slices", "size": "rows and columns of each slice", "batch": "slices in a batch"}
"""What DINSegment's time grows with."""

OWN, OTHERS, INK, GRID = "#1f6feb", "#9aa4af", "#1c2128", "#d0d7de"


def number(value: float) -> str:
    """With three significant digits and no exponent."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded == 0 or abs(rounded) >= 100 else f"{rounded:.3g}"


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
        cells = [about + number(tool[key]) for key in ("cold_s", "warm_s", "times_own_warm", "slices_per_s")]
        peaks = number(tool["peak_memory_bytes"] / 1e9)
        if tool["peak_gpu_bytes"] is not None:
            peaks += f", GPU {number(tool['peak_gpu_bytes'] / 1e9)}"
        cells.append(peaks)
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
        yield f"DINSegment by {GROWTH[what]}: {figures}."


def write_comparison(content: dict[str, Any], path: Path) -> None:
    """Writes bars of the warm seconds of every tool on a logarithmic axis, each with its ratio, and their limits."""
    tools = [tool for tool in content["tools"].values() if "error" not in tool]
    figure = Figure(figsize=(9.0, 1.9 + 0.5 * len(tools)), layout="constrained")
    axes = figure.add_subplot()
    seconds, limits = [tool["warm_s"] for tool in tools], [tool["limit_s"] for tool in tools]
    texts = [f"{number(tool['warm_s'])} s, {number(tool['times_own_warm'])} times as long" for tool in tools]
    texts[0] = f"{number(seconds[0])} s"
    bars = axes.barh(range(len(tools)), seconds, height=0.62, color=[OWN, *[OTHERS] * (len(tools) - 1)])
    for n, tool in enumerate(tools):
        if tool["estimated"]:
            texts[n] += ", estimated"
            bars[n].set(hatch="////", edgecolor="white")
    axes.bar_label(bars, texts, padding=5, color=INK)
    label = "measured limit of the device for this network"
    axes.scatter(limits, range(len(tools)), s=300, marker="|", color=INK, linewidths=2, label=label)
    left = 0.5 * min(limits)
    axes.set_xscale("log")
    axes.set_xlim(left, max(seconds) * (max(seconds) / left) ** 0.7)  # room for the text beside the longest bar
    axes.xaxis.set_major_formatter(lambda value, _place: number(value))
    axes.set_yticks(range(len(tools)), [tool["title"] for tool in tools])
    axes.invert_yaxis()
    axes.set_xlabel("seconds, warm, from the array in memory to labels on its grid")
    figure.legend(loc="outside lower center", frameon=False, markerscale=0.5)
    _save(figure, content, path, "x")


def write_growth(content: dict[str, Any], path: Path) -> None:
    """Writes three curves: seconds over slices, over their size, and over the slices in a batch."""
    figure = Figure(figsize=(11.0, 3.8), layout="constrained")
    for axes, (kind, label) in zip(figure.subplots(1, len(GROWTH)), GROWTH.items(), strict=True):
        values, seconds = content["growth"][kind]["values"], content["growth"][kind]["seconds"]
        axes.plot(values, seconds, color=OWN, marker="o", linewidth=2)
        for x, y in zip(values, seconds, strict=True):
            axes.annotate(number(y), (x, y), (0, 7), textcoords="offset points", ha="center", color=INK)
        if kind == "batch":
            axes.set_xscale("log", base=2)
        axes.set_xticks(values, [str(v) for v in values])
        axes.minorticks_off()
        axes.set_ylim(0, 1.2 * max(seconds))
        axes.set_xlabel(label)
    figure.axes[0].set_ylabel("seconds, warm")
    _save(figure, content, path, "both")


def _save(figure: Figure, content: dict[str, Any], path: Path, grid: Literal["x", "both"]) -> None:
    for axes in figure.axes:
        axes.set_axisbelow(True)
        axes.grid(axis=grid, color=GRID, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    wrapped = textwrap.fill(title(content), int(figure.get_figwidth() * 11))
    figure.suptitle(wrapped, x=0.01, ha="left", fontsize=11, color=INK)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, facecolor="white", format="png")


def append_history(content: dict[str, Any], path: Path) -> None:
    """Adds the figures as a line of JSON to a history, which is created if missing. Raises OutputError."""
    line = {key: value for key, value in content.items() if key != "command"}  # which may name the user's folders
    with atomic_path(path) as temporary:
        temporary.write_bytes((path.read_bytes() if path.exists() else b"") + json_bytes(line))
