"""The tables of the report: data frames to rows of texts and numbers, without HTML."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.core.errors import AnalysisError
from analysis.display import numbers, style
from analysis.report.audit_changes import summary
from analysis.report.claims import Answer, posterior, remark
from analysis.rows.select import MEAN_MEMBER, POINTS, add_labels, named, select_comparison, unscaled
from analysis.statistics.paired_difference import paired_difference
from analysis.statistics.path import QUANTITIES, path

BEST = 20
NOT_ASKED = "not asked"


@dataclass(frozen=True)
class Cell:
    """One estimate of a table: its texts, and its whisker (low, value, high, zero; 0 to 100 along the cell) or None.

    `n` counts pools, or names the unit that it counts. `pairs` has the warnings of the estimate.
    """

    value: float
    text: str
    interval: str
    n: str
    pairs: str
    clear: bool
    whisker: tuple[float, float, float, float] | None


def counts(candidates: pd.DataFrame) -> dict[str, int]:
    """Candidates by status."""
    found = candidates["status"].value_counts()
    return {status: int(found.get(status, 0)) for status in ("ok", "failed", "non_finite")}


@dataclass(frozen=True)
class Differences:
    """Merges in weight space minus other merges: `found` maps both labels to the estimates by (population, size).

    `merges` has the population, n_members and label of each merge; `columns` has the labels to compare with.
    """

    merges: pd.DataFrame
    columns: list[str]
    found: dict[tuple[str, str], dict[tuple[str, int], Any]]


def differences(candidates: pd.DataFrame) -> Differences:
    """Each merge in weight space minus the averages in other spaces and the mean member, by subset size."""
    rows = unscaled(select_comparison(candidates))
    merges = rows[(rows["space"] == "weights") & (rows["n_members"] > 1) & ~rows["method"].isin(POINTS)]
    others = rows.loc[rows["space"].isin(["logits", "features"]), "label"].unique()
    columns = [label for label in others if " + " not in label]
    columns = sorted(columns, key=lambda label: (not label.startswith("logit_average"), label))
    columns = [*columns, *([MEAN_MEMBER] if len(merges) else [])]
    place = ["population", "n_members", "label"]
    keys = merges[place].drop_duplicates().sort_values(place)
    return Differences(keys, columns, {(a, b): _by_size(rows, a, b) for a in keys["label"].unique() for b in columns})


def versus(pairs: Differences, *, only: str = "", populations: Collection[str] | None = None) -> dict[str, Any]:
    """The differences as a table: `columns` are the labels compared with, `rows` have `population`, `n_members`,
    `label` and one Cell (or None) per column, in points of accuracy.

    `only` keeps the merges whose label begins with it, `populations` those of the named populations.
    """
    merges = pairs.merges[pairs.merges["label"].astype(str).str.startswith(only)]
    if populations is not None:
        merges = merges[merges["population"].isin(populations)]
    labels = set(merges["label"])
    found = [one for (label, _), one in pairs.found.items() if label in labels]
    spans = {name: _span(found, name) for name in set(merges["population"])}
    table = [
        {
            "population": name,
            "n_members": int(size),
            "label": label,
            "cells": [cell(pairs.found[label, b].get((name, size)), spans[name]) for b in pairs.columns],
        }
        for name, size, label in merges.itertuples(index=False)
    ]
    return {"columns": pairs.columns, "rows": table, "variants": len(labels)}


def _by_size(rows: pd.DataFrame, a: str, b: str) -> dict[tuple[str, int], Any]:
    """The paired difference of two labels by (population, size); empty if they share no rows."""
    shared = rows[rows["label"].isin([a, b, "single"])]
    try:
        found = paired_difference(shared, a, b)
    except AnalysisError:
        return {}
    return {(row.population, row.n_members): row for row in found.itertuples()}


def _span(found: list[dict[tuple[str, int], Any]], population: str) -> float:
    """The largest distance from zero, in points, of the intervals of a population."""
    rows = [row for one in found for (name, _), row in one.items() if name == population]
    ends = [abs(end) for row in rows for end in (row.low, row.high, row.estimate) if abs(end) < float("inf")]
    return 100 * max(ends, default=0.0) or 1.0


def cell(row: Any, span: float, scale: float = 100.0) -> Cell | None:
    """One estimate times `scale` as texts and a whisker on an axis from -span to span; None if `row` is None."""
    if row is None:
        return None
    value, low, high = (scale * end for end in (row.estimate, row.low, row.high))
    finite = abs(low) < float("inf") and abs(high) < float("inf")
    clear = finite and (low > 0 or high < 0)
    ends = (low, value, high) if finite else (value, value, value)
    places = [round(50 + 48 * end / span, 2) for end in ends]
    whisker = (places[0], places[1], places[2], 50.0) if value == value else None
    warnings = "; ".join(row.warnings)
    n = f"{row.n_units}" if row.unit == "pool" else f"{row.n_units} {row.unit}s"
    return Cell(value, numbers.signed(value, 2), numbers.interval(low, high, 2), n, warnings, clear, whisker)


def claims(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Every claim with its verdict, effect and the pools that would decide it; claims without rows last."""
    found = [_claim(one) for one in answers]
    return sorted(found, key=lambda row: row["verdict"] == NOT_ASKED)


def _claim(answer: Answer) -> dict[str, Any]:
    """One claim as texts."""
    about: dict[str, Any] = {
        "name": answer.name,
        "question": answer.question,
        "quantity": answer.quantity,
        "more": answer.needs,
    }
    about |= {
        "audit": summary(answer.changes),
        "missing": answer.missing,
        "verdict": answer.verdict or NOT_ASKED,
        "remark": remark(answer),
        "posterior": posterior(answer),
    }
    if answer.finding is None:
        return about
    finding = answer.finding
    estimate = finding.estimate
    value, low, high = (finding.scale * end for end in (estimate.estimate, estimate.low, estimate.high))
    about |= {"effect": numbers.signed(value, 2), "interval": numbers.interval(low, high, 2), "unit": finding.unit}
    about |= {"n": style.count(estimate.n_units, estimate.unit), "value": value, "figure": finding.figure}
    about |= {"p": numbers.p_value(estimate.p_adjusted), "warnings": "; ".join(estimate.warnings)}
    return about | {"margin": numbers.fixed(finding.scale * (estimate.margin or 0.0), 2), "expected": finding.expected}


def barriers(candidates: pd.DataFrame) -> list[dict[str, Any]]:
    """The four measures of the paths between members, in nats and in points of error; empty without interpolations."""
    rows = unscaled(select_comparison(candidates))
    table = []
    for metric, unit, scale, digits in (("cross_entropy", "nats", 1, 4), ("accuracy", "points of error", 100, 2)):
        try:
            found = path(rows, metric=metric)
        except AnalysisError:
            continue
        for row in found.itertuples():
            steps = [text for text in (row.alignment, row.repair) if text != "none"]
            texts = {"estimate": numbers.signed(scale * row.estimate, digits), "n": row.n_units, "unit": unit}
            texts |= {"interval": numbers.interval(scale * row.low, scale * row.high, digits)}
            texts |= {"variant": " + ".join(steps) or "plain", "quantity": row.quantity}
            table.append(texts | {"population": row.population, "warnings": "; ".join(row.warnings)})
    return sorted(table, key=lambda row: (row["population"], row["variant"], QUANTITIES.index(row["quantity"])))


def best(candidates: pd.DataFrame) -> list[dict[str, Any]]:
    """The candidates with the highest accuracy; ties are in the order of their ids."""
    rows = select_comparison(candidates)
    rows = rows[(rows["status"] == "ok") & rows["accuracy"].notna()]
    rows = rows[rows["accuracy"] >= rows["accuracy"].nlargest(BEST).min()]
    rows = rows.sort_values(["accuracy", "candidate_id"], ascending=[False, True]).head(BEST)
    return [
        {
            "accuracy": numbers.percent(row.accuracy),
            "cross_entropy": numbers.fixed(row.cross_entropy, 4),
            "label": row.label,
            "space": row.space,
            "scaling": "" if row.scaling == "none" else named(row.scaling, row.scaling_settings),
            "population": row.population,
            "pool": row.pool,
            "members": ", ".join(str(index) for index in row.member_indices),
            "n_members": row.n_members,
        }
        for row in rows.itertuples()
    ]


def failures(candidates: pd.DataFrame, members: pd.DataFrame) -> list[dict[str, Any]]:
    """Failed and non-finite candidates and members by kind, status and cause; the most frequent first."""
    failed = add_labels(candidates[candidates["status"] != "ok"]).assign(kind="candidate")
    broken = members[(members["status"] != "ok") & (members["role"] == "member")].assign(kind="member", label="")
    rows = pd.concat(
        [frame[["kind", "status", "error", "label"]] for frame in (failed, broken) if len(frame)] or [failed]
    )
    if rows.empty:
        return []
    cause = rows["error"].fillna("no cause recorded").astype(str)
    rows = rows.assign(cause=cause.str.strip().str.split("\n").str[-1].str.slice(0, 300))
    groups = rows.groupby(["kind", "status", "cause"], sort=True)
    table = [
        {"kind": kind, "status": status, "cause": text, "n": len(group), "labels": sorted(set(group["label"]) - {""})}
        for (kind, status, text), group in groups
    ]
    return sorted(table, key=lambda row: -row["n"])


def populations(run_members: pd.DataFrame, candidates: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per population: architecture, data set, start, counts, and accuracy of its members."""
    frame = run_members[run_members["role"] == "member"]
    single = candidates[(candidates["method"] == "single")]
    table = []
    for name in sorted({*frame["population"], *candidates["population"]}):
        own = frame[frame["population"] == name]
        rows = candidates[candidates["population"] == name]
        first = (own if len(own) else rows).iloc[0]
        accuracy = unscaled(single[single["population"] == name])["accuracy"].astype(float)
        parameters = own["n_parameters"].dropna()
        table.append(
            {key: first[key] for key in ("population", "architecture", "dataset", "start")}
            | {
                "pools": int((own if len(own) else rows)["pool_id"].nunique()),
                "members": len(own),
                "parameters": numbers.whole(parameters.iloc[0]) if len(parameters) else numbers.NONE,
                "worst": numbers.percent(accuracy.min()),
                "mean": numbers.percent(accuracy.mean()),
                "best": numbers.percent(accuracy.max()),
                "rows": numbers.whole(len(rows)),
            }
        )
    return table
