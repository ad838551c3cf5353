"""A run folder to mirror, models for it, and an MLflow database."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sweep.tracking.connection import model_name
from sweep.tracking.records import CELL_TABLE
from sweep.tracking.tracker import Tracker
from tests.helpers.rows import candidate, curves, members, write

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

NAME = "made"
FOLDER = "0123456789abcdef"
TIME = datetime(2026, 1, 2, 3, 4, 5)


class Model(nn.Module):
    """A small model whose weights come from the candidate's id."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.hidden = nn.Linear(16, 8)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 3)
        generator = torch.Generator().manual_seed(sum(key.encode()))
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.drop(torch.relu(self.hidden(images.flatten(1)))))
        return logits


def load_model(key: str) -> tuple[nn.Module, Tensor]:
    return Model(key), torch.zeros(1, 1, 4, 4)


def run_folder(
    folder: Path, *, accuracies: tuple[float, ...] = (0.9, 0.95, 0.91), validated: bool = True, **tables: Any
) -> Path:
    """Two members of one pool with three epochs, their single rows, and one soup per accuracy.

    With `validated`, candidates without a row on the validation split of their own have the same there.
    """
    people = members(pools=1, members=2)
    epochs = curves(pools=1, members=2, epochs=3)
    merges = [candidate(0, (i,), "single", accuracy=0.8 + 0.01 * i, candidate_id=f"single-{i}") for i in range(2)]
    for i, accuracy in enumerate(accuracies):
        settings = json.dumps({"weight": i})
        values = {"candidate_id": f"soup-{i}", "accuracy": accuracy, "settings": settings}
        merges.append(candidate(0, (0, 1), "interpolation", **values))
    merges += tables.pop("more", [])
    known = {row["candidate_id"] for row in merges if row["split"] == "validation"}
    twins = [row | {"split": "validation"} for row in merges if row["candidate_id"] not in known]
    merges += twins if validated else []
    given = {"members": people, "curves": epochs, "candidates": merges} | tables
    for row in (row for rows in given.values() for row in rows):
        row["created_at"] = row["created_at"] or TIME
    commit = {"invocations": [{"commit": "c0ffee", "code_version": "1+c0ffee"}]}
    return write(folder, given, {"schema_version": 1, "sweep": NAME, **commit})


class Place:
    """A storage folder with its MLflow database; `lines` are the log lines of the test."""

    def __init__(self, storage: Path, lines: list[str]) -> None:
        self.storage = storage
        self.uri = f"sqlite:///{storage / 'mlflow.db'}"
        self.lines = lines

    def tracker(self, sweep: str = NAME, key: str = "id-of-the-sweep", **parameters: str) -> Tracker:
        return Tracker(self.uri, self.storage, sweep, key, parameters or {"name": sweep}, FOLDER)

    def mirror(self, folder: Path, *, models: bool = False, best: int = 3) -> None:
        self.tracker().mirror(folder, load_model if models else None, best)
        assert self.lines == []

    @property
    def client(self) -> MlflowClient:
        from mlflow import MlflowClient

        return MlflowClient(self.uri)

    def runs(self, kind: str, sweep: str = NAME) -> list[Run]:
        experiment = self.client.get_experiment_by_name(f"sweep/{sweep}")
        assert experiment is not None
        runs = self.client.search_runs([experiment.experiment_id], f"tags.`ms.kind` = '{kind}'", max_results=1000)
        return sorted(runs, key=lambda run: run.data.tags["ms.key"])

    def values(self) -> dict[str, Any]:
        """Every run with its tags, parameters and whole metric histories, and every version."""
        runs = [run for kind in ("sweep", "member", "cell", "candidate") for run in self.runs(kind)]
        values: dict[str, Any] = {r.info.run_id: (r.data.tags, r.data.params, self.history(r)) for r in runs}
        values |= {
            v.version: v.source for v in self.client.search_model_versions(f"name = '{model_name(NAME, FOLDER)}'")
        }
        return values

    def cell_table(self) -> list[dict[str, Any]]:
        """The rows of the table of cells of one candidate, as MLflow loads it."""
        (run,) = self.runs("sweep")
        with self._as_default():
            table = self.client.load_table(run.info.experiment_id, CELL_TABLE, [run.info.run_id])
        rows: list[dict[str, Any]] = table.to_dict("records")
        return rows

    def history(self, run: Run) -> dict[str, list[tuple[int, float, int]]]:
        def steps(name: str) -> list[tuple[int, float, int]]:
            return [(m.step, m.value, m.timestamp) for m in self.client.get_metric_history(run.info.run_id, name)]

        return {name: sorted(steps(name)) for name in run.data.metrics}

    def champion(self, name: str = NAME) -> nn.Module:
        import mlflow.pytorch

        with self._as_default():
            model: nn.Module = mlflow.pytorch.load_model(f"models:/{model_name(name, FOLDER)}@champion")
        return model

    @contextmanager
    def _as_default(self) -> Iterator[None]:
        """Make this database MLflow's default one, and silence warnings."""
        import mlflow

        mlflow.set_tracking_uri(self.uri)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            mlflow.set_tracking_uri("")
            os.environ.pop("MLFLOW_TRACKING_URI", None)  # set_tracking_uri leaves it behind
