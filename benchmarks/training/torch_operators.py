"""Where the time of training goes, by torch's operations: tables in benchmarks/profiles/.

python -m benchmarks.training.torch_operators

An epoch of each network of `training.py` and of eight members of each of `together.py`, one by one and together, on two
threads under torch's profiler, the first time unseen. Shares are of the time in an operation itself, without those that
it calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.training import one_member as training
from benchmarks.training import vmapped as together
from sweep.core.registry import get_plugin
from sweep.model.build import build
from sweep.model.runtime import setup_worker

SHOWN = 8


def table(title: str, work: Callable[[], object]) -> str:
    """The largest shares, a line each, of the second time that something is done."""
    work()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        work()
    found = sorted(profiled.key_averages(), key=lambda each: -each.self_cpu_time_total)
    total = sum(each.self_cpu_time_total for each in found)
    lines = [f"{100 * each.self_cpu_time_total / total:5.1f}%  {each.count:6,} × {each.key}" for each in found[:SHOWN]]
    calls = sum(each.count for each in found)
    return "\n".join([f"{title}: {total / 1e6:.2f} s in {calls:,} operations", *lines])


def trained(name: str) -> Callable[[], object]:
    """An epoch of one member as a trial trains it."""
    architecture, settings, examples = training.NETWORKS[name]
    dataset: Any = get_plugin("datasets", "synthetic").function(examples=examples, size=training.SIZE, separation=160.0)
    run = training.our_way(dataset, "float32")
    shape = (training.CLASSES, 3, training.SIZE)
    return lambda: run(build(get_plugin("architectures", architecture).function, shape, 0, **settings))


def of_groups() -> dict[str, Callable[[], object]]:
    """An epoch of eight members of each network, both ways."""
    found: dict[str, Callable[[], object]] = {}
    for name in together.NETWORKS:
        alone, at_once = together.ways(name, 8, torch.device("cpu"))
        found |= {f"{name}, eight members one by one": alone, f"{name}, eight members together": at_once}
    return found


def write(name: str, works: Mapping[str, Callable[[], object]]) -> None:
    """A file of tables."""
    command = "python -m benchmarks.training.torch_operators"
    about = f"{command}\n{datetime.now(UTC):%Y-%m-%d}, two threads of a CPU, torch.profiler"
    text = "\n\n".join([about, *(table(title, work) for title, work in works.items())]) + "\n"
    (Path(__file__).resolve().parents[1] / "profiles" / f"{name}.txt").write_text(text)
    print(text, flush=True)


if __name__ == "__main__":
    setup_worker(2, 0)
    write("training", {name: trained(name) for name in training.NETWORKS})
    write("together", of_groups())
