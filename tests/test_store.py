"""The run folder under real processes, real signals and real full discs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mounts import apart, tmpfs

from sweep.columns import COLUMNS
from sweep.doctor import folder_findings
from sweep.files import StoreError, publish, replace
from sweep.store import RunFolder
from sweep.table import SCHEMA_VERSION, part_files, schema


def child(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own with `folder` (a RunFolder) and `argument` (the rest)."""
    head = (
        "import os, sys, time, pathlib\n"
        "from sweep.files import StoreError, publish\nfrom sweep.store import RunFolder\n"
        "folder, argument = RunFolder(pathlib.Path(sys.argv[1])), sys.argv[2:]\n"
    )
    command = [sys.executable, "-c", head + script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextlib.contextmanager
def killed(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """The process, gone at the end without a chance to tidy up."""
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    found = RunFolder(tmp_path / "run")
    found.create({"schema_version": SCHEMA_VERSION})
    return found


def row(name: str, **more: Any) -> dict[str, Any]:
    return {"candidate_id": name, "split": "test", "status": "ok", **more}


def test_what_is_published_stays(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b.parquet"
    assert publish(file, b"first")
    assert not publish(file, b"second")
    assert file.read_bytes() == b"first"
    assert [path.name for path in file.parent.iterdir()] == ["b.parquet"], "no temporary file is left"
    replace(file, b"third")
    assert file.read_bytes() == b"third"
    assert len(list(file.parent.iterdir())) == 1


def test_the_first_of_racing_writers_wins(folder: RunFolder) -> None:
    script = """
print("ready", flush=True)
go = folder.path / "go"
while not go.exists(): pass
won = [publish(folder.path / "parts" / f"{n}.parquet", argument[0].encode() * 50_000) for n in range(40)]
print("".join(str(int(each)) for each in won))
"""
    racers = [child(script, folder.path, name) for name in "abc"]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    (folder.path / "go").touch()
    won = [racer.communicate()[0].strip() for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    for number in range(40):
        content = (folder.path / "parts" / f"{number}.parquet").read_bytes()
        assert len(content) == 50_000
        (winner,) = [name for name, each in zip("abc", won, strict=True) if each[number] == "1"]
        assert content == winner.encode() * 50_000
    assert len(list((folder.path / "parts").iterdir())) == 40


def test_a_process_killed_while_it_writes_leaves_no_part_of_a_part(folder: RunFolder) -> None:
    script = """
rows = [{"candidate_id": os.urandom(16).hex(), "status": "ok", "error": os.urandom(400).hex()} for _ in range(3000)]
for number in range(10**6):
    folder.append("candidates", f"{os.getpid()}-{number}", rows)
"""
    parts = folder.path / "tables" / "candidates" / "parts"
    caught = 0
    for _ in range(6):
        with killed(child(script, folder.path)):
            end = time.monotonic() + 30
            while time.monotonic() < end and not list(parts.glob(".*.tmp")):
                pass
        caught += bool(list(parts.glob(".*.tmp")))
        for file in part_files(folder.path, "candidates"):
            assert pq.read_table(file).num_rows == 3000
        assert {path.suffix for path in parts.iterdir()} <= {".tmp", ".parquet"}
        for path in parts.glob(".*.tmp"):
            path.rename(folder.path / path.name)  # so that the next one is seen
        if caught >= 2:
            break
    assert caught, "no process was killed in the middle of a write"
    assert folder.read("candidates").num_rows % 3000 == 0


def test_the_lock_names_its_holder_and_is_free_when_the_holder_is_dead(folder: RunFolder) -> None:
    script = """
with folder.lock("sweep run mine.yaml"):
    print("held", flush=True)
    time.sleep(600)
"""
    for _ in range(2):
        with killed(child(script, folder.path)) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(StoreError) as raised, folder.lock("sweep run other.yaml"):
                pass
            told = (
                rf"is in use by sweep run mine\.yaml, process {holder.pid} on \S+ since \d{{4}}-\d\d-\d\d [\d:]+ UTC$"
            )
            assert re.search(told, str(raised.value))
            assert raised.value.hint == "wait for it, or sweep stop it first"
            holder.send_signal(signal.SIGKILL)
            holder.wait()
            said: list[str] = []
            with folder.lock("sweep run other.yaml", said.append):
                pass
            (line,) = said
            assert line.startswith(f"taking over from sweep run mine.yaml, process {holder.pid} on ")
        assert (folder.path / "lock").read_text().startswith("free, last held by sweep run other.yaml, process")
    with folder.lock("one", pytest.fail):
        pass
    with folder.lock("a much shorter story"):
        assert (folder.path / "lock").read_text().startswith("a much shorter story, process")


def test_no_folder_and_odd_descriptions_are_told(folder: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"^no run folder at .*nowhere$") as raised:
        RunFolder(tmp_path / "nowhere").info()
    assert raised.value.hint == "sweep run FILE makes one; see sweep ls runs"
    for content in ("{", "[]", "3", '{"schema_version": "x"}', "\xff"):
        (folder.path / "run.json").write_bytes(content.encode("latin-1"))
        with pytest.raises(StoreError, match=r"^cannot read .*run\.json: "):
            folder.info()


def test_a_newer_schema_is_refused(folder: RunFolder) -> None:
    folder.write_info({"schema_version": SCHEMA_VERSION + 1})
    with pytest.raises(StoreError) as raised:
        folder.info()
    newer = f"{folder.path} was made by a newer version (schema {SCHEMA_VERSION + 1}, this one knows {SCHEMA_VERSION})"
    assert (str(raised.value), raised.value.hint) == (newer, "upgrade merge-sweep, or give the sweep another name")
    folder.write_info({"schema_version": SCHEMA_VERSION})
    assert folder.info() == {"schema_version": SCHEMA_VERSION}
    folder.create({"schema_version": SCHEMA_VERSION, "again": True})
    assert "again" not in folder.info(), "a folder is begun once"


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
    bad = folder.part(table, "b")
    damage(bad)
    with pytest.raises(StoreError, match=f"^cannot read {re.escape(str(bad))}: ") as raised:
        folder.read(table)
    assert raised.value.hint.startswith(f"sweep doctor {folder.path} --repair moves it aside")
    findings = list(folder_findings(folder))
    assert any(not finding.good and str(bad) in finding.told for finding in findings)
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
        folder.load_weights("m", folder.digests()["m"])
    assert f"{file} is not what was written" in [found.told for found in folder_findings(folder) if not found.good]
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
    told = f"{file} is missing; sweep run FILE --retry trains it anew"
    assert told in [found.told for found in folder_findings(folder) if not found.good]


def test_only_parts_with_failures_retire(folder: RunFolder) -> None:
    folder.append("candidates", "good", [row("a"), row("b", status="non_finite")])
    folder.append("candidates", "bad", [row("c"), row("d", status="failed", error="why")])
    folder.append("candidates", "worse", [row("e", status="failed")])
    assert folder.statuses("candidates", "candidate_id")["d"] == "failed"
    before = folder.read("candidates").num_rows
    folder.append("predictions", "bad", [{"candidate_id": "c", "split": "test"}])
    folder.append("predictions", "good", [{"candidate_id": "a", "split": "test"}])
    assert folder.retire() == 2
    assert folder.statuses("candidates", "candidate_id") == {"a": "ok", "b": "non_finite"}
    retired = list((folder.path / "retired").glob("candidates-*"))
    assert sum(pq.read_table(file).num_rows for file in retired) + 2 == before
    assert folder.read("predictions")["candidate_id"].to_pylist() == ["a"], "they go with their candidates"
    assert folder.retire() == 0
    assert folder.append("candidates", "bad", [row("c"), row("d")])
    assert folder.statuses("candidates", "candidate_id").keys() == {"a", "b", "c", "d"}


def test_members_whose_weights_are_gone_retire(folder: RunFolder) -> None:
    for name in ("kept", "gone"):
        digest, _ = folder.save_weights(name, {"a": torch.zeros(1)})
        folder.append("members", name, [{"member_id": name, "status": "ok", "weights_sha256": digest}])
        folder.append("curves", name, [{"member_id": name, "epoch": 1}])
    folder.weights_file("gone").unlink()
    assert folder.retire() == 1
    assert list(folder.statuses("members", "member_id")) == ["kept"]
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
        file = folder.part(table, f"older{index}")
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
    assert pq.read_schema(folder.part(table, "p")).metadata[b"table"] == table.encode()


def test_a_folder_without_rows_reads_as_empty_tables(folder: RunFolder) -> None:
    for table in COLUMNS:
        assert folder.read(table).schema.equals(schema(table))
        assert folder.read(table).num_rows == 0
    assert folder.statuses("candidates", "candidate_id") == {}


FILL = """
import json
try:
    for number in range(100):
        folder.append("candidates", str(number), [{"candidate_id": os.urandom(10**5).hex()}])
except StoreError as error:
    print(json.dumps([str(error), error.hint, number]))
parts = folder.path / "tables" / "candidates" / "parts"
print(json.dumps(sorted(path.suffix for path in parts.iterdir())))
print(folder.read("candidates").num_rows)
"""


def assert_told(output: str, reason: str, hint: str) -> None:
    told, suffixes, rows = (json.loads(line) for line in output.splitlines())
    assert re.fullmatch(rf"cannot write .*/parts/{told[2]}\.parquet: {reason}", told[0])
    assert told[1] == hint
    assert suffixes == [".parquet"] * told[2], "what was written before is whole, what could not be is gone"
    assert rows == told[2]


def test_a_file_that_may_not_grow_is_told(folder: RunFolder) -> None:
    limit = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "folder.append('candidates', '0', [{'candidate_id': 'a'}])\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
    process = child(limit + FILL.replace("range(100)", "range(1, 100)"), folder.path)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert_told(output, "File too large", "")


def mounted(tmp_path: Path, options: str, script: str) -> str:
    """What a script prints with a file system in memory at tmp_path/disc."""
    disc = tmp_path / "disc"
    disc.mkdir()
    file = tmp_path / "script.py"
    head = "import os, sys, pathlib\nfrom sweep.store import RunFolder, StoreError\n"
    file.write_text(head + f"folder = RunFolder(pathlib.Path({str(disc / 'run')!r}))\n{script}")
    mount = f"{tmpfs(disc, options)} && exec '{sys.executable}' '{file}'"
    found = subprocess.run([*apart(), "sh", "-c", mount], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_a_full_disc_is_told(tmp_path: Path) -> None:
    output = mounted(tmp_path, "size=1m", FILL)
    assert_told(output, "No space left on device", "free some space and run the same command again: nothing is lost")


READ_ONLY = """
appended = lambda: folder.append("tasks", "a", [{}])
for attempt in (lambda: folder.create({}), appended, lambda: folder.lock("x").__enter__()):
    try:
        attempt()
    except StoreError as error:
        print(error)
"""


def test_storage_that_is_read_only_is_told(tmp_path: Path) -> None:
    if os.geteuid() == 0:  # whom no permission stops
        lines = mounted(tmp_path, "ro", READ_ONLY).splitlines()
        reason = "Read-only file system"
    else:
        shut = tmp_path / "shut"
        shut.mkdir(mode=0o500)
        lines = child(READ_ONLY, shut / "run").communicate()[0].splitlines()
        reason = "Permission denied"
    assert len(lines) == 3
    assert all(re.fullmatch(rf"cannot write .*: {reason}", line) for line in lines)


def test_a_file_in_the_place_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(StoreError, match=rf"^cannot write {tmp_path}/run: File exists$"):
        RunFolder(tmp_path / "run").create({})
    with pytest.raises(StoreError, match=r"^cannot write .*: Not a directory$"):
        RunFolder(tmp_path / "run").append("tasks", "a", [{"created_at": datetime.now(UTC).replace(tzinfo=None)}])
