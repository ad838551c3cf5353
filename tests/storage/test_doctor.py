"""Damage moved aside with what belongs to it: what is gone is made anew, and no row is there twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from sweep.cli.main import main
from sweep.storage.compact import compact
from sweep.storage.doctor import folder_findings, repair_run
from sweep.storage.files import StoreError
from sweep.storage.run_folder import RunFolder
from sweep.storage.tables import part_files
from tests.helpers.blocks import BLOCKS, candidate_statuses, everything, in_blocks


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return in_blocks(tmp_path / "run")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def foreign(file: Path) -> None:
    pq.write_table(pa.table({"colour": ["red"], "status": ["ok"]}), file)


def retyped(file: Path) -> None:
    rows = pq.read_table(file)
    place = rows.schema.get_field_index("accuracy")
    pq.write_table(rows.set_column(place, "accuracy", pa.array(["high"] * rows.num_rows)), file)


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize(
    ("table", "damage"),
    [
        ("candidates", cut),
        ("candidates", foreign),
        ("candidates", retyped),
        ("predictions", cut),
        ("predictions", foreign),
    ],
)
def test_repair_moves_damaged_parts_aside_with_what_belongs_to_them(
    folder: RunFolder, table: str, damage: Callable[[Path], None], compacted: bool
) -> None:
    if compacted:
        compact(folder)
        folder.append("predictions", "more", [{"candidate_id": "more", "split": "test"}])
        folder.append("candidates", "more", [{"candidate_id": "more", "split": "test", "status": "ok"}])
    bad = part_files(folder.path, table)[0]
    damage(bad)
    with pytest.raises(StoreError, match=str(bad)):
        folder.read(table)
    assert any(not finding.good and str(bad) in finding.message for finding in folder_findings(folder))
    folder.append("predictions", "orphan", [{"candidate_id": "orphan", "split": "test"}])
    refused = CliRunner().invoke(main, ["compact", str(folder.path)])
    assert refused.exit_code == 2, refused.output
    assert "--repair moves" in refused.stderr
    done = CliRunner().invoke(main, ["doctor", str(folder.path), "--repair"])
    assert done.exit_code == 0, done.output
    assert f"moved {bad} aside" in done.stderr
    left = 1 if compacted else 3 * BLOCKS - 3
    known = candidate_statuses(folder)
    assert len(known) == folder.read("predictions").num_rows == left, "what is gone is to be made anew"
    assert all(finding.good for finding in folder_findings(folder))
    assert list((folder.path / "retired").glob(f"{table}-{bad.stem}-*")), "nothing is deleted"
    assert repair_run(folder) == []


@pytest.mark.parametrize("compacted", [False, True])
def test_curves_that_are_missing_are_reported_and_their_members_stay(folder: RunFolder, compacted: bool) -> None:
    digest, _ = folder.save_weights("start", {})
    row = {"member_id": "start", "status": "ok", "weights_sha256": digest, "kept_epoch": 0}
    folder.append("members", "start", [row])
    before = everything(folder)
    if compacted:
        compact(folder)
    bad = part_files(folder.path, "curves")[-1]
    cut(bad)
    moved, text = repair_run(folder)
    assert moved.startswith(f"moved {bad} aside")
    missing = "abcdef" if compacted else "f"
    assert text.startswith(f"the curves of {len(missing)} members are lost")
    assert f"stay: {', '.join(missing)}; " in text
    before["curves"] = [row for row in before["curves"] if row["member_id"] not in missing]
    assert everything(folder) == before
    for member in missing:
        folder.weights_file(member).unlink()
    assert folder.retire_failures() == len(missing), "as the line says"
    assert repair_run(folder) == []


@pytest.mark.parametrize("compacted", [False, True])
def test_members_that_are_missing_take_their_curves_and_tasks_with_them(folder: RunFolder, compacted: bool) -> None:
    if compacted:
        compact(folder)
    bad = part_files(folder.path, "members")[-1]
    cut(bad)
    missing = set("abcdef" if compacted else "f")
    assert len(repair_run(folder)) == (2 if compacted else 1)
    assert set(folder.read("curves")["member_id"].to_pylist()) == set("abcdef") - missing
    text = [row["task_id"] for row in folder.read("tasks").to_pylist() if row["kind"] == "member"]
    assert sorted(text) == sorted(set("abcdef") - missing)
    assert folder.read("tasks").num_rows == BLOCKS + len(text)
    for member in missing:
        folder.append("curves", member, [{"member_id": member, "epoch": epoch} for epoch in (1, 2)])
        folder.append("tasks", member, [{"task_id": member, "kind": "member"}])
    assert everything(folder)


def test_repair_takes_back_members_whose_weights_changed(folder: RunFolder) -> None:
    compact(folder)
    file = folder.weights_file("b")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    folder.weights_file("d").unlink()
    assert len(repair_run(folder)) == 2
    assert sorted(folder.member_statuses()) == list("acef")
    assert not file.exists()
    assert [path.read_bytes() for path in (folder.path / "retired").glob("weights-b-*")] == [bytes(content)]


def test_repair_takes_back_what_is_there_twice(folder: RunFolder) -> None:
    folder.append("candidates", "again", folder.read("candidates", candidate_id="03-1").to_pylist())
    folder.append("members", "again", folder.read("members", member_id="f").to_pylist())
    assert len(repair_run(folder)) == 2
    everything(folder)
    assert len(candidate_statuses(folder)) == 3 * BLOCKS - 1
    assert sorted(folder.member_statuses()) == list("abcde")


def test_predictions_whose_candidates_were_never_written_are_taken_out(folder: RunFolder) -> None:
    """A driver is killed between the two, and the block is done in other pieces afterwards."""
    compact(folder)
    folder.append("predictions", "whole", [{"candidate_id": name, "split": "test"} for name in ("p", "q")])
    with folder.lock("next"):
        assert folder.read("predictions").num_rows == 3 * BLOCKS
        for name in ("p", "q"):
            folder.append("predictions", name, [{"candidate_id": name, "split": "test"}])
            folder.append("candidates", name, [{"candidate_id": name, "split": "test", "status": "ok"}])
    with folder.lock("after"):
        assert folder.read("predictions").num_rows == 3 * BLOCKS + 2
    everything(folder)
