"""Expected calibration error, with bins of equal width."""

from __future__ import annotations

import torch
from torch import Tensor

CITES = ("guo2017calibration",)

RECORDED_AS = "ece 2"
"""Name in ids and in run.json, where `ece` stands for the metric of earlier versions, which is now `ece_mass`."""

_BINS = 15


def ece(probabilities: Tensor, labels: Tensor) -> float:
    """Expected calibration error of the top class, over 15 bins of equal width (arXiv 1706.04599).

    Sum over bins of the share of examples times |accuracy - mean confidence|. A bin contains its upper edge and not its
    lower one. Biased upwards, most with few examples; `ece_mass` has bins of equal numbers of examples.
    """
    confidence, predicted = probabilities.max(1)
    edges = torch.linspace(0, 1, _BINS + 1, dtype=confidence.dtype, device=confidence.device)
    bins = torch.bucketize(confidence, edges[1:-1])
    gaps = torch.zeros(_BINS, dtype=probabilities.dtype, device=probabilities.device)
    gaps.index_add_(0, bins, (predicted == labels).to(gaps.dtype) - confidence)
    return float(gaps.abs().sum() / len(confidence))
