"""What tests share: small sweeps, run folders, a storage with MLflow's tables, and quiet libraries."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from tests.helpers.small import SMALL

if TYPE_CHECKING:
    from analysis.rows.run import Run
    from sweep.storage.run_folder import RunFolder
    from tests.helpers.mlflow import Place

# Set before anything imports them: no telemetry, no network, and a tracking store only where a test asks for one.
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", RAY_USAGE_STATS_ENABLED="0", HF_HUB_OFFLINE="1")
# Ray lowers the priority of its workers: other tests on the same cores would leave them almost no time.
os.environ.update(RAY_worker_niceness="0")
for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "RAY_ADDRESS"):
    os.environ.pop(name, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files of slow tests first, so that no process waits for them at the end."""
    slow = {item.path for item in items if any(item.get_closest_marker(name) for name in ("ray", "slow", "faults"))}
    items.sort(key=lambda item: item.path not in slow)


SHARED_RAY = pytest.StashKey[ExitStack]()
ADDRESS = pytest.StashKey[str]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Have tests of real runs use one Ray, which starts with the first of them; the fault suite starts its own."""
    if not item.get_closest_marker("ray") or item.get_closest_marker("faults"):
        os.environ.pop("RAY_ADDRESS", None)
        return
    if SHARED_RAY not in item.config.stash:
        from tests.helpers.shared_ray import running_ray

        item.config.stash[SHARED_RAY] = ExitStack()
        item.config.stash[ADDRESS] = item.config.stash[SHARED_RAY].enter_context(running_ray())
    os.environ["RAY_ADDRESS"] = item.config.stash[ADDRESS]


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the shared Ray."""
    if SHARED_RAY in config.stash:
        config.stash[SHARED_RAY].close()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in a worker, so that bits are those of a run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Path]:
    """A small sweep as a file, with storage of its own: `small("key.path=value", ...)`."""

    def write(text: str = SMALL, **names: str) -> Path:
        file = tmp_path / f"{names.get('name', 'small')}.yaml"
        file.write_text(text.replace("mlflow: false", f"mlflow: false, storage: {tmp_path / 'runs'}"))
        return file

    return write


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run folder without rows."""
    from sweep.storage.run_folder import RunFolder
    from sweep.storage.tables import SCHEMA_VERSION

    found = RunFolder(tmp_path / "run")
    found.create({"schema_version": SCHEMA_VERSION})
    return found


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole small run of synthetic rows as it is loaded, only ever read."""
    from analysis.rows.run import load
    from tests.helpers.rows import run_folder

    return load(run_folder(tmp_path_factory.mktemp("runs") / "made"))


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data base with MLflow's tables: making them takes seconds."""
    from sweep.tracking.tracker import Tracker
    from tests.helpers.logs import logged

    storage = tmp_path_factory.mktemp("template")
    with logged() as lines:
        Tracker(f"sqlite:///{storage / 'mlflow.db'}", storage, "template", "template", {}, "template").open()
    assert lines == []
    return storage / "mlflow.db"


@pytest.fixture
def place(tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A storage whose data base has MLflow's tables and nothing in them."""
    from tests.helpers.logs import logged
    from tests.helpers.mlflow import Place

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    storage = tmp_path / "my runs"
    storage.mkdir()
    shutil.copy(mlflow_template, storage / "mlflow.db")
    with logged() as lines:
        yield Place(storage, lines)


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty folders of weights, and no network."""
    from huggingface_hub import constants

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("urllib.request._opener", None)  # it keeps the proxies of its first call, and is put back after
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    return tmp_path
