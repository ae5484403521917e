"""The tools that are measured: their names, what they need, and what all of them can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dinsegment.errors import InputError
from dinsegment.images.volume import Volume

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Setting:
    """What is the same for all tools of a run.

    Attributes:
        task: Name of the task.
        device: `cpu`, `cuda` or `cuda:N`.
        model: DINSegment's; None for the task's first.
        cores: Of the CPU.
        repeat: Warm runs in a process, at the least.
        limit: Seconds; what would run longer is estimated from a part of it.
        rounds: How often every tool is measured, each time in a process of its own.
    """

    task: str
    device: str
    cores: int
    model: str | None = None
    repeat: int = 3
    limit: float = 600.0
    rounds: int = 1


class Tool(Protocol):
    """A tool that is ready to segment.

    Attributes:
        version: Of the package.
        network: What is called for every batch of tiles.
        precision: `float32`, `bfloat16` or `float16`: of the network's matrix products.
        defaults: What it does by default, for the reader of the figures.
    """

    version: str
    network: nn.Module
    precision: str
    defaults: str

    def run(self, volume: Volume) -> np.ndarray:
        """From the array in memory to labels (k, j, i) on the volume's grid."""
        ...


class TiledTool(Tool, Protocol):
    """A tool whose runs can be estimated from some of their tiles.

    Attributes:
        tiles: How many inputs the network gets in one run: slices or windows, times mirror images. Known at the latest
            when it is first called.
    """

    tiles: int | None

    def finish(self) -> None:
        """What follows the network in `run`, on an output of the size of the last run's, which was stopped before."""
        ...


@dataclass(frozen=True)
class ToolEntry:
    """How a tool is called and loaded.

    Attributes:
        title: In tables.
        module: With `load(setting, folder, **options) -> Tool`.
        packages: That have to be installed.
        options: Of its module.
        prepares: Whether its module has a `prepare` of the same arguments, which makes files that the tool's user would
            have; it is not timed.
    """

    title: str
    module: str
    packages: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    prepares: bool = False


OWN = "dinsegment"

TOOLS = {
    OWN: ToolEntry("DINSegment", "din", prepares=True),
    "nnunet-2d": ToolEntry("nnU-Net 2D", "nnunet", ("nnunetv2",), {"configuration": "2d", "mirror": False}, True),
    "nnunet-2d-mirrored": ToolEntry(
        "nnU-Net 2D, mirrored", "nnunet", ("nnunetv2",), {"configuration": "2d", "mirror": True}, True
    ),
    "nnunet-3d": ToolEntry(
        "nnU-Net 3D", "nnunet", ("nnunetv2",), {"configuration": "3d_fullres", "mirror": False}, True
    ),
    "nnunet-3d-mirrored": ToolEntry(
        "nnU-Net 3D, mirrored", "nnunet", ("nnunetv2",), {"configuration": "3d_fullres", "mirror": True}, True
    ),
    "monai-unet": ToolEntry("MONAI UNet", "monai_nets", ("monai",), {"kind": "UNet"}),
    "monai-swinunetr": ToolEntry("MONAI SwinUNETR", "monai_nets", ("monai", "einops"), {"kind": "SwinUNETR"}),
}
"""By the names that `--against` takes."""

GROUPS = {"nnunet": tuple(name for name in TOOLS if name.startswith("nnunet-"))}
"""Names for several tools at once."""


def choose_tools(against: Sequence[str]) -> list[str]:
    """DINSegment and the tools of these names.

    Raises:
        InputError: There is no such tool, or a package that it needs is not installed.
    """
    chosen = [OWN]
    for name in against:
        if name not in GROUPS and (name not in TOOLS or name == OWN):
            known = ", ".join((*GROUPS, *(tool for tool in TOOLS if tool != OWN)))
            raise InputError(f"There is no tool '{name}' to compare with; there are: {known}.")
        chosen += [tool for tool in GROUPS.get(name, (name,)) if tool not in chosen]
    for name in chosen:
        missing = [package for package in TOOLS[name].packages if find_spec(package) is None]
        if missing:
            raise InputError(
                f"The comparison with {TOOLS[name].title} needs the package '{missing[0]}', which is not installed: "
                "pip install 'dinsegment[benchmark]'."
            )
    return chosen


def prepare_tool(name: str, setting: Setting, folder: Path) -> None:
    """Makes the files that the tool's user would have, such as weights, in a folder of the tool's own."""
    entry = TOOLS[name]
    if entry.prepares:
        _module(entry).prepare(setting, folder, **entry.options)


def load_tool(name: str, setting: Setting, folder: Path) -> Tool:
    """The tool, ready to segment."""
    entry = TOOLS[name]
    return _module(entry).load(setting, folder, **entry.options)


def _module(entry: ToolEntry) -> Any:
    return import_module(f"compare.{entry.module}")
