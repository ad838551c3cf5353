"""Average ranks: the example of Demsar (2006), scipy, and the scores of pools by loops over subsets."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from analysis.core.errors import AnalysisError
from analysis.inference.rank_tests import block_ranks, critical_difference, indistinguishable, rank_test
from analysis.statistics.ranks import AVERAGE, DIFFERENCE, ranks
from tests.helpers import rows

Array = NDArray[np.float64]

# Table 6 of Demsar (2006): AUC of C4.5, C4.5+m, C4.5+cf and C4.5+m+cf. The ranks there show that .975 and .975 in the
# row of voting differ in a digit that is not printed.
AUC = np.array(
    [
        *([0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967]),
        *([0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931]),
        *([0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875]),
        *([1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669]),
        *([0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970]),
    ]
)


def test_the_published_example() -> None:
    own = block_ranks(AUC)
    np.testing.assert_allclose(own.mean(axis=0), [3.143, 2.000, 2.893, 1.964], atol=5e-4)
    n, k = own.shape
    plain = 12 * n / (k * (k + 1)) * ((own.mean(axis=0) ** 2).sum() - k * (k + 1) ** 2 / 4)
    assert plain == pytest.approx(9.28, abs=5e-3)
    assert (n - 1) * plain / (n * (k - 1) - plain) == pytest.approx(3.69, abs=5e-3)
    test = rank_test(own)
    # The published statistic is not corrected for ties: its variation of ranks is that of 1 to k in every block.
    variation = (own**2).sum() - n * k * (k + 1) ** 2 / 4
    assert test.chi2 * variation / (n * k * (k * k - 1) / 12) == pytest.approx(plain)
    assert critical_difference(n, k) == pytest.approx(1.25, abs=5e-3)
    differ = np.argwhere(np.triu(test.nemenyi < 0.1)).tolist()
    assert differ == [[0, 1], [0, 3]]
    assert not (test.nemenyi < 0.05).any()


def test_critical_values_are_those_of_the_published_table() -> None:
    published = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
    found = [critical_difference(1, k) / math.sqrt(k * (k + 1) / 6) for k in range(2, 11)]
    np.testing.assert_allclose(found, published, atol=1.1e-3)


@pytest.mark.parametrize("digits", [1, 6])
def test_friedman_with_and_without_ties_is_that_of_scipy(digits: int) -> None:
    scores = np.random.default_rng(0).standard_normal((9, 5)).round(digits)
    test = rank_test(block_ranks(scores))
    reference = stats.friedmanchisquare(*scores.T)
    assert test.chi2 == pytest.approx(reference.statistic)
    assert test.f == pytest.approx(8 * test.chi2 / (9 * 4 - test.chi2))
    assert test.p == pytest.approx(stats.f(4, 32).sf(test.f))


def test_pairs_are_those_of_the_formulas_of_nemenyi_and_conover() -> None:
    scores = np.random.default_rng(1).normal([0, 0.5, 1, 1.5], 1, (7, 4)).round(1)
    own = block_ranks(scores)
    test = rank_test(own)
    n, k = own.shape
    sums = own.sum(axis=0)
    raw = {}
    for i, j in itertools.combinations(range(k), 2):
        q = abs(sums[i] - sums[j]) / n / math.sqrt(k * (k + 1) / (6 * n)) * math.sqrt(2)
        assert test.nemenyi[i, j] == test.nemenyi[j, i] == pytest.approx(stats.studentized_range.sf(q, k, np.inf))
        # Conover (1999), section 5.8, equation 6.
        error = math.sqrt(2 * (n * (own**2).sum() - (sums**2).sum()) / ((n - 1) * (k - 1)))
        raw[i, j] = 2 * stats.t((n - 1) * (k - 1)).sf(abs(sums[i] - sums[j]) / error)
    ordered = sorted(raw, key=lambda pair: raw[pair])
    least = 0.0
    for place, pair in enumerate(ordered):
        least = max(least, min(1.0, raw[pair] * (len(raw) - place)))
        assert test.conover[pair] == pytest.approx(least)


def test_methods_that_never_change_places_have_p_zero_and_equal_ones_none() -> None:
    same = rank_test(block_ranks(np.tile([3.0, 2.0, 1.0], (6, 1))))
    assert (same.p, same.f) == (0.0, math.inf)
    assert same.conover[0, 1] == 0
    flat = rank_test(block_ranks(np.ones((6, 3))))
    assert math.isnan(flat.p)
    assert np.isnan(flat.nemenyi).all()


def test_groups_are_the_longest_runs_without_a_difference() -> None:
    average = np.array([1.0, 2.0, 3.0, 5.0, 5.5])
    for difference in (0.2, 0.9, 1.5, 2.2, 2.6, 9.0):
        runs = indistinguishable(average, difference)
        every = {pair for first, last in runs for pair in itertools.combinations(range(first, last + 1), 2)}
        assert every == {(i, j) for i, j in itertools.combinations(range(5), 2) if average[j] - average[i] < difference}
        assert not any(set(range(a, b + 1)) < set(range(c, d + 1)) for a, b in runs for c, d in runs)


def test_false_differences_of_equal_methods_are_rare() -> None:
    random = np.random.default_rng(0)
    for blocks, methods in ((8, 3), (15, 6)):
        scores = random.standard_normal((4000, blocks, methods))
        average = scores.argsort(axis=-1).argsort(axis=-1).mean(axis=1)
        false = (np.ptp(average, axis=-1) >= critical_difference(blocks, methods)).mean()
        assert 0.015 <= false <= 0.055
        found = [rank_test(block_ranks(one)).p < 0.05 for one in scores[:200]]
        assert 0.01 <= np.mean(found) <= 0.09


def made(seed: int = 0, **counts: int) -> pd.DataFrame:
    """Several populations with some pools each."""
    frames = [rows.candidates(pools=n, population=name, seed=seed + k) for k, (name, n) in enumerate(counts.items())]
    return rows.frame([row for frame in frames for row in frame])


def scores_by_loops(frame: pd.DataFrame, labels: dict[str, tuple[str, str]], column: str = "accuracy") -> pd.DataFrame:
    """The score of each pool: the mean over its subsets of a size, then over sizes."""
    plain = frame[(frame["scaling"] == "none") & (frame["n_members"] > 1)]
    found = {}
    for label, (method, settings) in labels.items():
        own = plain[(plain["method"] == method) & (plain["settings"] == settings)]
        sizes = own.groupby(["population", "pool_id", "n_members"])[column].mean()
        found[label] = sizes.groupby(level=[0, 1]).mean()
    return pd.DataFrame(found)


LABELS = {
    "feature_average (head=average)": ("feature_average", '{"head": "average"}'),
    "logit_average": ("logit_average", "{}"),
    "uniform_soup": ("uniform_soup", "{}"),
}


@pytest.mark.parametrize(("metric", "sign"), [("accuracy", 1), ("cross_entropy", -1)])
def test_ranks_of_pools_are_those_of_their_scores(metric: str, sign: int) -> None:
    frame = made(people=6)
    frame["accuracy"] += np.random.default_rng(3).normal(0, 0.02, len(frame))
    frame["cross_entropy"] = 1 - frame["accuracy"] ** 3
    found = ranks(frame, labels=list(LABELS), metric=metric)
    scores = scores_by_loops(frame, LABELS, metric)
    own = (-sign * scores).rank(axis=1)
    average = found[found["quantity"] == AVERAGE].set_index("label")["estimate"]
    assert average.is_monotonic_increasing
    pd.testing.assert_series_equal(average.sort_index(), own.mean(), check_names=False)
    reference = stats.friedmanchisquare(*(sign * scores).to_numpy().T)
    assert found["friedman_chi2"].iloc[0] == pytest.approx(reference.statistic)
    pair = found[found["quantity"] == DIFFERENCE].iloc[0]
    gaps = own[pair["label"]] - own[pair["versus"]]
    interval = stats.ttest_1samp(gaps, 0).confidence_interval()
    np.testing.assert_allclose([pair["estimate"], pair["low"], pair["high"]], [gaps.mean(), *interval])


def test_cells_are_ranked_by_their_means() -> None:
    frame = made(a=3, b=4, c=5, d=2)
    found = ranks(frame, labels=list(LABELS), over="cells")
    means = scores_by_loops(frame, LABELS).groupby(level=0).mean()
    own = (-means).rank(axis=1).mean()
    average = found[found["quantity"] == AVERAGE].set_index("label")["estimate"].sort_index()
    pd.testing.assert_series_equal(average, own, check_names=False)
    assert set(found["unit"]) == {"cell"}
    assert set(found["n_units"]) == {4}


def test_methods_on_few_subsets_are_left_out_with_a_note() -> None:
    made_rows = rows.candidates(pools=3)
    made_rows += [rows.candidate(pool, (0, 1, 2, 3), "greedy_halving") for pool in range(3)]
    made_rows += [rows.candidate(pool, (0, 1, 2, 3), "uniform_soup") for pool in range(3)]
    found = ranks(rows.frame(made_rows))
    assert "greedy_halving" not in set(found["label"])
    assert found["warnings"].iloc[0][:2] == (
        "3 subsets left out: not evaluated with every method",
        "methods left out, on other subsets: greedy_halving",
    )
    both = ranks(rows.frame(made_rows), labels=["greedy_halving", "uniform_soup"])
    assert both["n_units"].tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"labels": ["uniform_soup", "logit_averag"]}, "did you mean `logit_average`"),
        ({"labels": ["uniform_soup"]}, "two or more methods"),
        ({"over": "pool"}, "did you mean `pools`"),
        ({"metric": "nope"}, "missing column `nope`"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        ranks(made(people=2), **values)


def test_populations_without_a_common_subset_give_no_ranks_over_cells() -> None:
    """Of the second method every row failed, in both populations."""
    made = []
    for population in ("a", "b"):
        for pool in range(2):
            made.append(rows.candidate(pool, (0, 1), "uniform_soup", population=population))
            failed = {"status": "failed", "error": "boom", "accuracy": None}
            made.append(rows.candidate(pool, (0, 1), "median", population=population, **failed))
    found = ranks(rows.frame(made), labels=["uniform_soup", "median"], over="cells")
    assert found["n_units"].tolist() == [0] * len(found)
