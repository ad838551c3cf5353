"""Evaluates one candidate in this process, without Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sweep.config.spec import Sweep
from sweep.core.dataset import dataset_of
from sweep.evaluation.engine import Bench, bench_of
from sweep.evaluation.merge import Evaluation
from sweep.evaluation.pool_weights import pool_weights
from sweep.model.batching import batching_of, network_key
from sweep.model.build import build
from sweep.model.layout import to_state
from sweep.plan.candidates import Candidate
from sweep.plan.pools import Pool
from sweep.storage.run_folder import RunFolder, failed_members

if TYPE_CHECKING:
    from sweep.config.spec import Sweep


def stored_bench(sweep: Sweep, pool: Pool) -> Bench:
    """The bench of a pool of a run folder, in this process, on the CPU."""
    folder, dataset = RunFolder(sweep.folder), dataset_of(pool.population.dataset)
    weights = pool_weights(folder, pool, dataset, failed_members(folder))
    batching = batching_of(sweep.execution.batch, folder.info(), network_key(pool.population.architecture, dataset))
    return bench_of(pool, weights, dataset, "cpu", batching)


def model_of(bench: Bench, candidate: Candidate) -> nn.Module:
    """A new model with the merged weights of a candidate in weight space."""
    Evaluation(bench, candidate).load()
    counters = {name: torch.from_numpy(array.copy()) for name, array in bench.pool.counters.items()}
    shape = (bench.classes, bench.dataset.channels, bench.dataset.size)
    model = build(bench.architecture.entry.function, shape, 0, **bench.architecture.settings)
    model.load_state_dict(to_state(bench.row.cpu(), bench.layout, counters))
    return model.eval()


def one_candidate(sweep: Sweep, prefix: str) -> list[dict[str, Any]]:
    """The rows of one candidate, evaluated here, each with `stored` as the run folder has it.

    Raises PlanError for an id that no planned candidate, or more than one, begins with.
    """
    from sweep.evaluation.block import Evaluator
    from sweep.execution.local import stored_bench
    from sweep.model.runtime import steady
    from sweep.status.state import state_of

    steady(sweep.execution.threads, 0)
    plan, folder = state_of(sweep).plan, RunFolder(sweep.folder)
    chosen = plan.candidate(prefix)
    pool = plan.pool_of[chosen.pool_id]
    evaluator = Evaluator(stored_bench(sweep, pool), pool, sweep.name, sweep.metrics)
    rows = [evaluator.candidate(chosen, split)[0] for split in sweep.settings.splits]
    stored = folder.read("candidates", candidate_id=chosen.id).to_pylist()
    by_key = {(row["candidate_id"], row["split"]): row for row in stored}
    return [row | {"stored": by_key.get((row["candidate_id"], row["split"]))} for row in rows]
