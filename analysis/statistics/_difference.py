"""Differences for tables and figures: over pools and test images where predictions are kept, else over pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import pandas as pd

from analysis.core.errors import AnalysisError
from analysis.inference.estimate import Estimate
from analysis.statistics.paired_difference import paired_difference
from analysis.statistics.two_way_difference import UNKNOWN, two_way_difference

_ESTIMATE = [field.name for field in fields(Estimate)]
_ENDS = ["bootstrap_low", "bootstrap_high"]


def difference(
    candidates: pd.DataFrame, predictions: pd.DataFrame | None, a: str, b: str, by: Sequence[str]
) -> pd.DataFrame:
    """`paired_difference` of accuracy with the estimates of `two_way_difference` in the groups that have predictions.

    A group keeps its estimate over pools alone if it has one pool, pairs without predictions, or several test sets; the
    estimand says for which images an interval is. Errors as of `paired_difference`.
    """
    found = paired_difference(candidates, a, b, by=by)
    if predictions is None or predictions.empty:
        return found
    try:
        both = two_way_difference(candidates, predictions, a, b, by=by)
    except AnalysisError:
        return found
    unknown = [any(text.endswith(UNKNOWN) for text in row) for row in both["warnings"]]
    columns = [*_ENDS, *_ESTIMATE]
    whole = (both["n_units"] > 1) & ~pd.Series(unknown, both.index)
    kept = both[columns].astype(object).where(whole, found[columns].astype(object))
    return found.assign(**{name: kept[name].astype(found[name].dtype) for name in columns})
