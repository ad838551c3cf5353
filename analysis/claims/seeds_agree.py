"""Agreement of templates across seeds."""

from __future__ import annotations

import pandas as pd

from analysis.core.errors import NothingToDrawError
from analysis.inference.estimate import Question
from analysis.inference.finding import Finding, PoolValues
from analysis.rows.select import UNIT, require

MARGIN = "correlation"
SAME = 0.9
"""The correlation above which templates count as the same: less than a fifth of their variance is not shared."""


def seeds_agree(templates: pd.DataFrame, *, margin: float = 0.05) -> Finding:
    """Do templates of linear classifiers of different seeds correlate by more than .9?

    Mean correlation over pixels of a member's template with the same class's of its pool's other members, each centred
    over classes, with true labels and without mixup, minus .9; mean over templates, then t over pools, trainings fixed.
    The problem is convex: with weight decay there is one optimum, and members differ only in their distance to it.
    """
    require(templates, ["method", "input", "labels", "mixup", "agreement", *UNIT])
    rows = templates[(templates["method"] == "single") & (templates["input"] == "pixels")]
    rows = rows[(rows["labels"] == "true") & ~(rows["mixup"] > 0) & rows["agreement"].notna()]
    if rows.empty:
        raise NothingToDrawError("templates", "no templates of several linear classifiers")
    pools = rows.astype(dict.fromkeys(UNIT, object)).groupby(list(UNIT), sort=True)["agreement"].mean()
    question = Question(f"correlation of templates across seeds minus {SAME:g}", "pool", 0.0, margin)
    values = PoolValues((pools - SAME).rename("value").reset_index(), question)
    return Finding(values, "above", "patterns", 100.0, "hundredths of correlation")
