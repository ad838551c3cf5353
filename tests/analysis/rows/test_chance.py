"""Chance in the rows of a run folder: the share of the largest class, 1/classes in older folders, or unknown."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.rows.chance import CLASS_SHARES, N_CLASSES, UNKNOWN, with_chance
from analysis.rows.run import load as load_run
from sweep.config.loader import load
from sweep.config.spec import input_key
from sweep.core.dataset import load_dataset
from sweep.plan.planner import make_plan
from sweep.status.inputs import DatasetRecord, original_dataset
from sweep.status.outline import read_inputs
from sweep.status.state import write_plan_files
from sweep.storage.run_folder import RunFolder
from sweep.storage.tables import SCHEMA_VERSION
from tests.helpers import ROOT
from tests.helpers import rows as made

EARLIER = ROOT / "tests" / "golden" / "earlier_run" / "run"


def test_a_run_folder_has_the_shares_of_the_classes(small: Callable[..., Path]) -> None:
    sweep = load(small())
    folder = RunFolder(sweep.folder)
    plan = make_plan(sweep)
    folder.create({"schema_version": SCHEMA_VERSION, "sweep": sweep.name, "created_at": "2025-01-01T00:00:00Z"})
    write_plan_files(folder, sweep, plan)
    frame = pd.DataFrame({"pool_id": [plan.pools[0].id] * 2 + ["other"], "split": ["test", "validation", "test"]})
    found = with_chance(frame, folder.path)
    config = sweep.populations[0].dataset
    dataset = load_dataset(config)
    for place, split in enumerate(("test", "validation")):
        _, counts = np.unique(dataset.splits[split].labels, return_counts=True)
        assert found["chance"][place] == counts.max() / counts.sum() > 1 / len(dataset.classes)
    assert math.isnan(found["chance"][2])
    assert found["chance_source"].tolist() == [CLASS_SHARES, CLASS_SHARES, UNKNOWN]
    inputs = read_inputs(folder)
    assert inputs is not None
    record = inputs.datasets[input_key(config)]
    assert record == DatasetRecord.of(dataset)
    # The record of an earlier version has no counts, and is still that of the data set.
    assert original_dataset(config, record._replace(class_counts=None)).fingerprint == dataset.fingerprint


def test_an_older_folder_has_one_over_the_classes() -> None:
    candidates = load_run(EARLIER).candidates
    assert set(candidates["chance"]) == {0.1}
    assert set(candidates["chance_source"]) == {N_CLASSES}


@pytest.mark.parametrize("damage", [b"", b"no plan"])
def test_without_a_readable_plan_chance_is_unknown(tmp_path: Path, damage: bytes) -> None:
    if damage:
        (tmp_path / "plan.parquet").write_bytes(damage)
    found = with_chance(made.frame(made.candidates())[["pool_id", "split"]], tmp_path)
    assert found["chance"].isna().all()
    assert set(found["chance_source"]) == {UNKNOWN}
