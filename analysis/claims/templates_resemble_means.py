"""Templates of linear classifiers and the mean images of their classes."""

from __future__ import annotations

import pandas as pd

from analysis.claims._resemblance import matched, per_pool
from analysis.inference.estimate import Question
from analysis.inference.finding import Finding

MARGIN = "correlation"


def templates_resemble_means(templates: pd.DataFrame, *, margin: float = 0.05) -> Finding:
    """Do templates of linear classifiers resemble their classes' mean images more than with shuffled labels?

    T (mean correlation with the own class's mean minus that with the others', centred over classes) of members minus
    that of members trained on shuffled labels, against the means of those labels, at equal weight decay; t over pools,
    trainings fixed. Any stationary classifier with weight decay is a weighted sum of images: that alone is arithmetic.
    """
    pools = per_pool(templates)
    question = Question("T with true labels minus T with shuffled labels", "pool", 0.0, margin)
    values, parts = matched(pools, lambda rows: rows["labels"] == "true", "labels", question)
    return Finding(values, "above", "patterns", 100.0, "hundredths of T", parts=parts, part="training")
