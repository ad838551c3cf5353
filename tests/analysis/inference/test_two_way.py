"""Means over pools and test examples: standard errors by hand, exact bounds, and changes under a defect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.inference.estimate import EQUIVALENT, INCONCLUSIVE, Question
from analysis.inference.finding import PoolValues
from analysis.inference.two_way import Examples, examples_wanted, spreads
from analysis.inference.verdict import adjust_and_judge

QUESTION = Question("difference", "pool", 0.0, 0.005)


def pool_values(
    matrices: Sequence[np.ndarray], sets: Sequence[str], shares: Sequence[float] | None = None
) -> PoolValues:
    """Values of populations `p0`, `p1`, … from their differences of shape (pools, examples)."""
    names = [f"p{number}" for number in range(len(matrices))]
    rows = [
        (name, f"{name}-{pool}") for name, matrix in zip(names, matrices, strict=True) for pool in range(len(matrix))
    ]
    every = [row for matrix in matrices for row in matrix]
    frame = pd.DataFrame(rows, columns=["population", "pool_id"]).assign(value=[row.mean() for row in every])
    of = [test_set for test_set, matrix in zip(sets, matrices, strict=True) for _ in matrix]
    examples = {pool: Examples(*one) for (_, pool), one in zip(rows, zip(of, every, strict=True), strict=True)}
    weights = None if shares is None else dict(zip(names, shares, strict=True))
    return PoolValues(frame, QUESTION, shares=weights, examples=examples)


def made(seed: int, pools: int = 6, examples: int = 80, scale: float = 1.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    rows = random.normal(0, 0.1, (pools, 1)) + random.normal(0, scale, examples)
    return rows + random.normal(0, 1, (pools, examples))


def test_one_population_is_the_two_way_mean() -> None:
    matrix = made(0)
    found = pool_values([matrix], ["digits"]).estimate
    by_hand = spreads(matrix)
    assert (found.estimate, found.se) == (pytest.approx(by_hand.estimate), pytest.approx(by_hand.se))
    assert found.df == len(matrix) - 1
    assert found.se > by_hand.se_pools
    half = stats.t.ppf(0.975, 5) * by_hand.se
    assert (found.low, found.high) == (pytest.approx(found.estimate - half), pytest.approx(found.estimate + half))


def test_populations_on_one_test_set_share_its_examples() -> None:
    one = made(1)
    two = one + 0.1 * made(2)
    alone = [spreads(matrix) for matrix in (one, two)]
    together = pool_values([one, two], ["digits", "digits"]).estimate
    apart = pool_values([one, two], ["digits", "mnist"]).estimate
    # On other test sets the populations are independent: half of each, variances add up.
    assert apart.se == pytest.approx(math.sqrt(sum(each.se**2 for each in alone)) / 2)
    # On one test set the same examples are hard for both, so their errors add up; in a difference they cancel.
    assert together.se > 1.2 * apart.se
    minus = pool_values([one, two], ["digits", "digits"], [1.0, -1.0]).estimate
    assert minus.se < 0.8 * pool_values([one, two], ["digits", "mnist"], [1.0, -1.0]).estimate.se


def test_values_of_some_populations_have_the_estimate_of_these_alone() -> None:
    both = pool_values([made(3), made(4)], ["digits", "mnist"])
    part = replace(both, frame=both.frame[both.frame["population"] == "p1"])
    assert asdict(part.estimate) == asdict(replace(both, shares={"p1": 1.0}).estimate)
    # A share of 0 is a weight like others, as in the middle of a slope: its pools are measured, and count.
    measured = replace(both, shares={"p0": 0.0, "p1": 1.0}).estimate
    assert asdict(measured) == {**asdict(part.estimate), "n_units": 2 * part.estimate.n_units}
    assert part.estimate.se == pytest.approx(spreads(made(4)).se)


def test_the_order_of_pools_does_not_matter() -> None:
    values = pool_values([made(5, pools=7)], ["digits"])
    turned = replace(values, frame=values.frame.iloc[::-1].reset_index(drop=True))
    assert turned.estimate.se == pytest.approx(values.estimate.se, rel=1e-12)
    np.testing.assert_allclose(turned.bootstrap, values.bootstrap, rtol=1e-9)


def test_a_change_is_that_of_each_example() -> None:
    correct = made(6)
    defect = correct + made(7, scale=0.2)
    numbers = {f"p0-{pool}": pool for pool in range(6)}
    found = pool_values([defect], ["digits"]).minus(pool_values([correct], ["digits"]), numbers)
    assert found.estimate.se == pytest.approx(spreads(defect - correct).se)
    other = pool_values([defect], ["digits"]).minus(pool_values([correct], ["mnist"]), numbers)
    assert other.examples is None
    assert other.estimate.se == pytest.approx(spreads(defect - correct).se_pools)


@pytest.mark.parametrize("n", [359, 598, 2000])
def test_methods_that_agree_on_every_example_have_an_exact_bound(n: int) -> None:
    found = pool_values([np.zeros((5, n))], ["digits"]).estimate
    # Clopper and Pearson's one-sided 95% bound of no success in n.
    bound = stats.binomtest(0, n, alternative="less").proportion_ci(0.95, "exact").high
    assert (found.estimate, found.low, found.high) == (0.0, pytest.approx(-bound), pytest.approx(bound))
    assert found.p_equivalent == pytest.approx(stats.binom.pmf(0, n, 0.005))
    assert found.verdict == (EQUIVALENT if n >= examples_wanted(0.005) else INCONCLUSIVE)
    assert any(text.startswith(f"identical on {n} examples") for text in found.warnings)
    assert not any("no width" in text for text in found.warnings)
    assert found.is_identical
    # The family uses the exact p, for Student's has none.
    assert adjust_and_judge(pd.DataFrame([asdict(found)]), "holm")["verdict"].item() == found.verdict
    two = adjust_and_judge(pd.DataFrame([asdict(found)] * 3), "holm")["verdict"].unique().tolist()
    assert two == [EQUIVALENT if 3 * 0.995**n < 0.05 else INCONCLUSIVE]


def test_the_bound_names_the_examples_that_would_decide() -> None:
    assert examples_wanted(0.005) == 598
    found = pool_values([np.zeros((5, 359))], ["digits"]).estimate
    assert any("a margin of 0.005 takes 598 examples, not more pools" in text for text in found.warnings)


def test_a_difference_of_differences_may_be_two_on_one_example() -> None:
    zero = pool_values([np.zeros((5, 359))], ["digits"])
    numbers = {f"p0-{pool}": pool for pool in range(5)}
    assert zero.minus(zero, numbers).estimate.high == pytest.approx(2 * zero.estimate.high)


def test_one_pool_that_agrees_has_no_interval() -> None:
    found = pool_values([np.zeros((1, 359))], ["digits"]).estimate
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert not found.is_identical


def test_equal_pools_that_disagree_on_examples_have_the_spread_of_examples() -> None:
    row = np.zeros(100)
    row[:3] = (1.0, -1.0, 0.0)
    matrix = np.array([row, np.roll(row, 7), np.roll(row, 20)])
    found = pool_values([matrix], ["digits"]).estimate
    assert found.estimate == 0
    assert found.se == pytest.approx(stats.sem(matrix.mean(axis=0)))
    assert not found.is_identical
