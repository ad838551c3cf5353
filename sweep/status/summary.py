"""What `sweep plan`, `sweep status` and `sweep failures` show, as data for `--json` and for the text output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.core.provenance import usable_cores
from sweep.status.changes import all_changes
from sweep.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from sweep.status.outline import RunStatus
    from sweep.status.state import RunState


def plan_summary(state: RunState) -> dict[str, Any]:
    """Counts of members and candidates, and the cost of what is new."""
    from sweep.status.dataset_info import summarize_plan
    from sweep.status.outline import RunStatus

    is_new = bool(state.n_pending or state.missing or state.n_missing_pairs)
    outline = summarize_plan(state.sweep, state.pools, state.inputs, estimated=is_new)
    status = RunStatus(outline, state.members, state.counts, state.missing_pairs)
    return _summary(state.sweep.folder, status, state.n_uninspected)


def run_summary(path: Path) -> dict[str, Any] | None:
    """As `plan_summary`, from the run folder alone; None if that is not enough. Raises StoreError.

    Changed files of data sets or checkpoints go unnoticed here; `sweep run` and `sweep plan` notice them.
    """
    from sweep.status.outline import read_status

    folder = RunFolder(path)
    folder.run_info()
    found = read_status(folder)
    return None if found is None else _summary(path, found, unseen=0)


def _summary(folder: Path, found: RunStatus, unseen: int) -> dict[str, Any]:
    """The summary of a plan and its run folder."""
    from sweep.status.estimate import Remaining, estimate

    outline, members, counts, missing_pairs = found
    missing = [member for member in outline.members if member not in members]
    failed = sum(members.get(member) == "failed" for member in outline.members)
    new_pairs = sum(missing_pairs.values())
    left = None
    if counts.new or missing or new_pairs:
        left = estimate(outline, Remaining(counts.left, missing, missing_pairs), folder.parent, usable_cores())
    candidates = {
        "planned": counts.planned,
        "new": counts.new,
        "done": counts.planned - counts.new - counts.failed,
        "failed": counts.failed,
    }
    return {
        "sweep": folder.name,
        "folder": str(folder),
        "populations": [population.name for population in outline.populations],
        "pools": len(outline.pools),
        "members": {"planned": len(outline.members), "new": len(missing), "failed": failed},
        "candidates": candidates,
        "methods": dict(sorted(counts.methods.items(), key=lambda method: (-method[1], method[0]))),
        "pairs": new_pairs,
        "blocks": counts.blocks,
        "failed_tasks": len(RunFolder(folder).failed_tasks()),
        "unseen": unseen,
        "changes": _changes(RunFolder(folder)),
        "estimate": left,
    }


def _changes(folder: RunFolder) -> list[dict[str, Any]]:
    """The calls of a run that had other versions or hardware than the call before."""
    return all_changes(folder.run_info().get("invocations", [])) if folder.exists else []


def failure_causes(folder: RunFolder) -> list[dict[str, Any]]:
    """Causes of rows that are not ok, the most frequent first, each with up to five ids."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for table, key in (("members", "member_id"), ("candidates", "candidate_id"), ("tasks", "task_id")):
        for row in folder.read(table, [key, "status", "error"]).to_pylist():
            if row["status"] not in ("ok", None):  # tasks of members and of earlier versions have no status
                found.setdefault((table, row["status"], row["error"] or ""), []).append(row[key])
    ranked = sorted(found.items(), key=lambda item: -len(item[1]))
    return [
        {"table": table, "status": status, "cause": cause, "count": len(ids), "ids": ids[:5]}
        for (table, status, cause), ids in ranked
    ]
