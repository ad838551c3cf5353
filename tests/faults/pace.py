"""A metric that takes its time, so that a run of a few candidates lasts long enough to be hurt."""

from __future__ import annotations

import time

from torch import Tensor


def pace(labels: Tensor) -> float:
    """Nothing, after a while."""
    time.sleep(0.03)
    return 0.0
