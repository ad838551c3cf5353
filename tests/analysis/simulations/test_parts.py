"""Claims about the mean of two effects: what is true of one of them alone is not called true of both."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest

from analysis.inference.estimate import Question
from analysis.inference.finding import PoolValues
from analysis.report.claim_cells import DEPENDS, CellAnswers, answer_by_part
from analysis.report.claims import claim_verdict

pytestmark = pytest.mark.slow

STUDIES = 400
MARGIN = 0.05
SPREAD = 0.04
BY_CHANCE = 0.05 + 3 * 0.011
"""A share of .05 plus three standard errors in 400 studies."""


def verdicts(below: float, above: float, pools: int) -> pd.Series:
    """The shares of verdicts on the mean of two effects in studies of so many pools, each effect with its own noise."""
    random = np.random.default_rng([pools, int(1000 * below), int(1000 * (1 + above))])
    question = Question("effect", "pool", 0.0, MARGIN)
    judge = partial(claim_verdict, expected="above")
    about = {"population": "a", "pool_id": [f"a{pool}" for pool in range(pools)]}
    found = []
    for _ in range(STUDIES):
        drawn = np.array([[below], [above]]) + SPREAD * random.standard_normal((2, pools))
        parts = {
            name: PoolValues(pd.DataFrame({**about, "value": own}), question)
            for name, own in zip("ab", drawn, strict=True)
        }
        mean = PoolValues(pd.DataFrame({**about, "value": drawn.mean(axis=0)}), question).estimate
        average = CellAnswers((), judge(mean), mean, "")
        found.append(answer_by_part(average, parts, "side", judge, 0.05).verdict)
    return pd.Series(found).value_counts(normalize=True)


@pytest.mark.parametrize("pools", [5, 8, 12, 20])
def test_the_sign_of_the_mean_is_not_that_of_both(pools: int) -> None:
    opposite = verdicts(0.05, -0.02, pools)
    assert opposite.get("supported", 0) + opposite.get("refuted", 0) <= BY_CHANCE
    one_alone = verdicts(0.1, 0.0, pools)
    assert one_alone.get("supported", 0) + one_alone.get("refuted", 0) <= BY_CHANCE
    none = verdicts(0.0, 0.0, pools)
    assert none.get("supported", 0) + none.get("refuted", 0) + none.get(DEPENDS, 0) <= BY_CHANCE
    at_margin = verdicts(MARGIN, MARGIN, pools)
    assert at_margin.get("equivalent", 0) <= BY_CHANCE
    cancel = verdicts(MARGIN, -MARGIN, pools)
    assert cancel.get("equivalent", 0) <= BY_CHANCE


def test_what_is_true_of_both_is_found() -> None:
    assert verdicts(0.08, 0.06, 12)["supported"] > 0.9
    assert verdicts(0.0, 0.0, 20)["equivalent"] > 0.9
    assert verdicts(0.1, -0.1, 12)[DEPENDS] > 0.9
