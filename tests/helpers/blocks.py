"""A run folder of many small parts, and all that it holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sweep.storage.columns import KEYS
from sweep.storage.run_folder import RunFolder
from sweep.storage.tables import SCHEMA_VERSION, part_files

BLOCKS = 30


def in_blocks(place: Path) -> RunFolder:
    """Thirty blocks of three candidates with predictions and tasks, and six members with weights."""
    import torch

    made = RunFolder(place)
    made.create({"schema_version": SCHEMA_VERSION})
    for member in "abcdef":
        digest, _ = made.save_weights(member, {"w": torch.full((3,), float(ord(member)))})
        made.append("curves", member, [{"member_id": member, "epoch": epoch} for epoch in (1, 2)])
        made.append("tasks", member, [{"task_id": member, "kind": "member"}])
        row = {"member_id": member, "status": "ok", "weights_sha256": digest, "kept_epoch": 2}
        made.append("members", member, [row])
    for block in range(BLOCKS):
        keys = [{"candidate_id": f"{block:02}-{number}", "split": "test"} for number in range(3)]
        part = f"part{block:02}"
        made.append("predictions", part, [key | {"classes": os.urandom(50)} for key in keys])
        made.append("tasks", part, [{"task_id": part, "kind": "block"}])
        made.append("candidates", part, [key | {"status": "ok", "accuracy": block / 30} for key in keys])
    return made


def everything(folder: RunFolder) -> dict[str, list[Any]]:
    """All rows of all tables in the order of their keys."""
    found = {}
    for table, keys in KEYS.items():
        rows = folder.read(table).to_pylist()
        found[table] = sorted(rows, key=lambda row: [str(row[key]) for key in keys])
        assert len({tuple(row[key] for key in keys) for row in rows}) == len(rows), f"{table} has a row twice"
    return found


def candidate_statuses(folder: RunFolder) -> dict[str, str]:
    """Candidate -> status of its row."""
    rows = folder.read("candidates", ["candidate_id", "status"]).to_pylist()
    return {row["candidate_id"]: row["status"] for row in rows}


def files(folder: RunFolder) -> dict[str, int]:
    return {table: len(part_files(folder.path, table)) for table in KEYS if part_files(folder.path, table)}
