"""What a run folder holds comes back as it was written; what is damaged is named, what failed retires."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweep.storage.columns import COLUMNS
from sweep.storage.doctor import folder_findings
from sweep.storage.files import StoreError
from sweep.storage.run_folder import RunFolder
from sweep.storage.tables import SCHEMA_VERSION, schema
from tests.helpers.blocks import candidate_statuses


def row(name: str, **more: Any) -> dict[str, Any]:
    return {"candidate_id": name, "split": "test", "status": "ok", **more}


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-50])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def scribbled(file: Path) -> None:
    """Pages are lost, the footer is whole."""
    content = bytearray(file.read_bytes())
    content[4:400] = os.urandom(396)
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, emptied, scribbled])
@pytest.mark.parametrize("table", ["candidates", "members"])
def test_a_damaged_part_is_named(folder: RunFolder, damage: Any, table: str) -> None:
    key = "candidate_id" if table == "candidates" else "member_id"
    for name in "abc":
        folder.append(table, name, [{key: f"{name}{n}", "status": "non_finite"} for n in range(50)])
    bad = folder.part_file(table, "b")
    damage(bad)
    with pytest.raises(StoreError, match=f"^cannot read {re.escape(str(bad))}: ") as raised:
        folder.read(table)
    assert raised.value.hint.startswith(f"sweep doctor {folder.path} --repair moves it aside")
    findings = list(folder_findings(folder))
    assert any(not finding.good and str(bad) in finding.message for finding in findings)
    bad.rename(bad.with_suffix(".aside"))
    assert folder.read(table).num_rows == 100
    assert all(finding.good for finding in folder_findings(folder))


def test_weights_come_back_exactly_and_damage_is_named(folder: RunFolder) -> None:
    state = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(3), "c": torch.tensor([float("nan"), -0.0])}
    digest, size = folder.save_weights("m", state)
    loaded = folder.load_weights("m")
    assert loaded.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(loaded[name].nan_to_num(7), tensor.nan_to_num(7))
        assert loaded[name].dtype == tensor.dtype
    folder.save_weights("n", {"a": torch.zeros(1)})
    assert folder.save_weights("n", state) == (digest, size), "what was left without a row is replaced"
    file = folder.weights_file("m")
    assert file.stat().st_size == size
    folder.append("members", "m", [{"member_id": "m", "status": "ok", "weights_sha256": digest}])
    assert all(finding.good for finding in folder_findings(folder))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(StoreError, match=f"^cannot read the weights {file}: they are not what was written$"):
        folder.load_weights("m", folder.weight_hashes()["m"])
    assert f"{file} has changed since it was written" in [
        found.message for found in folder_findings(folder) if not found.good
    ]
    for damage in (cut, emptied):
        damage(file)
        with pytest.raises(StoreError, match=f"^cannot read the weights {file}: ") as raised:
            folder.load_weights("m")
        assert raised.value.hint == "sweep run FILE --retry trains the members whose files are gone"
        content = bytearray(100)
        file.write_bytes(content)
    file.unlink()
    with pytest.raises(StoreError, match=f"^cannot read the weights {file}: "):
        folder.load_weights("m")
    reported = f"{file} is missing; sweep run FILE --retry trains it again"
    assert reported in [found.message for found in folder_findings(folder) if not found.good]


def test_only_parts_with_failures_retire(folder: RunFolder) -> None:
    folder.append("candidates", "good", [row("a"), row("b", status="non_finite")])
    folder.append("candidates", "bad", [row("c"), row("d", status="failed", error="why")])
    folder.append("candidates", "worse", [row("e", status="failed")])
    assert candidate_statuses(folder)["d"] == "failed"
    before = folder.read("candidates").num_rows
    folder.append("predictions", "bad", [{"candidate_id": "c", "split": "test"}])
    folder.append("predictions", "good", [{"candidate_id": "a", "split": "test"}])
    assert folder.retire_failures() == 2
    assert candidate_statuses(folder) == {"a": "ok", "b": "non_finite"}
    retired = list((folder.path / "retired").glob("candidates-*"))
    assert sum(pq.read_table(file).num_rows for file in retired) + 2 == before
    assert folder.read("predictions")["candidate_id"].to_pylist() == ["a"], "they go with their candidates"
    assert folder.retire_failures() == 0
    assert folder.append("candidates", "bad", [row("c"), row("d")])
    assert candidate_statuses(folder).keys() == {"a", "b", "c", "d"}


def test_members_whose_weights_are_gone_retire(folder: RunFolder) -> None:
    for name in ("kept", "gone"):
        digest, _ = folder.save_weights(name, {"a": torch.zeros(1)})
        folder.append("members", name, [{"member_id": name, "status": "ok", "weights_sha256": digest}])
        folder.append("curves", name, [{"member_id": name, "epoch": 1}])
    folder.weights_file("gone").unlink()
    assert folder.retire_failures() == 1
    assert list(folder.member_statuses()) == ["kept"]
    assert folder.read("curves")["member_id"].to_pylist() == ["kept"]


def test_a_part_is_never_written_twice(folder: RunFolder) -> None:
    assert folder.append("candidates", "p", [row("a")])
    assert not folder.append("candidates", "p", [row("b")])
    assert folder.read("candidates")["candidate_id"].to_pylist() == ["a"]
    assert folder.append("candidates", "q", [row("a", split="validation")])
    assert sorted(folder.read("candidates")["split"].to_pylist()) == ["test", "validation"]


@pytest.mark.parametrize("table", COLUMNS)
def test_parts_without_a_newer_column_read_with_nulls(folder: RunFolder, table: str) -> None:
    """A column is taken away, as if it had been added later; and one that this version does not know is left out."""
    whole = schema(table)
    for index in range(len(whole)):
        older = whole.remove(index).append(pa.field("of_the_future", pa.string()))
        file = folder.part_file(table, f"older{index}")
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(older.empty_table().from_pylist([{"of_the_future": "x"}], schema=older), file)
    folder.append(table, "new", [{}])
    found = folder.read(table)
    assert found.num_rows == len(whole) + 1
    assert found.schema.names == whole.names
    assert all(column.null_count == len(column) for column in found.columns)


def test_every_column_says_what_it_means() -> None:
    for table, columns in COLUMNS.items():
        assert len({column.name for column in columns}) == len(columns)
        assert all(column.meaning for column in columns)
        fields = schema(table)
        assert [field.metadata[b"unit"].decode() for field in fields] == [column.unit for column in columns]
        assert fields.metadata[b"schema_version"] == str(SCHEMA_VERSION).encode()


TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1))
BY_TYPE = {
    pa.string(): st.text(st.characters(codec="utf-8")),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(allow_nan=False),
    pa.bool_(): st.booleans(),
    pa.binary(): st.binary(),
    pa.timestamp("us"): TIMES,
    pa.list_(pa.string()): st.lists(st.text(st.characters(codec="utf-8")), max_size=3),
    pa.list_(pa.int32()): st.lists(st.integers(0, 9), max_size=3),
    pa.list_(pa.float64()): st.lists(st.floats(0, 1), max_size=3),
}


@pytest.mark.parametrize("table", COLUMNS)
@given(data=st.data())
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_come_back_as_they_were_written(tmp_path: Path, table: str, data: st.DataObject) -> None:
    one = st.fixed_dictionaries({}, optional={c.name: st.none() | BY_TYPE[c.type] for c in COLUMNS[table]})
    rows = data.draw(st.lists(one, min_size=1, max_size=4))
    folder = RunFolder(tmp_path / os.urandom(4).hex())
    assert folder.append(table, "p", rows)
    assert folder.read(table).to_pylist() == [{c.name: r.get(c.name) for c in COLUMNS[table]} for r in rows]
    some = [column.name for column in COLUMNS[table]][::2]
    assert folder.read(table, some).schema.names == some
    assert pq.read_schema(folder.part_file(table, "p")).metadata[b"table"] == table.encode()


def test_a_folder_without_rows_reads_as_empty_tables(folder: RunFolder) -> None:
    for table in COLUMNS:
        assert folder.read(table).schema.equals(schema(table))
        assert folder.read(table).num_rows == 0
    assert candidate_statuses(folder) == {}
