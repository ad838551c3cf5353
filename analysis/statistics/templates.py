"""Measures of single templates: similarity to their class mean, agreement across seeds, stationarity gap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.core.errors import NothingToDrawError
from analysis.rows.contrasts import estimate_over_pools
from analysis.rows.select import refuse_duplicates, refuse_mixture, require
from analysis.statistics._templates import KIND, PAIR

CITES = ("wang2024rethinking", "zhang2017understanding")

QUANTITIES = {
    "correlation": "correlation with the own class's mean",
    "agreement": "agreement across seeds",
    "stationarity_gap": "stationarity gap",
}


def templates(templates: pd.DataFrame, *, by: Sequence[str] = ("population", *KIND)) -> pd.DataFrame:
    """Three measures of each template: mean over the classes of a model and in each pool, then Student's t over pools.

    Correlation with the own class's mean, both centred over classes. Agreement across seeds: the mean correlation with
    the same class's template in the pool's other members; of a merge, with its own members'. Stationarity gap:
    |d W - G| / (|d W| + |G|) with weight decay d and G = E[(1[y=c] - p_c) x] over the training split; 0 at a
    stationary point of the loss, where any template is a weighted sum of training images, with true or shuffled labels;
    1 without weight decay. One row per group and `quantity`; a model that lacks one of a measure's values is left out
    of it and counted in `warnings`. Raises AnalysisError for a missing column, duplicated rows, or a group that mixes
    methods, trainings or labels.
    """
    require(templates, sorted({"pool_id", "model_id", *QUANTITIES, *PAIR, *KIND, *by}))
    if templates.empty:
        raise NothingToDrawError("templates", "no rows of templates")
    refuse_duplicates(templates, ["model_id", *PAIR])
    refuse_mixture(templates, by, KIND)
    own = templates[templates["template_class"] == templates["mean_class"]].sort_values(["model_id", *PAIR])
    keep = list(dict.fromkeys([*by, "pool_id"]))
    about = own.drop_duplicates("model_id").set_index("model_id")[keep]
    models = pd.concat([_models(own, about, column, name) for column, name in QUANTITIES.items()], ignore_index=True)
    models["quantity"] = pd.Categorical(models["quantity"], QUANTITIES.values(), ordered=True)
    found = estimate_over_pools(models, [*by, "quantity"], estimand="templates", noun="model")
    return found.astype({"quantity": str})


def _models(own: pd.DataFrame, about: pd.DataFrame, column: str, name: str) -> pd.DataFrame:
    """The mean of a measure over the classes of each model, with the reason if it is missing."""
    values = own[column].astype(float).groupby(own["model_id"].astype(object))
    mean = values.mean().where(values.count() == values.size())
    found = about.assign(quantity=name, value=mean.reindex(about.index))
    return found.assign(reason=np.where(found["value"].notna(), "", f"no {name}"))
