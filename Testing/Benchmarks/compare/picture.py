"""Pictures of a benchmark: the tools side by side, and how DINSegment's time grows."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare.report import number, title
from dinsegment.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OWN, OTHERS, INK, QUIET = "#1f6feb", "#9aa4af", "#1c2128", "#57606a"
DPI = 150


def write_comparison(content: dict[str, Any], path: Path) -> None:
    """Writes bars of the warm seconds of every tool on a logarithmic axis, each with its ratio, and their limits."""
    from matplotlib.figure import Figure

    tools = [tool for tool in content["tools"].values() if "error" not in tool]
    figure = Figure(figsize=(9.0, 1.9 + 0.5 * len(tools)), layout="constrained")
    axes = figure.add_subplot()
    rows = range(len(tools))
    seconds = [tool["warm_s"] for tool in tools]
    left = 0.5 * min(tool["limit_s"] for tool in tools)
    bars = axes.barh(rows, seconds, height=0.62, color=[OWN, *[OTHERS] * (len(tools) - 1)])
    for row, (tool, bar) in enumerate(zip(tools, bars, strict=True)):
        if tool["estimated"]:
            bar.set(hatch="////", edgecolor="white")
        text = f"{number(tool['warm_s'])} s"
        if row:
            text += f", {number(tool['times_own_warm'])} times as long"
        if tool["estimated"]:
            text += ", estimated"
        axes.annotate(text, (tool["warm_s"], row), (5, 0), textcoords="offset points", va="center", color=INK)
        axes.plot([tool["limit_s"]] * 2, [row - 0.31, row + 0.31], color=INK, linewidth=2)
    axes.plot([], [], color=INK, linewidth=2, label="measured limit of the device for this network")
    axes.set_xscale("log")
    axes.set_xlim(left, max(seconds) * (max(seconds) / left) ** 0.7)  # room for the text beside the longest bar
    axes.xaxis.set_major_formatter(lambda value, _place: number(value))
    axes.set_yticks(list(rows), [tool["title"] for tool in tools])
    axes.invert_yaxis()
    axes.set_xlabel("seconds, warm, from the array in memory to labels on its grid")
    figure.legend(loc="outside lower center", frameon=False)
    axes.grid(axis="x", color="#d0d7de", linewidth=0.6)
    _finish(axes)
    _save(figure, content, path)


def write_growth(content: dict[str, Any], path: Path) -> None:
    """Writes three curves: seconds over slices, over their size, and over the slices in a batch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 3.8), layout="constrained")
    k, j, i = content["volume"]["shape"]
    labels = {
        "slices": "slices",
        "size": f"rows and columns of each of {min(k, j, i)} slices",
        "batch": "slices in a batch",
    }
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
        axes.grid(color="#d0d7de", linewidth=0.6)
        _finish(axes)
    figure.axes[0].set_ylabel("seconds, warm")
    _save(figure, content, path)


def _finish(axes: Any) -> None:
    axes.set_axisbelow(True)
    axes.tick_params(colors=QUIET, labelcolor=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _save(figure: Figure, content: dict[str, Any], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    width = int(figure.get_figwidth() * 11)
    figure.suptitle("\n".join(textwrap.wrap(title(content), width)), x=0.01, ha="left", fontsize=11, color=INK)
    FigureCanvasAgg(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=DPI, facecolor="white", format="png")
