"""Templates inside the weights: patterns against permuted classes, and means over pools."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.core.errors import AnalysisError
from analysis.statistics.patterns import patterns
from analysis.statistics.templates import templates
from tests.helpers import model_rows, rows


def resemblances(matrices: dict[tuple[int, int], np.ndarray], **values: Any) -> pd.DataFrame:
    """Templates of members (pool, index), from their matrix of correlations."""
    made = []
    for (pool, member), matrix in matrices.items():
        row = rows.templates(pools=1, members=1, classes=1)[0] | model_rows.about(pool, (member,), "people") | values
        places = itertools.product(range(len(matrix)), repeat=2)
        made += [row | {"template_class": a, "mean_class": b, "correlation": float(matrix[a, b])} for a, b in places]
    return rows.frame(made, "templates")


def test_a_pattern_by_hand() -> None:
    one = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.1], [0.0, 0.2, 0.7]])
    found = patterns(resemblances({(0, 0): one, (0, 1): 0 * one, (1, 0): one})).iloc[0]
    whole = 0.8 - 0.1
    assert found["estimate"] == pytest.approx((whole / 2 + whole) / 2)
    assert found["permutation_p"] == 1 / 6
    assert (found["n_units"], found["verdict"]) == (2, "inconclusive")


def score(matrix: np.ndarray) -> float:
    """T by its definition."""
    c = len(matrix)
    return float(np.trace(matrix) / c - (matrix.sum() - np.trace(matrix)) / (c * (c - 1)))


def test_exact_permutations_are_those_of_scipy() -> None:
    random = np.random.default_rng(4)
    matrices = {(pool, member): random.normal(0.1 * np.eye(5)) for pool in range(3) for member in range(2)}
    mean = np.mean(list(matrices.values()), axis=0)

    def permuted(order: np.ndarray) -> float:
        return score(mean[:, order.astype(int)])

    kind = {"permutation_type": "pairings", "alternative": "greater", "n_resamples": np.inf}
    reference = stats.permutation_test((np.arange(5),), permuted, vectorized=False, **kind)
    found = patterns(resemblances(matrices)).iloc[0]
    assert found["estimate"] == pytest.approx(permuted(np.arange(5)))
    assert found["permutation_p"] == pytest.approx(reference.pvalue)
    assert 0.01 < found["permutation_p"] < 0.99
    pools = [np.mean([score(matrices[pool, member]) for member in range(2)]) for pool in range(3)]
    against = stats.ttest_1samp(pools, 0)
    interval = against.confidence_interval()
    np.testing.assert_allclose([found["low"], found["high"]], [interval.low, interval.high])
    assert found["p"] == pytest.approx(against.pvalue)


def test_drawn_permutations_are_near_the_exact_share_and_follow_their_seed() -> None:
    # Diagonals of 1 and a rest of 0: T is as large only if no class moves, 1 / 8! of all permutations.
    sharp = resemblances({(pool, 0): np.eye(8) for pool in range(2)})
    assert patterns(sharp)["permutation_p"].item() == 1 / 10_001
    # Two templates alike: any order with at least the one fixed point that counts, so the share is 1 / 8.
    loose = np.zeros((8, 8))
    loose[0, 0] = 1.0
    made = resemblances({(pool, 0): loose for pool in range(2)})
    first, again, other = (patterns(made, seed=seed)["permutation_p"].item() for seed in (0, 0, 1))
    assert first == again != other
    assert first == pytest.approx(1 / 8, abs=0.015)


def test_templates_without_a_pair_or_a_number_are_left_out_and_counted() -> None:
    made = resemblances({(pool, member): np.eye(3) for pool in range(2) for member in range(2)})
    hole = (made["model_id"] == "people-0-0") & (made["template_class"] == 0) & (made["mean_class"] == 1)
    found = patterns(made[~hole]).iloc[0]
    assert (found["estimate"], found["warnings"][0]) == (1.0, "1 model left out: not every pair of classes")
    found = patterns(made.assign(correlation=made["correlation"].mask(hole))).iloc[0]
    assert (found["n_units"], found["warnings"][0]) == (2, "1 model left out: a correlation is not finite")
    none = patterns(made[made["template_class"] != made["mean_class"]]).iloc[0]
    assert (none["n_units"], math.isnan(none["permutation_p"])) == (0, True)


def test_models_of_different_classes_are_never_one_pattern() -> None:
    few, many = (resemblances({(pool, 0): np.eye(count)}) for pool, count in enumerate((3, 4)))
    with pytest.raises(AnalysisError, match="different classes"):
        patterns(pd.concat([few, many]))
    assert len(patterns(pd.concat([few, many.assign(population="others")]))) == 2


def test_shuffled_labels_and_trainings_are_rows_of_their_own() -> None:
    matrices = {(pool, 0): np.eye(4) for pool in range(2)}
    parts = [resemblances(matrices, weight_decay=wd, labels=kind) for wd in (0.1, 1.0) for kind in ("true", "shuffled")]
    whole = pd.concat([part.assign(model_id=f"{i}" + part["model_id"]) for i, part in enumerate(parts)])
    found = patterns(whole)
    assert list(zip(found["weight_decay"], found["labels"], strict=True)) == [
        (0.1, "shuffled"),
        (0.1, "true"),
        (1.0, "shuffled"),
        (1.0, "true"),
    ]


def test_templates_are_means_over_pools_of_the_mean_over_classes() -> None:
    frame = rows.frame(rows.templates(pools=3, members=2), "templates")
    own = frame[(frame["template_class"] == frame["mean_class"]) & (frame["kind"] == "member")]
    found = templates(frame).set_index(["quantity", "n_members"])
    names = {"correlation": "correlation with the own class's mean", "agreement": "agreement across seeds"}
    for column, name in names.items():
        pools = own.groupby("pool_id")[column].mean()
        interval = stats.ttest_1samp(pools, 0).confidence_interval(0.95)
        reported = found.loc[(name, 1), ["estimate", "low", "high"]].to_numpy(float)
        np.testing.assert_allclose(reported, [pools.mean(), interval.low, interval.high], rtol=1e-9)
    missing = frame["stationarity_gap"].mask(frame["pool"] == 0)
    found = templates(frame.assign(stationarity_gap=missing)).set_index(["quantity", "n_members"])
    gap = found.loc[("stationarity gap", 1)]
    assert (gap["n_units"], gap["warnings"][0]) == (2, "2 models left out: no stationarity gap")
