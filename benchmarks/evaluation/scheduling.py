"""How well blocks fill many CPUs: real Ray and the real launcher, with workers that sleep instead of evaluating.

    python -m benchmarks.evaluation.scheduling [repetitions] [workers] [blocks a worker]

64 logical CPUs on whatever this machine has; each block sleeps 100 ms. Utilisation is what was slept over workers x
wall, from the moment that every worker has begun until the last block ends. Then the same with a row and a task of
each block written by the driver's writer; and with a first block that takes 3 s, beside the least time that all blocks
can take. Before that, eight workers to which a node with room for eight more comes: from when on these are at work.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.common import planned, with_range
from sweep.evaluation.rows import candidate_columns
from sweep.execution import scheduler as launch
from sweep.execution.auth_token import auth_environment
from sweep.execution.cluster import cluster
from sweep.execution.handshake import Handshake, Verdict
from sweep.execution.node_report import NodeReport
from sweep.execution.refusals import Answer
from sweep.execution.scheduler import BlockScheduler
from sweep.plan.planner import Plan
from sweep.plan.work import CandidateWork
from sweep.storage.rows import BlockRows
from sweep.storage.run_folder import RunFolder
from sweep.storage.tables import part_files
from sweep.storage.writer import Writer, open_writer

SLEEP = 0.1
STRAGGLE = 3.0
SWEEP = """
name: scheduling
dataset: {synthetic: {examples: 50}}
populations: [{architecture: linear, members: 40, start: scratch}]
subsets: {sizes: [3], per_size: COUNT}
methods: uniform_soup
execution: {mlflow: false, block_size: 1, workers: WORKERS}
"""
HANDSHAKE = Handshake(Path(), NodeReport("", "", {}, {}), is_mixed=False)
"""A sleeper has nothing that could differ."""
Sink = Callable[[str, Any, Any, int], None]


class Sleeper:
    """A worker that sleeps as long as its weights say: without torch, which 64 processes would take minutes to load."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def ready(self) -> Answer:
        """Who it is, once the actor has its place."""
        return Answer("a sleeper", "", "", Verdict())

    def run(self, pool_id: str, shared: Sequence[Any], work: CandidateWork) -> Any:
        """No rows, and when the worker slept."""
        import ray

        started = time.time()
        longer = ray.get(shared[1])
        time.sleep(longer.get(work.items[0][0].id, SLEEP))
        cost = {"seconds": time.time() - started, "cpu_seconds": 0.0, "forward_passes": 0, "created_at": None}
        cost |= {"begun": started, "process": os.getpid(), "host": None, "threads": 1, "peak_memory": 0}
        tables: dict[str, Any] = dict.fromkeys(TABLES, ())
        return SimpleNamespace(**tables, tables=tables, cost=cost | {"code_version": None})


TABLES = ("predictions", "pairs", "layers", "templates", "candidates")


class Ready(BlockScheduler):
    """The launcher, which begins once all its workers are there: what 64 processes take to start is not the point."""

    def _submit_all(self) -> None:
        if not self.starting:
            super()._submit_all()


def slept(plan: Plan, longer: dict[str, float], write: Sink) -> list[dict[str, Any]]:
    """What each block cost, through the launcher."""
    blocks = {c.block: CandidateWork([(c, ("test",))]) for c in plan.candidates if c.method.name == "uniform_soup"}
    costs: list[dict[str, Any]] = []

    def sink(block: str, pool: Any, rows: Any, attempts: int) -> None:
        costs.append(dict(rows.cost))
        write(block, pool, rows, attempts)

    Ready(plan, lambda pool: (longer,), sink, lambda: False, HANDSHAKE).run(blocks, {})
    return costs


def utilisation(costs: Sequence[dict[str, Any]], workers: int) -> tuple[float, float]:
    """Share of the workers' time that was slept once all had begun, and how long that was."""
    first: dict[int, float] = {}
    for cost in costs:
        first[cost["process"]] = min(cost["begun"], first.get(cost["process"], cost["begun"]))
    assert len(first) == workers, f"{len(first)} of {workers} workers had blocks: ask for more"
    started = max(first.values())
    ended = max(cost["begun"] + cost["seconds"] for cost in costs)
    within = sum(max(0.0, cost["begun"] + cost["seconds"] - max(started, cost["begun"])) for cost in costs)
    return within / (workers * (ended - started)), ended - started


def rowed(plan: Plan, writer: Writer) -> Sink:
    """A sink that hands the driver's writer a row of each block."""
    work = {candidate.block: candidate for candidate in plan.candidates}

    def write(block: str, pool_id: str, rows: Any, attempts: int) -> None:
        row = candidate_columns(work[block], plan.pool_of[pool_id], "scheduling", "test") | {"status": "ok"}
        cost = {key: value for key, value in rows.cost.items() if key != "begun"}
        writer.put(block, pool_id, BlockRows([row], cost=cost), attempts)

    return write


def joined(blocks: int, room: int = 8) -> tuple[float, float]:
    """Seconds until the first worker of a node that came had a block, and until all of them had one."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": room, "include_dashboard": False})
    settings = SWEEP.replace("COUNT", str(blocks)).replace("WORKERS", f"auto, address: '{nodes.address}'")
    plan = planned(settings)
    came = list[float]()
    costs = list[dict[str, Any]]()

    def sink(block: str, pool: Any, rows: Any, attempts: int) -> None:
        costs.append(dict(rows.cost))
        if len(costs) == 10 * room:
            nodes.add_node(num_cpus=room)
            came.append(time.time())

    work = {c.block: CandidateWork([(c, ("test",))]) for c in plan.candidates if c.method.name == "uniform_soup"}
    try:
        with cluster(plan.sweep.execution):
            BlockScheduler(plan, lambda pool: ({},), sink, lambda: False, HANDSHAKE).run(work, {})
    finally:
        nodes.shutdown()
    started: dict[int, float] = {}
    for cost in costs:
        started[cost["process"]] = min(cost["begun"], started.get(cost["process"], cost["begun"]))
    later = sorted(at - came[0] for at in started.values() if at > came[0])
    assert len(later) == room, f"{len(later)} of {room} workers of the node had blocks: ask for more"
    return later[0], later[-1]


def nothing(block: str, pool: Any, rows: Any, attempts: int) -> None:
    """A sink that drops what it is given."""


def main(repetitions: int, workers: int, each: int) -> None:
    """Print each case."""
    count = workers * each
    plan = planned(SWEEP.replace("COUNT", str(count)).replace("WORKERS", str(workers)))
    first = next(candidate for candidate in plan.candidates if candidate.method.name == "uniform_soup")
    launch.Worker = Sleeper  # type: ignore[assignment, misc]
    os.environ.update(auth_environment("local"))  # for the nodes that come and for the sweep's own Ray
    firsts, lasts = zip(*(joined(3000) for _ in range(repetitions)), strict=True)
    print(
        f"a node comes   first of 8 workers after {with_range(firsts)} s, the last after {with_range(lasts)} s",
        flush=True,
    )
    print(f"{count} blocks of {1000 * SLEEP:.0f} ms on {workers} logical CPUs", flush=True)
    with cluster(plan.sweep.execution), tempfile.TemporaryDirectory() as place:
        slept(plan, {}, nothing)  # the processes are there from now on
        for name in ("rows dropped", "rows written", "a straggler"):
            found = []
            parts = []
            later = []
            for repetition in range(repetitions):
                longer = {first.id: STRAGGLE} if name == "a straggler" else {}
                with open_writer(folder := RunFolder(Path(place) / name / f"{repetition}"), ()) as writer:
                    sink = rowed(plan, writer) if name == "rows written" else nothing
                    found.append(utilisation(slept(plan, longer, sink), workers))
                    slept_until = time.perf_counter()
                later.append(time.perf_counter() - slept_until)
                parts.append(len(part_files(folder.path, "candidates")))
            shares, walls = zip(*found, strict=True)
            least = max(count * SLEEP / workers, STRAGGLE if name == "a straggler" else 0.0)
            print(
                f"{name:14} utilisation {with_range(shares)}   wall {with_range(walls)} s, at least {least:.2f}", end=""
            )
            print(
                f"   in {with_range(parts, 0)} parts, all {with_range(later)} s later" if any(parts) else "", flush=True
            )


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:]]
    main(*(given + [5, 64, 40][len(given) :]))
