"""Laws of the number of members, and sensitivity to magnitude: exact values and independent computations."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rows
from scipy import optimize, stats

from analysis import laws
from analysis.errors import AnalysisError, NothingToDrawError
from analysis.figures.number import number
from analysis.frames import comparable
from analysis.magnified import magnified
from analysis.statistics.curve import curve
from analysis.statistics.scale_sensitivity import area_per_pool, crossing, median_interval, scale_sensitivity

SIZES = np.array([2.0, 3, 4, 6, 8, 12])
TRUE_C = {"power": 1.7, "shifted": 2.0}


def drawn(law: laws.Law, pools: int = 4, noise: float = 0.0) -> np.ndarray:
    """Pools of one law, a and b growing from pool to pool."""
    place = np.arange(pools)[:, None]
    values = 0.9 + 0.01 * place - (0.1 + 0.02 * place) * law.basis(SIZES, np.array(TRUE_C.get(law.name, 0.0)))
    return values + noise * np.random.default_rng(0).standard_normal(values.shape)


@pytest.mark.parametrize("law", laws.LAWS.values(), ids=laws.LAWS)
class TestEveryLaw:
    def test_it_finds_its_own_coefficients_whatever_size_a_pool_lacks(self, law: laws.Law) -> None:
        values = drawn(law)
        values[1, 2] = values[3, 0] = np.nan
        found = laws.fit(law, SIZES, values)
        np.testing.assert_allclose(found.a, [0.9, 0.91, 0.92, 0.93], rtol=1e-5)
        np.testing.assert_allclose(found.b, [0.1, 0.12, 0.14, 0.16], rtol=1e-3)
        np.testing.assert_allclose(found.c, TRUE_C.get(law.name, 0.0), rtol=1e-3)
        np.testing.assert_allclose(found.at(SIZES)[0], drawn(law)[0], rtol=1e-6)
        assert found.bounded == 0

    def test_growth_has_b_above_zero(self, law: laws.Law) -> None:
        found = laws.fit(law, SIZES, drawn(law))
        assert (np.diff(found.at(np.arange(1.0, 50))) > 0).all()

    def test_a_pool_with_fewer_sizes_than_coefficients_has_none(self, law: laws.Law) -> None:
        values = drawn(law)
        values[2, len(law.coefficients) - 1 :] = np.nan
        found = laws.fit(law, SIZES, values)
        assert np.isnan([found.a[2], found.b[2]]).all()
        assert np.isfinite(found.a[[0, 1, 3]]).all()

    def test_the_error_is_that_of_fits_without_each_size(self, law: laws.Law) -> None:
        values = drawn(law, noise=0.01)
        missed = np.empty_like(values)
        for place in range(len(SIZES)):
            rest = np.arange(len(SIZES)) != place
            missed[:, place] = values[:, place] - laws.fit(law, SIZES[rest], values[:, rest]).at(SIZES)[:, place]
        np.testing.assert_allclose(laws.left_out_error(law, SIZES, values), np.sqrt((missed**2).mean(1)), rtol=1e-6)


def test_straight_fits_are_those_of_polyfit() -> None:
    values = drawn(laws.LAWS["inverse"], noise=0.01)
    for name, x in (("inverse", 1 / SIZES), ("root", SIZES**-0.5), ("log", -np.log(SIZES))):
        found = laws.fit(laws.LAWS[name], SIZES, values)
        np.testing.assert_allclose(np.polyfit(x, values.T, 1), [-found.b, found.a], rtol=1e-9)


@pytest.mark.parametrize("name", ["power", "shifted"])
def test_bent_fits_are_as_good_as_those_of_curve_fit(name: str) -> None:
    law = laws.LAWS[name]
    values = drawn(law, noise=0.001)
    found = laws.fit(law, SIZES, values)
    for pool, said in zip(values, found.at(SIZES), strict=True):
        best, _ = optimize.curve_fit(lambda n, a, b, c: a - b * law.basis(n, c), SIZES, pool, [0.9, 0.1, TRUE_C[name]])
        reference = best[0] - best[1] * law.basis(SIZES, best[2])
        np.testing.assert_allclose(((pool - said) ** 2).sum(), ((pool - reference) ** 2).sum(), rtol=1e-4)


def test_a_c_that_the_curve_does_not_tell_is_counted() -> None:
    straight = 0.5 + 0.1 * SIZES[None, :] + np.zeros((3, 1))
    assert laws.fit(laws.LAWS["shifted"], SIZES, straight).bounded == 3


def test_enough_members_is_what_counting_says() -> None:
    for b, eps in ((0.1, 0.001), (0.3, 0.0007), (-0.2, 0.001), (0.0004, 0.001)):
        values = 0.9 - (b + np.array([[-0.00001], [0.00001]])) / SIZES
        counted = next(n for n in itertools.count(1) if b / (n * (n + 1)) < eps)
        assert laws.enough_members(laws.fit(laws.LAWS["inverse"], SIZES, values), eps)[0] == counted
    slow = laws.fit(laws.LAWS["log"], SIZES, np.log(SIZES)[None, :] * np.array([[1000.0], [1001]]))
    assert laws.enough_members(slow, 1e-4) == (math.inf, math.inf, math.inf)


def test_the_interval_of_enough_members_is_that_of_b() -> None:
    values = drawn(laws.LAWS["inverse"])
    interval = stats.ttest_1samp([0.1, 0.12, 0.14, 0.16], 0).confidence_interval()
    for end, found in zip(
        (0.13, interval.low, interval.high),
        laws.enough_members(laws.fit(laws.LAWS["inverse"], SIZES, values), 0.001),
        strict=True,
    ):
        assert found == next(n for n in itertools.count(1) if end / (n * (n + 1)) < 0.001)


def test_a_third_coefficient_must_earn_its_place() -> None:
    steep = drawn(laws.LAWS["power"], noise=1e-5)
    assert laws.choose(laws.errors(SIZES, steep)) == "power"
    assert laws.choose(laws.errors(SIZES, drawn(laws.LAWS["inverse"], noise=0.002))) == "inverse"
    assert laws.choose(laws.errors(SIZES[:2], steep[:, :2])) == "inverse"
    assert set(laws.errors(SIZES[:3], steep[:, :3])) == {"inverse", "root", "log"}


def soups(
    level: Any, sizes: tuple[int, ...] = (2, 3, 4, 6), pools: int = 3, members: int = 8, each: int = 2, **values: Any
) -> list[dict[str, Any]]:
    """Single members and `each` random soups per size, of accuracy `level(pool, size)` plus the members' mean luck."""
    random, made = np.random.default_rng(5), []
    for pool in range(pools):
        luck = 0.01 * random.standard_normal(members)
        luck -= luck.mean()
        for index in range(members):
            made.append(rows.candidate(pool, (index,), "single", accuracy=level(pool, 1) + luck[index], **values))
        for size in sizes:
            drawn = {tuple(sorted(random.permutation(members)[:size].tolist())) for _ in range(each)}
            made += [
                rows.candidate(pool, one, "uniform_soup", accuracy=level(pool, size) + luck[list(one)].mean())
                for one in sorted(drawn)
            ]
    return made


def saturating(pool: int, size: int) -> float:
    return 0.9 + 0.01 * pool - (0.1 + 0.02 * pool**2) / size


def table(found: pd.DataFrame) -> pd.DataFrame:
    return found.set_index("quantity")


def told(found: pd.DataFrame) -> str:
    return "; ".join(found["warnings"].iloc[0])


def test_coefficients_are_fitted_in_each_pool_then_t_over_pools() -> None:
    found = table(curve(rows.frame(soups(saturating)), law="inverse"))
    # The gain over the mean member of a - b/N is b - b/N.
    for quantity in ("a", "b"):
        interval = stats.ttest_1samp([0.1, 0.12, 0.18], 0).confidence_interval()
        row = found.loc[quantity]
        np.testing.assert_allclose(
            row[["estimate", "low", "high"]].astype(float), [0.4 / 3, interval.low, interval.high], rtol=1e-9
        )
    assert found.loc["a", "sizes"] == "1, 2, 3, 4, 6"
    assert found.loc["N*", "estimate"] == next(n for n in itertools.count(1) if 0.4 / 3 / (n * (n + 1)) < 0.001)
    assert found.loc["a", "score"] == pytest.approx(0, abs=1e-12)


def test_accuracy_grows_as_its_gain_and_the_law_is_told() -> None:
    found = curve(rows.frame(soups(lambda pool, size: saturating(pool, size) + 1e-4 * (-1) ** size)), value="accuracy")
    by_law = found[found["quantity"] == "left-out error"].set_index("law")["estimate"]
    assert set(by_law.index) == set(laws.LAWS)
    assert set(found.loc[found["quantity"] != "left-out error", "law"]) == {"inverse"}
    chosen = table(found)
    assert chosen.loc["a", "score"] == by_law["inverse"] == by_law[["inverse", "root", "log"]].min()
    assert chosen.loc["b", "p"] < 0.05
    assert chosen.loc["a", "p"] is None or math.isnan(chosen.loc["a", "p"])


def test_rounding_is_no_growth() -> None:
    found = table(curve(rows.frame(soups(lambda pool, size: 0.7 + 0.1 * (size > 1))), single=False))
    assert found.loc["a", "estimate"] == pytest.approx(0.1)
    assert found.loc["b", ["estimate", "low", "high"]].tolist() == [0, 0, 0]
    assert "no spread between pools" in "; ".join(found.loc["b", "warnings"])


def test_a_single_member_off_the_law_does_not_join() -> None:
    made = rows.frame(soups(lambda pool, size: saturating(pool, size) + 0.001 * pool * (size == 3) - 0.1 * (size > 1)))
    stepped = curve(made, law="inverse")
    assert stepped["sizes"].eq("2, 3, 4, 6").all()
    assert "N = 1 is not fitted" in told(stepped)
    alone = curve(made[made["n_members"] > 1], value="accuracy", law="inverse")
    same = curve(made, value="accuracy", law="inverse", single=False)
    pd.testing.assert_frame_equal(alone, same)


def test_one_pool_cannot_tell_whether_a_single_member_lies_on_the_law() -> None:
    found = curve(rows.frame(soups(saturating, pools=1)))
    assert "nothing tells" in told(found)
    assert np.isneginf(found["low"]).all()


def test_few_sizes_are_told() -> None:
    two = curve(rows.frame(soups(saturating, sizes=(2, 4))), single=False)
    assert two["quantity"].tolist() == ["a", "b", "N*"]
    assert "2 sizes: no law can be chosen, a − b/N is assumed" in told(two)
    one = curve(rows.frame(soups(saturating, sizes=(4,))))
    assert one["estimate"].isna().all()
    assert one["n_units"].eq(0).all()
    assert "one size: `inverse` has 2 coefficients" in told(one)
    three = curve(rows.frame(soups(saturating, sizes=(2, 4))), law="power", single=False)
    assert "2 sizes: `power` has 3 coefficients" in told(three)


def test_a_pool_without_enough_sizes_is_left_out_and_told() -> None:
    made = [row for row in soups(saturating) if row["pool"] < 2 or row["n_members"] in (1, 4)]
    found = curve(rows.frame(made), value="accuracy", law="inverse", single=False)
    assert table(found).loc["a", "n_units"] == 2
    two = curve(rows.frame([row for row in made if row["pool"] < 2]), value="accuracy", law="inverse", single=False)
    assert table(found).loc["a", "estimate"] == table(two).loc["a", "estimate"]
    assert "1 pool with too few sizes for the law" in told(found)


def test_single_subsets_and_nested_ones_are_told() -> None:
    whole = curve(rows.frame(soups(saturating, sizes=(2, 4, 8), each=3)))
    assert "one subset per pool at N = 8" in told(whole)
    assert "nested" not in told(whole)
    nested = [row | {"members": row["members"]} for row in soups(saturating, sizes=())]
    for pool, size in itertools.product(range(3), (2, 3, 5)):
        nested.append(rows.candidate(pool, tuple(range(size)), "uniform_soup", accuracy=saturating(pool, size)))
    assert "nested subsets" in told(curve(rows.frame(nested)))
    # One subset per size, none within another.
    apart = [row for row in nested if row["n_members"] != 2]
    apart += [rows.candidate(pool, (6, 7), "uniform_soup", accuracy=0.8) for pool in range(3)]
    assert "nested" not in told(curve(rows.frame(apart)))
    assert "one subset per pool at N = 2, 3, 5" in told(curve(rows.frame(apart)))


def test_a_loss_saturates_where_it_stops_falling() -> None:
    made = rows.frame(soups(saturating))
    size = made["n_members"]
    made = made.assign(cross_entropy=0.3 + 0.1 * (1 + 0.1 * made["pool"]) / size)
    found = table(curve(made, value="cross_entropy", law="inverse"))
    assert found.loc["b", "estimate"] == pytest.approx(-0.11)
    assert found.loc["N*", "estimate"] == next(n for n in itertools.count(1) if 0.11 / (n * (n + 1)) < 0.001)


def test_enough_members_are_no_fewer_than_were_fitted() -> None:
    falling = curve(
        rows.frame(soups(lambda pool, size: 0.8 + (0.2 + 0.01 * pool) / size)), value="accuracy", single=False
    )
    assert table(falling).loc["N*", ["estimate", "low", "high"]].tolist() == [2, 2, 2]


def test_a_subset_without_its_single_members_has_no_gain() -> None:
    made = [row for row in soups(saturating) if row["method"] != "single" or row["pool"] > 0]
    found = curve(rows.frame(made), law="inverse")
    assert table(found).loc["a", "n_units"] == 2
    assert "left out: a single member is missing" in told(found)


@pytest.mark.parametrize(("setting", "hint"), [({"value": "gains"}, "`gain`"), ({"law": "roots"}, "`root`")])
def test_an_unknown_setting_is_answered_with_the_nearest(setting: dict[str, Any], hint: str) -> None:
    with pytest.raises(AnalysisError, match=f"did you mean .*{hint}"):
        curve(rows.frame(soups(saturating)), **setting)


def test_a_group_that_mixes_protocols_is_refused() -> None:
    made = rows.frame(soups(saturating))
    both = pd.concat([made, made.assign(split="validation")])
    assert len(curve(both, by=["split"])["split"].unique()) == 2
    larger = pd.concat([made, made.assign(scaling="magnify", scaling_factor=2.0)])
    with pytest.raises(AnalysisError, match="`scaling"):
        curve(larger, value="accuracy", by=["scaling_members"])


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
        lost = {"status": "non_finite", "accuracy": None, "finite": False} if level is None else {"accuracy": level}
        told = {"factor": factor, "members": which, **settings}
        by = {"scaling": "magnify", "scaling_factor": factor, "scaling_settings": json.dumps(told)}
        by |= {"scaling_members": which}
        made.append(rows.candidate(pool, members, method, **lost, **(by if factor != 1 else {})))
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
    assert found["reach"].tolist() == [0.125, 0.125, 4, 4]


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
    distance, fall = np.array([0.0, 1, 2, 3]), np.array([0.0, 0.1, -0.5, 0.2])
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
    assert asked(made, a="uniform_soup", b="logit_average")["estimate"].tolist() == [0.0]


def test_single_stands_for_the_members_of_the_subset() -> None:
    made = scaled({1: 0.9, 4: 0.6}) + scaled({1: 0.9, 4: 0.7}, members=(1, 2))
    for member, level in enumerate([0.8, 0.6, 0.7]):
        made += scaled({1: 0.8, 4: level}, members=(member,), method="single")
    found = asked(made, a="uniform_soup", b="single").loc["area above 1"]
    # Subset (0, 1) loses .3 and its members .1 on average, (1, 2) loses .2 and its members .15; half of it on average.
    assert found["estimate"] == pytest.approx((0.1 + 0.025) / 2)
    assert asked(made, a="single", b="uniform_soup").loc["area above 1", "estimate"] == -found["estimate"]
    pools, _ = area_per_pool(rows.frame(made), "uniform_soup", "single")
    assert pools[["population", "pool_id"]].to_numpy().tolist() == [["people", "people-0"]]
    assert pools["value"].item() == pytest.approx((0.1 + 0.025) / 2)


def test_both_sides_of_one_are_one_range_per_pool() -> None:
    made = []
    for pool, (below, above) in enumerate([(0.8, 0.5), (0.9, 0.7)]):
        made += scaled({0.5: below, 1: 0.9, 4: above}, pool) + scaled(
            {0.5: 0.9, 1: 0.9, 4: 0.9}, pool, method="logit_average"
        )
    pools, told = area_per_pool(rows.frame(made), "uniform_soup", "logit_average")
    np.testing.assert_allclose(pools["value"], [(0.05 + 0.4) / 3, 0.2 / 3])
    assert told == ()
    with pytest.raises(NothingToDrawError, match="no rows with the arm `first`"):
        area_per_pool(rows.frame(made), "uniform_soup", "logit_average", arm="first")


def test_arms_tell_members_and_tensors_apart() -> None:
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
    assert set(magnified(comparable(rows.frame(made)))["arm"]) == {"all"}


def test_what_cannot_be_compared_is_refused() -> None:
    made = scaled({1: 0.9, 2: 0.8}) + scaled({1: 0.9}, method="logit_average")
    with pytest.raises(AnalysisError, match="no scaled rows of `logit_average`"):
        asked(made, a="uniform_soup", b="logit_average")
    with pytest.raises(AnalysisError, match="takes both"):
        asked(made, a="uniform_soup")
    with pytest.raises(AnalysisError, match="not above 0"):
        asked(made, drop=0)
    first = scaled({2: 0.8}, method="logit_average", which="first")
    with pytest.raises(AnalysisError, match="not scaled alike"):
        asked(made, first, a="uniform_soup", b="logit_average")


def test_the_figure_of_members_shows_measured_means_and_the_mean_curve_of_pools() -> None:
    made = rows.frame(soups(saturating))
    data = number(made).data
    measured = data[data["quantity"] == "measured"].set_index("n_members")["estimate"]
    mean_b = 0.4 / 3
    np.testing.assert_allclose(measured, [mean_b * (1 - 1 / n) for n in (2, 3, 4, 6)], rtol=1e-9)
    line = data[data["quantity"] == "fitted"]
    assert line["law"].eq("a − b/N").all()
    np.testing.assert_allclose(line["estimate"], mean_b * (1 - 1 / line["n_members"]), rtol=1e-9, atol=1e-12)
    assert line["n_members"].iloc[[0, -1]].tolist() == pytest.approx([1, 6])
    assert data.loc[data["quantity"] == "N*", "estimate"].item() == 12


def test_the_figure_of_members_needs_single_members() -> None:
    made = [row for row in soups(saturating) if row["method"] != "single"]
    with pytest.raises(NothingToDrawError, match="no merges whose single members"):
        number(rows.frame(made))
