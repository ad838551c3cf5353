"""Distribution of the entries of each tensor, in members and merges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.core.errors import NothingToDrawError
from analysis.rows.contrasts import estimate_over_pools
from analysis.rows.groups import group_ids
from analysis.rows.select import UNIT, refuse_duplicates, refuse_mixture, require

CITES = ("xu2024scope",)

SHAPES = {
    "std": "std",
    "skewness": "skewness",
    "kurtosis": "excess kurtosis",
    "qq_correlation": "QQ correlation",
    "norm": "norm",
}
VARIANCE = "variance ratio"
ARITHMETIC = "variance ratio by arithmetic"
SCOPE = "scope mismatch"
APART = "scope mismatch with its members"
QUANTITIES = (*SHAPES.values(), VARIANCE, ARITHMETIC, SCOPE, APART)
STEPS = ("alignment", "repair")
KIND = ("method", "settings", *STEPS, "n_members", "tensor")
ABOUT = ("population", "pool_id", "model_id", "kind", "members", "mean", "member_correlation")

_LACKING = "no spread, or a member without a row"


def layers(
    layers: pd.DataFrame,
    *,
    by: Sequence[str] = ("population", "method", "settings", *STEPS, "n_members", "depth", "tensor", "role"),
) -> pd.DataFrame:
    """Nine measures of each tensor, in the order from the input: mean in each pool, then Student's t over pools.

    Of every model: standard deviation, skewness, excess kurtosis, QQ correlation (against a Gaussian) and Euclidean
    norm of the tensor's entries. No p value of a test for a Gaussian: with 100,000 entries it rejects always.
    Variance ratio, of merges: the variance of the merged entries over the mean of its members' variances. For a mean of
    N members of equal variance whose entries correlate by rho it is (1 + (N - 1) rho) / N by arithmetic; this value,
    with the mean rho of the merge's members, is reported beside it, since shrinkage alone is no finding.
    Scope mismatch (2408.12237), of members: the mean over pairs of one pool of the Kullback-Leibler divergence between
    the Gaussians of their means and standard deviations, averaged over both directions, in nats; of merges: the same
    with each of its own members.
    One row per group and `quantity`. Values that are not finite, merges with a member that has no row, and tensors
    without spread are left out and counted in `warnings`. Raises AnalysisError for a missing column, duplicated rows,
    or a group that mixes methods, numbers of members or tensors.
    """
    require(layers, sorted({*ABOUT, *KIND, *SHAPES, *by}))
    if layers.empty:
        raise NothingToDrawError("layers", "no rows of tensors")
    refuse_duplicates(layers, ["model_id", "tensor"])
    refuse_mixture(layers, by, KIND)
    rows = layers.sort_values(["model_id", "tensor"], ignore_index=True)
    keep = list(dict.fromkeys([*by, "pool_id"]))
    groups = [*by, "quantity"]
    merges = pd.concat([_ratios(rows, keep), _apart(rows, keep)], ignore_index=True)
    parts = {"model": _shapes(rows, keep), "merge": merges, "pair": _mismatches(rows, keep)}
    estimand = "distribution of weights"
    found = [
        estimate_over_pools(part, groups, estimand=estimand, noun=noun) for noun, part in parts.items() if len(part)
    ]
    estimates = pd.concat(found)
    estimates["quantity"] = pd.Categorical(estimates["quantity"], QUANTITIES, ordered=True)
    return estimates.sort_values(groups, kind="stable", ignore_index=True).astype({"quantity": str})


def _finite(values: pd.DataFrame, otherwise: str) -> pd.DataFrame:
    """Add `reason`: empty for finite values, else `otherwise`."""
    finite = np.isfinite(values["value"].to_numpy(np.float64, na_value=np.nan))
    return values.assign(reason=np.where(finite, "", otherwise))


def _shapes(rows: pd.DataFrame, keep: list[str]) -> pd.DataFrame:
    """One value per model, tensor and measure of shape."""
    parts = [rows[keep].assign(quantity=name, value=rows[column]) for column, name in SHAPES.items()]
    return _finite(pd.concat(parts, ignore_index=True), "not finite")


def _ratios(rows: pd.DataFrame, keep: list[str]) -> pd.DataFrame:
    """The variance of each merged tensor over the mean variance of its members' tensors."""
    merged = rows[rows["kind"] == "merge"]
    single = rows[rows["kind"] == "member"].astype({"model_id": object, "tensor": object})
    known = single.set_index(["model_id", "tensor"])["std"] ** 2
    each = merged[["members", "tensor"]].astype({"tensor": object}).explode("members")
    own = pd.Series(known.reindex(pd.MultiIndex.from_frame(each)).to_numpy(), each.index).groupby(level=0)
    # A missing member makes the mean NaN, not a mean of the others.
    mean = own.mean().where(own.count() == own.size())
    ratio = merged["std"] ** 2 / mean.where(mean > 0)
    found = _finite(merged[keep].assign(quantity=VARIANCE, value=ratio), _LACKING)
    rho = merged["member_correlation"]
    n = merged["n_members"]
    alone = merged[keep].assign(quantity=ARITHMETIC, value=(1 + (n - 1) * rho) / n)
    return pd.concat([found, _finite(alone[n > 1], "no correlation of its members")], ignore_index=True)


def _mismatches(rows: pd.DataFrame, keep: list[str]) -> pd.DataFrame:
    """The divergence of each pair of members of a pool, tensor by tensor."""
    key = [*UNIT, "tensor"]
    rows = rows.assign(model=group_ids(rows, ["model_id"])[0])
    first = rows.loc[rows["kind"] == "member", list(dict.fromkeys([*key, *keep, "model", "mean", "std"]))]
    pairs = first.merge(first[[*key, "model", "mean", "std"]], on=key, suffixes=("", "_b"))
    pairs = pairs[pairs["model"] < pairs["model_b"]]
    return _finite(pairs[keep].assign(quantity=SCOPE, value=_divergence(pairs)), "no spread")


def _apart(rows: pd.DataFrame, keep: list[str]) -> pd.DataFrame:
    """The divergence of each merged tensor from those of its members, their mean."""
    merged = rows[rows["kind"] == "merge"]
    single = rows[rows["kind"] == "member"]
    names = {"model_id": object, "tensor": object}
    known = single.astype(names).set_index(["model_id", "tensor"])[["mean", "std"]]
    each = merged[["members", "tensor", "mean", "std"]].astype({"tensor": object}).explode("members")
    theirs = known.reindex(pd.MultiIndex.from_frame(each[["members", "tensor"]])).add_suffix("_b")
    value = _divergence(each.assign(**{name: theirs[name].to_numpy() for name in theirs})).groupby(level=0)
    mean = value.mean().where(value.count() == value.size())
    return _finite(merged[keep].assign(quantity=APART, value=mean), _LACKING)


def _divergence(pairs: pd.DataFrame) -> pd.Series:
    """Symmetric Kullback-Leibler divergence of the Gaussians of `mean` and `std` from those of `mean_b` and `std_b`."""
    # Both directions together: the logarithms cancel.
    one = pairs["std"] ** 2
    other = pairs["std_b"] ** 2
    apart = (pairs["mean"] - pairs["mean_b"]) ** 2
    return ((one + apart) / other.where(other > 0) + (other + apart) / one.where(one > 0)) / 4 - 0.5
