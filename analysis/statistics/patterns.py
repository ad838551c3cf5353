"""Similarity of the templates of a classifier to the mean images of their classes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.rows.contrasts import estimate_over_pools
from analysis.rows.groups import group_ids
from analysis.rows.select import refuse_duplicates, refuse_mixture, require
from analysis.statistics._templates import KIND, PAIR

CITES = ("wang2024rethinking",)

EXACT = 7
"""Classes up to which all permutations are counted: 5,040 of seven."""
DRAWS = 10_000


def patterns(
    templates: pd.DataFrame,
    *,
    by: Sequence[str] = ("population", *KIND),
    margin: float | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """T, the correlation of a template with its own class's mean image minus that with others: Student's t over pools.

    T of a model is the mean of the diagonal minus the mean of the off-diagonal entries of the (classes, classes)
    correlations between templates and mean images, both centred over classes; 0 for templates without class
    information. Models are averaged in each pool. `p` tests T = 0 for new pools with the same mean images.
    `permutation_p` is the one-sided permutation test of the classes, with the same permutation for all models, as they
    share the images: all permutations up to 7 classes, else 10,000 drawn from `seed`. Neither separates learning from
    arithmetic: strong weight decay alone makes templates of class means, also with shuffled labels (`labels`).
    A model that lacks a pair of classes or a correlation is left out and counted in `warnings`. Raises AnalysisError
    for a missing column, duplicated rows, or a group that mixes methods, trainings or labels.
    """
    require(templates, sorted({"pool_id", "model_id", "correlation", *PAIR, *KIND, *by}))
    if templates.empty:
        raise NothingToDrawError("templates", "no rows of templates")
    refuse_duplicates(templates, ["model_id", *PAIR])
    refuse_mixture(templates, by, KIND)
    rows = templates.assign(model=group_ids(templates, ["model_id"])[0])
    rows = rows.sort_values(["model", *PAIR], ignore_index=True)
    models = _models(rows, list(dict.fromkeys([*by, "pool_id"])))
    found = estimate_over_pools(models, by, estimand="template pattern T", null=0.0, margin=margin, noun="model")
    rows = rows.assign(group=group_ids(rows, by)[0])
    means = _means(rows[rows["model"].map(models["reason"]) == ""])
    permuted = {count: _permutations(count, seed) for count in {len(mean) for mean in means.values()}}
    p = {group: _permutation_p(mean, permuted[len(mean)]) for group, mean in means.items()}
    found.insert(len(by), "permutation_p", [p.get(group, math.nan) for group in range(len(found))])
    return found


def _models(rows: pd.DataFrame, keep: list[str]) -> pd.DataFrame:
    """T of each model, with the reason if it is missing."""
    model = rows["model"]
    value = rows["correlation"]
    own = rows["template_class"] == rows["mean_class"]
    pairs = rows.groupby("model")
    classes = pairs["template_class"].nunique()
    whole = (pairs.size() == classes**2) & (pairs["mean_class"].nunique() == classes) & (classes > 1)
    whole &= own.groupby(model).sum() == classes
    finite = pd.Series(np.isfinite(value.to_numpy(np.float64, na_value=np.nan)), rows.index).groupby(model).all()
    reason = np.where(whole, np.where(finite, "", "a correlation is not finite"), "not every pair of classes")
    score = value.where(own).groupby(model).mean() - value.where(~own).groupby(model).mean()
    about = rows.drop_duplicates("model").set_index("model")[keep]
    return about.assign(value=score, reason=pd.Series(reason, classes.index))


def _means(rows: pd.DataFrame) -> dict[int, np.ndarray]:
    """The (classes, classes) mean correlations of each `group`: over the models of a pool, then over pools."""
    cell = ["group", *PAIR]
    models = rows.groupby(cell).size().groupby(level="group").nunique()
    pools = rows.groupby([*cell, "pool_id"])["correlation"].mean().groupby(level=cell).mean()
    means = {group: mean.droplevel("group").unstack() for group, mean in pools.groupby(level="group")}
    # Whole models that differ in their classes leave cells empty, or with fewer models than others.
    if models.gt(1).any() or any(mean.isna().any(axis=None) for mean in means.values()):
        raise AnalysisError("rows", "a group mixes models of different classes", "group by `population`")
    return {int(group): mean.to_numpy(float) for group, mean in means.items()}


def _permutations(classes: int, seed: int) -> np.ndarray:
    """Permutations of the classes, one per row: all, or those drawn from the seed."""
    if classes <= EXACT:
        return np.array(list(itertools.permutations(range(classes))))
    generator = np.random.default_rng([seed, classes])
    return generator.permuted(np.tile(np.arange(classes), (DRAWS, 1)), axis=1)


def _permutation_p(mean: np.ndarray, permutations: np.ndarray) -> float:
    """The share of permutations with a diagonal, and so a T, as large; drawn ones count the given one."""
    classes = len(mean)
    given = np.trace(mean)
    sums = mean[np.arange(classes), permutations].sum(axis=1)
    near = 1e-9 * np.abs(mean).max() * classes
    drawn = int(classes > EXACT)
    return float(((sums >= given - near).sum() + drawn) / (len(permutations) + drawn))
