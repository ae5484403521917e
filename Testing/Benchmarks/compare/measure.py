"""One tool in this process, cold and warm: seconds, memory, energy, and what its network needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from compare.machine import peak_memory, waiter
from compare.passes import Enough, Passes
from compare.tools import Setting, TiledTool, Tool, load_tool
from dinsegment.errors import WorkerError
from dinsegment.images.volume import Volume

WARM_SECONDS = 4.0
"""A quick tool runs for so long, however often that is: what else a machine does comes and goes within seconds."""


@dataclass(frozen=True)
class Estimate:
    """Seconds of a run that was stopped: those before the network, of every tile, and after it.

    Attributes:
        measured_tiles: Tiles that were computed.
        tiles: Tiles of the whole run.
        before_s: Measured, until the network was first called.
        per_tile_s: Measured, from one tile to the next.
        after_s: Measured, on an output of the run's size.
    """

    measured_tiles: int
    tiles: int
    before_s: float
    per_tile_s: float
    after_s: float

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return self.before_s + self.tiles * self.per_tile_s + self.after_s


@dataclass(frozen=True)
class Run:
    """One run: its seconds, what its network was called with, and how the seconds were estimated if it was stopped."""

    seconds: float
    passes: Passes
    estimate: Estimate | None = None


def measure_tool(
    name: str, setting: Setting, folder: Path, volume: Volume, mark: Callable[[str], None]
) -> dict[str, Any]:
    """Loads a tool, runs it cold and warm, and counts what its network needs.

    Args:
        name: Of the tool.
        setting: Of the run.
        folder: Of the tool's own files.
        volume: What it segments.
        mark: Notes when the tool is `loaded` and when its `first` result is there.

    Returns:
        What the report says of it, as JSON takes it.

    Raises:
        WorkerError: What it gave are no labels on the volume's grid.
    """
    tool = load_tool(name, setting, folder)
    mark("loaded")
    device = torch.device(setting.device)
    first = run_once(tool, volume, setting.limit, device)
    mark("first")
    warm = [run_once(tool, volume, setting.limit, device)]
    while not warm[-1].estimate and not _enough(warm, setting):
        warm.append(run_once(tool, volume, setting.limit, device))
    peaks = peak_memory(), torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None

    from compare.costs import count_costs
    from compare.energy import measure_energy

    last = warm[-1]
    passes, estimate = last.passes, last.estimate
    share = estimate.measured_tiles / estimate.tiles if estimate else 1.0
    costs = count_costs(tool.network, passes.shapes, tool.precision)
    return {
        "version": tool.version,
        "defaults": tool.defaults,
        "precision": tool.precision,
        "parameters": costs.parameters,
        "first_estimated_s": first.seconds if first.estimate else None,
        "warm_s": median(run.seconds for run in warm),
        "warm_runs_s": [run.seconds for run in warm],
        "estimated": asdict(estimate) if estimate else None,
        "tiles": estimate.tiles if estimate else passes.tiles,
        "macs": costs.macs / share,
        "bytes": costs.bytes / share + volume.array.nbytes + volume.array.size,  # and the labels
        "peak_memory_bytes": peaks[0],
        "peak_gpu_bytes": peaks[1],
        "energy_j": None if estimate else measure_energy(lambda: tool.run(volume), device),
    }


def _enough(warm: Sequence[Run], setting: Setting) -> bool:
    seconds = sum(run.seconds for run in warm)
    return seconds >= setting.limit or (len(warm) >= setting.repeat and seconds >= WARM_SECONDS)


def run_once(tool: Tool, volume: Volume, limit: float, device: torch.device) -> Run:
    """One run of a tool, stopped as soon as it is clear that it would take longer than the limit.

    Raises:
        WorkerError: What it gave are no labels on the volume's grid.
    """
    wait = waiter(device)
    with Passes(tool, limit, wait) as passes:
        started = time.perf_counter()
        try:
            labels = tool.run(volume)
            wait()
        except Enough:
            labels = None
        seconds = time.perf_counter() - started
    if labels is None:
        estimate = _estimate(tool, passes)
        return Run(estimate.seconds, passes, estimate)
    if labels.shape != volume.shape or labels.dtype.kind not in "iu":
        raise WorkerError(f"It gave {labels.dtype} of shape {labels.shape} for a volume of shape {volume.shape}.")
    return Run(seconds, passes)


def _estimate(tool: TiledTool, passes: Passes) -> Estimate:
    started = time.perf_counter()
    tool.finish()
    after = time.perf_counter() - started
    return Estimate(passes.tiles, tool.tiles, passes.before, passes.per_tile, after)
