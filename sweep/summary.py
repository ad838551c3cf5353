"""What the reading verbs tell: content for `--json`, and lines for people."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.files import StoreError
from sweep.provenance import cores
from sweep.query import aligned
from sweep.registry import NEEDS, RegistryError, suggestion
from sweep.registry import names as names_of
from sweep.store import RunFolder

if TYPE_CHECKING:
    from sweep.outline import Reading
    from sweep.spec import Sweep
    from sweep.state import State

Told = tuple[Any, list[str]]
_RECIPES = {"RECIPE": "train by default", "FINE_TUNING": "with pretrained weights"}


def shown(path: Path) -> str:
    """A path as one would type it from here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def plan_summary(state: State) -> dict[str, Any]:
    """Counts of members and candidates, and the cost of what is new."""
    from sweep.facts import outline_of
    from sweep.outline import Reading

    outline = outline_of(state.sweep, state.pools, estimated=bool(state.new or state.missing))
    return _summary(state.sweep.folder, Reading(outline, state.members, state.standing), state.unseen)


def run_summary(path: Path) -> dict[str, Any] | None:
    """The same of a run folder from the folder alone; None for one that takes more to tell. Raises StoreError.

    Files of data or of models that have changed since are noticed by `sweep run` and `sweep plan`.
    """
    from sweep.outline import reading

    folder = RunFolder(path)
    folder.info()
    found = reading(folder)
    return None if found is None else _summary(path, found, unseen=0)


def _summary(folder: Path, found: Reading, unseen: int) -> dict[str, Any]:
    """What both tell."""
    from sweep.cost import estimate

    outline, members, standing = found
    missing = [member for member in outline.members if member not in members]
    failed = sum(members.get(member) == "failed" for member in outline.members)
    left = estimate(outline, standing.left, missing, folder.parent, cores()) if standing.new or missing else None
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


def plan_text(summary: dict[str, Any]) -> list[str]:
    """The counts in a few lines."""
    members, candidates = summary["members"], summary["candidates"]
    methods = "   ".join(f"{name} {count:,}" for name, count in summary["methods"].items())
    lines = [
        f"{summary['sweep']}: {len(summary['populations'])} populations in {summary['pools']} pools",
        f"  members and starts  {members['planned']:,} = {members['new']:,} to train + "
        f"{members['planned'] - members['new'] - members['failed']:,} done + {members['failed']:,} failed",
        f"  candidates          {candidates['planned']:,} = {candidates['new']:,} new + {candidates['done']:,} done + "
        f"{candidates['failed']:,} failed",
        f"  by method           {methods}",
    ]
    if summary["unseen"]:
        lines.append(f"  inside              {summary['unseen']:,} models to look into")
    if "networks" in summary:
        from sweep.paper import paper_text

        lines += paper_text(summary)
    return [*lines, "  time                " + _time_text(summary)]


def _time_text(summary: dict[str, Any]) -> str:
    from sweep.progress import clock

    if not (summary["candidates"]["new"] or summary["members"]["new"] or summary["unseen"]):
        return "nothing left to do"
    found = summary["estimate"]
    if not found:
        return "not known: nothing like it was run in this storage folder yet"
    span = f"about {clock(found['low_seconds'])} to {clock(found['high_seconds'])} with {found['workers']} workers"
    without = f"; without {', '.join(found['not_estimated'])}" if found["not_estimated"] else ""
    return f"{span} (quartiles of {found['from_rows']:,} earlier rows{without})"


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


def failure_text(causes: list[dict[str, Any]]) -> list[str]:
    """A line per cause."""
    if not causes:
        return ["no failures"]
    return [
        f"{c['count']:6,} {c['table']} {c['status']}: {c['cause']}  ({', '.join(i[:8] for i in c['ids'][:3])})"
        for c in causes
    ]


def one_candidate(sweep: Sweep, prefix: str) -> list[dict[str, Any]]:
    """The rows of one candidate, evaluated here, each with `stored` as the run folder has it.

    Raises PlanError for an id that no planned candidate, or more than one, begins with.
    """
    from sweep.models import steady
    from sweep.pools import stored_bench
    from sweep.state import state_of
    from sweep.task import Evaluator

    steady(sweep.execution.threads, 0)
    plan, folder = state_of(sweep).plan, RunFolder(sweep.folder)
    chosen = plan.candidate(prefix)
    pool = plan.pool_of[chosen.pool_id]
    evaluator = Evaluator(stored_bench(sweep, pool), pool, sweep.name, sweep.metrics)
    rows = [evaluator.candidate(chosen, split)[0] for split in sweep.settings.splits]
    stored = folder.read("candidates", candidate_id=chosen.id).to_pylist()
    by_key = {(row["candidate_id"], row["split"]): row for row in stored}
    return [row | {"stored": by_key.get((row["candidate_id"], row["split"]))} for row in rows]


def row_text(rows: list[dict[str, Any]]) -> list[str]:
    """A line per column: here, and as stored."""
    lines = []
    for row in rows:
        stored = row["stored"] or {}
        lines += aligned([["column", "here", "stored"], *_compared(row, stored)])
    return lines


def _compared(row: dict[str, Any], stored: dict[str, Any]) -> list[list[str]]:
    return [[key, str(value), str(stored.get(key, ""))] for key, value in row.items() if key != "stored"]


def listing_of(what: str | None) -> Told:
    """The open sets, one of them, or the runs. Raises StoreError for anything else."""
    from sweep.about import listing

    if what is None:
        kinds = {kind: names_of(kind) for kind in NEEDS}
        return kinds, [f"{kind:14} {', '.join(names)}" for kind, names in kinds.items()]
    if what == "runs":
        return _runs()
    if what not in NEEDS:
        raise StoreError(f"nothing is called {what!r} here", suggestion(what, [*NEEDS, "runs"]))
    rows = listing(what)
    return rows, aligned([list(rows[0]), *[list(row.values()) for row in rows]])


def _runs() -> Told:
    """The run folders under `runs`."""
    found = []
    for file in sorted(Path("runs").glob("*/run.json")):
        info = RunFolder(file.parent).info()
        found.append({"run": str(file.parent), "begun": info.get("created_at"), "rows": _count(file.parent)})
    if not found:
        return found, ["no runs yet under runs/"]
    return found, aligned([list(found[0]), *[[str(cell) for cell in row.values()] for row in found]])


def _count(folder: Path) -> int:
    return len(RunFolder(folder).read("candidates", ["status"]))


def descriptions_of(name: str) -> Told:
    """Everything of that name, in full. Raises RegistryError with near names."""
    from sweep.about import description, found_as

    entries = found_as(name)
    if not entries:
        known = sorted({each for kind in NEEDS for each in names_of(kind)})
        raise RegistryError([((), f"nothing is called `{name}`", suggestion(name, known))])
    found = [description(entry) for entry in entries]
    return found, [line for each in found for line in _described(each)]


def _described(each: dict[str, Any]) -> list[str]:
    settings = [[s["name"], s["type"], str(s["default"])] for s in each["settings"]]
    table = aligned([["setting", "values", "default"], *settings]) if settings else ["no settings"]
    recipes = [f"{_RECIPES[key]}: {_pairs(recipe)}" for key, recipe in each["recipes"].items()]
    return [f"{each['kind']}/{each['name']}: {each['idea']}", f"  needs: {', '.join(each['needs']) or 'nothing'}"] + [
        f"  {line}" for line in [*table, *recipes, f"write: {each['example']}"]
    ]


def _pairs(recipe: dict[str, Any]) -> str:
    """Settings as a configuration writes them."""
    return "{" + ", ".join(f"{key}: {str(value).lower()}" for key, value in recipe.items()) + "}"


def where_mlflow(sweep: Sweep) -> str:
    """How to open MLflow's page."""
    from sweep.server import tracking_uri, ui_command

    return f"MLflow: {ui_command(tracking_uri(sweep.folder.parent))}"


def run_text(state: State) -> list[str]:
    """What a run ends with: what is done, what failed, where to look."""
    sweep, folder = state.sweep, shown(state.sweep.folder)
    members = sum(len(pool.members) for pool in state.pools)
    lines = [f"{members:,} members and {state.done:,} candidates are done in {folder}"]
    if state.failed or state.failed_members:
        failed = f"{state.failed_members} members and {state.failed:,} candidates"
        lines.append(f"of them failed {failed}: sweep failures {folder}")
    if sweep.execution.mlflow:
        lines.append(where_mlflow(sweep))
    return [*lines, f"next: analysis report {folder}"]
