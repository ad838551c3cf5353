"""The text that verbs print about runs, plans and rows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.core.text import align_columns, format_count

if TYPE_CHECKING:
    from sweep.config.spec import Sweep
    from sweep.status.state import RunState


def footprint_text(summary: Mapping[str, Any]) -> list[str]:
    """Lines on the size of a plan: parameters, bytes of weights, images."""
    networks = summary["networks"].items()
    counts = {name: network.get("error") or f"{network['parameters']:,}" for name, network in networks}
    images = f"{summary['training_images']:,} to train on, about {summary['evaluation_images']:,} to evaluate on"
    return [
        "  parameters          " + "   ".join(f"{name} {count}" for name, count in counts.items()),
        f"  weights             {summary['weights_bytes'] / 1e9:,.3f} GB",
        f"  images              {images}",
        *(
            f"  as published        {name}: progress unknown, since {reason}"
            for name, reason in summary["absent"].items()
        ),
    ]


def relative_path(path: Path) -> str:
    """A path relative to the working folder, if it lies below it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def plan_text(summary: dict[str, Any]) -> list[str]:
    """The counts of a plan or run in a few lines."""
    from sweep.status.estimate import LONG_PAIRS

    members = summary["members"]
    candidates = summary["candidates"]
    methods = "   ".join(f"{name} {count:,}" for name, count in summary["methods"].items())
    populations = format_count(len(summary["populations"]), "population")
    lines = [
        f"{summary['sweep']}: {populations} in {format_count(summary['pools'], 'pool')}",
        f"  members and starts  {members['planned']:,} = {members['new']:,} to train + "
        f"{members['planned'] - members['new'] - members['failed']:,} done + {members['failed']:,} failed",
        f"  candidates          {candidates['planned']:,} = {candidates['new']:,} new + {candidates['done']:,} done + "
        f"{candidates['failed']:,} failed",
        f"  by method           {methods}",
    ]
    if summary["pairs"] >= LONG_PAIRS:
        lines.append(f"  pairs of members    {summary['pairs']:,} to compare")
    if summary["failed_tasks"]:
        lines.append(f"  failed blocks       {summary['failed_tasks']:,} of pairs or inspected models")
    if summary["unseen"]:
        lines.append(f"  inside              {summary['unseen']:,} models to inspect")
    for change in summary["changes"][-1:]:
        lines.append(f"  versions            since {change['started_at']} {', '.join(change['changes'])}")
    if "networks" in summary:
        lines += footprint_text(summary)
    return [*lines, "  time                " + _time_text(summary)]


def _time_text(summary: dict[str, Any]) -> str:
    from sweep.core.text import format_duration

    if not (summary["candidates"]["new"] or summary["members"]["new"] or summary["unseen"] or summary["pairs"]):
        return "nothing left to do"
    estimate = summary["estimate"]
    if not estimate:
        return "unknown: no earlier run in this storage folder is comparable"
    low = format_duration(estimate["low_seconds"])
    high = format_duration(estimate["high_seconds"])
    span = f"about {low} to {high} with {estimate['workers']} workers"
    without = f"; without {', '.join(estimate['not_estimated'])}" if estimate["not_estimated"] else ""
    return f"{span} (quartiles of {estimate['from_rows']:,} earlier rows{without})"


def failure_text(causes: list[dict[str, Any]]) -> list[str]:
    """One line per cause of failure."""
    if not causes:
        return ["no failures"]
    return [
        f"{c['count']:6,} {c['table']} {c['status']}: {c['cause']}  ({', '.join(i[:8] for i in c['ids'][:3])})"
        for c in causes
    ]


def row_text(rows: list[dict[str, Any]]) -> list[str]:
    """One line per column: the value computed here, and the stored one."""
    lines = []
    for row in rows:
        stored = row["stored"] or {}
        lines += align_columns([["column", "here", "stored"], *_compared(row, stored)])
    return lines


def _compared(row: dict[str, Any], stored: dict[str, Any]) -> list[list[str]]:
    return [[key, str(value), str(stored.get(key, ""))] for key, value in row.items() if key != "stored"]


def where_mlflow(sweep: Sweep) -> str:
    """How to open the MLflow page of a sweep."""
    from sweep.tracking.connection import tracking_uri, ui_command

    return f"MLflow: {ui_command(tracking_uri(sweep.folder.parent))}"


def run_text(state: RunState) -> list[str]:
    """The last lines of a run: what is done, what failed, where the results are."""
    sweep = state.sweep
    folder = relative_path(sweep.folder)
    members = sum(len(pool.members) for pool in state.pools)
    lines = [f"{members:,} members and {state.done:,} candidates are done in {folder}"]
    if state.failed or state.failed_members:
        failed = f"{state.failed_members} members and {state.failed:,} candidates"
        lines.append(f"failed among them: {failed}; causes: sweep failures {folder}")
    return [*lines, f"next: analysis report {folder}"]
