"""One tool in this process, cold and warm: seconds, memory, energy, and what its network needs."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from compare.machine import measure_energy, wait_for
from compare.tools import OWN, TOOLS, Setting, Tool, tool_class
from dinsegment.errors import WorkerError
from dinsegment.images.volume import Volume
from memory import peak_bytes

WARM_SECONDS = 4.0
"""A quick tool runs for so long, however often that is: what else a machine does comes and goes within seconds. One run
alone, as for a look, is not repeated."""

LEAST_CALLS = 2
"""Of the network, before the rest is estimated: the first of them also sets up what the others use."""


@dataclass(frozen=True)
class Estimate:
    """How the seconds of a run were estimated of which the network computed a part.

    Attributes:
        measured_tiles: Tiles that were computed; the others got the output of one of these.
        tiles: Tiles of the whole run.
        before_s: Measured, until the network was first called.
        per_tile_s: Measured, from one tile to the next.
        after_s: Measured, after the network was last called.
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


class Passes:
    """What a network is called with while a tool runs, and when. After `limit` seconds it computes no more.

    Attributes:
        shapes: How often it computed with inputs of these shapes.
        tiles: Inputs that it got, each of a batch counted.
        measured_tiles: Those of them that it had when it stopped to compute; None if it never did.
    """

    def __init__(self, network: nn.Module, limit: float | None, device: torch.device) -> None:
        self.shapes: Counter[tuple[tuple[int, ...], ...]] = Counter()
        self.tiles, self.measured_tiles = 0, None
        self._network, self._forward, self._limit, self._device = network, network.forward, limit, device
        self._times: list[float] = []

    def __enter__(self) -> Passes:
        self._network.forward = self._answer
        self._started = time.perf_counter()
        return self

    def __exit__(self, *_error: object) -> None:
        del self._network.forward
        wait_for(self._device)
        self._ended = time.perf_counter()
        self.seconds = self._ended - self._started

    @property
    def estimate(self) -> Estimate | None:
        """Where it stopped to compute."""
        if self.measured_tiles is None:
            return None
        first, once, stopped, last = (self._times[n] for n in (0, 1, 2, -1))
        per_tile = (stopped - once) / (self.measured_tiles - self._first_tiles)
        return Estimate(self.measured_tiles, self.tiles, first - self._started, per_tile, self._ended - last)

    def _answer(self, *inputs: Tensor) -> Tensor:
        now, count = time.perf_counter(), len(inputs[0])
        calls = self.shapes.total()
        if self._limit is not None and calls >= LEAST_CALLS and now - self._started >= self._limit:
            if self.measured_tiles is None:
                wait_for(self._device)
                self._times.append(time.perf_counter())
                self.measured_tiles = self.tiles
            output = self._output[:1].expand(count, *self._output.shape[1:]).clone()
        else:
            output = self._output = self._forward(*inputs)
            self.shapes[tuple(tuple(t.shape) for t in inputs)] += 1
        self.tiles += count
        if calls == 0:
            wait_for(self._device)
            self._first_tiles = count
            self._times += [now, time.perf_counter()]
        elif self.measured_tiles is not None:
            self._times[3:] = [time.perf_counter()]
        return output


@dataclass(frozen=True)
class Run:
    """One run: its seconds, what its network was called with, and how the seconds were estimated if it was stopped."""

    seconds: float
    passes: Passes
    estimate: Estimate | None


def run_once(tool: Tool, volume: Volume, limit: float | None, device: torch.device) -> Run:
    """One run of a tool. After `limit` seconds its network computes no more, and the rest is estimated.

    Raises:
        WorkerError: What it gave are no labels on the volume's grid.
    """
    with Passes(tool.network, limit, device) as passes:
        labels = tool.run(volume)
    if labels.shape != volume.shape or labels.dtype.kind not in "iu":
        raise WorkerError(f"It gave {labels.dtype} of shape {labels.shape} for a volume of shape {volume.shape}.")
    estimate = passes.estimate
    return Run(estimate.seconds if estimate else passes.seconds, passes, estimate)


def count_costs(network: nn.Module, passes: Passes, precision: str) -> dict[str, float]:
    """What a network needs at least for what it computed in these passes; counted, not measured.

    Returns:
        `macs`, multiply-accumulates of convolutions and matrix products; `bytes` of weights, inputs and outputs, each
        read or written once a call in the precision of the matrix products, since what lies between stays in the caches
        of an ideal machine; `parameters` of the network.
    """
    size = getattr(torch, precision).itemsize
    ghost = copy.deepcopy(network).to("meta", torch.float32).eval()
    weights = sum(p.numel() for p in ghost.parameters())
    macs = values = 0.0
    with torch.no_grad():
        for shapes, count in passes.shapes.items():
            with FlopCounterMode(display=False) as counter:
                output = ghost(*(torch.empty(shape, device="meta") for shape in shapes))
            macs += count * counter.get_total_flops() / 2
            values += count * (weights + sum(torch.Size(shape).numel() for shape in shapes) + output.numel())
    return {"macs": macs, "bytes": values * size, "parameters": weights}


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
        What the report says of it. Raises as `run_once`.
    """
    tool = tool_class(name)(setting, folder, **TOOLS[name].options)
    mark("loaded")
    device = torch.device(setting.device)
    limit = None if name == OWN else setting.limit
    first = run_once(tool, volume, limit, device)
    mark("first")
    warm = [run_once(tool, volume, limit, device)]
    while not warm[-1].estimate and setting.repeat > 1:
        if len(warm) >= setting.repeat and sum(run.seconds for run in warm) >= WARM_SECONDS:
            break
        warm.append(run_once(tool, volume, limit, device))
    peaks = peak_bytes(), torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    last, estimate = warm[-1], warm[-1].estimate
    costs = count_costs(tool.network, last.passes, tool.precision)
    share = estimate.measured_tiles / estimate.tiles if estimate else 1.0
    return {
        "version": tool.version,
        "defaults": tool.defaults,
        "precision": tool.precision,
        "parameters": costs["parameters"],
        "first_estimated_s": first.seconds if first.estimate else None,
        "warm_s": median(run.seconds for run in warm),
        "warm_runs_s": [run.seconds for run in warm],
        "estimated": asdict(estimate) if estimate else None,
        "tiles": last.passes.tiles,
        "macs": costs["macs"] / share,
        "bytes": costs["bytes"] / share + volume.array.nbytes + volume.array.size,  # and the labels
        "peak_memory_bytes": peaks[0],
        "peak_gpu_bytes": peaks[1],
        "energy_j": None if estimate else measure_energy(lambda: tool.run(volume), device),
    }
