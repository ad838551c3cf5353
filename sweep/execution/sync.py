"""Mirrors the tables of a sweep to MLflow: the tracker's inputs, and the models of the best candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweep.config.spec import Sweep
from sweep.core.dataset import DataError
from sweep.core.ids import canonical_json
from sweep.status.state import RunState
from sweep.storage.run_folder import RunFolder, folder_id
from sweep.tracking.connection import tracking_uri
from sweep.tracking.tracker import Tracker

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sweep.evaluation.engine import PoolEngine


def make_tracker(sweep: Sweep) -> Tracker:
    """The tracker of a sweep, on MLFLOW_TRACKING_URI or a database file in the storage folder."""
    storage = sweep.folder.parent
    parameters = {
        key: value if isinstance(value, str) else canonical_json(value) for key, value in _flat(sweep).items()
    }
    owner = folder_id(RunFolder(sweep.folder).run_info())
    return Tracker(tracking_uri(storage), storage, sweep.name, sweep.id, parameters, owner)


def _flat(sweep: Sweep) -> dict[str, object]:
    """The configuration of the sweep with one entry per population; lists stay lists."""
    config = {key: value for key, value in sweep.to_config.items() if key not in ("name", "execution", "populations")}
    return config | {f"populations.{p.name}": p.to_config for p in sweep.populations}


def mirror_run(tracker: Tracker, state: RunState) -> None:
    """Make MLflow equal to the tables of a run."""
    tracker.mirror(state.sweep.folder, CandidateLoader(state), state.sweep.execution.mlflow_models)


class CandidateLoader:
    """Loads merged models by candidate_id. It keeps the engine of one pool, for the best candidates often share it."""

    def __init__(self, state: RunState) -> None:
        self.state = state
        self._engine: tuple[str, PoolEngine] | None = None  # pool_id and its engine

    def __call__(self, candidate_id: str) -> tuple[nn.Module, Tensor]:
        """The merged model of a candidate in weight space, and a batch of its input images."""
        from sweep.execution.local import local_engine, merged_model

        plan = self.state.plan
        candidate = plan.candidate(candidate_id)
        if self._engine is None or self._engine[0] != candidate.pool_id:
            self._engine = None  # frees one pool before the next is loaded
            self._engine = (candidate.pool_id, local_engine(self.state, plan.pool_of[candidate.pool_id]))
        engine = self._engine[1]
        return merged_model(engine, candidate), _example_images(engine)


def _example_images(engine: PoolEngine) -> Tensor:
    """Two normalized test images, (2, channels, size, size); zeros if the files of the data set are gone."""
    import torch

    try:
        test = engine.split("test")
    except DataError:
        _, channels, size = engine.dataset.shape
        return torch.zeros(2, channels, size, size)
    return test.normalize(test.images[:2])
