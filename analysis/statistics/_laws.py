"""Rows of `curve` for a law of the number of members that was fixed before looking at the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from analysis.inference import laws
from analysis.inference.bent_laws import fit_bent
from analysis.inference.estimate import LEVEL, Estimate, Question, unit_mean
from analysis.statistics._growth import Curve, enough_estimate, falls
from sweep.core.text import format_count


def law_rows(
    one: Curve, value: str, law: laws.Law, *, single: bool, eps: float, margin: float | None
) -> list[dict[str, Any]]:
    """Coefficients of the law in one group, N* of a straight law, and the error of each law at left-out sizes."""
    used = np.ones(len(one.sizes), bool) if single else one.sizes > 1
    sizes = one.sizes[used]
    values = one.values[:, used]
    errors = laws.errors(sizes, values)
    warnings = [*one.warnings, *_warnings(one, law, sizes, errors)]
    head = {**one.key, "law": law.name, "score": _score(errors.get(law.name))}
    head["sizes"] = ", ".join(f"{size:g}" for size in sizes)
    found = coefficients(law, sizes, values, value, warnings, eps=eps, margin=margin)
    rows = [{**head, "quantity": name, **asdict(estimate)} for name, estimate in found.items()]
    for name, error in errors.items():
        estimate = unit_mean(_finite(error), Question(f"error in {value} at left-out sizes"), warnings)
        rows.append({**head, "law": name, "score": estimate.estimate, "quantity": "left-out error", **asdict(estimate)})
    return rows


def coefficients(  # noqa: PLR0913 - each is an argument of its own
    law: laws.Law,
    sizes: np.ndarray,
    values: np.ndarray,
    value: str = "gain",
    warnings: Sequence[str] = (),
    *,
    eps: float = 0.001,
    margin: float | None = None,
) -> dict[str, Estimate]:
    """Coefficients of the law, and N* of a law without c, from values (pools, sizes)."""
    if law.bounds:
        return _bent(law, sizes, values, value, list(warnings))
    return _straight(law, sizes, values, value, list(warnings), eps, margin)


def _warnings(one: Curve, law: laws.Law, sizes: np.ndarray, errors: dict[str, np.ndarray]) -> list[str]:
    """Warnings for too few sizes, single members off the law of the merges, and laws that predict no worse."""
    need = len(law.coefficients)
    count = "one size" if len(sizes) == 1 else f"{len(sizes)} sizes"
    if len(sizes) < need:
        return [f"{count}: `{law.name}` has {need} coefficients"]
    found = []
    if sizes[0] == 1:
        others = one.sizes > 1
        p = laws.lack_of_fit(laws.fit(law, one.sizes[others], one.values[:, others]), 1, one.values[:, ~others][:, 0])
        found += [f"N = 1 is off the law of the other sizes: p = {p:.2g}"] if p is not None and p < 1 - LEVEL else []
    rivals = laws.rivals(errors, law.name)
    return [*found, f"no worse at left-out sizes: {', '.join(rivals)}"] if rivals else found


def _straight(  # noqa: PLR0913 - each is an argument of its own
    law: laws.Law,
    sizes: np.ndarray,
    values: np.ndarray,
    value: str,
    warnings: list[str],
    eps: float,
    margin: float | None,
) -> dict[str, Estimate]:
    """a and b of fits in each pool, and N* on the mean curve, for a law without c."""
    fit = laws.fit(law, sizes, values)
    unfitted = int(np.isnan(fit.a).sum()) if len(sizes) >= len(law.coefficients) else 0
    few = [f"{format_count(unfitted, 'pool')} with too few sizes for the law"] if unfitted else []
    warnings = [*warnings, *few]
    tested = {"a", "b"} if value == "gain" else {"b"}
    found = {}
    for name in law.coefficients:
        question = Question(_given(name, law, value))
        question = replace(question, null=0.0, margin=margin) if name in tested else question
        found[name] = unit_mean(_finite(getattr(fit, name)), question, warnings)
    found["N* of the law"] = _enough(fit, sizes, found["b"], value, eps)
    return found


def _enough(fit: laws.Fit, sizes: np.ndarray, b: Estimate, value: str, eps: float) -> Estimate:
    """N* of the law, which may lie beyond the sizes; NaN if its interval is not bounded or the value does not grow."""
    estimand = _given(f"members from which one more adds less than {eps:g}", fit.law, value)
    rising = replace(fit, a=-fit.a, b=-fit.b) if falls(value) else fit
    if not (-b.estimate if falls(value) else b.estimate) > 0:
        pays = [f"merging more does not pay by this law: b = {b.estimate:+.4f}"] if b.n_units else []
        return enough_estimate(estimand, (math.nan, -math.inf, math.inf), b, [*b.warnings, *pays])
    middle, low, high = laws.enough_members(rising, eps, int(sizes.min()))
    if not math.isfinite(high):
        return enough_estimate(estimand, (math.nan, low, high), b, [*b.warnings, "N* is not identified by this law"])
    return enough_estimate(estimand, (middle, low, high), b, b.warnings)


def _bent(law: laws.Law, sizes: np.ndarray, values: np.ndarray, value: str, warnings: list[str]) -> dict[str, Estimate]:
    """a, b and c of a law with one c for all pools; NaN without interval if c is not determined."""
    fit = fit_bent(law, sizes, values)
    lacking = len(values) - fit.pools
    few = [f"{lacking} of {len(values)} pools lack a size: left out"] if lacking else []
    why = [] if fit.coefficients else ["c is not determined by these sizes and pools: no coefficient can be given"]
    unknown = (math.nan, -math.inf, math.inf)
    found = {}
    for name in law.coefficients:
        middle, low, high = (fit.coefficients or {}).get(name, unknown)
        numbers = (fit.pools, middle, math.nan, max(fit.pools - 1.0, 0.0), low, high, None, None, None)
        found[name] = Estimate(_given(name, law, value), "pool", *numbers, "", (*warnings, *few, *why))
    return found


def _given(what: str, law: laws.Law, value: str) -> str:
    """An estimand that holds only if the law does."""
    return f"{what} of {value}, given this law: {law.formula}"


def _finite(values: np.ndarray) -> np.ndarray:
    """The finite values."""
    finite: np.ndarray = values[np.isfinite(values)]
    return finite


def _score(error: np.ndarray | None) -> float:
    """The mean over pools of the error at left-out sizes; NaN if there is none."""
    return math.nan if error is None else float(_finite(error).mean())
