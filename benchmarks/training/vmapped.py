"""Training members of a pool together, as one stack of weights, beside one by one.

    python -m benchmarks.training.vmapped [repetitions] [device] [network ...]

Both train the same members on the same images with the same recipe and validate after the epoch, in turn in one
process. Members per hour are of epochs of this length; only their ratio says something.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch

from benchmarks.common import ratios, timed, with_range
from sweep.config.recipe import Recipe
from sweep.core.dataset import Dataset
from sweep.core.registry import get_plugin
from sweep.model.build import build
from sweep.model.runtime import setup_worker
from sweep.model.split import to_device
from sweep.training.trainer import train
from sweep.training.vmap_trainer import train_vmapped

SIZE = 32
CLASSES = 10
GROUPS = (2, 4, 8)
NETWORKS: dict[str, tuple[str, dict[str, Any], int]] = {  # name -> architecture, its settings, images of an epoch
    "cnn": ("cnn", {}, 1024),
    "cnn, width 16": ("cnn", {"width": 16}, 1024),
    "mlp": ("mlp", {}, 4096),
    "vit, small": ("timm", {"name": "test_vit"}, 1024),
}
ON_GPU = 50_000  # images of an epoch, whatever the network
RECIPE = Recipe(epochs=1, batch_size=128, crop=4, flip=True)


def ways(network: str, count: int, device: torch.device) -> tuple[Callable[[], object], Callable[[], object]]:
    """Training so many members one by one, and together; both wait for the device, since they validate."""
    name, settings, examples = NETWORKS[network]
    examples = ON_GPU if device.type == "cuda" else examples
    made = get_plugin("datasets", "synthetic").function(examples=examples, size=SIZE, separation=160.0)
    assert isinstance(made, Dataset)
    splits = {part: to_device(made, part, device) for part in ("train", "validation")}
    function = get_plugin("architectures", name).function
    seeds = range(count)

    def models() -> Sequence[torch.nn.Module]:
        return [build(function, (CLASSES, 3, SIZE), seed, **settings).to(device) for seed in seeds]

    def one_by_one() -> object:
        return [train(model, splits, RECIPE, seed, epochs=1) for model, seed in zip(models(), seeds, strict=True)]

    return one_by_one, lambda: train_vmapped(models(), splits, RECIPE, seeds, epochs=1)


def compare(network: str, repetitions: int, device: torch.device) -> None:
    """Measure groups of each size in turn with the same members one by one, the first time unseen."""
    print(f"\n{network} on {device}, batches of {RECIPE.batch_size}", flush=True)
    for count in GROUPS:
        alone, together = ways(network, count, device)
        alone(), together()
        rounds = [(timed(alone)[0], timed(together)[0]) for _ in range(repetitions)]
        slow, fast = zip(*rounds, strict=True)
        rates = [3600 * count / median(seconds) for seconds in (slow, fast)]
        print(
            f"{count} members: one by one {with_range(slow)} s, {rates[0]:,.0f} an hour; "
            f"stacked {with_range(fast)} s, "
            f"{rates[1]:,.0f} an hour; ratio of pairs {ratios(slow, fast)}",
            flush=True,
        )


def main(repetitions: int, name: str, networks: Sequence[str]) -> None:
    """Print the comparison of each network."""
    device = setup_worker(2, 1.0 if name == "cuda" else 0.0)
    for network in networks or NETWORKS:
        compare(network, repetitions, device)


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(given[0]) if given else 5, given[1] if len(given) > 1 else "cpu", given[2:])
