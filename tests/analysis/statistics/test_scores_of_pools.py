"""Interquartile mean, probability of improvement and performance profiles: against scipy and loops over pools."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from analysis.core.errors import AnalysisError
from analysis.inference.stratified_bootstrap import Quantities, bootstrap, drawn_pools, tail
from analysis.statistics.improvement_probability import improvement_probability
from analysis.statistics.interquartile_mean import interquartile_mean, middle_mean
from analysis.statistics.performance_profile import performance_profile
from tests.helpers import rows

Array = NDArray[np.float64]
ALL = "all populations"


def candidates(**scores: list[tuple[float, float]]) -> pd.DataFrame:
    """A soup and an average of logits of two members in every pool, with these accuracies."""
    made = []
    for name, of in scores.items():
        for pool, (soup, average) in enumerate(of):
            own = {"population": name}
            made.append(rows.candidate(pool, (0, 1), "uniform_soup", accuracy=soup, cross_entropy=1 - soup, **own))
            other = {"space": "logits", "accuracy": average, "cross_entropy": 1 - average}
            made.append(rows.candidate(pool, (0, 1), "logit_average", **other, **own))
            made += [rows.candidate(pool, (k,), "single", accuracy=0.5 + 0.1 * k, **own) for k in range(2)]
    return rows.frame(made)


def drawn(n: int, seed: int) -> list[tuple[float, float]]:
    values = np.random.default_rng(seed).normal([0.7, 0.72], 0.03, (n, 2)).round(2)
    return [(float(a), float(b)) for a, b in values]


SCORES = {"cnn": drawn(11, 0), "mlp": drawn(5, 1), "vit": drawn(8, 2)}
ARRAYS = {name: np.array(of) for name, of in SCORES.items()}
LABELS = {"uniform_soup": 0, "logit_average": 1}


def test_the_interquartile_mean_is_the_trimmed_mean_of_scipy() -> None:
    found = interquartile_mean(candidates(**SCORES)).set_index(["population", "label"])
    for (name, values), (label, column) in itertools.product(ARRAYS.items(), LABELS.items()):
        row = found.loc[(name, label)]
        assert row["estimate"] == pytest.approx(stats.trim_mean(values[:, column], 0.25))
        assert row["n_units"] == len(values)
    pooled = np.concatenate(list(ARRAYS.values()))
    for label, column in LABELS.items():
        assert found.loc[(ALL, label), "estimate"] == pytest.approx(stats.trim_mean(pooled[:, column], 0.25))
    gains = interquartile_mean(candidates(**SCORES), relative_to="mean_member").set_index(["population", "label"])
    assert gains.loc[(ALL, "uniform_soup"), "estimate"] == pytest.approx(stats.trim_mean(pooled[:, 0], 0.25) - 0.55)
    assert "mean_member" not in gains.index.get_level_values(1)


def test_a_loss_keeps_its_unit_and_its_direction() -> None:
    frame = candidates(**SCORES)
    loss = interquartile_mean(frame, metric="cross_entropy", labels=list(LABELS))
    gain = interquartile_mean(frame, labels=list(LABELS))
    np.testing.assert_allclose(loss["estimate"], 1 - gain["estimate"])
    np.testing.assert_allclose(loss["low"], 1 - gain["high"])
    same = improvement_probability(frame, metric="cross_entropy")["estimate"]
    pd.testing.assert_series_equal(same, improvement_probability(frame)["estimate"])
    below = performance_profile(frame, metric="cross_entropy", labels=list(LABELS), thresholds=[0.285])
    above = performance_profile(frame, labels=list(LABELS), thresholds=[0.715])
    np.testing.assert_allclose(below["estimate"], above["estimate"])


def test_improvement_on_the_same_pool_is_the_share_of_wins() -> None:
    found = improvement_probability(candidates(**SCORES)).set_index("population")["estimate"]
    shares = {name: np.mean((np.sign(of[:, 0] - of[:, 1]) + 1) / 2) for name, of in ARRAYS.items()}
    assert found[list(shares)].tolist() == pytest.approx(list(shares.values()))
    assert found[ALL] == pytest.approx(np.mean(list(shares.values())))


def test_improvement_on_any_pools_is_mann_and_whitneys_u() -> None:
    found = improvement_probability(candidates(**SCORES), same_pool=False).set_index("population")["estimate"]
    for name, of in ARRAYS.items():
        assert found[name] == pytest.approx(stats.mannwhitneyu(of[:, 0], of[:, 1]).statistic / len(of) ** 2)
    assert found[ALL] == pytest.approx(found[list(ARRAYS)].mean())


@pytest.mark.parametrize("same_pool", [True, False])
def test_wins_in_every_pool_have_the_exact_limit(same_pool: bool) -> None:
    frame = candidates(cnn=[(0.9 + 0.01 * k, 0.5) for k in range(7)])
    (row,) = improvement_probability(frame, same_pool=same_pool).to_dict("records")
    exact = stats.binomtest(7, 7).proportion_ci(0.95, "exact")
    assert (row["estimate"], row["high"]) == (1, 1)
    assert row["low"] == pytest.approx(exact.low)
    (never,) = improvement_probability(frame, "logit_average", "uniform_soup").to_dict("records")
    assert (never["low"], never["high"]) == (0, pytest.approx(1 - exact.low))


def test_profiles_are_shares_of_pools() -> None:
    places = [0.6, 0.7, 0.72, 0.9]
    found = performance_profile(candidates(**SCORES), thresholds=places).set_index(["population", "label", "threshold"])
    for (name, of), (label, column), place in itertools.product(ARRAYS.items(), LABELS.items(), places):
        share = np.mean([value > place for value in of[:, column]])
        assert found.loc[(name, label, place), "estimate"] == pytest.approx(share)
    each = [found.loc[(name, "uniform_soup", 0.7), "estimate"] for name in ARRAYS]
    assert found.loc[(ALL, "uniform_soup", 0.7), "estimate"] == pytest.approx(np.mean(each))
    whole = performance_profile(candidates(**SCORES))
    assert whole.groupby(["population", "label"]).size().eq(21).all()
    assert whole.groupby(["population", "label"])["estimate"].apply(lambda one: (one.diff().dropna() <= 0).all()).all()


def test_draws_stay_in_their_strata_and_depend_on_the_seed_alone() -> None:
    strata = np.array(["b", "a", "b", "a", "a"], dtype=object)
    first = drawn_pools(strata, 500, 0)
    assert (strata[first] == np.array(["a", "a", "a", "b", "b"])).all()
    np.testing.assert_array_equal(first, drawn_pools(strata, 500, 0))
    assert (first != drawn_pools(strata, 500, 1)).any()
    frame = candidates(**SCORES)
    pd.testing.assert_frame_equal(interquartile_mean(frame), interquartile_mean(frame.sample(frac=1, random_state=0)))
    other = interquartile_mean(frame, seed=1)
    assert (other["low"] != interquartile_mean(frame)["low"]).any()


def test_draws_have_the_spread_of_all_resamples() -> None:
    values = np.array([0.1, 0.4, 0.5, 0.9, 1.3])[:, None]
    strata = np.array(["a", "a", "b", "b", "b"], dtype=object)
    every = [
        middle_mean(values[[*first, *second]], strata)[0]
        for first in itertools.product((0, 1), repeat=2)
        for second in itertools.product((2, 3, 4), repeat=3)
    ]
    (found,) = bootstrap(values, strata, middle_mean, Quantities(["x"]))
    assert len(every) == 108
    assert found.se == pytest.approx(np.std(every), rel=0.05)
    share = tail(strata)
    assert share == pytest.approx(stats.norm.cdf(math.sqrt(5 / 3) * stats.t(3).ppf(0.025)))
    low, high = np.quantile(every, [share, 1 - share], method="inverted_cdf")
    assert found.low == pytest.approx(low, abs=0.02)
    assert found.high == pytest.approx(high, abs=0.02)


def test_many_pools_have_the_plain_percentiles() -> None:
    assert tail(np.array(["a"] * 5000, dtype=object)) == pytest.approx(0.025, abs=1e-4)


def test_few_pools_and_methods_without_common_subsets_are_named() -> None:
    found = interquartile_mean(candidates(**SCORES))
    few = found["warnings"].map(lambda texts: any("is too narrow" in text for text in texts))
    assert set(found.loc[few, "population"]) == {"mlp"}
    with pytest.raises(AnalysisError, match="did you mean `mean_member`"):
        interquartile_mean(candidates(**SCORES), relative_to="mean_membr")
    lone = pd.concat([candidates(cnn=SCORES["cnn"]), rows.frame([rows.candidate(0, (0, 1), "dare", population="b")])])
    pair = improvement_probability(lone)
    assert pair["population"].tolist() == ["cnn"]
    assert "population b left out: no two methods on the same subsets" in pair["warnings"].iloc[0]
