"""Merging in transformers against merging in other networks."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.core.errors import NothingToDrawError
from analysis.inference.estimate import Question
from analysis.inference.finding import Finding, PoolValues
from analysis.rows.contrasts import pool_differences

TRANSFORMERS = ("vit", "deit", "swin", "beit", "eva")


def architecture_moderates(
    candidates: pd.DataFrame, predictions: pd.DataFrame | None = None, *, margin: float = 0.005
) -> Finding:
    """Do transformers lose less accuracy than other networks when weights are averaged instead of logits?

    Accuracy of `uniform_soup` minus that of `logit_average`, mean over populations of transformers minus mean over
    the others; t over pools, populations fixed. If all populations are of one kind but of two architectures, the
    alphabetically first minus the second. Start and normalisation are confounded with the architecture unless the sweep
    crosses them.
    """
    found = pool_differences(candidates, "uniform_soup", "logit_average", predictions=predictions)
    kinds = found.pools.drop_duplicates("population").sort_values("population")
    # The architectures `timm` and `torchvision` cover many networks: the population's name shows the kind.
    names = [f"{one.architecture} {one.population}".lower() for one in kinds.itertuples()]
    first = np.array([any(word in name for word in TRANSFORMERS) for name in names])
    words = "transformers minus the others"
    if first.all() or not first.any():
        names = sorted(set(kinds["architecture"].astype(str)))
        if len(names) != 2:
            raise NothingToDrawError("candidates", "no transformers beside other networks, nor two architectures")
        first = (kinds["architecture"] == names[0]).to_numpy(bool)
        words = f"{names[0]} minus {names[1]}"
    weights = np.where(first, 1 / first.sum(), -1 / (~first).sum())
    shares = dict(zip(kinds["population"], weights.tolist(), strict=True))
    question = Question(f"accuracy: uniform_soup minus logit_average, {words}, {found.target}", "pool", 0.0, margin)
    return Finding(PoolValues(found.pools, question, found.warnings, shares, found.examples), "above", "spaces")
