"""Parts of tables that are damaged, of another table or of nobody: named, and repaired."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.storage.doctor import repair_run
from sweep.storage.files import StoreError
from sweep.storage.run_folder import RunFolder
from sweep.storage.tables import SCHEMA_VERSION
from tests.helpers.blocks import candidate_statuses
from tests.helpers.hostile import often, outcome


class Bytes(bytes):
    """Bytes that a failing test does not show."""

    def __repr__(self) -> str:
        return f"{len(self)} bytes"


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Bytes:
    folder = RunFolder(tmp_path_factory.mktemp("part"))
    rows = [{"candidate_id": f"c{n}", "split": "test", "status": "ok", "accuracy": n / 50} for n in range(50)]
    folder.append("candidates", "a", rows)
    return Bytes(folder.part_file("candidates", "a").read_bytes())


@given(st.none() | st.integers(0, 10**6), st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=4))
@often(150)
def test_a_damaged_part_is_named_and_repair_lets_its_rows_be_made_anew(
    part: Bytes, cut: int | None, flips: list[tuple[int, int]]
) -> None:
    import tempfile

    content = bytearray(part)
    accuracies = {None, *(n / 50 for n in range(50))}
    for place, mask in flips:
        content[place % len(content)] ^= mask
    if cut is not None:
        content = content[: cut % len(content)]
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name))
        folder.create({"schema_version": SCHEMA_VERSION})
        folder.append("candidates", "whole", [{"candidate_id": "w", "split": "test", "status": "ok"}])
        file = folder.part_file("candidates", "bad")
        file.write_bytes(content)
        rows, error = outcome(lambda: folder.read("candidates"), StoreError)
        assert error is None or str(file) in str(error)
        moved = repair_run(folder)
        assert moved or rows is not None
        assert list(candidate_statuses(folder)) == ["w"] if moved else set(rows["accuracy"].to_pylist()) <= accuracies


def test_a_part_of_another_table_or_of_nobody_is_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create({"schema_version": SCHEMA_VERSION})
    folder.append("members", "m", [{"member_id": "m", "status": "failed"}])
    folder.append("candidates", "whole", [{"candidate_id": "w", "split": "test", "status": "ok"}])
    file = folder.part_file("candidates", "bad")
    nobody = pa.table({"colour": ["red"]})
    for write in (
        lambda: file.write_bytes(folder.part_file("members", "m").read_bytes()),
        lambda: pq.write_table(nobody, file),
    ):
        write()
        with pytest.raises(StoreError, match=re.escape(str(file))):
            folder.read("candidates")
        assert repair_run(folder)
        assert list(candidate_statuses(folder)) == ["w"]
