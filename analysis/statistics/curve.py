"""Growth of a metric with the number of merged members."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.inference import laws
from analysis.inference.estimate import ROUNDING, Estimate, Question, unit_mean
from analysis.rows.groups import group_ids
from analysis.rows.pairing import exclusion_warnings
from analysis.rows.select import (
    FIXED,
    MEAN_MEMBER,
    METRICS,
    UNIT,
    exclusion_reason,
    refuse_duplicates,
    refuse_mixture,
    require,
    select_split,
    with_mean_member,
)
from sweep.core.text import did_you_mean

CITES = ("student1908mean",)

BY = ("population", "space", "label")
CELL = ("n_members", "mean", "size")
NO_CURVE = ("single", "interpolation", "plane")
KEY = [*UNIT, "subset", *FIXED]
JOINT = [*UNIT, *FIXED]


@dataclass(frozen=True)
class Curve:
    """One group: `values` (pools, sizes) are means over subsets, of which the sizes in `used` were fitted.

    `errors` are the errors of every law at left-out sizes, (pools,) each.
    """

    key: dict[str, Any]
    sizes: np.ndarray
    values: np.ndarray
    used: np.ndarray
    fit: laws.Fit
    errors: dict[str, np.ndarray]
    warnings: tuple[str, ...]


def curve(  # noqa: PLR0913 - each is a setting of its own
    candidates: pd.DataFrame,
    *,
    value: str = "gain",
    law: str = "auto",
    single: bool = True,
    eps: float = 0.001,
    margin: float | None = None,
    by: Sequence[str] = BY,
) -> pd.DataFrame:
    """Coefficients of a law of the number of members N: fitted in each pool, then Student's t over pools, per group.

    `value` is `gain` (accuracy minus that of the subset's mean member) or a metric, in its unit; all sizes have equal
    weight. Laws: `inverse` a - b/N, `root` a - b/√N, `log` a + b log N, `power` a - b N^-c, `shifted` a - b/(N + c);
    `auto` chooses the law with the smallest leave-one-size-out error, averaged over pools, and one with a third
    coefficient only if a t-test over pools favours it. Rows: `quantity` a, b, c and `N*`, the smallest number of
    members, from the first of the fitted `sizes` on, from which one more adds less than `eps` (the interval inverts
    the one of that step), with `law` and its error as `score`; then one row `left-out error` per law. b, and a of a
    gain, are tested against 0.

    With `single`, N = 1 is fitted too if the law fitted without it predicts it (p > 0.5, t over pools). This makes b
    more precise; the selection costs its interval 1 to 2 points of coverage, more if a small step is overlooked.
    Intervals assume that the law is true; warnings name laws that predict no worse, count rows that are left out, and
    report laws assumed with fewer than 3 sizes, sizes with one subset per pool, and nested subsets, whose trends arise
    by chance. Raises AnalysisError for a missing column, duplicated rows, an unknown value or law, or a group that
    mixes splits, protocols or scalings.
    """
    found = curves(candidates, value=value, law=law, single=single, by=by)
    return pd.DataFrame([row for one in found for row in _curve_rows(one, value, eps, margin)])


def curves(
    candidates: pd.DataFrame, *, value: str = "gain", law: str = "auto", single: bool = True, by: Sequence[str] = BY
) -> list[Curve]:
    """The fitted curve of every group, in order; arguments and errors as of `curve`."""
    _check_choice("value", value, ["gain", *METRICS])
    _check_choice("law", law, ["auto", *laws.LAWS])
    rows = _values(candidates, value, by)
    group, firsts = group_ids(rows, by)
    keys = rows.iloc[firsts][list(by)].to_dict("records")
    rows = rows.assign(group=group).iloc[np.argsort(group_ids(rows, [*by, *UNIT, "subset"])[0], kind="stable")]
    refuse_mixture(rows, ["group"])
    excluded = exclusion_warnings(rows, len(keys), "subset")
    used = rows[rows["reason"] == ""]
    cells = used.groupby(["group", *UNIT, "n_members"], sort=True)["value"].agg(["mean", "size"]).reset_index()
    bounds = np.arange(len(keys) + 1)
    ends = np.searchsorted(cells["group"], bounds)
    own = np.searchsorted(used["group"], bounds)
    pool, _ = group_ids(cells, ["group", *UNIT])
    found = []
    for index, key in enumerate(keys):
        here = slice(ends[index], ends[index + 1])
        span = slice(own[index], own[index + 1])
        sizes, values, counts = _pool_matrices(pool[here], *(cells[name].to_numpy()[here] for name in CELL))
        warnings = [*excluded[index], *_subset_warnings(sizes, counts, used.iloc[span])]
        found.append(_fit_curve(key, sizes, values, warnings, law=law, single=single))
    return found


def _check_choice(what: str, name: str, known: Sequence[str]) -> None:
    """Raises AnalysisError unless `name` is one of the known values."""
    if name not in known:
        raise AnalysisError(what, f"no `{name}`", did_you_mean(name, known))


def _values(candidates: pd.DataFrame, value: str, by: Sequence[str]) -> pd.DataFrame:
    """One line per subset of a merge, and per single member in each group, with `value` and `reason`."""
    metric = "accuracy" if value == "gain" else value
    require(candidates, ["n_members", *(METRICS if value == "gain" else [metric])])
    rows = select_split(candidates, by)
    refuse_duplicates(rows, [*KEY, "label"])
    rows = rows.assign(value=rows[metric].astype(float), reason=exclusion_reason(rows, metric))
    merges = rows[(rows["n_members"] > 1) & ~rows["method"].isin(NO_CURVE)]
    if merges.empty:
        raise NothingToDrawError("candidates", "no merges of two or more members without scaling")
    single = rows[rows["method"] == "single"]
    if value == "gain":
        merges = _gains(merges, with_mean_member(rows))
        single = single.assign(value=0.0)
    keep = [*JOINT, "subset", "n_members", "value", "reason"]
    groups = merges[list(dict.fromkeys([*by, *JOINT]))].drop_duplicates()
    alone = groups.merge(single[keep], on=JOINT)
    return pd.concat([merges[list(dict.fromkeys([*by, *keep]))], alone], ignore_index=True)


def _gains(merges: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The merges with their gain over the mean of the subset's single members as `value`."""
    mean = rows.loc[rows["method"] == MEAN_MEMBER, [*KEY, "accuracy", "status"]]
    joint = merges.merge(mean, "left", on=KEY, suffixes=("", "_mean"))
    missing = (joint["reason"] == "") & (joint["status_mean"] != "ok")
    reason = joint["reason"].mask(missing, "a single member is missing")
    gain = joint["value"] - joint["accuracy_mean"].astype(float)
    return joint.assign(value=gain.mask(gain.abs() <= ROUNDING * joint["value"].abs(), 0.0), reason=reason)


def _pool_matrices(
    pool: np.ndarray, size: np.ndarray, mean: np.ndarray, count: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sizes of a group, its (pools, sizes) means over subsets (NaN without a subset), and counts of subsets."""
    sizes, column = np.unique(size.astype(float), return_inverse=True)
    row = pool - pool[0] if len(pool) else pool
    values = np.full((int(row.max(initial=-1)) + 1, len(sizes)), np.nan)
    counts = np.zeros(values.shape, int)
    values[row, column] = mean
    counts[row, column] = count
    return sizes, values, counts


def _subset_warnings(sizes: np.ndarray, counts: np.ndarray, rows: pd.DataFrame) -> list[str]:
    """Warnings for sizes with one subset per pool, and for nested subsets."""
    alone = (counts.max(axis=0, initial=0) == 1) & (sizes > 1)
    warnings = [f"one subset per pool at N = {', '.join(f'{size:g}' for size in sizes[alone])}"] if alone.any() else []
    if alone.sum() < 2 or not alone[sizes > 1].all():
        return warnings
    merges = rows[rows["n_members"] > 1].sort_values("n_members", kind="stable")
    chains = [[set(text.split("|")) for text in pool] for _, pool in merges.groupby("pool_id")["subset"]]
    nested = all(small < large for chain in chains for small, large in itertools.pairwise(chain))
    return [*warnings, "nested subsets, each within the next: trends arise by chance"] if nested else warnings


def _fit_curve(
    key: dict[str, Any], sizes: np.ndarray, values: np.ndarray, warnings: list[str], *, law: str, single: bool
) -> Curve:
    """Fit the law to the merges, and again with the single members (N = 1) if they lie on it."""
    used = sizes > 1
    fit, errors = _fit_law(law, sizes[used], values[:, used])
    if single and not used.all():
        p = laws.lack_of_fit(fit, 1, values[:, 0])
        if p is not None and p > laws.AGREES:
            used = np.ones(len(sizes), bool)
            fit, errors = _fit_law(law, sizes, values)
        else:
            reason = "cannot be tested" if p is None else f"p = {p:.2g}, below {laws.AGREES:g}"
            warnings = [*warnings, f"N = 1 is not fitted: agreement with the law of the other sizes: {reason}"]
    warnings = [*warnings, *_fit_warnings(fit, law, int(used.sum()))]
    rivals = laws.rivals(errors, fit.law.name)
    warnings += [f"no worse at left-out sizes: {', '.join(rivals)}"] if rivals else []
    return Curve(key, sizes, values, used, fit, errors, tuple(warnings))


def _fit_law(law: str, sizes: np.ndarray, values: np.ndarray) -> tuple[laws.Fit, dict[str, np.ndarray]]:
    """The fit of the given law, or of the chosen one for `auto`, and the errors of all laws."""
    errors = laws.errors(sizes, values)
    name = laws.choose(errors) if law == "auto" else law
    return laws.fit(laws.LAWS[name], sizes, values), errors


def _fit_warnings(fit: laws.Fit, law: str, sizes: int) -> list[str]:
    """Warnings for too few sizes to choose or fit the law, pools without a fit, and a c at the end of its range."""
    need = len(fit.law.coefficients)
    n_unfitted = int(np.isnan(fit.a).sum())
    count = "one size" if sizes == 1 else f"{sizes} sizes"
    if sizes < need:
        return [f"{count}: `{fit.law.name}` has {need} coefficients"]
    warnings = [f"{count}: no law can be chosen, {fit.law.formula} is assumed"] if law == "auto" and sizes < 3 else []
    warnings += [f"{n_unfitted} pool{'s' * (n_unfitted > 1)} with too few sizes for the law"] if n_unfitted else []
    ends = fit.bounded
    return [*warnings, f"c at an end of its range in {ends} pool{'s' * (ends > 1)}"] if ends else warnings


def _curve_rows(one: Curve, value: str, eps: float, margin: float | None) -> list[dict[str, Any]]:
    """The rows of one group: coefficients, N*, and the error of each law at left-out sizes."""
    law = one.fit.law
    tested = {"a", "b"} if value == "gain" else {"b"}
    head = {**one.key, "law": law.name, "score": _score(one.errors.get(law.name))}
    head["sizes"] = ", ".join(f"{size:g}" for size in one.sizes[one.used])
    found: list[dict[str, Any]] = []
    for name in law.coefficients:
        question = Question(f"{name} of {law.formula} in {value}")
        question = replace(question, null=0.0, margin=margin) if name in tested else question
        estimate = unit_mean(_finite(getattr(one.fit, name)), question, one.warnings)
        found.append({**head, "quantity": name, **asdict(estimate)})
    found.append({**head, "quantity": "N*", **asdict(enough(one, value, eps))})
    for name, error in one.errors.items():
        estimate = unit_mean(_finite(error), Question(f"error in {value} at left-out sizes"), one.warnings)
        found.append(
            {**head, "law": name, "score": estimate.estimate, "quantity": "left-out error", **asdict(estimate)}
        )
    return found


def _finite(values: np.ndarray) -> np.ndarray:
    """The finite values."""
    finite: np.ndarray = values[np.isfinite(values)]
    return finite


def _score(error: np.ndarray | None) -> float:
    """The mean over pools of the error at left-out sizes; NaN if there is none."""
    return math.nan if error is None else float(_finite(error).mean())


def enough(one: Curve, value: str, eps: float) -> Estimate:
    """N* of one group; metrics for which lower is better enter as their negative."""
    falls = value in METRICS and value != "accuracy"
    rising = replace(one.fit, a=-one.fit.a, b=-one.fit.b) if falls else one.fit
    middle, low, high = laws.enough_members(rising, eps, int(one.sizes[one.used].min(initial=laws.MOST_MEMBERS)))
    pools = len(_finite(one.fit.a))
    few = {0: "no pool: nothing to estimate", 1: "one pool: no interval can be given"}
    warnings = (*one.warnings, few[pools]) if pools in few else one.warnings
    what = f"members from which one more adds less than {eps:g} of {value}"
    df = max(pools - 1.0, 0.0)
    return Estimate(what, "pool", pools, middle, math.nan, df, low, high, None, None, None, "", warnings)
