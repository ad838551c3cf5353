"""finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from analysis.inference.estimate import Estimate

Expected = Literal["above", "below", "zero"]


@dataclass(frozen=True)
class Finding:
    """What the file of a claim gives: the estimate that decides, where it lies if the claim holds, and the figure.

    `scale` and `unit` turn the estimate into what a reader sees, such as percentage points.
    """

    estimate: Estimate
    expected: Expected
    figure: str
    scale: float = 100.0
    unit: str = "points"
