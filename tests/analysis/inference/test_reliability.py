"""Promised against kept: errors of calibration, p of consistency and temperatures, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import binom
from sklearn.metrics import log_loss

from analysis.inference import reliability
from analysis.inference.reliability import Reliability
from sweep.plugins.metrics.ece import ece as ece_of_sweep
from sweep.plugins.metrics.ece_mass import ece_mass as ece_mass_of_sweep
from tests.helpers.predictions import as_read, plain_debiased, some_logits


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 200), st.integers(2, 12), st.integers(0, 999), st.sampled_from([0.0, 0.5, 2.0, 9.0]))
def test_reliability_is_that_of_the_definitions(n: int, classes: int, seed: int, sharpness: float) -> None:
    logits, labels = some_logits(n, classes, seed, sharpness)
    log_p = as_read(logits.round(seed % 3))  # ties, and certainty
    found = Reliability.of(log_p, labels)
    tensors = torch.from_numpy(np.exp(log_p)), torch.from_numpy(labels)
    assert reliability.ece(found) == pytest.approx(ece_mass_of_sweep(*tensors), abs=1e-9)
    of_width = Reliability.of(log_p, labels, equal_width=True)
    assert reliability.ece(of_width) == pytest.approx(ece_of_sweep(*tensors), abs=1e-9)
    assert of_width.sizes.sum() == n
    assert (of_width.sizes > 0).all()
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
