"""Measures of the statistic for calibrated models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, log_expit

from analysis.inference.reliability import Reliability, ece
from analysis.statistics.calibration import CROSS_ENTROPY, DEBIASED, ECE, ECE_MASS, calibration
from tests.helpers import rows

pytestmark = pytest.mark.slow

TIMES = 500
SPREAD = 2.75
"""Standard deviation of the difference of two logits: accuracy 90%, as a usual classifier has."""


def calibrated(examples: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A thousand populations of one model of two classes, whose labels are drawn from its own probabilities."""
    random = np.random.default_rng(seed)
    candidates = []
    predictions = []
    for index in range(TIMES):
        candidates.append(rows.candidate(0, (0,), "single", population=f"{index:04}"))
        score = random.normal(0, SPREAD, examples)
        labels = (random.random(examples) < expit(score)).astype(np.uint8)
        log_p = np.stack([log_expit(-score), log_expit(score)], axis=1).astype("<f2")
        keys: dict[str, Any] = {"candidate_id": candidates[-1]["candidate_id"], "split": "test", "n_examples": examples}
        predictions.append(keys | {"labels": labels.tobytes(), "log_probabilities": log_p.tobytes()})
    return rows.frame(candidates), rows.frame(predictions, "predictions")


@pytest.mark.parametrize(
    ("examples", "of_width", "of_mass", "resamples"),
    [(500, 3.5, 4.4, 199), (2000, 1.7, 2.2, 199), (10_000, 0.8, 1.0, 19)],
)
def test_a_calibrated_model_has_an_ece_and_no_debiased_error(
    examples: int, of_width: float, of_mass: float, resamples: int
) -> None:
    found = calibration(*calibrated(examples, seed=1), resamples=resamples)
    plain, mass, debiased = (found[found["quantity"] == name] for name in (ECE, ECE_MASS, DEBIASED))
    assert len(plain) == len(mass) == len(debiased) == TIMES
    assert 100 * plain["estimate"].mean() == pytest.approx(of_width, abs=0.1)
    assert 100 * mass["estimate"].mean() == pytest.approx(of_mass, abs=0.1)
    assert abs(debiased["estimate"].mean()) < 2 * debiased["estimate"].std() / TIMES**0.5
    assert 0.02 <= (plain["consistency_p"] <= 0.05).mean() <= 0.07
    entropy = found.loc[found["quantity"] == CROSS_ENTROPY, "estimate"]
    expected = np.random.default_rng(0).normal(0, SPREAD, 10**6)
    expected = -(expit(expected) * log_expit(expected) + expit(-expected) * log_expit(-expected)).mean()
    assert entropy.mean() == pytest.approx(expected, abs=4 * entropy.std() / TIMES**0.5)


def test_a_bootstrap_of_a_calibrated_model_excludes_zero_nearly_always() -> None:
    """Why the p of an ECE comes from resampled labels and not from its interval."""
    random = np.random.default_rng(1)
    excluded = 0
    for _ in range(TIMES):
        score = random.normal(0, SPREAD, 500)
        labels = (random.random(500) < expit(score)).astype(int)
        log_p = np.stack([log_expit(-score), log_expit(score)], axis=1)
        drawn = random.integers(0, 500, (40, 500))
        excluded += np.quantile([ece(Reliability.of(log_p[own], labels[own])) for own in drawn], 0.025) > 0.01
    assert excluded / TIMES > 0.99


def test_overconfidence_is_found_and_measured() -> None:
    """Probabilities twice as sharp as they should be: the squared error of large samples, without bias at 500."""
    frames = {n: calibrated(n, seed=2) for n in (500, 3000)}
    means = {}
    for n, (candidates, predictions) in frames.items():
        sharp = [2 * np.frombuffer(one, "<f2").astype(float).reshape(n, 2) for one in predictions["log_probabilities"]]
        predictions = predictions.assign(log_probabilities=[one.astype("<f2").tobytes() for one in sharp])
        found = calibration(candidates, predictions, resamples=19)
        debiased = found.loc[found["quantity"] == DEBIASED, "estimate"]
        means[n] = debiased.mean(), debiased.std() / TIMES**0.5
        if n == 3000:
            assert (found.loc[found["quantity"] == ECE, "consistency_p"] <= 0.05).all()
    assert abs(means[500][0] - means[3000][0]) < 3 * np.hypot(means[500][1], means[3000][1])
