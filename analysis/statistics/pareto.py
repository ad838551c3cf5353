"""Accuracy against cost: the Pareto front of merges."""

from __future__ import annotations

import json
import math
import zlib
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.core.errors import NothingToDrawError
from analysis.rows.select import exclusion_reason, refuse_duplicates, require, select_split
from analysis.statistics._pool_means import pool_mean_rows

CITES = ()

BY = ["population", "space", "label", "n_members"]
TEXTS = ["population", "space", "label", "pool_id"]
SECONDS = ["merge_seconds", "evaluate_seconds"]
STEPS = ["settings", "alignment_settings", "repair_settings"]
RESAMPLES = 2000
MANY_NETWORKS = ("features", "logits")
_TIE = 1e-12

Array = NDArray[np.float64]


def pareto(candidates: pd.DataFrame, members: pd.DataFrame, *, metric: str = "accuracy", seed: int = 0) -> pd.DataFrame:
    """Mean of a metric over pools, with costs, per population, space, label and number of members.

    `networks` is the number of networks evaluated per example: one for merges of weights, one per member for merges of
    features or logits; `forward_flops` per example and `stored_parameters` are the sums over them, null if `members`
    lacks them. `seconds` is the median time of merging and evaluating in this run, including cached outputs;
    `data_used` the number of examples in the settings, null if there is none. `on_front`: in pool means, no merge of
    the same population with as few networks is better, and none as good has fewer. `on_front_share` is the share of
    2,000 bootstrap samples of the pools in which this holds: a description, not a test.
    Higher is better for accuracy, lower for the other metrics. Rows that are not ok are left out and counted.
    Raises AnalysisError for a missing column, duplicated rows, or a mixture of splits, protocols or scalings.
    """
    require(candidates, ["n_members", "space", metric, *SECONDS])
    require(members, ["member_id", "population", "n_parameters", "forward_flops"])
    if members.empty:
        raise NothingToDrawError("members", "no rows")
    refuse_duplicates(members, ["member_id"])
    found = pool_mean_rows(candidates, metric, BY)
    rows = select_split(candidates, BY)
    rows = rows.assign(value=rows[metric].astype(np.float64), reason=exclusion_reason(rows, metric))
    rows = rows[[*BY, "pool_id", "value", "reason", *SECONDS, *STEPS]].astype(dict.fromkeys(TEXTS, object))
    costs = _costs(found[BY], rows, members)
    front = _fronts(found[BY].assign(networks=costs["networks"]), rows, 1 if metric == "accuracy" else -1, seed)
    return pd.concat([found[BY], costs, front, found.drop(columns=BY)], axis=1)


def _costs(keys: pd.DataFrame, rows: pd.DataFrame, members: pd.DataFrame) -> pd.DataFrame:
    """The columns of cost, in the order of the keys."""
    networks = np.where(keys["space"].isin(MANY_NETWORKS), keys["n_members"], 1).astype(np.int64)
    sizes = members[["n_parameters", "forward_flops"]].astype(np.float64)
    size = sizes.groupby(members["population"].astype(object)).max()
    one = keys[["population"]].join(size, on="population")
    ok = rows[rows["reason"] == ""]
    took = ok[SECONDS].astype(np.float64).sum(axis=1, skipna=False)
    seconds = ok[BY].assign(seconds=took).groupby(BY, dropna=False)["seconds"].median()
    steps = rows.drop_duplicates("label").set_index("label")[STEPS]
    used = {str(label): _examples(texts) for label, *texts in steps.itertuples(name=None)}
    columns = {
        "networks": networks,
        "forward_flops": one["forward_flops"] * networks,
        "stored_parameters": one["n_parameters"] * networks,
        "seconds": keys.join(seconds, on=BY)["seconds"],
        "data_used": keys["label"].map(used).astype(np.float64),
    }
    return pd.DataFrame(columns, index=keys.index)


def _examples(texts: list[Any]) -> float:
    """The number of examples in the settings; NaN if there is none."""
    settings = [json.loads(text) for text in texts if isinstance(text, str) and text]
    named = [one["examples"] for one in settings if isinstance(one.get("examples"), int | float)]
    return float(sum(named)) if named else math.nan


def _fronts(keys: pd.DataFrame, rows: pd.DataFrame, sign: int, seed: int) -> pd.DataFrame:
    """`on_front` and `on_front_share` within each population, in the order of the keys."""
    means = rows[rows["reason"] == ""].groupby([*BY, "pool_id"], dropna=False)["value"].mean() * sign
    on_front = pd.Series(False, keys.index)
    share = pd.Series(math.nan, keys.index)
    for name, own in keys.groupby("population", sort=True):
        pools = sorted(set(rows.loc[rows["population"] == name, "pool_id"]))
        wide = means[means.index.get_level_values("population") == name].unstack("pool_id")
        values = wide.reindex(pd.MultiIndex.from_frame(own[BY]), columns=pools).to_numpy(np.float64)
        costs = own["networks"].to_numpy()
        on_front[own.index] = front(_means(values, np.ones((1, len(pools)))), costs)[0]
        if len(pools) > 1:
            random = np.random.default_rng([seed, zlib.crc32(str(name).encode())])
            drawn = random.multinomial(len(pools), np.full(len(pools), 1 / len(pools)), RESAMPLES)
            share[own.index] = front(_means(values, drawn.astype(np.float64)), costs).mean(axis=0)
    return pd.DataFrame({"on_front": on_front, "on_front_share": share})


def _means(values: Array, weights: Array) -> Array:
    """(draws, rows): weighted means over pools of (rows, pools); NaN where no drawn pool has a value."""
    known = np.isfinite(values)
    total = weights @ known.T
    return np.asarray(np.where(total > 0, weights @ np.where(known, values, 0.0).T / np.maximum(total, 1), np.nan))


def front(values: Array, costs: Array) -> NDArray[np.bool_]:
    """(draws, rows): True on the Pareto front, higher values being better; NaN is never on it."""
    found = np.zeros(values.shape, dtype=bool)
    best = np.full(len(values), -np.inf)
    for cost in np.unique(costs):
        own = costs == cost
        top = np.fmax.reduce(values[:, own], axis=1, initial=-np.inf)
        found[:, own] = (values[:, own] >= top[:, None] - _TIE) & (top > best + _TIE)[:, None]
        best = np.fmax(best, top)
    return found
