"""What the fault suite shares: an undisturbed run, and places for hurt ones."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.harness import SWEEP, completed

sys.path.append(str(Path(__file__).parent))  # `sweep sync` runs in this process and loads the metric `pace:pace`


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of an MLflow data base, which take seconds to make."""
    from mlflow import MlflowClient

    from sweep.tracking.connection import quiet_mlflow

    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    with quiet_mlflow():
        MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Callable[[], Path]:
    """Makes folders with the sweep's file and an empty data base."""

    def make() -> Path:
        base = tmp_path_factory.mktemp("hurt")
        (base / "hurt.yaml").write_text(SWEEP)
        (base / "runs").mkdir()
        shutil.copy(store, base / "runs/mlflow.db")
        return base

    return make


@pytest.fixture(scope="session")
def reference(place: Callable[[], Path]) -> Path:
    """An undisturbed run."""
    base = place()
    completed(base)
    return base


@pytest.fixture(scope="session")
def trained(place: Callable[[], Path], reference: Path) -> Callable[[], Path]:
    """Makes folders in which all members are trained and nothing is evaluated."""

    def make() -> Path:
        base = place()
        shutil.copytree(reference / "runs/hurt", base / "runs/hurt")
        for table in ("candidates", "predictions", "pairs", "tasks"):
            shutil.rmtree(base / "runs/hurt/tables" / table)
        return base

    return make
