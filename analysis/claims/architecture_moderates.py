"""Merging in transformers against merging in other networks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.core.errors import NothingToDrawError
from analysis.inference.estimate import Question
from analysis.inference.finding import Finding, PoolValues
from analysis.inference.heterogeneity import spread_p
from analysis.rows.cells import differing_settings
from analysis.rows.contrasts import Differences, pool_differences
from analysis.rows.pairing import exchangeable_warnings
from sweep.core.text import format_count

TRANSFORMER = "transformer"


def architecture_moderates(
    candidates: pd.DataFrame, predictions: pd.DataFrame | None = None, *, margin: float = 0.005
) -> Finding:
    """Do transformers lose less accuracy than other networks when weights are averaged instead of logits?

    Accuracy of `uniform_soup` minus that of `logit_average`, mean over populations of transformers minus mean over
    the others, with the same data set and start, then mean over these; t over pools, populations fixed. Populations
    without a counterpart on the other side are left out. What is a transformer was found by its operations when it was
    trained (`architecture_kind` of `members`). If all populations are of one kind, or a kind is unknown, but there are
    two architectures, the alphabetically first minus the second. A warning names a side whose populations differ.
    Normalisation is confounded with the architecture unless the sweep crosses them; settings of training and data
    set in which the populations of one data set and start differ are named.
    """
    found = pool_differences(candidates, "uniform_soup", "logit_average", predictions=predictions)
    datasets = candidates.drop_duplicates("population").set_index("population")["dataset"].astype(str)
    kinds = found.pools.drop_duplicates("population").sort_values("population")
    kinds = kinds.assign(dataset=kinds["population"].map(datasets).astype(object))
    known = kinds["population"].astype(object).map(_kinds(candidates))
    first = (known == TRANSFORMER).to_numpy(bool)
    words = "transformers minus the others"
    if known.isna().any() or first.all() or not first.any():
        names = sorted(set(kinds["architecture"].astype(str)))
        if len(names) != 2:
            raise NothingToDrawError("candidates", "no transformers beside other networks, nor two architectures")
        first = (kinds["architecture"] == names[0]).to_numpy(bool)
        words = f"{names[0]} minus {names[1]}"
    shares = _shares(kinds, first)
    alone = [name for name in kinds["population"] if name not in shares]
    question = Question(f"accuracy: uniform_soup minus logit_average, {words}, {found.target}", "pool", 0.0, margin)
    values = PoolValues(found.pools, question, (), shares, found.examples)
    left_out = f"{format_count(len(alone), 'population')} left out: no counterpart with the same data set and start"
    compared = kinds[kinds["population"].isin(list(shares))]
    warnings = (*_about(found, compared, candidates), *([left_out] if alone else []))
    warnings = (*warnings, *_uneven(values, [name for name, share in shares.items() if share > 0], "first"))
    warnings = (*warnings, *_uneven(values, [name for name, share in shares.items() if share < 0], "second"))
    return Finding(replace(values, warnings=warnings), "above", "spaces")


def _about(found: Differences, compared: pd.DataFrame, candidates: pd.DataFrame) -> list[str]:
    """The warnings of the differences for the populations compared, and the settings in which these differ, too."""
    others = [text for text in found.warnings if text not in exchangeable_warnings(found.pools["start"])]
    exchangeable = () if found.new_splits else exchangeable_warnings(compared["start"])
    groups = [own["population"] for _, own in compared.groupby(["dataset", "start"], sort=True, observed=True)]
    settings = [f"settings differ, too: {text}" for text in differing_settings(candidates, groups)]
    return [*others, *exchangeable, *settings]


def _shares(kinds: pd.DataFrame, first: np.ndarray) -> dict[str, float]:
    """The weight of the mean of each population whose data set and start the other side has, too.

    Raises NothingToDrawError if no population has a counterpart.
    """
    strata = list(zip(kinds["dataset"], kinds["start"].astype(str), strict=True))
    counts = Counter(zip(strata, first.tolist(), strict=True))
    both = [stratum for stratum in set(strata) if counts[stratum, True] and counts[stratum, False]]
    if not both:
        what = "no transformer and other network, nor two architectures, with the same data set and start"
        raise NothingToDrawError("candidates", what)
    places = zip(kinds["population"], strata, first.tolist(), strict=True)
    return {
        name: (1 if side else -1) / (len(both) * counts[stratum, side])
        for name, stratum, side in places
        if stratum in both
    }


def _kinds(candidates: pd.DataFrame) -> dict[str, str]:
    """The kind of network of each population whose rows name it."""
    if "architecture_kind" not in candidates:
        return {}
    rows = candidates[candidates["architecture_kind"].notna()].drop_duplicates("population")
    return dict(zip(rows["population"].astype(object), rows["architecture_kind"].astype(object), strict=True))


def _uneven(values: PoolValues, populations: list[str], side: str) -> tuple[str, ...]:
    """A warning if the populations that are averaged on one side have different effects (at 5%)."""
    p = spread_p([values.only([name]).estimate for name in populations])
    return (f"the {len(populations)} populations of the {side} side differ (p {p:.2g})",) if p < 0.05 else ()
