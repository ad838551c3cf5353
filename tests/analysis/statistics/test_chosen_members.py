"""How many members searches choose, against rows made for it."""

from __future__ import annotations

import pytest

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.statistics.chosen_members import chosen_members
from tests.helpers import rows


def made() -> list[dict[str, object]]:
    """Two pools, two subsets of three members each: searches chose 1, 1 and 2, 3 members."""
    sizes = {(0, (0, 1, 2)): 1, (0, (1, 2, 3)): 1, (1, (0, 1, 2)): 2, (1, (1, 2, 3)): 3}
    found = [rows.candidate(pool, subset, "uniform_soup") for pool, subset in sizes]
    for (pool, subset), size in sizes.items():
        chosen = [f"people-{pool}-{index}" for index in subset[:size]]
        message = {"chosen": chosen, "coefficients": [1 / size] * size}
        found.append(rows.candidate(pool, subset, "greedy_soup", **message))
    return found


def test_the_number_is_the_mean_over_pools_and_single_members_are_counted() -> None:
    (found,) = chosen_members(rows.frame(made())).to_dict("records")
    assert (found["label"], found["n_members"], found["subsets"], found["n_units"]) == ("greedy_soup", 3, 4, 2)
    assert found["estimate"] == pytest.approx((1 + 2.5) / 2)
    assert found["single_share"] == 0.5


def test_failed_rows_are_left_out_and_counted() -> None:
    message = {"chosen": None, "coefficients": None, "status": "failed", "error": "boom"}
    failed = [
        {**row, "status": "failed"} if row["members"] == ["people-0-1", "people-0-2", "people-0-3"] else row
        for row in made()
    ]
    (found,) = chosen_members(rows.frame(failed)).to_dict("records")
    assert found["subsets"] == 3
    assert found["single_share"] == pytest.approx(1 / 3)
    assert any("1 row left out" in text for text in found["warnings"])
    with pytest.raises(NothingToDrawError):
        chosen_members(rows.frame([row | message for row in made()]))


def test_rows_of_earlier_versions_have_no_choice() -> None:
    with pytest.raises(AnalysisError, match="chosen"):
        chosen_members(rows.frame(made()).drop(columns="chosen"))
