"""What would decide an inconclusive claim: pools, images, or nothing that is known."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.inference.estimate import pool_mean
from analysis.inference.power import Needs
from analysis.report.advice import advice
from tests.analysis.inference.test_two_way import pool_values


@pytest.mark.parametrize(
    ("needs", "text"),
    [
        (Needs(3, 2, 9, "equivalent"), "Needs 3 more pools (2 to 9) to show equivalence"),
        (Needs(1, 1, None, "different"), "Needs 1 more pool (1 or more) to show a difference"),
        (
            Needs(30, 20, 90, "different", is_new_run=True),
            "The planned pools do not suffice: another run of 30 pools (20 to 90) would show a difference",
        ),
    ],
)
def test_known_pools_are_the_advice(needs: Needs, text: str) -> None:
    assert advice(needs, pool_mean([0.1, 0.2]), None) == text


def test_methods_that_agree_on_every_image_take_more_images() -> None:
    found = pool_values([np.zeros((5, 359))], ["digits"]).estimate
    text = advice(None, found, None)
    assert text.startswith("More pools alone do not decide it: identical on 359 examples in every pool")
    assert "takes 598 examples" in text


def test_without_spread_the_number_is_unknown() -> None:
    text = advice(None, pool_mean([0.1, 0.1]), None)
    assert text == "The number of pools is unknown: there is no spread between pools"


def test_a_warning_that_explains_nothing_is_no_reason() -> None:
    estimate = pool_mean([0.1, -0.1], warnings=["pools of a scratch start are groups of exchangeable members"])
    assert advice(None, estimate, None) == "The number of pools is unknown, or above 10,000"
