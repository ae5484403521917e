"""A DIN as the paper writes it beside the same one rewritten for inference: multiply-accumulates, seconds, difference.

python Testing/Benchmarks/rewriting.py [--network din-base] [--side 224] [--batch 1] [--device cpu] [--cores 2]
    [--precision auto|float32] [--repeat 3] [--parts]

Weights are random: what is computed does not depend on them. `--parts` shows where the time of both goes.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections import defaultdict

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from compare.machine import wait_for
from dinsegment.inference.devices import autocast_dtype, choose_device, lowered
from dinsegment.network import CONFIGS, DIN
from dinsegment.network.rewriting import for_inference


def random_network(name: str) -> DIN:
    """A network whose logits are of the order of 10, with BatchNorm and layer scale as after a training."""
    torch.manual_seed(0)
    with torch.device("meta"):
        network = DIN(CONFIGS[name]).eval()
    weights = {}
    for key, like in network.state_dict().items():
        noise = torch.randn(like.shape) if like.is_floating_point() else torch.zeros(like.shape)
        fan_in = max(1, like[0].numel()) if like.ndim > 1 else 10
        weights[key] = (noise.abs() + 0.5) if key.endswith("running_var") else 1.5 * noise / fan_in**0.5
    network.load_state_dict(weights, assign=True)
    return network.requires_grad_(False)


@contextlib.contextmanager
def timed_parts(network: DIN, device: torch.device):
    """Seconds of encoders, fusion modules and decoder while this lasts."""
    seconds: dict[str, float] = defaultdict(float)
    started = {}
    parts = {"encoders": [network.encoder_i, network.encoder_e], "decoder": [network.decoder]}
    parts |= {f"fusion, level {n + 1}": [module] for n, module in enumerate(network.fusion)}
    handles = []
    for name, modules in parts.items():

        def before(module: nn.Module, _inputs: object) -> None:
            wait_for(device)
            started[module] = time.perf_counter()

        def after(module: nn.Module, _inputs: object, _output: object, name: str = name) -> None:
            wait_for(device)
            seconds[name] += time.perf_counter() - started[module]

        for module in modules:
            handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    yield seconds
    for handle in handles:
        handle.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=sorted(CONFIGS), default="din-base")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--precision", choices=("auto", "float32"), default="auto")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--parts", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.cores)
    device = choose_device(options.device)
    dtype = autocast_dtype(device) if options.precision == "auto" else None

    plain = random_network(options.network)
    networks = {"plain": plain.to(memory_format=torch.channels_last), "rewritten": for_inference(plain)}
    shape = (options.batch, plain.config.in_channels, options.side, options.side)
    images = [(torch.rand(shape) * 2 - 1).to(device, memory_format=torch.channels_last) for _ in range(2)]
    logits, rows = {}, {}
    for name, network in networks.items():
        with torch.device("meta"), torch.no_grad():
            shadow = DIN(plain.config).eval()
            shadow = for_inference(shadow) if name == "rewritten" else shadow
            with FlopCounterMode(display=False) as counter:
                shadow(*(torch.empty(shape) for _ in range(2)))
        used = lowered(network, device) if dtype is not None else network.to(device)
        best, parts = float("inf"), {}
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype is not None):
            for _ in range(options.repeat):
                wait_for(device)
                started = time.perf_counter()
                logits[name] = used(*images).float()
                wait_for(device)
                best = min(best, time.perf_counter() - started)
            if options.parts:
                with timed_parts(used, device) as parts:
                    used(*images)
        rows[name] = (counter.get_total_flops() / 2e9, best, dict(parts))

    precision = str(dtype or torch.float32).removeprefix("torch.")
    title = f"{options.network}, {options.batch} slices of {options.side} x {options.side}, {precision}, {device}"
    table = Table("", *rows, "plain / rewritten", title=title)
    (macs, seconds, parts), (macs_new, seconds_new, parts_new) = rows.values()
    table.add_row("multiply-accumulates", f"{macs:.1f} G", f"{macs_new:.1f} G", f"{macs / macs_new:.2f}")
    table.add_row("seconds", f"{seconds:.3f}", f"{seconds_new:.3f}", f"{seconds / seconds_new:.2f}")
    for part in parts:
        both = parts[part], parts_new[part]
        table.add_row(f"  {part}", *(f"{s:.3f}" for s in both), f"{both[0] / both[1]:.2f}")
    table.add_row("slices per second", *(f"{options.batch / s:.2f}" for s in (seconds, seconds_new)), "")
    difference = (logits["plain"] - logits["rewritten"]).abs().max()
    table.add_row("largest logit", f"{logits['plain'].abs().max():.2f}", f"differs by {difference:.1e}", "")
    Console().print(table)


if __name__ == "__main__":
    main()
