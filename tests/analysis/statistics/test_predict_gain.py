"""Kinship and gain: exact values against other computations of the same."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.core.errors import AnalysisError
from analysis.inference.pairwise import Pairs, left_out_r2, partial_slopes, rank_correlation
from analysis.inference.qap import qap, qap_p
from analysis.statistics.predict_gain import predict_gain
from tests.helpers import rows

Array = NDArray[np.float64]


def merged(gains: dict[int, dict[tuple[int, int], float]], level: float = 0.9) -> pd.DataFrame:
    """Members of unequal accuracy, and pairs of each pool whose soups have the given gains."""
    made = []
    for pool, of in gains.items():
        own = {index: level + 0.01 * (index - pool) for index in sorted({index for pair in of for index in pair})}
        made += [rows.candidate(pool, (index,), "single", accuracy=value) for index, value in own.items()]
        for (a, b), gain in of.items():
            made.append(rows.candidate(pool, (a, b), "uniform_soup", accuracy=(own[a] + own[b]) / 2 + gain))
    return rows.frame(made)


def drawn(pools: int = 4, members: int = 5, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame, list[Pairs]]:
    """Candidates, pairs, and the same as dyads with two predictors."""
    random = np.random.default_rng(seed)
    gains: dict[int, dict[tuple[int, int], float]] = {}
    made = rows.pairs(pools=pools, members=members, seed=seed)
    dyads = []
    ends = list(itertools.combinations(range(members), 2))
    for pool in range(pools):
        own = [row for row in made if row["pool"] == pool]
        features = np.array([[row["l2_distance"], row["cosine"]] for row in own])
        gain = 0.01 * pool + 0.02 * features[:, 0] - 0.03 * features[:, 1] + 0.005 * random.standard_normal(len(own))
        gains[pool] = dict(zip(ends, gain.tolist(), strict=True))
        dyads.append(Pairs(f"people-{pool}", np.array(ends), features, gain))
    return merged(gains), rows.frame(made, "pairs"), dyads


def asked(candidates: pd.DataFrame, pairs: pd.DataFrame, *predictors: str, **values: Any) -> pd.DataFrame:
    found = predict_gain(candidates, pairs, predictors=predictors or ("l2_distance", "cosine"), **values)
    return found.set_index(["predictor", "quantity"])


def test_rank_correlations_are_spearmans_averaged_as_fishers_z() -> None:
    candidates, pairs, dyads = drawn()
    found = asked(candidates, pairs).loc["cosine", "rank correlation"]
    each = [stats.spearmanr(pool.features[:, 1], pool.target).statistic for pool in dyads]
    reference = stats.ttest_1samp(np.arctanh(each), 0)
    interval = reference.confidence_interval()
    ends = np.tanh([np.arctanh(each).mean(), interval.low, interval.high])
    np.testing.assert_allclose(found[["estimate", "low", "high"]].astype(float), ends, rtol=1e-9)
    assert found["p"] == pytest.approx(reference.pvalue)
    assert (found["n_units"], found["n_pairs"], found["unit"]) == (4, 40, "pool")


def test_the_left_out_r2_is_of_lines_that_were_fitted_elsewhere() -> None:
    candidates, pairs, dyads = drawn()
    found = asked(candidates, pairs).loc["l2_distance", "leave-pool-out R²"]
    assert found["estimate"] == pytest.approx(naive_r2(dyads))
    without = np.array([naive_r2([pool for pool in dyads if pool is not left]) for left in dyads])
    assert found["se"] == pytest.approx(math.sqrt(3 / 4 * ((without - without.mean()) ** 2).sum()))
    ends = stats.t(3, found["estimate"], found["se"]).interval(0.95)
    np.testing.assert_allclose(found[["low", "high"]].astype(float), ends)
    assert found["p"] is None or math.isnan(found["p"])


def naive_r2(pools: list[Pairs]) -> float:
    """R² of the first feature, by loops: errors and totals are summed over pools before they are divided."""
    error = 0.0
    total = 0.0
    for left in pools:
        others = [pool for pool in pools if pool is not left]
        x = np.concatenate([pool.features[:, 0] - pool.features[:, 0].mean() for pool in others])
        y = np.concatenate([pool.target - pool.target.mean() for pool in others])
        slope = (x @ y) / (x @ x)
        own = left.target - left.target.mean()
        error += float(((own - slope * (left.features[:, 0] - left.features[:, 0].mean())) ** 2).sum())
        total += float((own**2).sum())
    return 1 - error / total


def test_two_pools_have_an_r2_without_an_interval() -> None:
    candidates, pairs, dyads = drawn(pools=2)
    found = asked(candidates, pairs).loc["l2_distance", "leave-pool-out R²"]
    assert found["estimate"] == pytest.approx(naive_r2(dyads))
    assert (found["low"], found["high"]) == (-math.inf, math.inf)
    assert found["warnings"] == ("two pools: no interval can be given",)


def test_both_p_are_corrected_for_the_predictors_of_a_population() -> None:
    candidates, pairs, _ = drawn()
    found = asked(candidates, pairs, "l2_distance", "cosine", "cka")
    for quantity in ("rank correlation", "partial slope"):
        own = found.xs(quantity, level=1)
        for raw, corrected in (("p", "p_adjusted"), ("qap_p", "qap_p_adjusted")):
            p = own[raw].to_numpy(float)
            assert len(p) == 3
            np.testing.assert_allclose(own[corrected].to_numpy(float), multipletests(p, method="holm")[1])
        different = own["p_adjusted"] < 0.05
        assert own["verdict"].tolist() == ["different" if one else "inconclusive" for one in different]
    r2 = found.xs("leave-pool-out R²", level=1)
    assert r2[["p_adjusted", "qap_p_adjusted"]].isna().all(axis=None)


def standardised(pools: list[Pairs]) -> tuple[Array, Array]:
    x = np.concatenate([stats.zscore(pool.features) / math.sqrt(len(pool.target)) for pool in pools])
    y = np.concatenate([stats.zscore(pool.target) / math.sqrt(len(pool.target)) for pool in pools])
    return x, y


def test_partial_slopes_are_of_one_regression_in_standardised_pools() -> None:
    candidates, pairs, dyads = drawn()
    found = asked(candidates, pairs)
    slopes = np.linalg.lstsq(*standardised(dyads), rcond=None)[0]
    np.testing.assert_allclose(found.xs("partial slope", level=1)["estimate"], slopes)
    without = [np.linalg.lstsq(*standardised([*dyads[:k], *dyads[k + 1 :]]), rcond=None)[0] for k in range(4)]
    errors = np.sqrt(3 / 4 * ((without - np.mean(without, axis=0)) ** 2).sum(axis=0))
    np.testing.assert_allclose(found.xs("partial slope", level=1)["se"], errors)
    together = found.loc["jointly", "leave-pool-out R²"]
    assert together["estimate"] == pytest.approx(left_out_r2(dyads)[0])
    assert together["estimate"] > found.loc["cosine", "leave-pool-out R²"]["estimate"]


def naive_studentised(pools: list[Pairs], orders: list[tuple[int, ...]], column: int = 0) -> tuple[float, float]:
    """Slope and studentised slope of a relabelled feature, by loops over pairs and members."""
    tables = []
    begin = 0
    x, y = standardised(pools)
    others = np.delete(x, column, 1)
    left = x[:, column] - others @ np.linalg.pinv(others) @ x[:, column]
    for pool in pools:
        tables.append({frozenset(pair): left[begin + k] for k, pair in enumerate(pool.ends.tolist())})
        begin += len(pool.ends)
    names = []
    feature = []
    for number, (pool, order, table) in enumerate(zip(pools, orders, tables, strict=True)):
        values = np.array([table[frozenset((order[a], order[b]))] for a, b in pool.ends.tolist()])
        feature.append(values)
        names += [((number, a), (number, b)) for a, b in pool.ends.tolist()]
    design = np.column_stack([np.concatenate(feature), others])
    slopes = np.linalg.lstsq(design, y, rcond=None)[0]
    error = y - design @ slopes
    part = design[:, 0] - others @ np.linalg.pinv(others) @ design[:, 0]
    scores: dict[Any, float] = {}
    for ends, one in zip(names, part * error, strict=True):
        for end in ends:
            scores[end] = scores.get(end, 0.0) + one
    spread = math.sqrt(sum(score**2 for score in scores.values())) / (part @ part)
    return float(slopes[0]), float(slopes[0] / spread)


def test_slopes_and_their_errors_are_those_of_loops_over_pairs() -> None:
    _, _, dyads = drawn()
    slopes, studentised = qap(dyads, 1, permutations=0, seed=0)
    same = [tuple(range(5))] * 4
    np.testing.assert_allclose([slopes[0], studentised[0]], naive_studentised(dyads, same, 1))
    assert slopes[0] == pytest.approx(partial_slopes(dyads)[0][1])  # type: ignore[index]
    alone = [Pairs(pool.pool_id, pool.ends, pool.features[:, :1], pool.target).ranked() for pool in dyads]
    mean = np.mean([rank_correlation(pool) for pool in alone])
    assert qap(alone, 0, permutations=0, seed=0)[0][0] == pytest.approx(mean)


@pytest.mark.parametrize("n_features", [1, 2])
def test_relabelled_members_give_what_all_relabellings_give(n_features: int) -> None:
    _, _, dyads = drawn(pools=2, members=4)
    noise = np.random.default_rng(1).standard_normal((2, 6))
    pools = [Pairs(p.pool_id, p.ends, p.features[:, :n_features], y) for p, y in zip(dyads, noise, strict=True)]
    orders = itertools.product(itertools.permutations(range(4)), repeat=2)
    every = np.array([naive_studentised(pools, list(order)) for order in orders])
    slopes, studentised = qap(pools, 0, permutations=4000, seed=1)
    assert np.isin(slopes.round(9), every[:, 0].round(9)).all()
    exact = (np.abs(every[:, 1]) >= abs(every[0, 1]) * (1 - 1e-9)).mean()
    assert 0.02 < exact < 0.98
    assert qap_p(studentised) == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 4000))


def test_the_p_of_relabelling_depends_on_the_seed_alone() -> None:
    candidates, pairs, _ = drawn()
    first, again, other = (asked(candidates, pairs, seed=seed)["qap_p"].dropna() for seed in (0, 0, 1))
    pd.testing.assert_series_equal(first, again)
    assert (first != other).any()
    np.testing.assert_allclose(first, other, atol=0.06)


def test_a_perfect_order_stays_finite() -> None:
    gains = {pool: {pair: 0.01 * k for k, pair in enumerate(itertools.combinations(range(4), 2))} for pool in range(2)}
    table = rows.pairs(pools=2)
    for k, row in enumerate(table):
        row["l2_distance"] = float(k)
    found = asked(merged(gains), rows.frame(table, "pairs"), "l2_distance").loc["l2_distance", "rank correlation"]
    assert found["estimate"] == pytest.approx(1 - 6 / (6**3 - 6))
    assert "no spread between pools" in found["warnings"][-1]


def test_what_is_left_out_gives_a_warning() -> None:
    candidates, pairs, dyads = drawn(pools=3)
    pairs["task_cosine"] = np.nan
    pairs.loc[0, "cosine"] = np.nan
    pool = pairs["pool"] == 2
    row = pairs["index_b"] > 2
    names = ("l2_distance", "cosine", "task_cosine")
    found = asked(candidates, pairs[~(pool & row)], *names)
    slope = found.loc["cosine", "partial slope"]
    assert slope["warnings"] == (
        "`task_cosine` skipped: no values",
        "1 pair left out: no cosine",
        "7 pairs left out: no row in `pairs`",
        "1 pool left out: fewer than 4 members with usable pairs",
    )
    assert (slope["n_units"], slope["n_pairs"]) == (2, 19)
    assert found.loc["l2_distance", "rank correlation"]["n_pairs"] == 20
    each = [stats.spearmanr(p.features[k:, 1], p.target[k:]).statistic for p, k in zip(dyads[:2], (1, 0), strict=True)]
    expected = np.tanh(np.arctanh(each).mean())
    assert found.loc["cosine", "rank correlation"]["estimate"] == pytest.approx(expected)
    assert set(found.index.get_level_values(0)) == {"l2_distance", "cosine", "jointly"}


def test_pools_without_spread_and_members_without_a_row_give_a_warning() -> None:
    candidates, pairs, _ = drawn(pools=3)
    flat = candidates["accuracy"].mask(candidates["pool"] == 0, 0.5)
    first = candidates["members"].map(lambda members: list(members) == ["people-1-0"])
    found = asked(candidates.assign(accuracy=flat)[~first], pairs, "cosine").loc["cosine", "rank correlation"]
    assert found["warnings"] == (
        "4 pairs left out: no `single` of a member",
        "1 pool left out: all gains are equal",
    )
    assert found["n_units"] == 2


def test_pairs_that_were_not_merged_are_no_loss() -> None:
    candidates, pairs, dyads = drawn()
    some = candidates[(candidates["method"] == "single") | (np.arange(len(candidates)) % 3 > 0)]
    found = asked(some, pairs, "cosine").loc["cosine", "rank correlation"]
    assert found["warnings"] == ()
    assert 0 < found["n_pairs"] < sum(len(pool.target) for pool in dyads)


def test_the_order_of_a_pair_changes_nothing() -> None:
    candidates, pairs, _ = drawn()
    turned = pairs.rename(columns={"member_a": "member_b", "member_b": "member_a"})
    pd.testing.assert_frame_equal(asked(candidates, turned), asked(candidates, pairs))


def test_one_pool_has_a_p_of_its_members_but_no_interval() -> None:
    candidates, pairs, _ = drawn(pools=1)
    found = asked(candidates, pairs)
    assert np.isinf(found["high"]).all()
    assert found["qap_p"].notna().tolist() == [True, False, True, False, True, True, False]


def test_collinear_predictors_have_no_slopes() -> None:
    candidates, pairs, _ = drawn()
    found = asked(candidates, pairs.assign(cosine=2 * pairs["l2_distance"]))
    slopes = found.xs("partial slope", level=1)
    assert slopes[["estimate", "qap_p"]].isna().all(axis=None)
    assert "collinear predictors" in slopes["warnings"].iloc[0][-1]


def test_a_merge_without_a_pair_gives_a_warning() -> None:
    candidates, pairs, _ = drawn()
    with pytest.raises(AnalysisError, match=r"no pairs merged by `uniform_sup`\nhint: did you mean `uniform_soup`"):
        predict_gain(candidates, pairs, label="uniform_sup")
    with pytest.raises(AnalysisError, match="no values of `cka`"):
        predict_gain(candidates, pairs.assign(cka=np.nan), predictors=["cka"])
