"""Rows under a protocol: its own, and the correct ones where it does not act."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import rows

from analysis.audited import correct_name, protocols, under
from analysis.figures.audit import audit


def made(pool: int, method: str, accuracy: float, members: tuple[int, ...] = (0, 1), **more: Any) -> dict[str, Any]:
    return rows.candidate(pool, members, method, accuracy=accuracy, **more)


def several(pools: int = 4) -> pd.DataFrame:
    """Two populations; dropout at test acts on all of both, another search on soups, a training on one of them."""
    found: list[dict[str, Any]] = []
    for pool in range(pools):
        for people, shift in (("a", 0.0), ("b", 0.1)):
            base = 0.7 + shift + 0.01 * pool
            for protocol, single, soup in (("correct", 0.0, 0.02), ("train_mode", -0.1, 0.01)):
                told = {"population": people, "protocol": protocol}
                found += [made(pool, "single", base + single, (index,), **told) for index in (0, 1)]
                found += [made(pool, "greedy_soup", base + soup, **told)]
                found += [made(pool, "logit_average", base + soup, space="logits", **told)]
            found += [made(pool, "greedy_soup", base + 0.03, population=people, protocol="greedy_variant")]
        told = {"population": "a (shared_transform)", "protocol": "shared_transform"}
        found += [made(pool, "single", 0.5, (index,), **told) for index in (0, 1)]
        found += [made(pool, "greedy_soup", 0.6 + 0.01 * pool, **told)]
    return rows.frame(found, "candidates")


def accuracies(frame: pd.DataFrame, method: str, population: str) -> list[float]:
    own = frame[(frame["method"] == method) & (frame["population"] == population)]
    return sorted(own["accuracy"].round(6))


def test_protocols_begin_with_the_correct_one() -> None:
    assert protocols(several()) == ["correct", "greedy_variant", "shared_transform", "train_mode"]


def test_where_a_switch_does_not_act_the_correct_rows_are_taken() -> None:
    frame = several()
    found, correct = under(frame, "greedy_variant"), under(frame, "correct")
    assert len(found) == len(correct)
    assert set(found["protocol"]) == {"greedy_variant"}
    assert accuracies(found, "logit_average", "b") == accuracies(correct, "logit_average", "b")
    assert accuracies(found, "greedy_soup", "b") == [0.83, 0.84, 0.85, 0.86]


def test_a_population_that_is_trained_otherwise_stands_in_for_the_correct_one() -> None:
    found = under(several(), "shared_transform")
    assert set(found["population"]) == {"a", "b"}
    assert accuracies(found, "single", "a") == [0.5] * 8
    assert accuracies(found, "logit_average", "a") == []
    assert accuracies(found, "single", "b") == accuracies(under(several(), "correct"), "single", "b")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a", "a"), ("a (x)", "a"), ("a (y) (x)", "a (y)"), ("c (x)", "c (x)"), ("ab (x)", "ab (x)")],
)
def test_the_correct_population_is_told_by_its_name(name: str, expected: str) -> None:
    assert correct_name(name, {"a", "a (y)", "b"}) == expected


def test_the_figure_shows_every_protocol_with_its_gain() -> None:
    data = audit(several()).data
    key = ["population", "label", "protocol"]
    estimates = data.set_index(key)["estimate"].round(6).to_dict()
    assert estimates["a", "single", "correct"] == 0.715
    assert estimates["a", "single", "shared_transform"] == 0.5
    assert estimates["a", "greedy_soup", "correct"] == 0.02
    assert estimates["a", "greedy_soup", "train_mode"] == 0.11
    assert estimates["a", "greedy_soup", "greedy_variant"] == 0.03
    assert estimates["a", "greedy_soup", "shared_transform"] == 0.115
    assert estimates["b", "logit_average", "greedy_variant"] == 0.02
    assert set(data["protocol"]) == {"correct", "greedy_variant", "shared_transform", "train_mode"}
