"""Differences for tables and figures: over pools and test images where predictions are kept, else over pools."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import pandas as pd

from analysis.core.errors import AnalysisError
from analysis.inference.estimate import Estimate
from analysis.statistics._predictions import UNKNOWN

_COLUMNS = ["bootstrap_low", "bootstrap_high", *(field.name for field in fields(Estimate))]


def over_images(
    found: pd.DataFrame, predictions: pd.DataFrame | None, two_way: Callable[[pd.DataFrame], pd.DataFrame]
) -> pd.DataFrame:
    """The rows of `paired_difference` with the estimates of `two_way_difference` in the groups that have predictions.

    `two_way` computes the latter of the same rows and groups. A group keeps its estimate over pools alone if it has one
    pool, pairs without predictions, or several test sets; the estimand says for which images an interval is.
    """
    if predictions is None or predictions.empty:
        return found
    try:
        both = two_way(predictions)
    except AnalysisError:
        return found
    unknown = [any(text.endswith(UNKNOWN) for text in row) for row in both["warnings"]]
    whole = (both["n_units"] > 1) & ~pd.Series(unknown, both.index, dtype=bool)
    kept = both[_COLUMNS].astype(object).where(whole, found[_COLUMNS].astype(object))
    return found.assign(**{name: kept[name].astype(found[name].dtype) for name in _COLUMNS})
