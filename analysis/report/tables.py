"""The tables of the report: data frames to rows of texts and numbers, without HTML."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.core.errors import AnalysisError
from analysis.display import numbers
from analysis.inference.estimate import INCONCLUSIVE
from analysis.inference.finding import Finding
from analysis.report.advice import advice
from analysis.report.audit_changes import summary
from analysis.report.cell_words import apart_by, depends_on, effect_range, part_words, spread_of
from analysis.report.claims import EXPLORATORY, Answer, beside, look_text, posterior, remark
from analysis.rows.select import BEST_MEMBER, MEAN_MEMBER, POINTS, add_labels, named, select_comparison, unscaled
from analysis.statistics._difference import over_images
from analysis.statistics.paired_difference import paired_difference
from analysis.statistics.path import QUANTITIES, path
from analysis.statistics.path_split_half import path_split_half
from analysis.statistics.two_way_difference import two_way_difference
from sweep.core.text import format_count

BEST = 20
SPLIT_HALF = "chord barrier, split-half"
BARRIERS = (SPLIT_HALF, *QUANTITIES)
"""The measures of a path in the order of the table: the corrected one first."""

NATS = ("nats", 1.0, 4)
ERROR = ("points of error", 100.0, 2)
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
    """Candidates by status; one that was evaluated on several splits counts once."""
    found = candidates.groupby("status", observed=True)["candidate_id"].nunique()
    return {status: int(found.get(status, 0)) for status in ("ok", "failed", "non_finite")}


@dataclass(frozen=True)
class Differences:
    """Merges in weight space minus other merges: `found` maps both labels to the estimates by (population, size).

    `merges` has the population, n_members and label of each merge; `columns` has the labels to compare with.
    """

    merges: pd.DataFrame
    columns: list[str]
    found: dict[tuple[str, str], dict[tuple[str, int], Any]]


def differences(candidates: pd.DataFrame, predictions: pd.DataFrame | None = None) -> Differences:
    """Each merge in weight space minus the averages in other spaces, the best and the mean member, by subset size.

    With `predictions`, intervals are for new test images as well as new pools.
    """
    rows = unscaled(select_comparison(candidates))
    no_merges = (*POINTS, BEST_MEMBER)
    merges = rows[(rows["space"] == "weights") & (rows["n_members"] > 1) & ~rows["method"].isin(no_merges)]
    others = rows.loc[rows["space"].isin(["logits", "features"]), "label"].unique()
    columns = [label for label in others if " + " not in label]
    columns = sorted(columns, key=lambda label: (not label.startswith("logit_average"), label))
    baselines = [BEST_MEMBER] * bool((rows["label"] == BEST_MEMBER).any()) + [MEAN_MEMBER]
    columns = [*columns, *(baselines if len(merges) else [])]
    place = ["population", "n_members", "label"]
    keys = merges[place].drop_duplicates().sort_values(place)
    return Differences(
        keys, columns, {(a, b): _by_size(rows, predictions, a, b) for a in keys["label"].unique() for b in columns}
    )


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


def _by_size(rows: pd.DataFrame, predictions: pd.DataFrame | None, a: str, b: str) -> dict[tuple[str, int], Any]:
    """The paired difference of two labels by (population, size); empty if they share no rows."""
    shared = rows[rows["label"].isin([a, b, "single"])]
    try:
        found = paired_difference(shared, a, b)
        found = over_images(found, predictions, lambda known: two_way_difference(shared, known, a, b))
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
    """Every claim with verdict, effect and the pools that would decide it: decided ones first, without rows last."""
    found = [_claim(one) for one in answers]
    last = (INCONCLUSIVE, EXPLORATORY, NOT_ASKED)
    return sorted(found, key=lambda row: last.index(row["verdict"]) if row["verdict"] in last else -1)


def _claim(answer: Answer) -> dict[str, Any]:
    """One claim as texts."""
    about: dict[str, Any] = {
        "name": answer.name,
        "question": answer.question,
        "quantity": answer.quantity,
    }
    about |= {
        "audit": summary(answer.changes),
        "missing": answer.missing,
        "verdict": answer.verdict or NOT_ASKED,
        "remark": remark(answer),
        "depends": depends_on(answer.by_cell),
        "scope": answer.by_cell.scope if answer.by_cell else "",
        "beside": beside(answer),
        "posterior": posterior(answer),
    }
    about["earlier"] = []
    return about | (_effect(answer, answer.finding) if answer.finding else {})


def _effect(answer: Answer, finding: Finding) -> dict[str, Any]:
    """The estimate of a claim as texts, in the unit of its display."""
    estimate = finding.estimate
    value, low, high = (finding.scale * end for end in (estimate.estimate, estimate.low, estimate.high))
    first, last = (finding.scale * end for end in answer.simultaneous or (math.nan, math.nan))
    least, most = (finding.scale * end for end in answer.bootstrap)
    apart = apart_by(answer.by_cell)
    return {
        "advice": advice(answer.needs, estimate, answer.by_cell),
        "effect": effect_range(answer.by_cell, finding.scale) or numbers.signed(value, 2),
        "unit": finding.unit,
        "interval": apart or numbers.interval(low, high, 2),
        "parts": part_words(finding),
        "between": spread_of(answer.by_cell, finding.scale),
        "estimand": estimate.estimand,
        "bootstrap": numbers.interval(least, most, 2) if least == least else "",
        "n": format_count(estimate.n_units, estimate.unit),
        "value": value,
        "figure": finding.figure,
        "p": apart or numbers.p_value(estimate.p_adjusted),
        "warnings": "; ".join(estimate.warnings),
        "simultaneous": numbers.interval(first, last, 2) if answer.simultaneous else "",
        "earlier": [look_text(look, finding.scale) for look in answer.earlier],
        "margin": numbers.fixed(finding.scale * (estimate.margin or 0.0), 2),
        "expected": finding.expected,
    }


def barriers(candidates: pd.DataFrame, predictions: pd.DataFrame | None = None) -> list[dict[str, Any]]:
    """The four measures of the paths between members, in nats and in points of error; empty without interpolations.

    With predictions there is the split-half barrier in error, too, whose maximum is not biased by noise.
    """
    rows = unscaled(select_comparison(candidates))
    parts = [_paths(rows, "cross_entropy"), _paths(rows, "accuracy"), _split_half(rows, predictions)]
    table = [_barrier(row, *unit) for found, unit in zip(parts, (NATS, ERROR, ERROR), strict=True) for row in found]
    return sorted(table, key=lambda row: (row["population"], row["variant"], BARRIERS.index(row["quantity"])))


def _paths(rows: pd.DataFrame, metric: str) -> list[Any]:
    """The measures of paths in a metric; none without rows of it."""
    try:
        return list(path(rows, metric=metric).itertuples())
    except AnalysisError:
        return []


def _split_half(rows: pd.DataFrame, predictions: pd.DataFrame | None) -> list[Any]:
    """The split-half barriers in error; none without predictions of the paths."""
    if predictions is None:
        return []
    try:
        return list(path_split_half(rows, predictions).assign(quantity=SPLIT_HALF).itertuples())
    except AnalysisError:
        return []


def _barrier(row: Any, unit: str, scale: float, digits: int) -> dict[str, Any]:
    """One line of the table of barriers."""
    steps = [text for text in (row.alignment, row.repair) if text != "none"]
    texts = {"estimate": numbers.signed(scale * row.estimate, digits), "n": row.n_units, "unit": unit}
    texts |= {"interval": numbers.interval(scale * row.low, scale * row.high, digits)}
    texts |= {"variant": " + ".join(steps) or "plain", "quantity": row.quantity}
    return texts | {"population": row.population, "warnings": "; ".join(row.warnings)}


def best(candidates: pd.DataFrame) -> list[dict[str, Any]]:
    """The candidates with the highest validation accuracy, and their test accuracy; ties are in the order of their ids.

    `chosen_on` is the split that ranks them: the test split, whose accuracy is then optimistic, if no candidate has an
    accuracy on the validation split. `tied` is the number of candidates with the highest accuracy there.
    """
    usable = candidates[(candidates["status"] == "ok") & candidates["accuracy"].notna()]
    chosen_on = "validation" if (usable["split"] == "validation").any() else "test"
    splits = {name: _by_candidate(usable[usable["split"] == name]) for name in ("validation", "test")}
    rows = select_comparison(splits[chosen_on].reset_index())
    tied = int((rows["accuracy"] == rows["accuracy"].max()).sum())
    rows = rows[rows["accuracy"] >= rows["accuracy"].nlargest(BEST).min()]
    rows = rows.sort_values(["accuracy", "candidate_id"], ascending=[False, True]).head(BEST)
    tested, validated = (splits[name].reindex(rows["candidate_id"]) for name in ("test", "validation"))
    scores = zip(tested["accuracy"], tested["cross_entropy"], validated["accuracy"], strict=True)
    return [
        {
            "accuracy": numbers.percent(accuracy),
            "cross_entropy": numbers.fixed(cross_entropy, 4),
            "validation": numbers.percent(validation),
            "chosen_on": chosen_on,
            "tied": tied,
            "label": row.label,
            "space": row.space,
            "scaling": "" if row.scaling == "none" else named(row.scaling, row.scaling_settings),
            "population": row.population,
            "pool": row.pool,
            "members": ", ".join(str(index) for index in row.member_indices),
            "n_members": row.n_members,
        }
        for row, (accuracy, cross_entropy, validation) in zip(rows.itertuples(), scores, strict=True)
    ]


def _by_candidate(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of one split under the correct protocol where there are such, by the candidate's id."""
    correct = rows["protocol"] == "correct"
    return (rows[correct] if correct.any() else rows).set_index("candidate_id")


def failures(candidates: pd.DataFrame, members: pd.DataFrame) -> list[dict[str, Any]]:
    """Failed and non-finite candidates and members by kind, status and cause; the most frequent first."""
    failed = add_labels(candidates[candidates["status"] != "ok"]).assign(kind="candidate")
    broken = members[(members["status"] != "ok") & (members["role"] == "member")].assign(kind="member", label="")
    failed = failed.drop_duplicates(["candidate_id", "status", "error"])  # a candidate may have a row per split
    rows = pd.concat(
        [frame[["kind", "status", "error", "label"]] for frame in (failed, broken) if len(frame)] or [failed]
    )
    if rows.empty:
        return []
    cause = rows["error"].fillna("no cause recorded").astype(str)
    cause = cause.mask(rows["status"] == "non_finite", "outputs of some or all examples are not finite")
    rows = rows.assign(cause=cause.str.strip().str.split("\n").str[-1].str.slice(0, 300))
    groups = rows.groupby(["kind", "status", "cause"], sort=True)
    table = [
        {"kind": kind, "status": status, "cause": text, "n": len(group), "labels": sorted(set(group["label"]) - {""})}
        for (kind, status, text), group in groups
    ]
    return sorted(table, key=lambda row: -row["n"])


def populations(run_members: pd.DataFrame, candidates: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per population: architecture, data set, start, counts, and accuracy of its members on one split."""
    frame = run_members[run_members["role"] == "member"]
    single = candidates[candidates["method"] == "single"]
    single = unscaled(select_comparison(single)) if len(single) else single
    table = []
    for name in sorted({*frame["population"], *candidates["population"]}):
        own = frame[frame["population"] == name]
        rows = candidates[candidates["population"] == name]
        first = (own if len(own) else rows).iloc[0]
        accuracy = single.loc[single["population"] == name, "accuracy"].astype(float)
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
                "rows": numbers.whole(rows["candidate_id"].nunique()),
            }
        )
    return table
