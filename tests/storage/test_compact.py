"""Parts put together under real kills: at no moment is a row lost or there twice."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from sweep.cli.main import main
from sweep.storage.compact import compact, compact_if_large
from sweep.storage.doctor import folder_findings
from sweep.storage.files import StoreError, leftover_files, write_atomic
from sweep.storage.run_folder import RunFolder
from sweep.storage.tables import JOURNAL, SCHEMA_VERSION, journal, part_files
from tests.helpers.blocks import BLOCKS, everything, files, in_blocks
from tests.helpers.logs import logged


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return in_blocks(tmp_path / "run")


def test_many_parts_become_one_with_the_same_rows(folder: RunFolder) -> None:
    before = everything(folder)
    message, removed = compact(folder)
    assert everything(folder) == before
    assert files(folder) == dict.fromkeys(("members", "curves", "candidates", "predictions", "tasks"), 1)
    assert {each.table: each.before for each in message} == {
        **{"members": 6, "curves": 6, "candidates": BLOCKS, "predictions": BLOCKS, "tasks": BLOCKS + 6}
    }
    assert removed == 0
    kept = {path: path.read_bytes() for path in (folder.path / "tables").rglob("*.parquet")}
    compact(folder)
    assert {path: path.read_bytes() for path in (folder.path / "tables").rglob("*.parquet")} == kept
    assert all(finding.good for finding in folder_findings(folder))


def test_parts_of_later_blocks_join_and_a_made_anew_name_is_seen(folder: RunFolder) -> None:
    compact(folder)
    assert folder.append("candidates", "later", [{"candidate_id": "z", "split": "test", "status": "ok"}])
    assert folder.append("candidates", "part00", [{"candidate_id": "y", "split": "test", "status": "ok"}])
    assert folder.read("candidates").num_rows == 3 * BLOCKS + 2
    compact(folder)
    assert files(folder)["candidates"] == 1
    assert folder.read("candidates").num_rows == 3 * BLOCKS + 2


def test_columns_of_a_later_version_are_kept(folder: RunFolder) -> None:
    file = folder.part_file("candidates", "part03")
    rows = pq.read_table(file)
    pq.write_table(rows.append_column("of_the_future", pa.array(["x"] * 3)), file)
    compact(folder)
    (made,) = part_files(folder.path, "candidates")
    assert pq.read_table(made)["of_the_future"].drop_null().to_pylist() == ["x"] * 3


def test_parts_with_failures_are_left_for_a_retry(folder: RunFolder) -> None:
    folder.append("candidates", "bad", [{"candidate_id": "bad", "split": "test", "status": "failed"}])
    folder.append("tasks", "bad", [{"task_id": "bad", "kind": "block"}])
    compact(folder)
    assert files(folder)["candidates"] == files(folder)["tasks"] == 2
    assert folder.retire_failures() == 1
    assert files(folder)["candidates"] == files(folder)["tasks"] == 1
    assert folder.read("candidates").num_rows == 3 * BLOCKS


def test_a_block_that_is_being_written_is_left_alone(folder: RunFolder) -> None:
    folder.append("predictions", "half", [{"candidate_id": "half", "split": "test"}])
    folder.append("tasks", "half", [{"task_id": "half", "kind": "block"}])
    compact(folder)
    assert folder.part_file("tasks", "half").exists(), "written anew with its candidates, it must be found there"
    assert folder.read("predictions").num_rows == 3 * BLOCKS, "taken out by who takes the lock"
    folder.append("candidates", "half", [{"candidate_id": "half", "split": "test", "status": "ok"}])
    compact(folder)
    assert not folder.part_file("tasks", "half").exists()
    assert everything(folder)


def test_many_parts_are_merged_when_a_run_ends(folder: RunFolder) -> None:
    with logged() as lines, folder.lock("sweep run mine.yaml"):
        for block in range(100):
            keys = [{"candidate_id": f"later-{block}-{number}", "split": "test"} for number in range(2)]
            status = "failed" if block == 50 else "ok"
            folder.append("predictions", f"later{block}", keys)
            folder.append("tasks", f"later{block}", [{"task_id": f"later{block}", "kind": "block"}])
            folder.append("candidates", f"later{block}", [key | {"status": status} for key in keys])
        before = everything(folder)
        compact_if_large(folder, many=1000)
        assert len(part_files(folder.path, "candidates")) == BLOCKS + 100
        compact_if_large(folder, many=10)
        assert everything(folder) == before
    assert lines == []
    assert files(folder)["candidates"] == files(folder)["predictions"] == 2
    assert len(before["tasks"]) == BLOCKS + 6 + 100
    assert folder.retire_failures() == 1, "a failure is still a part of its own"
    assert all(finding.good for finding in folder_findings(folder))


def test_many_members_and_few_candidates_are_merged_too(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create({"schema_version": SCHEMA_VERSION})
    for number in range(12):
        folder.append("members", f"m{number}", [{"member_id": f"m{number}", "status": "ok"}])
    compact_if_large(folder, many=12)
    assert len(part_files(folder.path, "members")) == 1
    assert len(folder.member_statuses()) == 12


def test_a_failed_task_is_found_and_retired_after_compaction(folder: RunFolder) -> None:
    for number in range(3):
        folder.append("tasks", f"pairs{number}", [{"task_id": f"pairs{number}", "kind": "block", "status": "ok"}])
    row = {"task_id": "bad", "kind": "block", "status": "failed", "error": "its worker died"}
    folder.append("tasks", "bad", [row])
    compact(folder)
    assert folder.failed_tasks() == {"bad": "its worker died"}
    assert all(finding.good for finding in folder_findings(folder))
    assert folder.retire_failures() == 1
    assert folder.failed_tasks() == {}
    assert len(everything(folder)["tasks"]) == BLOCKS + 6 + 3


def test_parts_that_cannot_be_merged_are_reported_and_stay(folder: RunFolder) -> None:
    damaged = folder.part_file("candidates", "part07")
    damaged.write_bytes(damaged.read_bytes()[:-20])
    with logged() as lines:
        compact_if_large(folder, many=10)
    assert len(lines) == 1
    assert lines[0].startswith("parts stay as they are: a part of ")
    assert "--repair" in lines[0]
    assert len(part_files(folder.path, "candidates")) == BLOCKS


def test_a_member_whose_weights_are_gone_retires_out_of_a_compact_file(folder: RunFolder) -> None:
    compact(folder)
    folder.weights_file("c").unlink()
    assert folder.retire_failures() == 1
    assert sorted(folder.member_statuses()) == list("abdef")
    assert set(folder.read("curves")["member_id"].to_pylist()) == set("abdef")
    assert folder.read("tasks").num_rows == BLOCKS + 5
    assert folder.retire_failures() == 0


def test_leftovers_are_removed_and_reported(folder: RunFolder) -> None:
    parts = folder.path / "tables" / "candidates" / "parts"
    left = [parts / ".a.parquet.1.ab.tmp", folder.path / "members" / ".b.tmp", folder.path / ".run.json.7.cd.tmp"]
    left += [folder.path / "members" / "a.partial", parts / ".turn"]
    for file in left:
        file.write_bytes(b"half")
    kept = folder.path / "members" / "unfinished.partial"
    kept.write_bytes(b"epoch 3")
    assert any(finding.subject == "leftovers" for finding in folder_findings(folder))
    done = CliRunner().invoke(main, ["compact", str(folder.path)])
    assert done.exit_code == 0, done.output
    assert "5 leftovers of killed writers removed" in done.stdout
    assert not any(file.exists() for file in left)
    assert kept.exists(), "a training that is not done goes on from it"
    assert leftover_files(folder.path) == []


def test_a_folder_in_use_is_not_compacted(folder: RunFolder) -> None:
    with folder.lock("sweep run mine.yaml"), pytest.raises(StoreError, match=r"in use by sweep run mine\.yaml"):
        compact(folder)


@pytest.mark.parametrize("committed", [False, True])
def test_readers_see_either_side_of_an_exchange_and_the_next_owner_ends_it(folder: RunFolder, committed: bool) -> None:
    """Each state in which a kill may leave the files, made by hand."""
    before = everything(folder)
    base = folder.path / "tables" / "candidates"
    names = [f"parts/part{block:02}.parquet" for block in range(BLOCKS)]
    write_atomic(base / JOURNAL, f'{{"made": ["compact/x.parquet"], "replaced": {names!r}}}'.replace("'", '"').encode())
    assert journal(base) == ({"compact/x.parquet"}, set(names))
    assert everything(folder) == before
    if committed:
        rows = pa.concat_tables([pq.read_table(file) for file in part_files(folder.path, "candidates")])
        (base / "compact").mkdir()
        pq.write_table(rows, base / "compact" / "x.parquet")
        for gone in (0, 3, BLOCKS):
            for name in names[:gone]:
                (base / name).unlink(missing_ok=True)
            assert everything(folder) == before
    with folder.lock("next"):
        assert not (base / JOURNAL).exists()
    assert everything(folder) == before
    assert files(folder)["candidates"] == (1 if committed else BLOCKS)


COMPACT = """
import pathlib, sys
from sweep.storage.run_folder import RunFolder
from sweep.storage.compact import compact
print("ready", flush=True)
sys.stdin.readline()
compact(RunFolder(pathlib.Path(sys.argv[1])))
"""


def test_a_compaction_killed_at_any_moment_loses_and_repeats_nothing(folder: RunFolder, tmp_path: Path) -> None:
    before = everything(folder)
    chance = random.Random(8)
    whole = tmp_path / "whole"
    shutil.copytree(folder.path, whole)
    started = time.perf_counter()
    compact(RunFolder(whole))
    seconds = time.perf_counter() - started
    unfinished = 0
    for number in range(5):
        copy = RunFolder(tmp_path / f"copy{number}")
        shutil.copytree(folder.path, copy.path)
        command = [sys.executable, "-c", COMPACT, str(copy.path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.readline()
            process.stdin.write(b"\n")
            process.stdin.flush()
            end = time.perf_counter() + chance.uniform(0, seconds)
            while time.perf_counter() < end:
                assert copy.read("candidates").num_rows == 3 * BLOCKS
            process.send_signal(signal.SIGKILL)
        unfinished += process.returncode == -signal.SIGKILL
        assert everything(copy) == before
        compact(copy)
        assert everything(copy) == before
        assert files(copy) == files(RunFolder(whole))
        assert leftover_files(copy.path) == []
        assert not list(copy.path.rglob(JOURNAL))
        shutil.rmtree(copy.path)
    assert unfinished, "no compaction was killed before its end"
