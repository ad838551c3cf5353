"""Files of schema version 1: their column `ece` is read as `ece_mass`, whatever reads or rewrites them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from sweep.storage.compact import compact
from sweep.storage.parts import delete_rows
from sweep.storage.query import query_tables
from sweep.storage.run_folder import RunFolder
from sweep.storage.tables import SCHEMA_VERSION, batches, part_files
from tests.helpers import ROOT

EARLIER = ROOT / "tests/golden/earlier_run/run"
NEW = {"candidate_id": "new", "split": "test", "status": "ok", "ece": 0.25, "ece_mass": 0.5}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    shutil.copytree(EARLIER, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def written(folder: Path) -> dict[str, float]:
    """candidate_id -> what an earlier version wrote as `ece`, read without this project's readers."""
    (file,) = part_files(folder, "candidates")
    rows = pq.read_table(file, columns=["candidate_id", "ece", "accuracy"])
    assert pq.read_schema(file).metadata[b"schema_version"] == b"1"
    return dict(zip(rows["candidate_id"].to_pylist(), rows["ece"].to_pylist(), strict=True))


def test_every_reader_has_the_column_under_its_new_name(folder: RunFolder) -> None:
    expected = written(folder.path)
    rows = folder.read("candidates")
    assert dict(zip(rows["candidate_id"].to_pylist(), rows["ece_mass"].to_pylist(), strict=True)) == expected
    assert rows["ece"].null_count == len(rows)
    (batch,) = batches(folder.path, "candidates")
    assert batch.schema.names == rows.schema.names
    assert batch.column("ece_mass").to_pylist() == rows["ece_mass"].to_pylist()
    some = folder.read("candidates", ["ece_mass"], method="single")
    assert some["ece_mass"].to_pylist() == rows.filter(pc.equal(rows["method"], "single"))["ece_mass"].to_pylist()
    assert folder.read("candidates", []).num_rows == len(expected)
    found, _ = query_tables(folder.path, "select candidate_id, ece_mass from candidates")
    assert {row["candidate_id"]: row["ece_mass"] for row in found} == expected


def test_rows_of_both_versions_lie_side_by_side_and_compacting_keeps_them(folder: RunFolder) -> None:
    expected = written(folder.path)
    folder.append("candidates", "new", [NEW])
    folder.append("tasks", "new", [{"task_id": "new", "status": "ok"}])
    for step in ("side by side", "compacted"):
        rows = folder.read("candidates", ["candidate_id", "ece", "ece_mass"]).to_pylist()
        found = {row["candidate_id"]: (row["ece"], row["ece_mass"]) for row in rows}
        assert found == {key: (None, value) for key, value in expected.items()} | {"new": (0.25, 0.5)}, step
        assert folder.read("candidates", []).num_rows == len(found)
        asked, _ = query_tables(folder.path, "select candidate_id, ece, ece_mass from candidates")
        assert {row["candidate_id"]: (row["ece"], row["ece_mass"]) for row in asked} == found
        compact(folder)
    (file,) = part_files(folder.path, "candidates")
    assert pq.read_schema(file).metadata[b"schema_version"] == str(SCHEMA_VERSION).encode()


def test_rows_that_are_left_after_a_deletion_keep_their_values(folder: RunFolder) -> None:
    expected = written(folder.path)
    gone = min(expected)
    assert delete_rows(folder.path, "candidates", lambda rows: pc.equal(rows["candidate_id"], gone)) == 1
    rows = folder.read("candidates", ["candidate_id", "ece_mass"]).to_pylist()
    del expected[gone]
    assert {row["candidate_id"]: row["ece_mass"] for row in rows} == expected
