"""Whether what merging gives depends on the kind of network."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.core.errors import NothingToDrawError
from analysis.inference.estimate import Question, stratified_mean
from analysis.inference.finding import Finding
from analysis.rows.contrasts import pool_differences

TRANSFORMERS = ("vit", "deit", "swin", "beit", "eva")


def architecture_moderates(candidates: pd.DataFrame, *, margin: float = 0.005) -> Finding:
    """Do transformers lose less than other networks when weights are averaged in the place of logits?

    Accuracy of `uniform_soup` minus that of `logit_average`, mean over populations of transformers minus mean over
    the others; t over pools, populations as fixed. Where all are of one kind, but of two architectures, the first
    in the order of the alphabet minus the second. Start and normalisation move with the architecture unless the sweep
    crosses them.
    """
    pools, told = pool_differences(candidates, "uniform_soup", "logit_average")
    kinds = pools.drop_duplicates("population").sort_values("population")
    # `timm` and `torchvision` are architectures by any name: then the population's tells the kind.
    names = [f"{one.architecture} {one.population}".lower() for one in kinds.itertuples()]
    first = np.array([any(word in name for word in TRANSFORMERS) for name in names])
    words = "transformers minus the others"
    if first.all() or not first.any():
        names = sorted(set(kinds["architecture"].astype(str)))
        if len(names) != 2:
            raise NothingToDrawError("candidates", "no transformers beside other networks, nor two architectures")
        first, words = (kinds["architecture"] == names[0]).to_numpy(bool), f"{names[0]} minus {names[1]}"
    shares = np.where(first, 1 / first.sum(), -1 / (~first).sum())
    question = Question(f"accuracy: uniform_soup minus logit_average, {words}", "pool", 0.0, margin)
    values, populations = pools["value"].to_numpy(float), pools["population"].to_numpy(object)
    return Finding(stratified_mean(values, populations, question, told, shares), "above", "spaces")
