"""A sweep's tables into MLflow: what the tracker is given, and the models of the best candidates."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from sweep.config.spec import Sweep
from sweep.core.ids import canonical
from sweep.status.state import state_of
from sweep.tracking.connection import tracking_uri
from sweep.tracking.tracker import Tracker

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sweep.plan.planner import Plan


def tracker_of(sweep: Sweep, say: Callable[[str], None]) -> Tracker:
    """The tracker of a sweep, on MLFLOW_TRACKING_URI or a data base in the storage folder."""
    storage = sweep.folder.parent
    parameters = {key: value if isinstance(value, str) else canonical(value) for key, value in _flat(sweep).items()}
    return Tracker(tracking_uri(storage), storage, sweep.name, sweep.id, parameters, say)


def _flat(sweep: Sweep) -> dict[str, object]:
    """The sweep's choices under dotted names, lists as they are."""
    written = {key: value for key, value in sweep.written.items() if key not in ("name", "execution", "populations")}
    return written | {f"populations.{p.name}": p.written for p in sweep.populations}


def sync(tracker: Tracker, sweep: Sweep) -> None:
    """Make MLflow say what the tables say."""
    tracker.mirror(sweep.folder, partial(model_of_id, sweep, state_of(sweep).plan), sweep.execution.best)


def model_of_id(sweep: Sweep, plan: Plan, candidate_id: str) -> tuple[nn.Module, Tensor]:
    """The merged model of a candidate in weight space, and a batch of the images that it takes."""
    from sweep.execution.local import model_of, stored_bench

    candidate = plan.candidate(candidate_id)
    bench = stored_bench(sweep, plan.pool_of[candidate.pool_id])
    test = bench.split("test")
    return model_of(bench, candidate), test.normalised(test.images[:2])
