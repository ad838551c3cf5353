"""Merging at the speed of memory: all pairwise means of a pool, made one after the other in the bench's model.

    python -m benchmarks.evaluation.merging [repetitions] [threads]

100 members of a network of 620,362 parameters, by `Bench.load` alone and as candidates; bytes are those of two members
read and one merge written, beside torch's addition of arrays far beyond any cache in the same minute. Then 10 members
of the size of a ViT-B/16. The matrix is a mapped file, so private memory is what the process has beyond it, less what
it had before the bench. Each pool has a process of its own.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import Peak, anonymous, bandwidth, bench, drawn, planned, ratios, timed, with_range
from sweep.core.weights import MergeCoefficients, merge_coefficients
from sweep.evaluation.engine import PoolEngine, SubsetWeights
from sweep.evaluation.merge import load_merge
from sweep.evaluation.pool_weights import PoolWeights
from sweep.model.runtime import setup_worker
from sweep.plan.planner import Plan

SWEEP = """
name: merging
dataset: {synthetic: {examples: 50, size: SIZE}}
populations: [{architecture: NETWORK, members: MEMBERS, start: scratch}]
subsets: {pairs: all}
methods: uniform_soup
execution: {mlflow: false}
"""


def plan_of(network: str, size: int, members: int) -> Plan:
    """All pairs of so many members."""
    text = SWEEP.replace("NETWORK", network).replace("SIZE", str(size)).replace("MEMBERS", str(members))
    return planned(text)


def merges(ours: PoolEngine, members: int) -> list[MergeCoefficients]:
    """The means of all pairs."""
    ones = torch.ones(2, len(ours.layout.entries), dtype=torch.float64)
    return [
        merge_coefficients(ours.layout, pair, (0.5, 0.5), ones) for pair in itertools.combinations(range(members), 2)
    ]


def loading(ours: PoolEngine, members: int) -> Callable[[], int]:
    """All means from blends that are there already."""
    blends = merges(ours, members)
    source = SubsetWeights((), ours.matrix, (0, 1), None)

    def run() -> int:
        for each in blends:
            ours.load(source, each)
        return len(blends)

    return run


def evaluating(ours: PoolEngine, plan: Plan) -> Callable[[], int]:
    """All means as candidates, from the method's coefficients on."""
    candidates = [candidate for candidate in plan.candidates if candidate.method.name == "uniform_soup"]

    def run() -> int:
        for candidate in candidates:
            load_merge(ours, candidate)
        return len(candidates)

    return run


def make(file: Path, which: str) -> None:
    """The matrix of a pool as a file: initial weights, and for further members the same shifted by entries."""
    plan = POOLS[which]()
    first = drawn(plan, members=1).matrix[0]
    shape = (len(plan.pools[0].members), len(first))
    matrix = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
    for index, row in enumerate(matrix):
        row[:] = np.roll(first, index)
    matrix.flush()


def mapped(file: Path) -> PoolWeights:
    """That matrix, as processes share it; neither network has running statistics."""
    matrix = np.load(file, mmap_mode="r")
    return PoolWeights(matrix, counters={}, failed={}, has_start=False, n_parameters=matrix.shape[1])


def small(file: Path, repetitions: int, threads: int) -> None:
    """100 members of the published cnn."""
    plan = POOLS["small"]()
    before = anonymous()
    with Peak(anonymous) as peak:
        ours = bench(plan, mapped(file))
        ways = {"Bench.load": loading(ours, 100), "as candidates": evaluating(ours, plan)}
        for run in ways.values():
            run()
    model = 4 * ours.layout.n_entries
    limits: list[float] = []
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repetitions):
        limits.append(bandwidth(threads) / 1e9)
        for name, run in ways.items():
            seconds, count = timed(run)
            rates[name].append(3 * count * model / seconds / 1e9)
    print(f"4,950 means of pairs of 100 members, {ours.layout.n_parameters:,} parameters, {threads} threads")
    print(f"{'torch adds large arrays':24} {with_range(limits, 1)} GB/s")
    for name, each in rates.items():
        print(f"{name:24} {with_range(each, 1)} GB/s   of that {ratios(each, limits)}")
    print(f"private memory           {(peak.bytes - before) / model:.1f} models of {model / 2**20:.1f} MiB at most")


def large(file: Path, repetitions: int, threads: int) -> None:
    """10 members of the size of a ViT-B/16."""
    plan = POOLS["large"]()
    before = anonymous()
    with Peak(anonymous) as building:
        ours = bench(plan, mapped(file))
    run = evaluating(ours, plan)
    model = 4 * ours.layout.n_entries
    with Peak(anonymous) as merging:
        count = run()
        rates = [3 * model * count / timed(run)[0] / 1e9 for _ in range(repetitions)]
    limit = bandwidth(threads) / 1e9
    size = 10 * model / 1e9
    print(f"\n{count} means of pairs of 10 members, {ours.layout.n_parameters:,} parameters, mapped: {size:.1f} GB")
    print(f"as candidates            {with_range(rates, 1)} GB/s of {limit:.1f}")
    built, merged = ((peak.bytes - before) / model for peak in (building, merging))
    print(f"private memory           {built:.2f} models while the bench is made, {merged:.2f} while it merges, at most")


POOLS = {"small": partial(plan_of, "cnn", 32, 100), "large": partial(plan_of, "vit_b_16", 224, 10)}


def main(repetitions: int, threads: int) -> None:
    """Each pool in a process of its own, after another one has made its file."""
    free = int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]) << 10
    for which in POOLS:
        if which == "large" and free < 8 * 2**30:
            print(f"\nViT-B/16: left out, {free / 2**30:.1f} GiB are free and 8 are due")
            return
        with tempfile.TemporaryDirectory() as place:
            for step in ("make", which):
                arguments = [
                    sys.executable,
                    "-m",
                    "benchmarks.evaluation.merging",
                    str(repetitions),
                    str(threads),
                    step,
                    which,
                    f"{place}/pool.npy",
                ]
                subprocess.run(arguments, check=True)


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:3]]
    repetitions, threads = given + [5, 1][len(given) :]
    if len(sys.argv) == 6:
        step = sys.argv[3]
        which = sys.argv[4]
        file = Path(sys.argv[5])
        setup_worker(threads, 0)
        if step == "make":
            make(file, which)
        else:
            {"small": small, "large": large}[which](file, repetitions, threads)
    else:
        main(repetitions, threads)
