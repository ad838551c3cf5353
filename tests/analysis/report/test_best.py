"""Best candidates: chosen on the validation split and scored on the test split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.report import tables
from tests.helpers import rows


def soup(index: int, split: str, accuracy: float, **values: Any) -> dict[str, Any]:
    """The row of one of several soups that differ in a setting alone."""
    return rows.candidate(0, (0, 1), f"soup_{index:02}", split=split, accuracy=accuracy, **values)


def test_candidates_are_ranked_on_validation_and_shown_with_their_test_accuracy() -> None:
    made = [soup(0, "test", 0.99), soup(0, "validation", 0.7), soup(1, "test", 0.8), soup(1, "validation", 0.9)]
    made += [soup(2, "test", 0.97), soup(3, "validation", 0.8), soup(4, "validation", 0.95, status="failed")]
    found = tables.best(rows.frame(made))
    assert [one["label"] for one in found] == ["soup_01", "soup_03", "soup_00"]
    assert [one["accuracy"] for one in found] == ["80.00", "–", "99.00"]
    assert [one["validation"] for one in found] == ["90.00", "80.00", "70.00"]
    assert {(one["chosen_on"], one["tied"]) for one in found} == {("validation", 1)}
    tied = tables.best(rows.frame([soup(index, "validation", 0.9) for index in range(3)]))
    assert {one["tied"] for one in tied} == {3}


def test_without_validation_rows_the_test_split_chooses_and_the_table_says_so() -> None:
    found = tables.best(rows.frame([soup(0, "test", 0.9), soup(1, "test", 0.8)]))
    assert [(one["label"], one["accuracy"], one["validation"], one["chosen_on"]) for one in found] == [
        ("soup_00", "90.00", "–", "test"),
        ("soup_01", "80.00", "–", "test"),
    ]
    assert tables.best(rows.frame([soup(0, "test", 0.9, status="failed")])) == []


@pytest.mark.parametrize("validated", [True, False])
def test_a_choice_on_validation_is_not_optimistic_on_test(validated: bool) -> None:
    """60 candidates of true accuracy .9, on 500 examples of each split: the best looks two errors better."""
    random = np.random.default_rng(0)
    shown = []
    for _ in range(40):
        drawn = random.binomial(500, 0.9, (60, 2)) / 500
        made = [soup(i, "test", accuracy) for i, accuracy in enumerate(drawn[:, 0])]
        made += [soup(i, "validation", accuracy) for i, accuracy in enumerate(drawn[:, 1])] if validated else []
        shown.append(float(tables.best(rows.frame(made))[0]["accuracy"]))
    error = 100 * (0.9 * 0.1 / 500 / 40) ** 0.5
    if validated:
        assert abs(np.mean(shown) - 90) < 3 * error
    else:
        assert np.mean(shown) - 90 > 10 * error
