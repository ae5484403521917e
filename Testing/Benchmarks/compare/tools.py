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
        cores: Of the CPU.
        model: DINSegment's; None for the task's first.
        repeat: Warm runs in a process, at the least; one alone is one, and more go on for some seconds.
        limit: Seconds after which another tool's run is not computed to its end: the rest is estimated.
        rounds: How often every tool is measured, each time in a process of its own.
    """

    task: str
    device: str
    cores: int
    model: str | None = None
    repeat: int = 3
    limit: float = 60.0
    rounds: int = 1


class Tool(Protocol):
    """A tool that is made ready to segment by `Tool(setting, folder, **options)`.

    Attributes:
        version: Of the package.
        network: What is called for every batch of tiles, slices or windows, as the first argument's first axis.
        precision: `float32`, `bfloat16` or `float16`: of the network's matrix products.
        defaults: What it does by default, for the reader of the figures.
    """

    version: str
    network: nn.Module
    precision: str
    defaults: str

    @staticmethod
    def prepare(setting: Setting, folder: Path, **options: Any) -> None:
        """Makes files that the tool's user would have, such as weights, in the tool's own folder; it is not timed."""

    def run(self, volume: Volume) -> np.ndarray:
        """From the array in memory to labels (k, j, i) on the volume's grid."""
        ...


@dataclass(frozen=True)
class ToolEntry:
    """A tool that can be compared with.

    Attributes:
        title: In tables.
        made_by: `module:class` of this package.
        packages: That have to be installed.
        options: Of the class.
        prepares: Whether the class has something to `prepare`.
    """

    title: str
    made_by: str
    packages: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    prepares: bool = False


def _nnunet(title: str, configuration: str, mirror: bool) -> ToolEntry:
    return ToolEntry(title, "nnunet:NNUNet", ("nnunetv2",), {"configuration": configuration, "mirror": mirror}, True)


OWN = "dinsegment"

TOOLS = {
    OWN: ToolEntry("DINSegment", "din:OwnTool", prepares=True),
    "nnunet-2d": _nnunet("nnU-Net 2D", "2d", False),
    "nnunet-2d-mirrored": _nnunet("nnU-Net 2D, mirrored", "2d", True),
    "nnunet-3d": _nnunet("nnU-Net 3D", "3d_fullres", False),
    "nnunet-3d-mirrored": _nnunet("nnU-Net 3D, mirrored", "3d_fullres", True),
    "monai-unet": ToolEntry("MONAI UNet", "monai_nets:MonaiTool", ("monai",), {"kind": "UNet"}),
    "monai-swinunetr": ToolEntry("MONAI SwinUNETR", "monai_nets:MonaiTool", ("monai", "einops"), {"kind": "SwinUNETR"}),
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
        for package in TOOLS[name].packages:
            if find_spec(package) is None:
                raise InputError(
                    f"The comparison with {TOOLS[name].title} needs the package '{package}', which is not installed: "
                    "pip install 'dinsegment[benchmark]'."
                )
    return chosen


def tool_class(name: str) -> type[Tool]:
    """What makes a tool ready; its package is imported only now."""
    module, _, made_by = TOOLS[name].made_by.partition(":")
    return getattr(import_module(f"compare.{module}"), made_by)
