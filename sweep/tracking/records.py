"""The content of every MLflow run of a sweep, computed from the tables of its run folder. Imports no MLflow."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sweep.core.ids import content_id
from sweep.core.masking import mask_known
from sweep.storage.tables import SCHEMA_VERSION
from sweep.storage.tables import read_planned as read

MAX_TABLE_ROWS = 20_000  # with more, the table is too large for a page, and the Parquet tables answer at once
CELL_TABLE = "cells_of_one_candidate.json"
_MAX_PARAMS = 100
_ORIGIN = ("population", "architecture", "dataset", "start")
_CELL = (
    *(*_ORIGIN, "space", "method", "settings", "n_members", "alignment", "alignment_settings", "protocol"),
    *("scaling", "scaling_settings", "scaling_factor", "scaling_members", "repair", "repair_settings"),
)
_VALID = {"split": "test", "status": "ok", "protocol": "correct"}
_SCORES = ("accuracy", "cross_entropy")
_MEMBER = (
    *(*_ORIGIN, "pool", "pool_id", "member_index", "start_id", "init_seed", "order_seed", "n_parameters"),
    *("architecture_settings", "dataset_settings", "training"),
)
_MEMBER_METRICS = ("validation_accuracy", "validation_cross_entropy", "train_seconds", "weights_bytes")
_CURVES = ("train_loss", "validation_accuracy", "validation_cross_entropy", "learning_rate")
_BEST_METRICS = (*_SCORES, "brier", "ece", "ece_mass")
CHOSEN_ON = "ms.chosen_on"
"""Tag of a candidate's run: the split whose accuracy chose it."""
_CHOICE_NOTES = {
    "validation": "Chosen among the candidates by its validation accuracy, which is therefore optimistic; its test "
    "accuracy is not.",
    "test": "Chosen among the candidates by its test accuracy, which is therefore optimistic: no candidate has a row "
    "on the validation split. `splits: [test, validation]` evaluates them there.",
}
_ILLEGAL = re.compile(r"[^\w\-. /:]")


class MetricPoint(NamedTuple):
    """One value of a metric. `time` is in ms since 1970; None stands for the time when it is written."""

    name: str
    value: float
    step: int = 0
    time: int | None = None


@dataclass(frozen=True)
class RunRecord:
    """The content of one MLflow run. `key` is unique in its experiment. Non-finite metrics are left out and counted."""

    kind: str
    key: str
    name: str
    values: Mapping[str, Any]
    metrics: Sequence[MetricPoint] = ()
    extra_tags: Mapping[str, Any] = field(default_factory=dict)
    status: str = "FINISHED"
    ended: int | None = None  # ms since 1970
    seconds: float = 0.0

    @cached_property
    def params(self) -> dict[str, str]:
        """At most 100 parameters with names and lengths that MLflow accepts. A JSON object becomes several of them."""
        named = {legal(name): mask_known(str(value))[:6000] for name, value in _spread(self.values) if str(value)}
        return dict(list(named.items())[:_MAX_PARAMS])

    @cached_property
    def points(self) -> list[MetricPoint]:
        """The finite metrics, with names that MLflow accepts."""
        return [point._replace(name=legal(point.name)) for point in self.metrics if math.isfinite(point.value)]

    @cached_property
    def tags(self) -> dict[str, str]:
        """The tags; unlike parameters, they may change in a run that exists."""
        tags = {
            "ms.kind": self.kind,
            "ms.key": self.key,
            "mlflow.runName": self.name,
            "ms.schema_version": SCHEMA_VERSION,
            "ms.non_finite_values": len(self.metrics) - len(self.points) or None,
            **self.extra_tags,
        }
        return {name: mask_known(str(value))[:5000] for name, value in tags.items() if value is not None}

    @cached_property
    def content(self) -> str:
        """Hash of everything that the run shows. A run with this hash is not written again."""
        return content_id("run", [self.params, self.points, self.tags, self.status])


def legal(name: str) -> str:
    """The name of a parameter or metric with the characters and the path form that MLflow accepts."""
    return re.sub(r"/[/.]*", "/", _ILLEGAL.sub("_", name)).strip("/.")[:250] or "_"


def sweep_record(
    folder: Path, sweep_name: str, sweep_id: str, parameters: Mapping[str, str], cells: CellSummary
) -> RunRecord:
    """The run of the sweep itself: its configuration, counts, and a summary per space and method.

    Its tags list the table of the cells of one candidate, so that MLflow's page shows it.
    """
    rows = read(folder, "candidates", ["method", "space", "accuracy", *_VALID])
    models = read(folder, "members", ["role", "status"])
    points = _counts("members/", models.filter(pc.equal(models["role"], "member"))["status"].to_pylist())
    points += _counts("candidates/", rows.filter(pc.equal(rows["split"], "test"))["status"].to_pylist())
    for group in _valid_rows(rows).group_by(["space", "method"]).aggregate([("accuracy", "list")]).to_pylist():
        points += _summary(f"{group['space']}/{group['method']}/test/accuracy", group["accuracy_list"])
    points += [MetricPoint("cells/count", len(cells.records) + cells.n_single)]
    points += [MetricPoint("cells/of_one_candidate", cells.n_single)]
    points.sort(key=lambda point: point.name)  # groups come in no order
    contents = {file.name: file.read_bytes() for file in artifacts(folder)}
    tags = {"ms.sweep": sweep_name, **_provenance(folder)}
    if cells.table:
        contents[CELL_TABLE] = cells.table.encode()
        tags["mlflow.loggedArtifacts"] = json.dumps([{"path": CELL_TABLE, "type": "table"}])
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    tags["ms.artifacts"] = content_id("artifacts", hashes)
    return RunRecord("sweep", sweep_id, sweep_name, parameters, points, tags)


def artifacts(folder: Path) -> list[Path]:
    """The files of a run folder that are stored with the sweep's run, as far as they exist."""
    return [folder / name for name in ("sweep.yaml", "run.json", "report.html") if (folder / name).is_file()]


def _provenance(folder: Path) -> dict[str, Any]:
    """Commit and code version of the last invocation in run.json."""
    try:
        last = json.loads((folder / "run.json").read_text("utf-8"))["invocations"][-1]
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return {"mlflow.source.git.commit": last.get("commit"), "ms.code_version": last.get("code_version")}


def member_records(folder: Path) -> list[RunRecord]:
    """One run per member: its recipe, its curves by epoch, and its own metrics on the test split."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for row in read(folder, "curves", ["member_id", "epoch", "created_at", *_CURVES]).to_pylist():
        curves.setdefault(row["member_id"], []).append(row)
    scores = _test_scores(folder)
    return [
        _member(row, curves.get(row["member_id"], []), scores.get(row["member_id"], {}))
        for row in read(folder, "members").to_pylist()
        if row["role"] == "member"
    ]


def _member(row: Mapping[str, Any], curve: list[dict[str, Any]], scores: Mapping[str, float]) -> RunRecord:
    points = []
    for epoch in sorted(curve, key=lambda epoch: epoch["epoch"]):
        at = epoch["epoch"], _milliseconds(epoch["created_at"]) or 0
        points += [MetricPoint(_metric(name), epoch[name], *at) for name in _CURVES if epoch[name] is not None]
    points += [MetricPoint(f"kept/{name}", row[name]) for name in _MEMBER_METRICS if row[name] is not None]
    points += [MetricPoint(f"test/{name}", value) for name, value in scores.items() if value is not None]
    tags = {"error": row["error"], "ms.code_version": row["code_version"], "ms.device": row["device"]}
    tags |= {"ms.weights_file": row["weights_file"], "ms.weights_sha256": row["weights_sha256"]}
    name = f"member {row['population']} {row['pool']}.{row['member_index']}"
    status = "FINISHED" if row["status"] == "ok" else "FAILED"
    values = {column: row[column] for column in _MEMBER}
    ended = _milliseconds(row["created_at"])
    seconds = row["train_seconds"] or 0.0
    return RunRecord("member", row["member_id"], name, values, points, tags, status, ended, seconds)


def _metric(column: str) -> str:
    """train_loss -> train/loss: MLflow groups metrics by the part before the slash."""
    return re.sub("^(train|validation)_", r"\1/", column)


def _test_scores(folder: Path) -> dict[str, dict[str, float]]:
    """member_id -> test metrics of the member by itself, as it was trained."""
    columns = ["members", "method", "alignment", "scaling", "repair", *_VALID, *_SCORES]
    rows = _valid_rows(
        read(folder, "candidates", columns), method="single", alignment="none", scaling="none", repair="none"
    )
    return {row["members"][0]: {name: row[name] for name in _SCORES} for row in rows.to_pylist() if row["members"]}


@dataclass(frozen=True)
class CellSummary:
    """The cells of the design: a run for each with several candidates, and a table of the others.

    A run for every cell of one candidate would summarize nothing and take most of the time. `table` is JSON as
    `mlflow.log_table` writes it. It is empty if there is no such cell, or if there are more than MAX_TABLE_ROWS.
    """

    records: Sequence[RunRecord]
    n_single: int
    table: str


def summarize_cells(folder: Path) -> CellSummary:
    """Summarize the test scores of the candidates of each cell.

    std is that of a sample and needs two finite values; p50 is the median.
    """
    rows = read(folder, "candidates", [*_CELL, "candidate_id", "split", "status", "created_at", *_SCORES])
    tested = rows.filter(pc.equal(rows["split"], "test"))
    columns = [
        ("status", "list"),
        *((name, "list") for name in _SCORES),
        ("created_at", "max"),
        ("candidate_id", "min"),
    ]
    groups = tested.group_by(list(_CELL)).aggregate(columns).to_pylist()
    several = [_cell(group) for group in groups if len(group["status_list"]) > 1]
    single = [group for group in groups if len(group["status_list"]) == 1]
    return CellSummary(sorted(several, key=lambda record: record.name), len(single), _cell_table(single))


def _cell(group: Mapping[str, Any]) -> RunRecord:
    values = {name: group[name] for name in _CELL}
    points = _counts("test/", group["status_list"])
    for name in _SCORES:
        points += _summary(f"test/{name}", group[f"{name}_list"])
    ended = _milliseconds(group["created_at_max"])
    return RunRecord("cell", content_id("cell", values), f"cell {_title(values)}", values, points, ended=ended)


def _cell_table(groups: Sequence[Mapping[str, Any]]) -> str:
    """A row per cell of one candidate, in JSON without NaN; an empty text for none or too many of them."""
    if not 0 < len(groups) <= MAX_TABLE_ROWS:
        return ""
    columns = [*_CELL, "candidate_id", "status", *(f"test/{name}" for name in _SCORES)]
    data = [
        [
            *(group[name] for name in _CELL),
            group["candidate_id_min"],
            group["status_list"][0],
            *(_finite(group[f"{name}_list"][0]) for name in _SCORES),
        ]
        for group in sorted(groups, key=lambda group: group["candidate_id_min"])
    ]
    return json.dumps({"columns": columns, "data": data}, separators=(",", ":"), allow_nan=False, default=str)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def best_records(folder: Path, count: int) -> list[RunRecord]:
    """The best merges in weight space, by validation accuracy, then cross-entropy, then id; the best first.

    Their test metrics are those of a split that did not choose them. If no merge has a row on the validation split,
    they are chosen by test accuracy, which is then optimistic; the tag `CHOSEN_ON` names the split.
    """
    columns = {"candidate_id", "pool", "pool_id", "created_at", "members", *_VALID, *_CELL, *_BEST_METRICS}
    rows = read(folder, "candidates", columns)
    merges = {split: _rankable_merges(rows, split) for split in ("validation", "test")}
    chosen_on = "validation" if merges["validation"].num_rows else "test"
    ranked = merges[chosen_on]
    order = [("accuracy", "descending"), ("cross_entropy", "ascending"), ("candidate_id", "ascending")]
    chosen = (
        ranked.take(pc.select_k_unstable(ranked, count, order)) if count and ranked.num_rows else ranked.slice(0, 0)
    )
    scores: dict[str, dict[str, Mapping[str, Any]]] = {}
    for split, found in merges.items():
        for row in found.filter(pc.is_in(found["candidate_id"], chosen["candidate_id"].combine_chunks())).to_pylist():
            scores.setdefault(row["candidate_id"], {})[split] = row
    return [_best(row, scores[row["candidate_id"]], chosen_on) for row in chosen.to_pylist()]


def _rankable_merges(rows: pa.Table, split: str) -> pa.Table:
    """The merges in weight space with an accuracy on a split."""
    found = _valid_rows(rows, split=split, space="weights")
    return found.filter(pc.and_(pc.not_equal(found["method"], "single"), pc.is_finite(found["accuracy"])))


def _best(row: Mapping[str, Any], scores: Mapping[str, Mapping[str, Any]], chosen_on: str) -> RunRecord:
    """The record of one of the best merges; `scores` has its row by split."""
    points = [
        MetricPoint(f"{split}/{name}", scores[split][name])
        for split in sorted(scores)
        for name in _BEST_METRICS
        if scores[split][name] is not None
    ]
    values = {name: row[name] for name in (*_CELL, "pool", "pool_id")} | {"members": " ".join(row["members"] or ())}
    tags = {"mlflow.note.content": _CHOICE_NOTES[chosen_on], CHOSEN_ON: chosen_on}
    name = f"merge {_title(values)} {row['candidate_id'][:8]}"
    ended = max(_milliseconds(one["created_at"]) or 0 for one in scores.values())
    return RunRecord("candidate", row["candidate_id"], name, values, points, tags, ended=ended or None)


def _valid_rows(rows: pa.Table, **values: str) -> pa.Table:
    """The rows on the test split, unless another is given, with status ok, the correct protocol, and these values."""
    for name, value in (_VALID | values).items():
        rows = rows.filter(pc.equal(rows[name], value))
    return rows


def _title(values: Mapping[str, Any]) -> str:
    """The factors that differ from their default, in one line."""
    parts = [values[name] for name in ("population", "method", "settings", "alignment")] + [f"k={values['n_members']}"]
    if values["scaling"] not in (None, "none"):
        parts.append(f"{values['scaling']}({values['scaling_factor']}, {values['scaling_members']})")
    parts += [values["repair"], "" if values["protocol"] == "correct" else values["protocol"]]
    return " ".join(str(part) for part in parts if part not in (None, "", "none", "{}"))


def _summary(name: str, column: list[float | None]) -> list[MetricPoint]:
    """Points <name>_mean, _std, _p50, _min and _max of the finite values; no points if none is finite."""
    finite = [value for value in column if value is not None and math.isfinite(value)]
    values = np.sort(finite)  # so that the order of the rows changes no sum
    statistics: dict[str, float] = {"std": values.std(ddof=1)} if len(values) > 1 else {}
    if len(values):
        statistics |= {"mean": values.mean(), "p50": np.median(values), "min": values.min(), "max": values.max()}
    return [MetricPoint(f"{name}_{statistic}", float(value)) for statistic, value in statistics.items()]


def _counts(prefix: str, statuses: Sequence[str]) -> list[MetricPoint]:
    """The number of rows, and of those with status failed or non_finite."""
    failures = (MetricPoint(prefix + status, statuses.count(status)) for status in ("failed", "non_finite"))
    return [MetricPoint(f"{prefix}count", len(statuses)), *failures]


def _spread(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield names and values. A mapping under `name`, also one in JSON text, becomes one value per `name.key`."""
    for name, value in values.items():
        inner = value
        if isinstance(value, str) and value.startswith("{"):
            with suppress(ValueError):
                inner = json.loads(value)
        if isinstance(inner, dict):
            yield from _spread(inner, f"{prefix}{name}.")
        elif inner is not None:
            yield prefix + name, inner


def _milliseconds(time: datetime | None) -> int | None:
    return int(time.replace(tzinfo=UTC).timestamp() * 1000) if time else None
