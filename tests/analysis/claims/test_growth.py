"""Claims on the gain by the number of members."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.core import registry as catalogue
from analysis.core.errors import NothingToDrawError
from analysis.inference.two_way import spreads
from tests.helpers import rows


def grown(pool: int, gains: dict[int, float], **own: Any) -> list[dict[str, Any]]:
    """Seven singles of accuracy .8 and one soup per size with its gain over them."""
    made = [rows.candidate(pool, (index,), "single", accuracy=0.8, **own) for index in range(7)]
    for size, gain in gains.items():
        made.append(rows.candidate(pool, tuple(range(size)), "uniform_soup", accuracy=0.8 + gain, **own))
    return made


@pytest.mark.parametrize(("claim", "expected"), [("gain_grows", 0.0125), ("gain_saturates", 0.0015)])
def test_growth_compares_the_same_two_sizes_in_all_pools(claim: str, expected: float) -> None:
    made = []
    for pool in range(6):
        shift = 0.001 * (pool - 1) * (pool < 3)
        made += grown(pool, {2: 0.01, 3: 0.0165} | ({7: 0.0225 + shift} if pool < 3 else {}))
    found = catalogue.get_plugin("claims", claim)(rows.frame(made))
    assert found.estimate.estimate == pytest.approx(expected)
    assert found.estimate.n_units == 3
    small = 2 if claim == "gain_grows" else 3
    assert f"3 of 6 pools of `people` lack N = {small} or 7: left out" in found.estimate.warnings
    made = [row for row in made if row["pool"] < 3]
    same = catalogue.get_plugin("claims", claim)(rows.frame(made))
    assert same.estimate.estimate == found.estimate.estimate
    assert not [text for text in same.estimate.warnings if "left out" in text]


@pytest.mark.parametrize(("claim", "models"), [("gain_grows", 1), ("gain_saturates", 4)])
def test_growth_is_for_new_test_images_where_predictions_are_kept(claim: str, models: int) -> None:
    made = [row for pool in range(5) for row in grown(pool, {2: 0.01, 3: 0.01, 7: 0.03})]
    predictions = rows.predictions(made, examples=64)
    correct = {row["candidate_id"]: np.unpackbits(np.frombuffer(row["correct"], np.uint8)) for row in predictions}
    for row in made:
        row["accuracy"] = float(correct[row["candidate_id"]].mean())
    found = catalogue.get_plugin("claims", claim)(rows.frame(made), rows.frame(predictions, "predictions"))
    small = 2 if claim == "gain_grows" else 3
    own = [[correct[row["candidate_id"]] for row in made if row["pool"] == pool] for pool in range(5)]
    sizes = {2: 7, 3: 8, 7: 9}  # where a pool's soups are in its rows, after seven singles
    gains = [{n: one[sizes[n]] - np.mean(one[:n], axis=0) for n in sizes} for one in own]
    matrix = np.array([(gain[7] - gain[small]) / models for gain in gains])
    assert found.estimate.estimate == pytest.approx(matrix.mean())
    assert found.estimate.se == pytest.approx(spreads(matrix).se)
    assert "for new seeds and new test images" in found.estimate.estimand
    assert [one.reach for one in found.values.examples.values()] == pytest.approx([2 / models] * 5)


@pytest.mark.parametrize("claim", ["gain_grows", "gain_saturates"])
def test_growth_is_asked_of_each_population_at_its_own_sizes(claim: str) -> None:
    made = [row for pool in range(3) for row in grown(pool, {2: 0.01, 4: 0.02 + 0.001 * pool})]
    other = [row for pool in range(3) for row in grown(pool, {3: 0.01, 7: 0.05 + 0.001 * pool}, population="others")]
    one_size = grown(0, {5: 0.3}, population="last")
    found = catalogue.get_plugin("claims", claim)(rows.frame(made + other + one_size))
    expected = (0.011 + 0.041) / 2 if claim == "gain_grows" else (0.011 / 2 + 0.041 / 4) / 2
    assert found.estimate.estimate == pytest.approx(expected)
    assert "`last` is left out: it has one size" in found.estimate.warnings
    with pytest.raises(NothingToDrawError, match="no pool has two sizes"):
        catalogue.get_plugin("claims", claim)(rows.frame(one_size))
    apart = grown(0, {2: 0.01}) + grown(1, {7: 0.02})
    with pytest.raises(NothingToDrawError, match="no pool has two sizes"):
        catalogue.get_plugin("claims", claim)(rows.frame(apart))


@pytest.mark.parametrize("claim", ["gain_grows", "gain_saturates"])
def test_a_merge_at_chance_answers_nothing_about_growth(claim: str) -> None:
    alive = [row for pool in range(3) for row in grown(pool, {2: 0.01, 4: 0.02 + 0.001 * pool})]
    dead = [row for pool in range(3) for row in grown(pool, {2: -0.7, 4: -0.698 + 0.001 * pool}, population="dead")]
    found = catalogue.get_plugin("claims", claim)(rows.frame(alive + dead))
    alone = catalogue.get_plugin("claims", claim)(rows.frame(alive))
    assert found.estimate.estimate == alone.estimate.estimate
    text = "the merge is at chance: uniform_soup in dead, 2 and 4 members: 10.0% and 10.3%, chance 10.0%: left out"
    assert text in found.estimate.warnings
    with pytest.raises(NothingToDrawError, match="the merge is at chance"):
        catalogue.get_plugin("claims", claim)(rows.frame(dead))
    falls = [row for pool in range(3) for row in grown(pool, {2: 0.01, 4: -0.698 + 0.001 * pool})]
    assert catalogue.get_plugin("claims", claim)(rows.frame(falls)).estimate.estimate < -0.3
