"""Inside the weights: shapes of tensors against plain computations, and models that are never mixed."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.core.errors import AnalysisError
from analysis.rows.run import load
from analysis.statistics.layers import APART, ARITHMETIC, SCOPE, VARIANCE, layers
from analysis.statistics.patterns import patterns
from analysis.statistics.templates import templates
from tests.helpers import model_rows, rows

Weights = dict[tuple[int, int], np.ndarray]


def entries(pools: int = 3, members: int = 4, size: int = 500) -> Weights:
    """One tensor per member of each pool, whose members resemble each other."""
    random = np.random.default_rng(2)
    made = {}
    for pool in range(pools):
        shared = random.normal(0.1, 1 + 0.1 * pool, size)
        for member in range(members):
            made[pool, member] = shared + (1 + 0.2 * member) * random.standard_t(6, size) + 0.05 * member
    return made


def described(tensor: np.ndarray, pool: int, members: tuple[int, ...]) -> dict[str, Any]:
    row = rows.layers(pools=pool + 1, members=max(members) + 1)[0] | model_rows.about(pool, members, "people")
    shapes = {"mean": tensor.mean(), "std": tensor.std(), "skewness": stats.skew(tensor)}
    return row | shapes | {"kurtosis": stats.kurtosis(tensor), "norm": float(np.linalg.norm(tensor))}


def tensors(made: Weights, size: int = 2) -> pd.DataFrame:
    """Rows of every member and of the uniform soup of every subset of one size."""
    reported = [described(tensor, pool, (member,)) for (pool, member), tensor in made.items()]
    for pool in sorted({pool for pool, _ in made}):
        own = [member for where, member in made if where == pool]
        for subset in itertools.combinations(own, size):
            soup = np.mean([made[pool, member] for member in subset], axis=0)
            reported.append(described(soup, pool, subset))
    return rows.frame(reported, "layers")


def test_shapes_are_means_over_pools_of_the_mean_over_models() -> None:
    made = entries()
    found = layers(tensors(made)).set_index(["n_members", "quantity"])
    for name, of in (("std", np.std), ("skewness", stats.skew), ("excess kurtosis", stats.kurtosis)):
        pools = [np.mean([of(tensor) for (pool, _), tensor in made.items() if pool == which]) for which in range(3)]
        interval = stats.ttest_1samp(pools, 0).confidence_interval(0.95)
        reported = found.loc[(1, name), ["estimate", "low", "high"]].to_numpy(float)
        np.testing.assert_allclose(reported, [np.mean(pools), interval.low, interval.high], rtol=1e-9)
    assert found["p"].isna().all()


@pytest.mark.parametrize("size", [2, 3])
def test_the_variance_ratio_is_the_identity_of_correlated_entries(size: int) -> None:
    made = entries()
    expected = []
    for pool in range(3):
        own = np.stack([made[pool, member] for member in range(4)])
        ratios = []
        for subset in itertools.combinations(range(4), size):
            covariance = np.cov(own[list(subset)], bias=True)
            ratios.append(covariance.mean() / np.trace(covariance) * size)
        expected.append(np.mean(ratios))
    found = layers(tensors(made, size)).set_index(["quantity", "n_members"])
    assert found.loc[(VARIANCE, size), "estimate"] == pytest.approx(np.mean(expected))
    assert VARIANCE not in found.loc[found.index.get_level_values("n_members") == 1].index


def test_members_of_equal_variance_shrink_as_arithmetic_says() -> None:
    rho = 0.3
    n = 3
    size = 200_000
    random = np.random.default_rng(0)
    shared = random.standard_normal(size)
    each = math.sqrt(rho) * shared + math.sqrt(1 - rho) * random.standard_normal((2, n, size))
    made = {(pool, member): each[pool, member] for pool in range(2) for member in range(n)}
    found = layers(tensors(made, n)).set_index("quantity")
    assert found.loc[VARIANCE, "estimate"] == pytest.approx((1 + (n - 1) * rho) / n, rel=0.01)


def test_the_mismatch_is_the_divergence_of_two_gaussians_both_ways() -> None:
    made = entries(pools=1, members=2)
    first, second = (stats.norm(tensor.mean(), tensor.std()) for tensor in made.values())
    x = np.linspace(-40, 40, 400_001)
    both = [np.trapezoid(p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), x) for p, q in ((first, second), (second, first))]
    found = layers(tensors(made)).set_index("quantity").loc[SCOPE]
    assert found["estimate"] == pytest.approx(np.mean(both), rel=1e-6)
    assert found["n_members"] == 1


def test_equal_members_do_not_mismatch() -> None:
    made = entries(members=1)
    twins = {(pool, member): made[pool, 0] for pool in range(3) for member in range(2)}
    found = layers(tensors(twins)).set_index("quantity")
    assert found.loc[SCOPE, "estimate"] == pytest.approx(0, abs=1e-12)
    assert found.loc[VARIANCE, "estimate"] == pytest.approx(1)


def test_tensors_that_cannot_be_described_are_counted() -> None:
    frame = tensors(entries())
    first = frame["model_id"] == "people-0-0"
    still = layers(frame.assign(std=frame["std"].mask(first, 0.0))).set_index(["quantity", "n_members"])
    assert still.loc[(SCOPE, 1), "warnings"] == ("3 pairs left out: no spread",)
    assert still.loc[(SCOPE, 1), "n_units"] == 3
    missing = layers(frame[~first]).set_index(["quantity", "n_members"])
    assert missing.loc[(VARIANCE, 2), "warnings"] == ("3 merges left out: no spread, or a member without a row",)
    wild = layers(frame.assign(kurtosis=frame["kurtosis"].mask(first, np.inf))).set_index(["quantity", "n_members"])
    assert wild.loc[("excess kurtosis", 1), "warnings"] == ("1 model left out: not finite",)


def test_members_alone_have_no_variance_ratio() -> None:
    frame = tensors(entries())
    found = layers(frame[frame["kind"] == "member"])
    assert set(found["quantity"]) == {"std", "skewness", "excess kurtosis", "QQ correlation", "norm", SCOPE}


def test_arithmetic_stands_beside_the_variance_ratio() -> None:
    frame = tensors(entries(), 3).assign(member_correlation=0.25)
    found = layers(frame).set_index(["quantity", "n_members"])
    assert found.loc[(ARITHMETIC, 3), "estimate"] == pytest.approx((1 + 2 * 0.25) / 3)
    assert (ARITHMETIC, 1) not in found.index
    unknown = layers(frame.assign(member_correlation=np.nan)).set_index(["quantity", "n_members"])
    assert unknown.loc[(ARITHMETIC, 3), "warnings"][0] == "12 merges left out: no correlation of its members"


def test_a_merge_mismatches_with_its_own_members() -> None:
    made = entries(pools=2, members=3)
    expected = []
    for pool in range(2):
        own = [made[pool, member] for member in range(3)]
        values = []
        for a, b in itertools.combinations(range(3), 2):
            soup = (own[a] + own[b]) / 2
            values += [(_divergence(soup, each) + _divergence(each, soup)) / 2 for each in (own[a], own[b])]
        expected.append(np.mean(values))
    found = layers(tensors(made)).set_index(["quantity", "n_members"])
    assert found.loc[(APART, 2), "estimate"] == pytest.approx(np.mean(expected))
    assert (APART, 1) not in found.index


def _divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Kullback-Leibler, of the Gaussians of two tensors."""
    apart = (p.mean() - q.mean()) ** 2
    return float(np.log(q.std() / p.std()) + (p.var() + apart) / (2 * q.var()) - 0.5)


def test_aligned_merges_are_groups_of_their_own() -> None:
    frame = tensors(entries())
    moved = frame[frame["kind"] == "merge"].assign(alignment="weight_matching", model_id="a" + frame["model_id"])
    found = layers(pd.concat([frame, moved]))
    assert set(found.loc[found["n_members"] == 2, "alignment"]) == {"none", "weight_matching"}
    with pytest.raises(AnalysisError, match="mixes several values of `alignment`"):
        layers(pd.concat([frame, moved]), by=["population", "method", "settings", "n_members", "tensor"])


def test_unlike_models_are_never_mixed() -> None:
    with pytest.raises(AnalysisError, match="mixes several values of `n_members`"):
        layers(rows.frame(rows.layers(), "layers"), by=["population", "method", "settings", "tensor"])
    made = rows.frame(rows.templates(), "templates")
    shuffled = made.assign(model_id="s" + made["model_id"], labels="shuffled")
    with pytest.raises(AnalysisError, match="mixes several values of `labels`"):
        patterns(pd.concat([made, shuffled]), by=["population", "method", "settings", "n_members"])


def test_a_run_folder_gives_what_its_rows_give(tmp_path: Path) -> None:
    run = load(rows.run_folder(tmp_path / "run"))
    plain = rows.tables()
    pd.testing.assert_frame_equal(layers(run.table("layers")), layers(plain["layers"]), check_exact=True)
    pd.testing.assert_frame_equal(patterns(run.table("templates")), patterns(plain["templates"]), check_exact=True)
    pd.testing.assert_frame_equal(templates(run.table("templates")), templates(plain["templates"]), check_exact=True)
