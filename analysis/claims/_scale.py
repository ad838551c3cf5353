"""What a soup loses minus what another network loses when weights are multiplied; shared by the claims on scale."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from analysis.inference.estimate import Question
from analysis.inference.finding import Finding, PoolValues
from analysis.inference.two_way import target
from analysis.rows.pairing import has_new_splits
from analysis.statistics._scale import area_per_pool


def soup_loss(candidates: pd.DataFrame, other: str, noun: str, *, arm: str, margin: float) -> Finding:
    """The retention that `uniform_soup` loses minus that of `other`, called `noun`; beside it the loss of accuracy.

    Each side of 1 is a part: opposite effects must not cancel.
    """
    found = area_per_pool(candidates, "uniform_soup", other, arm=arm)
    scope = target(new_examples=False, new_splits=has_new_splits(candidates))
    what = f"over log factor (factors {found.factors}): uniform_soup minus {noun}, {scope}"
    question = Question(f"retention lost {what}", "pool", 0.0, margin)
    decides = PoolValues(found.retention, question, found.warnings)
    beside = PoolValues(found.accuracy, Question(f"accuracy lost {what}", "pool", 0.0))
    parts = {f"factors {side}": PoolValues(values, question) for side, values in found.by_side.items()}
    finding = Finding(decides, "below", "scale", unit="points of retention", beside=beside, parts=parts)
    return replace(finding, part="side")
