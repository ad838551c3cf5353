"""What is told from the outputs of candidates, against plain computations: diversity, ambiguity, calibration."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rows
import torch
from engine import trained
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import binom
from sklearn.metrics import log_loss

from analysis import reliability
from analysis.errors import AnalysisError, NothingToDrawError
from analysis.figures.calibration import calibration as calibration_figure
from analysis.figures.diversity import diversity as diversity_figure
from analysis.reliability import Reliability
from analysis.statistics.calibration import QUANTITIES, TEMPERED, calibration
from analysis.statistics.diversity import diversity
from sweep.metrics.ece import ece as ece_of_sweep

Row = dict[str, Any]


def prediction(candidate: Row, right: list[int], classes: list[int], **values: Any) -> Row:
    """A row of `predictions` without probabilities."""
    row = {"candidate_id": candidate["candidate_id"], "split": "test", "n_examples": len(right)}
    kind = np.uint8 if max(classes) < 256 else "<u2"
    packed = {"correct": np.packbits(right).tobytes(), "classes": np.array(classes, kind).tobytes()}
    return row | packed | values


def spoken(candidate: Row, logits: np.ndarray, labels: np.ndarray, split: str = "test") -> Row:
    """A row of `predictions` with probabilities."""
    log_p, said = log_softmax(logits, axis=1), logits.argmax(1)
    packed = {"labels": labels.astype(np.uint8).tobytes(), "log_probabilities": log_p.astype("<f2").tobytes()}
    return prediction(candidate, (said == labels).tolist(), said.tolist(), split=split, **packed)


def told(
    statistic: Any, candidates: list[Row], predictions: list[Row], **settings: Any
) -> dict[tuple[str, int, str], Any]:
    """Its rows by label (or nothing), size and quantity."""
    found = statistic(rows.frame(candidates), rows.frame(predictions, "predictions"), **settings)
    label = found["label"] if "label" in found else [""] * len(found)
    keys = zip(label, found["n_members"], found["quantity"], strict=True)
    return dict(zip(keys, found.itertuples(), strict=True))


def singles(pool: int = 0, count: int = 2, **values: Any) -> list[Row]:
    return [rows.candidate(pool, (index,), "single", **values) for index in range(count)]


RIGHT_A, RIGHT_B = [1, 1, 1, 1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0, 1, 0, 0]
CLASSES_A, CLASSES_B = [0, 1, 2, 0, 1, 2, 0, 9, 9, 8], [0, 1, 2, 0, 1, 9, 9, 1, 9, 7]


def test_diversity_by_hand() -> None:
    one, other = singles()
    made = [prediction(one, RIGHT_A, CLASSES_A), prediction(other, RIGHT_B, CLASSES_B)]
    found = told(diversity, [one, other], made)
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
    one = told(diversity, candidates, made)["", 2, "error correlation"]
    assert one.estimate == pytest.approx(np.mean(per_pool))
    assert one.se == pytest.approx(np.std(per_pool, ddof=1) / 3**0.5)


def test_measures_that_are_not_defined_are_left_out_and_counted() -> None:
    candidates = singles(0, 3)
    perfect, some = [1] * 10, [1] * 8 + [0, 0]
    made = [prediction(candidates[0], perfect, perfect)]
    made += [prediction(row, right, right) for row, right in zip(candidates[1:], (some, some[::-1]), strict=True)]
    found = told(diversity, candidates, made)
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
    one = told(diversity, candidates, made)["", 2, "disagreement"]
    assert (one.estimate, one.n_units) == (0.0, 1)
    assert {"2 pairs left out: no predictions", "1 pair left out: a pool of one member"} <= set(one.warnings)
    assert {"1 pair left out: failed", "2 pools without a usable pair"} <= set(one.warnings)


def test_classes_beyond_a_byte_are_told_apart() -> None:
    one, other = singles()
    made = [prediction(one, [0, 0], [300, 44]), prediction(other, [0, 0], [300 - 256, 44])]
    made[1]["classes"] = np.array([300 - 256, 44], "<u2").tobytes()
    assert told(diversity, [one, other], made)["", 2, "disagreement"].estimate == 0.5


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [("classes", b"123", "3 bytes of classes"), ("correct", b"1234", "4 bytes of `correct`")],
)
def test_outputs_of_another_length_are_refused(column: str, value: bytes, what: str) -> None:
    one, other = singles()
    made = [prediction(one, RIGHT_A, CLASSES_A), prediction(other, RIGHT_B, CLASSES_B) | {column: value}]
    with pytest.raises(AnalysisError, match=what):
        told(diversity, [one, other], made)


def test_members_on_different_examples_are_refused() -> None:
    one, other = singles()
    made = [prediction(one, RIGHT_A, CLASSES_A), prediction(other, RIGHT_B[:8], CLASSES_B[:8])]
    with pytest.raises(AnalysisError, match="members of one pool with 8 and 10 examples"):
        told(diversity, [one, other], made)


def test_the_brier_score_of_averaged_probabilities_is_the_mean_less_the_ambiguity() -> None:
    """On trained networks: the table's ambiguity is the spread of probabilities that are computed beside it."""
    pool = trained("{mlp: {hidden: [16], dropout: 0}}", "scratch")
    images, labels = pool.test_split()
    with torch.no_grad():
        each = torch.stack([pool.model(state)(images).double().softmax(1) for state in pool.states]).numpy()
    truth = np.eye(10)[labels.numpy()]
    candidates, made = [], []
    for subset in [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]:
        method = "single" if len(subset) == 1 else "probability_average"
        outcome, said = pool.evaluator().candidate(pool.candidate(method, *subset), "test")
        assert said is not None
        candidates.append(rows.candidate(0, subset, method, brier=outcome["brier"], space="logits"))
        made.append(said | {"candidate_id": candidates[-1]["candidate_id"]})
    found = told(diversity, candidates, made)
    for size in (2, 3):
        spread, identity = [], []
        for subset in itertools.combinations(range(3), size):
            own = each[list(subset)]
            spread.append(np.square(own - own.mean(0)).sum(2).mean())
            identity.append(np.square(own - truth).sum(2).mean() - np.square(own.mean(0) - truth).sum(1).mean())
        np.testing.assert_allclose(identity, spread, atol=1e-12)
        assert found["", size, "ambiguity"].estimate == pytest.approx(np.mean(spread), abs=1e-6)
        assert found["", size, "ambiguity"].estimate > 1e-3


def some_logits(n: int, classes: int, seed: int, sharpness: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)
    return random.standard_normal((n, classes)) + sharpness * np.eye(classes)[labels], labels


def as_read(logits: np.ndarray) -> np.ndarray:
    """What is left of logits in the tables, in double precision: half-precision log-probabilities."""
    return log_softmax(log_softmax(logits, axis=1).astype("<f2").astype(float), axis=1)


def plain_debiased(log_p: np.ndarray, labels: np.ndarray) -> float:
    """The definition, bin by bin."""
    confidence, right = np.exp(log_p.max(1)), log_p.argmax(1) == labels
    below = np.array([(confidence < value).sum() for value in confidence])
    total = 0.0
    for number in range(15):
        own = below * 15 // len(labels) == number
        if own.sum() > 1:
            accuracy = right[own].mean()
            chance = accuracy * (1 - accuracy) / (own.sum() - 1)
            total += own.mean() * ((accuracy - confidence[own].mean()) ** 2 - chance)
    return float(total)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 200), st.integers(2, 12), st.integers(0, 999), st.sampled_from([0.0, 0.5, 2.0, 9.0]))
def test_reliability_is_that_of_the_definitions(n: int, classes: int, seed: int, sharpness: float) -> None:
    logits, labels = some_logits(n, classes, seed, sharpness)
    log_p = as_read(logits.round(seed % 3))  # ties, and certainty
    found = Reliability.of(log_p, labels)
    expected = ece_of_sweep(torch.from_numpy(np.exp(log_p)), torch.from_numpy(labels))
    assert reliability.ece(found) == pytest.approx(expected, abs=1e-9)
    assert reliability.debiased_squared_error(found) == pytest.approx(plain_debiased(log_p, labels), abs=1e-9)
    expected = log_loss(labels, np.exp(log_p), labels=range(classes))
    assert reliability.cross_entropy(log_p, labels) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_equal_confidences_share_a_bin() -> None:
    log_p = np.log(np.array([[0.9, 0.1]] * 40 + [[0.6, 0.4]] * 20))
    found = Reliability.of(log_p, np.array([0] * 30 + [1] * 30))
    assert found.starts.tolist() == [0, 20]
    # 20 examples promise .6 and keep 0, 40 promise .9 and keep .75.
    assert reliability.ece(found) == pytest.approx((20 * 0.6 + 40 * 0.15) / 60)
    expected = (20 * 0.6**2 + 40 * (0.15**2 - 0.75 * 0.25 / 39)) / 60
    assert reliability.debiased_squared_error(found) == pytest.approx(expected)


def test_the_p_of_consistency_is_the_share_of_draws_that_reach_as_far() -> None:
    """One bin of 20 examples of confidence .8: right answers are binomial, so that the p is known."""
    log_p = np.log(np.array([[0.8, 0.2]] * 20))
    for kept in (16, 14, 11, 20):
        found = Reliability.of(log_p, np.array([0] * kept + [1] * (20 - kept)))
        ends = binom.pmf(range(21), 20, 0.8)[[abs(k - 16) >= abs(kept - 16) for k in range(21)]].sum()
        p = reliability.consistency_p(found, np.random.default_rng(0), 9999)
        assert p == pytest.approx(ends, abs=4 * (ends * (1 - ends) / 9999) ** 0.5 + 2e-4)


def test_draws_in_pieces_are_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Reliability.of(as_read(some_logits(50, 3, 0)[0]), some_logits(50, 3, 0)[1])
    whole = reliability.consistency_p(found, np.random.default_rng(3), 99)
    monkeypatch.setattr(reliability, "_DRAWN_AT_ONCE", 120)
    assert reliability.consistency_p(found, np.random.default_rng(3), 99) == whole


def test_several_p_become_one_that_holds_however_they_depend() -> None:
    assert reliability.jointly(np.array([0.03])) == 0.03
    assert reliability.jointly(np.array([0.5, 0.02])) == pytest.approx(0.04)
    assert reliability.jointly(np.array([0.9, 0.1, 0.02])) == pytest.approx(0.15)
    assert reliability.jointly(np.array([0.9, 0.8, 0.7])) == 1.0
    assert np.isnan(reliability.jointly(np.array([])))
    random = np.random.default_rng(0)
    alike = random.uniform(size=(2000, 1)) * np.ones(5)
    for p_values in (random.uniform(size=(2000, 5)), alike):
        assert np.mean([reliability.jointly(each) <= 0.05 for each in p_values]) <= 0.05


@pytest.mark.parametrize("factor", [0.2, 1.0, 3.0, 8.0])
def test_the_temperature_is_that_of_a_plain_search(factor: float) -> None:
    logits, labels = some_logits(400, 5, 1)

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(factor * logits / np.exp(log_temperature), axis=1)[np.arange(400), labels].mean())

    expected = np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-9}).x)
    assert reliability.temperature(factor * logits, labels) == pytest.approx(expected, rel=1e-4)
    assert reliability.temperature(as_read(factor * logits), labels) == pytest.approx(expected, rel=1e-3)


def test_no_temperature_is_best_where_all_is_right_or_a_guess_does_better() -> None:
    logits, labels = some_logits(50, 3, 2, sharpness=50.0)
    assert np.isnan(reliability.temperature(logits, labels))
    assert np.isnan(reliability.temperature(-logits, labels))


def both(candidates: list[Row], factor: float = 1.0, n: int = 600) -> list[Row]:
    """Predictions on both splits, every candidate with logits of its own, sharpened by a factor."""
    made = []
    for seed, candidate in enumerate(candidates):
        for split in ("test", "validation"):
            logits, labels = some_logits(n, 4, 2 * seed + (split == "test"))
            made.append(spoken(candidate, factor * logits, labels, split))
    return made


def without_validation(made: list[Row], candidate: Row) -> list[Row]:
    """The predictions but those of one candidate on the validation split."""
    return [row for row in made if row["candidate_id"] != candidate["candidate_id"] or row["split"] == "test"]


def test_calibration_by_hand() -> None:
    candidates, factor = [*singles(0, 2), *singles(1, 1)], 3.0
    found = told(calibration, candidates, both(candidates, factor))
    levels: dict[str, list[float]] = {name: [] for name in QUANTITIES}
    for seed in range(3):
        tune, test = (some_logits(600, 4, 2 * seed + k) for k in (0, 1))
        fitted = reliability.temperature(as_read(factor * tune[0]), tune[1])
        levels["temperature"].append(fitted)
        for suffix, divisor in (("", 1.0), (" after temperature", fitted)):
            log_p = log_softmax(as_read(factor * test[0]) / divisor, axis=1)
            levels["cross_entropy" + suffix].append(log_loss(test[1], np.exp(log_p), labels=range(4)))
            levels["debiased CE²" + suffix].append(plain_debiased(log_p, test[1]))
            expected = ece_of_sweep(torch.from_numpy(np.exp(log_p)), torch.from_numpy(test[1]))
            levels["ECE" + suffix].append(expected)
    for name, (a, b, c) in levels.items():
        assert found["single", 1, name].estimate == pytest.approx(((a + b) / 2 + c) / 2, rel=1e-6), name
        assert found["single", 1, name].n_units == 2
    assert (
        found["single", 1, "debiased CE²"].estimate > 10 * found["single", 1, "debiased CE² after temperature"].estimate
    )
    assert found["single", 1, "ECE"].consistency_p == pytest.approx(1.5 / 200)
    assert found["single", 1, "ECE after temperature"].consistency_p > 0.05
    assert np.isnan(found["single", 1, "cross_entropy"].consistency_p)


def test_the_seed_alone_decides_the_draws() -> None:
    candidates = singles(0, 1)
    made = both(candidates, 2.0)  # sharpened so, these logits are calibrated
    first, again, other = (
        told(calibration, candidates, made, seed=seed)["single", 1, "ECE"].consistency_p for seed in (0, 0, 1)
    )
    assert first == again != other


def test_without_a_validation_split_nothing_is_tuned_and_that_is_told() -> None:
    tuned, untuned = singles(0, 1), [rows.candidate(0, (0, 1), "uniform_soup")]
    made = [
        row
        for row in both([*tuned, *untuned])
        if row["candidate_id"] == tuned[0]["candidate_id"] or row["split"] == "test"
    ]
    found = told(calibration, [*tuned, *untuned], made)
    assert [key[2] for key in found if key[0] == "single"] == list(QUANTITIES)
    assert [key[2] for key in found if key[0] == "uniform_soup"] == [n for n in QUANTITIES if n not in TEMPERED]
    what = "nothing after temperature: no log-probabilities of the validation split"
    assert all((what in row.warnings) == (key[0] == "uniform_soup") for key, row in found.items())


def test_what_cannot_be_tuned_is_left_out_and_counted() -> None:
    candidates = [*singles(0, 3), *singles(1, 1)]
    made = [
        row
        for row in both(candidates)
        if row["candidate_id"] != candidates[1]["candidate_id"] or row["split"] == "test"
    ]
    sure = some_logits(600, 4, 5, sharpness=50.0)
    made = [row for row in made if row["candidate_id"] != candidates[2]["candidate_id"]]
    made += [spoken(candidates[2], *sure, split) for split in ("test", "validation")]
    found = told(calibration, candidates, made)
    after = found["single", 1, "temperature"].warnings
    assert "1 row left out: no log-probabilities of the validation split" in after
    assert "1 row left out: no temperature between 0.01 and 100 is best" in after
    assert not [text for text in found["single", 1, "ECE"].warnings if "left out" in text]


def test_a_temperature_is_not_judged_where_it_was_fitted() -> None:
    (one,) = singles(0, 1)
    candidates = [one, one | {"split": "validation"}]
    by = ("split", "label", "n_members")
    frames = rows.frame(candidates), rows.frame(both([one]), "predictions")
    found = calibration(*frames, by=by)
    assert set(found.loc[found["split"] == "test", "quantity"]) == set(QUANTITIES)
    assert not set(found.loc[found["split"] == "validation", "quantity"]) & set(TEMPERED)


def test_rows_without_probabilities_say_how_to_have_them() -> None:
    candidates = singles()
    made = [prediction(row, RIGHT_A, CLASSES_A) for row in candidates]
    for ask in (calibration, calibration_figure):
        with pytest.raises(NothingToDrawError, match=r"no log-probabilities\nhint: .*execution\.probabilities=true"):
            ask(rows.frame(candidates), rows.frame(made, "predictions"))
    partly = told(calibration, candidates, [made[0], *both(candidates)[2:]])
    assert "1 row left out: no log-probabilities" in partly["single", 1, "ECE"].warnings
    with pytest.raises(NothingToDrawError, match="no predictions"):
        diversity_figure(rows.frame(candidates), rows.frame([], "predictions"))


def test_a_margin_is_that_of_the_debiased_error() -> None:
    candidates = [row for pool in range(3) for row in singles(pool, 1)]
    found = told(calibration, candidates, both(candidates, 3.0), margin=0.5)
    assert found["single", 1, "debiased CE²"].verdict == "equivalent"
    assert found["single", 1, "debiased CE²"].margin == 0.5
    assert {row.margin for key, row in found.items() if not key[2].startswith("debiased")} == {None}


def test_a_soup_that_collapses_does_not_flatten_the_figures() -> None:
    candidates = singles(0, 3)
    for subset in itertools.combinations(range(3), 2):
        candidates.append(rows.candidate(0, subset, "probability_average", space="logits", brier=0.09))
        candidates.append(rows.candidate(0, subset, "uniform_soup", brier=0.9, repair="reset_bn"))
    made = both(candidates)
    lost = [row["candidate_id"] for row in candidates if row["method"] == "uniform_soup"]
    made = [row for row in made if row["candidate_id"] not in lost]
    for candidate in candidates:
        if candidate["candidate_id"] in lost:
            made += [spoken(candidate, -9 * some_logits(600, 4, 7)[0], some_logits(600, 4, 7)[1])]
    frames = rows.frame(candidates), rows.frame(made, "predictions")
    gains = diversity_figure(*frames)
    assert [axes.get_yscale() for axes in gains.figure.axes] == ["linear", "symlog"]
    assert {"probability_average", "uniform_soup + reset_bn"} <= set(gains.data["label"])
    assert [axes.get_xscale() for axes in calibration_figure(*frames).figure.axes] == ["log", "linear"]


def test_figures_show_what_is_known_where_some_is_not() -> None:
    candidates = singles(0, 2)
    plot = diversity_figure(rows.frame(candidates), rows.frame(both(candidates), "predictions"))
    texts = [text.get_text() for text in plot.figure.axes[1].texts]
    assert texts == ["no rows of probability_average or of soups"]
    assert isinstance(plot.data, pd.DataFrame)
    assert set(plot.data["label"]) == {"single"}
