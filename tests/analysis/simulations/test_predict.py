"""Permutation tests of pairs, and variance components, over a thousand simulated populations."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from analysis.inference.pairwise import Pairs
from analysis.inference.qap import qap, qap_p
from analysis.statistics.predict_gain import predict_gain
from analysis.statistics.variance import variance

pytestmark = pytest.mark.slow

Array = NDArray[np.float64]
TIMES = 500
PLAIN = {"split": "test", "protocol": "correct", "status": "ok", "scaling_factor": 1.0, "scaling_members": "all"}
PLAIN |= dict.fromkeys(("scaling", "alignment", "repair"), "none")
PLAIN |= dict.fromkeys(("settings", "scaling_settings", "alignment_settings", "repair_settings"), "{}")


def candidates(values: Array, subsets: list[tuple[int, ...]], method: str) -> pd.DataFrame:
    """Rows from (populations, pools, subsets) values."""
    times, pools, n = values.shape
    population = np.repeat([f"people{k:04d}" for k in range(times)], pools * n)
    pool = np.repeat([f"people{k:04d}-{pool}" for k in range(times) for pool in range(pools)], n)
    names = np.char.add(np.char.add(pool, "-").reshape(-1, n, 1)[:, :1], [str(k) for k in range(max(max(subsets)) + 1)])
    members = [own[0][list(subset)].tolist() for own in names for subset in subsets]
    columns = {"population": population, "pool_id": pool, "members": members, "accuracy": values.ravel()}
    columns |= {"member_indices": [np.array(s) for s in subsets] * (times * pools)}
    columns |= {"n_members": [len(s) for s in subsets] * (times * pools), "method": method}
    return pd.DataFrame(columns).assign(**PLAIN)


def unrelated(random: np.random.Generator, pools: int, members: int) -> tuple[Array, Array]:
    """Predictor and gain of every pair, (populations, pools, pairs): each has members' and pools' parts of its own."""
    a, b = np.triu_indices(members, 1)
    found = []
    for _ in range(2):
        own = random.standard_normal((TIMES, pools, members))
        offset = 2 * random.standard_normal((TIMES, pools, 1))
        found.append(offset + own[..., a] + own[..., b] + 0.5 * random.standard_normal((TIMES, pools, len(a))))
    return found[0], found[1]


def of_folds(x: Array, y: Array, folds: int = 5) -> float:
    """R² of a line over rows that was fitted on the other folds, as is often reported."""
    place = np.random.default_rng(0).permutation(len(x)) % folds
    error = 0.0
    for fold in range(folds):
        slope, height = np.polyfit(x[place != fold], y[place != fold], 1)
        error += float(((y - slope * x - height)[place == fold] ** 2).sum())
    return 1 - error / float(((y - y.mean()) ** 2).sum())


def test_unrelated_predictors_are_seldom_found_and_rows_as_replicates_find_them() -> None:
    pools = 5
    members = 6
    x, gain = unrelated(np.random.default_rng(0), pools, members)
    pairs = list(itertools.combinations(range(members), 2))
    singles = np.random.default_rng(1).standard_normal((TIMES, pools, members))
    a, b = np.triu_indices(members, 1)
    merges = candidates((singles[..., a] + singles[..., b]) / 2 + gain, pairs, "uniform_soup")
    alone = candidates(singles, [(k,) for k in range(members)], "single")
    features = merges[["population", "pool_id"]].assign(l2_distance=x.ravel())
    features[["member_a", "member_b"]] = merges["members"].to_list()
    found = predict_gain(pd.concat([merges, alone], ignore_index=True), features, predictors=["l2_distance"])
    rank, r2 = (found[found["quantity"] == name] for name in ("rank correlation", "leave-pool-out R²"))
    naive = [
        stats.spearmanr(*both).pvalue < 0.05 for both in zip(x.reshape(TIMES, -1), gain.reshape(TIMES, -1), strict=True)
    ]
    rows = [of_folds(*both) for both in zip(x.reshape(TIMES, -1), gain.reshape(TIMES, -1), strict=True)]
    numbers = {"qap": (rank["qap_p"] < 0.05).mean(), "t": (rank["p"] < 0.05).mean(), "rows": np.mean(naive)}
    numbers |= {"left out R²": r2["estimate"].mean(), "row folds R²": np.mean(rows)}
    assert 0.03 <= numbers["qap"] <= 0.08
    assert 0.03 <= numbers["t"] <= 0.08
    assert numbers["rows"] > 0.2
    assert numbers["left out R²"] < 0 < numbers["row folds R²"]


def test_a_predictor_that_follows_another_has_no_slope_of_its_own() -> None:
    pools = 4
    members = 6
    x, noise = unrelated(np.random.default_rng(2), pools, members)
    other, _ = unrelated(np.random.default_rng(3), pools, members)
    ends = np.array(list(itertools.combinations(range(members), 2)))
    gain = x + noise
    rejected = []
    for own, second, y in zip(x, x + other, gain, strict=True):
        dyads = [Pairs(str(k), ends, np.column_stack([own[k], second[k]]), y[k]) for k in range(pools)]
        rejected.append(qap_p(qap(dyads, 1, permutations=400, seed=0)[1]) < 0.05)
    assert 0.03 <= np.mean(rejected) <= 0.08


def test_pairs_that_depend_without_correlation_do_not_pass_for_it() -> None:
    # Members that are far from all others differ more in their gains, up as often as down.
    random = np.random.default_rng(4)
    a, b = np.triu_indices(6, 1)
    ends = np.stack([a, b], axis=1)
    plain = []
    studentised = []
    for _ in range(TIMES):
        pools = []
        for k in range(5):
            far, gain = random.standard_normal((2, 6))
            gain = 2 * gain * np.abs(far)
            x, y = (own[a] + own[b] + 0.5 * random.standard_normal(15) for own in (far, gain))
            pools.append(Pairs(str(k), ends, x[:, None], y).ranked())
        slopes, values = qap(pools, 0, permutations=400, seed=0)
        plain.append(qap_p(slopes) < 0.05)
        studentised.append(qap_p(values) < 0.05)
    assert np.mean(studentised) <= 0.095
    assert np.mean(plain) > 0.1


TRUTH = {"pool": 0.36, "member": 1.0, "subset": 0.16}


@pytest.mark.parametrize(
    ("pools", "members", "sizes", "least"),
    [(12, 6, (2, 3), {"pool": 0.84, "member": 0.89, "subset": 0.92}), (40, 5, (2,), {"pool": 0.9})],
)
def test_components_of_variance_are_right_on_average(
    pools: int, members: int, sizes: tuple[int, ...], least: dict[str, float]
) -> None:
    random = np.random.default_rng(pools)
    subsets = [subset for size in sizes for subset in itertools.combinations(range(members), size)]
    shares = np.array([[(k in subset) / len(subset) for k in range(members)] for subset in subsets])
    pool, member, subset = (np.sqrt(TRUTH[name]) for name in TRUTH)
    values = pool * random.standard_normal((TIMES, pools, 1))
    values = values + member * random.standard_normal((TIMES, pools, members)) @ shares.T
    values = values + subset * random.standard_normal((TIMES, pools, len(subsets))) + shares.max(axis=1)
    seeds = pd.DataFrame({"member_id": ["someone"], "init_seed": [None], "order_seed": [None]})
    found = variance(candidates(values / 100, subsets, "uniform_soup"), seeds)
    numbers = {}
    for name, truth in TRUTH.items():
        own = found[found["quantity"] == name]
        numbers[name] = (own["estimate"].mean(), ((own["low"] <= truth) & (truth <= own["high"])).mean())
    for name, truth in TRUTH.items():
        mean, covered = numbers[name]
        assert mean == pytest.approx(truth, rel=0.1)
        assert least.get(name, 0.9) <= covered <= 0.97
