"""Compare two run folders: common rows, changed numbers, and the difference of their configurations."""

from __future__ import annotations

import difflib
import json
import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError
from analysis.display.tables import number
from analysis.rows.run import Run
from analysis.rows.select import METRICS
from sweep.core.text import align_columns

KEY = ["candidate_id", "split"]
FIRST = 10
"""Number of differences that are listed; all are counted."""
_SIZES = ("largest", "mean")
SIDES = {"both": "both", "left_only": "a", "right_only": "b"}


def compare(a: Run, b: Run, tolerance: float = 0.0) -> dict[str, Any]:
    """Compare the rows of two runs by candidate and split.

    `numbers` has, per metric, the number of rows in which both runs have it, the largest and mean absolute difference,
    and the number of rows that differ: by more than `tolerance`, or because only one run has a value. `equal` is True
    if both have the same rows with the same statuses and no number differs. `config` is a diff of the configurations.
    Raises AnalysisError for a tolerance below 0.
    """
    if not tolerance >= 0:
        raise AnalysisError("tolerance", f"{tolerance} is below 0", "it is the largest difference that counts as equal")
    rows = _numbers(a, "a").merge(_numbers(b, "b"), "outer", on=KEY, indicator="side")
    side = rows["side"].map(SIDES).astype(str)
    both = rows[side == "both"]
    changed = both[both["status_a"] != both["status_b"]]
    metrics = sorted({name[:-2] for name in rows if name.endswith(("_a", "_b"))} - {"status"}, key=_place)
    apart = {name: _absolute_difference(both, name) for name in metrics}
    alone = {where: rows.loc[side == where, KEY] for where in ("a", "b")}
    first = _first(both, changed, {name: gap[gap > tolerance] for name, gap in apart.items()}, alone)
    return {
        "equal": not first,
        "a": str(a.folder),
        "b": str(b.folder),
        "tolerance": tolerance,
        "rows": {"both": len(both), **{f"only {where}": len(keys) for where, keys in alone.items()}},
        "numbers": {name: _summarize(gap, tolerance) for name, gap in apart.items()},
        "statuses": _statuses(changed),
        "first": first[:FIRST],
        "config": _config(a, b),
        "code": {"a": _versions(a), "b": _versions(b)},
    }


def _place(metric: str) -> tuple[int, str]:
    """Sort key: metrics with a column first."""
    return (METRICS.index(metric) if metric in METRICS else len(METRICS), metric)


def _numbers(run: Run, side: str) -> pd.DataFrame:
    """The keys, status and metrics (also those without a column), with the side as suffix of their names."""
    rows = run.candidates
    found = rows[["status", *METRICS]].astype({"status": object})
    others = rows["other_metrics"].dropna()
    if len(others):
        values = pd.DataFrame([json.loads(text) for text in others], index=others.index)
        found = found.join(values.select_dtypes("number"))
    return rows[KEY].astype(object).join(found.add_suffix(f"_{side}"))


def _absolute_difference(both: pd.DataFrame, metric: str) -> pd.Series:
    """Absolute difference per row: infinite if only one side has a value, NaN if none has."""
    sides = both.reindex(columns=[f"{metric}_a", f"{metric}_b"])
    first, second = (sides[name].to_numpy(np.float64, na_value=np.nan) for name in sides)
    gap = np.abs(first - second)
    return pd.Series(np.where(np.isnan(first) != np.isnan(second), np.inf, gap), both.index)


def _summarize(gap: pd.Series, tolerance: float) -> dict[str, Any]:
    """Rows with values on both sides, the size of their differences, and the number of rows that differ."""
    known = gap[np.isfinite(gap)]
    sizes = {"largest": float(known.max()), "mean": float(known.mean())} if len(known) else dict.fromkeys(_SIZES)
    return {"rows": len(known), **sizes, "differ": int((gap > tolerance).sum())}


def _first(
    both: pd.DataFrame, changed: pd.DataFrame, apart: dict[str, pd.Series], alone: dict[str, pd.DataFrame]
) -> list[dict[str, Any]]:
    """The first differences of each kind, in the order of the keys."""
    found = []
    for where, keys in alone.items():
        found += [{**key, "what": f"only in {where}"} for key in keys.head(FIRST).to_dict("records")]
    for row in changed.head(FIRST).to_dict("records"):
        found.append(_difference(row, "status", row["status_a"], row["status_b"]))
    for name, gap in apart.items():
        for row in both.loc[gap.index[:FIRST]].to_dict("records"):
            found.append(_difference(row, name, row.get(f"{name}_a"), row.get(f"{name}_b")))
    return found


def _difference(row: dict[str, Any], what: str, first: Any, second: Any) -> dict[str, Any]:
    """One difference of one row."""
    return {**{name: row[name] for name in KEY}, "what": what, "a": first, "b": second}


def _statuses(changed: pd.DataFrame) -> list[dict[str, Any]]:
    """Number of rows for each change of status."""
    counts = changed.groupby(["status_a", "status_b"], sort=True).size()
    return [{"a": first, "b": second, "rows": int(n)} for (first, second), n in counts.items()]


def _config(a: Run, b: Run) -> list[str]:
    """Unified diff of the two configurations, with one line of context."""
    names = (f"{a.folder}/sweep.yaml", f"{b.folder}/sweep.yaml")
    return list(difflib.unified_diff(a.config.splitlines(), b.config.splitlines(), *names, n=1, lineterm=""))


def _versions(run: Run) -> list[str]:
    """Versions of the code that wrote the rows."""
    return sorted(set(run.candidates["code_version"].dropna().unique()))


def lines(found: dict[str, Any]) -> list[str]:
    """The comparison as lines of text."""
    rows = found["rows"]
    texts = [f"a  {found['a']}", f"b  {found['b']}", ""]
    texts += [f"rows: {rows['both']} in both, {rows['only a']} only in a, {rows['only b']} only in b"]
    texts += [f"status: {one['rows']} rows {one['a']} in a, {one['b']} in b" for one in found["statuses"]]
    cells = [("metric", "rows", "largest", "mean", "differ")]
    for name, one in found["numbers"].items():
        sizes = [number(math.nan if one[size] is None else one[size]) for size in _SIZES]
        cells.append((name, str(one["rows"]), *sizes, str(one["differ"])))
    texts += ["", *align_columns(cells, numeric=(False, True, True, True, True))]
    if found["first"]:
        texts += ["", *first_lines(found)]
    versions = [f"{side}: {', '.join(found['code'][side]) or 'unknown'}" for side in ("a", "b")]
    same = found["code"]["a"] == found["code"]["b"]
    texts += ["", f"code: {versions[0][3:]}, the same in both" if same else "code: " + "; ".join(versions)]
    return texts + (["", *found["config"]] if found["config"] else ["config: the same in both"])


def first_lines(found: dict[str, Any]) -> list[str]:
    """The listed differences as lines of text."""
    cells = [("candidate", "split", "what", "a", "b")]
    for one in found["first"]:
        sides = ["" if one.get(side) is None else str(one[side]) for side in ("a", "b")]
        cells.append((one["candidate_id"], one["split"], one["what"], *sides))
    return align_columns(cells)
