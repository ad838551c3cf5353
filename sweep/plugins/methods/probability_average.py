"""The ensemble of probabilities."""

from __future__ import annotations

import math

from torch import Tensor

CITES = ("hansen1990ensembles", "lakshminarayanan2017ensembles")


def probability_average(logits: Tensor) -> Tensor:
    """The log of the mean of the members' softmax outputs, (members, examples, classes) -> (examples, classes).

    Computed in double precision: in single precision, members that are certain of different classes would tie.
    """
    return logits.double().log_softmax(-1).logsumexp(0) - math.log(len(logits))
