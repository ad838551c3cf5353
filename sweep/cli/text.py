"""What the verbs print about runs, plans and rows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.core.text import align_columns
from sweep.status.state import RunState

if TYPE_CHECKING:
    from sweep.config.spec import Sweep
    from sweep.status.state import RunState


def footprint_text(found: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    counts = {name: each.get("error") or f"{each['parameters']:,}" for name, each in found["networks"].items()}
    images = f"{found['training_images']:,} to train on, about {found['evaluation_images']:,} to evaluate on"
    return [
        "  parameters          " + "   ".join(f"{name} {count}" for name, count in counts.items()),
        f"  weights             {found['weights_bytes'] / 1e9:,.3f} GB",
        f"  images              {images}",
        *(
            f"  as published        {name}: what is done is not known, for {why}"
            for name, why in found["absent"].items()
        ),
    ]


def relative_path(path: Path) -> str:
    """A path as one would type it from here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


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
    if summary["failed_tasks"]:
        lines.append(f"  failed blocks       {summary['failed_tasks']:,} of pairs or inspected models")
    if summary["unseen"]:
        lines.append(f"  inside              {summary['unseen']:,} models to look into")
    if "networks" in summary:
        from sweep.cli.text import footprint_text

        lines += footprint_text(summary)
    return [*lines, "  time                " + _time_text(summary)]


def _time_text(summary: dict[str, Any]) -> str:
    from sweep.core.text import format_duration

    if not (summary["candidates"]["new"] or summary["members"]["new"] or summary["unseen"]):
        return "nothing left to do"
    found = summary["estimate"]
    if not found:
        return "not known: nothing like it was run in this storage folder yet"
    low, high = format_duration(found["low_seconds"]), format_duration(found["high_seconds"])
    span = f"about {low} to {high} with {found['workers']} workers"
    without = f"; without {', '.join(found['not_estimated'])}" if found["not_estimated"] else ""
    return f"{span} (quartiles of {found['from_rows']:,} earlier rows{without})"


def failure_text(causes: list[dict[str, Any]]) -> list[str]:
    """A line per cause."""
    if not causes:
        return ["no failures"]
    return [
        f"{c['count']:6,} {c['table']} {c['status']}: {c['cause']}  ({', '.join(i[:8] for i in c['ids'][:3])})"
        for c in causes
    ]


def row_text(rows: list[dict[str, Any]]) -> list[str]:
    """A line per column: here, and as stored."""
    lines = []
    for row in rows:
        stored = row["stored"] or {}
        lines += align_columns([["column", "here", "stored"], *_compared(row, stored)])
    return lines


def _compared(row: dict[str, Any], stored: dict[str, Any]) -> list[list[str]]:
    return [[key, str(value), str(stored.get(key, ""))] for key, value in row.items() if key != "stored"]


def where_mlflow(sweep: Sweep) -> str:
    """How to open MLflow's page."""
    from sweep.tracking.connection import tracking_uri, ui_command

    return f"MLflow: {ui_command(tracking_uri(sweep.folder.parent))}"


def run_text(state: RunState) -> list[str]:
    """What a run ends with: what is done, what failed, where to look."""
    sweep, folder = state.sweep, relative_path(state.sweep.folder)
    members = sum(len(pool.members) for pool in state.pools)
    lines = [f"{members:,} members and {state.done:,} candidates are done in {folder}"]
    if state.failed or state.failed_members:
        failed = f"{state.failed_members} members and {state.failed:,} candidates"
        lines.append(f"of them failed {failed}: sweep failures {folder}")
    if sweep.execution.mlflow:
        lines.append(where_mlflow(sweep))
    return [*lines, f"next: analysis report {folder}"]
