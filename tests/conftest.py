"""What tests share: small sweeps, and quiet libraries."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from small import SMALL

# Set before anything imports them: no telemetry, no network, and a tracking store only where a test asks for one.
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", RAY_USAGE_STATS_ENABLED="0", HF_HUB_OFFLINE="1")
for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "RAY_ADDRESS"):
    os.environ.pop(name, None)


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
