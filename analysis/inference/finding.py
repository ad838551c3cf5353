"""Finding of a claim: the deciding estimate and the expected result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from analysis.inference.estimate import Estimate

Expected = Literal["above", "below", "zero"]


@dataclass(frozen=True)
class Finding:
    """Result of a claim: the deciding estimate, the side on which it lies if the claim holds, and the figure.

    `scale` and `unit` convert the estimate for display, for example to percentage points.
    """

    estimate: Estimate
    expected: Expected
    figure: str
    scale: float = 100.0
    unit: str = "points"
