"""The ensemble in logit space."""

from __future__ import annotations

from torch import Tensor

CITES = ("hansen1990ensembles", "lakshminarayanan2017ensembles")


def logit_average(logits: Tensor) -> Tensor:
    """The mean of the members' logits, (members, examples, classes) -> (examples, classes)."""
    return logits.mean(0)
