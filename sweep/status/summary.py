"""What the reading verbs tell: content for `--json`, and lines for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.core.provenance import usable_cores
from sweep.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from sweep.status.outline import RunStatus
    from sweep.status.state import RunState


def plan_summary(state: RunState) -> dict[str, Any]:
    """Counts of members and candidates, and the cost of what is new."""
    from sweep.status.dataset_info import summarize_plan
    from sweep.status.outline import RunStatus

    outline = summarize_plan(state.sweep, state.pools, estimated=bool(state.n_pending or state.missing))
    return _summary(state.sweep.folder, RunStatus(outline, state.members, state.counts), state.n_uninspected)


def run_summary(path: Path) -> dict[str, Any] | None:
    """The same of a run folder from the folder alone; None for one that takes more to tell. Raises StoreError.

    Files of data or of models that have changed since are noticed by `sweep run` and `sweep plan`.
    """
    from sweep.status.outline import read_status

    folder = RunFolder(path)
    folder.run_info()
    found = read_status(folder)
    return None if found is None else _summary(path, found, unseen=0)


def _summary(folder: Path, found: RunStatus, unseen: int) -> dict[str, Any]:
    """What both tell."""
    from sweep.status.estimate import estimate

    outline, members, standing = found
    missing = [member for member in outline.members if member not in members]
    failed = sum(members.get(member) == "failed" for member in outline.members)
    left = estimate(outline, standing.left, missing, folder.parent, usable_cores()) if standing.new or missing else None
    candidates = {
        "planned": standing.planned,
        "new": standing.new,
        "done": standing.planned - standing.new - standing.failed,
        "failed": standing.failed,
    }
    return {
        "sweep": folder.name,
        "folder": str(folder),
        "populations": [population.name for population in outline.populations],
        "pools": len(outline.pools),
        "members": {"planned": len(outline.members), "new": len(missing), "failed": failed},
        "candidates": candidates,
        "methods": dict(sorted(standing.methods.items(), key=lambda method: (-method[1], method[0]))),
        "blocks": standing.blocks,
        "unseen": unseen,
        "estimate": left,
    }


def failure_causes(folder: RunFolder) -> list[dict[str, Any]]:
    """Causes of rows that are not ok, the most frequent first, with a few ids."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for table, key in (("members", "member_id"), ("candidates", "candidate_id")):
        for row in folder.read(table, [key, "status", "error"]).to_pylist():
            if row["status"] != "ok":
                found.setdefault((table, row["status"], row["error"] or ""), []).append(row[key])
    ranked = sorted(found.items(), key=lambda item: -len(item[1]))
    return [
        {"table": table, "status": status, "cause": cause, "count": len(ids), "ids": ids[:5]}
        for (table, status, cause), ids in ranked
    ]
