"""Diversity and ambiguity from the outputs of candidates against plain computations, and their figures."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.core.errors import AnalysisError
from analysis.figures.calibration import calibration as calibration_figure
from analysis.figures.diversity import diversity as diversity_figure
from analysis.statistics.diversity import diversity
from tests.helpers import rows
from tests.helpers.engine import trained
from tests.helpers.predictions import (
    CLASSES_A,
    CLASSES_B,
    RIGHT_A,
    RIGHT_B,
    both,
    by_label,
    prediction,
    probabilistic_prediction,
    singles,
    some_logits,
)


def test_diversity_by_hand() -> None:
    one, other = singles()
    made = [prediction(one, RIGHT_A, CLASSES_A), prediction(other, RIGHT_B, CLASSES_B)]
    found = by_label(diversity, [one, other], made)
    # Both right 5, one alone 2 and 1, both wrong 2, once with different classes.
    assert found["", 2, "disagreement"].estimate == pytest.approx(0.4)
    assert found["", 2, "Q"].estimate == pytest.approx((5 * 2 - 2 * 1) / (5 * 2 + 2 * 1))
    expected = np.corrcoef(RIGHT_A, RIGHT_B)[0, 1]
    assert found["", 2, "error correlation"].estimate == pytest.approx(expected)
    assert found["", 2, "Q"].warnings[-1] == "no ambiguity: no rows of `probability_average`"


def test_diversity_is_averaged_in_pools_first() -> None:
    random = np.random.default_rng(0)
    candidates = [*singles(0, 4), *singles(1, 2), *singles(2, 3)]
    right = {row["candidate_id"]: random.integers(0, 2, 300) for row in candidates}
    made = [prediction(row, right[row["candidate_id"]].tolist(), right[row["candidate_id"]]) for row in candidates]
    per_pool = []
    for pool in range(3):
        own = [right[row["candidate_id"]] for row in candidates if row["pool"] == pool]
        per_pool.append(np.mean([np.corrcoef(a, b)[0, 1] for a, b in itertools.combinations(own, 2)]))
    one = by_label(diversity, candidates, made)["", 2, "error correlation"]
    assert one.estimate == pytest.approx(np.mean(per_pool))
    assert one.se == pytest.approx(np.std(per_pool, ddof=1) / 3**0.5)


def test_measures_that_are_not_defined_are_left_out_and_counted() -> None:
    candidates = singles(0, 3)
    perfect = [1] * 10
    some = [1] * 8 + [0, 0]
    made = [prediction(candidates[0], perfect, perfect)]
    made += [prediction(row, right, right) for row, right in zip(candidates[1:], (some, some[::-1]), strict=True)]
    found = by_label(diversity, candidates, made)
    assert found["", 2, "disagreement"].estimate == pytest.approx((0.2 + 0.2 + 0.4) / 3)
    assert found["", 2, "error correlation"].estimate == pytest.approx(np.corrcoef(some, some[::-1])[0, 1])
    assert (
        "2 pairs left out: a member that is always right or always wrong" in found["", 2, "error correlation"].warnings
    )
    assert np.isnan(found["", 2, "Q"].estimate)
    assert "3 pairs left out: an empty cell of the table of right and wrong" in found["", 2, "Q"].warnings


def test_members_without_outputs_are_left_out_and_counted() -> None:
    candidates = [*singles(0, 3), *singles(1, 1), *singles(2, 2, status="failed")]
    made = [prediction(row, RIGHT_A, CLASSES_A) for row in (candidates[0], candidates[2], candidates[3])]
    one = by_label(diversity, candidates, made)["", 2, "disagreement"]
    assert (one.estimate, one.n_units) == (0.0, 1)
    assert {"2 pairs left out: no predictions", "1 pair left out: a pool of one member"} <= set(one.warnings)
    assert {"1 pair left out: failed", "2 pools without a usable pair"} <= set(one.warnings)


def test_classes_beyond_a_byte_are_distinguished() -> None:
    one, other = singles()
    made = [prediction(one, [0, 0], [300, 44]), prediction(other, [0, 0], [300 - 256, 44])]
    made[1]["classes"] = np.array([300 - 256, 44], "<u2").tobytes()
    assert by_label(diversity, [one, other], made)["", 2, "disagreement"].estimate == 0.5


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [("classes", b"123", "3 bytes of classes"), ("correct", b"1234", "4 bytes of `correct`")],
)
def test_outputs_of_another_length_are_refused(column: str, value: bytes, what: str) -> None:
    one, other = singles()
    made = [prediction(one, RIGHT_A, CLASSES_A), prediction(other, RIGHT_B, CLASSES_B) | {column: value}]
    with pytest.raises(AnalysisError, match=what):
        by_label(diversity, [one, other], made)


def test_members_on_different_examples_are_refused() -> None:
    one, other = singles()
    made = [prediction(one, RIGHT_A, CLASSES_A), prediction(other, RIGHT_B[:8], CLASSES_B[:8])]
    with pytest.raises(AnalysisError, match="members of one pool with 8 and 10 examples"):
        by_label(diversity, [one, other], made)


def test_the_brier_score_of_averaged_probabilities_is_the_mean_less_the_ambiguity() -> None:
    """On trained networks: the table's ambiguity is the spread of probabilities that are computed beside it."""
    pool = trained("{mlp: {hidden: [16], dropout: 0}}", "scratch")
    images, labels = pool.test_split()
    with torch.no_grad():
        each = torch.stack([pool.model(state)(images).double().softmax(1) for state in pool.states]).numpy()
    truth = np.eye(10)[labels.numpy()]
    candidates = []
    made = []
    for subset in [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]:
        method = "single" if len(subset) == 1 else "probability_average"
        outcome, predicted = pool.evaluator().evaluate(pool.candidate(method, *subset), ("test",))[0]
        assert predicted is not None
        candidates.append(rows.candidate(0, subset, method, brier=outcome["brier"], space="logits"))
        made.append(predicted | {"candidate_id": candidates[-1]["candidate_id"]})
    found = by_label(diversity, candidates, made)
    for size in (2, 3):
        spread = []
        identity = []
        for subset in itertools.combinations(range(3), size):
            own = each[list(subset)]
            spread.append(np.square(own - own.mean(0)).sum(2).mean())
            identity.append(np.square(own - truth).sum(2).mean() - np.square(own.mean(0) - truth).sum(1).mean())
        np.testing.assert_allclose(identity, spread, atol=1e-12)
        assert found["", size, "ambiguity"].estimate == pytest.approx(np.mean(spread), abs=1e-6)
        assert found["", size, "ambiguity"].estimate > 1e-3


def test_a_soup_that_collapses_does_not_flatten_the_figures() -> None:
    candidates = singles(0, 3)
    for subset in itertools.combinations(range(3), 2):
        candidates.append(rows.candidate(0, subset, "probability_average", space="logits", brier=0.09))
        candidates.append(rows.candidate(0, subset, "uniform_soup", brier=0.9, repair="reset_bn"))
    made = both(candidates)
    missing = [row["candidate_id"] for row in candidates if row["method"] == "uniform_soup"]
    made = [row for row in made if row["candidate_id"] not in missing]
    for candidate in candidates:
        if candidate["candidate_id"] in missing:
            made += [probabilistic_prediction(candidate, -9 * some_logits(600, 4, 7)[0], some_logits(600, 4, 7)[1])]
    frames = rows.frame(candidates), rows.frame(made, "predictions")
    gains = diversity_figure(*frames)
    assert [axes.get_yscale() for axes in gains.figure.axes] == ["linear", "symlog"]
    assert {"probability_average", "uniform_soup + reset_bn"} <= set(gains.data["label"])
    assert [axes.get_xscale() for axes in calibration_figure(*frames).figure.axes] == ["log", "linear"]


def test_figures_show_what_is_known_where_some_is_not() -> None:
    candidates = singles(0, 2)
    plot = diversity_figure(rows.frame(candidates), rows.frame(both(candidates), "predictions"))
    texts = [text.get_text() for text in plot.figure.axes[1].texts]
    assert texts == ["no Brier scores of probability_average or of soups (metrics: [brier])"]
    assert isinstance(plot.data, pd.DataFrame)
    assert set(plot.data["label"]) == {"single"}
