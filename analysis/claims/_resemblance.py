"""T, the similarity of templates to their own class mean, per pool, and the weights of trainings in a contrast."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from analysis.core.errors import NothingToDrawError
from analysis.inference.estimate import Question
from analysis.inference.finding import PoolValues
from analysis.rows.select import UNIT, require
from analysis.statistics._templates import KIND, PAIR

FAMILY = ["architecture", "dataset", "start"]
TRAINING = ["weight_decay", "mixup", "labels"]


def per_pool(templates: pd.DataFrame) -> pd.DataFrame:
    """T of single linear classifiers on pixels, one `value` per pool: the mean over its members.

    Columns: population, pool_id, architecture, dataset, start, weight_decay, mixup, labels, value. Raises
    NothingToDrawError where there are none.
    """
    require(templates, ["model_id", "correlation", *UNIT, *FAMILY, *KIND, *PAIR])
    rows = templates[(templates["method"] == "single") & (templates["input"] == "pixels")]
    rows = rows[rows["weight_decay"].notna()]
    if rows.empty:
        raise NothingToDrawError("templates", "no templates of linear classifiers", "set inspect: [templates]")
    own = (rows["template_class"] == rows["mean_class"]).to_numpy(bool)
    model = rows["model_id"].astype(object)
    diagonal, rest = (rows["correlation"].where(kept).groupby(model).mean() for kept in (own, ~own))
    about = (
        rows.drop_duplicates("model_id")
        .set_index("model_id")[[*UNIT, *FAMILY, *TRAINING]]
        .astype(dict.fromkeys([*UNIT, *FAMILY, "labels"], object))
    )
    models = about.assign(value=(diagonal - rest).reindex(about.index)).dropna(subset="value")
    return models.groupby([*UNIT, *FAMILY, *TRAINING], sort=True)["value"].mean().reset_index()


def matched(
    pools: pd.DataFrame, one: Callable[[pd.DataFrame], pd.Series], other: str, question: Question
) -> tuple[PoolValues, dict[str, PoolValues]]:
    """The difference between two trainings that are equal in all other settings, and the same in each setting.

    `one` returns a mask of the rows of the first training; `other` is the column in which both differ. All settings
    with both trainings have equal weight, and so have the populations on each side. Raises NothingToDrawError if no
    setting has both.
    """
    trainings = pools.drop_duplicates("population").assign(first=one)
    alike = [name for name in (*FAMILY, *TRAINING) if name != other]
    groups = [group for _, group in trainings.groupby(alike, sort=True) if group["first"].nunique() == 2]
    if not groups:
        raise NothingToDrawError("templates", f"no two trainings that differ in `{other}` alone")
    varying = [name for name in alike if len({group[name].iloc[0] for group in groups}) > 1]
    parts = {
        ", ".join(f"{name} {group[name].iloc[0]}" for name in varying): _difference(pools, group, question)
        for group in groups
    }
    shares: dict[str, float] = {}
    for part in parts.values():
        shares |= {name: share / len(groups) for name, share in part.weights.items()}
    return PoolValues(pools, question, shares=shares), parts if varying else {}


def _difference(pools: pd.DataFrame, group: pd.DataFrame, question: Question) -> PoolValues:
    """The difference between the two trainings of one setting."""
    shares: dict[str, float] = {}
    for first, side in group.groupby("first"):
        shares |= dict.fromkeys(side["population"], (1 if first else -1) / len(side))
    return PoolValues(pools, question, shares=shares)
