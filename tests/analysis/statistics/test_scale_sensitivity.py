"""Sensitivity to magnitude: areas, critical factors and medians by hand."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.core.errors import AnalysisError, NothingToDrawError
from analysis.rows.scale import magnified
from analysis.rows.select import select_comparison
from analysis.statistics._scale import area_per_pool
from analysis.statistics.scale_sensitivity import crossing, median_interval, scale_sensitivity
from tests.helpers import rows


def scaled(
    levels: dict[float, float | None],
    pool: int = 0,
    members: tuple[int, ...] = (0, 1),
    method: str = "uniform_soup",
    which: str = "all",
    **settings: Any,
) -> list[dict[str, Any]]:
    """One subset at each factor; no level means that outputs overflowed. The factor 1 is the row without a scaling."""
    made = []
    for factor, level in levels.items():
        overflow = {"status": "non_finite", "accuracy": None, "finite": False} if level is None else {"accuracy": level}
        settings_json = {"factor": factor, "members": which, **settings}
        by = {"scaling": "magnify", "scaling_factor": factor, "scaling_settings": json.dumps(settings_json)}
        by |= {"scaling_members": which}
        made.append(rows.candidate(pool, members, method, **overflow, **(by if factor != 1 else {})))
    return made


def asked(*made: list[dict[str, Any]], **settings: Any) -> pd.DataFrame:
    found = scale_sensitivity(rows.frame(list(itertools.chain(*made))), **settings)
    return found.set_index("quantity")


def test_areas_and_critical_factors_by_hand() -> None:
    # Above: losses 0, .1, .3 at log2 factors 0, 1, 2: (.05 + .2) / 2. Below: 0, .02, .06 at 0, 1, 3: (.01 + .08) / 3.
    found = asked(scaled({0.125: 0.84, 0.5: 0.88, 1: 0.9, 2: 0.8, 4: 0.6}))
    assert found.loc["area above 1", "estimate"] == pytest.approx(0.125)
    assert found.loc["area below 1", "estimate"] == pytest.approx(0.03)
    assert found.loc["critical factor above 1", "estimate"] == pytest.approx(math.sqrt(2))
    # From .02 at 1/2 to .06 at 1/8, .05 is reached three quarters of the way.
    assert found.loc["critical factor below 1", "estimate"] == pytest.approx(2**-2.5)
    assert found["reach"].tolist() == [0.125] * 4 + [4] * 4
    assert set(found["factors"]) == {"0.125, 0.5, 1", "1, 2, 4"}
    # Chance is .1, so .8 of accuracy is above it at factor 1.
    assert found.loc["retention area above 1", "estimate"] == pytest.approx(0.125 / 0.8)
    assert found.loc["retention area below 1", "estimate"] == pytest.approx(0.03 / 0.8)
    assert found.loc["retention critical factor above 1", "estimate"] == pytest.approx(2**0.4)
    assert found.loc["area above 1", "estimand"] == "accuracy lost, mean over log factor, factors 1, 2, 4"


def test_a_constant_accuracy_has_no_area_and_no_critical_factor() -> None:
    found = asked(*(scaled(dict.fromkeys([0.25, 0.5, 1, 2, 4], 0.9), pool) for pool in range(7)))
    areas = found.loc[["area below 1", "area above 1"]]
    assert areas[["estimate", "low", "high"]].eq(0).all(axis=None)
    ends = found.loc[["critical factor below 1", "critical factor above 1"]]
    assert ends["estimate"].tolist() == [0, math.inf]
    assert ends["low"].tolist() == [0, math.inf]
    assert ends["censored"].eq(1).all()
    assert "7 of 7 pools lose less than 0.05 up to a factor of 0.25: the median lies beyond" in ends["warnings"].iloc[0]


def test_a_minority_that_never_falls_counts_as_beyond_all_others() -> None:
    falls = [0.75, 0.8, 0.7, 0.6, 0.5]
    found = asked(*(scaled({1: 0.9, 4: level}, pool) for pool, level in enumerate([*falls, 0.89, 0.9])))
    row = found.loc["critical factor above 1"]
    reached = sorted(4 ** (0.05 / (0.9 - level)) for level in falls)
    assert row["estimate"] == pytest.approx(reached[3])
    assert (row["low"], row["high"]) == (pytest.approx(reached[0]), math.inf)
    assert row["censored"] == pytest.approx(2 / 7)


def test_few_pools_give_a_median_no_interval() -> None:
    row = asked(*(scaled({1: 0.9, 4: 0.5}, pool) for pool in range(5))).loc["critical factor above 1"]
    assert (row["low"], row["high"]) == (-math.inf, math.inf)
    assert row["warnings"] == ("5 pools: a median has a 95% interval from 6 pools on",)


def test_the_interval_of_a_median_is_binomial() -> None:
    for n in range(6, 40):
        middle, low, high = median_interval(np.arange(n, dtype=float))
        assert middle == (n - 1) / 2
        below = stats.binom(n, 0.5).cdf
        assert 2 * below(low) <= 0.05 < 2 * below(low + 1)
        assert low + high == n - 1


def test_a_crossing_is_the_first() -> None:
    distance = np.array([0.0, 1, 2, 3])
    fall = np.array([0.0, 0.1, -0.5, 0.2])
    assert crossing(distance, fall, 0.05) == pytest.approx(0.5)
    assert crossing(distance, fall, 0.1) == pytest.approx(1.0)
    assert crossing(distance, fall, 0.15) == pytest.approx(2 + 0.65 / 0.7)
    assert crossing(distance, fall, 0.25) == math.inf


def test_an_overflow_of_most_ends_the_range_and_of_few_leaves_them_out() -> None:
    fine = {0.5: 0.8, 1: 0.9, 2: 0.8, 4: 0.6}
    early = {**fine, 2: None, 4: None}
    found = asked(scaled({**fine, 8: None}), scaled({**fine, 8: None}, 1), scaled({**early, 8: None}, 2))
    area = found.loc["area above 1"]
    assert (area["reach"], area["n_units"], area["estimate"]) == (4, 2, pytest.approx(0.125))
    assert area["non_finite"] == pytest.approx(5 / 9)
    assert area["warnings"][:2] == ("1 subset left out: non_finite", "1 pool without a usable subset")
    assert "most subsets overflow at a factor of 8: the range ends at 4" in area["warnings"]
    assert found.loc["area below 1", "n_units"] == 3
    none = asked(scaled({1: 0.9, 2: None}), scaled({1: 0.9, 2: None}, 1)).loc["area above 1"]
    assert (none["n_units"], none["reach"], none["non_finite"]) == (0, 1, 1)
    assert math.isnan(none["estimate"])


def test_a_subset_with_a_missing_factor_is_left_out() -> None:
    found = asked(scaled({1: 0.9, 2: 0.8, 4: 0.6}), scaled({1: 0.9, 4: 0.9}, 1)).loc["area above 1"]
    assert (found["n_units"], found["estimate"]) == (1, pytest.approx(0.125))
    assert "1 subset left out: no row at a factor" in found["warnings"]


def test_areas_are_compared_on_the_same_subsets() -> None:
    made = []
    for pool, (soup, ensemble) in enumerate([(0.6, 0.8), (0.5, 0.6)]):
        made += scaled({1: 0.9, 4: soup}, pool) + scaled({1: 0.8, 4: ensemble}, pool, method="logit_average")
    made += scaled({1: 0.9, 4: 0.1}, 1, members=(0, 2))
    found = asked(made, a="uniform_soup", b="logit_average", margin=0.01)
    interval = stats.ttest_1samp([0.15 - 0.0, 0.2 - 0.1], 0).confidence_interval()
    row = found.loc["area above 1"]
    np.testing.assert_allclose(row[["estimate", "low", "high"]].astype(float), [0.125, *interval], rtol=1e-9)
    assert (row["label"], row["margin"]) == ("uniform_soup minus logit_average", 0.01)
    assert row["warnings"] == ("1 subset left out: only one of the two was evaluated",)
    turned = asked(made, a="logit_average", b="uniform_soup").loc["area above 1"]
    assert turned["estimate"] == pytest.approx(-0.125)


def test_rounding_is_no_area() -> None:
    made = [row for pool in range(3) for row in scaled({1: 0.3, 2: 0.1 + 0.2, 4: 0.3}, pool)]
    made += [row for pool in range(3) for row in scaled({1: 0.7, 2: 0.7, 4: 0.1 * 7}, pool, method="logit_average")]
    assert asked(made, a="uniform_soup", b="logit_average")["estimate"].tolist() == [0.0, 0.0]


def test_single_stands_for_the_members_of_the_subset() -> None:
    made = scaled({1: 0.9, 4: 0.6}) + scaled({1: 0.9, 4: 0.7}, members=(1, 2))
    for member, level in enumerate([0.8, 0.6, 0.7]):
        made += scaled({1: 0.8, 4: level}, members=(member,), method="single")
    found = asked(made, a="uniform_soup", b="single").loc["area above 1"]
    # Subset (0, 1) loses .3 and its members .1 on average, (1, 2) loses .2 and its members .15; half of it on average.
    assert found["estimate"] == pytest.approx((0.1 + 0.025) / 2)
    assert asked(made, a="single", b="uniform_soup").loc["area above 1", "estimate"] == -found["estimate"]
    pools = area_per_pool(rows.frame(made), "uniform_soup", "single").accuracy
    assert pools[["population", "pool_id"]].to_numpy().tolist() == [["people", "people-0"]]
    assert pools["value"].item() == pytest.approx((0.1 + 0.025) / 2)


def test_both_sides_of_one_are_one_range_per_pool() -> None:
    made = []
    for pool, (below, above) in enumerate([(0.8, 0.5), (0.9, 0.7)]):
        made += scaled({0.5: below, 1: 0.9, 4: above}, pool) + scaled(
            {0.5: 0.9, 1: 0.9, 4: 0.9}, pool, method="logit_average"
        )
    found = area_per_pool(rows.frame(made), "uniform_soup", "logit_average")
    np.testing.assert_allclose(found.accuracy["value"], [(0.05 + 0.4) / 3, 0.2 / 3])
    np.testing.assert_allclose(found.retention["value"], [(0.05 + 0.4) / 3 / 0.8, 0.2 / 3 / 0.8])
    assert (found.factors, found.warnings) == ("0.5, 1, 4", ())
    with pytest.raises(NothingToDrawError, match="no rows with the arm `first`"):
        area_per_pool(rows.frame(made), "uniform_soup", "logit_average", arm="first")


def test_arms_distinguish_members_and_tensors() -> None:
    made = scaled({1: 0.9, 2: 0.8}) + scaled({2: 0.7}, members=(0, 1), which="first")
    made += scaled({2: 0.6}, tensors="weights")
    homogeneous = [row | {"scaling": "homogeneous"} for row in scaled({2: 0.9})]
    noise = [row | {"scaling": "noise", "scaling_factor": 1.0} for row in scaled({2: 0.1}, sigma=0.1)]
    found = asked(made, homogeneous, noise).loc["area above 1"].set_index("arm")["estimate"]
    expected = {"all": 0.05, "all, homogeneous": 0.0, "all, weights": 0.15, "first": 0.1}
    assert dict(found) == pytest.approx(expected)


def test_a_single_member_is_shown_in_one_arm() -> None:
    made = scaled({1: 0.9, 2: 0.8}, members=(0,), method="single")
    made += scaled({2: 0.8}, members=(0,), method="single", which="first")
    assert set(magnified(select_comparison(rows.frame(made)))["arm"]) == {"all"}


def test_what_cannot_be_compared_is_refused() -> None:
    made = scaled({1: 0.9, 2: 0.8}) + scaled({1: 0.9}, method="logit_average")
    with pytest.raises(AnalysisError, match="no scaled rows of `logit_average`"):
        asked(made, a="uniform_soup", b="logit_average")
    with pytest.raises(AnalysisError, match="needs both"):
        asked(made, a="uniform_soup")
    with pytest.raises(AnalysisError, match="not above 0"):
        asked(made, drop=0)
    first = scaled({2: 0.8}, method="logit_average", which="first")
    with pytest.raises(AnalysisError, match="not scaled alike"):
        asked(made, first, a="uniform_soup", b="logit_average")


def pair_of_pools(
    soup: dict[float, float | None], single: dict[float, float | None], **own: Any
) -> list[dict[str, Any]]:
    """Two pools of a population, each with a soup and its members, scaled alike."""
    made = []
    for pool in range(2):
        made += scaled(soup, pool)
        made += [row for member in (0, 1) for row in scaled(single, pool, members=(member,), method="single")]
    population = own.get("population", "people")
    return [row | {"population": population, "pool_id": f"{population}-{row['pool']}"} | own for row in made]


def test_a_merge_at_chance_has_no_retention() -> None:
    made = pair_of_pools({1: 0.13, 4: 0.9}, {1: 0.9, 4: 0.5})
    found = asked(made, a="uniform_soup", b="single")
    row = found.loc["retention area above 1"]
    assert (row["n_units"], math.isnan(row["estimate"])) == (0, True)
    text = "the merge is at chance in 2 of 2 pools: uniform_soup in people, 2 members: 13.0% at factor 1, chance 10.0%"
    assert row["warnings"][0] == text
    assert found.loc["area above 1", "n_units"] == 2
    both = scale_sensitivity(rows.frame(made)).set_index(["label", "quantity"])
    assert text in both.loc[("uniform_soup", "critical factor above 1"), "warnings"]
    assert both.loc[("uniform_soup", "retention critical factor above 1"), "n_units"] == 0
    assert both.loc[("single", "retention critical factor above 1"), "n_units"] == 2
    with pytest.raises(NothingToDrawError, match="the merge is at chance"):
        area_per_pool(rows.frame(made), "uniform_soup", "single")
    # A tenth of the way to 100%, and three standard errors of a guess on the examples of the split.
    better = pair_of_pools({1: 0.2, 4: 0.1}, {1: 0.9, 4: 0.5})
    assert asked(better, a="uniform_soup", b="single").loc["retention area above 1", "n_units"] == 2
    few = [row | {"n_examples": 50} for row in better]
    assert asked(few, a="uniform_soup", b="single").loc["retention area above 1", "n_units"] == 0


def test_chance_that_is_rough_or_unknown_is_named() -> None:
    frame = rows.frame(pair_of_pools({1: 0.9, 4: 0.5}, {1: 0.9, 4: 0.5}))
    rough = area_per_pool(frame.assign(chance_source="number of classes"), "uniform_soup", "single")
    assert rough.warnings == ("chance is 1/classes: the run folder records no class shares",)
    unknown = frame.assign(chance=math.nan)
    with pytest.raises(NothingToDrawError, match="chance is unknown"):
        area_per_pool(unknown, "uniform_soup", "single")
    row = scale_sensitivity(unknown, a="uniform_soup", b="single").set_index("quantity").loc["area above 1"]
    assert (row["n_units"], row["estimate"]) == (2, 0)


def test_populations_with_other_factors_are_not_compared() -> None:
    here = pair_of_pools({1: 0.9, 4: 0.5}, {1: 0.9, 4: 0.6})
    there = pair_of_pools({1: 0.9, 2: 0.7, 4: 0.5}, {1: 0.9, 2: 0.8, 4: 0.6}, population="others", candidate_id=None)
    there = [row | {"candidate_id": f"others {place}"} for place, row in enumerate(there)]
    what = r"different factors are not compared: 1, 2, 4 in others, 2 members; 1, 4 in people, 2 members"
    with pytest.raises(AnalysisError, match=what):
        area_per_pool(rows.frame(here + there), "uniform_soup", "single")
    # A population at chance is left out, whatever its factors.
    dead = [row | ({"accuracy": 0.1} if row["method"] == "uniform_soup" else {}) for row in there]
    found = area_per_pool(rows.frame(here + dead), "uniform_soup", "single")
    assert (found.factors, set(found.retention["population"])) == ("1, 4", {"people"})


def test_the_range_of_all_populations_ends_where_the_first_overflows() -> None:
    here = pair_of_pools({0.5: 0.8, 1: 0.9, 2: 0.7, 4: 0.5}, {0.5: 0.9, 1: 0.9, 2: 0.9, 4: 0.9})
    overflow = pair_of_pools(
        {0.5: 0.8, 1: 0.9, 2: 0.7, 4: None}, {0.5: 0.9, 1: 0.9, 2: 0.9, 4: 0.9}, population="others"
    )
    overflow = [row | {"candidate_id": f"others {place}"} for place, row in enumerate(overflow)]
    found = area_per_pool(rows.frame(here + overflow), "uniform_soup", "single")
    assert found.factors == "0.5, 1, 2"
    np.testing.assert_allclose(found.accuracy["value"], [0.15 / 2] * 4)
    np.testing.assert_allclose(found.retention["value"], [0.15 / 2 / 0.8] * 4)
    assert "most subsets overflow at a factor of 4: the range ends at 2" in found.warnings
