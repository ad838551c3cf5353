"""How time and memory grow with candidates and members: plan, resume check, status and queries, each a fresh process.

    python -m benchmarks.runs.growth [repetitions] [most candidates] [PLOT.svg]

From 1,000 candidates of 100 members on, ten times as many each time; then 10 and 1,000 members. Run folders are made
up, with the ids of their plan, so that every candidate counts as done: one part per block, which are then put together,
as a run does by itself; all but one, without which status is measured, too, before it comes back.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.common import Peak, resident, with_range

from sweep.config.loader import load
from sweep.plan.candidates import Candidate
from sweep.plan.planner import Plan
from sweep.status.state import write_plan_files, load_state
from sweep.storage import tables as table
from sweep.storage.run_folder import RunFolder

MEMBERS = 100
FIRST = 1000
SWEEP = """
name: growth
dataset: {synthetic: {examples: 50}}
populations: [{architecture: linear, members: MEMBERS, start: scratch}]
subsets: {sizes: [3, 4, 5], per_size: COUNT}
methods: [uniform_soup, logit_average]
scalings: [none, {magnify: {factor: {from: 0.1, to: 10, steps: STEPS, log: true}}}]
execution: {mlflow: false, storage: runs}
"""
QUERY = "select method, n_members, avg(accuracy), stddev(accuracy), count(*) from candidates group by all order by all"
SWEEP_COMMAND = (sys.executable, "-m", "sweep")
CALLS = {
    "plan": (*SWEEP_COMMAND, "plan", "growth.yaml"),
    "run, nothing left to do": (*SWEEP_COMMAND, "run", "growth.yaml"),
    "status": (*SWEEP_COMMAND, "status", "runs/growth"),
    "sql, means by method": (*SWEEP_COMMAND, "sql", "runs/growth", QUERY),
    "statistics of the report": (sys.executable, "-m", "analysis.cli", "stats", "paired_difference", "runs/growth"),
}


class Case(NamedTuple):
    """A size that is measured."""

    candidates: int
    members: int

    @property
    def text(self) -> str:
        """The sweep: few members have few subsets, so there scalings grow instead."""
        scalings = 10 if self.members >= MEMBERS else max(2, self.candidates // 600)
        per_size = max(1, self.candidates // (3 * 2 * scalings))
        text = SWEEP.replace("MEMBERS", str(self.members)).replace("COUNT", str(per_size))
        return text.replace("STEPS", str(scalings - 1))


class Cost(NamedTuple):
    """What one call took."""

    wall: float
    cpu: float
    bytes: int


def fresh(arguments: Sequence[str], folder: Path) -> Cost:
    """Wall and CPU seconds of a command, and its largest resident memory."""
    before = os.times()
    started = time.perf_counter()
    with (
        open(folder / "output.txt", "wb") as output,
        subprocess.Popen(arguments, cwd=folder, stdout=output, stderr=output) as process,
        Peak(lambda: resident(process.pid), every=0.02) as peak,
    ):
        process.wait()
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}:\n{(folder / 'output.txt').read_text()}")
    wall = time.perf_counter() - started
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(wall, cpu, peak.bytes)


def make(file: Path) -> None:
    """The run folder of a sweep in which everything is done."""
    sweep = load(file)
    folder = RunFolder(sweep.folder)
    plan = load_state(sweep).plan
    invocation = {"started_at": "2026-01-05", "finished_at": "2026-01-05", "command": "sweep run growth.yaml"}
    info = {"schema_version": table.SCHEMA_VERSION, "sweep": sweep.name, "sweep_id": sweep.id}
    folder.create(info | {"metrics": list(sweep.metrics), "invocations": [invocation]})
    write_plan_files(folder, sweep, plan)
    about = {"sweep": sweep.name, "population": sweep.populations[0].name, "status": "ok", "role": "member"}
    about |= {"architecture": "linear", "dataset": "synthetic", "start": "scratch", "pool": 0}
    about["architecture_settings"] = sweep.populations[0].architecture.settings_json
    about["dataset_settings"] = sweep.populations[0].dataset.settings_json
    members = [
        about | {"member_id": member.id, "pool_id": member.pool_id, "member_index": member.index}
        for member in plan.members
    ]
    folder.append("members", "all", members)
    random = np.random.default_rng(0)
    parts = folder.part_file("candidates", "").parent
    parts.mkdir(parents=True)
    for block, candidates in plan.blocks.items():
        pq.write_table(rows(plan, candidates, about, random), parts / f"{block}.parquet")


def rows(
    plan: Plan, candidates: Sequence[Candidate], about: dict[str, object], random: np.random.Generator
) -> pa.Table:
    """The rows of a block, its numbers made up."""
    ids = {pool.id: [member.id for member in pool.members] for pool in plan.pools}
    made: dict[str, object] = {
        "candidate_id": [each.id for each in candidates],
        "block_id": [each.block for each in candidates],
        "pool_id": [each.pool_id for each in candidates],
        "space": [each.method.space for each in candidates],
        "method": [each.method.name for each in candidates],
        "settings": [each.method.settings_json for each in candidates],
        "members": [[ids[each.pool_id][index] for index in each.subset] for each in candidates],
        "member_indices": [each.subset for each in candidates],
        "n_members": [len(each.subset) for each in candidates],
        "scaling": [each.scaling.name for each in candidates],
        "scaling_settings": [each.scaling.settings_json for each in candidates],
        "scaling_factor": [each.scaling.settings.get("factor", 1.0) for each in candidates],
        "accuracy": random.uniform(0.5, 0.9, len(candidates)),
        "cross_entropy": random.uniform(0.5, 0.9, len(candidates)),
    }
    same = about | {"split": "test", "protocol": "correct", "alignment": "none", "repair": "none", "finite": True}
    same |= {"scaling_members": "all", "n_examples": 1000, "forward_passes": 1000, "evaluate_seconds": 0.01}
    same |= {"alignment_settings": "{}", "repair_settings": "{}", "merge_seconds": 0.0, "device": "cpu"}
    schema = table.schema("candidates")
    columns = [
        pa.array(made[field.name], field.type)
        if field.name in made
        else pa.array([same.get(field.name)] * len(candidates), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def measure(case: Case, repetitions: int) -> dict[str, list[Cost]]:
    """Each call on a case, the plan before there is a run folder."""
    found: dict[str, list[Cost]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "growth.yaml").write_text(case.text)
        found["plan"] = [fresh(CALLS["plan"], folder) for _ in range(repetitions)]
        fresh([sys.executable, "-m", "benchmarks.runs.growth", "make", "growth.yaml"], folder)
        parts = sorted((folder / "runs/growth/tables/candidates/parts").iterdir())
        aside = parts[-1].rename(folder / "aside")
        found["compact"] = [fresh([*SWEEP_COMMAND, "compact", "runs/growth"], folder)]
        found["status, a block left"] = [fresh(CALLS["status"], folder) for _ in range(repetitions)]
        aside.rename(parts[-1])
        for name, arguments in list(CALLS.items())[1:]:
            found[name] = [fresh(arguments, folder) for _ in range(repetitions)]
    print(f"\nabout {case.candidates:,} candidates of {case.members:,} members, {len(parts):,} parts")
    for name, costs in found.items():
        peak = max(cost.bytes for cost in costs) / 2**30
        walls = with_range([cost.wall for cost in costs])
        cpu = median(cost.cpu for cost in costs)
        print(f"{name:36} wall {walls:24} s   CPU {cpu:6.2f} s   peak {peak:.2f} GiB", flush=True)
    return found


def plot(cases: dict[Case, dict[str, list[Cost]]], file: Path) -> None:
    """Seconds and gibibytes against candidates, members as they are most often; both axes logarithmic."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    shown = {case.candidates: found for case, found in cases.items() if case.members == MEMBERS}
    for name in CALLS:
        costs = [found[name] for found in shown.values()]
        axes[0].loglog(list(shown), [median(each.wall for each in one) for one in costs], "o-", label=name)
        axes[1].loglog(list(shown), [max(each.bytes for each in one) / 2**30 for one in costs], "o-", label=name)
    for axis, label, ticks in zip(
        axes, ("seconds", "GiB at most"), ((0.5, 1, 2, 5, 10), (0.1, 0.2, 0.5, 1)), strict=True
    ):
        axis.set(xlabel=f"candidates of {MEMBERS} members", ylabel=label)
        axis.set_yticks(ticks, [str(tick) for tick in ticks])
        axis.set_yticks([], minor=True)
    axes[0].legend()
    figure.savefig(file)


def main(repetitions: int, most: int, picture: Path | None) -> None:
    """Print a table per case."""
    counts = [FIRST * 10**power for power in range(7) if FIRST * 10**power <= most]
    others = [Case(min(most, 100_000), members) for members in (10, 1000)]
    cases = {case: measure(case, repetitions) for case in [*(Case(count, MEMBERS) for count in counts), *others]}
    if picture:
        plot(cases, picture)


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        make(Path(sys.argv[2]))
    else:
        given = [int(text) for text in sys.argv[1:3]]
        repetitions, most = given + [5, 1_000_000][len(given) :]
        main(repetitions, most, Path(sys.argv[3]) if len(sys.argv) > 3 else None)
