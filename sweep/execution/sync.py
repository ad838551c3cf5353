"""A sweep's tables into MLflow: what the tracker is given, and the models of the best candidates."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sweep.config.spec import Sweep
from sweep.core.ids import canonical_json
from sweep.status.state import RunState
from sweep.tracking.connection import tracking_uri
from sweep.tracking.tracker import Tracker

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sweep.plan.planner import Plan


def make_tracker(sweep: Sweep) -> Tracker:
    """The tracker of a sweep, on MLFLOW_TRACKING_URI or a data base in the storage folder."""
    storage = sweep.folder.parent
    parameters = {
        key: value if isinstance(value, str) else canonical_json(value) for key, value in _flat(sweep).items()
    }
    return Tracker(tracking_uri(storage), storage, sweep.name, sweep.id, parameters)


def _flat(sweep: Sweep) -> dict[str, object]:
    """The sweep's choices under dotted names, lists as they are."""
    written = {key: value for key, value in sweep.to_config.items() if key not in ("name", "execution", "populations")}
    return written | {f"populations.{p.name}": p.to_config for p in sweep.populations}


def mirror_run(tracker: Tracker, state: RunState) -> None:
    """Make MLflow equal to the tables of a run."""
    sweep = state.sweep
    tracker.mirror(sweep.folder, partial(load_candidate_model, sweep, state.plan), sweep.execution.mlflow_models)


def load_candidate_model(sweep: Sweep, plan: Plan, candidate_id: str) -> tuple[nn.Module, Tensor]:
    """The merged model of a candidate in weight space, and a batch of the images that it takes."""
    from sweep.execution.local import local_engine, merged_model

    candidate = plan.candidate(candidate_id)
    bench = local_engine(sweep, plan.pool_of[candidate.pool_id])
    test = bench.split("test")
    return merged_model(bench, candidate), test.normalize(test.images[:2])
