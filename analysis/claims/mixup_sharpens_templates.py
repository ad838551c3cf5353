"""Effect of mixup on templates."""

from __future__ import annotations

import pandas as pd

from analysis.claims._resemblance import matched, per_pool
from analysis.inference.estimate import Question
from analysis.inference.finding import Finding

MARGIN = "correlation"


def mixup_sharpens_templates(templates: pd.DataFrame, *, margin: float = 0.05) -> Finding:
    """Do templates resemble the mean images of their classes more when they are trained with mixup?

    T of members trained with mixup minus that of members trained without, at equal weight decay and true labels, in the
    mean over weight decays; t over pools, trainings fixed. The published scripts train without mixup: what they call
    mixup averages templates afterwards.
    """
    pools = per_pool(templates)
    pools = pools[pools["labels"] == "true"]
    question = Question("T with mixup minus T without", "pool", 0.0, margin)
    values, parts = matched(pools, lambda rows: rows["mixup"] > 0, "mixup", question)
    return Finding(values, "above", "patterns", 100.0, "hundredths of T", parts=parts, part="training")
