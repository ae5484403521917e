"""Pictures of a benchmark: the tools side by side, and how DINSegment's time grows."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from compare.report import number, title
from dinsegment.files import atomic_path

OWN, OTHERS, INK, GRID = "#1f6feb", "#9aa4af", "#1c2128", "#d0d7de"
DPI = 150


def write_comparison(content: dict[str, Any], path: Path) -> None:
    """Writes bars of the warm seconds of every tool on a logarithmic axis, each with its ratio, and their limits."""
    tools = [tool for tool in content["tools"].values() if "error" not in tool]
    figure = Figure(figsize=(9.0, 1.9 + 0.5 * len(tools)), layout="constrained")
    axes = figure.add_subplot()
    seconds = [tool["warm_s"] for tool in tools]
    bars = axes.barh(range(len(tools)), seconds, height=0.62, color=[OWN, *[OTHERS] * (len(tools) - 1)])
    for row, (tool, bar) in enumerate(zip(tools, bars, strict=True)):
        text = f"{number(tool['warm_s'])} s"
        if row:
            text += f", {number(tool['times_own_warm'])} times as long"
        if tool["estimated"]:
            text += ", estimated"
            bar.set(hatch="////", edgecolor="white")
        axes.annotate(text, (tool["warm_s"], row), (5, 0), textcoords="offset points", va="center", color=INK)
    limits = [tool["limit_s"] for tool in tools]
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
    _finish(axes, "x")
    _save(figure, content, path)


def write_growth(content: dict[str, Any], path: Path) -> None:
    """Writes three curves: seconds over slices, over their size, and over the slices in a batch."""
    figure = Figure(figsize=(11.0, 3.8), layout="constrained")
    pixels = f"rows and columns of each of {min(content['volume']['shape'])} slices"
    labels = {"slices": "slices", "size": pixels, "batch": "slices in a batch"}
    for axes, (kind, label) in zip(figure.subplots(1, len(labels)), labels.items(), strict=True):
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
        _finish(axes, "both")
    figure.axes[0].set_ylabel("seconds, warm")
    _save(figure, content, path)


def _finish(axes: Axes, grid: str) -> None:
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=GRID, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, content: dict[str, Any], path: Path) -> None:
    width = int(figure.get_figwidth() * 11)
    figure.suptitle("\n".join(textwrap.wrap(title(content), width)), x=0.01, ha="left", fontsize=11, color=INK)
    FigureCanvasAgg(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=DPI, facecolor="white", format="png")
