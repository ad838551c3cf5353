"""The ensemble of probabilities."""

from __future__ import annotations

import math

from torch import Tensor

CITES = ("hansen1990ensembles", "lakshminarayanan2017ensembles")


def probability_average(logits: Tensor) -> Tensor:
    """The mean of the members' softmax outputs, as logs: (members, examples, classes) -> (examples, classes).

    In double precision: members that are sure of different classes would tie in single.
    """
    return logits.double().log_softmax(-1).logsumexp(0) - math.log(len(logits))
