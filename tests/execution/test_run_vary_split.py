"""A whole run in which each pool has its own cut of training and validation images, against plain passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sweep.plugins.datasets.digits import digits
from sweep.storage.run_folder import RunFolder
from tests.helpers.command import sweep

pytestmark = [pytest.mark.ray, pytest.mark.slow]

VARIED = """
name: varied
dataset: {digits: {size: 8}}
populations:
  - {architecture: linear, start: scratch, vary_split: true, pools: 2, members: 2, train: {epochs: 2, lr: 0.1}}
subsets: {sizes: [2]}
methods: [single, logit_average, greedy_soup]
splits: [validation, test]
execution: {mlflow: false, workers: 1}
"""


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The finished run."""
    base = tmp_path_factory.mktemp("varied")
    (base / "varied.yaml").write_text(VARIED)
    sweep("run", "varied.yaml", cwd=base)
    return RunFolder(base / "runs/varied")


def logits(folder: Path, member: str, pixels: np.ndarray) -> torch.Tensor:
    """What a linear network gives for the normalized pixels of images."""
    state = load_file(next((folder / "members").glob(f"{member}*.safetensors")))
    (weight,) = (tensor for tensor in state.values() if tensor.ndim == 2)
    (bias,) = (tensor for tensor in state.values() if tensor.ndim == 1)
    images = (torch.from_numpy(pixels).flatten(1) / 255 - 0.3053) / 0.3762
    return images @ weight.T + bias


def test_rows_of_each_pool_are_those_of_its_own_cut(varied: RunFolder) -> None:
    rows = [row for row in varied.read("candidates").to_pylist() if row["method"] != "greedy_soup"]
    assert len(rows) == 2 * 2 * (2 + 1)
    for row in rows:
        part = digits(size=8, split=row["pool"]).splits[row["split"]]
        outputs = [logits(varied.path, member, part.images) for member in row["members"]]
        right = (torch.stack(outputs).mean(0).argmax(1).numpy() == part.labels).mean()
        assert row["accuracy"] == pytest.approx(right, abs=1e-6)
