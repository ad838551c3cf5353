"""Training one member beside the plain way: torchvision's transforms on one image at a time, a loader, a loop.

    python -m benchmarks.training.one_member [repetitions]

Both train the same networks on the same images with the same recipe and validate after the epoch, on the same two
cores, in turn; each in a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sweep.config.recipe import Recipe
from sweep.core.registry import get_plugin
from sweep.model.build import build
from sweep.model.runtime import setup_worker
from sweep.model.split import to_device
from sweep.training.trainer import train

SIZE = 32
CLASSES = 10
NETWORKS: dict[str, tuple[str, dict[str, Any], int]] = {  # name -> architecture, its settings, images of an epoch
    "cnn": ("cnn", {}, 3072),
    "cnn, width 16": ("cnn", {"width": 16}, 3072),
    "resnet18": ("resnet18", {}, 256),
}
WAYS = ("plain loop", "plain loop, 2 workers", "sweep.training", "sweep.training, bfloat16")
RECIPE = Recipe(epochs=1, batch_size=128, lr=0.05, momentum=0.9, weight_decay=5e-4, crop=4, flip=True)


class Pictures(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Images in memory, as torchvision's CIFAR10 keeps and gives them."""

    def __init__(self, split: Any, transform: Callable[[Any], Tensor]) -> None:
        self.images = split.images.transpose(0, 2, 3, 1).copy()
        self.labels = split.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def plain_way(dataset: Any, workers: int) -> Callable[[nn.Module], float]:
    """What a user would write; it gives the accuracy on the validation split."""
    from torchvision import transforms

    seen = [transforms.ToTensor(), transforms.Normalize(dataset.mean, dataset.std)]
    changed = [transforms.RandomCrop(SIZE, padding=RECIPE.crop), transforms.RandomHorizontalFlip(), *seen]
    loader = torch.utils.data.DataLoader(
        Pictures(dataset.splits["train"], transforms.Compose(changed)),
        batch_size=RECIPE.batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    held_out = torch.utils.data.DataLoader(
        Pictures(dataset.splits["validation"], transforms.Compose(seen)),
        batch_size=256,
        num_workers=workers,
        persistent_workers=workers > 0,
    )

    def run(model: nn.Module) -> float:
        decay = RECIPE.weight_decay
        momentum = RECIPE.momentum
        optimiser = torch.optim.SGD(model.parameters(), lr=RECIPE.lr, momentum=momentum, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, len(loader))
        model.train()
        for images, labels in loader:
            optimiser.zero_grad()
            functional.cross_entropy(model(images), labels).backward()
            optimiser.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in held_out)
        return right / len(held_out.dataset)

    return run


def our_way(dataset: Any, precision: str) -> Callable[[nn.Module], float]:
    """What a trial of a sweep does once it has its data."""
    splits = {name: to_device(dataset, name, torch.device("cpu")) for name in ("train", "validation")}
    recipe = RECIPE.model_copy(update={"precision": precision})
    return lambda model: train(model, splits, recipe, 0, epochs=1).best.validation_accuracy


def arm(way: str, network: str) -> None:
    """One way in this process: an epoch for each line that is read, its measurements as a line."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    name, settings, examples = NETWORKS[network]
    dataset: Any = get_plugin("datasets", "synthetic").function(examples=examples, size=SIZE, separation=160.0)
    if way.startswith("sweep"):
        setup_worker(2, 0)
        run = our_way(dataset, "bfloat16" if way.endswith("bfloat16") else "float32")
    else:
        torch.set_num_threads(2)
        run = plain_way(dataset, 2 if way.endswith("workers") else 0)
    for _ in sys.stdin:
        model = build(get_plugin("architectures", name).function, (CLASSES, 3, SIZE), 0, **settings)
        started = time.perf_counter()
        accuracy = run(model)
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"rate": examples / seconds, "peak": peak, "accuracy": accuracy}), flush=True)


def begin(way: str, network: str) -> subprocess.Popen[str]:
    """An arm in a process of its own."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.training.one_member", way, network], stdin=pipe, stdout=pipe, text=True
    )


def message(process: subprocess.Popen[str]) -> dict[str, float]:
    """One epoch of an arm."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    found: dict[str, float] = json.loads(process.stdout.readline())
    return found


def compare(network: str, repetitions: int) -> None:
    """Measure each way in turn, the first time unseen, and print what was found."""
    arms = {way: begin(way, network) for way in WAYS}
    for process in arms.values():
        message(process)
    rounds = [{way: message(process) for way, process in arms.items()} for _ in range(repetitions)]
    for process in arms.values():
        process.communicate()
    rates = {way: [each[way]["rate"] for each in rounds] for way in WAYS}
    plain = max(WAYS[:2], key=lambda way: median(rates[way]))
    about = f"{NETWORKS[network][2]} images of {SIZE}x{SIZE}, batches of {RECIPE.batch_size}, 2 threads"
    print(f"\n{network}, {about}", flush=True)
    for way, found in rates.items():
        last = rounds[-1][way]
        spread = f"({min(found):,.0f} to {max(found):,.0f})"
        print(
            f"{way:22} {median(found):7,.0f} images/s {spread:18} peak {last['peak']:5,.0f} MiB"
            f"   accuracy {last['accuracy']:.2f}"
        )
    for way in WAYS[2:]:
        pairs = [each[way]["rate"] / each[plain]["rate"] for each in rounds]
        ratio = median(rates[way]) / median(rates[plain])
        print(f"{way} beside {plain}: {ratio:.2f} (pairs {min(pairs):.2f} to {max(pairs):.2f})")


def main(repetitions: int) -> None:
    """Print the table of every network."""
    for network in NETWORKS:
        compare(network, repetitions)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        arm(*sys.argv[1:])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
