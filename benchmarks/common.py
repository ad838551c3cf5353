"""What the benchmarks of the engine share: pools without training, memory of processes, medians with their range."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np
import torch

from sweep.config.document import parse
from sweep.config.loader import check
from sweep.core.dataset import load_dataset
from sweep.evaluation.engine import PoolEngine, make_engine
from sweep.evaluation.pool_weights import PoolWeights
from sweep.model.build import build_member_model
from sweep.model.layout import flatten_state_dict, make_layout
from sweep.model.split import Batching
from sweep.plan.planner import Plan, make_plan

Found = TypeVar("Found")
METRICS = ("accuracy", "cross_entropy", "brier", "ece")


def planned(text: str) -> Plan:
    """The plan of a sweep as it would stand in a file."""
    return make_plan(check(parse(text, "benchmark")))


def drawn(plan: Plan, seed: int = 0, members: int = 0) -> PoolWeights:
    """Weights for the plan's first pool without training: one initialisation, each entry changed by about a tenth.

    Of the first `members` of it, where that is given.
    """
    pool = plan.pools[0]
    dataset = load_dataset(pool.population.dataset)
    architecture = pool.population.architecture
    model = build_member_model(architecture, dataset.shape, 0)
    layout = make_layout(model, len(dataset.classes))
    state = model.state_dict()
    first = flatten_state_dict(state, layout).numpy()
    random = np.random.default_rng(seed)
    matrix = np.empty((members or len(pool.members), layout.n_entries), dtype=np.float32)
    for row in matrix:
        row[:] = first * (1 + 0.1 * random.standard_normal(len(first), dtype=np.float32))
    counters = {name: state[name].numpy() for name in layout.counters}
    return PoolWeights(matrix, counters, failed={}, has_start=False, n_parameters=layout.n_parameters)


def bench(plan: Plan, weights: PoolWeights, device: str = "cpu") -> PoolEngine:
    """The bench of the plan's first pool with these weights."""
    pool = plan.pools[0]
    return make_engine(pool, weights, load_dataset(pool.population.dataset), device, Batching(128))


def timed(work: Callable[[], Found]) -> tuple[float, Found]:
    """Wall seconds, and what came out."""
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def with_range(values: Sequence[float], digits: int = 2) -> str:
    """Median and range."""
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def ratios(numerators: Iterable[float], denominators: Iterable[float]) -> str:
    """Median and range of paired ratios."""
    return with_range([a / b for a, b in zip(numerators, denominators, strict=True)])


def anonymous() -> int:
    """Bytes of this process that no file or shared memory stands behind."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def bandwidth(threads: int, words: int = 1 << 26) -> float:
    """Bytes per second that torch moves when it adds two arrays far beyond any cache into a third: the best of ten."""
    torch.set_num_threads(threads)
    one, two, three = (torch.ones(words) for _ in range(3))
    return 3 * 4 * words / min(timed(lambda: torch.add(one, two, out=three))[0] for _ in range(10))


def resident(process: int) -> int:
    """The largest resident memory of a process so far, in bytes; 0 once it has ended."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    except OSError:
        return 0
    return 1024 * int(found[1]) if found else 0


class Peak:
    """The largest memory of something while a `with` lasts, looked at every so often by a thread."""

    def __init__(self, memory: Callable[[], int], every: float = 0.01) -> None:
        self.memory = memory
        self.every = every
        self.bytes = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self.over.wait(self.every):
            self.bytes = max(self.bytes, self.memory())

    def __enter__(self) -> Peak:
        self.bytes = self.memory()
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()


def tree(root: int) -> Iterator[int]:
    """A process and all that come from it."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            try:
                parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue  # it has ended since
            children.setdefault(parent, []).append(int(place.name))
    waiting = [root]
    while waiting:
        process = waiting.pop()
        yield process
        waiting += children.get(process, [])


def memory_of_tree(root: int) -> int:
    """Bytes of a process and all that come from it; what several share counts once, in shares."""
    total = 0
    for process in tree(root):
        try:
            found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{process}/smaps_rollup").read_text(), re.MULTILINE)
        except OSError:
            continue
        total += 1024 * int(found[1]) if found else 0
    return total


def command(arguments: Sequence[str], folder: Path) -> tuple[float, int]:
    """Wall seconds of a command and the largest memory of it and all its processes, in bytes."""
    started = time.perf_counter()
    with (
        open(folder / "output.txt", "wb") as output,
        subprocess.Popen(arguments, cwd=folder, stdout=output, stderr=output, env=os.environ) as process,
        Peak(lambda: memory_of_tree(process.pid), every=1.0) as peak,
    ):
        process.wait()
    if process.returncode:
        raise SystemExit(
            f"{' '.join(arguments)} ended with {process.returncode}:\n{(folder / 'output.txt').read_text()}"
        )
    return time.perf_counter() - started, peak.bytes
