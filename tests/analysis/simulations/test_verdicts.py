"""How often verdicts on claims are wrong, for true effects at the edges of what each verdict denies."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from analysis.inference.estimate import BEYOND_MARGIN, DIFFERENT, Question, unit_mean
from analysis.inference.finding import Expected, PoolValues
from analysis.inference.verdict import adjust_and_judge
from analysis.report.audit_changes import CHANGED, UNCHANGED, effect_changes
from analysis.report.claims import REFUTED, SUPPORTED, VERDICTS, claim_verdict

pytestmark = pytest.mark.slow
TIMES = 2000
MARGIN = 0.5
MOST = 0.065  # 5% and three standard errors of a share of TIMES
QUESTION = Question("difference", "pool", 0.0, MARGIN)


@pytest.fixture(scope="module", params=[5, 8, 12, 20])
def noise(request: pytest.FixtureRequest) -> np.ndarray:
    """Pools of standard normal differences, (TIMES, pools)."""
    return np.random.default_rng(request.param).normal(0, 1, (TIMES, request.param))


def shares(noise: np.ndarray, effect: float, spread: float, expected: Expected) -> pd.Series:
    """The share of studies with each verdict on a claim of its own."""
    estimates = [unit_mean(effect + spread * values, QUESTION) for values in noise]
    judged = adjust_and_judge(pd.DataFrame([asdict(one) for one in estimates]), "none")["verdict"].tolist()
    assert judged == [one.verdict for one in estimates]
    return share_of([claim_verdict(one, expected) for one in estimates])


def share_of(verdicts: list[str]) -> pd.Series:
    return pd.Series(verdicts).value_counts().reindex((*VERDICTS, BEYOND_MARGIN), fill_value=0) / TIMES


@pytest.mark.parametrize("spread", [0.3, 0.5, 1.5])
@pytest.mark.parametrize("effect", [0.2, 0.4, MARGIN])
def test_a_true_claim_of_no_difference_is_hardly_ever_refuted(noise: np.ndarray, effect: float, spread: float) -> None:
    assert shares(noise, effect, spread, "zero")[REFUTED] <= MOST
    assert shares(noise, -effect, spread, "zero")[REFUTED] <= MOST


@pytest.mark.parametrize("spread", [0.3, 0.5, 1.5])
def test_a_false_claim_of_no_difference_is_hardly_ever_supported(noise: np.ndarray, spread: float) -> None:
    assert shares(noise, MARGIN, spread, "zero")[SUPPORTED] <= MOST


def test_a_false_claim_of_a_direction_is_hardly_ever_supported(noise: np.ndarray) -> None:
    found = shares(noise, 0.0, 1.5, "above")
    assert found[SUPPORTED] <= MOST
    assert found[REFUTED] <= MOST


@pytest.mark.parametrize("spread", [0.3, 1.5])
def test_an_effect_of_the_margin_is_hardly_ever_beyond_it(noise: np.ndarray, spread: float) -> None:
    estimates = [unit_mean(MARGIN + spread * values, QUESTION) for values in noise]
    assert share_of([one.verdict for one in estimates])[BEYOND_MARGIN] <= MOST


def test_clear_effects_are_found(noise: np.ndarray) -> None:
    assert shares(noise, 1.0, 0.2, "zero")[REFUTED] >= 0.95
    assert shares(noise, 1.0, 0.2, "above")[SUPPORTED] == 1.0
    small = shares(noise, 0.4, 0.1, "zero")
    assert small[SUPPORTED] + small[DIFFERENT] >= 0.95
    assert small[REFUTED] == 0.0


def pool_values(values: np.ndarray) -> PoolValues:
    frame = pd.DataFrame({"population": "people", "pool_id": np.arange(len(values)).astype(str), "value": values})
    return PoolValues(frame, QUESTION)


@pytest.mark.parametrize(("change", "wrong"), [(0.0, CHANGED), (MARGIN, UNCHANGED)])
def test_nine_defects_are_hardly_ever_judged_wrongly(change: float, wrong: str) -> None:
    random = np.random.default_rng(1)
    numbers = {str(pool): pool for pool in range(6)}
    times = TIMES // 10
    false = 0
    for _ in range(times):
        correct = random.normal(0.8, 1, 6)
        defects = {str(n): pool_values(correct + change + random.normal(0, 0.3, 6)) for n in range(9)}
        found = effect_changes(pool_values(correct), defects, numbers)
        false += any(one.verdict == wrong for one in found.values())
    assert false / times <= 0.05 + 3 * (0.05 * 0.95 / times) ** 0.5
