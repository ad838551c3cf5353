"""Cross-entropy, calibration errors, a test of calibration, and temperature scaling.

Own code: no maintained library debiases the squared error, keeps ties in one bin and resamples under calibration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

BINS = 15
COLDEST = 0.01
HOTTEST = 100.0
_DRAWN_AT_ONCE = 1 << 22


def normalised(log_probabilities: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Log-probabilities (examples, classes) at a temperature, each row made to sum to one in double precision.

    They are logits up to a constant per example, so that a temperature acts on them as it would on the logits.
    """
    rows: np.ndarray = log_softmax(log_probabilities.astype(np.float64) / temperature, axis=1)
    return rows


def cross_entropy(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-probability of the right class, in nats."""
    return -float(np.take_along_axis(log_probabilities, labels[:, None].astype(int), 1).mean())


@dataclass(frozen=True)
class Reliability:
    """Confidence and correctness of predicted classes, sorted by confidence, in 15 bins of equal mass or width."""

    confidence: np.ndarray  # (examples,), ascending
    right: np.ndarray  # (examples,), whether the predicted class is correct
    starts: np.ndarray  # (bins,), index of the first example of each bin that is not empty

    @classmethod
    def of(cls, log_probabilities: np.ndarray, labels: np.ndarray, *, equal_width: bool = False) -> Reliability:
        """From normalised log-probabilities (examples, classes); equal confidences share a bin.

        Bins have equal numbers of examples, or with `equal_width` are ((m - 1) / 15, m / 15] (arXiv 1706.04599).
        """
        predicted = log_probabilities.argmax(axis=1)
        top = log_probabilities.max(axis=1)
        order = np.argsort(top, kind="stable")
        confidence = np.exp(top[order])
        less_confident = np.searchsorted(confidence, confidence)
        mass = less_confident * BINS // len(confidence)
        width = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)
        _, starts = np.unique(width if equal_width else mass, return_index=True)
        return cls(confidence, (predicted == labels)[order], starts)

    @property
    def sizes(self) -> np.ndarray:
        """Examples in each bin."""
        return np.diff(self.starts, append=len(self.confidence))

    @property
    def promised(self) -> np.ndarray:
        """Sum of the confidences in each bin: the expected number of correct examples under calibration."""
        sums: np.ndarray = np.add.reduceat(self.confidence, self.starts)
        return sums

    @property
    def kept(self) -> np.ndarray:
        """Number of correct examples in each bin."""
        sums: np.ndarray = np.add.reduceat(self.right, self.starts, dtype=np.int64)
        return sums


def ece(found: Reliability) -> float:
    """Expected calibration error of the predicted class over these bins, a fraction.

    Biased upwards: calibrated probabilities show about 4.4, 2.2 and 1.0 points at 500, 2,000 and 10,000 examples with
    bins of equal mass, 3.5, 1.7 and 0.8 with bins of equal width.
    """
    return float(np.abs(found.kept - found.promised).sum()) / len(found.confidence)


def debiased_squared_error(found: Reliability) -> float:
    """Mean over examples of (accuracy - confidence)² in their bin, minus its bias: around 0 if calibrated.

    The bias is accuracy (1 - accuracy) / (n - 1); bins of one example are skipped. Can be negative.
    Source: arXiv 1909.10155.
    """
    n = found.sizes
    accuracy = found.kept / n
    confidence = found.promised / n
    each = (accuracy - confidence) ** 2 - accuracy * (1 - accuracy) / np.maximum(n - 1, 1)
    return float((n * np.where(n > 1, each, 0.0)).sum()) / len(found.confidence)


def consistency_p(found: Reliability, generator: np.random.Generator, resamples: int) -> float:
    """Share of label draws from the confidences, the observed labels included, whose ECE is at least as large.

    Test of calibration by consistency resampling (Bröcker and Smith 2007). A bootstrap of the examples is no test: the
    error of every resample is above 0, so its interval excludes 0 for any model.
    """
    n = len(found.confidence)
    reached = ece(found) - 1e-12
    chance = found.confidence.astype(np.float32)
    promised = found.promised
    step = max(1, _DRAWN_AT_ONCE // n)
    above = 1
    for start in range(0, resamples, step):
        drawn = generator.random((min(step, resamples - start), n), dtype=np.float32) < chance
        kept = np.add.reduceat(drawn.view(np.uint8), found.starts, axis=1, dtype=np.int32)
        above += int((np.abs(kept - promised).sum(axis=1) / n >= reached).sum())
    return above / (resamples + 1)


def jointly(p_values: np.ndarray) -> float:
    """Combined p of dependent tests: about twice their median (Rüger 1978, arXiv 1212.4966)."""
    count = len(p_values)
    middle = (count + 1) // 2
    return min(1.0, count / middle * float(np.sort(p_values)[middle - 1])) if count else math.nan


def temperature(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the lowest cross-entropy (arXiv 1706.04599); above 1 it softens the probabilities.

    NaN if none between 0.01 and 100 is optimal: every example is correct, or a uniform guess is better.
    """
    from scipy.optimize import brentq

    scores = log_probabilities.astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    right = float(np.take_along_axis(scores, labels[:, None].astype(int), 1).mean())

    def slope(log_coldness: float) -> float:
        """Derivative of the cross-entropy in the inverse temperature, in which it is convex."""
        shares = np.exp(math.exp(log_coldness) * scores)
        return float(((shares * scores).sum(axis=1) / shares.sum(axis=1)).mean()) - right

    low = math.log(1 / HOTTEST)
    high = math.log(1 / COLDEST)
    if not slope(low) < 0 < slope(high):
        return math.nan
    return math.exp(-float(brentq(slope, low, high, xtol=1e-7)))
