"""What MLflow shall show of a run folder, worked out from the tables alone: one page per run. No MLflow here."""

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
from sweep.storage.tables import SCHEMA_VERSION
from sweep.storage.tables import read_planned as read

_MOST_PARAMS = 100
_ORIGIN = ("population", "architecture", "dataset", "start")
_CELL = (
    *(*_ORIGIN, "space", "method", "settings", "n_members", "alignment", "alignment_settings", "protocol"),
    *("scaling", "scaling_settings", "scaling_factor", "scaling_members", "repair", "repair_settings"),
)
_SOUND = {"split": "test", "status": "ok", "protocol": "correct"}
_SCORES = ("accuracy", "cross_entropy")
_MEMBER = (
    *(*_ORIGIN, "pool", "pool_id", "member_index", "start_id", "init_seed", "order_seed", "n_parameters"),
    *("architecture_settings", "dataset_settings", "training"),
)
_MEMBER_METRICS = ("validation_accuracy", "validation_cross_entropy", "train_seconds", "weights_bytes")
_CURVES = ("train_loss", "validation_accuracy", "validation_cross_entropy", "learning_rate")
_BEST_METRICS = (*_SCORES, "brier", "ece")
_ILLEGAL = re.compile(r"[^\w\-. /:]")


class MetricPoint(NamedTuple):
    """One value of a metric; `time` in ms since 1970, None for a summary, which has no time of its own."""

    name: str
    value: float
    step: int = 0
    time: int | None = None


@dataclass(frozen=True)
class RunRecord:
    """One run of MLflow. `key` is unique in its experiment; values that are not finite are counted and left out."""

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
        """At most 100, with names and lengths that MLflow takes; JSON objects are spread over several."""
        named = {legal(name): str(value)[:6000] for name, value in _spread(self.values) if str(value)}
        return dict(list(named.items())[:_MOST_PARAMS])

    @cached_property
    def points(self) -> list[MetricPoint]:
        """The finite values, with names that MLflow takes."""
        return [point._replace(name=legal(point.name)) for point in self.metrics if math.isfinite(point.value)]

    @cached_property
    def tags(self) -> dict[str, str]:
        """What may change without a new run."""
        lost = len(self.metrics) - len(self.points)
        own = {"ms.kind": self.kind, "ms.key": self.key, "mlflow.runName": self.name}
        told = own | {"ms.schema_version": SCHEMA_VERSION, "ms.non_finite_values": lost or None} | dict(self.extra_tags)
        return {name: str(value)[:5000] for name, value in told.items() if value is not None}

    @cached_property
    def content(self) -> str:
        """Hash of all that MLflow is told: equal content is not written again."""
        return content_id("run", [self.params, self.points, self.tags, self.status])


def legal(name: str) -> str:
    """A name of a parameter or metric in the letters and the form of path that MLflow takes."""
    return re.sub(r"/[/.]*", "/", _ILLEGAL.sub("_", name)).strip("/.")[:250] or "_"


def sweep_record(folder: Path, sweep_name: str, sweep_id: str, parameters: Mapping[str, str]) -> RunRecord:
    """The run of the sweep itself: its configuration, counts, and a summary per space and method."""
    rows = read(folder, "candidates", ["method", "space", "accuracy", *_SOUND])
    people = read(folder, "members", ["role", "status"])
    points = _counts("members/", people.filter(pc.equal(people["role"], "member"))["status"].to_pylist())
    points += _counts("candidates/", rows.filter(pc.equal(rows["split"], "test"))["status"].to_pylist())
    for group in _sound(rows).group_by(["space", "method"]).aggregate([("accuracy", "list")]).to_pylist():
        points += _summary(f"{group['space']}/{group['method']}/test/accuracy", group["accuracy_list"])
    points.sort(key=lambda point: point.name)  # groups come in no order
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in artifacts(folder)}
    about = {"ms.sweep": sweep_name, "ms.artifacts": content_id("artifacts", files), **_provenance(folder)}
    return RunRecord("sweep", sweep_id, sweep_name, parameters, points, about)


def artifacts(folder: Path) -> list[Path]:
    """The files of a run folder that its run carries, as far as they are there."""
    return [folder / name for name in ("sweep.yaml", "run.json", "report.html") if (folder / name).is_file()]


def _provenance(folder: Path) -> dict[str, Any]:
    """Commit and version of the last invocation that run.json knows."""
    try:
        last = json.loads((folder / "run.json").read_text("utf-8"))["invocations"][-1]
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return {"mlflow.source.git.commit": last.get("commit"), "ms.code_version": last.get("code_version")}


def member_records(folder: Path) -> list[RunRecord]:
    """One run per member: its recipe, its curves by epoch, and how it does alone on the test split."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for row in read(folder, "curves", ["member_id", "epoch", "created_at", *_CURVES]).to_pylist():
        curves.setdefault(row["member_id"], []).append(row)
    alone = _alone(folder)
    return [
        _member(row, curves.get(row["member_id"], []), alone.get(row["member_id"], {}))
        for row in read(folder, "members").to_pylist()
        if row["role"] == "member"
    ]


def _member(row: Mapping[str, Any], curve: list[dict[str, Any]], alone: Mapping[str, float]) -> RunRecord:
    points = []
    for epoch in sorted(curve, key=lambda epoch: epoch["epoch"]):
        at = epoch["epoch"], _milliseconds(epoch["created_at"]) or 0
        points += [MetricPoint(_metric(name), epoch[name], *at) for name in _CURVES if epoch[name] is not None]
    points += [MetricPoint(f"kept/{name}", row[name]) for name in _MEMBER_METRICS if row[name] is not None]
    points += [MetricPoint(f"test/{name}", value) for name, value in alone.items() if value is not None]
    about = {"error": row["error"], "ms.code_version": row["code_version"], "ms.device": row["device"]}
    about |= {"ms.weights_file": row["weights_file"], "ms.weights_sha256": row["weights_sha256"]}
    name = f"member {row['population']} {row['pool']}.{row['member_index']}"
    status = "FINISHED" if row["status"] == "ok" else "FAILED"
    values = {column: row[column] for column in _MEMBER}
    ended, seconds = _milliseconds(row["created_at"]), row["train_seconds"] or 0.0
    return RunRecord("member", row["member_id"], name, values, points, about, status, ended, seconds)


def _metric(column: str) -> str:
    """train_loss -> train/loss: MLflow groups by what stands before the slash."""
    return re.sub("^(train|validation)_", r"\1/", column)


def _alone(folder: Path) -> dict[str, dict[str, float]]:
    """member_id -> test metrics of the member as it was trained."""
    columns = ["members", "method", "alignment", "scaling", "repair", *_SOUND, *_SCORES]
    rows = _sound(read(folder, "candidates", columns), method="single", alignment="none", scaling="none", repair="none")
    return {row["members"][0]: {name: row[name] for name in _SCORES} for row in rows.to_pylist() if row["members"]}


def cell_records(folder: Path) -> list[RunRecord]:
    """One run per cell of the design, with what its candidates score on the test split.

    std is that of a sample and needs two finite values; p50 is the median.
    """
    rows = read(folder, "candidates", [*_CELL, "split", "status", "created_at", *_SCORES])
    tested = rows.filter(pc.equal(rows["split"], "test"))
    measures = [("status", "list"), *((name, "list") for name in _SCORES), ("created_at", "max")]
    groups = tested.group_by(list(_CELL)).aggregate(measures).to_pylist()
    return sorted((_cell(group) for group in groups), key=lambda page: page.name)


def _cell(group: Mapping[str, Any]) -> RunRecord:
    values = {name: group[name] for name in _CELL}
    points = _counts("test/", group["status_list"])
    for name in _SCORES:
        points += _summary(f"test/{name}", group[f"{name}_list"])
    ended = _milliseconds(group["created_at_max"])
    return RunRecord("cell", content_id("cell", values), f"cell {_title(values)}", values, points, ended=ended)


def best_records(folder: Path, count: int) -> list[RunRecord]:
    """The best merges in weight space: by test accuracy, then cross-entropy, then id; the champion first."""
    columns = {"candidate_id", "pool", "pool_id", "created_at", "members", *_SOUND, *_CELL, *_BEST_METRICS}
    rows = _sound(read(folder, "candidates", columns), space="weights")
    rows = rows.filter(pc.and_(pc.not_equal(rows["method"], "single"), pc.is_finite(rows["accuracy"])))
    order = [("accuracy", "descending"), ("cross_entropy", "ascending"), ("candidate_id", "ascending")]
    chosen = rows.take(pc.select_k_unstable(rows, count, order)) if count and rows.num_rows else rows.slice(0, 0)
    return [_best(row) for row in chosen.to_pylist()]


def _best(row: Mapping[str, Any]) -> RunRecord:
    points = [MetricPoint(f"test/{name}", row[name]) for name in _BEST_METRICS if row[name] is not None]
    values = {name: row[name] for name in (*_CELL, "pool", "pool_id")} | {"members": " ".join(row["members"] or ())}
    note = "Chosen among the candidates by its test accuracy, which is therefore optimistic."
    name = f"merge {_title(values)} {row['candidate_id'][:8]}"
    ended = _milliseconds(row["created_at"])
    return RunRecord("candidate", row["candidate_id"], name, values, points, {"mlflow.note.content": note}, ended=ended)


def _sound(rows: pa.Table, **values: str) -> pa.Table:
    """The rows on the test split that went well under the correct protocol, with these values."""
    for name, value in (_SOUND | values).items():
        rows = rows.filter(pc.equal(rows[name], value))
    return rows


def _title(values: Mapping[str, Any]) -> str:
    """The factors that are not at their usual value, in one line."""
    parts = [values[name] for name in ("population", "method", "settings", "alignment")] + [f"k={values['n_members']}"]
    if values["scaling"] not in (None, "none"):
        parts.append(f"{values['scaling']}({values['scaling_factor']}, {values['scaling_members']})")
    parts += [values["repair"], "" if values["protocol"] == "correct" else values["protocol"]]
    return " ".join(str(part) for part in parts if part not in (None, "", "none", "{}"))


def _summary(name: str, column: list[float | None]) -> list[MetricPoint]:
    """Points <name>_mean, _std, _p50, _min and _max of the finite values; none where there are none."""
    values = np.sort([value for value in column if value is not None and math.isfinite(value)])  # in any order, one sum
    told: dict[str, float] = {"std": values.std(ddof=1)} if len(values) > 1 else {}
    if len(values):
        told |= {"mean": values.mean(), "p50": np.median(values), "min": values.min(), "max": values.max()}
    return [MetricPoint(f"{name}_{statistic}", float(value)) for statistic, value in told.items()]


def _counts(prefix: str, statuses: Sequence[str]) -> list[MetricPoint]:
    """How many there are, and how many of them failed or overflowed."""
    lost = (MetricPoint(prefix + status, statuses.count(status)) for status in ("failed", "non_finite"))
    return [MetricPoint(f"{prefix}count", len(statuses)), *lost]


def _spread(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values; an object under `name`, or a text that is one in JSON, becomes `name.key`."""
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
