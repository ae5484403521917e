"""One tool in this process, cold and warm: seconds, memory, energy, and what its network needs."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from compare.machine import measure_energy, wait_for
from compare.tools import OwnTool, Setting, Tool
from dinsegment.errors import WorkerError
from dinsegment.images.volume import Volume
from memory import peak_bytes

WARM_SECONDS = 4.0
"""A quick tool runs for so long, however often that is: what else a machine does comes and goes within seconds. One run
alone, as for a look, is not repeated."""

LEAST_CALLS = 2
"""Of the network, before the rest is estimated: the first of them also sets up what the others use."""


@dataclass(frozen=True)
class Run:
    """One run of a tool.

    Attributes:
        seconds: From the array in memory to labels on its grid; estimated where the network did not compute all tiles.
        tiles: Inputs that the network was called with, each of a batch counted.
        shapes: How often it computed with inputs of these shapes.
        estimate: What `seconds` is the sum of where it is estimated: `measured_tiles` of the `tiles` were computed, in
            `per_tile_s` each, `before_s` passed until the network was first called, `after_s` after it was last called.
            None where all was computed.
    """

    seconds: float
    tiles: int
    shapes: dict[tuple[tuple[int, ...], ...], int]
    estimate: dict[str, float] | None


def run_once(tool: Tool, volume: Volume, limit: float | None, device: torch.device) -> Run:
    """Runs a tool. After `limit` seconds its network computes no more, but answers with an output of before.

    Raises:
        WorkerError: What it gave are no labels on the volume's grid.
    """
    forward, output = tool.network.forward, torch.empty(0)
    shapes: Counter[tuple[tuple[int, ...], ...]] = Counter()
    tiles, called, answered = list[int](), list[float](), list[float]()  # of every call

    def now() -> float:
        wait_for(device)
        return perf_counter()

    def answer(*inputs: Tensor) -> Tensor:
        nonlocal output
        tiles.append(len(inputs[0]))
        called.append(perf_counter())
        if limit is not None and len(tiles) > LEAST_CALLS and called[-1] - started >= limit:
            if len(tiles) == shapes.total() + 1:  # the first that is not computed: those before have to be done
                called[-1] = now()
            output = output[:1].expand(tiles[-1], *output.shape[1:]).clone()
        else:
            output = forward(*inputs)
            shapes[tuple(tuple(t.shape) for t in inputs)] += 1
        answered.append(perf_counter() if answered else now())
        return output

    tool.network.forward = answer
    started = perf_counter()
    try:
        labels = tool.run(volume)
    finally:
        del tool.network.forward
    ended = now()
    if labels.shape != volume.shape or labels.dtype.kind not in "iu":
        raise WorkerError(f"It gave {labels.dtype} of shape {labels.shape} for a volume of shape {volume.shape}.")
    computed = shapes.total()
    if computed == len(tiles):
        return Run(ended - started, sum(tiles), shapes, None)
    before, after = called[0] - started, ended - answered[-1]
    per_tile = (called[computed] - answered[0]) / sum(tiles[1:computed])
    estimate = {"measured_tiles": sum(tiles[:computed]), "tiles": sum(tiles)}
    estimate |= {"before_s": before, "per_tile_s": per_tile, "after_s": after}
    return Run(before + sum(tiles) * per_tile + after, sum(tiles), shapes, estimate)


def count_costs(network: nn.Module, run: Run, precision: str) -> dict[str, float]:
    """What a network needs at least for what it computed in this run; counted, not measured.

    Returns:
        `macs`, multiply-accumulates of convolutions and matrix products; `bytes` of weights, inputs and outputs, each
        read or written once a call in the precision of the matrix products, since what lies between stays in the caches
        of an ideal machine; `parameters` of the network.
    """
    ghost = copy.deepcopy(network).to("meta", torch.float32).eval()
    weights = sum(p.numel() for p in ghost.parameters())
    macs = values = 0.0
    with torch.no_grad():
        for shapes, count in run.shapes.items():
            with FlopCounterMode(display=False) as counter:
                output = ghost(*(torch.empty(shape, device="meta") for shape in shapes))
            macs += count * counter.get_total_flops() / 2
            values += count * (weights + sum(torch.Size(shape).numel() for shape in shapes) + output.numel())
    return {"macs": macs, "bytes": values * getattr(torch, precision).itemsize, "parameters": weights}


def measure_tool(tool: Tool, setting: Setting, folder: Path, volume: Volume, started: float) -> dict[str, Any]:
    """What the report says of a tool, which is loaded, run cold and warm, and its network's needs counted.

    The folder is that in which it was prepared; `started` is what `time.perf_counter` said when this process was
    started. Raises as `run_once`.
    """
    tool.load(setting, folder)
    loaded_s = perf_counter() - started
    device = torch.device(setting.device)
    limit = None if isinstance(tool, OwnTool) else setting.limit
    cold_s = loaded_s + run_once(tool, volume, limit, device).seconds
    warm = [run_once(tool, volume, limit, device)]
    while not warm[-1].estimate and setting.repeat > 1:
        if len(warm) >= setting.repeat and sum(run.seconds for run in warm) >= WARM_SECONDS:
            break
        warm.append(run_once(tool, volume, limit, device))
    peaks = peak_bytes(), torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    last, estimate = warm[-1], warm[-1].estimate
    costs = count_costs(tool.network, last, tool.precision)
    share = estimate["measured_tiles"] / estimate["tiles"] if estimate else 1.0
    return {
        "title": tool.title,
        "cold_s": cold_s,
        "version": tool.version,
        "defaults": tool.defaults,
        "precision": tool.precision,
        "parameters": costs["parameters"],
        "warm_runs_s": [run.seconds for run in warm],
        "estimated": estimate,
        "tiles": last.tiles,
        "macs": costs["macs"] / share,
        "bytes": costs["bytes"] / share + volume.array.nbytes + volume.array.size,  # and the labels
        "peak_memory_bytes": peaks[0],
        "peak_gpu_bytes": peaks[1],
        "energy_j": None if estimate else measure_energy(lambda: tool.run(volume), device),
    }
