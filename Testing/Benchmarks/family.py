"""The networks of recipes side by side: parameters, multiply-accumulates, seconds for a volume and slices a second.

python Testing/Benchmarks/family.py [RECIPE ...] [--device cpu] [--repeat 3]

The volume is the heart phantom with ten slices; weights are random, which costs the same time. Seconds are those of the
whole inference with a warm network, from the volume to its labels; slices a second those of the network alone, in the
largest batch that inference takes.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from dinsegment.inference import anatomy
from dinsegment.inference.devices import autocast_dtype, choose_device
from dinsegment.inference.prediction import predict
from dinsegment.inference.runner import MAX_BATCH, Runner
from dinsegment.network import build_network
from dinsegment.network.rewriting import for_inference
from dinsegment.phantom.heart import heart_phantom
from dinsegment.training.recipe import Recipe, load_recipe

RECIPES = (
    "heart-din-small-longer",
    "heart-din-small",
    "small-table5-concatenation",
    "small-table4-only-image",
    "small-monai-unet",
    "small-monai-attention-unet",
    "small-monai-segresnet",
    "small-monai-nnunet",
)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work, device: torch.device, repeat: int) -> float:
    """Median of several runs, after one that warms up."""
    work()
    wait(device)
    taken = []
    for _ in range(repeat):
        started = time.perf_counter()
        work()
        wait(device)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def measure(recipe: Recipe, device: torch.device, repeat: int) -> str:
    torch.manual_seed(0)
    trained = build_network(recipe.network)
    parameters = sum(p.numel() for p in trained.parameters()) / 1e6
    network = for_inference(trained).to(device)
    box, channels = recipe.preprocessing.box, recipe.network.in_channels
    one = torch.rand(1, channels, *box, device=device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(one, one)
    macs = counter.get_total_flops() / 2e9
    volume = heart_phantom(slices=10).volume
    runner = Runner(network, device)
    anatomy.SURE = 0.0  # random weights are sure of nothing and would look at all slices
    whole = seconds(lambda: predict(runner, recipe.preprocessing, volume, recipe.task), device, repeat)
    batch = MAX_BATCH[device.type]
    many = torch.rand(batch, channels, *box, device=device).to(memory_format=torch.channels_last)
    dtype = autocast_dtype(device)

    def forward() -> None:
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype is not None):
            network(many, many)

    rate = batch / seconds(forward, device, repeat)
    return f"| {recipe.name} | {parameters:.2f} M | {macs:.2f} G | {whole:.2f} | {rate:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    device = choose_device(options.device)
    print(f"on {device}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}")
    print("| recipe | parameters | MACs a slice | seconds a volume | slices a second |\n|---|---|---|---|---|")
    for name in options.recipes:
        print(measure(load_recipe(name), device, options.repeat), flush=True)


if __name__ == "__main__":
    main()
