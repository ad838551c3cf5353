"""What a soup loses minus what another network loses when weights are multiplied; shared by the claims on scale."""

from __future__ import annotations

import pandas as pd

from analysis.inference.estimate import Question
from analysis.inference.finding import Finding, PoolValues
from analysis.statistics._scale import area_per_pool


def soup_loss(candidates: pd.DataFrame, other: str, noun: str, *, arm: str, margin: float) -> Finding:
    """The retention that `uniform_soup` loses minus that of `other`, called `noun`; beside it the loss of accuracy."""
    found = area_per_pool(candidates, "uniform_soup", other, arm=arm)
    what = f"over log factor (factors {found.factors}): uniform_soup minus {noun}"
    decides = PoolValues(found.retention, Question(f"retention lost {what}", "pool", 0.0, margin), found.warnings)
    beside = PoolValues(found.accuracy, Question(f"accuracy lost {what}", "pool", 0.0))
    return Finding(decides, "below", "scale", unit="points of retention", beside=beside)
