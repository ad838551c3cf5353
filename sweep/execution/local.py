"""Builds the engine of a pool, a merged model or the rows of one candidate in this process, without Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sweep.evaluation.engine import PoolEngine, make_engine
from sweep.evaluation.merge import load_merge
from sweep.evaluation.pool_weights import load_pool_weights
from sweep.model.batching import choose_batching, network_key
from sweep.model.build import build
from sweep.model.layout import unflatten_state_dict
from sweep.plan.candidates import Candidate
from sweep.plan.pools import Pool
from sweep.storage.run_folder import failed_members

if TYPE_CHECKING:
    from sweep.config.spec import Sweep
    from sweep.status.state import RunState


def local_engine(state: RunState, pool: Pool, *, with_images: bool = False) -> PoolEngine:
    """Make the engine of a pool from its run folder, on the CPU of this process. Raises DataError.

    Without images, the shape of the data set is enough; a merge that needs images then raises DataError if they are
    gone or others.
    """
    folder = state.folder
    sweep = state.sweep
    dataset = state.dataset(pool.population.dataset, with_images=with_images)
    weights = load_pool_weights(folder, pool, dataset, failed_members(folder))
    batching = choose_batching(
        sweep.execution.eval_batch_size, folder.run_info(), network_key(pool.population.architecture, dataset)
    )
    return make_engine(pool, weights, dataset, "cpu", batching)


def merged_model(engine: PoolEngine, candidate: Candidate) -> nn.Module:
    """Build a model with the merged weights of a candidate in weight space."""
    load_merge(engine, candidate)
    counters = {name: torch.from_numpy(array.copy()) for name, array in engine.pool.counters.items()}
    model = build(engine.architecture.plugin.function, engine.dataset.shape, 0, **engine.architecture.settings)
    model.load_state_dict(unflatten_state_dict(engine.flat_weights.cpu(), engine.layout, counters))
    return model.eval()


def evaluate_one(sweep: Sweep, prefix: str) -> list[dict[str, Any]]:
    """Evaluate one candidate and return its rows; `stored` in each is the same row of the run folder, or None.

    `prefix` is the beginning of the candidate's id. Raises PlanError unless exactly one planned candidate matches, and
    DataError if the data set is not there any more, or has other contents than in the run.
    """
    from sweep.evaluation.block import BlockRunner
    from sweep.model.runtime import setup_worker
    from sweep.status.state import load_run_state

    setup_worker(sweep.execution.threads, 0)
    state = load_run_state(sweep)
    plan = state.plan
    folder = state.folder
    candidate = plan.candidate(prefix)
    pool = plan.pool_of[candidate.pool_id]
    runner = BlockRunner(local_engine(state, pool, with_images=True), pool, sweep.name, sweep.metrics)
    rows = [row for row, _ in runner.evaluate(candidate, sweep.settings.splits)]
    stored = folder.read("candidates", candidate_id=candidate.id).to_pylist()
    by_key = {(row["candidate_id"], row["split"]): row for row in stored}
    return [row | {"stored": by_key.get((row["candidate_id"], row["split"]))} for row in rows]
