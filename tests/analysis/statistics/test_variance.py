"""Components of variance: exact values against other computations of the same."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import optimize, stats

from analysis.inference.components import crossed, estimates, moments, stacked
from analysis.statistics.variance import variance
from tests.helpers import rows

Array = NDArray[np.float64]


def design(members: int, sizes: tuple[int, ...]) -> tuple[Array, NDArray[np.intp]]:
    """(subsets, members) shares of all subsets of these sizes, and the position of each one's size."""
    subsets = [subset for size in sizes for subset in itertools.combinations(range(members), size)]
    shares = np.array([[(k in subset) / len(subset) for k in range(members)] for subset in subsets])
    return shares, np.array([sizes.index(len(subset)) for subset in subsets])


def test_moments_are_rao_s() -> None:
    random = np.random.default_rng(3)
    shares, size = design(5, (2, 3, 4))
    picks = [np.sort(random.choice(len(size), n, replace=False)) for n in (12, 9, 20, 7)]
    values = [random.standard_normal(len(pick)) for pick in picks]
    parts = [moments(shares[pick], size[pick], y, 3) for pick, y in zip(picks, values, strict=True)]
    x = np.eye(3)[np.concatenate([size[pick] for pick in picks])]
    y = np.concatenate(values)
    pool = np.repeat(np.arange(4), [len(pick) for pick in picks])
    together = (pool[:, None] == pool).astype(float)
    a = np.concatenate([shares[pick] for pick in picks])
    kernels = [together, together * (a @ a.T), np.eye(len(y))]
    residual = np.eye(len(y)) - x @ np.linalg.pinv(x)
    # Least squares of all products of residuals on their expectations.
    expected = np.column_stack([(residual @ kernel @ residual).ravel() for kernel in kernels])
    products = np.outer(residual @ y, residual @ y).ravel()
    reference = np.linalg.lstsq(expected, products, rcond=None)[0]
    np.testing.assert_allclose(estimates(stacked(parts).total()), reference, rtol=1e-8)
    three = stacked(parts[1:]).total()
    np.testing.assert_allclose(estimates(stacked(parts).without())[0], estimates(three), rtol=1e-8)


def restricted_by_hand(pools: Sequence[Array], x: Sequence[Array], shares: Sequence[Array]) -> Array:
    """Components of pool, member and subset where the restricted likelihood of normal values is highest."""

    def loss(logs: Array) -> float:
        pool, member, subset = np.exp(logs)
        covs = [pool + member * part @ part.T + subset * np.eye(len(part)) for part in shares]
        inverses = [np.linalg.inv(cov) for cov in covs]
        weight = sum(own.T @ inverse @ own for own, inverse in zip(x, inverses, strict=True))
        right = sum(own.T @ inverse @ y for own, inverse, y in zip(x, inverses, pools, strict=True))
        left = [y - own @ np.linalg.solve(weight, right) for own, y in zip(x, pools, strict=True)]
        squares = sum(rest @ inverse @ rest for rest, inverse in zip(left, inverses, strict=True))
        return float(sum(np.linalg.slogdet(cov)[1] for cov in covs) + np.linalg.slogdet(weight)[1] + squares)

    best = optimize.minimize(loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-11})
    return np.exp(best.x)


def test_moments_of_a_balanced_design_are_those_of_restricted_likelihood() -> None:
    random = np.random.default_rng(1)
    shares, size = design(6, (2,))
    pools = [
        random.normal(0, 3) + shares @ random.normal(0, 2, 6) + random.normal(0, 0.5, len(size)) for _ in range(10)
    ]
    found = estimates(stacked([moments(shares, size, y, 1) for y in pools]).total())
    assert (found > 0).all()
    reference = restricted_by_hand(pools, [np.ones((len(size), 1))] * 10, [shares] * 10)
    np.testing.assert_allclose(found, reference, rtol=1e-4)


def spread(values: dict[int, list[float]], size: int = 1) -> pd.DataFrame:
    """Single members, or subsets of one size, with these accuracies in points."""
    made = []
    for pool, of in values.items():
        subsets = itertools.combinations(range(len(of) if size == 1 else 4), size)
        method = "single" if size == 1 else "uniform_soup"
        made += [rows.candidate(pool, s, method, accuracy=y / 100) for s, y in zip(subsets, of, strict=True)]
    return rows.frame(made)


def members(inits: int = 0, orders: int = 1, pools: int = 3) -> pd.DataFrame:
    """Members whose seeds are crossed, or not known."""
    made = rows.members(pools=pools, members=max(inits, 1) * orders if inits else 4)
    for row in made:
        if inits:
            row["init_seed"], row["order_seed"] = divmod(row["member_index"], orders)
    return rows.frame(made, "members")


def test_singles_have_the_components_of_a_balanced_one_way_layout() -> None:
    found = variance(spread({0: [90, 92, 94, 96], 1: [81, 83, 80, 80], 2: [70, 78, 74, 74]}), members())
    assert found["quantity"].tolist() == ["pool", "member"]
    inside = np.mean([np.var(of, ddof=1) for of in ([90, 92, 94, 96], [81, 83, 80, 80], [70, 78, 74, 74])])
    between = np.var([93, 81, 74], ddof=1) - inside / 4
    np.testing.assert_allclose(found["estimate"], [between, inside])
    np.testing.assert_allclose(found["share"], [between / (between + inside), inside / (between + inside)])
    assert found["estimand"].eq("variance of accuracy in points²").all()


def test_intervals_of_components_are_those_of_the_jackknife_over_pools() -> None:
    frame = rows.frame(rows.candidates(pools=4))
    frame = frame[frame["method"] == "uniform_soup"]
    found = variance(frame, members(pools=4))
    own = members(pools=4)
    without = np.array([variance(frame[frame["pool"] != pool], own)["estimate"] for pool in range(4)])
    errors = np.sqrt(3 / 4 * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    np.testing.assert_allclose(found["se"], errors)
    half = stats.t.ppf(0.975, 3) * errors
    np.testing.assert_allclose(found["high"] - found["estimate"], half)
    assert found["share"].sum() == pytest.approx(1)
    shares = np.array([variance(frame[frame["pool"] != pool], own)["share"] for pool in range(4)])
    wide = stats.t.ppf(0.975, 3) * np.sqrt(3 / 4 * ((shares - shares.mean(axis=0)) ** 2).sum(axis=0))
    np.testing.assert_allclose(found["share_high"] - found["share"], wide)


@pytest.mark.parametrize("size", [3, 4])
def test_components_that_one_size_cannot_separate_are_missing(size: int) -> None:
    count = math.comb(4, size)
    found = variance(
        spread({pool: [90.0 + pool + 0.1 * k**2 for k in range(count)] for pool in range(3)}, size), members()
    )
    assert found["estimate"].isna().all()
    assert found["warnings"].map(lambda texts: "cannot separate this component" in texts[-1]).all()


def test_a_component_below_zero_gives_a_warning() -> None:
    found = variance(spread({0: [90, 94, 90, 94], 1: [94, 90, 94, 90], 2: [92, 92, 90, 94]}), members())
    below = found.set_index("quantity").loc["pool"]
    assert below["estimate"] < 0
    assert "below zero" in below["warnings"][-1]


def test_crossed_seeds_separate_init_from_order() -> None:
    tables = [np.array([[90.0, 91, 95], [80, 82, 84]]), np.array([[70.0, 71, 72], [75, 79, 80]])]
    values = {pool: table.ravel().tolist() for pool, table in enumerate(tables)}
    found = variance(spread(values), members(2, 3, pools=2)).set_index("quantity")
    inside = []
    for table in tables:
        rest = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + table.mean()
        square = (rest**2).sum() / 2
        rows_ = 3 * table.mean(1).var(ddof=1)
        columns = 2 * table.mean(0).var(ddof=1)
        inside.append([(rows_ - square) / 3, (columns - square) / 2, square])
    noise = np.mean([a / 2 + b / 3 + c / 6 for a, b, c in inside])
    pool = np.var([table.mean() for table in tables], ddof=1) - noise
    np.testing.assert_allclose(found["estimate"], [pool, *np.mean(inside, axis=0)])
    assert found.index.tolist() == ["pool", "init", "order", "residual"]
    assert found["low"].tolist()[1] > -math.inf
    assert found.loc["pool", "warnings"][-1].startswith(("too few pools", "below zero"))


def test_crossed_components_are_right_on_average() -> None:
    random = np.random.default_rng(5)
    found = []
    for _ in range(3000):
        pools = []
        for _ in range(3):
            init = random.normal(0, 2, (3, 1))
            order = random.normal(0, 1, (1, 4))
            pools.append(random.normal(0, 3) + init + order + random.normal(0, 0.5, (3, 4)))
        found.append(crossed(pools))
    error = np.std(found, axis=0) / math.sqrt(len(found))
    assert (np.abs(np.mean(found, axis=0) - [9, 4, 1, 0.25]) < 4 * error).all()


def test_pools_whose_seeds_are_not_crossed_are_left_out() -> None:
    values = {pool: [90.0 + pool, 91, 94, 92] for pool in range(3)}
    own = members(2, 2)
    own.loc[own["member_id"] == "people-2-3", "order_seed"] = 7
    found = variance(spread(values), own)
    assert found["n_units"].eq(2).all()
    assert found["warnings"].map(lambda texts: texts[0] == "1 pool left out: seeds not fully crossed").all()
    nobody = variance(spread(values), own.assign(order_seed=own["member_index"]))
    assert nobody["quantity"].tolist() == ["pool", "member"]
