"""Files of a finished run that are damaged: once repaired, the same command ends as if nothing had been."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.storage.compact import compact
from sweep.storage.doctor import repair_run
from sweep.storage.run_folder import RunFolder
from sweep.storage.tables import part_files
from tests.faults.harness import assert_whole, completed

pytestmark = pytest.mark.faults
BESIDE = {"curves": ["member_id", "epoch", "train_loss"], "tasks": ["task_id", "kind"]}


def test_rows_that_are_made_anew_are_there_once_with_all_that_is_written_beside_them(
    place: Callable[[], Path], reference: Path
) -> None:
    base = place()
    shutil.copytree(reference / "runs/hurt", base / "runs/hurt")
    folder = RunFolder(base / "runs/hurt")
    compact(folder)
    for table in ("members", "candidates"):
        (file,) = part_files(folder.path, table)
        file.write_bytes(file.read_bytes()[:-20])
    assert repair_run(folder)
    completed(base, "execution.mlflow=false")
    assert_whole(base, reference)
    for table, columns in BESIDE.items():
        found, expected = (RunFolder(each / "runs/hurt").read(table, columns) for each in (base, reference))
        order = [(name, "ascending") for name in columns]
        assert found.sort_by(order).equals(expected.sort_by(order)), table
